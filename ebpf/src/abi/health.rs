//! What the daemon has found out about endpoints; no program reads it.

/// An element of `HEALTH`, by index in `ENDPOINTS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// What keeps copies from arriving, or may: a [`Trouble`](super::Trouble).
    pub trouble: u32,
    /// Zero.
    pub reserved: u32,
    /// Since when, seconds since 1970; 0 if there is no trouble.
    pub since: u64,
}

// SAFETY: repr(C), `Copy`, no padding, any bytes are a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Health {}
