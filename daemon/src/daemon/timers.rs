//! When it is time for what no event tells.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::pulse::Pulse;

/// After a look at the network nothing is looked at for so many times as long as it took: a host
/// where routes come and go all the time gives us a twentieth of a CPU at most, unless a look takes
/// very long.
const REST: u32 = 19;
const REST_MOST: Duration = Duration::from_secs(1);
/// What failed is tried again, and what no event tells is looked for.
const DRIFT: Duration = Duration::from_secs(30);

/// When what is due that no event tells.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) drift: Instant,
    pub(super) pulse: Pulse,
    /// However much happens in the network, it is not looked at before.
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

    /// Whether what failed is to be tried again, and what no event tells to be looked for.
    pub(super) fn is_drift_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.drift <= now;
        if is_due {
            self.drift = now + DRIFT;
        }
        is_due
    }

    /// A look at the network has taken so much of a CPU: the next one has to wait for so many times
    /// as long.
    pub(super) fn rest(&mut self, work: Duration) {
        self.rested = Instant::now() + (work * REST).min(REST_MOST);
    }
}

/// What this thread has had of a CPU: not the time in which it waits for answers.
pub(super) fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
