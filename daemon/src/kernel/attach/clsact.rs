//! Filters in clsact qdiscs. A missing qdisc is added, and none is ever deleted: that would delete
//! filters of other processes and drop the packets that are queued on the interface
//! (`dev_deactivate`). A qdisc without filters costs a packet next to nothing: the kernel keeps no
//! list for it (`mini_qdisc_pair_swap`).

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::{ProgramInfo, SchedClassifier};

use crate::kernel::attach::Attachments;
use crate::kernel::attachment::{Attachment, Mechanism};
use crate::kernel::error::{KernelError, reason};
use crate::kernel::netlink::{FilterPlace, Netlink};
use crate::kernel::pins::{make_dir, names, remove_pins, rename};

/// A filter of ours.
#[derive(Debug)]
pub(in crate::kernel) struct LiveFilter {
    /// Where it is.
    pub(in crate::kernel) place: FilterPlace,
    /// The pin of its program.
    pub(in crate::kernel) pin: PathBuf,
}

impl Attachments {
    /// The pins of a filter's program, and of its successor until it has taken over: a filter whose
    /// program has no pin could not be recognised as ours.
    pub(in crate::kernel) fn filter_pins(&self, attachment: Attachment) -> [PathBuf; 2] {
        ["", "-fresh"].map(|suffix| self.filters.join(attachment.pin_name() + suffix))
    }

    /// Replaces the program of our filter; without one, creates a filter of `priority`.
    pub(in crate::kernel) fn attach_filter(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        program: &mut SchedClassifier,
        priority: Option<u16>,
        error: impl Fn(&dyn std::error::Error) -> KernelError,
    ) -> Result<(), KernelError> {
        make_dir(&self.filters)?;
        if !netlink.clsact(attachment.interface)? {
            match netlink.add_clsact(attachment.interface) {
                // another process was faster
                Err(_) if netlink.clsact(attachment.interface)? => {}
                added => added.map_err(|e| error(&e))?,
            }
        }
        let [path, fresh] = self.filter_pins(attachment);
        let live = self.live_filter(netlink, attachment)?;
        if live.as_ref().is_some_and(|live| live.pin == fresh) {
            // a predecessor was killed before it came to this
            rename(&fresh, &path)?;
        }
        remove_pins(&fresh)?;
        program.pin(&fresh).map_err(|e| error(&e))?;
        let name = attachment.role.word();
        let program = program.fd().map_err(|e| error(&e))?.as_fd();
        let put = match live {
            Some(live) => netlink.replace_filter(live.place, name, program),
            None => {
                let priority =
                    priority.ok_or_else(|| error(&std::io::Error::other("no priority is free")))?;
                netlink.add_filter(attachment.place(priority), name, program)
            }
        };
        put.map_err(|e| error(&e))?;
        rename(&fresh, &path)
    }

    /// The filters of ours, in their order; there are two while one takes the place of the other.
    pub(in crate::kernel) fn live_filters(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
    ) -> Result<Vec<LiveFilter>, KernelError> {
        let filters = netlink.filters(attachment.interface, attachment.direction)?;
        if filters.is_empty() {
            return Ok(Vec::new());
        }
        let relocation = self.relocation_dir(attachment);
        let relocating = names(&relocation)?
            .into_iter()
            .map(|name| relocation.join(name));
        let pins: Vec<PathBuf> = self
            .filter_pins(attachment)
            .into_iter()
            .chain(relocating)
            .collect();
        let pins: Vec<(u32, PathBuf)> = pins
            .into_iter()
            .filter_map(|pin| Some((id_of(&pin)?, pin)))
            .collect();
        let live = filters
            .iter()
            .filter(|filter| filter.handle == attachment.role.handle())
            .filter_map(|filter| {
                let (_, pin) = pins.iter().find(|(id, _)| Some(*id) == filter.program_id)?;
                Some(LiveFilter {
                    place: attachment.place(filter.priority),
                    pin: pin.clone(),
                })
            });
        Ok(live.collect())
    }

    /// The filter of ours; `None` if it is not there.
    pub(in crate::kernel) fn live_filter(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
    ) -> Result<Option<LiveFilter>, KernelError> {
        Ok(self.live_filters(netlink, attachment)?.into_iter().next())
    }

    /// Takes a filter off, by its exact place, and only if it still runs a program of ours.
    pub(in crate::kernel) fn detach_filter(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
    ) -> Result<(), KernelError> {
        let ours = self.live_filters(netlink, attachment)?;
        if !ours.is_empty() {
            let interface = netlink
                .links()?
                .remove(&attachment.interface)
                .map(|link| link.name)
                .unwrap_or_default();
            let error =
                |e: &dyn std::error::Error| attachment.error("detach", &interface, reason(e));
            ours.iter()
                .try_for_each(|live| netlink.delete_filter(live.place).map_err(|e| error(&e)))?;
        }
        self.forget(attachment, Mechanism::Clsact)
    }
}

/// The number of a pinned program.
fn id_of(pin: &Path) -> Option<u32> {
    ProgramInfo::from_pin(pin).ok().map(|info| info.id())
}
