//! `plan`: what taking the file would change in the kernel.

use std::path::Path;
use std::process::ExitCode;

use traffic_mirror::desired::Desired;
use traffic_mirror::kernel::Observer;
use traffic_mirror::preview::{Attached, Preview, preview};

use super::{File, load, print, print_json};
use crate::{CHANGES, FAILURE};

pub(crate) fn plan(file: &Path, pin_path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Some(desired) = load(&File::read(file)?) else { return Ok(FAILURE.into()) };
    let preview = look(&mut Observer::open(pin_path)?, &desired)?;
    if json {
        print_json(&preview)?;
    } else {
        print(&preview.to_string());
    }
    Ok(if preview.is_empty() { ExitCode::SUCCESS } else { CHANGES.into() })
}

/// Compares what the file asks for with the kernel.
pub(super) fn look(observer: &mut Observer, desired: &Desired) -> anyhow::Result<Preview> {
    let live = observer.live()?;
    let network = observer.observe(desired, live.as_ref())?;
    let attached = live.as_ref().map_or_else(|| Ok(Attached::default()), |live| observer.attached(live.generation))?;
    let preview = preview(desired, &network, live.as_ref(), &attached);
    preview.ok_or_else(|| {
        anyhow::anyhow!("the filters need more than 32,768 slots; make fewer of them, or fewer of them bidirectional")
    })
}
