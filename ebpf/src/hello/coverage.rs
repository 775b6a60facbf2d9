//! Which bytes of a stream have arrived, in any order and as often as they may.

use core::ops::ControlFlow;

use super::{STREAM_BYTES, Step, Steps};
use crate::bits::lowest_bit;

const WORDS: u32 = STREAM_BYTES / 64;

/// A bit for each of the first [`STREAM_BYTES`] of a stream. All zero: none has arrived.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    words: [u64; WORDS as usize],
}

impl Default for Coverage {
    fn default() -> Self {
        Self { words: [0; _] }
    }
}

impl Coverage {
    /// Forgets all bytes.
    #[inline(always)]
    pub const fn clear(&mut self) {
        self.words = [0; _];
    }

    /// Adds the bytes from `from` up to, and without, `to`; those beyond [`STREAM_BYTES`] do not
    /// count.
    #[inline(always)]
    pub fn add<S: Steps>(&mut self, steps: &S, from: u32, to: u32) {
        let mut add = Add {
            words: &mut self.words,
            from,
            to,
        };
        steps.each(&mut add);
    }

    /// How many bytes from the first on have arrived without a gap.
    #[inline(always)]
    pub fn prefix<S: Steps>(&self, steps: &S) -> u32 {
        let mut prefix = Prefix {
            words: &self.words,
            bytes: STREAM_BYTES,
        };
        steps.each(&mut prefix);
        prefix.bytes
    }
}

/// Sets bits, a word a step.
struct Add<'a> {
    words: &'a mut [u64; WORDS as usize],
    from: u32,
    to: u32,
}

impl Step for Add<'_> {
    const MOST: u32 = WORDS;
    const AT_ONCE: u32 = 4;

    #[inline(always)]
    fn step(&mut self, index: u32) -> ControlFlow<()> {
        let word = self.from / 64 + index;
        let begin = word * 64;
        if begin >= self.to || word >= WORDS {
            return ControlFlow::Break(());
        }
        let low = if index == 0 { self.from % 64 } else { 0 };
        let high = (self.to - begin).min(64);
        let bits = u64::MAX << low & u64::MAX >> (64 - high);
        // not by the comparison above, from which the verifier does not learn it on each kernel
        self.words[(word % WORDS) as usize] |= bits;
        ControlFlow::Continue(())
    }
}

/// Searches the first bit that is not set, a word a step.
struct Prefix<'a> {
    words: &'a [u64; WORDS as usize],
    bytes: u32,
}

impl Step for Prefix<'_> {
    const MOST: u32 = WORDS;
    const AT_ONCE: u32 = 4;

    #[inline(always)]
    fn step(&mut self, index: u32) -> ControlFlow<()> {
        let missing = !self.words[(index % WORDS) as usize];
        if missing == 0 {
            return ControlFlow::Continue(());
        }
        self.bytes = index * 64 + lowest_bit(missing);
        ControlFlow::Break(())
    }
}
