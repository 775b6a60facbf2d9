//! What a daemon does with files, in its place and on its pins; everything is left as it is then.
//!
//! - `crash die PIN_PATH FILE STEPS` takes a file and aborts before the step of that number that changes the kernel; it exits
//!   with 0 if there were fewer.
//! - `crash next PIN_PATH FILE NEXT STEPS` does what `verify` does, and then the same with the next file as `die`.
//! - `crash verify PIN_PATH FILE` takes a file and fails if the tables are not what they would be in new maps.
//! - `crash fail PIN_PATH FILE NEXT STEP NUMBER` takes a file and then another, with one step of a kind failing, and fails
//!   unless what held before holds again; it exits with 3 if there was no such step.
//! - `crash strip PIN_PATH FILE NEXT ROLE` takes a file and then another, and detaches the programs of a role at the first
//!   write of that; it fails unless that is reported, and for `encap` unless the circuit breakers are renewed.
//! - `crash swap PIN_PATH FILE OTHER RELOADS` takes the other file and the file again, in turns.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use traffic_mirror::compile::{Cache, new_maps};
use traffic_mirror::desired::{self, Desired};
use traffic_mirror::kernel::{Kernel, KernelError, Mechanism, Step};
use traffic_mirror::reconcile::reconcile;
use traffic_mirror::reconciled::Reconciled;
use traffic_mirror::tables::{Table, Tables};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, pin_path, file, rest @ ..] = &arguments[..] else {
        bail!("usage: crash die|next|verify|fail|strip|swap ...")
    };
    // as it is attached
    let pin_path = Path::new(pin_path);
    let mechanism = pin_path
        .join("filters")
        .exists()
        .then_some(Mechanism::Clsact);
    let mut kernel = Kernel::claim(pin_path, mechanism)?;
    let desired = load(file)?;
    match (what.as_str(), rest) {
        ("die", [steps]) => die(&mut kernel, &desired, steps.parse()?),
        ("next", [next, steps]) => {
            reconcile(&mut kernel, &mut Reconciled::default(), &desired)?;
            verify(&mut kernel, &desired)?;
            die(&mut kernel, &load(next)?, steps.parse()?)
        }
        ("verify", []) => {
            reconcile(&mut kernel, &mut Reconciled::default(), &desired)?;
            verify(&mut kernel, &desired)
        }
        ("fail", [next, step, number]) => {
            fail(&mut kernel, &desired, &load(next)?, step, number.parse()?)
        }
        ("strip", [next, role]) => strip(&mut kernel, pin_path, &desired, &load(next)?, role),
        ("swap", [other, reloads]) => {
            swap(&mut kernel, [&load(other)?, &desired], reloads.parse()?)
        }
        _ => bail!("usage: crash die|next|verify|fail|strip|swap ..."),
    }
}

fn load(file: &str) -> Result<Desired> {
    let (desired, _) =
        desired::load(&std::fs::read_to_string(file)?).map_err(|errors| anyhow!("{errors:?}"))?;
    Ok(desired)
}

fn die(kernel: &mut Kernel, desired: &Desired, steps: u64) -> Result<()> {
    let mut left = steps;
    kernel.before(move |_| {
        left -= 1;
        if left == 0 {
            std::process::abort();
        }
        Ok(())
    });
    reconcile(kernel, &mut Reconciled::default(), desired)?;
    Ok(())
}

/// Takes a file and then another; another process takes programs off after the look for such.
fn strip(
    kernel: &mut Kernel,
    pin_path: &Path,
    desired: &Desired,
    next: &Desired,
    role: &str,
) -> Result<()> {
    let mut state = Reconciled::default();
    reconcile(kernel, &mut state, desired)?;
    let before = breakers(kernel)?;
    let (links, role, mut is_done) = (pin_path.join("links"), role.to_owned(), false);
    let prefix = role.clone();
    kernel.before(move |step| {
        if step == Step::Write && !std::mem::replace(&mut is_done, true) {
            let entries = std::fs::read_dir(&links).into_iter().flatten().flatten();
            for entry in
                entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            {
                // a test sees that it has gone
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    });
    let report = reconcile(kernel, &mut state, next)?;
    let line = format!("another process detached {role} from");
    ensure!(
        report
            .repaired
            .iter()
            .any(|repaired| repaired.starts_with(&line)),
        "{role}: {report:?}"
    );
    let after = breakers(kernel)?;
    ensure!(
        role != "encap"
            || before
                .iter()
                .zip(&after)
                .all(|(before, after)| before != after),
        "{role}: the breakers stay: {before:?}"
    );
    Ok(())
}

/// The circuit breakers of the endpoints that are sent to.
fn breakers(kernel: &mut Kernel) -> Result<Vec<u32>> {
    let live = kernel.live(None)?.context("nothing is live")?.tables;
    let bank = live.control.epoch as usize & 1;
    let endpoints = live.endpoints.iter().map(|pair| pair[bank]);
    let sent = endpoints.filter(|endpoint| endpoint.has_way());
    Ok(sent.map(|endpoint| endpoint.breaker).collect())
}

/// Takes one file after the other.
fn swap(kernel: &mut Kernel, files: [&Desired; 2], reloads: usize) -> Result<()> {
    let mut state = Reconciled::default();
    for (reload, desired) in files.into_iter().cycle().take(reloads).enumerate() {
        let report = reconcile(kernel, &mut state, desired)?;
        ensure!(
            report.writes > 0 && report.repaired.is_empty(),
            "reload {reload}: {report:?}"
        );
    }
    Ok(())
}

/// Takes a file and then another; the step of that kind and number fails, once.
fn fail(
    kernel: &mut Kernel,
    desired: &Desired,
    next: &Desired,
    step: &str,
    number: u64,
) -> Result<()> {
    let mut state = Reconciled::default();
    reconcile(kernel, &mut state, desired)?;
    let (mut left, has_failed) = (number, Rc::new(Cell::new(false)));
    let (step, tell) = (step.to_owned(), has_failed.clone());
    kernel.before(move |one| {
        left -= u64::from(left > 0 && format!("{one:?}") == step);
        if left > 0 || tell.replace(true) {
            return Ok(());
        }
        let source = std::io::Error::from_raw_os_error(libc::ENOMEM);
        Err(KernelError::Map {
            action: "do what a test forbids with",
            map: step.clone(),
            source,
        })
    });
    let taken = reconcile(kernel, &mut state, next);
    kernel.before(|_| Ok(()));
    if !has_failed.get() {
        taken?;
        std::process::exit(3);
    }
    match taken {
        Err(error) => {
            ensure!(error.to_string().contains("what a test forbids"), "{error}");
            let again = reconcile(kernel, &mut Reconciled::default(), desired)?;
            ensure!(
                again.writes == 0,
                "{} elements were left to write back",
                again.writes
            );
            verify(kernel, desired)
        }
        // what cannot be attached or removed is no reason not to take a file, and is tried again:
        // at once or later
        Ok(_) => {
            if state
                .obstacles
                .iter()
                .any(|one| one.what.contains("what a test forbids"))
            {
                reconcile(kernel, &mut state, next)?;
            }
            verify(kernel, next)
        }
    }
}

/// Nothing may be left to write, and each table must have as many elements in use as new maps would
/// have.
fn verify(kernel: &mut Kernel, desired: &Desired) -> Result<()> {
    let again = reconcile(kernel, &mut Reconciled::default(), desired)?;
    ensure!(
        again.writes == 0,
        "{} elements were left to write",
        again.writes
    );
    let live = kernel.live(None)?.context("nothing is live")?.tables;
    let fresh = new_maps(
        desired,
        &kernel.observe(desired)?,
        &[],
        &mut Cache::default(),
    )
    .context("there is room")?
    .tables;
    for table in [
        Table::Classes,
        Table::Nodes,
        Table::Skips,
        Table::Rows,
        Table::Slots,
        Table::Filters,
        Table::EndpointNames,
        Table::Endpoints,
        Table::Summaries,
        Table::Hooks,
        Table::Listed,
    ] {
        let (live, fresh) = (in_use(&live, table), in_use(&fresh, table));
        ensure!(
            live == fresh,
            "{table:?}: {live} elements are in use, {fresh} would be in new maps"
        );
    }
    ensure!(
        live.control.banks[0] == live.control.banks[1],
        "the inactive bank differs"
    );
    Ok(())
}

/// Elements that are not zero.
fn in_use(tables: &Tables, table: Table) -> usize {
    let elements = tables
        .pieces(table)
        .flat_map(|(_, piece)| piece.chunks_exact(table.element_bytes()));
    elements
        .filter(|element| element.iter().any(|byte| *byte != 0))
        .count()
}
