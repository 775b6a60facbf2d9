//! Input: the daemon's record of its file, and the file. Output: whether the file is the live one.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Daemon, Reason};
use crate::kernel::{Hash, Record, Rejection, mounts};
use crate::source;
use crate::source::trust;

/// Digits of a SHA-256 that are shown.
pub(super) const SHORT: usize = 12;

/// The file that the daemon follows, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its path, in the daemon's mount namespace.
    pub path: String,
    /// Whether it is the live one.
    pub state: Standing,
    /// SHA-256 of what is on disk, hexadecimal; absent if it cannot be read.
    pub sha256: Option<String>,
    /// SHA-256 of the version that is live.
    pub live_sha256: Option<String>,
    /// SHA-256 of the version that was last rejected, if none was loaded since.
    pub rejected_sha256: Option<String>,
    /// When that was, seconds since 1970.
    pub rejected_at: Option<u64>,
    /// When what is on disk was last changed, seconds since 1970.
    pub changed_at: Option<u64>,
    /// Why it cannot be read, or was rejected for its rights.
    pub error: Option<String>,
}

/// Whether the file is the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is.
    Live,
    /// It is not loaded yet.
    Changed,
    /// It was rejected.
    Rejected,
    /// There is no such file.
    Missing,
    /// It cannot be read.
    Unreadable,
    /// It is a mount of its own, and what it was made from was replaced or deleted.
    Orphan,
    /// It is in a mount namespace that cannot be seen from here.
    Skipped,
}

impl File {
    /// Looks at the file.
    pub fn look(record: &Record, daemon: &Daemon) -> Self {
        let mut file = Self {
            path: record.path.display().to_string(),
            state: Standing::Skipped,
            sha256: None,
            live_sha256: record.live.as_ref().map(hexadecimal),
            rejected_sha256: record
                .rejection
                .and_then(|rejection| rejection.hash)
                .as_ref()
                .map(hexadecimal),
            rejected_at: record.rejection.map(|rejection| rejection.at),
            changed_at: None,
            error: None,
        };
        let Some(path) = reach(record, daemon) else {
            return file;
        };
        file.changed_at = std::fs::metadata(&path)
            .ok()
            .and_then(|data| data.mtime().try_into().ok());
        let found = source::fingerprint(&path);
        file.sha256 = found.as_ref().ok().map(hexadecimal);
        file.error = found.as_ref().err().map(ToString::to_string);
        file.state = match found {
            _ if source::is_orphan(&path) => Standing::Orphan,
            // in another mount namespace symbolic links may lead elsewhere
            Ok(hash) => match trust::distrust(&path).filter(|_| record.mounts == mounts()) {
                Some(why) => {
                    file.error = Some(why);
                    Standing::Rejected
                }
                None => standing(hash, record),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Standing::Missing,
            Err(_) => Standing::Unreadable,
        };
        file
    }

    /// Why it is not the live one, if so.
    pub fn reason(&self) -> Option<Reason> {
        let Self { path, .. } = self;
        let (text, since) = match self.state {
            Standing::Live | Standing::Skipped => return None,
            Standing::Changed => (
                format!("{path} has changed and is not loaded yet"),
                self.changed_at,
            ),
            Standing::Rejected => {
                let why = self.error.as_deref().unwrap_or("the log has the reason");
                (
                    format!(
                        "{path} was rejected; mirroring continues with the last valid version; {why}"
                    ),
                    self.rejected_at,
                )
            }
            Standing::Missing => (
                format!("{path} is missing; mirroring continues with the last valid version"),
                self.rejected_at,
            ),
            Standing::Unreadable => {
                let error = self.error.as_deref().unwrap_or_default();
                (
                    format!(
                        "the daemon cannot read {path} ({error}); mirroring continues with the \
                         last valid version"
                    ),
                    self.rejected_at,
                )
            }
            Standing::Orphan => (
                format!(
                    "{path} was replaced or deleted outside of its mount; restart the \
                     container, or mount its directory"
                ),
                None,
            ),
        };
        Some(Reason { text, since })
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let short = |hash: &Option<String>| short(hash).unwrap_or("none").to_owned();
        let (path, live) = (&self.path, short(&self.live_sha256));
        let state = match self.state {
            Standing::Live => return format!("{path}, sha256 {}, live", short(&self.sha256)),
            Standing::Skipped => {
                return format!("{path} of another mount namespace; sha256 {live} is live");
            }
            Standing::Changed => "changed on disk, NOT LOADED yet".to_owned(),
            Standing::Rejected => {
                format!(
                    "REJECTED {}",
                    self.rejected_at.map(super::local).unwrap_or_default()
                )
            }
            Standing::Missing => "MISSING".to_owned(),
            Standing::Unreadable => {
                format!("UNREADABLE ({})", self.error.as_deref().unwrap_or_default())
            }
            Standing::Orphan => "REPLACED outside of its mount".to_owned(),
        };
        format!(
            "{path}, sha256 {}, {state}; sha256 {live} is live",
            short(&self.sha256)
        )
    }
}

fn standing(hash: Hash, record: &Record) -> Standing {
    let is_rejected = |rejection: &Rejection| rejection.hash == Some(hash);
    if record.rejection.as_ref().is_some_and(is_rejected) {
        Standing::Rejected
    } else if record.live == Some(hash) {
        Standing::Live
    } else {
        Standing::Changed
    }
}

/// Where the file of the daemon is for this process; `None` if it cannot be reached.
fn reach(record: &Record, daemon: &Daemon) -> Option<PathBuf> {
    let is_here = record.mounts == mounts();
    let root = daemon
        .process()
        .map(|pid| Path::new("/proc").join(pid.to_string()).join("root"));
    match root.filter(|root| !is_here && root.exists()) {
        Some(root) => Some(root.join(record.path.strip_prefix("/").unwrap_or(&record.path))),
        // one that has ended has no namespace any more
        None => (is_here || daemon.pid.is_none()).then(|| record.path.clone()),
    }
}

fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The beginning of a SHA-256.
pub(super) fn short(hash: &Option<String>) -> Option<&str> {
    hash.as_ref().map(|hash| hash.get(..SHORT).unwrap_or(hash))
}
