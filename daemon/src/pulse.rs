//! Once a second the loop that does the work shows that it does: in the kernel, for `status` and
//! `wait`, and to the service manager's watchdog. Nobody else does, so that a loop that hangs is
//! seen.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

use crate::kernel::Kernel;

/// From one sign of life to the next.
pub const PULSE: Duration = Duration::from_secs(1);

/// When the next sign of life is due, and who waits for it.
#[derive(Debug)]
pub struct Pulse {
    due: Instant,
    /// The service manager ends the daemon that gives no sign for long (`WatchdogSec=`).
    is_watched: bool,
}

impl Pulse {
    /// Due at once.
    pub fn start() -> Self {
        Self {
            due: Instant::now(),
            is_watched: sd_notify::watchdog_enabled().is_some(),
        }
    }

    /// When it is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Gives a sign of life.
    pub fn beat(&mut self, kernel: &mut Kernel) {
        self.due = Instant::now() + PULSE;
        kernel.beat();
        if self.is_watched
            && let Err(failure) = sd_notify::notify(&[NotifyState::Watchdog])
        {
            warn!("cannot notify the service manager: {failure}");
            // once; it ends us if it hears nothing, and starts us again
            self.is_watched = false;
        }
    }
}
