//! Waiting for the programs that are running.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::kernel::bpf::syscall::{BPF_MAP_CREATE, BPF_MAP_UPDATE_ELEM, bpf};
use crate::kernel::error::KernelError;

// enum bpf_map_type of include/uapi/linux/bpf.h
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// Returns when every program that ran at the time of the call has ended: the kernel waits for them
/// before it returns from changing an array of maps (`maybe_wait_bpf_programs` of
/// kernel/bpf/syscall.c). `membarrier` would wait, too, but not on hosts that are booted with
/// `nohz_full`.
///
/// # Errors
/// The kernel rejects the command: memory that may still be in use must not be written then.
pub(in crate::kernel) fn synchronize() -> Result<(), KernelError> {
    update_array_of_maps().map_err(KernelError::Wait)
}

fn update_array_of_maps() -> io::Result<()> {
    #[repr(C)]
    struct Update {
        map_fd: u32,
        _padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let inner = create(BPF_MAP_TYPE_ARRAY, 0)?;
    let outer = create(BPF_MAP_TYPE_ARRAY_OF_MAPS, inner.as_raw_fd() as u32)?;
    let (key, value) = (0u32, inner.as_raw_fd());
    let mut update = Update {
        map_fd: outer.as_raw_fd() as u32,
        _padding: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    // SAFETY: key and value are as long as those of the map, and live through the call.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut update) }.map(drop)
}

/// An array of one element of four bytes.
fn create(kind: u32, inner_map_fd: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Create {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
    }
    let mut create = Create {
        kind,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        map_flags: 0,
        inner_map_fd,
    };
    // SAFETY: no pointers.
    let fd = unsafe { bpf(BPF_MAP_CREATE, &mut create) }?;
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
