//! Reads the file.

use crate::desired::Desired;
use crate::source::ConfigSource;

/// A file that takes much more memory to read than what it means.
const LARGE_BYTES: usize = 2 << 20;

/// The meaning of the file. The memory for reading a large file is returned before the file is
/// compiled.
pub(super) fn load(source: &mut ConfigSource) -> Option<Desired> {
    let desired = source.load();
    if source.bytes() > LARGE_BYTES {
        trim();
    }
    desired
}

/// Returns free memory to the kernel, but not after each step, since the next may need it again:
/// the kernel's type information alone is 6 MiB, and the allocator keeps memory below a live
/// allocation.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
