//! What the daemon has found out about endpoints; no program reads it.

/// An element of `HEALTH`, by index in `ENDPOINTS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// What keeps copies from arriving, or may: a [`Trouble`](super::Trouble).
    pub trouble: u32,
    /// State of the endpoint when the daemon last read it: a [`Drop`](super::Drop).
    pub state: u32,
    /// Since when it is so, seconds since 1970; 0 if copies are sent and nothing keeps them from
    /// arriving.
    pub since: u64,
    /// Path MTU that routers have reported, bytes; 0 if none has.
    pub path_mtu: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: repr(C), `Copy`, no padding, any bytes are a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Health {}
