//! A search for bytes by words: eight at a time, and no branch for each.

use super::Buffer;

/// Eight bytes of the buffer at once. A search gives the highest bit of each byte that is meant; of
/// those behind the first one it may be wrong.
#[derive(Clone, Copy)]
pub(super) struct Word {
    bytes: u64,
    /// The bytes from the place in question on.
    from: u64,
    at: u32,
}

impl Word {
    const HIGH: u64 = repeat(0x80);

    /// The word around the place `at`, for a search from there on.
    #[inline(always)]
    pub(super) fn of(buffer: &Buffer, at: u32) -> Self {
        Self {
            bytes: buffer.eight(at & !7),
            from: u64::MAX << (8 * (at & 7)),
            at,
        }
    }

    /// Bytes below `bound`, which is at most 128.
    #[inline(always)]
    pub(super) const fn below(self, bound: u8) -> u64 {
        // those before are not below, and nothing is borrowed for them
        let bytes = self.bytes | !self.from;
        bytes.wrapping_sub(repeat(bound)) & !bytes & Self::HIGH
    }

    /// Bytes above `bound`, which is below 128.
    #[inline(always)]
    pub(super) const fn above(self, bound: u8) -> u64 {
        let bytes = self.bytes & self.from;
        (bytes.wrapping_add(repeat(0x7f - bound)) | bytes) & Self::HIGH
    }

    /// Bytes that are `byte`.
    #[inline(always)]
    pub(super) const fn equal(self, byte: u8) -> u64 {
        let bytes = (self.bytes ^ repeat(byte)) | !self.from;
        bytes.wrapping_sub(repeat(1)) & !bytes & Self::HIGH
    }

    /// Where the first of the bytes lies that a search gives, and true; else where the next word
    /// begins, and false.
    #[inline(always)]
    pub(super) const fn first(self, bits: u64) -> (u32, bool) {
        // the number of its byte by a multiplication: each branch doubles the verifier's work
        let byte = (bits.isolate_lowest_one() >> 7).wrapping_mul(0x0001_0203_0405_0607) >> 56;
        if bits == 0 {
            ((self.at & !7) + 8, false)
        } else {
            ((self.at & !7) + byte as u32, true)
        }
    }
}

const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}
