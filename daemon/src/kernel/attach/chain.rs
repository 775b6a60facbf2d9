//! The programs on a hook, as the kernel has them.

use crate::chain::{Chain, Entry};
use crate::kernel::attach::Attachments;
use crate::kernel::attachment::{Attachment, Mechanism, Role};
use crate::kernel::bpf::link::{BpfLink, attached_to};
use crate::kernel::bpf::syscall::program_name;
use crate::kernel::error::{KernelError, reason};
use crate::kernel::netlink::Netlink;

impl Attachments {
    /// What is on the hook of an attachment by the same mechanism, this one among them if it is
    /// attached. `present` is what has a pin, in order. The names of programs take `CAP_SYS_ADMIN`
    /// (`bpf_prog_get_fd_by_id`).
    ///
    /// # Errors
    /// A netlink request or a query of the TCX hook fails.
    pub fn chain(
        &self,
        netlink: &mut Netlink,
        present: &[(Attachment, Mechanism)],
        attachment: Attachment,
        mechanism: Mechanism,
    ) -> Result<Chain, KernelError> {
        let programs = match mechanism {
            Mechanism::Tcx => self.programs(present, attachment)?,
            Mechanism::Clsact => self.filters(netlink, attachment)?,
        };
        Ok(Chain { programs })
    }

    fn programs(
        &self,
        present: &[(Attachment, Mechanism)],
        attachment: Attachment,
    ) -> Result<Vec<Entry>, KernelError> {
        let own = BpfLink::open(&self.link_pin(attachment))
            .and_then(|link| link.program())
            .ok()
            .flatten();
        let there = attached_to(attachment.interface, attachment.direction).map_err(|source| {
            let interface = format!("interface {}", attachment.interface);
            attachment.error("list the other programs on", &interface, reason(&source))
        })?;
        let ours = self.others_of_ours(present, attachment);
        let entry = |id: u32| {
            let is_ours = Some(id) == own;
            let other = ours
                .iter()
                .find(|(there, _)| *there == id)
                .map(|(_, role)| *role);
            let role = if is_ours {
                Some(attachment.role)
            } else {
                other
            };
            let name = role.map_or_else(|| program_name(id), |role| Some(role.word().to_owned()));
            Entry {
                id,
                names: name.into_iter().collect(),
                priority: None,
                is_ours,
            }
        };
        Ok(there
            .into_iter()
            .map(|there| entry(there.program))
            .collect())
    }

    /// Our other links on the same hook: they must be known even without the capability to read
    /// names.
    fn others_of_ours(
        &self,
        present: &[(Attachment, Mechanism)],
        attachment: Attachment,
    ) -> Vec<(u32, Role)> {
        let Attachment {
            interface,
            direction,
            ..
        } = attachment;
        let mirror = (
            Attachment {
                role: Role::Mirror,
                interface,
                direction,
            },
            Mechanism::Tcx,
        );
        let mirror = present
            .binary_search(&mirror)
            .ok()
            .map(|index| present[index]);
        // each `mirror` is before them, and they are few
        let others = present.partition_point(|(there, _)| there.role == Role::Mirror);
        let on_hook = mirror
            .into_iter()
            .chain(present[others..].iter().copied())
            .filter(|&(there, mechanism)| {
                mechanism == Mechanism::Tcx
                    && (there.interface, there.direction) == (interface, direction)
                    && there != attachment
            });
        let program = |(there, _): (Attachment, Mechanism)| {
            let link = BpfLink::open(&self.link_pin(there)).ok()?;
            Some((link.program().ok()??, there.role))
        };
        on_hook.filter_map(program).collect()
    }

    fn filters(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
    ) -> Result<Vec<Entry>, KernelError> {
        let ours = self
            .live_filter(netlink, attachment)?
            .map(|live| live.place.priority);
        let filters = netlink.filters(attachment.interface, attachment.direction)?;
        let standing = filters.into_iter().map(|filter| {
            let is_ours =
                Some(filter.priority) == ours && filter.handle == attachment.role.handle();
            let program = filter
                .program_id
                .filter(|_| !is_ours)
                .and_then(program_name);
            let name = filter.name.unwrap_or(filter.kind);
            let names = std::iter::once(name).chain(program).collect();
            Entry {
                id: filter.program_id.unwrap_or_default(),
                names,
                priority: Some(filter.priority),
                is_ours,
            }
        });
        Ok(standing.collect())
    }
}
