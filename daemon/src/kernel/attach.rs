//! Attaching programs to tc hooks so that they outlive the daemon: TCX links, pinned, or filters of a clsact qdisc,
//! whose programs are pinned so that the next daemon knows them for ours.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};

use super::KernelError;
use super::generation::pin_error;
use super::link::Link;
use super::netlink::{FilterPlace, Netlink};
use super::program::reason;
use super::rcu;
use crate::network::{Hook as Direction, TcFilter};

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// TCX links: kernel 6.6 and newer.
    Tcx,
    /// Filters of a clsact qdisc: any kernel.
    Clsact,
}

/// A program on a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// Which program.
    pub role: Role,
    /// Index of the interface.
    pub interface: u32,
    /// Ingress or egress.
    pub direction: Direction,
}

/// What an attached program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `mirror`: a new version replaces it in place.
    Mirror,
    /// `encap` for the clones of one generation of maps: while one generation takes over from another, both are there.
    Encap {
        /// Number of the generation.
        generation: u32,
    },
}

const MIRROR: &str = "mirror";
const ENCAP: &str = "encap";

impl Role {
    /// What it is called in pins, messages and the names of filters.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mirror => MIRROR,
            Self::Encap { .. } => ENCAP,
        }
    }

    /// Priority of a clsact filter: late, for `order = "last"`.
    pub(super) const fn priority(self) -> u16 {
        match self {
            Self::Mirror => 49_000,
            Self::Encap { .. } => 49_001,
        }
    }

    pub(super) const fn handle(self) -> u32 {
        match self {
            Self::Mirror => 1,
            Self::Encap { generation } => generation % 0xffff + 1,
        }
    }
}

impl Attachment {
    fn pin_name(&self) -> String {
        let role = match self.role {
            Role::Mirror => MIRROR.to_owned(),
            Role::Encap { generation } => format!("{ENCAP}{generation}"),
        };
        format!("{role}-{}-{}", self.interface, word(self.direction))
    }

    fn from_pin_name(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let (role, interface, direction) = (parts.next()?, parts.next()?, parts.next()?);
        let role = match role.strip_prefix(ENCAP) {
            Some(generation) => Role::Encap { generation: generation.parse().ok()? },
            None => (role == MIRROR).then_some(Role::Mirror)?,
        };
        let direction = [Direction::Ingress, Direction::Egress].into_iter().find(|&d| word(d) == direction)?;
        Some(Self { role, interface: interface.parse().ok()?, direction })
    }

    /// Whether a filter has our place; that it is ours only its program's pin tells.
    pub(super) fn is(&self, filter: &TcFilter) -> bool {
        filter.priority == self.role.priority() && filter.handle == self.role.handle()
    }

    /// Where its filter is.
    pub(super) fn place(&self) -> FilterPlace {
        let (priority, handle) = (self.role.priority(), self.role.handle());
        FilterPlace { interface: self.interface, hook: self.direction, priority, handle }
    }

    pub(super) fn attach_type(&self) -> TcAttachType {
        match self.direction {
            Direction::Ingress => TcAttachType::Ingress,
            Direction::Egress => TcAttachType::Egress,
        }
    }

    pub(super) fn error(&self, action: &'static str, interface: &str, reason: String) -> KernelError {
        KernelError::Attach {
            action,
            program: self.role.word(),
            interface: interface.to_owned(),
            direction: word(self.direction),
            reason,
        }
    }
}

/// The word for a direction in files, logs and pins.
pub const fn word(direction: Direction) -> &'static str {
    direction.word()
}

/// Grace periods to wait for a link that is on its way out.
const GONE_TRIES: usize = 10;

/// The attachments below a pin path.
#[derive(Debug)]
pub struct Attachments {
    links: PathBuf,
    filters: PathBuf,
    /// Holds a directory for each interface whose clsact qdisc is ours.
    pub(super) qdiscs: PathBuf,
}

impl Attachments {
    /// Those below `pin_path`.
    pub fn below(pin_path: &Path) -> Self {
        Self { links: pin_path.join("links"), filters: pin_path.join("filters"), qdiscs: pin_path.join("qdiscs") }
    }

    /// Where a link is pinned.
    pub(super) fn link_pin(&self, attachment: Attachment) -> PathBuf {
        self.links.join(attachment.pin_name())
    }

    /// All of them, with how each is attached.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn list(&self) -> Result<Vec<(Attachment, Mechanism)>, KernelError> {
        let mut found = Vec::new();
        for (dir, mechanism) in [(&self.links, Mechanism::Tcx), (&self.filters, Mechanism::Clsact)] {
            let names = names(dir)?;
            found.extend(names.iter().filter_map(|name| Some((Attachment::from_pin_name(name)?, mechanism))));
        }
        found.sort_unstable_by_key(|&(attachment, _)| attachment);
        // of a filter there may be two pins
        found.dedup();
        Ok(found)
    }

    /// Whether any of them may be in force, be it out of sight.
    ///
    /// # Errors
    /// The pins cannot be read.
    pub(super) fn are_anywhere(&self) -> Result<bool, KernelError> {
        let is_somewhere = |(attachment, mechanism): (Attachment, Mechanism)| match mechanism {
            Mechanism::Tcx => Link::open(&self.link_pin(attachment)).is_ok_and(|link| link.is_anywhere()),
            Mechanism::Clsact => true,
        };
        Ok(self.list()?.into_iter().any(is_somewhere))
    }

    /// Takes a `mirror` off that is on a hook by the other mechanism, too: both would copy.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn detach_doubles(&self, netlink: &mut Netlink, wanted: Mechanism) -> Result<(), KernelError> {
        let present = self.list()?;
        let is_double = |(attachment, how): &&(Attachment, Mechanism)| {
            attachment.role == Role::Mirror && *how != wanted && present.contains(&(*attachment, wanted))
        };
        present.iter().filter(is_double).try_for_each(|&(attachment, how)| self.detach(netlink, attachment, how))
    }

    /// Whether a program is in force, not just pinned: a link outlives its being detached by force, and the pin of a
    /// filter's program outlives the qdisc.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn is_attached(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        mechanism: Mechanism,
    ) -> Result<bool, KernelError> {
        match mechanism {
            Mechanism::Tcx => {
                let path = self.link_pin(attachment);
                match Link::open(&path).and_then(|link| link.is_on(attachment.interface, attachment.direction)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                    is_on => is_on.map_err(|source| pin_error("inspect", &path, source)),
                }
            }
            Mechanism::Clsact => Ok(self.live_pin(netlink, attachment)?.is_some()),
        }
    }

    /// Attaches a program; in place of its predecessor, without a gap, if there is one. `interface` is for errors.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        interface: &str,
        program: &mut SchedClassifier,
        mechanism: Mechanism,
    ) -> Result<(), KernelError> {
        let error = |e: &dyn std::error::Error| attachment.error("attach", interface, reason(e));
        match mechanism {
            Mechanism::Tcx => {
                let program = program.fd().map_err(|e| error(&e))?.as_fd();
                self.attach_link(attachment, program, |e| error(&e))
            }
            Mechanism::Clsact => self.attach_filter(netlink, attachment, program, error).inspect_err(|_| {
                // what was prepared must not look like an attachment
                let [_, fresh] = self.filter_pins(attachment);
                if !matches!(self.live_pin(netlink, attachment), Ok(Some(live)) if live == fresh) {
                    let _ = remove_file(&fresh).and_then(|()| self.forget_qdisc(netlink, attachment.interface));
                }
            }),
        }
    }

    fn attach_link(
        &self,
        attachment: Attachment,
        program: BorrowedFd<'_>,
        error: impl Fn(io::Error) -> KernelError,
    ) -> Result<(), KernelError> {
        let path = self.link_pin(attachment);
        if Link::open(&path).is_ok_and(|link| link.update(program).is_ok()) {
            return Ok(());
        }
        // its interface may have gone, and another have its index
        remove_file(&path)?;
        make_dir(&self.links)?;
        let create = || Link::create(program, attachment.interface, attachment.direction);
        let mut link = create();
        for _ in 0..GONE_TRIES {
            // a link whose pin somebody has removed goes some time later, and no program is on a hook twice
            if !link.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EEXIST)) {
                break;
            }
            rcu::synchronize()?;
            link = create();
        }
        link.map_err(&error)?.pin(&path).map_err(|source| pin_error("create", &path, source))
    }

    fn attach_filter(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        program: &mut SchedClassifier,
        error: impl Fn(&dyn std::error::Error) -> KernelError,
    ) -> Result<(), KernelError> {
        make_dir(&self.filters)?;
        if !netlink.clsact(attachment.interface)? {
            make_dir(&self.marker(attachment.interface))?;
            netlink.add_clsact(attachment.interface).map_err(|e| error(&e))?;
        }
        let [path, fresh] = self.filter_pins(attachment);
        let live = self.live_pin(netlink, attachment)?;
        if live.as_ref() == Some(&fresh) {
            // a predecessor was killed before it came to this
            rename(&fresh, &path)?;
        }
        remove_file(&fresh)?;
        program.pin(&fresh).map_err(|e| error(&e))?;
        let (place, name) = (attachment.place(), attachment.role.word());
        let program = program.fd().map_err(|e| error(&e))?.as_fd();
        let put = if live.is_some() { Netlink::replace_filter } else { Netlink::add_filter };
        put(netlink, place, name, program).map_err(|e| error(&e))?;
        rename(&fresh, &path)
    }

    /// Where the program of a filter is pinned, and where its successor is until it has taken over: a filter whose
    /// program has no pin would not be known for ours.
    fn filter_pins(&self, attachment: Attachment) -> [PathBuf; 2] {
        ["", "-fresh"].map(|suffix| self.filters.join(attachment.pin_name() + suffix))
    }

    /// The pin of the program that the filter has; `None` if the filter is not there, or not ours.
    pub(super) fn live_pin(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
    ) -> Result<Option<PathBuf>, KernelError> {
        let filters = netlink.filters(attachment.interface, attachment.direction)?;
        let Some(program) = filters.iter().find(|filter| attachment.is(filter)).and_then(|filter| filter.program_id)
        else {
            return Ok(None);
        };
        let has_it = |path: &PathBuf| ProgramInfo::from_pin(path).is_ok_and(|pinned| pinned.id() == program);
        Ok(self.filter_pins(attachment).into_iter().find(has_it))
    }

    /// Removes the pin of what is not attached any more where it should be; a link is taken off wherever it is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        mechanism: Mechanism,
    ) -> Result<(), KernelError> {
        match mechanism {
            Mechanism::Tcx => self.detach_link(attachment),
            Mechanism::Clsact => {
                self.filter_pins(attachment).iter().try_for_each(|path| remove_file(path))?;
                self.forget_qdisc(netlink, attachment.interface)
            }
        }
    }

    /// Detaches a program; that it is gone already is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        mechanism: Mechanism,
    ) -> Result<(), KernelError> {
        match mechanism {
            Mechanism::Tcx => self.detach_link(attachment),
            Mechanism::Clsact => self.detach_filter(netlink, attachment),
        }
    }

    fn detach_link(&self, attachment: Attachment) -> Result<(), KernelError> {
        let path = self.link_pin(attachment);
        absent_is_fine(Link::open(&path).and_then(|link| link.detach()))
            .map_err(|source| pin_error("detach", &path, source))?;
        remove_file(&path)
    }

    /// Removes the directories, which must be empty; qdiscs that others use by now stay.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_dirs(&self) -> Result<(), KernelError> {
        for marker in names(&self.qdiscs)? {
            remove_dir(&self.qdiscs.join(marker))?;
        }
        [&self.links, &self.filters, &self.qdiscs].into_iter().try_for_each(|dir| remove_dir(dir))
    }
}

fn names(dir: &Path) -> Result<Vec<String>, KernelError> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(pin_error("read", dir, source)),
        Ok(entries) => {
            Ok(entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()).collect())
        }
    }
}

pub(super) fn make_dir(dir: &Path) -> Result<(), KernelError> {
    fs::create_dir_all(dir).map_err(|source| pin_error("create", dir, source))
}

pub(super) fn remove_dir(dir: &Path) -> Result<(), KernelError> {
    absent_is_fine(fs::remove_dir(dir)).map_err(|source| pin_error("remove", dir, source))
}

fn rename(from: &Path, to: &Path) -> Result<(), KernelError> {
    fs::rename(from, to).map_err(|source| pin_error("rename", from, source))
}

fn remove_file(path: &Path) -> Result<(), KernelError> {
    absent_is_fine(fs::remove_file(path)).map_err(|source| pin_error("remove", path, source))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
