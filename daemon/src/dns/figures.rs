//! Input: the names that the file has, and what is known of them. Output: how many are in which
//! state, for metrics. Pure.

use std::collections::BTreeSet;

use traffic_mirror_resolver::{Name, Names};

/// How the DNS names of the file are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Names with an address, whose last question was answered.
    pub resolved: usize,
    /// Names with an address, whose last question was not answered.
    pub failing: usize,
    /// Names without an address.
    pub lacking: usize,
    /// Addresses that the names have; one of two names counts twice.
    pub addresses: usize,
    /// The addresses that were last found are live.
    pub is_live: bool,
    /// Times that the daemon rejected names.toml, or the kernel what it has.
    pub failures: u64,
}

impl Figures {
    /// Counts the names.
    pub(super) fn of(wanted: &BTreeSet<Name>, names: &Names) -> Self {
        let mut figures = Self::default();
        for name in wanted {
            let known = names.0.get(name);
            let addresses = known.map_or(0, |known| known.addresses.len());
            let is_failing = known.is_some_and(|known| known.failing.is_some());
            figures.addresses += addresses;
            match (addresses, is_failing) {
                (0, _) => figures.lacking += 1,
                (_, true) => figures.failing += 1,
                (_, false) => figures.resolved += 1,
            }
        }
        figures
    }
}
