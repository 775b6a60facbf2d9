//! The attached programs, as plain data. Must not know: the kernel, the clock, the file system.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::Chain;
use crate::compile::HookKey;

/// Which programs are attached, and in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached {
    /// The programs are of this version: otherwise new maps take over, and the live ones are not
    /// changed in place.
    pub are_ours: bool,
    /// `mirror`: index of the interface, direction; with what is on the hook.
    pub mirrors: BTreeMap<HookKey, Chain>,
    /// `encap` of the live generation: index of the output interface.
    pub encaps: BTreeSet<u32>,
}
