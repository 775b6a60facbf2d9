//! `plan`: what taking the file would change in the kernel.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use traffic_mirror::desired::Desired;
use traffic_mirror::kernel::Observer;
use traffic_mirror::network::Network;
use traffic_mirror::preview::{Attached, Preview, preview};
use traffic_mirror::tables::Live;

use super::{File, load, print, print_json};
use crate::{CHANGES, FAILURE};

pub(crate) fn plan(file: &Path, pin_path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Some(desired) = load(&File::read(file)?) else { return Ok(FAILURE.into()) };
    let preview = Seen::look(&mut Observer::open(pin_path)?, &desired)?.preview(&desired)?;
    if json {
        print_json(&preview)?;
    } else {
        print(&preview.to_string());
    }
    Ok(if preview.is_empty() { ExitCode::SUCCESS } else { CHANGES.into() })
}

/// All that a preview depends on, beside the file.
#[derive(PartialEq)]
pub(super) struct Seen {
    live: Option<Live>,
    network: Network,
    attached: Attached,
}

impl Seen {
    pub(super) fn look(observer: &mut Observer, desired: &Desired) -> anyhow::Result<Self> {
        let live = observer.live()?;
        let network = observer.observe(desired, live.as_ref())?;
        let attached = live.as_ref().map(|live| observer.attached(live.generation)).transpose()?;
        Ok(Self { live, network, attached: attached.unwrap_or_default() })
    }

    pub(super) fn preview(&self, desired: &Desired) -> anyhow::Result<Preview> {
        let preview = preview(desired, &self.network, self.live.as_ref(), &self.attached);
        preview.context("the filters need more than 32,768 slots; make fewer of them, or fewer of them bidirectional")
    }
}
