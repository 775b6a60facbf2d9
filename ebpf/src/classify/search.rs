//! The slots that match.

use super::lowest_bit;
use crate::abi::{BLOCK_WORDS, Block};

/// The slots that match in one block, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// The block's first slot.
    pub(super) first: u32,
    /// Bit w is set if word w of `matches` is not zero.
    pub(super) words: u32,
    pub(super) matches: Block,
}

impl Search {
    /// Whether there is nothing more to find.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words == 0
    }

    /// All of them, as the bits of the block, until one is taken.
    #[inline(always)]
    #[must_use]
    pub const fn matches(&self) -> &Block {
        &self.matches
    }

    /// Takes the next slot.
    #[inline(always)]
    pub fn next_slot(&mut self) -> Option<u32> {
        if self.words == 0 {
            return None;
        }
        let word = lowest_bit(self.words.into()) as usize % BLOCK_WORDS;
        let bits = self.matches[word];
        let left = bits & bits.wrapping_sub(1);
        self.matches[word] = left;
        if left == 0 {
            self.words &= self.words - 1;
        }
        Some(self.first + word as u32 * 64 + lowest_bit(bits))
    }
}
