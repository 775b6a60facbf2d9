//! `run`: the loop around [`reconcile`](crate::reconcile).

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use crate::desired::{Desired, Rereader};
use crate::diagnostic;
use crate::kernel::netlink::{Event, Monitor};
use crate::kernel::{Kernel, Mechanism};
use crate::network::{Link, Network, Path};
use crate::reconcile::{State, reconcile};
use crate::watch::{FileWatch, Trigger, watch_network, watch_signals};

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file.
    pub config: PathBuf,
    /// Where maps and links are pinned.
    pub pin_path: PathBuf,
    /// How programs are attached; the kernel's best if absent.
    pub mechanism: Option<Mechanism>,
}

/// Why the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was asked to; nothing is left in the kernel.
    Stopped,
    /// The file is wrong; nothing was touched.
    BadConfig,
}

/// The file is taken once nothing has happened to it for this long, at the latest after [`QUIET_MOST`].
const QUIET: Duration = Duration::from_millis(150);
const QUIET_MOST: Duration = Duration::from_secs(1);
/// Changes of the network come in bursts.
const NETWORK_QUIET: Duration = Duration::from_millis(20);
/// What failed is tried again, and what no event tells is looked for.
const DRIFT: Duration = Duration::from_secs(30);

/// Runs until a signal.
///
/// # Errors
/// The kernel refuses at the start. Later it is logged, and the last state stays.
pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let (sender, triggers) = mpsc::channel();
    watch_signals(sender.clone()).context("cannot install signal handlers")?;
    // before the file is read: no later change is missed
    let watch = FileWatch::new(&options.config, sender.clone())
        .with_context(|| format!("cannot watch the directory of {}", options.config.display()))?;
    let content = read(&options.config);
    let mut rereader = Rereader::default();
    let Some(desired) = load(&options.config, &content, &mut rereader) else { return Ok(Outcome::BadConfig) };
    let monitor = Monitor::open()?;
    let mut kernel = Kernel::claim(&options.pin_path, options.mechanism)?;
    let adopted = kernel.is_live()?;
    let mut state = State::default();
    if let Err(error) = take(&mut kernel, &mut state, &desired, Reason::File) {
        // what a predecessor left keeps mirroring
        if !adopted && let Err(failure) = kernel.remove() {
            error!("{failure}");
        }
        return Err(error);
    }
    watch_network(monitor, sender).context("cannot watch the network")?;
    notify(&[NotifyState::Ready]);
    let mut source = Source { path: options.config.clone(), watch, seen: content, rereader, desired };
    serve(&mut kernel, &mut state, &mut source, &triggers);
    notify(&[NotifyState::Stopping]);
    kernel.remove()?;
    info!("stopped; nothing is left in the kernel");
    Ok(Outcome::Stopped)
}

/// The file, and what it last asked for.
struct Source {
    path: PathBuf,
    watch: FileWatch,
    /// What was last found there, right or wrong: it is complained about once.
    seen: Content,
    rereader: Rereader,
    /// What was last right.
    desired: Desired,
}

fn serve(kernel: &mut Kernel, state: &mut State, source: &mut Source, triggers: &Receiver<Trigger>) {
    let mut drift = Instant::now() + DRIFT;
    while let Some(pending) = gather(triggers, drift) {
        if pending.timer {
            drift = Instant::now() + DRIFT;
            kernel.try_again();
        }
        let mut concerned = pending.concerns(&state.network, &state.desired);
        let is_new = (pending.file || pending.reload || pending.timer) && source.look();
        if is_new || pending.reload {
            notify_reloading();
            if let Some(desired) = load(&source.path, &source.seen, &mut source.rereader) {
                source.desired = desired;
                kernel.try_again();
                log_failure(take(kernel, state, &source.desired, Reason::File));
                concerned = false;
            } else {
                warn!("the running configuration was kept; nothing changed");
            }
        }
        if concerned {
            log_failure(take(kernel, state, &source.desired, Reason::Network));
        }
        if is_new || pending.reload {
            notify(&[NotifyState::Ready]);
        }
    }
}

impl Source {
    /// Reads the file; whether it has changed.
    fn look(&mut self) -> bool {
        if let Err(error) = self.watch.rearm() {
            warn!("cannot watch the directory of {}: {error}", self.path.display());
        }
        let content = read(&self.path);
        let is_new = content != self.seen;
        self.seen = content;
        is_new
    }
}

fn log_failure(taken: anyhow::Result<()>) {
    if let Err(failure) = taken {
        error!("{failure:#}; the running configuration was kept");
    }
}

/// What has been asked for since the last look.
#[derive(Debug, Default)]
struct Pending {
    file: bool,
    reload: bool,
    network: BTreeSet<Event>,
    timer: bool,
}

/// Waits for a trigger or the drift timer, then until there is quiet. `None` if it is time to stop.
fn gather(triggers: &Receiver<Trigger>, drift: Instant) -> Option<Pending> {
    let mut pending = Pending::default();
    let mut received = triggers.recv_timeout(drift.saturating_duration_since(Instant::now()));
    let latest = Instant::now() + QUIET_MOST;
    loop {
        match received {
            Ok(Trigger::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            Ok(Trigger::File) => pending.file = true,
            Ok(Trigger::Reload) => pending.reload = true,
            Ok(Trigger::Network(events)) => pending.network.extend(events),
            Err(RecvTimeoutError::Timeout) => break,
        }
        let quiet = if pending.file { QUIET } else { NETWORK_QUIET };
        let left = latest.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        received = triggers.recv_timeout(quiet.min(left));
    }
    // however much happens, the timer is not put off
    pending.timer = Instant::now() >= drift;
    Some(pending)
}

impl Pending {
    /// Whether anything that was seen of the network bears on what is desired.
    fn concerns(&self, network: &Network, desired: &Desired) -> bool {
        let next_hop = |interface: u32, address: IpAddr| {
            desired.endpoints.iter().any(|endpoint| {
                let route = network.paths.get(&endpoint.name).and_then(|path| path.route.as_ref());
                route.is_some_and(|r| r.interface == interface && r.gateway.unwrap_or(endpoint.address) == address)
            })
        };
        // somebody may have taken our programs off; that we put them there ends in a look that finds nothing to do
        let attached = |interface: u32| {
            let is_output = |path: &Path| path.route.as_ref().is_some_and(|route| route.interface == interface);
            let is_listed = |link: &Link| desired.interfaces.iter().any(|listed| listed.name.matches(&link.name));
            network.paths.values().any(is_output) || network.links.get(&interface).is_some_and(is_listed)
        };
        self.timer
            || self.network.iter().any(|event| match *event {
                Event::Neighbour { interface, address } => next_hop(interface, address),
                Event::Tc { interface } => attached(interface),
                Event::Overrun | Event::Link { .. } | Event::Address | Event::Route => true,
            })
    }
}

/// What is in the file, or why it cannot be read.
type Content = Result<Vec<u8>, String>;

fn read(path: &std::path::Path) -> Content {
    fs::read(path).map_err(|error| error.to_string())
}

/// What the file means; what is wrong with it goes to standard error.
fn load(path: &std::path::Path, content: &Content, rereader: &mut Rereader) -> Option<Desired> {
    let bytes = content.as_ref().map_err(|reason| error!("cannot read {}: {reason}", path.display())).ok()?;
    let (desired, diagnostics) = match rereader.load(bytes) {
        Ok((desired, warnings)) => (Some(desired), warnings),
        Err(errors) => (None, errors),
    };
    if !diagnostics.is_empty() {
        let text = String::from_utf8_lossy(bytes);
        eprint!("{}", diagnostic::render(&diagnostics, &path.display().to_string(), &text, false));
    }
    desired
}

/// Why the kernel is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The file was read.
    File,
    /// Something else changed.
    Network,
}

fn take(kernel: &mut Kernel, state: &mut State, desired: &Desired, reason: Reason) -> anyhow::Result<()> {
    let before = state.obstacles.clone();
    let report = reconcile(kernel, state, desired)?;
    report.changes.iter().for_each(|change| info!("{change}"));
    report.repaired.iter().for_each(|line| warn!("{line}"));
    state.obstacles.iter().filter(|line| !before.contains(line)).for_each(|line| warn!("{line}"));
    if report.writes > 0 || reason == Reason::File {
        info!("{}", report.summary());
    }
    Ok(())
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(failure) = sd_notify::notify(states) {
        warn!("cannot notify the service manager: {failure}");
    }
}

fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}
