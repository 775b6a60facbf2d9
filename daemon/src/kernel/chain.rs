//! Where an attached program stands among those of others.

use aya::programs::{ProgramInfo, SchedClassifier};

use super::KernelError;
use super::attach::{Attachment, Attachments, Mechanism};
use super::link::Link;
use super::netlink::Netlink;
use super::program::reason;

/// The programs on a hook, in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Names, such as "mirror"; for what is no BPF program the kind of the filter.
    pub programs: Vec<String>,
    /// Where ours stands.
    pub position: usize,
    /// Priority of a clsact filter.
    pub priority: Option<u16>,
}

impl Attachments {
    /// The chain that an attached program is in; `None` if it is not attached.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn chain(
        &self,
        netlink: &mut Netlink,
        attachment: Attachment,
        mechanism: Mechanism,
        interface: &str,
    ) -> Result<Option<Chain>, KernelError> {
        match mechanism {
            Mechanism::Tcx => {
                let Ok(Some(program)) = Link::open(&self.link_pin(attachment)).and_then(|link| link.program()) else {
                    return Ok(None);
                };
                let (_, programs) = SchedClassifier::query_tcx(interface, attachment.attach_type())
                    .map_err(|e| attachment.error("read what is attached beside", interface, reason(&e)))?;
                let position = programs.iter().position(|info| info.id() == program);
                let programs = programs.iter().map(name).collect();
                Ok(position.map(|position| Chain { programs, position, priority: None }))
            }
            Mechanism::Clsact => {
                let filters = netlink.filters(attachment.interface, attachment.direction)?;
                let position = filters.iter().position(|filter| attachment.is(filter));
                let name =
                    |filter: &crate::network::TcFilter| filter.name.clone().unwrap_or_else(|| filter.kind.clone());
                let priority = position.map(|position| filters[position].priority);
                let programs = filters.iter().map(name).collect();
                Ok(position.map(|position| Chain { programs, position, priority }))
            }
        }
    }
}

fn name(info: &ProgramInfo) -> String {
    info.name_as_str().filter(|name| !name.is_empty()).map_or_else(|| format!("(program {})", info.id()), str::to_owned)
}
