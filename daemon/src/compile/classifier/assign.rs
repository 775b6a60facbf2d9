//! Input: the filters, the live tables and their meaning. Output: for each slot the filter and its
//! orientation (as written or swapped).

use std::collections::BTreeSet;
use std::sync::Arc;

use traffic_mirror_ebpf::abi::Slot;

use crate::cgroup::Applications;
use crate::compile::classifier::definition::{Definition, Definitions};
use crate::compile::classifier::slot_set::SlotSet;
use crate::compile::classifier::slots::{BySlot, Slots, allocate, blocks};
use crate::compile::names::Names;
use crate::desired::Desired;
use crate::tables::Tables;

/// One slot of a filter.
#[derive(Debug, Clone)]
pub(in crate::compile) struct WantedSlot {
    pub definition: Arc<Definition>,
    /// Position of the filter in `Desired`.
    pub filter: usize,
    /// The filter has two slots.
    pub is_reverse: bool,
}

/// Which slot stands for what.
#[derive(Debug)]
pub(in crate::compile) struct Assignment {
    /// What is wanted, by slot.
    pub slots: BySlot<WantedSlot>,
    /// The wanted and the active slots.
    pub union: Slots,
    /// Blocks in which something stands already.
    pub active_blocks: u64,
}

impl Assignment {
    /// A live slot with the same filter and orientation stays. `known` is the meaning of the live
    /// slots. `None` if there are not enough slots.
    pub(in crate::compile) fn new(
        desired: &Desired,
        applications: &Arc<Applications>,
        filters: &Names,
        definitions: &mut Definitions,
        live: &Tables,
        known: &Slots,
    ) -> Option<Self> {
        let mut there: Vec<(u32, u32)> = allocated(live)
            .map(|(number, slot)| (slot.filter, number))
            .collect();
        there.sort_unstable();
        let mut slots = BySlot::default();
        let mut new = Vec::new();
        let ways = desired
            .filters
            .iter()
            .zip(definitions.of(&desired.filters, applications))
            .enumerate();
        for (filter, (_, ways)) in ways.filter(|(_, (filter, _))| filter.enabled) {
            let is_reverse = ways.len() > 1;
            let place = filters.index_of(filter);
            let first = there.partition_point(|(filter, _)| *filter < place);
            let there = || {
                there[first..]
                    .iter()
                    .take_while(|(filter, _)| *filter == place)
                    .map(|(_, slot)| *slot)
            };
            for definition in ways.iter() {
                let same =
                    |known: &Arc<Definition>| Arc::ptr_eq(known, definition) || known == definition;
                let stays =
                    there().find(|&slot| !slots.has(slot) && known.get(slot).is_some_and(same));
                let wanted = WantedSlot {
                    definition: definition.clone(),
                    filter,
                    is_reverse,
                };
                match stays {
                    Some(slot) => slots.insert(slot, wanted),
                    None => new.push(wanted),
                }
            }
        }
        let mut union: Slots = slots
            .iter()
            .map(|(slot, wanted)| (slot, wanted.definition.clone()))
            .collect();
        for slot in active(live)?.iter().filter(|&slot| !slots.has(slot)) {
            if let Some(definition) = known.get(slot) {
                union.insert(slot, definition.clone());
            }
        }
        let active_blocks = blocks(union.slots());
        // alike beside alike: they share words
        let field_set = |wanted: &WantedSlot| wanted.definition.field_set();
        new.sort_unstable_by(|a, b| {
            (field_set(a), &a.definition).cmp(&(field_set(b), &b.definition))
        });
        let found = allocate(
            &union,
            new.iter().map(|wanted| &*wanted.definition).collect(),
        )?;
        for (slot, wanted) in found.into_iter().zip(new) {
            union.insert(slot, wanted.definition.clone());
            slots.insert(slot, wanted);
        }
        Some(Self {
            slots,
            union,
            active_blocks,
        })
    }
}

/// The slots that stand for something, active or not.
pub(in crate::compile) fn known(live: &Tables) -> Option<BTreeSet<u32>> {
    let allocated = allocated(live).map(|(number, _)| number);
    Some(allocated.chain(active(live)?.iter()).collect())
}

/// The slots that belong to a filter, active or not.
pub(in crate::compile) fn allocated(live: &Tables) -> impl Iterator<Item = (u32, &Slot)> {
    (0..)
        .zip(live.slots.iter())
        .filter(|(_, slot)| slot.flags & Slot::USED != 0)
}

/// The slots that are active on some hook.
fn active(live: &Tables) -> Option<SlotSet> {
    let rows: BTreeSet<u32> = live.active_bank().rows.iter().copied().collect();
    let mut active = SlotSet::default();
    for row in rows {
        SlotSet::of_row(live.rows.get(row as usize)?)
            .iter()
            .for_each(|slot| active.insert(slot));
    }
    Some(active)
}
