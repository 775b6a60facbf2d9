//! The first bytes of a stream, where each read is in bounds by its mask: no branch, which would
//! double the verifier's work, and no panic.

use super::STREAM_BYTES;

const MASK: u32 = STREAM_BYTES - 1;
/// Bytes behind the last one that an index can name, so that an access of several bytes, or a copy
/// by the kernel, needs one mask.
const SLACK_BYTES: usize = 512;

/// Bytes of a stream, from its first on. What lies behind those that have arrived is undefined, and
/// may be of another stream.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    bytes: [u8; STREAM_BYTES as usize + SLACK_BYTES],
    /// Always 0, which the verifier does not know.
    zero: [u32; 2],
}

const _: () = assert!(size_of::<Buffer>() == STREAM_BYTES as usize + SLACK_BYTES + 8);

impl Default for Buffer {
    fn default() -> Self {
        Self {
            bytes: [0; _],
            zero: [0; 2],
        }
    }
}

impl Buffer {
    /// Copies `bytes` to the place `at`, as far as there is room.
    pub fn put(&mut self, at: u32, bytes: &[u8]) {
        let room = self.bytes[..STREAM_BYTES as usize]
            .get_mut(at as usize..)
            .unwrap_or_default();
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
    }

    /// The bytes that [`Parsed`](super::Parsed) names.
    #[must_use]
    pub fn get(&self, at: u16, bytes: u16) -> Option<&[u8]> {
        self.bytes[..STREAM_BYTES as usize]
            .get(at.into()..)?
            .get(..bytes.into())
    }

    /// Where the bytes lie, for a copy by the kernel of at most 512 bytes to any place before
    /// [`STREAM_BYTES`], or of at most that many to the first.
    #[must_use]
    #[inline(always)]
    pub const fn as_mut_ptr(&mut self) -> *mut u8 {
        (&raw mut self.bytes).cast()
    }

    /// 0, as a number that the verifier does not know.
    #[must_use]
    #[inline(always)]
    pub const fn zero(&self) -> u32 {
        self.zero[0]
    }

    #[inline(always)]
    fn load<T: Copy>(&self, at: u32) -> T {
        const { assert!(size_of::<T>() <= SLACK_BYTES) };
        // SAFETY: the index is at most `MASK`, and as many bytes as T has lie behind. For BPF the
        // load must be one instruction, so it is a plain one, as in `packet::Window`.
        unsafe {
            let pointer = (&raw const self.bytes).cast::<u8>();
            let pointer = pointer.add((at & MASK) as usize).cast::<T>();
            if cfg!(target_arch = "bpf") {
                *pointer
            } else {
                pointer.read_unaligned()
            }
        }
    }

    /// The byte at a place, modulo [`STREAM_BYTES`].
    #[must_use]
    #[inline(always)]
    pub fn u8(&self, at: u32) -> u32 {
        u32::from(self.load::<u8>(at))
    }

    /// Two bytes, the first one most significant.
    #[inline(always)]
    pub(super) fn u16(&self, at: u32) -> u32 {
        u32::from(u16::from_be(self.load(at)))
    }

    /// Four bytes, the first one least significant.
    #[inline(always)]
    pub(super) fn four(&self, at: u32) -> u32 {
        u32::from_le(self.load(at))
    }

    /// Eight bytes, the first one least significant.
    #[inline(always)]
    pub(super) fn eight(&self, at: u32) -> u64 {
        u64::from_le(self.load(at))
    }

    /// Writes what [`Self::eight`] reads.
    #[inline(always)]
    pub(super) fn set_eight(&mut self, at: u32, value: u64) {
        // SAFETY: as in `load`.
        unsafe {
            let pointer = self.as_mut_ptr().add((at & MASK) as usize).cast::<u64>();
            if cfg!(target_arch = "bpf") {
                *pointer = value.to_le();
            } else {
                pointer.write_unaligned(value.to_le());
            }
        }
    }
}
