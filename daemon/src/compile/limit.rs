//! How large tables may become. What a filter adds to them grows with its networks and ranges, not
//! with other filters', but there may be millions of these.

use std::sync::Arc;

use traffic_mirror_ebpf::abi::{Block, Class, Node, Skip};

use crate::compile::{Cache, new_maps};
use crate::desired::{Desired, Filter};
use crate::network::Network;

/// Bytes of classes, blocks and tries that a file may need.
pub const MOST_BYTES: usize = 160 << 20;

/// Remembers the filters for which there was room.
#[derive(Debug, Default)]
pub struct Rooms {
    filters: Vec<Arc<Filter>>,
    /// What they need, bytes, as far as that was found out.
    bytes: usize,
}

/// Why a file is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {all} networks, port ranges, server names and applications of the filters need tables of more than {} MiB; filter {filter:?} gives the most of them, {terms}",
    MOST_BYTES >> 20
)]
pub struct TooLarge {
    /// Name of the filter that gives the most networks and ranges.
    pub filter: String,
    /// How many these are.
    pub terms: usize,
    /// Those of all filters.
    pub all: usize,
}

impl TooLarge {
    /// What to do about it.
    pub const REMEDY: &str =
        "write fewer networks, ranges and names, or wider ones that take the place of several";
}

impl Rooms {
    /// Whether there is room for what is desired.
    ///
    /// # Errors
    /// The file needs more than [`MOST_BYTES`].
    pub fn check(&mut self, desired: &Desired) -> Result<(), TooLarge> {
        let most = |filters: &mut dyn Iterator<Item = &Arc<Filter>>| {
            filters.map(|filter| most_bytes(filter)).sum()
        };
        let mut bytes: usize = most(&mut desired.filters.iter());
        if bytes > MOST_BYTES {
            // the existing tables give a better estimate
            let known = |filter: &&Arc<Filter>| {
                let place = self
                    .filters
                    .binary_search_by(|known| known.name.cmp(&filter.name));
                place.is_ok_and(|place| Arc::ptr_eq(&self.filters[place], filter))
            };
            let new: usize = most(&mut desired.filters.iter().filter(|filter| !known(filter)));
            bytes = bytes.min(self.bytes + new);
        }
        if bytes > MOST_BYTES {
            let compiled = new_maps(desired, &Network::default(), &[], &mut Cache::default());
            bytes = compiled
                .ok_or_else(|| too_large(desired))?
                .tables
                .filter_bytes();
        }
        (self.filters, self.bytes) = (desired.filters.clone(), bytes);
        Ok(())
    }
}

fn too_large(desired: &Desired) -> TooLarge {
    let all = desired.filters.iter().map(|filter| terms(filter)).sum();
    let heaviest = desired.filters.iter().max_by_key(|filter| terms(filter));
    let (filter, terms) = heaviest.map_or_else(Default::default, |filter| {
        (filter.name.clone(), terms(filter))
    });
    TooLarge { filter, terms, all }
}

fn terms(filter: &Filter) -> usize {
    let Filter {
        source,
        destination,
        source_port,
        destination_port,
        server_name,
        application,
        ..
    } = filter;
    source.len()
        + destination.len()
        + source_port.len()
        + destination_port.len()
        + server_name.len()
        + application.len()
}

/// What a filter adds to tables, bytes, if it shares nothing with others and its blocks with
/// filters that give the same fields: each network or range has two ends, where another set begins;
/// each network may be where a trie branches.
fn most_bytes(filter: &Filter) -> usize {
    const END: usize = size_of::<Class>() + size_of::<u64>() + size_of::<Block>();
    const BRANCH: usize = size_of::<Node>() + 2 * size_of::<Skip>();
    let ways = if filter.bidirectional { 2 } else { 1 };
    let networks = filter.source.len() + filter.destination.len();
    let ranges = terms(filter) + filter.protocol.len() + filter.vlan.len();
    ways * (2 * END * ranges + BRANCH * networks)
}
