//! THE pipeline: text -> Config -> Desired -> Tables -> Plan -> apply -> Report.

use std::time::Instant;

use crate::compile::{Compiled, compile};
use crate::desired::Desired;
use crate::kernel::{Kernel, KernelError};
use crate::network::Network;
use crate::plan::Plan;
use crate::report::{self, Report};

/// What was last made to hold.
pub struct State {
    /// What the file asked for.
    pub desired: Desired,
    /// What the network was like.
    pub network: Network,
    /// What could not be, a line each.
    pub obstacles: Vec<String>,
}

impl Default for State {
    /// Before the first file: nothing to mirror, and mirroring is on unless a file says otherwise.
    fn default() -> Self {
        let desired = Desired { enabled: true, ..Desired::default() };
        Self { desired, network: Network::default(), obstacles: Vec::new() }
    }
}

/// Makes the kernel hold what is desired, and says what that took.
///
/// # Errors
/// The kernel refuses; what was live stays.
pub fn reconcile(kernel: &mut Kernel, state: &mut State, desired: &Desired) -> Result<Report, KernelError> {
    let begin = Instant::now();
    let mut refused = Vec::new();
    let (network, want, plan, applied) = loop {
        let network = kernel.observe(desired)?;
        let want = compile(desired, &network);
        let plan = Plan::diff(kernel.live()?.as_ref(), &want.tables);
        let refusals = kernel.refusals();
        match kernel.apply(&plan, &want) {
            Ok(applied) => break (network, want, plan, applied),
            // an output interface that takes no `encap`: nothing has changed so far, and nothing may be sent there
            Err(error) if kernel.refusals() > refusals => refused.push(error),
            Err(error) => return Err(error),
        }
    };
    verify(kernel, &want)?;

    let changes = report::changes(&state.desired, desired);
    let mut obstacles = report::obstacles(desired, &network, &want);
    obstacles.extend(refused.iter().chain(&applied.failed).map(ToString::to_string));
    *state = State { desired: desired.clone(), network, obstacles };
    Ok(Report { changes, repaired: applied.repaired, writes: plan.writes().len(), duration: begin.elapsed() })
}

/// Reads everything again: nothing may be left to write.
fn verify(kernel: &Kernel, want: &Compiled) -> Result<(), KernelError> {
    match Plan::diff(kernel.live()?.as_ref(), &want.tables) {
        Plan::Nothing => Ok(()),
        left => Err(KernelError::Missing {
            what: format!("{} map elements differ from what was written", left.writes().len()),
            remedy: "something else writes these maps; run `traffic-mirror detach` and start again",
        }),
    }
}
