//! Which cgroups the applications of a file are now. Pure.

use std::collections::BTreeMap;

use super::error::CgroupError;
use super::hierarchy::Tree;
use super::limits::MAX_LEVELS;
use super::matcher::{Selected, select};
use super::pattern::Pattern;

/// Which cgroups each pattern selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applications {
    of: BTreeMap<Pattern, Vec<Selected>>,
    /// Why some may be missing: each reason once.
    pub errors: Vec<CgroupError>,
}

impl Applications {
    /// What patterns select in a tree.
    pub fn new(patterns: &[Pattern], tree: &Tree) -> Self {
        let mut of: BTreeMap<Pattern, Vec<Selected>> = patterns
            .iter()
            .map(|pattern| (pattern.clone(), Vec::new()))
            .collect();
        let mut errors = tree.errors.clone();
        for (pattern, cgroup) in select(patterns, tree).pairs() {
            if cgroup.ids.len() > MAX_LEVELS {
                if !errors.contains(&CgroupError::TooDeep) {
                    errors.push(CgroupError::TooDeep);
                }
            } else if let Some(selected) = of.get_mut(&patterns[pattern]) {
                selected.push(cgroup.clone());
            }
        }
        Self { of, errors }
    }

    /// What a pattern selects.
    pub fn selected(&self, pattern: &Pattern) -> &[Selected] {
        self.of.get(pattern).map_or(&[], Vec::as_slice)
    }
}
