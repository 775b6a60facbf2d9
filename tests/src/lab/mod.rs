//! The laboratory: network namespaces, frames built and taken apart, raw sockets, the daemon as a
//! child process. It knows the formats on the wire and the daemon's command line, nothing of how
//! the product works inside.
//!
//! Nothing here sleeps to synchronise, and nothing waits for ever: whatever waits looks again and
//! again ([`pause`]) until a deadline, [`deadline`] by default. A capture that lost frames is an error, never a smaller number.

pub mod account;
pub mod cgroup;
pub mod collector;
pub mod connection;
pub mod cpu;
pub mod daemon;
pub mod ethtool;
pub mod file;
pub mod foreign;
pub mod hello;
pub mod initials;
pub mod memory;
pub mod multiset;
pub mod netns;
pub mod objects;
pub mod observer;
pub mod packet;
pub mod pins;
pub mod process;
pub mod recording;
pub mod scatter;
pub mod schema;
pub mod socket;
pub mod status;
pub mod stream;
pub mod testrun;
pub mod traffic;
pub mod tun;
pub mod veth;
pub mod vnet;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a test waits for what should take milliseconds: generous, for slow machines with two
/// cores.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How many times as long as elsewhere things may take here, as `TEST_PATIENCE` says: an emulated
/// machine whose host has more to do than it can is held up.
pub fn patience() -> u32 {
    static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
        std::env::var("TEST_PATIENCE")
            .ok()
            .and_then(|times| times.parse().ok())
            .unwrap_or(1)
    });
    *PATIENCE
}

/// The instant [`DEADLINE`] from here, with [`patience`].
pub fn deadline() -> Instant {
    Instant::now() + DEADLINE * patience()
}

/// Between two looks at a condition: short beside what is waited for, and a processor for whoever has
/// to bring it about.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Major and minor number of the running kernel, for tests that must name the kernel they need.
pub fn kernel() -> Result<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("read the kernel's release")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("kernel release {release:?}"),
    }
}

/// A directory of its own, removed with its contents on drop.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes `traffic-mirror-test-<pid>-<n>` in the system's directory for temporary files.
    pub fn new() -> Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    /// The same in another directory.
    pub fn below(parent: &Path) -> Result<Self> {
        let path = parent.join(unique("traffic-mirror-test"));
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

/// `<prefix>-<pid>-<n>`: no two alike among the processes of this machine.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{prefix}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Waits until one of the descriptors is readable or hung up, and says which; `None` at the
/// deadline.
pub(crate) fn wait_readable(
    fds: &[std::os::fd::BorrowedFd<'_>],
    deadline: Instant,
) -> Result<Option<usize>> {
    let mut polled: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    loop {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .as_micros()
            .div_ceil(1000);
        match poll(
            &mut polled,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
            Ok(0) if Instant::now() >= deadline => return Ok(None),
            Ok(_) => {
                let ready = |fd: &PollFd| fd.any().unwrap_or(true);
                if let Some(index) = polled.iter().position(ready) {
                    return Ok(Some(index));
                }
            }
        }
    }
}
