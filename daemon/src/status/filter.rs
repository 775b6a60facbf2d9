//! Input: the live tables. Output: the filters, with what became of each.

use std::collections::BTreeSet;

use traffic_mirror_ebpf::abi::{self, BLOCK_SLOTS, Row, Slot};

use super::FilterStatus;
use super::named::{sorted, used};
use crate::kernel::{Generation, KernelError};
use crate::tables::elements;
use crate::tables::{Table, names};

/// The state of a filter that matches nothing for want of the addresses of its DNS names.
pub(super) const NO_ADDRESS: &str = "no-address";

pub(super) fn filters(
    generation: &Generation,
    bank: &abi::Bank,
) -> Result<Vec<FilterStatus>, KernelError> {
    let named: Vec<abi::Name> = elements(&generation.read(Table::Filters)?).collect();
    let rows: Vec<Row> = elements(&generation.read(Table::Rows)?).collect();
    let slots: Vec<Slot> = elements(&generation.read(Table::Slots)?).collect();
    let live: BTreeSet<u32> = bank.rows.iter().copied().collect();
    let is_active = |slot: usize| {
        let (block, bit) = (slot / BLOCK_SLOTS, slot % BLOCK_SLOTS);
        live.iter()
            .any(|&row| rows[row as usize].blocks[block][bit / 64] >> (bit % 64) & 1 != 0)
    };
    let active: BTreeSet<u32> = slots
        .iter()
        .enumerate()
        .filter(|(slot, _)| is_active(*slot))
        .map(|(_, slot)| slot.filter)
        .collect();
    let with = |flag: u32| -> BTreeSet<u32> {
        let slots = slots.iter().filter(|slot| slot.flags & flag != 0);
        slots.map(|slot| slot.filter).collect()
    };
    let (enabled, nameless) = (with(Slot::USED), with(Slot::NO_ADDRESS));
    let state = |index: &u32| match (active.contains(index), enabled.contains(index)) {
        (true, _) if nameless.contains(index) => NO_ADDRESS,
        (true, _) => "active",
        (false, false) => "disabled",
        (false, true) if bank.off != 0 => "mirroring-off",
        (false, true) => "no-interface",
    };
    let stats = generation.filter_stats(used(&named))?;
    let filter = |(index, name): (u32, &str)| FilterStatus {
        name: name.to_owned(),
        active: state(&index) == "active",
        state: state(&index),
        packets: stats[index as usize]
            .iter()
            .map(|cpu| cpu.matched.packets)
            .sum(),
        bytes: stats[index as usize]
            .iter()
            .map(|cpu| cpu.matched.bytes)
            .sum(),
        rate: None,
    };
    Ok(sorted(names(&named).map(filter), |one| one.name.clone()))
}

/// Why no packet can match, if none can.
pub(super) fn idle(filters: &[FilterStatus]) -> Option<&'static str> {
    let has = |state: &str| filters.iter().any(|filter| filter.state == state);
    if filters.is_empty() {
        Some("the file has no filters")
    } else if has("active") {
        None
    } else if has(NO_ADDRESS) {
        Some("no DNS name of an enabled filter has an address")
    } else if has("mirroring-off") {
        Some("`enabled` of the file is false")
    } else if has("no-interface") {
        Some("no interface of an enabled filter is mirrored")
    } else {
        Some("`enabled` of each filter is false")
    }
}

impl FilterStatus {
    /// Its state for people.
    pub(super) fn words(&self) -> String {
        match self.state {
            "mirroring-off" => "inactive: mirroring is off".to_owned(),
            "no-interface" => "inactive: no interface".to_owned(),
            NO_ADDRESS => "inactive: no DNS name has an address".to_owned(),
            state => state.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_why_nothing_can_match() {
        for (states, why) in [
            (&[][..], Some("the file has no filters")),
            (&["disabled", "active"], None),
            (
                &["disabled", "mirroring-off"],
                Some("`enabled` of the file is false"),
            ),
            (
                &["disabled", "no-interface"],
                Some("no interface of an enabled filter is mirrored"),
            ),
            (
                &["no-interface", "no-address"],
                Some("no DNS name of an enabled filter has an address"),
            ),
            (&["disabled"], Some("`enabled` of each filter is false")),
        ] {
            let filter = |&state: &&'static str| FilterStatus {
                name: "web".to_owned(),
                active: state == "active",
                state,
                packets: 0,
                bytes: 0,
                rate: None,
            };
            let filters: Vec<FilterStatus> = states.iter().map(filter).collect();
            assert_eq!(idle(&filters), why, "{states:?}");
        }
    }
}
