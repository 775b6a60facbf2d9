//! Input: what each slot stands for, and tables. Output: tables in which it does, changed as little
//! as can be.

use std::sync::Arc;

use bytemuck::Zeroable;
use traffic_mirror_ebpf::abi::{Bank, Field, Root, Skip, Values};

use crate::compile::classifier::cgroup_set::CgroupTerm;
use crate::compile::classifier::definition::{Definition, NO_PORT, NO_PROTOCOL, mask};
use crate::compile::classifier::direct::{Direct, PORTS, PROTOCOL, VLAN};
use crate::compile::classifier::reachable::Reachable;
use crate::compile::classifier::regions::Regions;
use crate::compile::classifier::room::Room;
use crate::compile::classifier::sets::{Assigned, Selected, Sets};
use crate::compile::classifier::slots::{block_of, deciding};
use crate::compile::classifier::source::{Source, SourceDifference};
use crate::compile::classifier::terms;
use crate::compile::classifier::trie::{Prefix, Tree, TrieBuilder, TrieWriter};
use crate::tables::Tables;

/// Changes classes, blocks, nodes, skips and values of `tables` to the wanted meaning. Elements
/// that `in_use` reaches in the `live` tables keep their place; new ones get free places. A field
/// that does not differ from `built_from`, if that is known, is not visited. `active_blocks` are
/// the blocks that have active slots, as bits. Returns the bank, without rows; `None` if there is
/// no room for the new elements.
pub(in crate::compile) fn build(
    tables: &mut Tables,
    live: &Tables,
    in_use: &Reachable,
    built_from: Option<&Source>,
    want: &Source,
    active_blocks: u64,
    room: Room,
) -> Option<Bank> {
    let difference = built_from.map(|built_from| SourceDifference::between(built_from, want));
    let spared = |field, equal: &dyn Fn(&Definition, &Definition) -> bool| {
        difference
            .as_ref()
            .is_some_and(|difference| difference.spares(field, equal))
    };
    let mut sets = Sets::new(live, in_use, &mut tables.blocks, room);
    let values = &live.values;
    let mut direct = |direct: &Direct, live: &[u32]| {
        if spared(direct.field, &|a, b| (direct.given)(a) == (direct.given)(b)) {
            sets.keep(live)
        } else {
            direct.selected(&mut sets, difference.as_ref(), want, live)
        }
    };
    let with = |table: &[u32], none: u32| [table, &[none]].concat();
    let selected = [
        direct(&PROTOCOL, &with(&values.protocol, values.no_protocol)),
        direct(&PORTS[0], &with(&values.source_port, values.no_port[0])),
        direct(
            &PORTS[1],
            &with(&values.destination_port, values.no_port[1]),
        ),
        direct(&VLAN, &values.vlan[..]),
    ];
    let names = terms::selected::<String>(&mut sets, want, live);
    let cgroups = terms::selected::<CgroupTerm>(&mut sets, want, live);
    let trees = Root::ALL.map(|root| {
        let (field, ..) = field_of(root);
        if spared(field, &|a, b| {
            given_networks(a, root) == given_networks(b, root)
        }) {
            in_use.leaves[root as usize]
                .iter()
                .for_each(|leaf| sets.stays(leaf.class));
            return None;
        }
        let changed = difference
            .as_ref()
            .map(|difference| changed(difference, root));
        Some(
            TrieBuilder {
                sets: &mut sets,
                live,
                in_use,
                root,
                changed,
            }
            .build(&prefixes(want, root)),
        )
    });
    // of a block that is in use and comes to give a field each slot gets all values of it, the
    // active ones, too
    let omitted = live.active_bank().omitted.iter().zip(&want.omitted);
    let is_wider =
        omitted.fold(0, |blocks, (live, want)| blocks | live & !want) & active_blocks != 0;
    let classes = sets.assign(is_wider)?;
    classes.write(tables);
    let roots = write(tables, in_use, &classes, &selected, &trees);
    let names_mask = names.write(tables, live, &classes)?;
    let cgroups_mask = cgroups.write(tables, live, &classes)?;
    let omitted = |field: Field| want.omitted[field as usize];
    let mut bank = Bank {
        omitted: want.omitted,
        roots,
        names_mask,
        cgroups_mask,
        learned: !omitted(Field::ServerName) | !omitted(Field::Application),
        ..Bank::zeroed()
    };
    for (blocks, &class) in bank.protocols.iter_mut().zip(&tables.values.protocol) {
        *blocks = tables.summaries[class as usize] | want.omitted[Field::Protocol as usize];
    }
    Some(bank)
}

fn write(
    tables: &mut Tables,
    live: &Reachable,
    classes: &Assigned,
    [protocol, source_port, destination_port, vlan]: &[Vec<Selected>; 4],
    trees: &[Option<Tree>; 4],
) -> [Skip; 4] {
    type Part = fn(&mut Values) -> &mut [u32];
    let selected: [(Part, &[Selected]); 7] = [
        (|values| &mut values.protocol, protocol),
        (
            |values| std::slice::from_mut(&mut values.no_protocol),
            &protocol[NO_PROTOCOL as usize..],
        ),
        (|values| &mut values.vlan, vlan),
        (|values| &mut values.source_port, source_port),
        (|values| &mut values.destination_port, destination_port),
        (
            |values| &mut values.no_port[..1],
            &source_port[NO_PORT as usize..],
        ),
        (
            |values| &mut values.no_port[1..],
            &destination_port[NO_PORT as usize..],
        ),
    ];
    let fill = |values: &mut Values| {
        for (table, selected) in selected {
            table(values)
                .iter_mut()
                .zip(selected)
                .for_each(|(class, &selected)| *class = classes.of(selected));
        }
    };
    let mut values = tables.values.clone();
    fill(Arc::make_mut(&mut values));
    if bytemuck::bytes_of(&*values) != bytemuck::bytes_of(&*tables.values) {
        tables.values = values;
    }
    let same = tables.active_bank().roots;
    let mut writer = TrieWriter::new(tables, live, classes);
    Root::ALL.map(|root| match &trees[root as usize] {
        Some(tree) => writer.place(tree, root),
        None => same[root as usize],
    })
}

/// What a trie is about: the field, its side, the family.
const fn field_of(root: Root) -> (Field, usize, usize) {
    match root {
        Root::Source4 => (Field::Source, 0, 0),
        Root::Source6 => (Field::Source, 0, 1),
        Root::Destination4 => (Field::Destination, 1, 0),
        Root::Destination6 => (Field::Destination, 1, 1),
    }
}

/// The prefixes of a family that a slot gives; all addresses if it gives none of either.
fn given_networks(definition: &Definition, root: Root) -> &[(u128, u8)] {
    const ALL: &[(u128, u8)] = &[(0, 0)];
    let (_, side, family) = field_of(root);
    definition.networks[side]
        .as_ref()
        .map_or(ALL, |networks| &networks.0[family])
}

/// The addresses for which the selection may change.
fn changed(difference: &SourceDifference<'_>, root: Root) -> Regions {
    let (field, ..) = field_of(root);
    let given = |source: &Source, slot: u32| -> Vec<(u128, u8)> {
        let is_omitted = source.omitted[field as usize] >> block_of(slot) & 1 != 0;
        let definition = source.slots.get(slot).filter(|_| !is_omitted);
        definition.map_or_else(Vec::new, |definition| {
            given_networks(definition, root).to_vec()
        })
    };
    let mut regions = Vec::new();
    for slot in difference.of(field) {
        let [before, after] = [difference.live, difference.want].map(|source| given(source, slot));
        for (these, those) in [(&before, &after), (&after, &before)] {
            // both are sorted
            let differing = these
                .iter()
                .filter(|prefix| those.binary_search(prefix).is_err());
            regions.extend(differing.map(|&(bits, length)| (bits, bits | !mask(length))));
        }
    }
    Regions::new(regions)
}

fn prefixes(want: &Source, root: Root) -> Vec<Prefix> {
    let (field, ..) = field_of(root);
    let mut prefixes = Vec::new();
    for (slot, definition) in deciding(&want.slots, &want.omitted, field) {
        let given = given_networks(definition, root).iter();
        prefixes.extend(given.map(|&(bits, length)| Prefix { bits, length, slot }));
    }
    prefixes.sort_unstable();
    prefixes
}
