//! THE pipeline: text -> Config -> Desired -> Tables -> Plan -> apply -> Report.

use std::time::Instant;

use crate::compile::{Cache, TooLarge};
use crate::desired::Desired;
use crate::kernel::{Kernel, KernelError, NotApplied};
use crate::network::Network;
use crate::plan::Plan;
use crate::reconciled::Reconciled;
use crate::report::{Report, plural};
use crate::step_budget::StepBudget;
use crate::tables::{Live, Tables};
use crate::{compile, plan, report};

/// Makes the kernel hold the desired state, and reports the changes. After a rejection the previous
/// state is restored.
///
/// # Errors
/// The kernel rejects a change; the previous state is restored, unless the error says otherwise.
pub fn reconcile(
    kernel: &mut Kernel,
    state: &mut Reconciled,
    desired: &Desired,
) -> Result<Report, KernelError> {
    let mut report = proceed(kernel, state, desired)?;
    while report.left > 0 {
        report.extend(proceed(kernel, state, desired)?);
    }
    Ok(report)
}

/// The same in parts: of many programs some are attached or detached by the next call, so that the
/// caller can do other work.
///
/// # Errors
/// As [`reconcile`].
pub fn proceed(
    kernel: &mut Kernel,
    state: &mut Reconciled,
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
    state: &mut Reconciled,
    desired: &Desired,
) -> Result<Report, KernelError> {
    let done = steps(kernel, state, desired);
    if done.is_err() {
        // the next difference may be our own
        state.cache = Cache::default();
    }
    done
}

/// Compiles the next step from the live tables and applies it, until nothing is left to do. So a
/// change that a predecessor left half done is no special case. The live tables are assumed to be
/// as last written, and read once all is done: a change is live before they are read, and
/// modifications by other processes are still found.
fn steps(
    kernel: &mut Kernel,
    state: &mut Reconciled,
    desired: &Desired,
) -> Result<Report, KernelError> {
    let begin = Instant::now();
    let (mut repaired, mut writes) = (lost_maps(kernel, &state.cache)?, 0);
    let (mut step_budget, mut basis) = (StepBudget::default(), Basis::Cache);
    loop {
        kernel.beat();
        let mut live = live_tables(kernel, &state.cache, &mut basis, &mut repaired)?;
        let network = kernel.observe(desired)?;
        step_budget.spend(&network)?;
        let want = compile::next_tables(desired, &network, &mut live, &mut state.cache)
            .ok_or_else(|| no_room(desired, &network))?;
        let difference = plan::difference(live.as_ref(), &want);
        let applied = match kernel.apply(&difference, &want) {
            Ok(applied) => applied,
            Err(NotApplied::Refused) => {
                // what was compiled has not been written
                state.cache.forget();
                continue;
            }
            Err(NotApplied::Failed(error)) => return Err(error),
        };
        repaired.extend(applied.repaired);
        writes += applied.writes;
        if !applied.is_done && applied.left == 0 {
            basis = Basis::Cache;
        } else if basis == Basis::Cache && kernel.live(state.cache.tables())? != live {
            basis = Basis::Kernel;
        } else {
            let changes = report::changes(&state.desired, desired);
            state.holds(desired, network, &want, applied.obstacles);
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

/// The source of a step's live tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// What they were last made.
    Cache,
    /// They were read.
    Kernel,
}

/// The live tables and their source. Writes of other processes are undone first: so they are
/// recognised, and no count changes its owner.
fn live_tables(
    kernel: &mut Kernel,
    cache: &Cache,
    basis: &mut Basis,
    repaired: &mut Vec<String>,
) -> Result<Option<Live>, KernelError> {
    let number = kernel.live_number()?;
    let expected = cache
        .expected()
        .filter(|live| *basis == Basis::Cache && number == Some(live.generation));
    if expected.is_some() {
        return Ok(expected);
    }
    *basis = Basis::Kernel;
    let live = kernel.live(cache.tables())?;
    let Some(plan) = live.as_ref().and_then(|live| undo(&live.tables, cache)) else {
        return Ok(live);
    };
    kernel.restore(&plan)?;
    let elements = plural(plan.elements(), "element");
    repaired.push(format!(
        "another process modified the eBPF maps: restored {elements}"
    ));
    kernel.live(cache.tables())
}

/// Why there are no live tables where there were some, if it is so.
fn lost_maps(kernel: &Kernel, cache: &Cache) -> Result<Vec<String>, KernelError> {
    if kernel.live_number()?.is_some() {
        return Ok(Vec::new());
    }
    let lost = match kernel.flaw()? {
        Some(flaw) => Some(format!(
            "{flaw}: loaded new maps, all counters begin at zero"
        )),
        None if cache.is_empty() => None,
        None => Some("another process removed the eBPF maps: loaded new ones".to_owned()),
    };
    Ok(lost.into_iter().collect())
}

fn undo(live: &Tables, cache: &Cache) -> Option<Plan> {
    Plan::restore(live, &cache.made(live)?)
}

fn no_room(desired: &Desired, network: &Network) -> KernelError {
    if !compile::have_table(desired, network) {
        return KernelError::Limit {
            what: "the indices of the listed interfaces do not fit into a table".to_owned(),
            remedy: "list fewer interfaces",
        };
    }
    if let Err(too_large) = compile::Rooms::default().check(desired) {
        return KernelError::Limit {
            what: too_large.to_string(),
            remedy: TooLarge::REMEDY,
        };
    }
    KernelError::Limit {
        what: "the filters need more than 32,768 slots".to_owned(),
        remedy: "use fewer filters, or fewer bidirectional ones",
    }
}
