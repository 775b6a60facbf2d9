//! The class of an address.

use super::Tables;
use crate::abi::{Skip, TrieEntry};
use crate::packet::Address;

/// Most steps of an address look-up after the root: a node for each byte of an IPv6 address, and a
/// skip at the end.
const MAX_STEPS: usize = 17;

/// The class of an address: walks from `root` to a class.
#[inline(always)]
pub fn class_of<T: Tables>(tables: &T, root: &Skip, address: Address) -> Option<u32> {
    let mut entry = pass(root, address);
    let mut steps = 0;
    while entry & TrieEntry::INNER != 0 {
        if steps == MAX_STEPS {
            return None;
        }
        steps += 1;
        let id = entry & TrieEntry::ID_MASK;
        if entry & TrieEntry::SKIP != 0 {
            entry = pass(tables.skip(id)?, address);
        } else {
            let byte = entry >> TrieEntry::BYTE_SHIFT & 15;
            let half = if byte & 8 == 0 {
                address[0]
            } else {
                address[1]
            };
            let child = half >> (56 - 8 * (byte & 7)) & 0xff;
            entry = tables.node(id)?.child[child as usize];
        }
    }
    Some(entry)
}

#[inline(always)]
fn pass(skip: &Skip, address: Address) -> u32 {
    let differs =
        (address[0] ^ skip.expect[0]) & skip.mask[0] | (address[1] ^ skip.expect[1]) & skip.mask[1];
    if differs == 0 { skip.hit } else { skip.miss }
}
