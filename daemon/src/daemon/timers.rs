//! Due times of work that no event triggers.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::pulse::Pulse;

/// Pause after reading the network, as a multiple of its duration: on a host where routes change
/// all the time the daemon uses at most a twentieth of a CPU, unless reading takes very long.
const REST: u32 = 19;
const REST_MOST: Duration = Duration::from_secs(1);
/// Interval of retries, and of checks for changes without an event.
const DRIFT: Duration = Duration::from_secs(30);

/// Due times of work that no event triggers.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) drift: Instant,
    pub(super) pulse: Pulse,
    /// Earliest time of the next reading of the network, whatever happens there.
    pub(super) rested: Instant,
}

impl Timers {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            drift: now + DRIFT,
            pulse: Pulse::start(),
            rested: now,
        }
    }

    /// Whether retries and checks without an event are due.
    pub(super) fn is_drift_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.drift <= now;
        if is_due {
            self.drift = now + DRIFT;
        }
        is_due
    }

    /// Delays the next reading of the network by a multiple of the CPU time that this one took.
    pub(super) fn rest(&mut self, work: Duration) {
        self.rested = Instant::now() + (work * REST).min(REST_MOST);
    }
}

/// What this thread has had of a CPU: not the time in which it waits for answers.
pub(super) fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
