//! How many steps a reconciliation may take.

use crate::kernel::KernelError;
use crate::network::Network;

/// Steps at most while the network stays as it is; two switches and their ends need five.
const STEPS: usize = 16;
/// Times at most that the network may change meanwhile: each is a beginning.
const CHANGES: usize = 16;

/// Limits the steps: the daemon handles no event during a reconciliation.
#[derive(Debug, Default)]
pub struct StepBudget {
    last: Option<Network>,
    steps: usize,
    changes: usize,
}

impl StepBudget {
    /// Whether no step has run yet.
    fn is_fresh(&self) -> bool {
        self.last.is_none()
    }

    /// Takes a step.
    ///
    /// # Errors
    /// The limit of steps, or of changes of the network, is reached.
    pub fn spend(&mut self, network: &Network) -> Result<(), KernelError> {
        if self.last.as_ref() == Some(network) {
            self.steps += 1;
        } else {
            self.changes += usize::from(!self.is_fresh());
            self.steps = 1;
            self.last = Some(network.clone());
        }
        if self.changes > CHANGES {
            return Err(KernelError::Unsettled {
                what: format!(
                    "the network changed {} times during one update",
                    self.changes
                ),
                remedy: "the daemon retries within 30 s",
            });
        }
        if self.steps > STEPS {
            return Err(KernelError::Unsettled {
                what: format!("after {STEPS} steps the maps still differ from what was written"),
                remedy: "another process writes them; run `traffic-mirror detach`, then start the daemon",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(step_budget: &mut StepBudget, interface: u32) -> Result<(), String> {
        let network = Network {
            refused: [interface].into(),
            ..Network::default()
        };
        step_budget
            .spend(&network)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_network_that_stays_has_so_many_steps() {
        let mut step_budget = StepBudget::default();
        assert!(step_budget.is_fresh());
        (0..STEPS).for_each(|_| spend(&mut step_budget, 1).unwrap());
        assert!(!step_budget.is_fresh());
        // another network, another beginning
        (0..STEPS).for_each(|_| spend(&mut step_budget, 2).unwrap());
        assert!(
            spend(&mut step_budget, 2)
                .unwrap_err()
                .contains("after 16 steps")
        );
    }

    #[test]
    fn a_network_that_never_rests_is_given_up() {
        let mut step_budget = StepBudget::default();
        (0..=CHANGES as u32).for_each(|interface| spend(&mut step_budget, interface).unwrap());
        assert!(
            spend(&mut step_budget, u32::MAX)
                .unwrap_err()
                .contains("changed 17 times")
        );
    }
}
