//! clsact qdiscs and the filters in them, which go together.

use std::path::PathBuf;

use super::KernelError;
use super::attach::{Attachment, Attachments, Mechanism, remove_dir};
use super::netlink::Netlink;
use super::program::reason;
use crate::network::Hook as Direction;

impl Attachments {
    /// Takes a filter off; with the last one a qdisc that is ours.
    pub(super) fn detach_filter(&self, netlink: &mut Netlink, attachment: Attachment) -> Result<(), KernelError> {
        let index = attachment.interface;
        if self.live_pin(netlink, attachment)?.is_some() {
            let filters =
                netlink.filters(index, Direction::Ingress)?.len() + netlink.filters(index, Direction::Egress)?.len();
            if filters == 1 && self.marker(index).exists() {
                netlink.delete_clsact(index)?;
            } else {
                let interface = netlink.links()?.remove(&index).map(|link| link.name).unwrap_or_default();
                let error = |e: &dyn std::error::Error| attachment.error("detach", &interface, reason(e));
                netlink.delete_filter(attachment.place()).map_err(|e| error(&e))?;
            }
        }
        self.forget(netlink, attachment, Mechanism::Clsact)
    }

    /// A qdisc is known for ours as long as a filter of ours is in it. Without one it may be somebody else's: ours was
    /// replaced, or the interface has gone and another has its index.
    pub(super) fn forget_qdisc(&self, netlink: &mut Netlink, interface: u32) -> Result<(), KernelError> {
        for (attachment, mechanism) in self.list()? {
            let is_there = attachment.interface == interface && mechanism == Mechanism::Clsact;
            if is_there && self.live_pin(netlink, attachment)?.is_some() {
                return Ok(());
            }
        }
        remove_dir(&self.marker(interface))
    }

    /// Says that the qdisc of an interface is ours.
    pub(super) fn marker(&self, interface: u32) -> PathBuf {
        self.qdiscs.join(interface.to_string())
    }
}
