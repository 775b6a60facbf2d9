//! A map in the memory of this process, so that a store is seen whole or not at all.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};

use crate::tables::Content;

/// The memory of a map.
pub(super) struct Mapping {
    mapping: MmapRaw,
    bytes: usize,
}

/// What a map is mapped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// All of it is read: its pages are better found at once.
    Read,
    /// A little of it is written.
    Write,
}

impl Mapping {
    /// # Errors
    /// The kernel refuses, or does not tell how large the map is.
    pub(super) fn of(map: &MapData, purpose: Purpose) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let bytes = info.max_entries() as usize * (info.value_size() as usize).next_multiple_of(8);
        let mut options = MmapOptions::new();
        options.len(bytes);
        if purpose == Purpose::Read {
            options.populate();
        }
        let mapping = options.map_raw(map.fd().as_fd().as_raw_fd())?;
        Ok(Self { mapping, bytes })
    }

    /// Stores bytes, eight at a time where offset and length allow, else four.
    ///
    /// # Errors
    /// The map has no such place: it is another one than when it was last read.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if offset + bytes.len() > self.bytes {
            return Err(io::Error::other("it is smaller than it was"));
        }
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4), "elements are made of words");
        // SAFETY: inside the mapping, checked above; its start is page-aligned, so each store is aligned.
        unsafe {
            let start = self.mapping.as_mut_ptr().add(offset);
            if offset.is_multiple_of(8) && bytes.len().is_multiple_of(8) {
                for (at, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
                    start.cast::<u64>().add(at).write_volatile(u64::from_ne_bytes(*word));
                }
            } else {
                for (at, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
                    start.cast::<u32>().add(at).write_volatile(u32::from_ne_bytes(*word));
                }
            }
        }
        // whoever sees the store of the epoch, which comes by a call of its own, sees all that was stored before it
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }
}

impl Content for Mapping {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(offset + to.len() <= self.bytes, "a read beyond the end of the map");
        // SAFETY: both have that many bytes; the kernel does not write them.
        unsafe { std::ptr::copy_nonoverlapping(self.mapping.as_ptr().add(offset), to.as_mut_ptr(), to.len()) };
    }
}
