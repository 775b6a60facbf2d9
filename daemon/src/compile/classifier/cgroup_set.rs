//! The applications of a filter, as the cgroups that they are at the moment.

use traffic_mirror_ebpf::abi::last_bytes;

use crate::cgroup::{Applications, Pattern};

/// A cgroup, with all below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::compile) struct CgroupTerm {
    /// The ids of the cgroups from the root down to it.
    pub ids: Vec<u64>,
    /// Its path, or the end of it.
    pub path: String,
}

/// The cgroups of a filter; `undecided` is whether packets match whose application cannot be known.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::compile) struct CgroupSet {
    /// Sorted; none is below another.
    pub cgroups: Vec<CgroupTerm>,
    pub undecided: bool,
}

impl CgroupTerm {
    /// Whether another one is this one, or below it.
    pub(in crate::compile) fn has(&self, other: &Self) -> bool {
        other.ids.starts_with(&self.ids)
    }
}

impl CgroupSet {
    /// What patterns select.
    pub(in crate::compile) fn new(
        patterns: &[Pattern],
        applications: &Applications,
        undecided: bool,
    ) -> Self {
        let selected = patterns.iter().flat_map(|one| applications.selected(one));
        let mut all: Vec<CgroupTerm> = selected
            .map(|one| CgroupTerm {
                ids: one.ids.clone(),
                path: last_bytes(&one.path).to_owned(),
            })
            .collect();
        all.sort_unstable();
        let mut cgroups: Vec<CgroupTerm> = Vec::with_capacity(all.len());
        for one in all {
            if !cgroups.last().is_some_and(|last| last.has(&one)) {
                cgroups.push(one);
            }
        }
        Self { cgroups, undecided }
    }
}
