//! Applies the desired state, and logs the result.

use tracing::{Level, info};

use crate::about::About;
use crate::desired::Desired;
use crate::kernel::{Kernel, KernelError, Note};
use crate::log::tell;
use crate::metrics::Textfile;
use crate::obstacle::{self, Line};
use crate::reconcile::proceed;
use crate::reconciled::Reconciled;
use crate::report::{self, Report, bounded, plural};

/// Why to reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The file was read.
    File,
    /// The addresses of DNS names are others.
    Names,
    /// Another event.
    Network,
}

pub(super) fn take(
    kernel: &mut Kernel,
    state: &mut Reconciled,
    metrics: &mut Textfile,
    desired: &Desired,
    occasion: Occasion,
) -> Result<usize, KernelError> {
    let (before, advised) = (state.obstacles.clone(), state.advice.clone());
    let network = state.network.clone();
    let reconciled = proceed(kernel, state, desired);
    metrics
        .process
        .applied(occasion == Occasion::File, reconciled.as_ref().ok());
    let report = reconciled?;
    kernel.publish(&desired.published);
    log_changes(&report);
    let lines = obstacle::lines(&before, &state.obstacles);
    for Line {
        is_warning,
        event,
        about,
        text,
    } in &lines
    {
        let level = if *is_warning {
            Level::WARN
        } else {
            Level::INFO
        };
        tell(level, event, about, text);
    }
    if !lines.is_empty() {
        metrics.hurry();
    }
    state
        .advice
        .iter()
        .filter(|line| !advised.contains(line))
        .for_each(|line| info!(event = "advice", "{line}"));
    if report.writes > 0 || occasion == Occasion::File {
        let what = match occasion {
            Occasion::File => Some("the file"),
            Occasion::Names => Some("the addresses of DNS names"),
            Occasion::Network => None,
        };
        if let Some(what) = what {
            let (changes, map_writes) = (report.changes.len(), report.writes);
            let duration_seconds = report.duration.as_secs_f64();
            info!(
                event = "loaded",
                changes,
                map_writes,
                duration_seconds,
                "{}",
                report.summary(what)
            );
        } else {
            let causes = report::network(desired, &network, &state.network);
            let (map_writes, duration_seconds) = (report.writes, report.duration.as_secs_f64());
            info!(
                event = "updated",
                map_writes,
                duration_seconds,
                "{}",
                report.update(&causes)
            );
        }
        if report.left > 0 {
            info!(
                event = "pending",
                "{} still to attach or detach, in the background",
                plural(report.left, "program")
            );
        }
    }
    // the maps may be those of a version that had no place for it
    if !report.repaired.is_empty() {
        let _ = kernel.note(Note::Repaired(report.repaired.len()));
    }
    if occasion == Occasion::File || !report.changes.is_empty() {
        let _ = kernel.note(Note::Loaded);
    }
    Ok(report.left)
}

/// Logs what a reload has changed, and what it has restored: a line each, and one for those beyond
/// the limit.
fn log_changes(report: &Report) {
    let (changes, more_changes) = bounded(&report.changes, "change");
    for change in changes {
        tell(Level::INFO, change.sign.event(), &change.about(), change);
    }
    let (repaired, more_repaired) = bounded(&report.repaired, "repair");
    let nothing = About::default();
    for line in repaired {
        tell(Level::WARN, "restored", &nothing, line);
    }
    if let Some(line) = more_changes {
        tell(Level::INFO, "changed", &nothing, line);
    }
    if let Some(line) = more_repaired {
        tell(Level::WARN, "restored", &nothing, line);
    }
}
