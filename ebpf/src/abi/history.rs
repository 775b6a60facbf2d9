//! What the daemon leaves for `status`: no program reads it.

/// The one element of `HISTORY`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// When the file was last taken, seconds since 1970 (`CLOCK_REALTIME`).
    pub last_reload: u64,
    /// How often the file was taken.
    pub reloads: u64,
    /// Programs that were attached again after somebody else had detached them.
    pub repairs: u64,
}

// SAFETY: repr(C), `Copy`, no padding, any bytes are a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for History {}
