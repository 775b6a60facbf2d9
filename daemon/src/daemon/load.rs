//! Reads the file.

use crate::desired::Desired;
use crate::source::ConfigSource;

/// A file that takes much more memory to read than what it means.
const LARGE_BYTES: usize = 2 << 20;

/// What the file means. What reading a large one has needed is given back before anything else is
/// made of it.
pub(super) fn load(source: &mut ConfigSource) -> Option<Desired> {
    let desired = source.load();
    if source.bytes() > LARGE_BYTES {
        trim();
    }
    desired
}

/// Gives back what a look has needed for a moment, but not at once, since the next may need it
/// again: the kernel's type information alone are 6 MiB, and the allocator keeps what lies below
/// something that stays.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
