//! A set of slots as blocks of bits: this sets, clears and reads the bit that stands for a slot.

use bytemuck::Zeroable;
use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, BLOCK_WORDS, Block, Class, EMPTY_BLOCK, Row};

use crate::compile::classifier::slots::block_of;
use crate::tables::Tables;

/// A set of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::compile) struct SlotSet(Box<Row>);

impl Default for SlotSet {
    fn default() -> Self {
        Self(Box::new(Row::zeroed()))
    }
}

impl SlotSet {
    /// The slots of a row.
    pub(in crate::compile) fn of_row(row: &Row) -> Self {
        Self(Box::new(*row))
    }

    /// As a row.
    pub(in crate::compile) fn row(&self) -> Row {
        *self.0
    }

    /// What it holds of a block.
    pub(in crate::compile) fn block(&self, number: u32) -> &Block {
        &self.0.blocks[number as usize]
    }

    pub(in crate::compile) fn insert(&mut self, slot: u32) {
        self.change(slot, true);
    }

    /// Adds a slot, or removes it; returns the number of its block.
    pub(in crate::compile) fn change(&mut self, slot: u32, is_in: bool) -> u32 {
        let number = block_of(slot);
        change(&mut self.0.blocks[number as usize], slot, is_in);
        number
    }

    pub(in crate::compile) fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.0.blocks.iter().flatten();
        (0u32..)
            .step_by(64)
            .zip(words)
            .flat_map(|(first, &word)| bits(word).map(move |bit| first + bit))
    }

    /// The blocks that it has slots in, as bits.
    pub(in crate::compile) fn summary(&self) -> u64 {
        let blocks = (0..)
            .zip(&self.0.blocks)
            .filter(|(_, block)| **block != Block::default());
        blocks.fold(0, |summary, (number, _)| summary | 1 << number)
    }
}

/// Calls the closure for each slot that is in exactly one of two classes, with whether it is in the
/// other one. `None` if the tables have no such blocks.
pub(in crate::compile) fn changes(
    tables: &Tables,
    before: &Class,
    after: &Class,
    mut changed: impl FnMut(u32, bool),
) -> Option<()> {
    for (number, (one, other)) in (0u32..).zip(before.blocks.iter().zip(&after.blocks)) {
        if one == other {
            continue;
        }
        let (one, other) = (block(tables, *one)?, block(tables, *other)?);
        for (word, (before, after)) in (number * BLOCK_WORDS as u32..).zip(one.iter().zip(other)) {
            bits(before ^ after).for_each(|bit| changed(word * 64 + bit, after >> bit & 1 != 0));
        }
    }
    Some(())
}

/// The content of a block; the empty block is empty whatever another process has written there.
fn block(tables: &Tables, id: u32) -> Option<&Block> {
    const NONE: Block = [0; BLOCK_WORDS];
    if id == EMPTY_BLOCK {
        Some(&NONE)
    } else {
        tables.blocks.get(id as usize)
    }
}

/// Numbers of the bits that are set, ascending.
pub(in crate::compile) fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

/// Adds a slot to its block, or removes it.
pub(in crate::compile) fn change(block: &mut Block, slot: u32, is_in: bool) {
    let slot = slot as usize % BLOCK_SLOTS;
    let (word, bit) = (&mut block[slot / 64], 1 << (slot % 64));
    *word = if is_in { *word | bit } else { *word & !bit };
}
