//! The heartbeat: once a second the main loop writes a sign of life into the kernel, for `status`
//! and `wait`, and notifies the service manager's watchdog. No other code does, so a hanging loop
//! is detected.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

use crate::kernel::Kernel;

/// From one sign of life to the next.
pub const PULSE: Duration = Duration::from_secs(1);

/// When the next heartbeat is due, and who receives it.
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
            warn!(
                event = "problem",
                "cannot notify the service manager: {failure}"
            );
            // once; it ends us if it hears nothing, and starts us again
            self.is_watched = false;
        }
    }
}
