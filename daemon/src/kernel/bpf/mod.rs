//! What the library does not give: system calls, links of TCX hooks, maps in memory, and the
//! programs of an object.

pub(super) mod link;
pub(super) mod mapping;
pub(super) mod program;
pub(super) mod rcu;
pub(super) mod syscall;
