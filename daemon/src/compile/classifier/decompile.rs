//! Input: the live tables. Output: what each slot stands for: the inverse of building them. So the
//! kernel is the only truth: nothing about the live filters is kept elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, Class, FIELDS, Field, Root, Skip, TrieEntry};

use crate::compile::classifier::cgroup_set::{CgroupSet, CgroupTerm};
use crate::compile::classifier::definition::{
    Definition, NO_PORT, NO_PROTOCOL, Networks, PORT_VALUES, PROTOCOL_VALUES, Ranges, VLAN_VALUES,
    aggregated, bits_of, canonical, canonical_ranges, length_of, mask,
};
use crate::compile::classifier::name_set::ServerNames;
use crate::compile::classifier::sets::NOTHING;
use crate::compile::classifier::slot_set::changes;
use crate::compile::classifier::slots::{BySlot, Slots, block_of};
use crate::compile::classifier::terms::decompiled;
use crate::tables::Tables;

/// What the given slots stand for; `None` if the tables contradict each other.
pub(in crate::compile) fn decompile(
    tables: &Tables,
    slots: impl Iterator<Item = u32>,
) -> Option<Slots> {
    let mut definitions: BTreeMap<u32, Definition> =
        slots.map(|slot| (slot, Definition::default())).collect();
    let omitted = tables.active_bank().omitted;
    let values = &tables.values;

    let with = |table: &[u32], none: u32| ranges(tables, &[table, &[none]].concat());
    let protocols = with(&values.protocol, values.no_protocol)?;
    let vlans = ranges(tables, &values.vlan[..])?;
    let ports = [
        with(&values.source_port, values.no_port[0])?,
        with(&values.destination_port, values.no_port[1])?,
    ];
    let names = decompiled::<String>(tables)?;
    let cgroups = decompiled::<CgroupTerm>(tables)?;
    let mut networks: [BySlot<Networks>; 2] = Default::default();
    for root in Root::ALL {
        let (side, family) = match root {
            Root::Source4 => (0, 0),
            Root::Source6 => (0, 1),
            Root::Destination4 => (1, 0),
            Root::Destination6 => (1, 1),
        };
        for (slot, prefixes) in
            regions(tables, &tables.active_bank().roots[root as usize])?.into_iter()
        {
            networks[side].entry(slot).0[family] = aggregated(prefixes);
        }
    }
    let gives = |slot: u32, field: Field| omitted[field as usize] >> block_of(slot) & 1 == 0;
    for (&slot, definition) in &mut definitions {
        let taken = |map: &BySlot<Ranges>, values| {
            canonical_ranges(map.get(slot).cloned().unwrap_or_default(), values)
        };
        if gives(slot, Field::Protocol) {
            definition.protocol = taken(&protocols, PROTOCOL_VALUES);
        }
        if gives(slot, Field::Vlan) {
            definition.vlan = taken(&vlans, VLAN_VALUES);
        }
        if gives(slot, Field::ServerName) {
            // one that is nowhere matches no name
            let given = names
                .get(slot)
                .cloned()
                .unwrap_or_else(|| Some(Default::default()));
            definition.server_name = given.map(|(reversed, undecided)| {
                Arc::new(ServerNames {
                    reversed,
                    undecided,
                })
            });
        }
        if gives(slot, Field::Application) {
            let given = cgroups
                .get(slot)
                .cloned()
                .unwrap_or_else(|| Some(Default::default()));
            definition.application =
                given.map(|(cgroups, undecided)| Arc::new(CgroupSet { cgroups, undecided }));
        }
        for (side, field) in [Field::SourcePort, Field::DestinationPort]
            .into_iter()
            .enumerate()
        {
            if gives(slot, field) {
                definition.ports[side] = taken(&ports[side], PORT_VALUES);
            }
        }
        for (side, field) in [Field::Source, Field::Destination].into_iter().enumerate() {
            if gives(slot, field) {
                definition.networks[side] =
                    canonical(networks[side].get(slot).cloned().unwrap_or_default());
            }
        }
    }
    Some(
        definitions
            .into_iter()
            .map(|(slot, definition)| (slot, Arc::new(definition)))
            .collect(),
    )
}
const _: () = assert!(
    FIELDS == 8
        && NO_PORT + 1 == PORT_VALUES
        && NO_PROTOCOL + 1 == PROTOCOL_VALUES
        && BLOCK_SLOTS == 512
);

/// The ranges of values whose class contains each slot.
fn ranges(tables: &Tables, classes: &[u32]) -> Option<BySlot<Ranges>> {
    let mut sweep = Sweep::new(tables);
    let mut first = 0;
    for run in classes.chunk_by(|a, b| a == b) {
        sweep.meet(first, run[0])?;
        first += run.len() as u128;
    }
    let narrow = |(first, last): (u128, u128)| (first as u32, last as u32);
    let found = sweep.end(first)?;
    Some(
        found
            .into_iter()
            .map(|(slot, ranges)| (slot, ranges.into_iter().map(narrow).collect()))
            .collect(),
    )
}

/// Visits the classes of values in ascending order. Only slots that differ between neighbours are
/// visited, so that a wide range costs its two ends.
struct Sweep<'t> {
    tables: &'t Tables,
    /// The last class, and the first of its values.
    last: Option<(u32, u128)>,
    set: Class,
    since: BySlot<u128>,
    found: BySlot<Vec<(u128, u128)>>,
}

impl<'t> Sweep<'t> {
    fn new(tables: &'t Tables) -> Self {
        Self {
            tables,
            last: None,
            set: NOTHING,
            since: BySlot::default(),
            found: BySlot::default(),
        }
    }

    /// From `value` on it is that class. `None` if there is no such class, or if values go back.
    fn meet(&mut self, value: u128, class: u32) -> Option<()> {
        let before = self.last.replace((class, value));
        before.is_none_or(|(_, last)| last < value).then_some(())?;
        if before.is_some_and(|(before, _)| before == class) {
            return Some(());
        }
        self.become_set(value, *self.tables.classes.get(class as usize)?)
    }

    fn become_set(&mut self, value: u128, set: Class) -> Option<()> {
        let before = std::mem::replace(&mut self.set, set);
        let Self {
            tables,
            set,
            since,
            found,
            ..
        } = self;
        changes(tables, &before, set, |slot, begins| {
            if begins {
                since.insert(slot, value);
            } else if let Some(first) = since.remove(slot) {
                found.entry(slot).push((first, value.wrapping_sub(1)));
            }
        })
    }

    /// The ranges of each slot; `value` is behind the last, 0 if that is the highest there is.
    fn end(mut self, value: u128) -> Option<BySlot<Vec<(u128, u128)>>> {
        self.become_set(value, NOTHING)?;
        Some(self.found)
    }
}

/// The prefixes whose class contains each slot.
fn regions(tables: &Tables, root: &Skip) -> Option<BySlot<Vec<(u128, u8)>>> {
    let mut sweep = Sweep::new(tables);
    compared(&mut sweep, root, 0, 0)?;
    let found = sweep.end(0)?.into_iter();
    Some(
        found
            .map(|(slot, ranges)| (slot, ranges.into_iter().flat_map(prefixes).collect()))
            .collect(),
    )
}

/// The prefixes that a range of addresses is made of.
fn prefixes((mut first, last): (u128, u128)) -> Vec<(u128, u8)> {
    let mut prefixes = Vec::new();
    loop {
        let rest = last - first;
        let fits = if rest == u128::MAX {
            128
        } else {
            127 - (rest + 1).leading_zeros()
        };
        let bits = first.trailing_zeros().min(fits);
        prefixes.push((first, (128 - bits) as u8));
        if bits == 128 || rest == (1 << bits) - 1 {
            return prefixes;
        }
        first += 1 << bits;
    }
}

/// Behind a prefix; 0 if that is the highest.
const fn behind(bits: u128, length: u8) -> u128 {
    bits.wrapping_add(mask(length).wrapping_neg())
}

/// As [`walk`], for what a skip leads to.
fn compared(sweep: &mut Sweep<'_>, skip: &Skip, bits: u128, depth: u8) -> Option<()> {
    let length = length_of(skip.mask);
    if length == 0 {
        return walk(sweep, TrieEntry::unpack(skip.hit), bits, depth);
    }
    let first = bits_of(skip.expect) & mask(length);
    if first > bits {
        walk(sweep, TrieEntry::unpack(skip.miss), bits, depth)?;
    }
    walk(sweep, TrieEntry::unpack(skip.hit), first, length)?;
    let behind_hit = behind(first, length);
    if behind_hit == behind(bits, depth) {
        return Some(());
    }
    walk(sweep, TrieEntry::unpack(skip.miss), behind_hit, length)
}

/// Visits the classes below `entry`, whose addresses begin with `bits`, in the order of the
/// addresses.
fn walk(sweep: &mut Sweep<'_>, entry: TrieEntry, bits: u128, depth: u8) -> Option<()> {
    match entry {
        TrieEntry::Class(class) => sweep.meet(bits, class),
        TrieEntry::Skip(id) => {
            let skip = sweep.tables.skips.get(id as usize)?;
            compared(sweep, skip, bits, depth)
        }
        TrieEntry::Node { byte, id } => {
            let node = sweep.tables.nodes.get(id as usize)?;
            let depth = (byte + 1) * 8;
            (0..=255u8).try_for_each(|value| {
                let bits = bits | u128::from(value) << (128 - u32::from(depth));
                walk(
                    sweep,
                    TrieEntry::unpack(node.child[usize::from(value)]),
                    bits,
                    depth,
                )
            })
        }
    }
}
