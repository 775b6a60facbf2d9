//! One daemon below a pin path, and whether there is one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};

use crate::kernel::error::{KernelError, pin_error};
use crate::kernel::pins::{make_dir, remove_dir};

/// [`holder`] also locks the directory for a moment.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// The process that has a pin path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its number; `None` if it is of a process namespace that cannot be seen from here.
    pub pid: Option<u32>,
}

/// The process that holds a pin path; `None` if there is none, or no pin path.
pub fn holder(pin_path: &Path) -> Option<Holder> {
    let dir = File::open(pin_path).ok()?;
    // /proc/locks alone does not show other process namespaces (`locks_show`), and may be hidden
    match Flock::lock(dir, FlockArg::LockSharedNonblock) {
        Ok(_) => None,
        Err((dir, _)) => Some(Holder { pid: owner(&dir) }),
    }
}

/// There if it was a daemon that made the pin path, and not the package or an operator.
const MADE: &str = "made";

/// Two daemons must not share a pin path.
pub(in crate::kernel) fn claim(pin_path: &Path) -> Result<Flock<File>, KernelError> {
    let mut attempts = 0;
    loop {
        match fs::create_dir(pin_path) {
            Ok(()) => make_dir(&pin_path.join(MADE))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(pin_error("create", pin_path, source)),
        }
        let dir = File::open(pin_path).map_err(|source| pin_error("open", pin_path, source))?;
        let lock = match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((dir, _)) => {
                let owner = owner(&dir);
                if owner.is_none() && attempts < ATTEMPTS {
                    attempts += 1;
                    thread::sleep(PAUSE);
                    continue;
                }
                let process = owner
                    .map(|pid| format!(", process {pid},"))
                    .unwrap_or_default();
                return Err(KernelError::Conflict {
                    what: format!(
                        "another traffic-mirror{process} uses {}",
                        pin_path.display()
                    ),
                    remedy: "stop it, or give another --pin-path",
                });
            }
        };
        let inode = |metadata: io::Result<fs::Metadata>| {
            metadata.map(|there| (there.dev(), there.ino())).ok()
        };
        // one that has ended meanwhile has removed the directory
        if inode(lock.metadata()) == inode(fs::metadata(pin_path)) {
            return Ok(lock);
        }
    }
}

/// Removes a pin path that is empty, but only if a daemon has made it: what tmpfiles.d makes once,
/// at boot, is to be there when the unit is started again.
pub(in crate::kernel) fn remove_pin_path(pin_path: &Path) -> Result<(), KernelError> {
    let mark = pin_path.join(MADE);
    if !mark.exists() {
        return Ok(());
    }
    remove_dir(&mark)?;
    remove_dir(pin_path)
}

/// The process with an exclusive lock of a file, by /proc/locks: `1: FLOCK ADVISORY WRITE <pid>
/// <major>:<minor>:<inode> 0 EOF`, the device in hexadecimal digits.
fn owner(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let (major, minor) = (major(metadata.dev()), minor(metadata.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mut locks = locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_it =
        |words: &Vec<&str>| words.get(1) == Some(&"FLOCK") && words.get(3) == Some(&"WRITE");
    locks
        .find(|words| is_it(words) && words.get(5) == Some(&&*place))?
        .get(4)?
        .parse()
        .ok()
}
