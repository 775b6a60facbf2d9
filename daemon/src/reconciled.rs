//! State that a reconciliation leaves for the next one. Must not know: the kernel, the clock, the
//! file system.

use crate::compile::{Cache, Compiled};
use crate::desired::Desired;
use crate::network::Network;
use crate::obstacle::Obstacle;
use crate::report;

/// What was last made to hold.
pub struct Reconciled {
    /// The meaning of the file.
    pub desired: Desired,
    /// What the network was like.
    pub network: Network,
    /// What could not be.
    pub obstacles: Vec<Obstacle>,
    /// Advice, a line each; all lines since the file last changed.
    pub advice: Vec<String>,
    /// The contents of the live tables, as far as they are known.
    pub cache: Cache,
    /// Whether a reconciliation has succeeded: before the first, the predecessor's state is
    /// unknown.
    pub(crate) has_held: bool,
}

impl Default for Reconciled {
    /// Before the first file: nothing to mirror, and mirroring is enabled unless a file disables
    /// it.
    fn default() -> Self {
        let desired = Desired {
            enabled: true,
            ..Desired::default()
        };
        Self {
            desired,
            network: Network::default(),
            obstacles: Vec::new(),
            advice: Vec::new(),
            cache: Cache::default(),
            has_held: false,
        }
    }
}

impl Reconciled {
    /// Everything desired holds now, except what the kernel has rejected.
    pub(crate) fn holds(
        &mut self,
        desired: &Desired,
        network: Network,
        want: &Compiled,
        refused: Vec<String>,
    ) {
        let advice = report::advice(desired, &network, want);
        // advice that comes and goes with a route is logged once
        self.advice
            .retain(|line| self.desired == *desired && !advice.contains(line));
        self.advice.extend(advice);
        self.obstacles = report::obstacles(desired, &network, want);
        self.obstacles
            .extend(refused.into_iter().map(Obstacle::from));
        (self.desired, self.network) = (desired.clone(), network);
        self.has_held = true;
    }
}
