//! What a reconciliation leaves behind for the next one. Must not know: the kernel, the clock, the
//! file system.

use crate::compile::{Cache, Compiled};
use crate::desired::Desired;
use crate::network::Network;
use crate::obstacle::Obstacle;
use crate::report;

/// What was last made to hold.
pub struct Reconciled {
    /// What the file asked for.
    pub desired: Desired,
    /// What the network was like.
    pub network: Network,
    /// What could not be.
    pub obstacles: Vec<Obstacle>,
    /// What may come as a surprise and is none of these, a line each; all that was said since the
    /// file was last another.
    pub advice: Vec<String>,
    /// What is known of the live tables.
    pub cache: Cache,
    /// Whether anything was made to hold yet: before, nobody knows what a predecessor did.
    pub(crate) has_held: bool,
}

impl Default for Reconciled {
    /// Before the first file: nothing to mirror, and mirroring is on unless a file says otherwise.
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
    /// Everything that is desired holds now, but for what the kernel has refused.
    pub(crate) fn holds(
        &mut self,
        desired: &Desired,
        network: Network,
        want: &Compiled,
        refused: Vec<String>,
    ) {
        let advice = report::advice(desired, &network, want);
        // what comes and goes with a route is said once
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
