//! Writes the metrics where node_exporter's textfile collector finds them. What fails is no reason
//! not to mirror.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Process, render};
use crate::kernel::record;
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
    /// Where it is to be; if absent, where node_exporter reads, or else below /run.
    given: Option<PathBuf>,
    /// Where it was last written.
    written: Option<PathBuf>,
    pin_path: PathBuf,
    due: Instant,
    /// What was last complained about.
    complaint: Option<String>,
}

impl Textfile {
    /// Metrics of what is below a pin path. Without `path`: the directory of node_exporter, as soon
    /// as it exists and can be written, and until then one below /run. Writes nothing yet.
    pub fn new(path: Option<&Path>, pin_path: &Path) -> Self {
        Self {
            process: Process::default(),
            given: path.map(Path::to_owned),
            written: None,
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
        let places = self.places();
        let complaint = match self.try_write(&places) {
            Ok(()) => None,
            Err(error) => Some(format!("{error:#}")),
        };
        let path = places[0].display();
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

    /// Where it may be written, the best place first. node_exporter may be installed or removed
    /// while the daemon runs.
    fn places(&self) -> Vec<PathBuf> {
        let collector = Path::new(COLLECTOR);
        match &self.given {
            Some(path) => vec![path.clone()],
            None if collector.is_dir() => vec![collector.join(NAME), ELSEWHERE.into()],
            None => vec![ELSEWHERE.into()],
        }
    }

    /// Writes it to the first place where that is possible. An error is that of the best place.
    fn try_write(&mut self, places: &[PathBuf]) -> anyhow::Result<()> {
        let status = status::read_without_places(&self.pin_path)?;
        let published = record(&self.pin_path).map(|record| record.published);
        let text = render(
            status.as_ref(),
            &self.process,
            &published.unwrap_or_default(),
        );
        let mut failure = None;
        for path in places {
            if let Some(directory) = own_directory(path) {
                // the write below reports a failure
                let _ = fs::create_dir(directory);
            }
            match replace(path, &text) {
                Ok(()) => {
                    self.moved(path);
                    return failure.map_or(Ok(()), |failure: io::Error| {
                        let remedy = match failure.kind() {
                            // the unit allows what existed when it was started
                            io::ErrorKind::ReadOnlyFilesystem => {
                                ", to write there run: systemctl restart traffic-mirror"
                            }
                            _ => "",
                        };
                        let meanwhile = path.display();
                        Err(anyhow::anyhow!(
                            "{failure}; metrics are in {meanwhile} meanwhile{remedy}"
                        ))
                    });
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure
            .unwrap_or_else(|| io::ErrorKind::NotFound.into())
            .into())
    }

    /// It is there now: what is in other places is old.
    fn moved(&mut self, path: &Path) {
        let before = self.written.replace(path.to_owned());
        if before.as_deref() == Some(path) {
            return;
        }
        if before.is_some() {
            info!(
                event = "notice",
                "the daemon writes metrics to {} from now on",
                path.display()
            );
        }
        // left by this daemon, or by one that crashed
        let old = [Path::new(COLLECTOR).join(NAME), ELSEWHERE.into()];
        let old = old
            .iter()
            .filter(|old| self.given.is_none() && *old != path);
        old.for_each(|old| {
            let _ = remove_file(old);
        });
    }

    /// Removes the file: a stopped daemon has no metrics.
    pub fn remove(self) {
        for path in self.written.iter().chain(&self.places()) {
            match remove_file(path) {
                // a failure to write was logged already
                Err(error)
                    if error.kind() != io::ErrorKind::NotFound && self.complaint.is_none() =>
                {
                    warn!(
                        event = "problem",
                        "cannot remove {}: {error}",
                        path.display()
                    );
                }
                _ => {}
            }
        }
    }
}

/// Removes the file, and the directory if it was made for it.
fn remove_file(path: &Path) -> io::Result<()> {
    let removed = fs::remove_file(path);
    if let Some(directory) = own_directory(path) {
        // the service manager's is not ours to remove
        let _ = fs::remove_dir(directory);
    }
    removed
}

fn own_directory(path: &Path) -> Option<&Path> {
    path.parent().filter(|_| path == Path::new(ELSEWHERE))
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
