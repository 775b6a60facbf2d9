//! Input: what each slot stands for, and tables. Output: tables in which it does, changed as little as can be.

use bytemuck::Zeroable;
use traffic_mirror_ebpf::abi::{FIELDS, Field, Root, Skip, View};

use super::definition::{Definition, NO_PORT, PORT_VALUES, PROTOCOL_VALUES, Ranges};
use super::reachable::Reachable;
use super::sets::{Classes, Selected, Sets, SlotSet};
use super::slots::{Slots, deciding};
use super::trie::{Gardener, Planter, Prefix, Tree};
use crate::tables::Tables;

/// Changes classes, blocks, nodes, skips and values of `tables` so that they say what `slots` stand for. Elements
/// that `live` reaches keep their place; what is new takes free ones. Answers the view, without rows.
pub(super) fn build(tables: &mut Tables, live: &Reachable, slots: &Slots, omitted: &[u64; FIELDS]) -> View {
    let mut sets = Sets::new(live);
    let mut direct = |field: Field, values: u32, live: &[u32], given: &dyn Fn(&Definition) -> Option<&Ranges>| {
        let all = vec![(0, values - 1)];
        let mut events = Vec::new();
        for (slot, definition) in deciding(slots, omitted, field) {
            for &(first, last) in given(definition).unwrap_or(&all) {
                events.push((first, true, slot));
                events.push((last + 1, false, slot));
            }
        }
        selected(&mut sets, events, live)
    };
    let protocol = direct(Field::Protocol, PROTOCOL_VALUES, &tables.values.protocol[..], &|d| d.protocol.as_ref());
    let mut port = |side: usize| {
        let (field, table) = match side {
            0 => (Field::SourcePort, &tables.values.source_port),
            _ => (Field::DestinationPort, &tables.values.destination_port),
        };
        let mut live = table.to_vec();
        live.push(tables.values.no_port[side]);
        direct(field, PORT_VALUES, &live, &|d| d.ports[side].as_ref())
    };
    let ports = [port(0), port(1)];
    let trees = Root::ALL.map(|root| {
        let prefixes = prefixes(slots, omitted, root);
        Planter { sets: &mut sets, live: tables, root }.plant(prefixes)
    });
    let classes = sets.assign(tables);
    let roots = write(tables, live, &classes, &protocol, &ports, &trees);
    let mut view = View { omitted: *omitted, roots, ..View::zeroed() };
    for (blocks, &class) in view.protocols.iter_mut().zip(&tables.values.protocol) {
        *blocks = tables.classes[class as usize].summary | omitted[Field::Protocol as usize];
    }
    view
}

fn write(
    tables: &mut Tables,
    live: &Reachable,
    classes: &Classes,
    protocol: &[Selected],
    ports: &[Vec<Selected>; 2],
    trees: &[Tree; 4],
) -> [Skip; 4] {
    let fill = |table: &mut [u32], selected: &[Selected]| {
        table.iter_mut().zip(selected).for_each(|(class, &selected)| *class = classes.of(selected));
    };
    let values = &mut tables.values;
    fill(&mut values.protocol, protocol);
    fill(&mut values.source_port, &ports[0]);
    fill(&mut values.destination_port, &ports[1]);
    values.no_port = [0, 1].map(|side| classes.of(ports[side][NO_PORT as usize]));
    let mut gardener = Gardener::new(tables, live, classes);
    Root::ALL.map(|root| gardener.place(&trees[root as usize], root))
}

/// What each value selects. An event is a value from which on a slot is in the set, or is not; `live` has the classes of
/// all values.
fn selected(sets: &mut Sets<'_>, mut events: Vec<(u32, bool, u32)>, live: &[u32]) -> Vec<Selected> {
    events.sort_unstable();
    let mut events = events.into_iter().peekable();
    let mut set = SlotSet::default();
    let mut selected = sets.select(&set);
    let mut all = Vec::with_capacity(live.len());
    for (value, &class) in (0u32..).zip(live) {
        let mut is_new = false;
        while let Some((_, begins, slot)) = events.next_if(|(at, ..)| *at == value) {
            if begins {
                set.insert(slot)
            } else {
                set.remove(slot)
            }
            is_new = true;
        }
        if is_new {
            selected = sets.select(&set);
        }
        sets.take(selected, 1, || Some(class));
        all.push(selected);
    }
    all
}

fn prefixes(slots: &Slots, omitted: &[u64; FIELDS], root: Root) -> Vec<Prefix> {
    let (field, side, ipv6) = match root {
        Root::Source4 => (Field::Source, 0, false),
        Root::Source6 => (Field::Source, 0, true),
        Root::Destination4 => (Field::Destination, 1, false),
        Root::Destination6 => (Field::Destination, 1, true),
    };
    let mut prefixes = Vec::new();
    for (slot, definition) in deciding(slots, omitted, field) {
        match &definition.networks[side] {
            Some(networks) => prefixes.extend(networks.prefixes(ipv6, slot)),
            None => prefixes.push(Prefix { bits: 0, length: 0, slot }),
        }
    }
    prefixes
}
