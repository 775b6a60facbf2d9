//! Input: a packet and the tables. Output: the slots of the filters that match it (Aggregated Bit
//! Vectors: Baboescu and Varghese, SIGCOMM 2001). Must not know: maps; it reads them through
//! [`Tables`], so that the same code runs in the kernel and in tests.

mod address;
mod candidates;
mod search;

use crate::abi::{BLOCKS, Bank, Block, Class, Interfaces, Node, Row, Skip, Values};

pub use address::class_of;
pub use candidates::Candidates;
pub use search::Search;

/// Read access to the tables. `None` means an index beyond the table: the tables contradict each
/// other.
pub trait Tables {
    /// The one element of `VALUES`.
    fn values(&self) -> Option<&Values>;
    /// An element of `SUMMARIES`.
    fn summary(&self, class: u32) -> Option<&u64>;
    /// An element of `CLASSES`.
    fn class(&self, id: u32) -> Option<&Class>;
    /// An element of `BLOCKS`.
    fn block(&self, id: u32) -> Option<&Block>;
    /// An element of `NODES`.
    fn node(&self, id: u32) -> Option<&Node>;
    /// An element of `SKIPS`.
    fn skip(&self, id: u32) -> Option<&Skip>;
    /// An element of `ROWS`.
    fn row(&self, id: u32) -> Option<&Row>;
}

/// The hook of one direction of an interface; `None` if it is not monitored.
#[inline(always)]
#[must_use]
pub fn hook_of(active: &Bank, interface: u32, egress: bool) -> Option<usize> {
    Some(hook_at(active.interfaces.find(interface)?, egress))
}

/// The hook of one direction of the interface at a place; flags of the place do not matter.
#[inline(always)]
#[must_use]
pub const fn hook_at(place: u32, egress: bool) -> usize {
    2 * (place & Interfaces::PLACE) as usize + egress as usize
}

/// The slots in a block that a class holds.
#[inline(always)]
fn set_of<T: Tables>(tables: &T, class: u32, block: u32) -> Result<&Block, OutOfTable> {
    let class = tables.class(class).ok_or(OutOfTable)?;
    tables
        .block(class.blocks[block as usize % BLOCKS])
        .ok_or(OutOfTable)
}

/// Number of the lowest bit that is set, below 64; `bits` must not be 0. BPF has no instruction for
/// it: a de Bruijn sequence and a table (Leiserson, Prokop and Randall, 1998).
#[inline(always)]
#[must_use]
pub fn lowest_bit(bits: u64) -> u32 {
    const SEQUENCE: u64 = 0x03f7_9d71_b4cb_0a89;
    // With the plain positions the compiler sees what the table computes and drops the bound that
    // the verifier needs.
    const OFFSET: u8 = 64;
    static POSITION: [u8; 64] = {
        let mut table = [0; 64];
        let mut i = 0;
        while i < 64 {
            table[((SEQUENCE << i) >> 58) as usize] = OFFSET | i as u8;
            i += 1;
        }
        table
    };
    let index = bits.isolate_lowest_one().wrapping_mul(SEQUENCE) >> 58;
    u32::from(POSITION[index as usize]) & 63
}

/// A table pointed beyond another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfTable;

#[cfg(test)]
mod tests;
