//! Input: which slots apply on which hook. Output: a row for each hook, and where the programs find
//! it. A row that is live is shared, never changed.

use std::collections::{BTreeMap, BTreeSet};

use glob::Pattern;
use traffic_mirror_ebpf::abi::{Bank, Row};

use crate::compile::classifier::assign::WantedSlot;
use crate::compile::classifier::reachable::Reachable;
use crate::compile::classifier::slot_set::SlotSet;
use crate::compile::classifier::slots::BySlot;
use crate::compile::hooks;
use crate::compile::hooks::Hook;
use crate::desired::{Desired, Unparsed};
use crate::network;
use crate::tables::Pages;

/// The row without active slots.
const EMPTY_ROW: u32 = 0;

/// Adds the rows that are missing, and puts them into the bank. `None` if the bank has no room for
/// the interfaces.
pub(in crate::compile) fn rows(
    rows: &mut Pages<Row>,
    live: &Reachable,
    wanted: &BySlot<WantedSlot>,
    desired: &Desired,
    hooks: &BTreeMap<u32, Hook>,
    bank: &mut Bank,
) -> Option<()> {
    bank.off = u64::from(!desired.enabled);
    bank.budget_ns = desired.budget.0.as_nanos() as u64;
    bank.skips_unparsed = u64::from(desired.unparsed == Unparsed::Skip);
    bank.rows.fill(EMPTY_ROW);
    bank.hooks.fill(0);
    bank.interfaces = hooks::interfaces(hooks)?;
    let mut known: Vec<(Row, u32)> = live
        .rows
        .iter()
        .map(|row| (rows[row as usize], row))
        .collect();
    let mut free = live.rows.free();
    let patterns: BTreeSet<&Pattern> = desired
        .filters
        .iter()
        .flat_map(|filter| &filter.interface)
        .collect();
    // most hooks are alike for all filters
    let mut alike: BTreeMap<(network::Direction, Vec<bool>), (u64, u32)> = BTreeMap::new();
    for (&index, hook) in hooks.iter().filter(|_| desired.enabled) {
        let matching = patterns
            .iter()
            .map(|pattern| hook.is_called(pattern))
            .collect();
        let (summary, row) = *alike.entry((hook.direction, matching)).or_insert_with(|| {
            let mut set = SlotSet::default();
            let applying = wanted
                .iter()
                .filter(|(_, wanted)| hook.has(&desired.filters[wanted.filter]));
            applying.for_each(|(slot, _)| set.insert(slot));
            let row = set.row();
            let there = known
                .iter()
                .find(|(known, _)| *known == row)
                .map(|(_, id)| *id);
            let id = there.unwrap_or_else(|| {
                let id = free.next().unwrap_or_default();
                rows.grow(id as usize + 1);
                rows.set(id as usize, row);
                known.push((row, id));
                id
            });
            (set.summary(), id)
        });
        bank.hooks[index as usize] = summary;
        bank.rows[index as usize] = row;
    }
    Some(())
}
