//! A daemon that takes a file and dies: `crash PIN_PATH FILE STEPS` aborts before the step of that number that changes the
//! kernel, and exits with 0 if there were fewer. `crash PIN_PATH FILE verify` takes a file and fails if the tables are not
//! what they would be in new maps. `crash PIN_PATH FILE NEXT STEP NUMBER` takes a file and then another, with one step of a
//! kind failing, and fails unless what held before holds again; it exits with 3 if there was no such step. All of them
//! leave everything in place.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use traffic_mirror::compile::{Memory, new_maps};
use traffic_mirror::desired::{self, Desired};
use traffic_mirror::kernel::{Kernel, KernelError};
use traffic_mirror::reconcile::{State, reconcile};
use traffic_mirror::tables::{Table, Tables};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (pin_path, file, rest) = match &arguments[..] {
        [pin_path, file, rest @ ..] => (pin_path, load(file)?, rest),
        _ => bail!("usage: crash PIN_PATH FILE STEPS|verify|NEXT STEP NUMBER"),
    };
    let mut kernel = Kernel::claim(Path::new(pin_path), None)?;
    let desired = file;
    let steps = match rest {
        [next, step, number] => return fail(&mut kernel, &desired, &load(next)?, step, number.parse()?),
        [steps] => steps,
        _ => bail!("what is to be done?"),
    };
    if steps == "verify" {
        reconcile(&mut kernel, &mut State::default(), &desired)?;
        return verify(&mut kernel, &desired);
    }
    let mut left: u64 = steps.parse().context("STEPS is a number")?;
    kernel.before(move |_| {
        left -= 1;
        if left == 0 {
            std::process::abort();
        }
        Ok(())
    });
    reconcile(&mut kernel, &mut State::default(), &desired)?;
    Ok(())
}

fn load(file: &str) -> Result<Desired> {
    let (desired, _) = desired::load(&std::fs::read_to_string(file)?).map_err(|errors| anyhow!("{errors:?}"))?;
    Ok(desired)
}

/// Takes a file and then another; the step of that kind and number fails, once.
fn fail(kernel: &mut Kernel, desired: &Desired, next: &Desired, step: &str, number: u64) -> Result<()> {
    let mut state = State::default();
    reconcile(kernel, &mut state, desired)?;
    let (mut left, has_failed) = (number, Rc::new(Cell::new(false)));
    let (step, tell) = (step.to_owned(), has_failed.clone());
    kernel.before(move |one| {
        left -= u64::from(left > 0 && format!("{one:?}") == step);
        if left > 0 || tell.replace(true) {
            return Ok(());
        }
        let source = std::io::Error::from_raw_os_error(libc::ENOMEM);
        Err(KernelError::Map { action: "do what a test forbids with", map: step.clone(), source })
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
            let again = reconcile(kernel, &mut State::default(), desired)?;
            ensure!(again.writes == 0, "{} elements were left to write back", again.writes);
            verify(kernel, desired)
        }
        // what cannot be attached or removed is no reason not to take a file, and is tried again: at once or later
        Ok(_) => {
            if state.obstacles.iter().any(|line| line.contains("what a test forbids")) {
                reconcile(kernel, &mut state, next)?;
            }
            verify(kernel, next)
        }
    }
}

/// Nothing may be left to write, and each table must have as many elements in use as new maps would have.
fn verify(kernel: &mut Kernel, desired: &Desired) -> Result<()> {
    let again = reconcile(kernel, &mut State::default(), desired)?;
    ensure!(again.writes == 0, "{} elements were left to write", again.writes);
    let live = kernel.live()?.context("nothing is live")?.tables;
    let fresh = new_maps(desired, &kernel.observe(desired)?, &mut Memory::default()).context("there is room")?.tables;
    for table in [
        Table::Classes,
        Table::Nodes,
        Table::Skips,
        Table::Rows,
        Table::Slots,
        Table::Filters,
        Table::EndpointNames,
        Table::Endpoints,
        Table::Hooks,
    ] {
        let (live, fresh) = (in_use(&live, table), in_use(&fresh, table));
        ensure!(live == fresh, "{table:?}: {live} elements are in use, {fresh} would be in new maps");
    }
    ensure!(live.control.view[0] == live.control.view[1], "the idle view differs");
    Ok(())
}

/// Elements that are not zero.
fn in_use(tables: &Tables, table: Table) -> usize {
    let elements = tables.bytes(table).chunks_exact(table.element_bytes());
    elements.filter(|element| element.iter().any(|byte| *byte != 0)).count()
}
