//! All programs on a hook, by both mechanisms and whoever attached them.

use crate::kernel::attachment::Mechanism;
use crate::kernel::bpf::link::attached_to;
use crate::kernel::bpf::syscall::program_name;
use crate::kernel::netlink::{Error, Netlink};
use crate::network::Direction;

/// What stands on a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnHook {
    /// How it is attached.
    pub mechanism: Mechanism,
    /// Priority of a clsact filter.
    pub priority: Option<u16>,
    /// Number of the program; `None` for what is no BPF program.
    pub program: Option<u32>,
    /// Names of the filter and of the program, as far as the kernel reports them.
    pub names: Vec<String>,
}

/// What stands on a hook, in the order in which it runs: TCX programs before filters. The names of
/// programs take `CAP_SYS_ADMIN` (`bpf_prog_get_fd_by_id`).
///
/// # Errors
/// The filters cannot be read.
pub fn programs_on(
    netlink: &mut Netlink,
    interface: u32,
    direction: Direction,
) -> Result<Vec<OnHook>, Error> {
    // kernels without TCX reject the query
    let linked = attached_to(interface, direction).unwrap_or_default();
    let linked = linked.into_iter().map(|there| OnHook {
        mechanism: Mechanism::Tcx,
        priority: None,
        program: Some(there.program),
        names: program_name(there.program).into_iter().collect(),
    });
    let filters = netlink.filters(interface, direction)?;
    let filters = filters.into_iter().map(|filter| OnHook {
        mechanism: Mechanism::Clsact,
        priority: Some(filter.priority),
        program: filter.program_id,
        names: std::iter::once(filter.name.unwrap_or(filter.kind))
            .chain(filter.program_id.and_then(program_name))
            .collect(),
    });
    Ok(linked.chain(filters).collect())
}
