//! What tables are built from, and what differs between two of them.

use std::sync::Arc;

use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, FIELDS, Field, MAX_SLOTS};

use crate::compile::classifier::definition::Definition;
use crate::compile::classifier::slot_set::bits;
use crate::compile::classifier::slots::{Slots, block_of};

/// What tables are built from.
#[derive(Debug)]
pub(in crate::compile) struct Source {
    pub slots: Slots,
    pub omitted: [u64; FIELDS],
}

/// What differs between what live tables were built from and what is wanted.
pub(in crate::compile) struct SourceDifference<'b> {
    pub live: &'b Source,
    pub want: &'b Source,
    pub slots: Vec<u32>,
}

impl<'b> SourceDifference<'b> {
    pub(in crate::compile) fn between(live: &'b Source, want: &'b Source) -> Self {
        let same = |slot| match (live.slots.get(slot), want.slots.get(slot)) {
            (Some(live), Some(want)) => Arc::ptr_eq(live, want) || live == want,
            (None, None) => true,
            _ => false,
        };
        Self {
            live,
            want,
            slots: (0..MAX_SLOTS as u32).filter(|&slot| !same(slot)).collect(),
        }
    }

    /// The slots that may have other values of a field than before, ascending.
    pub(in crate::compile) fn of(&self, field: Field) -> Vec<u32> {
        let mut slots = self.slots.clone();
        // of a block that begins or ends to give the field, each slot does
        for block in bits(self.live.omitted[field as usize] ^ self.want.omitted[field as usize]) {
            slots.extend(block * BLOCK_SLOTS as u32..(block + 1) * BLOCK_SLOTS as u32);
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Whether a field of the tables stays as it is; `equal` compares what two slots give of it.
    pub(in crate::compile) fn spares(
        &self,
        field: Field,
        equal: impl Fn(&Definition, &Definition) -> bool,
    ) -> bool {
        let omitted = self.want.omitted[field as usize];
        let same = |&slot: &u32| match (self.live.slots.get(slot), self.want.slots.get(slot)) {
            (Some(live), Some(want)) => equal(live, want),
            _ => false,
        };
        omitted == self.live.omitted[field as usize]
            && self
                .slots
                .iter()
                .filter(|&&slot| omitted >> block_of(slot) & 1 == 0)
                .all(same)
    }
}
