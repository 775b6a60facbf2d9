//! Hashes by which equal sets and blocks are found.

use traffic_mirror_ebpf::abi::{Block, Class, EMPTY_BLOCK};

/// The blocks that a class has slots in.
pub(in crate::compile) fn summary_of(class: &Class) -> u64 {
    (0..)
        .zip(&class.blocks)
        .filter(|(_, id)| **id != EMPTY_BLOCK)
        .fold(0, |summary, (number, _)| summary | 1 << number)
}

/// A hash of a set: the exclusive-or of one part for each block. Sets of neighbouring values differ
/// in a block or two, so one hash follows from the other at that cost (Zobrist hashing).
pub(in crate::compile) fn hash_of(class: &Class) -> u64 {
    (0..)
        .zip(&class.blocks)
        .fold(0, |hash, (number, &id)| hash ^ part(number, id))
}

pub(in crate::compile) const fn part(number: u32, id: u32) -> u64 {
    if id == EMPTY_BLOCK {
        0
    } else {
        mix((id as u64) << 6 | number as u64)
    }
}

/// A hash of what a block holds.
pub(in crate::compile) fn hash_of_block(block: &Block) -> u64 {
    block.iter().fold(0, |hash, word| mix(hash ^ word))
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
const fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
