//! Input: a packet and the tables. Output: the slots of the filters that match it (Aggregated Bit
//! Vectors: Baboescu and Varghese, SIGCOMM 2001). Must not know: maps; it reads them through
//! [`Tables`], so that the same code runs in the kernel and in tests.

mod address;
mod candidates;
mod name;
mod search;

use crate::abi::{BLOCKS, Bank, Block, Class, Interfaces, Node, Row, Skip, Values};

pub use crate::bits::lowest_bit;
pub use address::class_of;
pub use candidates::Candidates;
pub use name::class_of_hash;
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

    /// The same value. The kernel's verifier, which would go each way for each value that it has
    /// seen, knows no more of it.
    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        value
    }
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

/// A table pointed beyond another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfTable;

#[cfg(test)]
mod tests;
