//! Input: which slots apply on which hook. Output: a row for each hook, and where the programs find it. A row that is live is
//! shared, never changed.

use std::collections::BTreeMap;

use traffic_mirror_ebpf::abi::{Row, View};

use super::hooks::Hook;
use super::place::Wanted;
use super::reachable::Reachable;
use super::sets::{SlotSet, grow};
use super::slots::BySlot;
use crate::desired::Desired;

/// The row without active slots.
const EMPTY_ROW: u32 = 0;

/// Adds the rows that are missing, and puts them into the view.
pub(super) fn rows(
    rows: &mut Vec<Row>,
    live: &Reachable,
    wanted: &BySlot<Wanted>,
    desired: &Desired,
    hooks: &BTreeMap<u32, Hook>,
    view: &mut View,
) {
    view.rows.fill(EMPTY_ROW);
    view.hooks.fill(0);
    view.interfaces.fill(0);
    hooks.iter().for_each(|(&index, hook)| view.interfaces[index as usize / 2] = hook.interface);
    let mut known: Vec<(Row, u32)> = live.rows.iter().map(|row| (rows[row as usize], row)).collect();
    let mut free = live.rows.free();
    for (&index, hook) in hooks.iter().filter(|_| desired.enabled) {
        let mut set = SlotSet::default();
        let applying = wanted.iter().filter(|(_, wanted)| hook.has(&desired.filters[wanted.filter]));
        applying.for_each(|(slot, _)| set.insert(slot));
        let row = set.row();
        view.hooks[index as usize] = set.summary();
        let there = known.iter().find(|(known, _)| *known == row).map(|(_, id)| *id);
        view.rows[index as usize] = there.unwrap_or_else(|| {
            let id = free.next().unwrap_or_default();
            grow(rows, id as usize + 1, SlotSet::default().row());
            rows[id as usize] = row;
            known.push((row, id));
            id
        });
    }
}
