//! Input: what each slot stands for, and tables. Output: tables in which it does, changed as little as can be.

use bytemuck::Zeroable;
use traffic_mirror_ebpf::abi::{FIELDS, Field, Root, Skip, View};

use super::definition::{Definition, NO_PORT, PORT_VALUES, PROTOCOL_VALUES, Ranges};
use super::reachable::Reachable;
use super::sets::{Classes, Selected, Sets, SlotSet};
use super::slots::{Slots, deciding};
use super::trie::{Gardener, Planter, Prefix, Tree};
use crate::tables::Tables;

/// What the tables are built from, field by field. If it is what the live tables were built from, the field stays.
#[derive(Debug)]
pub(super) struct Inputs {
    /// By field: protocol, source port, destination port.
    events: [Vec<Event>; 3],
    /// By [`Root`].
    prefixes: [Vec<Prefix>; 4],
}

/// A value from which on a slot is in the set, or is not.
type Event = (u32, bool, u32);

impl Inputs {
    fn of(slots: &Slots, omitted: &[u64; FIELDS]) -> Self {
        let port = |field, side: usize| events(slots, omitted, field, PORT_VALUES, |d| d.ports[side].as_ref());
        Self {
            events: [
                events(slots, omitted, Field::Protocol, PROTOCOL_VALUES, |d| d.protocol.as_ref()),
                port(Field::SourcePort, 0),
                port(Field::DestinationPort, 1),
            ],
            prefixes: Root::ALL.map(|root| prefixes(slots, omitted, root)),
        }
    }
}

/// Changes classes, blocks, nodes, skips and values of `tables` so that they say what `slots` stand for. Elements
/// that `live` reaches keep their place; what is new takes free ones. Answers the view, without rows.
pub(super) fn build(
    tables: &mut Tables,
    live: &Reachable,
    built_from: Option<&Inputs>,
    slots: &Slots,
    omitted: &[u64; FIELDS],
) -> (View, Inputs) {
    let inputs = Inputs::of(slots, omitted);
    let mut sets = Sets::new(live);
    let values = &tables.values;
    let with = |table: &[u32; 65_536], none: u32| [&table[..], &[none]].concat();
    let live_values = [
        values.protocol.to_vec(),
        with(&values.source_port, values.no_port[0]),
        with(&values.destination_port, values.no_port[1]),
    ];
    let selected = [0, 1, 2].map(|field| {
        let (events, live) = (&inputs.events[field], &live_values[field]);
        if built_from.is_some_and(|from| from.events[field] == *events) {
            sets.keep(live)
        } else {
            selected(&mut sets, events, live)
        }
    });
    let trees = Root::ALL.map(|root| {
        let prefixes = &inputs.prefixes[root as usize];
        if built_from.is_some_and(|from| from.prefixes[root as usize] == *prefixes) {
            sets.keep(&live.leaves[root as usize]);
            return None;
        }
        Some(Planter { sets: &mut sets, live: tables, root }.plant(prefixes))
    });
    let classes = sets.assign(tables);
    let roots = write(tables, live, &classes, &selected, &trees);
    let mut view = View { omitted: *omitted, roots, ..View::zeroed() };
    for (blocks, &class) in view.protocols.iter_mut().zip(&tables.values.protocol) {
        *blocks = tables.classes[class as usize].summary | omitted[Field::Protocol as usize];
    }
    (view, inputs)
}

fn write(
    tables: &mut Tables,
    live: &Reachable,
    classes: &Classes,
    [protocol, source_port, destination_port]: &[Vec<Selected>; 3],
    trees: &[Option<Tree>; 4],
) -> [Skip; 4] {
    let fill = |table: &mut [u32], selected: &[Selected]| {
        table.iter_mut().zip(selected).for_each(|(class, &selected)| *class = classes.of(selected));
    };
    let values = &mut tables.values;
    fill(&mut values.protocol, protocol);
    fill(&mut values.source_port, source_port);
    fill(&mut values.destination_port, destination_port);
    fill(&mut values.no_port[..1], &source_port[NO_PORT as usize..]);
    fill(&mut values.no_port[1..], &destination_port[NO_PORT as usize..]);
    let same = tables.view().roots;
    let mut gardener = Gardener::new(tables, live, classes);
    Root::ALL.map(|root| match &trees[root as usize] {
        Some(tree) => gardener.place(tree, root),
        None => same[root as usize],
    })
}

fn events(
    slots: &Slots,
    omitted: &[u64; FIELDS],
    field: Field,
    values: u32,
    given: impl Fn(&Definition) -> Option<&Ranges>,
) -> Vec<Event> {
    let all = vec![(0, values - 1)];
    let mut events = Vec::new();
    for (slot, definition) in deciding(slots, omitted, field) {
        for &(first, last) in given(definition).unwrap_or(&all) {
            events.push((first, true, slot));
            events.push((last + 1, false, slot));
        }
    }
    events.sort_unstable();
    events
}

/// What each value selects; `live` has the classes of all values.
fn selected(sets: &mut Sets<'_>, events: &[Event], live: &[u32]) -> Vec<Selected> {
    let mut events = events.iter().copied().peekable();
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
    prefixes.sort_unstable();
    prefixes
}
