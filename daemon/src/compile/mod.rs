//! Input: [`Desired`] and [`Network`]. Output: the [`Tables`] that the maps must hold, and the programs that must be
//! attached. Pure: must not know the kernel, the clock, the file system.

mod classes;
mod endpoint;
mod hooks;
mod slots;
mod trie;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytemuck::Zeroable;
use ipnet::IpNet;
use traffic_mirror_ebpf::abi::{Action, EndpointPair, Field, Name, Root, Row, Slot, View};

use crate::desired::{self, Desired, Filter};
use crate::network::Network;
use crate::tables::Tables;
use classes::{Classes, position};
use slots::{Oriented, Placement, block_of};
use trie::{Prefix, Tries};

pub use hooks::Hook;

/// What the kernel must hold.
#[derive(Clone)]
pub struct Compiled {
    /// The content of the maps; epoch and secret are left zero.
    pub tables: Tables,
    /// Where `mirror` must be attached; the position is the hook's index.
    pub hooks: Vec<Hook>,
    /// Indices of the interfaces on whose egress `encap` must be attached, ascending.
    pub outputs: Vec<u32>,
}

/// Compiles.
pub fn compile(desired: &Desired, network: &Network) -> Compiled {
    let hooks = hooks::hooks(desired, network);
    let enabled = desired.filters.iter().enumerate().filter(|(_, filter)| filter.enabled);
    let oriented = enabled.flat_map(|(index, filter)| Oriented::of(index, filter)).collect();
    let placement = Placement::new(oriented);

    let mut tables = Tables::empty();
    let mut view = fill_values(&mut tables, &placement);
    fill_slots(&mut tables, &placement, &desired.filters);
    fill_rows(&mut tables, &mut view, &placement, desired, &hooks);
    tables.control.view = [view; 2];
    tables.endpoints = desired.endpoints.iter().map(|e| pair(endpoint::endpoint(e, network))).collect();
    tables.endpoint_names = desired.endpoints.iter().map(|e| name(&e.name)).collect();
    tables.filters = desired.filters.iter().map(|f| name(&f.name)).collect();

    tables.hooks = hooks.iter().map(Hook::element).collect();
    let outputs = endpoint::outputs(&tables.endpoints);
    Compiled { tables, hooks, outputs }
}

const fn pair(endpoint: traffic_mirror_ebpf::abi::Endpoint) -> EndpointPair {
    [endpoint; 2]
}

/// A name as the maps hold it; `Desired` has no longer ones.
fn name(text: &str) -> Name {
    Name::new(text).unwrap_or(Name::zeroed())
}

/// Answers the view, in which no hook has an active slot so far.
fn fill_values(tables: &mut Tables, placement: &Placement<'_>) -> View {
    let mut view = View { omitted: placement.omitted, ..View::zeroed() };
    let mut classes = Classes::new();
    let values = &mut tables.values;

    let protocols = ranges(placement, Field::Protocol, u8::MAX.into(), |one| {
        one.protocol.iter().map(|&p| u32::from(p)..=u32::from(p)).collect()
    });
    values.protocol.copy_from_slice(&classes.of_ranges(256, protocols));

    // one value more than there are ports: a packet without any
    const NO_PORT: u32 = 65_536;
    for (field, side) in [(Field::SourcePort, 0), (Field::DestinationPort, 1)] {
        let ports = ranges(placement, field, NO_PORT, |one| {
            one.ports[side].0.iter().map(|r| u32::from(*r.start())..=u32::from(*r.end())).collect()
        });
        let classes = classes.of_ranges(NO_PORT + 1, ports);
        let (with, without) = classes.split_at(NO_PORT as usize);
        let table = if side == 0 { &mut values.source_port } else { &mut values.destination_port };
        table.copy_from_slice(with);
        values.no_port[side] = without[0];
    }

    let mut tries = Tries::default();
    for root in Root::ALL {
        let prefixes = prefixes(placement, root);
        view.roots[root as usize] = tries.insert(&mut classes, prefixes);
    }
    (tables.nodes, tables.skips) = (tries.nodes, tries.skips);
    (tables.classes, tables.blocks) = classes.into_tables();
    for (blocks, &class) in view.protocols.iter_mut().zip(&values.protocol) {
        *blocks = tables.classes[class as usize].summary | view.omitted[Field::Protocol as usize];
    }
    view
}

/// The ranges of values that the deciding slots give; a slot that omits the field has all up to `last`.
fn ranges<'p>(
    placement: &'p Placement<'_>,
    field: Field,
    last: u32,
    given: impl Fn(&Oriented<'_>) -> Vec<RangeInclusive<u32>> + 'p,
) -> impl Iterator<Item = (u32, u32, u32)> + 'p {
    placement.deciding(field).flat_map(move |(slot, one)| {
        let ranges = if one.gives(field) { given(one) } else { vec![0..=last] };
        ranges.into_iter().map(|range| (*slot, *range.start(), *range.end()))
    })
}

fn prefixes(placement: &Placement<'_>, root: Root) -> Vec<Prefix> {
    let (field, side, ipv6) = match root {
        Root::Source4 => (Field::Source, 0, false),
        Root::Source6 => (Field::Source, 0, true),
        Root::Destination4 => (Field::Destination, 1, false),
        Root::Destination6 => (Field::Destination, 1, true),
    };
    let mut prefixes = Vec::new();
    for &(slot, one) in placement.deciding(field) {
        if one.gives(field) {
            let networks = one.networks[side].iter().filter(|network| matches!(network, IpNet::V6(_)) == ipv6);
            prefixes.extend(networks.map(|network| prefix(network, slot)));
        } else {
            prefixes.push(Prefix { bits: 0, length: 0, slot });
        }
    }
    prefixes
}

fn prefix(network: &IpNet, slot: u32) -> Prefix {
    let bits = match network {
        IpNet::V4(v4) => u128::from(v4.network().to_bits()) << 96,
        IpNet::V6(v6) => v6.network().to_bits(),
    };
    Prefix { bits, length: network.prefix_len(), slot }
}

fn fill_slots(tables: &mut Tables, placement: &Placement<'_>, filters: &[Filter]) {
    let Some((last, _)) = placement.slots.last() else { return };
    tables.slots = vec![Slot::default(); *last as usize + 1];
    for (slot, one) in &placement.slots {
        let filter = &filters[one.filter];
        let endpoints = filter.to.iter().fold(0, |bits, endpoint| bits | 1 << endpoint);
        let action = match filter.action {
            desired::Action::Mirror => Action { include: endpoints, exclude: 0 },
            desired::Action::Exclude => Action { include: 0, exclude: endpoints },
        };
        tables.slots[*slot as usize] = Slot { action: [action; 2], filter: one.filter as u32, twin: one.twin.into() };
    }
}

/// One row for each distinct set of active slots; row 0 is empty.
fn fill_rows(tables: &mut Tables, view: &mut View, placement: &Placement<'_>, desired: &Desired, hooks: &[Hook]) {
    if !desired.enabled {
        return;
    }
    // hooks with the same filters share a row
    let mut known: BTreeMap<Vec<u32>, u32> = BTreeMap::from([(Vec::new(), 0)]);
    for (index, hook) in hooks.iter().enumerate() {
        let applies = |(slot, one): &(u32, Oriented<'_>)| hook.has(&desired.filters[one.filter]).then_some(*slot);
        let active: Vec<u32> = placement.slots.iter().filter_map(applies).collect();
        view.hooks[index] = active.iter().fold(0, |blocks, &slot| blocks | 1 << block_of(slot));
        view.rows[index] = *known.entry(active).or_insert_with_key(|active| {
            let mut row = Row::zeroed();
            for &slot in active {
                let (word, bit) = position(slot);
                row.blocks[block_of(slot) as usize][word] |= bit;
            }
            tables.rows.push(row);
            tables.rows.len() as u32 - 1
        });
    }
}

/// Why an interface that the file lists has no hook.
pub fn why_left_out(link: &crate::network::Link) -> &'static str {
    if hooks::is_supported(link) { "there are more than 64 interfaces" } else { "its frames have no Ethernet header" }
}
