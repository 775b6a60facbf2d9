//! Names as keyed hashes, from the last byte to the first, so that one pass over a name gives the
//! hash of each suffix, too. Capital letters of ASCII count as small ones (RFC 4343), and a dot at
//! the end does not count.
//!
//! The hash is multilinear, which is strongly universal (Carter and Wegman 1981; Lemire and Kaser
//! 2014): for two different names the difference of their sums contains a byte that differs, times
//! a key that is uniform and independent of all others. That product alone takes at least 2^57
//! values, each as often as any other. So whoever chooses names without knowledge of the keys hits
//! the hash of another name, or of a suffix, with a probability of at most 2^-57 for each pair,
//! however long the search. A generator in place of the keys would not have this proof: one that is
//! linear has collisions that hold for all keys.

use core::ops::ControlFlow;

use super::{Buffer, NAME_MAX_BYTES, Step, Steps};
use crate::bits::mix;

/// Secret numbers, each uniform and independent of the others.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Keys {
    /// Of whole names.
    pub exact: u64,
    /// Of suffixes.
    pub suffix: u64,
    /// Of the last byte of a name, the byte before, and so on.
    pub bytes: [u64; NAME_MAX_BYTES as usize + 1],
}

/// The patterns that names are compared with.
pub trait Names {
    /// The class of the pattern with this hash; 0 if there is none.
    fn find(&mut self, hash: u64) -> u32;
}

/// What a name has led to.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// The hash of the whole name, as of [`exact`].
    pub hash: u64,
    /// The class of the pattern that is this name; else of the longest suffix among the patterns;
    /// else 0.
    pub class: u32,
}

const DOT: u32 = b'.' as u32;

/// The hash of a pattern without a wildcard, of at most [`NAME_MAX_BYTES`].
#[must_use]
pub fn exact(keys: &Keys, name: &[u8]) -> u64 {
    mix(sum(keys, name).wrapping_add(keys.exact))
}

/// The hash of the pattern `*.` with this name behind it, of at most [`NAME_MAX_BYTES`]. It stands
/// for all names that end with a dot and `name`.
#[must_use]
pub fn suffix(keys: &Keys, name: &[u8]) -> u64 {
    mix(sum(keys, name).wrapping_add(keys.suffix))
}

/// The hash of a pattern as it stands in the file: [`suffix`] if it begins with `*.`, else
/// [`exact`].
#[must_use]
pub fn pattern(keys: &Keys, pattern: &[u8]) -> u64 {
    match pattern.strip_prefix(b"*.") {
        Some(name) => suffix(keys, name),
        None => exact(keys, pattern),
    }
}

fn sum(keys: &Keys, name: &[u8]) -> u64 {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let bytes = name.iter().rev().zip(&keys.bytes);
    bytes.fold(0, |sum: u64, (byte, key)| {
        sum.wrapping_add(term(*key, fold(u32::from(*byte))))
    })
}

/// A byte's part of the sum. It is not 0, or a name would have the hash of one with a byte 0
/// before it.
#[inline(always)]
const fn term(key: u64, byte: u32) -> u64 {
    key.wrapping_mul(byte as u64 + 1)
}

/// The small letter for a capital one.
#[inline(always)]
const fn fold(byte: u32) -> u32 {
    byte | ((byte.wrapping_sub(b'A' as u32) < 26) as u32) << 5
}

/// Compares the name of `bytes` bytes at `at`, as [`Parsed`](super::Parsed) gives them, with the
/// patterns.
#[inline(always)]
pub fn look_up<S: Steps, N: Names>(
    steps: &S,
    buffer: &Buffer,
    keys: &Keys,
    names: N,
    (at, bytes): (u16, u16),
) -> Match {
    let (at, end) = (u32::from(at), u32::from(at) + u32::from(bytes));
    let has_dot = u32::from(buffer.u8(end - 1) == DOT);
    let mut walk = Walk {
        buffer,
        keys,
        names,
        sum: 0,
        begin: at,
        at: end - has_dot,
        class: 0,
    };
    steps.each(&mut walk);
    let hash = mix(walk.sum.wrapping_add(keys.exact));
    let found = walk.names.find(hash);
    let class = if found == 0 { walk.class } else { found };
    Match { hash, class }
}

/// The walk from the end of a name to its begin.
struct Walk<'a, N> {
    buffer: &'a Buffer,
    keys: &'a Keys,
    names: N,
    sum: u64,
    begin: u32,
    /// Behind the next byte.
    at: u32,
    /// Of the longest suffix so far.
    class: u32,
}

impl<N: Names> Step for Walk<'_, N> {
    const MOST: u32 = NAME_MAX_BYTES + 1;
    const AT_ONCE: u32 = 4;

    #[inline(always)]
    fn step(&mut self, index: u32) -> ControlFlow<()> {
        if self.at == self.begin {
            return ControlFlow::Break(());
        }
        let at = self.at.wrapping_sub(1);
        self.at = at;
        let byte = fold(self.buffer.u8(at));
        if byte == DOT {
            let hash = mix(self.sum.wrapping_add(self.keys.suffix));
            let found = self.names.find(hash);
            if found != 0 {
                self.class = found;
            }
        }
        let key = self.keys.bytes[index as usize % self.keys.bytes.len()];
        self.sum = self.sum.wrapping_add(term(key, byte));
        ControlFlow::Continue(())
    }
}
