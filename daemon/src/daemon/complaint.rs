//! What goes wrong again and again.

use tracing::{error, info};

use crate::kernel::{KernelError, reason};

/// What the kernel refuses is said once, however often it is tried again.
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
        let failure = failure.map(|failure| match &failure {
            KernelError::Halfway { .. } => reason(&failure),
            _ => format!("{}; the running configuration was kept", reason(&failure)),
        });
        match (&self.0, &failure) {
            (Some(_), None) => info!("what failed before works again"),
            (before, Some(text)) if before.as_ref() != Some(text) => error!("{text}"),
            _ => {}
        }
        self.0 = failure;
        left
    }
}
