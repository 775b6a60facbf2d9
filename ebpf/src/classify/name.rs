//! The class of a server name.

use super::Tables;
use crate::abi::{NAME_PROBES, NameCell};

/// The class of the name or wildcard with this hash; `None` if the table has none. `mask` is
/// [`names_mask`](crate::abi::Bank::names_mask).
#[inline(always)]
#[must_use]
pub fn class_of_name<T: Tables>(tables: &T, mask: u64, hash: u64) -> Option<u32> {
    let first = NameCell::place(hash);
    let mut probe = 0;
    while probe < NAME_PROBES {
        let cell = tables.name_cell(first.wrapping_add(probe) & mask as u32)?;
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
