//! Moves an attached program to another place of its hook. No mechanism can do that in one step, so
//! for a while it is in both places, behind programs that see to it that each packet comes to it
//! exactly once (ebpf/src/bpf/relocate.rs). What was begun is pinned, so that the next daemon can
//! end it.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::ProgramArray;
use aya::programs::SchedClassifier;

use crate::desired::Order;
use crate::kernel::attach::Attachments;
use crate::kernel::attach::clsact::LiveFilter;
use crate::kernel::attach::tcx::{anchor, once_it_has_gone};
use crate::kernel::attachment::{Attachment, Mechanism};
use crate::kernel::bpf::link::BpfLink;
use crate::kernel::bpf::{program, rcu};
use crate::kernel::error::{KernelError, map_error, pin_error};
use crate::kernel::failpoint::Step;
use crate::kernel::generation::Generation;
use crate::kernel::netlink::Netlink;
use crate::kernel::pins::{make_dir, names, remove_dir, remove_pins, rename};
use crate::network::LinkKind;

const FIRST: &str = "relocate_first";
const SECOND: &str = "relocate_second";
const DRAIN: &str = "relocate_drain";
const ARRAY: &str = "RELOCATING";
/// The pin of the program that is relocated.
const PROGRAM: &str = "program";
/// The pin of its link in the new place.
const LINK: &str = "link";

/// What goes where.
pub(in crate::kernel) struct Relocation<'t> {
    pub(in crate::kernel) attachment: Attachment,
    pub(in crate::kernel) mechanism: Mechanism,
    /// Name of the interface, for errors.
    pub(in crate::kernel) interface: &'t str,
    pub(in crate::kernel) order: &'t Order,
}

/// Called before each change of the kernel.
type Before<'b> = &'b mut dyn FnMut(Step) -> Result<(), KernelError>;

impl Attachments {
    /// Moves a program to where the order wants it, without a gap.
    pub(in crate::kernel) fn relocation(
        &self,
        netlink: &mut Netlink,
        generation: &Generation,
        relocation: &Relocation<'_>,
        before: Before<'_>,
    ) -> Result<(), KernelError> {
        let &Relocation {
            attachment,
            mechanism,
            ..
        } = relocation;
        self.end_relocation(netlink, attachment, mechanism, None, before)?;
        let dir = self.relocation_dir(attachment);
        make_dir(&dir)?;
        let kind = netlink
            .link(attachment.interface)?
            .map_or(LinkKind::Ethernet, |link| link.kind);
        let begun = generation
            .load_relocation(&dir, attachment, kind)
            .and_then(|()| self.begin_relocation(netlink, relocation, before));
        let ended = self.end_relocation(
            netlink,
            attachment,
            mechanism,
            begun.as_ref().ok().copied().flatten(),
            before,
        );
        if names(&self.relocations)?.is_empty() {
            remove_dir(&self.relocations)?;
        }
        begun.and(ended)
    }

    /// Ends what a predecessor has begun.
    pub(in crate::kernel) fn end_relocations(
        &self,
        netlink: &mut Netlink,
    ) -> Result<(), KernelError> {
        let present = self.list()?;
        for name in names(&self.relocations)? {
            let attachment = Attachment::from_pin_name(&name);
            match attachment
                .and_then(|attachment| present.iter().find(|(there, _)| *there == attachment))
            {
                Some(&(attachment, mechanism)) => {
                    self.end_relocation(netlink, attachment, mechanism, None, &mut |_| Ok(()))?;
                }
                None => remove_pins(&self.relocations.join(name))?,
            }
        }
        remove_dir(&self.relocations)
    }

    /// Where is pinned what is needed for a relocation.
    pub(in crate::kernel) fn relocation_dir(&self, attachment: Attachment) -> PathBuf {
        self.relocations.join(attachment.pin_name())
    }

    /// Puts the program in its new place, too. Answers the priority of its filter there.
    fn begin_relocation(
        &self,
        netlink: &mut Netlink,
        relocation: &Relocation<'_>,
        before: Before<'_>,
    ) -> Result<Option<u16>, KernelError> {
        let &Relocation {
            attachment,
            mechanism,
            interface,
            order,
        } = relocation;
        let error = |e: &dyn std::error::Error| {
            attachment.error("move", interface, crate::kernel::error::reason(e))
        };
        let dir = self.relocation_dir(attachment);
        let chain = self.chain(netlink, &self.list()?, attachment, mechanism)?;
        let position = chain.position(order);
        let (live, fresh) = if chain.is_earlier(position) {
            (SECOND, FIRST)
        } else {
            (FIRST, SECOND)
        };
        if attachment.role.counts() {
            before(Step::Attach)?;
            self.swap(netlink, attachment, mechanism, &dir.join(live))?;
            // a filter that is new is met by packets that have come by the old place before
            rcu::synchronize()?;
        }
        before(Step::Attach)?;
        // what takes clones has none of them twice, whatever is before it
        let fresh = pinned(&dir.join(if attachment.role.counts() {
            fresh
        } else {
            FIRST
        }))?;
        let fresh = fresh.fd().map_err(|e| error(&e))?.as_fd();
        match mechanism {
            Mechanism::Tcx => {
                let link = BpfLink::create(
                    fresh,
                    attachment.interface,
                    attachment.direction,
                    anchor(&chain, position),
                );
                let path = dir.join(LINK);
                link.map_err(|e| error(&e))?
                    .pin(&path)
                    .map_err(|source| pin_error("create", &path, source))?;
                Ok(None)
            }
            Mechanism::Clsact => {
                let priority = chain
                    .priority(position)
                    .ok_or_else(|| error(&io::Error::other("no priority is free")))?;
                netlink
                    .add_filter(attachment.place(priority), attachment.role.word(), fresh)
                    .map_err(|e| error(&e))?;
                Ok(Some(priority))
            }
        }
    }

    /// Leaves the program at one position only, the new one if it exists. `priority` is that of the
    /// new filter, if known.
    fn end_relocation(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        mechanism: Mechanism,
        priority: Option<u16>,
        before: Before<'_>,
    ) -> Result<(), KernelError> {
        let dir = self.relocation_dir(attachment);
        if dir.join(PROGRAM).exists() {
            match mechanism {
                Mechanism::Tcx => self.end_with_links(attachment, before)?,
                Mechanism::Clsact => {
                    self.end_with_filters(netlink, attachment, priority, before)?
                }
            }
        }
        remove_pins(&dir)
    }

    fn end_with_links(
        &self,
        attachment: Attachment,
        before: Before<'_>,
    ) -> Result<(), KernelError> {
        let (dir, path) = (self.relocation_dir(attachment), self.link_pin(attachment));
        let error = |source| pin_error("update", &path, source);
        let program = pinned(&dir.join(PROGRAM))?;
        let update = |link: &BpfLink| -> Result<(), KernelError> {
            let program = fd(&program)?;
            once_it_has_gone(|| link.update(program))?.map_err(error)
        };
        let there = |pin: &Path| {
            let link = BpfLink::open(pin).ok()?;
            link.is_on(attachment.interface, attachment.direction)
                .is_ok_and(|is_on| is_on)
                .then_some(link)
        };
        let (live, fresh) = (there(&path), there(&dir.join(LINK)));
        let Some(fresh) = fresh else {
            return live.iter().try_for_each(update);
        };
        let counts = attachment.role.counts();
        if counts {
            if let Some(live) = &live {
                before(Step::Attach)?;
                live.update(fd(&pinned(&dir.join(DRAIN))?)?)
                    .map_err(error)?;
                // packets that have passed `first` must have passed `second`
                rcu::synchronize()?;
            }
            before(Step::Attach)?;
            update(&fresh)?;
        }
        rename(&dir.join(LINK), &path)?;
        before(Step::Detach)?;
        live.iter()
            .try_for_each(|live| live.detach())
            .map_err(error)?;
        if counts { Ok(()) } else { update(&fresh) }
    }

    fn end_with_filters(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        priority: Option<u16>,
        before: Before<'_>,
    ) -> Result<(), KernelError> {
        let dir = self.relocation_dir(attachment);
        let mut put = |netlink: &mut Netlink,
                       filter: &LiveFilter,
                       pin: &Path|
         -> Result<(), KernelError> {
            before(Step::Attach)?;
            Ok(netlink.replace_filter(filter.place, attachment.role.word(), fd(&pinned(pin)?)?)?)
        };
        let mut ours = self.live_filters(netlink, attachment)?;
        if ours.len() > 1 {
            let old = ours.remove(old_of(&ours, &dir, priority));
            if attachment.role.counts() {
                put(netlink, &old, &dir.join(DRAIN))?;
                // packets that have passed `first` must have passed `second`
                rcu::synchronize()?;
            }
            put(netlink, &ours[0], &dir.join(PROGRAM))?;
            before(Step::Detach)?;
            netlink.delete_filter(old.place)?;
            return Ok(());
        }
        ours.iter()
            .try_for_each(|filter| put(netlink, filter, &dir.join(PROGRAM)))
    }

    /// Has what is attached run another program.
    fn swap(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        mechanism: Mechanism,
        pin: &Path,
    ) -> Result<(), KernelError> {
        let program = pinned(pin)?;
        match mechanism {
            Mechanism::Tcx => {
                let path = self.link_pin(attachment);
                let updated = BpfLink::open(&path)
                    .and_then(|link| link.update(fd(&program).map_err(io::Error::other)?));
                updated.map_err(|source| pin_error("update", &path, source))
            }
            Mechanism::Clsact => match self.live_filter(netlink, attachment)? {
                Some(live) => Ok(netlink.replace_filter(
                    live.place,
                    attachment.role.word(),
                    fd(&program)?,
                )?),
                None => Ok(()),
            },
        }
    }
}

/// Which of two filters is removed: the one that is out of action if the new one is unknown;
/// otherwise the one that the next relocation would have to leave again.
fn old_of(ours: &[LiveFilter], dir: &Path, priority: Option<u16>) -> usize {
    let known = priority.and_then(|priority| {
        ours.iter()
            .position(|filter| filter.place.priority != priority)
    });
    let has = |name: &str| ours.iter().position(|filter| filter.pin == dir.join(name));
    let untouched = || ours.iter().position(|filter| !filter.pin.starts_with(dir));
    known
        .or_else(|| has(DRAIN))
        .or_else(untouched)
        .or_else(|| has(FIRST))
        .unwrap_or_default()
}

fn pinned(path: &Path) -> Result<SchedClassifier, KernelError> {
    SchedClassifier::from_pin(path)
        .map_err(|error| pin_error("open", path, io::Error::other(error)))
}

fn fd(program: &SchedClassifier) -> Result<std::os::fd::BorrowedFd<'_>, KernelError> {
    let error = |error: aya::programs::ProgramError| KernelError::Program {
        program: "relocation",
        reason: error.to_string(),
    };
    Ok(program.fd().map_err(error)?.as_fd())
}

impl Generation {
    /// Loads what a relocation takes, and pins it.
    fn load_relocation(
        &self,
        dir: &Path,
        attachment: Attachment,
        kind: LinkKind,
    ) -> Result<(), KernelError> {
        let error = map_error("write", ARRAY);
        let mut relocating = self.program_of(attachment, kind)?;
        let mut object = self.load(|_| {})?;

        for name in [FIRST, SECOND, DRAIN] {
            let path = dir.join(name);
            program::load(&mut object, name)?
                .pin(&path)
                .map_err(|error| pin_failed(&path, error))?;
        }
        let missing = || KernelError::Program {
            program: "object",
            reason: format!("no map {ARRAY}"),
        };
        let map = object.ebpf.map_mut(ARRAY).ok_or_else(missing)?;
        let mut array = ProgramArray::try_from(map)
            .map_err(io::Error::other)
            .map_err(error)?;
        let program = relocating.fd().map_err(|error| KernelError::Program {
            program: "relocation",
            reason: error.to_string(),
        })?;
        array
            .set(0, program, 0)
            .map_err(io::Error::other)
            .map_err(error)?;
        // without a pin it would be emptied when this process ends (`bpf_fd_array_map_clear`)
        let path = dir.join(ARRAY);
        array.pin(&path).map_err(|error| pin_failed(&path, error))?;
        // the last: what is there with it is complete
        let path = dir.join(PROGRAM);
        relocating
            .pin(&path)
            .map_err(|error| pin_failed(&path, error))
    }
}

fn pin_failed(path: &Path, error: impl Error + Send + Sync + 'static) -> KernelError {
    pin_error("create", path, io::Error::other(error))
}
