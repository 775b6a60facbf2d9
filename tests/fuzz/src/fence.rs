//! Memory behind which nothing can be read: a read beyond the end of what lies there is a fault
//! (`SIGSEGV`), whoever reads, `unsafe` or not.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};

/// Pages, the last of which nobody may touch. They are never given back.
pub struct Fence {
    begin: NonNull<u8>,
    bytes: usize,
}

const PAGE_BYTES: usize = 4096;

impl Fence {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        let all = NonZeroUsize::MIN.saturating_add(bytes + PAGE_BYTES - 1);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; its last page lies in it.
        let begin = unsafe {
            let begin =
                mmap_anonymous(None, all, protection, MapFlags::MAP_PRIVATE).expect("memory");
            mprotect(begin.byte_add(bytes), PAGE_BYTES, ProtFlags::PROT_NONE)
                .expect("a page to protect");
            begin
        };
        Self {
            begin: begin.cast(),
            bytes,
        }
    }

    /// Copies to the end of the room, in place of what was there before.
    pub fn put(&mut self, what: &[u8]) -> &mut [u8] {
        assert!(what.len() <= self.bytes, "no room for {} bytes", what.len());
        // SAFETY: the bytes lie in the pages that can be written, which `self` alone refers to.
        unsafe {
            let start = self.begin.add(self.bytes - what.len());
            start.copy_from_nonoverlapping(NonNull::from(what).cast(), what.len());
            NonNull::slice_from_raw_parts(start, what.len()).as_mut()
        }
    }
}
