//! Directories for tests: below `/dev/shm`, whose inode numbers are unique as those of cgroups are,
//! and real cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::root;

/// An empty directory that is removed with all directories below it.
pub(super) struct Ground {
    pub(super) root: PathBuf,
    /// Real cgroups.
    pub(super) is_real: bool,
}

impl Ground {
    /// One in memory.
    pub(super) fn in_memory() -> Self {
        Self::below(Path::new("/dev/shm"), false).expect("/dev/shm takes directories")
    }

    /// One of cgroups, where this process may make some.
    pub(super) fn of_cgroups() -> Option<Self> {
        let made = root::find().map_err(|error| error.to_string());
        let made = made.and_then(|root| Self::below(&root, true).map_err(|e| e.to_string()));
        made.inspect_err(|why| eprintln!("skipped with real cgroups: {why}"))
            .ok()
    }

    /// All that this host has.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Some(Self::in_memory()), Self::of_cgroups()]
            .into_iter()
            .flatten()
    }

    fn below(directory: &Path, is_real: bool) -> std::io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("traffic-mirror-test-{}-{number}", std::process::id());
        let root = directory.join(name);
        fs::create_dir(&root)?;
        Ok(Self { root, is_real })
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Makes a directory with those above it.
    pub(super) fn make(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        fs::remove_dir(self.at(path)).unwrap();
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        remove_below(&self.root);
    }
}

/// Files of the kernel cannot be removed, and go with their directory.
fn remove_below(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}
