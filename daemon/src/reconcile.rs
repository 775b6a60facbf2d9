//! THE pipeline: text -> Config -> Desired -> Tables -> Plan -> apply -> Report.

use std::time::Instant;

use crate::compile::{Cache, TooLarge};
use crate::desired::Desired;
use crate::kernel::{Kernel, KernelError};
use crate::network::Network;
use crate::obstacle::Obstacle;
use crate::plan::Plan;
use crate::report::{Report, plural};
use crate::step_budget::StepBudget;
use crate::tables::Tables;
use crate::{compile, plan, report};

/// What was last made to hold.
pub struct State {
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
    has_held: bool,
}

impl Default for State {
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

/// Makes the kernel hold what is desired, and says what that took. If it refuses, what held before
/// is desired again.
///
/// # Errors
/// The kernel refuses; what held before does again, unless the error says more.
pub fn reconcile(
    kernel: &mut Kernel,
    state: &mut State,
    desired: &Desired,
) -> Result<Report, KernelError> {
    let mut report = proceed(kernel, state, desired)?;
    while report.left > 0 {
        report.extend(proceed(kernel, state, desired)?);
    }
    Ok(report)
}

/// The same, for those who have more to do: where nothing is left but to attach or detach many
/// programs, some of them are left for the next call.
///
/// # Errors
/// As [`reconcile`].
pub fn proceed(
    kernel: &mut Kernel,
    state: &mut State,
    desired: &Desired,
) -> Result<Report, KernelError> {
    converge(kernel, state, desired).map_err(|error| {
        let before = state.desired.clone();
        let undone = if state.has_held && before != *desired {
            converge(kernel, state, &before).map(drop)
        } else {
            Ok(())
        };
        match undone {
            Ok(()) => error,
            Err(again) => KernelError::Halfway {
                error: Box::new(error),
                again: Box::new(again),
            },
        }
    })
}

fn converge(
    kernel: &mut Kernel,
    state: &mut State,
    desired: &Desired,
) -> Result<Report, KernelError> {
    let done = steps(kernel, state, desired);
    if done.is_err() {
        // the next difference may be our own
        state.cache = Cache::default();
    }
    done
}

/// Compiles the next step from what is live, and applies it, until nothing is left to do. So what a
/// predecessor left in the middle is no special case. The live tables are taken for what they were
/// last made, and read once all is done: so a change is live before they are read, and what
/// somebody else has written is found all the same.
///
/// That is undone first: so it is known for what it is, and nothing that was counted changes hands.
fn steps(kernel: &mut Kernel, state: &mut State, desired: &Desired) -> Result<Report, KernelError> {
    let begin = Instant::now();
    let (mut repaired, mut writes) = (Vec::new(), 0);
    let mut step_budget = StepBudget::default();
    let mut must_read = false;
    loop {
        kernel.beat();
        let number = kernel.live_number()?;
        let expected = state
            .cache
            .expected()
            .filter(|live| !must_read && number == Some(live.generation));
        let is_read = expected.is_none();
        let mut live = if is_read {
            kernel.live(state.cache.tables())?
        } else {
            expected
        };
        if step_budget.is_fresh() && live.is_none() {
            match kernel.flaw()? {
                Some(flaw) => repaired.push(format!(
                    "{flaw}; all maps were made again, and counters begin at zero"
                )),
                None if !state.cache.is_empty() => {
                    repaired.push("maps were removed by somebody else; made again".to_owned());
                }
                None => {}
            }
        }
        if is_read
            && let Some(plan) = live
                .as_ref()
                .and_then(|live| undo(&live.tables, &state.cache))
        {
            kernel.restore(&plan)?;
            let elements = plural(plan.elements(), "element");
            repaired.push(format!(
                "maps were changed by somebody else; {elements} written again"
            ));
            live = kernel.live(state.cache.tables())?;
        }
        let network = kernel.observe(desired)?;
        step_budget.spend(&network)?;
        let (want, change) = plan::decide(desired, &network, &mut live, &mut state.cache)
            .ok_or_else(|| no_room(desired, &network))?;
        let refusals = kernel.refusals();
        let applied = match kernel.apply(&change, &want) {
            Ok(applied) => applied,
            // an output interface that takes no `encap`: nothing has changed so far, and nothing
            // may be sent there
            Err(_) if kernel.refusals() > refusals => {
                // what was compiled has not been written
                state.cache.forget();
                continue;
            }
            Err(error) => return Err(error),
        };
        repaired.extend(applied.repaired);
        writes += applied.writes;
        let is_over = applied.is_done || applied.left > 0;
        must_read = is_over && !is_read && kernel.live(state.cache.tables())? != live;
        if is_over && !must_read {
            let changes = report::changes(&state.desired, desired);
            let mut obstacles = report::obstacles(desired, &network, &want);
            obstacles.extend(applied.obstacles.into_iter().map(Obstacle::from));
            let advice = report::advice(desired, &network, &want);
            // what comes and goes with a route is said once
            state
                .advice
                .retain(|line| state.desired == *desired && !advice.contains(line));
            state.advice.extend(advice);
            (state.desired, state.network, state.obstacles) = (desired.clone(), network, obstacles);
            state.has_held = true;
            return Ok(Report {
                changes,
                repaired,
                writes,
                duration: begin.elapsed(),
                left: applied.left,
            });
        }
    }
}

fn undo(live: &Tables, cache: &Cache) -> Option<Plan> {
    Plan::restore(live, &cache.made(live)?)
}

fn no_room(desired: &Desired, network: &Network) -> KernelError {
    if !compile::have_table(desired, network) {
        return KernelError::Missing {
            what: "the indices of the interfaces that are listed fit into no table".to_owned(),
            remedy: "list fewer of them",
        };
    }
    if let Err(too_large) = compile::Rooms::default().check(desired) {
        return KernelError::Missing {
            what: too_large.to_string(),
            remedy: TooLarge::REMEDY,
        };
    }
    KernelError::Missing {
        what: "the filters need more than 32,768 slots".to_owned(),
        remedy: "make fewer of them, or fewer of them bidirectional",
    }
}
