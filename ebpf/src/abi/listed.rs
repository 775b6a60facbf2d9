//! The interface entries of the file, for `status` and the next daemon; no program reads them.

use super::labels::{padded, unpadded};

/// Longest name or glob of an interface entry, bytes.
pub const PATTERN_BYTES: usize = 127;
/// Longest `order` of an interface entry, bytes: "before " and the name of a filter.
pub const ORDER_BYTES: usize = 71;

/// An element of `LISTED`: one `[[interface]]` of the file, or an interface on which the kernel
/// rejected `encap`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Listed {
    /// Its `name`, UTF-8, padded with zeros; all zero if the element is free.
    pub pattern: [u8; PATTERN_BYTES + 1],
    /// Its `order`, as in the file, padded with zeros.
    pub order: [u8; ORDER_BYTES + 1],
    /// Its `direction`: [`Listed::INGRESS`], [`Listed::EGRESS`] or both; and [`Listed::LEARN`] if its
    /// `learn` is true.
    pub directions: u32,
    /// Index of a listed interface without a link header, on which the kernel rejected `encap`: all
    /// else is zero then. 0 in an entry of the file.
    pub refused: u32,
}

impl Listed {
    /// Packets that the host receives.
    pub const INGRESS: u32 = 1;
    /// Packets that the host sends.
    pub const EGRESS: u32 = 2;
    /// Server names of all its connections are remembered.
    pub const LEARN: u32 = 4;

    /// `None` if a text is longer than [`PATTERN_BYTES`] or [`ORDER_BYTES`].
    #[must_use]
    pub fn new(pattern: &str, order: &str, directions: u32) -> Option<Self> {
        Some(Self {
            pattern: padded(pattern)?,
            order: padded(order)?,
            directions,
            refused: 0,
        })
    }

    /// An interface on which the kernel rejected `encap`, by its index.
    #[must_use]
    pub const fn of_refused(index: u32) -> Self {
        Self {
            pattern: [0; PATTERN_BYTES + 1],
            order: [0; ORDER_BYTES + 1],
            directions: 0,
            refused: index,
        }
    }

    /// Its `name`; `None` if the element is free or the bytes are not UTF-8.
    #[must_use]
    pub fn pattern(&self) -> Option<&str> {
        unpadded(&self.pattern)
    }

    /// Its `order`; `None` if the element is free or the bytes are not UTF-8.
    #[must_use]
    pub fn order(&self) -> Option<&str> {
        unpadded(&self.order)
    }
}

const _: () = assert!(size_of::<Listed>() == PATTERN_BYTES + 1 + ORDER_BYTES + 1 + 8);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn texts_survive_and_long_ones_are_refused() {
        let longest = ("x".repeat(PATTERN_BYTES), "y".repeat(ORDER_BYTES));
        let listed = Listed::new(&longest.0, &longest.1, Listed::EGRESS).unwrap();
        assert_eq!(
            (listed.pattern(), listed.order()),
            (Some(&*longest.0), Some(&*longest.1))
        );
        assert!(Listed::new(&"x".repeat(PATTERN_BYTES + 1), "last", 0).is_none());
        assert!(Listed::new("eth0", &"y".repeat(ORDER_BYTES + 1), 0).is_none());
    }
}
