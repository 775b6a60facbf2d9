//! Input: [`Desired`], [`Network`] and the live [`Tables`]. Output: what the maps must hold next,
//! and the programs that must be attached. Pure: must not know the kernel, the clock, the file
//! system.

mod budget;
mod cache;
mod classifier;
mod describe;
mod destinations;
mod elements;
mod endpoint;
mod hook_table;
mod hooks;
mod interface;
mod limit;
mod listed;
mod names;
mod next;
mod peers;
mod segmenter;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytemuck::Zeroable;
use traffic_mirror_ebpf::abi::{
    self, Listed, MAX_ENDPOINTS, MAX_FILTERS, MAX_INTERFACES, Name, NameText,
};

use crate::compile::cache::Decompiled;
use crate::compile::classifier::assign::Assignment;
use crate::compile::classifier::name_table;
use crate::compile::classifier::room::Room;
use crate::compile::classifier::slots::omitted;
use crate::compile::classifier::source::Source;
use crate::compile::names::Names;
use crate::desired::Desired;
use crate::network::{Network, Segmenter};
use crate::tables::Tables;
use elements::Elements;

pub use crate::compile::budget::{Costly, costly};
pub use crate::compile::cache::{Cache, Made};
pub use crate::compile::classifier::name_table::{class_of_cgroup, class_of_name};
pub use crate::compile::classifier::reachable::Reachable;
pub use crate::compile::limit::{MOST_BYTES, Rooms, TooLarge};
pub use crate::compile::segmenter::{longest, too_long};
pub use describe::{
    Described, DescribedFilter, DescribedSlot, HookKey, NO_ADDRESS, READY, describe, key, mac,
    outer, state, vlan_name,
};
pub use destinations::addresses;
pub use hooks::{Hook, have_table};
pub use interface::{called, learns};
pub use listed::{NotMirrored, Why, entries, entry_of, not_mirrored, refused};
pub use next::next_tables;

/// What the kernel must hold next.
#[derive(Clone)]
pub struct Compiled {
    /// The maps, before the commit if there is one.
    pub tables: Arc<Tables>,
    /// What must follow the writes.
    pub then: Then,
    /// What a packet can meet before the writes.
    pub in_use: Arc<Reachable>,
    /// Where `mirror` must be attached, by the hook's index.
    pub hooks: BTreeMap<u32, Hook>,
    /// Indices of the interfaces that copies leave by, ascending.
    pub outputs: Vec<u32>,
    /// Indices of the interfaces on whose egress `encap` must be attached: the outputs, and, if
    /// there are any, sources without a link header.
    pub encaps: BTreeSet<u32>,
    /// The segmenter, if it is used.
    pub segmenter: Option<Segmenter>,
    /// A segmenter should be used, whether or not one exists.
    pub segmenter_wanted: bool,
}

/// What must follow some writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// This epoch must be stored, and what is live then compiled again.
    Commit(u32),
    /// Nothing: exactly the wanted state is live.
    Nothing,
}

/// Compiles the next step from what is live to what is wanted. What is in use keeps its place.
/// `None` if `live` contradicts itself or has no room for old and new side by side: then compile
/// for [`new_maps`].
///
/// Each step depends on nothing but the live tables, so it does not matter which daemon wrote them
/// and how far it got:
///
/// 1. The tables come to say what the active slots and the wanted ones stand for. No packet notices, since the live rows
///    do not name the new ones. The commit switches to the wanted rows.
/// 2. Only the wanted slots are active by now: what only others needed goes, and again no packet notices.
/// 3. What nothing points to any more is cleared.
pub fn compile(
    desired: &Desired,
    network: &Network,
    live: &Tables,
    cache: &mut Cache,
) -> Option<Compiled> {
    step(desired, network, live, cache, false)
}

/// With `is_new` no packet has used the tables yet: the first step is the final state.
fn step(
    desired: &Desired,
    network: &Network,
    live: &Tables,
    cache: &mut Cache,
    is_new: bool,
) -> Option<Compiled> {
    let Decompiled {
        in_use,
        source,
        are_built,
    } = cache.known(live)?;
    let filters = desired.filters.iter().map(|filter| &*filter.name);
    let filters = Names::new(&live.filters, Name::text, MAX_FILTERS, filters)?;
    let endpoints = desired.endpoints.iter().map(|endpoint| &*endpoint.name);
    let endpoints = Names::new(&live.endpoint_names, Name::text, MAX_ENDPOINTS, endpoints)?;
    let listed = desired.interfaces.iter().map(|entry| entry.name.as_str());
    let listed = Names::new(&live.listed, Listed::pattern, MAX_INTERFACES, listed)?;
    let hooks = hooks::hooks(desired, network, &live.hooks.to_vec());
    let assigned = Assignment::new(
        desired,
        &network.applications,
        &filters,
        &mut cache.definitions,
        live,
        &source.slots,
    )?;
    let mut listed = listed.table(
        desired.interfaces.iter().map(listed::element),
        Listed::zeroed(),
    );
    listed.extend(hooks::refused(desired, network).map(Listed::of_refused));
    listed.truncate(MAX_INTERFACES);
    let mut elements = Elements::new(
        desired, network, &filters, &endpoints, &assigned, &hooks, live,
    );
    elements.listed = listed;
    let omitted = omitted(
        &assigned.union,
        &live.active_bank().omitted,
        assigned.active_blocks,
    );

    let inactive = live.inactive();
    // live maps have no room for more than they are long
    let room = Room::new(if is_new {
        MOST_BYTES
    } else {
        live.filter_bytes()
    });
    let mut tables = live.with_idle_copies();
    if tables.names.is_empty() {
        // no map has been made yet
        Arc::make_mut(&mut tables.values).name_keys = name_table::keys(network.secret);
    }
    let Assignment {
        slots,
        union,
        active_blocks,
    } = assigned;
    let want = Source {
        slots: union,
        omitted,
    };
    let mut bank = classifier::build::build(
        &mut tables,
        live,
        &in_use,
        are_built.then_some(&source),
        &want,
        active_blocks,
        room,
    )?;
    // where there is room for names, there are maps of connections
    if hooks.values().any(|hook| hook.learns) && tables.name_texts.len() < 2 {
        tables.name_texts = [NameText::free(); 2].into_iter().collect();
    }
    classifier::rows::rows(
        &mut tables.rows,
        &in_use,
        &slots,
        desired,
        &hooks,
        &mut bank,
    )?;
    bank.peers = peers::peers(&desired.peers);
    bank.flow_keys = peers::flow_keys(desired.seed.as_ref(), network.secret);
    tables.control.banks[inactive] = bank;
    if !is_new {
        elements.prepare(&mut tables);
    }
    let then = if is_new || tables.is_settled(live) {
        tables.control.banks = [bank; 2];
        elements.finish(&mut tables);
        if !is_new {
            in_use.clear_the_rest(&mut tables);
        }
        Then::Nothing
    } else {
        Then::Commit(live.control.epoch.wrapping_add(1))
    };
    let (outputs, segmenter_wanted) = (elements.outputs(), elements.segmenter_wanted);
    let relays = hooks
        .values()
        .filter(|hook| hook.is_headerless && !outputs.is_empty())
        .map(|hook| hook.interface);
    let encaps = outputs.iter().copied().chain(relays).collect();
    let segmenter = network.segmenter.filter(|_| segmenter_wanted);
    let compiled = Compiled {
        tables: Arc::new(tables),
        then,
        in_use,
        hooks,
        outputs,
        encaps,
        segmenter,
        segmenter_wanted,
    };
    cache.expect(live, &compiled, want);
    Some(compiled)
}

/// Compiles for new maps: what they must hold is complete. The interfaces that have one of the
/// hooks `served` keep their places. `None` if there are too many filters.
pub fn new_maps(
    desired: &Desired,
    network: &Network,
    served: &[abi::Hook],
    cache: &mut Cache,
) -> Option<Compiled> {
    let used = served
        .iter()
        .rposition(|hook| hook.interface != 0)
        .map_or(0, |last| last + 1);
    let live = Tables {
        hooks: served[..used].iter().copied().collect(),
        ..Tables::empty()
    };
    step(desired, network, &live, cache, true)
}
