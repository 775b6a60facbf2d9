//! `run`: the loop around [`reconcile`](crate::reconcile).

mod complaint;
mod load;
mod notify;
mod pending;
mod site;
mod take;
mod timers;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context;
use sd_notify::NotifyState;
use tracing::{error, info};

use crate::dns::Resolver;
use crate::kernel::netlink::Monitor;
use crate::kernel::{Kernel, Mechanism, require_serial_softirqs};
use crate::metrics::{Process, Textfile};
use crate::source::ConfigSource;
use crate::triggers::{End, Trigger, queue, watch_network, watch_signals};
use load::load;
use notify::notify;
use site::Site;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file.
    pub config: PathBuf,
    /// Where maps and links are pinned.
    pub pin_path: PathBuf,
    /// How programs are attached; the kernel's best if absent.
    pub mechanism: Option<Mechanism>,
    /// Where the resolver writes the addresses of DNS names.
    pub names: PathBuf,
    /// Where it finds the DNS names that the file has.
    pub wanted_names: PathBuf,
    /// File for metrics; if absent, the one of [`Textfile::new`].
    pub metrics: Option<PathBuf>,
    /// The revision of the source, for metrics.
    pub revision: &'static str,
}

/// Why the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// SIGTERM, SIGINT or SIGUSR2.
    Stopped,
    /// The file is wrong, and nothing is mirrored; nothing was touched.
    BadConfig,
}

/// Runs until a signal. With a wrong file what a predecessor left is kept as it is, until the file
/// is right.
///
/// # Errors
/// The kernel rejects the programs, maps or attachments of the first configuration. Later
/// rejections are logged, and the last state stays.
pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let (sender, triggers) = queue();
    watch_signals(sender.clone()).context("cannot install signal handlers")?;
    let mut source = ConfigSource::open(&options.config, sender.clone())?;
    let desired = load(&mut source);
    let is_live = Kernel::is_live(&options.pin_path)?;
    if desired.is_none() && !is_live {
        return Ok(Outcome::BadConfig);
    }
    require_serial_softirqs()?;
    let mut kernel = Kernel::claim(&options.pin_path, options.mechanism)?;
    // before the network is read for the first time, so that no event is missed
    let monitor = Monitor::open()?;
    kernel.refuse_strays()?;
    kernel.introduce(&options.config);
    let tell = sender.clone();
    kernel.follow_cgroups(move || tell.send(Trigger::Cgroups));
    let mut metrics = Textfile::new(options.metrics.as_deref(), &options.pin_path);
    metrics.process = Process::of(options.revision);
    let resolver = Resolver::new(
        &options.names,
        &options.wanted_names,
        &options.pin_path,
        sender.clone(),
    );
    let mut site = Site::new(kernel, source, resolver, metrics, desired);
    site.resume();
    if let Err(error) = site.begin() {
        // what a predecessor left keeps mirroring
        if !is_live && let Err(failure) = site.kernel.remove() {
            error!(event = "problem", "{failure}");
        }
        return Err(error.into());
    }
    watch_network(monitor, sender).context("cannot watch the network")?;
    site.announce();
    let end = site.serve(&triggers);
    notify(&[NotifyState::Stopping]);
    match end {
        End::Remove => {
            site.metrics.remove();
            site.resolver.want(BTreeSet::new());
            site.kernel.remove()?;
            info!(
                event = "stopped",
                "stopped: removed everything from the kernel"
            );
        }
        End::Leave => info!(
            event = "stopped",
            "stopped: the kernel continues to mirror until the next daemon takes over"
        ),
    }
    Ok(Outcome::Stopped)
}
