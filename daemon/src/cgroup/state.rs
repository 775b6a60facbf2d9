//! Input: patterns, and names of cgroups from the root down. Output: which patterns select a
//! cgroup, and whether others may select one below. Must not know: the file system.

use super::pattern::{Pattern, Progress};

/// What patterns say of one cgroup. It belongs to the list of patterns that it was made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatchState {
    /// The patterns that select this cgroup and none above it, ascending.
    selecting: Vec<usize>,
    /// The patterns that may select a cgroup below and have selected none so far, with how much of
    /// them has fitted.
    open: Vec<(usize, usize)>,
}

impl MatchState {
    /// That of the root.
    pub fn root(patterns: &[Pattern]) -> Self {
        let begun = patterns
            .iter()
            .enumerate()
            .map(|(index, pattern)| (index, pattern.begin()));
        Self::of(begun)
    }

    /// That of the child `name`.
    pub fn enter(&self, patterns: &[Pattern], name: &str) -> Self {
        let advanced = self.open.iter().filter_map(|&(index, fitted)| {
            let pattern = patterns.get(index)?;
            Some((index, pattern.advance(fitted, name)))
        });
        Self::of(advanced)
    }

    fn of(all: impl Iterator<Item = (usize, Progress)>) -> Self {
        let mut state = Self::default();
        for (index, progress) in all {
            match progress {
                Progress::Complete => state.selecting.push(index),
                Progress::Partial(fitted) => state.open.push((index, fitted)),
                Progress::Failed => {}
            }
        }
        state
    }

    /// The patterns that select this cgroup and none above it, ascending.
    pub fn selecting(&self) -> &[usize] {
        &self.selecting
    }

    /// Whether the children matter: a pattern that has selected nothing so far may select one of
    /// them, or one below. What is below a selected cgroup belongs to it and is not looked at.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether the cgroup or anything below it matters.
    pub fn is_needed(&self) -> bool {
        self.is_open() || !self.selecting.is_empty()
    }
}
