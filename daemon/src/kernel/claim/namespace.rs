//! The network namespace of a pin path. From another one, its filters look deleted, and interfaces
//! with the same index look like its interfaces.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::kernel::attach::Attachments;
use crate::kernel::error::{KernelError, pin_error};
use crate::kernel::pins::{make_dir, remove_dir};

const PREFIX: &str = "namespace-";

/// Whether what is below a pin path can be seen from this namespace.
///
/// # Errors
/// It belongs to another one that is still there, and is attached there.
pub fn require(pin_path: &Path) -> Result<(), KernelError> {
    let ours = ours()?;
    let alive = named(pin_path)?
        .into_iter()
        .find(|&inode| inode != ours && is_alive(inode));
    match alive {
        Some(inode) if Attachments::below(pin_path).are_anywhere()? => Err(KernelError::Conflict {
            what: format!(
                "the pins below {} belong to network namespace {inode}",
                pin_path.display()
            ),
            remedy: "run the command in that namespace (lsns -t net, nsenter --net), or give \
                     another --pin-path",
        }),
        _ => Ok(()),
    }
}

/// Says that what is below a pin path belongs to this namespace.
///
/// # Errors
/// As [`require`].
pub(in crate::kernel) fn claim(pin_path: &Path) -> Result<(), KernelError> {
    require(pin_path)?;
    forget(pin_path)?;
    make_dir(&pin_path.join(format!("{PREFIX}{}", ours()?)))
}

/// Takes that back.
pub(in crate::kernel) fn forget(pin_path: &Path) -> Result<(), KernelError> {
    named(pin_path)?
        .into_iter()
        .try_for_each(|inode| remove_dir(&pin_path.join(format!("{PREFIX}{inode}"))))
}

fn named(pin_path: &Path) -> Result<Vec<u64>, KernelError> {
    let entries = match fs::read_dir(pin_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| pin_error("read", pin_path, source))?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names
        .filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok())
        .collect())
}

const OURS: &str = "/proc/thread-self/ns/net";

/// While a namespace is there, no other has its inode.
fn ours() -> Result<u64, KernelError> {
    let metadata =
        fs::metadata(OURS).map_err(|source| pin_error("read", Path::new(OURS), source))?;
    Ok(metadata.ino())
}

/// Whether a process is in a namespace, or something is mounted that holds it (`ip netns`), as far
/// as can be seen from here.
fn is_alive(inode: u64) -> bool {
    let name = format!("net:[{inode}]");
    let is_it = |pid: fs::DirEntry| {
        fs::read_link(pid.path().join("ns/net")).is_ok_and(|link| link == Path::new(&name))
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.split_whitespace().any(|word| word == name)
        || fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .any(is_it)
}
