//! One daemon below a pin path.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};

use super::KernelError;
use super::generation::pin_error;

/// Two daemons must not share a pin path.
pub(super) fn claim(pin_path: &Path) -> Result<Flock<File>, KernelError> {
    loop {
        fs::create_dir_all(pin_path).map_err(|source| pin_error("create", pin_path, source))?;
        let dir = File::open(pin_path).map_err(|source| pin_error("open", pin_path, source))?;
        let lock = Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|(dir, _)| KernelError::Missing {
            what: match holder(&dir) {
                Some(pid) => format!("another traffic-mirror, process {pid}, uses {}", pin_path.display()),
                None => format!("another traffic-mirror uses {}", pin_path.display()),
            },
            remedy: "stop it, or give another --pin-path",
        })?;
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|there| (there.dev(), there.ino())).ok();
        // one that has ended meanwhile has removed the directory
        if inode(lock.metadata()) == inode(fs::metadata(pin_path)) {
            return Ok(lock);
        }
    }
}

/// Who has locked a file, by /proc/locks: `1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> 0 EOF`, the device in
/// hexadecimal digits.
fn holder(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let (major, minor) = (major(metadata.dev()), minor(metadata.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mut locks = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    locks.find(|words| words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&&*place))?.get(4)?.parse().ok()
}
