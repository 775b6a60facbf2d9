//! A map in the memory of this process, so that a store is seen whole or not at all. A part at a
//! time: the kernel puts all pages that are mapped into the process's page table, where they count
//! as its memory.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};

/// Bytes that are mapped at once.
const WINDOW_BYTES: usize = 1 << 20;

/// The memory of a map.
pub(in crate::kernel) struct Mapping {
    map: MapData,
    bytes: usize,
    /// Which part is mapped, and where.
    window: RefCell<Option<(usize, MmapRaw)>>,
}

impl Mapping {
    /// # Errors
    /// The kernel rejects the mapping, or does not report the size of the map.
    pub(in crate::kernel) fn of(map: MapData) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let bytes = info.max_entries() as usize * (info.value_size() as usize).next_multiple_of(8);
        let mapping = Self {
            map,
            bytes,
            window: RefCell::new(None),
        };
        mapping.at(0, |_, _| ())?;
        Ok(mapping)
    }

    /// Calls with the memory from an offset on, and how much of it is mapped.
    fn at<R>(&self, offset: usize, work: impl FnOnce(*mut u8, usize) -> R) -> io::Result<R> {
        let number = offset / WINDOW_BYTES;
        let mut window = self.window.borrow_mut();
        let mapping = match window.take() {
            Some((there, mapping)) if there == number => mapping,
            _ => {
                let begin = number * WINDOW_BYTES;
                let mut options = MmapOptions::new();
                options
                    .offset(begin as u64)
                    .len((self.bytes - begin).min(WINDOW_BYTES));
                options.map_raw(self.map.fd().as_fd().as_raw_fd())?
            }
        };
        let (_, mapping) = window.insert((number, mapping));
        let at = offset % WINDOW_BYTES;
        // SAFETY: inside the mapping, since the offset is inside the map.
        Ok(work(
            unsafe { mapping.as_mut_ptr().add(at) },
            mapping.len() - at,
        ))
    }

    pub(in crate::kernel) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies what stands from an offset on.
    ///
    /// # Errors
    /// The map has no such offset, or the kernel rejects the mapping.
    pub(in crate::kernel) fn read(&self, offset: usize, to: &mut [u8]) -> io::Result<()> {
        if offset + to.len() > self.bytes {
            return Err(io::Error::other("it is smaller than its elements"));
        }
        let mut done = 0;
        while done < to.len() {
            done += self.at(offset + done, |start, mapped| {
                let end = to.len().min(done + mapped);
                // SAFETY: the mapping has that many bytes; the kernel does not write them.
                unsafe {
                    std::ptr::copy_nonoverlapping(start, to[done..end].as_mut_ptr(), end - done)
                };
                end - done
            })?;
        }
        Ok(())
    }

    /// Stores bytes, eight at a time where offset and length allow it, otherwise four.
    ///
    /// # Errors
    /// The map has no such place: it is another one than when it was last read.
    pub(in crate::kernel) fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if offset + bytes.len() > self.bytes {
            return Err(io::Error::other("it is smaller than it was"));
        }
        assert!(
            offset.is_multiple_of(4) && bytes.len().is_multiple_of(4),
            "elements are made of words"
        );
        let mut done = 0;
        while done < bytes.len() {
            done += self.at(offset + done, |start, mapped| {
                let here = &bytes[done..bytes.len().min(done + mapped)];
                // SAFETY: the mapping has that many bytes; its start is page-aligned, so each store
                // is aligned.
                unsafe { store(start, here) };
                here.len()
            })?;
        }
        // a CPU that sees the store of the epoch, which is a call of its own, also sees all stores
        // before it
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }
}

/// Stores bytes, eight at a time where address and length allow it, otherwise four.
///
/// # Safety
/// There must be as many bytes at that address, which is a multiple of four.
unsafe fn store(start: *mut u8, bytes: &[u8]) {
    if start.cast::<u64>().is_aligned() && bytes.len().is_multiple_of(8) {
        for (at, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                start
                    .cast::<u64>()
                    .add(at)
                    .write_volatile(u64::from_ne_bytes(*word))
            };
        }
    } else {
        for (at, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                start
                    .cast::<u32>()
                    .add(at)
                    .write_volatile(u32::from_ne_bytes(*word))
            };
        }
    }
}
