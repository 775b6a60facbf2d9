//! Applies the desired state, and logs the result.

use tracing::{info, warn};

use crate::desired::Desired;
use crate::kernel::{Kernel, KernelError, Note};
use crate::metrics::Textfile;
use crate::obstacle::{self, Line};
use crate::reconcile::proceed;
use crate::reconciled::Reconciled;
use crate::report::{self, plural};

/// Why to reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The file was read.
    File,
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
    report.lines().for_each(|line| info!("{line}"));
    report.repaired.iter().for_each(|line| warn!("{line}"));
    let lines = obstacle::lines(&before, &state.obstacles);
    for Line { is_warning, text } in &lines {
        if *is_warning {
            warn!("{text}")
        } else {
            info!("{text}")
        }
    }
    if !lines.is_empty() {
        metrics.hurry();
    }
    state
        .advice
        .iter()
        .filter(|line| !advised.contains(line))
        .for_each(|line| info!("{line}"));
    let is_file = occasion == Occasion::File;
    if report.writes > 0 || is_file {
        if is_file {
            info!("{}", report.summary());
        } else {
            let causes = report::network(desired, &network, &state.network);
            info!("{}", report.update(&causes));
        }
        if report.left > 0 {
            info!(
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
