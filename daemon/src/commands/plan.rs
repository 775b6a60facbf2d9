//! `plan`: what taking the file would change in the kernel.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use traffic_mirror::attached::Attached;
use traffic_mirror::desired::{Desired, Published};
use traffic_mirror::kernel::Observer;
use traffic_mirror::network::Network;
use traffic_mirror::preview::{Preview, preview};
use traffic_mirror::tables::Live;

use super::dns::{known, resolved};
use super::{File, distrust_of, load, print, print_json};
use crate::{CHANGES, FAILURE};

/// With `is_followed` the file is that of the daemon, which rejects it if other users may write it.
pub(crate) fn plan(
    path: &Path,
    is_followed: bool,
    pin_path: &Path,
    names: &Path,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let file = File::read(path)?;
    if let Some(why) = distrust_of(path, is_followed) {
        bail!(why);
    }
    let Some(desired) = load(&file) else {
        return Ok(FAILURE.into());
    };
    let mut observer = Observer::open(pin_path)?;
    let has_dns_names = desired.has_dns_names();
    let desired = resolved(desired, names, &mut observer)?;
    let mut preview = Seen::look(&mut observer, &desired)?.preview(&desired)?;
    preview
        .obstacles
        .extend(has_dns_names.then(|| known(names).err()).flatten());
    if json {
        print_json(&preview)?;
    } else {
        print(&preview.to_string());
    }
    Ok(if preview.is_empty() {
        ExitCode::SUCCESS
    } else {
        CHANGES.into()
    })
}

/// All that a preview depends on, beside the file.
#[derive(PartialEq)]
pub(super) struct Seen {
    live: Option<Live>,
    network: Network,
    attached: Attached,
    published: Published,
}

impl Seen {
    pub(super) fn look(observer: &mut Observer, desired: &Desired) -> anyhow::Result<Self> {
        let live = observer.live()?;
        let network = observer.observe(desired, live.as_ref())?;
        let attached = live
            .as_ref()
            .map(|live| observer.attached(live.generation))
            .transpose()?;
        Ok(Self {
            live,
            network,
            attached: attached.unwrap_or_default(),
            published: observer.published(),
        })
    }

    pub(super) fn preview(&self, desired: &Desired) -> anyhow::Result<Preview> {
        let preview = preview(desired, &self.network, self.live.as_ref(), &self.attached);
        let mut preview = preview.context(
            "the filters need more than 32,768 slots; use fewer filters, or fewer \
                         bidirectional ones",
        )?;
        preview.publish(&self.published, &desired.published);
        Ok(preview)
    }
}
