//! What goes wrong again and again.

use tracing::{error, info};

use crate::kernel::{KernelError, reason};

/// What follows a reason for which the kernel was left as it was.
const KEPT: &str = "; mirroring continues with the last valid version";

/// Logs a rejection by the kernel once, however often it is retried.
#[derive(Debug, Default)]
pub(super) struct Complaint(Option<String>);

impl Complaint {
    /// Whether there is something to complain of.
    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Answers how many programs are still to be attached.
    pub(super) fn about(&mut self, taken: Result<usize, KernelError>) -> usize {
        let (left, failure) = taken.map_or_else(|failure| (0, Some(failure)), |left| (left, None));
        let is_kept = !matches!(failure, Some(KernelError::Halfway { .. }));
        let failure = failure.map(|failure| reason(&failure));
        match (&self.0, &failure) {
            (Some(before), None) => info!(event = "resolved", "resolved: {before}"),
            (before, Some(text)) if before.as_ref() != Some(text) => {
                let kept = if is_kept { KEPT } else { "" };
                error!(event = "problem", "{text}{kept}");
            }
            _ => {}
        }
        self.0 = failure;
        left
    }
}
