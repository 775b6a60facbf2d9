//! Input: the definition of each slot, before and after. Output: the selection of each value of a
//! field whose values have a table each.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use traffic_mirror_ebpf::abi::Field;

use crate::compile::classifier::definition::{
    Definition, PORT_VALUES, PROTOCOL_VALUES, Ranges, VLAN_VALUES,
};
use crate::compile::classifier::sets::{Cursor, Selected, Sets};
use crate::compile::classifier::slots::{block_of, deciding};
use crate::compile::classifier::source::{Source, SourceDifference};

/// A field whose values have a table each.
pub(in crate::compile) struct Direct {
    pub field: Field,
    values: u32,
    pub given: fn(&Definition) -> Option<&Ranges>,
}

pub(in crate::compile) const PROTOCOL: Direct = Direct {
    field: Field::Protocol,
    values: PROTOCOL_VALUES,
    given: |d| d.protocol.as_ref(),
};
pub(in crate::compile) const VLAN: Direct = Direct {
    field: Field::Vlan,
    values: VLAN_VALUES,
    given: |d| d.vlan.as_ref(),
};
pub(in crate::compile) const PORTS: [Direct; 2] = [
    Direct {
        field: Field::SourcePort,
        values: PORT_VALUES,
        given: |d| d.ports[0].as_ref(),
    },
    Direct {
        field: Field::DestinationPort,
        values: PORT_VALUES,
        given: |d| d.ports[1].as_ref(),
    },
];

/// Up to this many slots may differ for their values to be visited one by one.
const MOST_CHANGED: usize = 64;

/// A slot that is added (true) or removed.
type SlotChange = (u32, bool);
/// By the value from which on they apply, until the next.
type SlotChanges = BTreeMap<u32, Vec<SlotChange>>;
/// A value from which on a slot is in the set, or is not.
type Event = (u32, bool, u32);

impl Direct {
    /// What each value selects; `live` has the classes of all values.
    pub(in crate::compile) fn selected(
        &self,
        sets: &mut Sets<'_>,
        difference: Option<&SourceDifference<'_>>,
        want: &Source,
        live: &[u32],
    ) -> Vec<Selected> {
        let changed = difference.and_then(|difference| self.changed(difference));
        match changed {
            Some(changed) => changed_only(sets, &changed, live),
            None => anew(sets, &self.events(want), live),
        }
    }

    /// The ranges that a slot has in the field; none if the field does not decide about it.
    fn ranges<'b>(&self, source: &'b Source, slot: u32, all: &'b [(u32, u32)]) -> &'b [(u32, u32)] {
        let is_omitted = source.omitted[self.field as usize] >> block_of(slot) & 1 != 0;
        let definition = source.slots.get(slot).filter(|_| !is_omitted);
        definition.map_or(&[], |definition| {
            (self.given)(definition).map_or(all, |ranges| ranges)
        })
    }

    fn all(&self) -> [(u32, u32); 1] {
        [(0, self.values - 1)]
    }

    fn events(&self, want: &Source) -> Vec<Event> {
        let all = self.all();
        let mut events = Vec::new();
        for (slot, _) in deciding(&want.slots, &want.omitted, self.field) {
            for &(first, last) in self.ranges(want, slot, &all) {
                events.push((first, true, slot));
                events.push((last + 1, false, slot));
            }
        }
        events.sort_unstable();
        events
    }

    /// What is to be changed; `None` if it is too much.
    fn changed(&self, difference: &SourceDifference<'_>) -> Option<SlotChanges> {
        let SourceDifference { live, want, .. } = difference;
        let all = self.all();
        let mut changed = difference.of(self.field);
        changed.retain(|&slot| self.ranges(live, slot, &all) != self.ranges(want, slot, &all));
        if changed.len() > MOST_CHANGED {
            return None;
        }
        let mut begins: SlotChanges = BTreeMap::from([(0, Vec::new())]);
        for &slot in &changed {
            let (before, after) = (self.ranges(live, slot, &all), self.ranges(want, slot, &all));
            for &(first, last) in before.iter().chain(after) {
                begins.entry(first).or_default();
                begins.entry(last + 1).or_default();
            }
        }
        let is_in = |ranges: &[(u32, u32)], value: u32| {
            let next = ranges.partition_point(|&(first, _)| first <= value);
            next > 0 && value <= ranges[next - 1].1
        };
        for (&value, patch) in &mut begins {
            for &slot in &changed {
                let before = is_in(self.ranges(live, slot, &all), value);
                let after = is_in(self.ranges(want, slot, &all), value);
                if before != after {
                    patch.push((slot, after));
                }
            }
        }
        Some(begins)
    }
}

/// The selections of values without an earlier state.
fn anew(sets: &mut Sets<'_>, mut events: &[Event], live: &[u32]) -> Vec<Selected> {
    let mut all = Vec::with_capacity(live.len());
    let mut cursor = Cursor::new();
    while all.len() < live.len() {
        let first = all.len() as u32;
        let here = events.iter().take_while(|(at, ..)| *at == first).count();
        events[..here]
            .iter()
            .for_each(|&(_, begins, slot)| cursor.change(slot, begins));
        events = &events[here..];
        let end = events.first().map_or(live.len(), |(at, ..)| *at as usize);
        let selected = sets.select(&mut cursor);
        for same in live[first as usize..end].chunk_by(|a, b| a == b) {
            sets.take(selected, same.len() as u32, || Some(same[0]));
        }
        all.resize(end, selected);
    }
    all
}

/// The selections of values that have an earlier state, except for some slots.
fn changed_only(sets: &mut Sets<'_>, changed: &SlotChanges, live: &[u32]) -> Vec<Selected> {
    let mut all = Vec::with_capacity(live.len());
    let ends = changed
        .keys()
        .skip(1)
        .map(|&end| (end as usize).min(live.len()))
        .chain([live.len()]);
    let mut known: HashMap<(u32, &[SlotChange]), Selected> = HashMap::new();
    for (patch, end) in changed.values().zip(ends) {
        for same in live[all.len()..end].chunk_by(|a, b| a == b) {
            let class = same[0];
            let selected = if patch.is_empty() {
                sets.keep_one(class)
            } else {
                *known
                    .entry((class, patch))
                    .or_insert_with(|| sets.patched(class, patch))
            };
            sets.take(selected, same.len() as u32, || Some(class));
            all.resize(all.len() + same.len(), selected);
        }
    }
    all
}
