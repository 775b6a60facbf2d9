//! Cgroups of version 2, whose sockets single threads make: a cgroup that is "threaded" takes threads
//! of a process, so that tests of one process need not share one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::unique;

/// Where version 2 is mounted alone, and beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// A cgroup, which is removed with what is left below it on drop.
#[derive(Debug)]
pub struct Cgroup {
    root: PathBuf,
    path: String,
}

impl Cgroup {
    /// A cgroup next to the root, with a name that begins with `prefix` and ends with `suffix`.
    ///
    /// # Errors
    /// There is no version 2, or no right to make one.
    pub fn new(prefix: &str, suffix: &str) -> Result<Self> {
        let mounted = |root: &&&str| Path::new(root).join("cgroup.procs").exists();
        let root = MOUNTS
            .iter()
            .find(mounted)
            .context("no cgroup2 is mounted")?;
        // the root takes threads back and forth only from a process that is there
        fs::write(
            Path::new(root).join("cgroup.procs"),
            std::process::id().to_string(),
        )
        .context("move this process to the topmost cgroup")?;
        let cgroup = Self {
            root: root.into(),
            path: format!("/{}{suffix}", unique(prefix)),
        };
        cgroup.make()?;
        Ok(cgroup)
    }

    /// A cgroup below this one.
    ///
    /// # Errors
    /// It exists.
    pub fn below(&self, name: &str) -> Result<Self> {
        let cgroup = Self {
            root: self.root.clone(),
            path: format!("{}/{name}", self.path),
        };
        cgroup.make()?;
        Ok(cgroup)
    }

    /// Its path from the root of the hierarchy on.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The name of its directory.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn directory(&self) -> PathBuf {
        self.root.join(&self.path[1..])
    }

    fn make(&self) -> Result<()> {
        let directory = self.directory();
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        fs::write(directory.join("cgroup.type"), "threaded")
            .with_context(|| format!("have {} take threads", directory.display()))
    }

    /// Removes it, and makes another one at the same path, as when a unit restarts. No thread may be
    /// in it.
    ///
    /// # Errors
    /// Something is below it.
    pub fn restart(&self) -> Result<()> {
        let directory = self.directory();
        fs::remove_dir(&directory).with_context(|| format!("remove {}", directory.display()))?;
        self.make()
    }

    /// Does something with the calling thread in it. The sockets that it makes belong to the cgroup
    /// as long as they live.
    ///
    /// # Errors
    /// The thread cannot be moved, or the work fails.
    pub fn enter<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        move_to(&self.directory())?;
        let done = work();
        move_to(&self.root)?;
        done
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        match fs::remove_dir(self.directory()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("remove {}: {error}", self.path);
            }
            _ => {}
        }
    }
}

fn move_to(directory: &Path) -> Result<()> {
    let thread = nix::unistd::gettid().to_string();
    let file = directory.join("cgroup.threads");
    fs::write(&file, thread).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_in_it_and_no_other_and_a_restart_is_another_one() -> Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        let cgroup = Cgroup::new("lab-cgroup", ".service")?;
        let own = || -> Result<String> {
            let thread = nix::unistd::gettid();
            let file = format!("/proc/self/task/{thread}/cgroup");
            let text = fs::read_to_string(file)?;
            let line = text.lines().find_map(|line| line.strip_prefix("0::"));
            Ok(line.context("a cgroup of version 2")?.to_owned())
        };
        assert_eq!(cgroup.enter(own)?, cgroup.path());
        assert_eq!(own()?, "/");
        let id = || fs::metadata(cgroup.directory()).map(|one| one.ino());
        let before = id()?;
        cgroup.restart()?;
        assert_ne!(id()?, before);
        Ok(())
    }
}
