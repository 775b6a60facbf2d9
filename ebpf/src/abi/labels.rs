//! For people and the next daemon; no program reads it.

/// Longest name of a filter or endpoint, bytes.
pub const NAME_BYTES: usize = 63;

/// An element of `FILTERS` or `ENDPOINT_NAMES`: for people and the next daemon; no program reads
/// it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Name {
    /// UTF-8, padded with zeros; all zero if the index is free.
    pub bytes: [u8; NAME_BYTES + 1],
}

impl Name {
    /// `None` if the text is longer than [`NAME_BYTES`].
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        padded(text).map(|bytes| Self { bytes })
    }

    /// The text; `None` if the index is free or the bytes are not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        unpadded(&self.bytes)
    }
}

/// A text and zeros, one at least. `None` if it is too long for that.
pub(super) fn padded<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    bytes
        .get_mut(..text.len())?
        .copy_from_slice(text.as_bytes());
    (text.len() < BYTES).then_some(bytes)
}

/// The text before the first zero; `None` if it is empty or not UTF-8.
pub(super) fn unpadded(bytes: &[u8]) -> Option<&str> {
    let length = bytes.iter().position(|&b| b == 0)?;
    core::str::from_utf8(&bytes[..length])
        .ok()
        .filter(|t| !t.is_empty())
}

/// An element of `HOOKS`: which hook has which index. No program reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Hook {
    /// Index of the interface; 0 if the hook is free.
    pub interface: u32,
    /// 0 for ingress, 1 for egress.
    pub egress: u32,
}

/// The one element of `HISTORY`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// When the file was last loaded, seconds since 1970 (`CLOCK_REALTIME`).
    pub last_reload: u64,
    /// Times that the file was loaded.
    pub reloads: u64,
    /// When it was last rejected, seconds since 1970; 0 if it was loaded since.
    pub last_rejected: u64,
    /// Times that the daemon attached programs again or restored the maps after another process.
    pub repairs: u64,
}

// SAFETY: repr(C), `Copy`, no padding, any bytes are a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for History {}
