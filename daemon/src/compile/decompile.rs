//! Input: the live tables. Output: what each slot stands for: the inverse of building them. So the kernel is the only
//! truth: nothing about the live filters is kept elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, Entry, FIELDS, Field, Root, Skip};

use super::definition::{
    Definition, NO_PORT, NO_PROTOCOL, Networks, PORT_VALUES, PROTOCOL_VALUES, VLAN_VALUES, aggregated, bits_of,
    canonical, canonical_ranges, length_of, mask,
};
use super::sets::SlotSet;
use super::slots::{Slots, block_of};
use crate::tables::Tables;

/// What the given slots stand for; `None` if the tables contradict each other.
pub(super) fn decompile(tables: &Tables, slots: impl Iterator<Item = u32>) -> Option<Slots> {
    let mut definitions: BTreeMap<u32, Definition> = slots.map(|slot| (slot, Definition::default())).collect();
    let omitted = tables.view().omitted;
    let values = &tables.values;

    let with = |table: &[u32], none: u32| ranges(tables, &[table, &[none]].concat());
    let protocols = with(&values.protocol, values.no_protocol)?;
    let vlans = ranges(tables, &values.vlan[..])?;
    let ports = [with(&values.source_port, values.no_port[0])?, with(&values.destination_port, values.no_port[1])?];
    let mut networks: [BTreeMap<u32, Networks>; 2] = Default::default();
    for root in Root::ALL {
        let (side, family) = match root {
            Root::Source4 => (0, 0),
            Root::Source6 => (0, 1),
            Root::Destination4 => (1, 0),
            Root::Destination6 => (1, 1),
        };
        for (slot, prefixes) in regions(tables, &tables.view().roots[root as usize])? {
            networks[side].entry(slot).or_default().0[family] = aggregated(prefixes);
        }
    }
    let gives = |slot: u32, field: Field| omitted[field as usize] >> block_of(slot) & 1 == 0;
    for (&slot, definition) in &mut definitions {
        let taken = |map: &BTreeMap<u32, Vec<(u32, u32)>>, values| {
            canonical_ranges(map.get(&slot).cloned().unwrap_or_default(), values)
        };
        if gives(slot, Field::Protocol) {
            definition.protocol = taken(&protocols, PROTOCOL_VALUES);
        }
        if gives(slot, Field::Vlan) {
            definition.vlan = taken(&vlans, VLAN_VALUES);
        }
        for (side, field) in [Field::SourcePort, Field::DestinationPort].into_iter().enumerate() {
            if gives(slot, field) {
                definition.ports[side] = taken(&ports[side], PORT_VALUES);
            }
        }
        for (side, field) in [Field::Source, Field::Destination].into_iter().enumerate() {
            if gives(slot, field) {
                definition.networks[side] = canonical(networks[side].get(&slot).cloned().unwrap_or_default());
            }
        }
    }
    Some(definitions.into_iter().map(|(slot, definition)| (slot, Arc::new(definition))).collect())
}
const _: () =
    assert!(FIELDS == 6 && NO_PORT + 1 == PORT_VALUES && NO_PROTOCOL + 1 == PROTOCOL_VALUES && BLOCK_SLOTS == 512);

/// The ranges of values in whose class each slot is.
fn ranges(tables: &Tables, classes: &[u32]) -> Option<BTreeMap<u32, Vec<(u32, u32)>>> {
    let mut ranges: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
    let mut first = 0;
    for run in classes.chunk_by(|a, b| a == b) {
        let last = first + run.len() as u32 - 1;
        for slot in SlotSet::of_class(tables, run[0])?.iter() {
            ranges.entry(slot).or_default().push((first, last));
        }
        first = last + 1;
    }
    Some(ranges)
}

type Prefixes = BTreeMap<u32, Vec<(u128, u8)>>;

/// The prefixes in whose class each slot is.
fn regions(tables: &Tables, root: &Skip) -> Option<Prefixes> {
    let mut found = Prefixes::new();
    let whole = compared(tables, root, 0, &mut found)?;
    for slot in whole.iter() {
        found.entry(slot).or_default().push((0, 0));
    }
    Some(found)
}

/// As [`walk`], for what a skip leads to.
fn compared(tables: &Tables, skip: &Skip, bits: u128, found: &mut Prefixes) -> Option<SlotSet> {
    let length = length_of(skip.mask);
    if length == 0 {
        return walk(tables, Entry::unpack(skip.hit), bits, found);
    }
    // what misses is covered by shorter prefixes only, so the miss set is what covers all
    let miss = walk(tables, Entry::unpack(skip.miss), bits, found)?;
    let mut hit = walk(tables, Entry::unpack(skip.hit), bits_of(skip.expect), found)?;
    miss.iter().for_each(|slot| hit.remove(slot));
    for slot in hit.iter() {
        found.entry(slot).or_default().push((bits_of(skip.expect) & mask(length), length));
    }
    Some(miss)
}

/// Puts the prefixes below `entry` into `found`; answers the slots that all its addresses satisfy.
fn walk(tables: &Tables, entry: Entry, bits: u128, found: &mut Prefixes) -> Option<SlotSet> {
    match entry {
        Entry::Class(class) => SlotSet::of_class(tables, class),
        Entry::Skip(id) => compared(tables, tables.skips.get(id as usize)?, bits, found),
        Entry::Node { byte, id } => {
            let node = tables.nodes.get(id as usize)?;
            let depth = (byte + 1) * 8;
            let children = (0..=255u8).map(|value| {
                let bits = bits | u128::from(value) << (128 - u32::from(depth));
                Some((bits, walk(tables, Entry::unpack(node.child[usize::from(value)]), bits, found)?))
            });
            let children = children.collect::<Option<Vec<_>>>()?;
            let mut whole = children[0].1.clone();
            children.iter().for_each(|(_, set)| whole.intersect(set));
            for (bits, mut set) in children {
                whole.iter().for_each(|slot| set.remove(slot));
                set.iter().for_each(|slot| found.entry(slot).or_default().push((bits, depth)));
            }
            Some(whole)
        }
    }
}
