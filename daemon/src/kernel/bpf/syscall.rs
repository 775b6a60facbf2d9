//! bpf(2): what all commands have in common, and queries about objects of any kind.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

// enum bpf_cmd of include/uapi/linux/bpf.h
pub(in crate::kernel) const BPF_MAP_CREATE: libc::c_long = 0;
pub(in crate::kernel) const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
pub(in crate::kernel) const BPF_PROG_LOAD: libc::c_long = 5;
pub(in crate::kernel) const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
pub(in crate::kernel) const BPF_PROG_QUERY: libc::c_long = 16;
pub(in crate::kernel) const BPF_LINK_CREATE: libc::c_long = 28;
pub(in crate::kernel) const BPF_LINK_UPDATE: libc::c_long = 29;
pub(in crate::kernel) const BPF_LINK_DETACH: libc::c_long = 34;
pub(in crate::kernel) const BPF_PROG_BIND_MAP: libc::c_long = 35;

/// # Safety
/// `attributes` is what the command takes, and its pointers are valid for what the command does.
pub(in crate::kernel) unsafe fn bpf<T>(
    command: libc::c_long,
    attributes: &mut T,
) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes as there are, and treats what is missing as zeros; the
    // rest is promised.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(done as i32)
    }
}

/// What commands about pins take.
#[repr(C)]
pub(in crate::kernel) struct Pin {
    pub(in crate::kernel) pathname: u64,
    pub(in crate::kernel) bpf_fd: u32,
    pub(in crate::kernel) file_flags: u32,
}

/// What is pinned, whatever it is.
///
/// # Errors
/// The pin does not exist, or the kernel rejects the request.
pub(in crate::kernel) fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attributes = Pin {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    // SAFETY: the path lives through the call and ends with 0.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attributes) }?;
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the kernel write its information about an object.
///
/// # Errors
/// The kernel rejects the query.
///
/// # Safety
/// The pointers in `info` are valid for the lengths that it contains, and any bytes are a valid
/// `T`.
pub(in crate::kernel) unsafe fn info_of<T>(object: &OwnedFd, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let bpf_fd = object.as_raw_fd() as u32;
    let mut attributes = Attributes {
        bpf_fd,
        info_len: size_of::<T>() as u32,
        info: &raw mut *info as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`; the rest is promised.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }.map(drop)
}

/// The name of a program; `None` if it has none or is gone, or if this process may not query it
/// (`CAP_SYS_ADMIN`).
pub(in crate::kernel) fn program_name(id: u32) -> Option<String> {
    /// What the command takes: `open_flags` is left out.
    #[repr(C)]
    struct Wanted {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    /// The beginning of `struct bpf_prog_info`; the kernel fills in as much as fits.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        _before: [u64; 8],
        name: [u8; 16],
    }
    let mut wanted = Wanted {
        id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: no pointers.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut wanted) }.ok()?;
    // SAFETY: the kernel has just given this descriptor to us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = Info::default();
    // SAFETY: no pointers, and numbers only.
    unsafe { info_of(&fd, &mut info) }.ok()?;
    let name = info
        .name
        .split(|&byte| byte == 0)
        .next()
        .filter(|name| !name.is_empty())?;
    Some(String::from_utf8_lossy(name).into_owned())
}
