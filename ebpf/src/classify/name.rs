//! The class of a server name, or of a cgroup.

use crate::abi::{NAME_PROBES, NameCell};

/// The class of what has this hash, in a table of cells; `None` if the table has none. `mask` is
/// [`names_mask`](crate::abi::Bank::names_mask) or another table's.
#[inline(always)]
#[must_use]
pub fn class_of_hash(cell: impl Fn(u32) -> Option<NameCell>, mask: u64, hash: u64) -> Option<u32> {
    let first = NameCell::place(hash);
    let mut probe = 0;
    while probe < NAME_PROBES {
        let cell = cell(first.wrapping_add(probe) & mask as u32)?;
        if let Some(class) = cell.class(hash) {
            return Some(class);
        }
        if cell == NameCell::EMPTY {
            return None;
        }
        probe += 1;
    }
    None
}
