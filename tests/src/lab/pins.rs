//! Maps of somebody else, pinned anywhere.

use super::foreign::{bpf, command};
use anyhow::{Context as _, Result};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const BPF_MAP_CREATE: i32 = 0;
const BPF_OBJ_PIN: i32 = 6;
const BPF_OBJ_GET: i32 = 7;

/// What a map is made like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes.
    pub key: u32,
    /// Bytes.
    pub value: u32,
    /// So many.
    pub elements: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// Makes a map.
pub fn make_map(
    Kind {
        kind,
        key,
        value,
        elements,
        flags,
    }: Kind,
) -> Result<OwnedFd> {
    let words = [
        u64::from(kind) | u64::from(key) << 32,
        u64::from(value) | u64::from(elements) << 32,
        flags.into(),
    ];
    bpf(BPF_MAP_CREATE, &words).with_context(|| format!("make a map of type {kind}"))
}

/// What is pinned somewhere.
pub fn open(path: &Path) -> Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    bpf(BPF_OBJ_GET, &[name.as_ptr() as u64, 0]).with_context(|| format!("open {}", path.display()))
}

/// Pins an object.
pub fn pin(object: &impl AsFd, path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let words = [name.as_ptr() as u64, object.as_fd().as_raw_fd() as u64];
    command(BPF_OBJ_PIN, &words)
        .with_context(|| format!("pin {}", path.display()))
        .map(drop)
}
