//! Attaches programs to tc hooks so that they outlive the daemon: as pinned TCX links, or as
//! filters of a clsact qdisc, whose programs are pinned so that the next daemon recognises them.

pub(super) mod batch;
mod chain;
mod clsact;
pub(super) mod hook;
pub(super) mod relocate;
pub(super) mod strays;
mod tcx;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::SchedClassifier;

use super::attachment::{Attachment, Mechanism, Role};
use super::error::{KernelError, pin_error, reason};
use super::generation::Generation;
use super::netlink::Netlink;
use super::pins::{names, remove_dir, remove_pins};
use crate::chain::Position;
use crate::desired::Order;
use crate::kernel::attach::tcx::anchor;
use crate::kernel::bpf::link::BpfLink;

pub(in crate::kernel) const LINKS: &str = "links";
pub(in crate::kernel) const FILTERS: &str = "filters";
pub(in crate::kernel) const RELOCATIONS: &str = "relocations";
pub(in crate::kernel) const ORDERS: &str = "orders";

/// The attachments below a pin path.
#[derive(Debug)]
pub struct Attachments {
    pub(super) links: PathBuf,
    pub(super) filters: PathBuf,
    /// What a predecessor has left there that deleted the qdiscs that it had made.
    pub(super) qdiscs: PathBuf,
    /// Holds a directory for each attachment that is being relocated.
    pub(super) relocations: PathBuf,
    /// Holds a directory for each attachment that is not to be last.
    pub(super) orders: PathBuf,
}

impl Attachments {
    /// Those below `pin_path`.
    pub fn below(pin_path: &Path) -> Self {
        let [links, filters, qdiscs, relocations, orders] =
            [LINKS, FILTERS, "qdiscs", RELOCATIONS, ORDERS].map(|name| pin_path.join(name));
        Self {
            links,
            filters,
            qdiscs,
            relocations,
            orders,
        }
    }

    /// Removes objects that another process has put in place of our directories below the pin path.
    /// Returns a line for each.
    ///
    /// # Errors
    /// The object cannot be removed.
    pub(super) fn clear(&self, pin_path: &Path) -> Result<Vec<String>, KernelError> {
        let ours = [
            &self.links,
            &self.filters,
            &self.qdiscs,
            &self.relocations,
            &self.orders,
        ];
        let maps = names(pin_path)?.into_iter().map(|name| pin_path.join(name));
        let maps = maps.filter(|path| Generation::is_dir_of(path));
        let mut cleared = Vec::new();
        for path in ours.into_iter().cloned().chain(maps) {
            if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_dir()) {
                remove_pins(&path)?;
                cleared.push(format!(
                    "removed {}: it was not a directory",
                    path.display()
                ));
            }
        }
        Ok(cleared)
    }

    /// Where a link is pinned.
    pub(super) fn link_pin(&self, attachment: Attachment) -> PathBuf {
        self.links.join(attachment.pin_name())
    }

    /// All of them, with how each is attached, in order, so that one is found by `binary_search`.
    /// It reads directories, which with many interfaces takes too long to be done for each of them.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn list(&self) -> Result<Vec<(Attachment, Mechanism)>, KernelError> {
        let mut found = Vec::new();
        for (dir, mechanism) in [
            (&self.links, Mechanism::Tcx),
            (&self.filters, Mechanism::Clsact),
        ] {
            let names = names(dir)?;
            found.extend(
                names
                    .iter()
                    .filter_map(|name| Some((Attachment::from_pin_name(name)?, mechanism))),
            );
        }
        found.sort_unstable();
        // of a filter there may be two pins
        found.dedup();
        Ok(found)
    }

    /// Whether any of them may be in force, even without a pin.
    ///
    /// # Errors
    /// The pins cannot be read.
    pub(super) fn are_anywhere(&self) -> Result<bool, KernelError> {
        let is_somewhere = |(attachment, mechanism): (Attachment, Mechanism)| match mechanism {
            Mechanism::Tcx => {
                BpfLink::open(&self.link_pin(attachment)).is_ok_and(|link| link.is_anywhere())
            }
            Mechanism::Clsact => true,
        };
        Ok(self.list()?.into_iter().any(is_somewhere))
    }

    /// Detaches a `mirror` that is also on a hook by the other mechanism: both would copy.
    ///
    /// # Errors
    /// A link or filter cannot be queried or detached.
    pub(super) fn detach_doubles(
        &self,
        netlink: &mut Netlink,
        wanted: Mechanism,
    ) -> Result<(), KernelError> {
        let present = self.list()?;
        let is_double = |(attachment, how): &&(Attachment, Mechanism)| {
            attachment.role == Role::Mirror
                && *how != wanted
                && present.binary_search(&(*attachment, wanted)).is_ok()
        };
        present
            .iter()
            .filter(is_double)
            .try_for_each(|&(attachment, how)| self.detach(netlink, attachment, how))
    }

    /// Whether a program is in force, not just pinned: a link outlives its being detached by force,
    /// and the pin of a filter's program outlives the qdisc.
    ///
    /// # Errors
    /// A link or filter cannot be queried.
    pub fn is_attached(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        mechanism: Mechanism,
    ) -> Result<bool, KernelError> {
        match mechanism {
            Mechanism::Tcx => {
                let path = self.link_pin(attachment);
                match BpfLink::open(&path)
                    .and_then(|link| link.is_on(attachment.interface, attachment.direction))
                {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                    is_on => is_on.map_err(|source| pin_error("inspect", &path, source)),
                }
            }
            Mechanism::Clsact => Ok(self.live_filter(netlink, attachment)?.is_some()),
        }
    }

    /// Attaches a program: in place of its predecessor, without a gap, or else at the position of
    /// the order. `present` are the attachments with pins, `interface` is for errors.
    ///
    /// # Errors
    /// The kernel rejects the program or its attachment, or a pin cannot be created.
    pub fn attach(
        &self,
        netlink: &mut Netlink,
        present: &[(Attachment, Mechanism)],
        (attachment, order): (Attachment, &Order),
        interface: &str,
        program: &mut SchedClassifier,
        mechanism: Mechanism,
    ) -> Result<(), KernelError> {
        let error = |e: &dyn std::error::Error| attachment.error("attach", interface, reason(e));
        let chain = self.chain(netlink, present, attachment, mechanism)?;
        let position = chain.position(order);
        match mechanism {
            Mechanism::Tcx => {
                let program = program.fd().map_err(|e| error(&e))?.as_fd();
                self.attach_link(attachment, program, anchor(&chain, position), |e| error(&e))
            }
            Mechanism::Clsact => {
                let priority = chain
                    .priority(position)
                    .or_else(|| chain.priority(Position::Last));
                self.attach_filter(netlink, attachment, program, priority, error).inspect_err(|_| {
                    // a prepared pin must not look like an attachment
                    let [_, fresh] = self.filter_pins(attachment);
                    if !matches!(self.live_filter(netlink, attachment), Ok(Some(live)) if live.pin == fresh) {
                        let _ = remove_pins(&fresh);
                    }
                })
            }
        }
    }

    /// Removes the pin of an attachment that is not in force at its place; detaches its link
    /// wherever it is.
    ///
    /// # Errors
    /// A link cannot be detached, or a pin cannot be removed.
    pub fn forget(&self, attachment: Attachment, mechanism: Mechanism) -> Result<(), KernelError> {
        match mechanism {
            Mechanism::Tcx => self.detach_link(attachment),
            Mechanism::Clsact => self
                .filter_pins(attachment)
                .iter()
                .try_for_each(|path| remove_pins(path)),
        }
    }

    /// Detaches a program; that it is gone already is no error.
    ///
    /// # Errors
    /// The kernel rejects the detachment, or a pin cannot be removed.
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

    /// Removes the directories, which must be empty.
    ///
    /// # Errors
    /// A directory cannot be removed.
    pub fn remove_dirs(&self) -> Result<(), KernelError> {
        for markers in [&self.qdiscs, &self.orders] {
            names(markers)?
                .into_iter()
                .try_for_each(|marker| remove_dir(&markers.join(marker)))?;
        }
        let dirs = [
            &self.links,
            &self.filters,
            &self.qdiscs,
            &self.relocations,
            &self.orders,
        ];
        dirs.into_iter().try_for_each(|dir| remove_dir(dir))
    }
}
