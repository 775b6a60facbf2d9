//! The network namespace that what is below a pin path belongs to. Seen from another one, filters there look as if
//! somebody had deleted them, and interfaces of the same index as if they were the same.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::KernelError;
use super::attach::{make_dir, remove_dir};
use super::generation::pin_error;

const PREFIX: &str = "namespace-";

/// Says that what is below a pin path belongs to this namespace.
///
/// # Errors
/// It belongs to another one that is still there, and `is_attached` there.
pub(super) fn claim(pin_path: &Path, is_attached: bool) -> Result<(), KernelError> {
    let ours = ours().map_err(|source| pin_error("read", Path::new(OURS), source))?;
    for inode in named(pin_path)?.into_iter().filter(|&inode| inode != ours) {
        if is_attached && is_alive(inode) {
            return Err(KernelError::Missing {
                what: format!("what is below {} belongs to network namespace {inode}", pin_path.display()),
                remedy: "run this there (nsenter --net, lsns -t net), or give another --pin-path",
            });
        }
        remove_dir(&pin_path.join(format!("{PREFIX}{inode}")))?;
    }
    make_dir(&pin_path.join(format!("{PREFIX}{ours}")))
}

/// Takes that back.
pub(super) fn forget(pin_path: &Path) -> Result<(), KernelError> {
    named(pin_path)?.into_iter().try_for_each(|inode| remove_dir(&pin_path.join(format!("{PREFIX}{inode}"))))
}

fn named(pin_path: &Path) -> Result<Vec<u64>, KernelError> {
    let entries = match fs::read_dir(pin_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| pin_error("read", pin_path, source))?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok()).collect())
}

const OURS: &str = "/proc/thread-self/ns/net";

fn ours() -> io::Result<u64> {
    fs::metadata(OURS).map(|metadata| metadata.ino())
}

/// Whether a process is in a namespace, or something is mounted that holds it (`ip netns`), as far as can be seen from here.
fn is_alive(inode: u64) -> bool {
    let name = format!("net:[{inode}]");
    let is_it = |pid: fs::DirEntry| fs::read_link(pid.path().join("ns/net")).is_ok_and(|link| link == Path::new(&name));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.split_whitespace().any(|word| word == name)
        || fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok).any(is_it)
}
