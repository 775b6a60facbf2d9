//! Whether one packet may take longer to be copied than the file allows: an estimate that does not
//! exaggerate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use traffic_mirror_ebpf::abi;
use traffic_mirror_ebpf::fit::{Fit, Size};
use traffic_mirror_ebpf::packet::protocol::{SCTP, TCP, UDP};

use crate::compile::Compiled;
use crate::compile::segmenter::{cut, longest, takes};
use crate::desired::{Action, Desired, Filter};
use crate::network::{Direction, Link, Network};
use crate::tables::names;

/// What a copy takes at least: 0.7 µs were measured for one that is sent whole, 1.5 for each
/// fragment of what is cut into packets before.
const COPY: Duration = Duration::from_micros(1);
/// Bytes of a superpacket (`GSO_LEGACY_MAX_SIZE`).
const SUPERPACKET_BYTES: u32 = 65_536;

/// A packet that takes longer than `budget`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Costly {
    /// Where it comes by.
    pub interface: String,
    /// A filter that it matches.
    pub filter: String,
    /// Packets on the wire that it is cut into, 1 if it is not.
    pub packets: u32,
    /// Endpoints that get them.
    pub endpoints: usize,
    /// Clones that it takes: one for each outer packet, or fragment of one.
    pub copies: u32,
    /// The time that these take at least.
    pub time: Duration,
}

/// The packet that takes most, if that is more than the file's budget: a superpacket of the longest
/// packets that match one filter, and those that match anything. What matches several filters only
/// by chance is not looked for.
pub fn costly(desired: &Desired, network: &Network, compiled: &Compiled) -> Option<Costly> {
    let link = longest(&compiled.hooks, network)?;
    let packets = (SUPERPACKET_BYTES / link.mtu.max(1)).max(1);
    let tables = &compiled.tables;
    let indices: BTreeMap<&str, u32> = names(&tables.endpoint_names)
        .map(|(index, name)| (name, index))
        .collect();
    let live = |position: &usize| {
        let index = *indices.get(desired.endpoints[*position].name.as_str())?;
        Some(tables.endpoints[index as usize][0]).filter(abi::Endpoint::has_way)
    };
    let hooks: Vec<_> = compiled
        .hooks
        .values()
        .filter(|hook| hook.interface == link.index)
        .collect();
    let is_sent_bare = network.unsummed.contains(&link.index)
        && hooks.iter().any(|hook| hook.direction == Direction::Egress);
    let here = |action| {
        let hooks = &hooks;
        let applies = move |filter: &&Filter| {
            filter.action == action && hooks.iter().any(|hook| hook.has(filter))
        };
        desired
            .filters
            .iter()
            .map(|filter| &**filter)
            .filter(|filter| filter.enabled)
            .filter(applies)
    };
    let always = |action| {
        here(action)
            .filter(|filter| is_for_anything(filter))
            .flat_map(|filter| &filter.to)
    };
    let (included, excluded): (BTreeSet<_>, BTreeSet<_>) = (
        always(Action::Mirror).collect(),
        always(Action::Exclude).collect(),
    );
    let cost = |filter: &Filter| -> Costly {
        let to: BTreeSet<&usize> = filter.to.iter().chain(included.iter().copied()).collect();
        let endpoints: Vec<_> = to
            .difference(&excluded)
            .filter_map(|position| live(position))
            .collect();
        // of one protocol
        let copies = |protocol| -> u32 {
            let of = |endpoint: &abi::Endpoint| {
                let is_cut = cut(endpoint, Some(link), is_sent_bare).contains(&Some(protocol));
                (if is_cut { packets } else { 1 }) * fragments(endpoint, link)
            };
            endpoints.iter().map(of).sum()
        };
        let copies = [UDP, SCTP, TCP]
            .into_iter()
            .filter(|protocol| takes(filter, *protocol))
            .map(copies)
            .max();
        let copies = copies.unwrap_or(0);
        Costly {
            interface: link.name.clone(),
            filter: filter.name.clone(),
            packets,
            endpoints: endpoints.len(),
            copies,
            time: COPY * copies,
        }
    };
    let most = here(Action::Mirror)
        .map(cost)
        .max_by_key(|costly| costly.copies)?;
    (desired.enabled && most.time > desired.budget.0).then_some(most)
}

/// Whether a filter asks for nothing of a packet but where it comes by.
fn is_for_anything(filter: &Filter) -> bool {
    filter.protocol.is_empty()
        && filter.source.is_empty()
        && filter.destination.is_empty()
        && filter.source_port.is_empty()
        && filter.destination_port.is_empty()
        && filter.vlan.is_empty()
}

/// Outer fragments of the longest packet of an interface.
fn fragments(endpoint: &abi::Endpoint, link: &Link) -> u32 {
    let bytes = link.mtu;
    let size = Size {
        packets: 1,
        bytes,
        segment: bytes,
        gso: 0,
        trim: 0,
        bare: 0,
        brittle: 0,
    };
    Fit::of(&size, UDP.into(), endpoint).map_or(0, |fit| fit.fragments)
}
