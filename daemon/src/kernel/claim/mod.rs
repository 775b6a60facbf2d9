//! May this process do what it is there for, is it alone below its pin path, and is what is there
//! of its network namespace.

pub(super) mod capability;
pub(super) mod earlier;
pub(super) mod lock;
pub(super) mod namespace;

use std::path::Path;

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::kernel::error::KernelError;

/// Whether this process may change what is attached.
///
/// # Errors
/// Capabilities are missing; the error names them.
pub fn require_capabilities() -> Result<(), KernelError> {
    let missing = capability::missing();
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("this process lacks {}", missing.join(", "));
    Err(KernelError::Environment {
        what,
        remedy: "run it as root, or by its systemd unit",
    })
}

/// Whether there can be pins.
///
/// # Errors
/// There is no such directory, or it is not on a bpf file system.
pub(super) fn require_bpf_file_system(pin_path: &Path) -> Result<(), KernelError> {
    let parent = pin_path.parent().unwrap_or(pin_path);
    if !parent.is_dir() {
        return Err(KernelError::Environment {
            what: format!("there is no directory {}", parent.display()),
            remedy: "create it, or give another --pin-path",
        });
    }
    if statfs(parent).map(|stat| stat.filesystem_type()) != Ok(BPF_FS_MAGIC) {
        return Err(KernelError::Environment {
            what: format!("{} is not a bpf file system", parent.display()),
            remedy: "mount it: mount -t bpf bpf /sys/fs/bpf",
        });
    }
    Ok(())
}
