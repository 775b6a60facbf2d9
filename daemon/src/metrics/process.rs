//! What the daemon itself has done, and its metrics.

use std::time::Duration;

use super::{counters, dns, gauges, label, one};
use crate::dns::Figures;
use crate::report::Report;

/// What a daemon has done since it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// The revision of the source that the daemon was built from.
    revision: &'static str,
    /// Times that the daemon read the file: at its start, after a change, on SIGHUP.
    reloads: u64,
    /// Times that the daemon or the kernel rejected it.
    failures: u64,
    /// The file that was last read is the live one.
    is_live: bool,
    /// The file that was last read is right.
    is_right: bool,
    /// Elements of maps that were written.
    map_writes: u64,
    /// How long the last reload took that did not fail.
    duration: Duration,
    /// How the DNS names of the file are, if it has any.
    pub dns: Option<Figures>,
}

impl Process {
    /// A daemon of this revision that has done nothing so far.
    pub fn of(revision: &'static str) -> Self {
        Self {
            revision,
            ..Self::default()
        }
    }

    /// The file was read, and is wrong.
    pub fn rejected(&mut self) {
        (self.is_right, self.is_live) = (false, false);
        self.reloads += 1;
        self.failures += 1;
    }

    /// The last valid file was applied, because it was read (`is_reload`) or for another reason.
    /// Without a report the kernel rejected it.
    pub fn applied(&mut self, is_reload: bool, report: Option<&Report>) {
        if is_reload {
            self.is_right = true;
            self.reloads += 1;
        }
        match report {
            Some(report) => {
                // what failed at first may have come true later
                self.is_live = self.is_right;
                self.map_writes += report.writes as u64;
                if is_reload {
                    self.duration = report.duration;
                }
            }
            None if is_reload => {
                self.is_live = false;
                self.failures += 1;
            }
            None => {}
        }
    }
}

/// Records them.
pub(super) fn record(process: &Process) {
    let build = vec![
        label("version", env!("CARGO_PKG_VERSION")),
        label("revision", process.revision),
    ];
    gauges(
        "traffic_mirror_build_info",
        "Always 1; version and revision of the daemon are labels.",
        [(build, 1.0)],
    );
    gauges(
        "traffic_mirror_config_last_reload_successful",
        "1 if the file that the daemon last read is live; 0 if the daemon or the kernel rejected it.",
        one(f64::from(process.is_live)),
    );
    gauges(
        "traffic_mirror_config_last_reload_duration_seconds",
        "Seconds that the last successful reload took.",
        one(process.duration.as_secs_f64()),
    );
    counters(
        "traffic_mirror_config_reloads_total",
        "Times that the daemon read the file: at its start, after a change, on SIGHUP.",
        one(process.reloads),
    );
    counters(
        "traffic_mirror_config_reload_failures_total",
        "Times that the daemon or the kernel rejected the file.",
        one(process.failures),
    );
    counters(
        "traffic_mirror_map_writes_total",
        "Elements that the daemon wrote into eBPF maps.",
        one(process.map_writes),
    );
    if let Some(figures) = &process.dns {
        dns::record(figures);
    }
}
