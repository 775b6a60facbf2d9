//! Writes the metrics where node_exporter's textfile collector finds them. What fails is no reason
//! not to mirror.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Process, render};
use crate::status;

/// Interval between two writes without a special reason.
const PERIOD: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_secs(1);
/// Where Debian's node_exporter reads.
const COLLECTOR: &str = "/var/lib/prometheus/node-exporter";
const NAME: &str = "traffic-mirror.prom";
/// The place without node_exporter.
const ELSEWHERE: &str = "/run/traffic-mirror/metrics.prom";
/// The collector rejects a whole file if it cannot read a part.
const MODE: u32 = 0o644;

/// The file with the metrics.
#[derive(Debug)]
pub struct Textfile {
    /// What the daemon has done.
    pub process: Process,
    path: PathBuf,
    pin_path: PathBuf,
    due: Instant,
    /// What was last complained about.
    complaint: Option<String>,
}

impl Textfile {
    /// Metrics of what is below a pin path. Without `path`: the directory of node_exporter, and if
    /// that is missing, one below /run. Writes nothing yet.
    pub fn new(path: Option<&Path>, pin_path: &Path) -> Self {
        let path = path.map_or_else(usual_path, Path::to_owned);
        Self {
            process: Process::default(),
            path,
            pin_path: pin_path.to_owned(),
            due: Instant::now(),
            complaint: None,
        }
    }

    /// When to write it.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Makes the next write due soon: not at once, since with thousands of filters it takes a tenth
    /// of a second, and another reload may follow.
    pub fn hurry(&mut self) {
        self.due = self.due.min(Instant::now() + SOON);
    }

    /// Writes the metrics. A failure is logged once, and so is its end.
    pub fn write(&mut self) {
        self.due = Instant::now() + PERIOD;
        let complaint = self.try_write().err().map(|error| format!("{error:#}"));
        let path = self.path.display();
        match (&self.complaint, &complaint) {
            (Some(_), None) => {
                info!(
                    event = "resolved",
                    "the daemon writes metrics to {path} again"
                )
            }
            (before, Some(why)) if before.as_ref() != Some(why) => {
                warn!(
                    event = "problem",
                    "cannot write metrics to {path}: {why}; mirroring continues"
                );
            }
            _ => {}
        }
        self.complaint = complaint;
    }

    fn try_write(&self) -> anyhow::Result<()> {
        if let Some(directory) = self.own_directory() {
            // the write below reports a failure
            let _ = fs::create_dir(directory);
        }
        let status = status::read_without_places(&self.pin_path)?;
        replace(&self.path, &render(status.as_ref(), &self.process))?;
        Ok(())
    }

    /// Removes the file: a stopped daemon has no metrics.
    pub fn remove(self) {
        match fs::remove_file(&self.path) {
            // a failure to write was logged already
            Err(error) if error.kind() != io::ErrorKind::NotFound && self.complaint.is_none() => {
                warn!(
                    event = "problem",
                    "cannot remove {}: {error}",
                    self.path.display()
                );
            }
            _ => {}
        }
        if let Some(directory) = self.own_directory() {
            // the service manager's is not ours to remove
            let _ = fs::remove_dir(directory);
        }
    }

    fn own_directory(&self) -> Option<&Path> {
        self.path
            .parent()
            .filter(|_| self.path == Path::new(ELSEWHERE))
    }
}

fn usual_path() -> PathBuf {
    let collector = Path::new(COLLECTOR);
    if collector.is_dir() {
        collector.join(NAME)
    } else {
        ELSEWHERE.into()
    }
}

/// Replaces a file atomically. The temporary file beside it begins with a dot and has another
/// suffix, so that no collector reads it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let beside = path.with_file_name(format!(".{}.new", name.display()));
    // left by a crash
    let _ = fs::remove_file(&beside);
    let written = write_new(&beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Follows no symbolic link that another user may have created.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())
}
