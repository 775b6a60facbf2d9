//! A daemon that takes a file and dies: `crash PIN_PATH FILE WRITES` aborts after so many writes into the live maps, and
//! exits with 0 if there were fewer. `crash PIN_PATH FILE verify` takes a file and fails if the tables are not what they
//! would be in new maps. Either leaves everything in place.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use traffic_mirror::compile::{Memory, new_maps};
use traffic_mirror::desired::{self, Desired};
use traffic_mirror::kernel::Kernel;
use traffic_mirror::reconcile::{State, reconcile};
use traffic_mirror::tables::{Table, Tables};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pin_path, file, writes] = &arguments[..] else { bail!("usage: crash PIN_PATH FILE WRITES|verify") };
    let text = std::fs::read_to_string(file)?;
    let (desired, _) = desired::load(&text).map_err(|errors| anyhow!("{errors:?}"))?;
    let mut kernel = Kernel::claim(Path::new(pin_path), None)?;
    if writes == "verify" {
        reconcile(&mut kernel, &mut State::default(), &desired)?;
        return verify(&mut kernel, &desired);
    }
    let mut left: u64 = writes.parse().context("WRITES is a number")?;
    kernel.after_write(move || {
        left -= 1;
        if left == 0 {
            std::process::abort();
        }
    });
    reconcile(&mut kernel, &mut State::default(), &desired)?;
    Ok(())
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
