//! The next tables: for the live maps if they have room, else for new ones.

use super::{Cache, Compiled, compile, new_maps};
use crate::desired::Desired;
use crate::network::Network;
use crate::tables::{Live, Table};

/// Compiles for the live maps if they have room, otherwise for new ones. `None` if not even new
/// ones have room. Before new ones the live tables are freed, so that not both take memory: `live`
/// is `None` then.
pub fn next_tables(
    desired: &Desired,
    network: &Network,
    live: &mut Option<Live>,
    cache: &mut Cache,
) -> Option<Compiled> {
    if let Some(want) = live
        .as_ref()
        .and_then(|live| in_place(desired, network, live, cache))
    {
        return Some(want);
    }
    let served = live
        .take()
        .map_or_else(Vec::new, |live| live.tables.hooks.to_vec());
    cache.forget();
    new_maps(desired, network, &served, cache)
}

fn in_place(
    desired: &Desired,
    network: &Network,
    live: &Live,
    cache: &mut Cache,
) -> Option<Compiled> {
    // the mark of copies cannot be written while programs use it
    let control = &live.tables.control;
    let want = (control.secret != 0 && control.generation == live.generation)
        .then(|| compile(desired, network, &live.tables, cache))??;
    let fits = Table::ALL
        .iter()
        .all(|&table| want.tables.len(table) <= live.tables.len(table));
    fits.then_some(want)
}
