//! The daemon's record in the kernel, for all other processes: that it is alive, which file it
//! follows, and which version of that file is live.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aya::maps::{Array, MapData};
use glob::Pattern;
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use traffic_mirror_ebpf::abi::{self, HASH_BYTES};

use crate::desired::Published;
use crate::kernel::Kernel;
use crate::kernel::error::{KernelError, map_error};
use crate::kernel::generation::Generation;
use crate::kernel::object::DAEMON;

/// A SHA-256.
pub type Hash = [u8; HASH_BYTES];

/// The SHA-256 of a text.
pub fn hash(text: &[u8]) -> Hash {
    Sha256::digest(text).into()
}

/// The record of the last daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its process number, in its own process namespace.
    pub pid: u32,
    /// When it was started, seconds since 1970.
    pub started: u64,
    /// Its last sign of life, by [`uptime`].
    pub heartbeat: Duration,
    /// Inode of its mount namespace.
    pub mounts: u64,
    /// Its version.
    pub version: String,
    /// The file that it follows.
    pub path: PathBuf,
    /// Its pin path.
    pub pin_path: PathBuf,
    /// Which version of the file is live.
    pub live: Option<Hash>,
    /// The filters that have metrics of their own, as the live tables.
    pub published: Published,
    /// The rejection of the file, if it was not loaded since.
    pub rejection: Option<Rejection>,
}

/// That the file was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// When, seconds since 1970.
    pub at: u64,
    /// Which version of it; `None` if it could not be read.
    pub hash: Option<Hash>,
}

/// The record below a pin path; `None` if there is none or it cannot be read.
pub fn record(pin_path: &Path) -> Option<Record> {
    Generation::open(pin_path, Generation::list(pin_path).ok()?.pop()?).record()
}

/// The clock of [`Record::heartbeat`]. It stands still while the machine is suspended, as the
/// daemon does.
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Inode of the mount namespace of this process.
pub fn mounts() -> u64 {
    fs::metadata("/proc/self/ns/mnt").map_or(0, |namespace| namespace.ino())
}

/// The record of this process, and the map that it was last written to.
pub(super) struct Pen {
    record: Box<abi::Daemon>,
    map: Option<Array<MapData, abi::Daemon>>,
}

impl Default for Pen {
    fn default() -> Self {
        Self {
            record: Box::new(abi::Daemon::NONE),
            map: None,
        }
    }
}

impl Kernel {
    /// Records that this process is the daemon that follows `file`. Before that nothing is
    /// recorded. The live version of the file, and what it says of metrics, are those of the
    /// predecessor's record.
    pub fn introduce(&mut self, file: &Path) {
        let before = record(&self.pin_path);
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (file, pin_path) = (absolute(file), absolute(&self.pin_path));
        *self.pen.record = abi::Daemon {
            pid: std::process::id(),
            started: now(),
            mounts: mounts(),
            live: before
                .as_ref()
                .and_then(|record| record.live)
                .unwrap_or_default(),
            version: padded(env!("CARGO_PKG_VERSION").as_bytes()),
            path: padded(file.as_os_str().as_bytes()),
            pin_path: padded(pin_path.as_os_str().as_bytes()),
            ..abi::Daemon::NONE
        };
        if let Some(before) = before {
            publish(&mut self.pen.record, &before.published);
        }
        self.beat();
    }

    /// Says which filters have metrics of their own.
    pub fn publish(&mut self, published: &Published) {
        let before = (self.pen.record.published, self.pen.record.patterns);
        publish(&mut self.pen.record, published);
        if (self.pen.record.published, self.pen.record.patterns) != before {
            self.beat();
        }
    }

    /// Says which version of the file is live.
    pub fn tell_live(&mut self, hash: Hash) {
        let record = &mut self.pen.record;
        if (record.live, record.rejected_at) != (hash, 0) {
            (record.live, record.rejected, record.rejected_at) = (hash, [0; HASH_BYTES], 0);
            self.beat();
        }
    }

    /// Says that a version of the file was rejected; `None` if it could not be read.
    pub fn tell_rejected(&mut self, hash: Option<Hash>) {
        let record = &mut self.pen.record;
        (record.rejected, record.rejected_at) = (hash.unwrap_or_default(), now());
        self.beat();
    }

    /// A sign of life. What cannot be written is no reason not to mirror.
    pub fn beat(&mut self) {
        if self.pen.record.pid == 0 {
            return;
        }
        self.pen.record.heartbeat = uptime().as_nanos() as u64;
        if self.pen.map.is_none() {
            let number = Generation::list(&self.pin_path)
                .ok()
                .and_then(|mut numbers| numbers.pop());
            let live = number.map(|number| Generation::open(&self.pin_path, number));
            self.pen.map = live
                .filter(Generation::has_our_layout)
                .and_then(|live| live.array::<abi::Daemon>(DAEMON).ok());
        }
        let Pen { record, map } = &mut self.pen;
        if map
            .as_mut()
            .is_some_and(|map| map.set(0, record, 0).is_err())
        {
            *map = None;
        }
    }

    /// Writes the record into maps that are to be the live ones.
    pub(super) fn hand_on(&self, next: &Generation) -> Result<(), KernelError> {
        next.array::<abi::Daemon>(DAEMON)?
            .set(0, &self.pen.record, 0)
            .map_err(io::Error::other)
            .map_err(map_error("write", DAEMON))
    }

    /// Other maps are the live ones.
    pub(super) fn turn_the_page(&mut self) {
        self.pen.map = None;
        self.beat();
    }
}

impl Generation {
    /// The record of the last daemon; `None` if there is none, or it is of another version.
    pub fn record(&self) -> Option<Record> {
        if !self.has_our_layout() {
            return None;
        }
        let told: Box<abi::Daemon> =
            Box::new(self.array::<abi::Daemon>(DAEMON).ok()?.get(&0, 0).ok()?);
        let known = |hash: Hash| (hash != [0; HASH_BYTES]).then_some(hash);
        (told.pid != 0).then(|| Record {
            pid: told.pid,
            started: told.started,
            heartbeat: Duration::from_nanos(told.heartbeat),
            mounts: told.mounts,
            version: String::from_utf8_lossy(text(&told.version)).into_owned(),
            path: OsStr::from_bytes(text(&told.path)).into(),
            pin_path: OsStr::from_bytes(text(&told.pin_path)).into(),
            live: known(told.live),
            published: published(&told),
            rejection: (told.rejected_at > 0).then(|| Rejection {
                at: told.rejected_at,
                hash: known(told.rejected),
            }),
        })
    }
}

/// Writes which filters have metrics of their own.
fn publish(record: &mut abi::Daemon, published: &Published) {
    record.patterns = abi::Daemon::NONE.patterns;
    record.published = match published {
        Published::All => abi::Daemon::EACH,
        Published::None => abi::Daemon::NONE_OF_THEM,
        Published::Matching(patterns) => {
            // those that are too many or too long are no valid file
            let names = patterns
                .iter()
                .filter_map(|one| abi::Name::new(one.as_str()));
            for (element, name) in record.patterns.iter_mut().zip(names) {
                *element = name;
            }
            abi::Daemon::SOME
        }
    };
}

/// Reads the same.
fn published(record: &abi::Daemon) -> Published {
    match record.published {
        abi::Daemon::NONE_OF_THEM => Published::None,
        abi::Daemon::SOME => {
            let texts = record.patterns.iter().map_while(abi::Name::text);
            Published::Matching(texts.filter_map(|text| Pattern::new(text).ok()).collect())
        }
        _ => Published::All,
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A text that does not fit is truncated; the last byte is zero.
fn padded<const BYTES: usize>(text: &[u8]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let length = text.len().min(BYTES - 1);
    bytes[..length].copy_from_slice(&text[..length]);
    bytes
}

/// Up to the first zero.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_padded_and_read_again() {
        assert_eq!(text(&padded::<8>(b"/etc/m")), b"/etc/m");
        assert_eq!(text(&padded::<8>(b"/etc/mirror")), b"/etc/mi");
        assert_eq!(text(b"full"), b"full");
    }

    #[test]
    fn the_filters_with_metrics_are_read_as_written() {
        let mut record = Box::new(abi::Daemon::NONE);
        let longest = "x".repeat(abi::NAME_BYTES);
        let patterns = ["web-*", &longest].map(|text| Pattern::new(text).unwrap());
        for one in [
            Published::Matching(patterns.to_vec()),
            Published::None,
            Published::All,
            Published::Matching(vec![Pattern::new("dns").unwrap(); abi::MAX_PATTERNS]),
        ] {
            publish(&mut record, &one);
            assert_eq!(published(&record), one);
        }
    }
}
