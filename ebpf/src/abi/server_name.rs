//! Server names, which select a class as the other fields do.

use super::labels::{padded, unpadded};
use crate::hello::name::Keys;

/// Longest name of a filter, bytes: 253 of a name in the DNS (RFC 1035 section 2.3.4), and the
/// wildcard before it.
pub const SERVER_NAME_BYTES: usize = 255;

/// Cells of `NAMES` that a look-up reads at most. The daemon makes more cells where a name would
/// lie beyond.
pub const NAME_PROBES: u32 = 8;

/// An element of `NAMES`: a hash table from a name to its class, in one word, so that one store
/// switches it. [`NameCell::EMPTY`] ends a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameCell(pub u64);

impl NameCell {
    /// Nothing has been here.
    pub const EMPTY: Self = Self(0);
    /// What was here has gone; a look-up goes on behind it.
    pub const GONE: Self = Self(1);

    /// Bits of the class; the others are the tag, which is never 0.
    const CLASS_BITS: u32 = 24;
    /// Classes that fit.
    pub const CLASSES: u32 = 1 << Self::CLASS_BITS;

    /// The cell of a name, from its hash.
    #[must_use]
    #[inline(always)]
    pub const fn new(hash: u64, class: u32) -> Self {
        Self(Self::tag(hash) | (class % Self::CLASSES) as u64)
    }

    /// The class, if the cell is that of the name with this hash.
    #[must_use]
    #[inline(always)]
    pub const fn class(self, hash: u64) -> Option<u32> {
        let class = self.0 ^ Self::tag(hash);
        if class < Self::CLASSES as u64 {
            Some(class as u32)
        } else {
            None
        }
    }

    /// The class, whatever the name.
    #[must_use]
    pub const fn any_class(self) -> u32 {
        self.0 as u32 % Self::CLASSES
    }

    /// Where a look-up begins; the bits are not among those of the tag.
    #[must_use]
    #[inline(always)]
    pub const fn place(hash: u64) -> u32 {
        hash as u32
    }

    #[inline(always)]
    const fn tag(hash: u64) -> u64 {
        // 39 bits of the hash, and one that is set
        (hash | 1 << 63) & !(Self::CLASSES as u64 - 1)
    }
}

/// Keys of hashes: random numbers that senders do not know, the same as long as the pin path lasts.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct NameKeys {
    /// Of server names.
    pub names: Keys,
    /// Of the flows that have them: two sets for [`flow::key`](crate::flow::key).
    pub flows: [u64; FLOW_KEYS_OF_NAMES],
}

/// Words that the key of a flow is made from.
pub const FLOW_WORDS: usize = 5;
/// Keys of [`NameKeys::flows`].
pub const FLOW_KEYS_OF_NAMES: usize = 2 * (2 * FLOW_WORDS + 1);

/// An element of `NAME_TEXTS`: a name of the filters. No program reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct NameText {
    /// ASCII in lower case, as in the file, such as `shop.example.com` or `*.example.com`; padded
    /// with zeros, all zero if the element is free.
    pub bytes: [u8; SERVER_NAME_BYTES + 1],
}

impl NameText {
    /// `None` if the text is longer than [`SERVER_NAME_BYTES`].
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        padded(text).map(|bytes| Self { bytes })
    }

    /// A free element.
    #[must_use]
    pub const fn free() -> Self {
        Self {
            bytes: [0; SERVER_NAME_BYTES + 1],
        }
    }

    /// The text; `None` if the element is free or the bytes are not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        unpadded(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_knows_its_name_alone() {
        let hash = 0x0123_4567_89ab_cdef;
        for class in [0, 1, NameCell::CLASSES - 1] {
            let cell = NameCell::new(hash, class);
            assert_eq!(cell.class(hash), Some(class));
            assert_eq!(cell.class(hash ^ 1 << 30), None);
            assert_eq!(cell.any_class(), class);
        }
        for hash in [0, 1, u64::MAX, hash] {
            assert_eq!(NameCell::EMPTY.class(hash), None);
            assert_eq!(NameCell::GONE.class(hash), None);
        }
    }
}
