//! `run`: the loop around [`reconcile`](crate::reconcile).

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use crate::desired::{self, Desired};
use crate::diagnostic;
use crate::kernel::netlink::{Event, Monitor};
use crate::kernel::{Kernel, Mechanism};
use crate::network::Network;
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
    let Some(loaded) = load(&options.config) else { return Ok(Outcome::BadConfig) };
    let mut kernel = Kernel::claim(&options.pin_path, options.mechanism)?;
    let monitor = Monitor::open()?;
    let mut watch = FileWatch::new(&options.config, sender.clone())
        .with_context(|| format!("cannot watch the directory of {}", options.config.display()))?;
    let mut state = State::default();
    if let Err(error) = take(&mut kernel, &mut state, &loaded.desired) {
        kernel.remove()?;
        return Err(error);
    }
    watch_network(monitor, sender).context("cannot watch the network")?;
    notify(&[NotifyState::Ready]);
    serve(options, &mut kernel, &mut state, &mut watch, &triggers, loaded);
    notify(&[NotifyState::Stopping]);
    kernel.remove()?;
    info!("stopped; nothing is left in the kernel");
    Ok(Outcome::Stopped)
}

fn serve(
    options: &Options,
    kernel: &mut Kernel,
    state: &mut State,
    watch: &mut FileWatch,
    triggers: &Receiver<Trigger>,
    mut live: Loaded,
) {
    loop {
        let pending = match gather(triggers) {
            Pending::Stop => return,
            pending => pending,
        };
        if let Pending::Look { file, reload, .. } = &pending
            && (*file || *reload)
        {
            if let Err(error) = watch.rearm() {
                warn!("cannot watch {}: {error}", options.config.display());
            }
            let bytes = fs::read(&options.config).ok();
            if *reload || bytes.as_ref() != Some(&live.bytes) {
                notify_reloading();
                if let Some(loaded) = load(&options.config) {
                    live = loaded;
                    log_failure(take(kernel, state, &live.desired));
                } else {
                    warn!("the running configuration was kept; nothing changed");
                }
                notify(&[NotifyState::Ready]);
                continue;
            }
        }
        if pending.concerns(&state.network, &state.desired) {
            log_failure(take(kernel, state, &live.desired));
        }
    }
}

fn log_failure(taken: anyhow::Result<()>) {
    if let Err(failure) = taken {
        error!("{failure:#}; the running configuration was kept");
    }
}

/// What has been asked for since the last look.
enum Pending {
    Stop,
    Look { file: bool, reload: bool, network: BTreeSet<Event>, timer: bool },
}

/// Waits for a trigger, then until there is quiet.
fn gather(triggers: &Receiver<Trigger>) -> Pending {
    let (mut file, mut reload, mut network) = (false, false, BTreeSet::new());
    let mut received = triggers.recv_timeout(DRIFT);
    let timer = received == Err(RecvTimeoutError::Timeout);
    let latest = Instant::now() + QUIET_MOST;
    loop {
        match received {
            Ok(Trigger::Stop) | Err(RecvTimeoutError::Disconnected) => return Pending::Stop,
            Ok(Trigger::File) => file = true,
            Ok(Trigger::Reload) => reload = true,
            Ok(Trigger::Network(events)) => network.extend(events),
            Err(RecvTimeoutError::Timeout) => return Pending::Look { file: file || timer, reload, network, timer },
        }
        let quiet = if file { QUIET } else { NETWORK_QUIET };
        received = triggers.recv_timeout(quiet.min(latest.saturating_duration_since(Instant::now())));
    }
}

impl Pending {
    /// Whether anything that was seen of the network bears on what is desired.
    fn concerns(&self, network: &Network, desired: &Desired) -> bool {
        let Self::Look { network: events, timer, .. } = self else { return false };
        let next_hop = |interface: u32, address: IpAddr| {
            desired.endpoints.iter().any(|endpoint| {
                let route = network.paths.get(&endpoint.name).and_then(|path| path.route.as_ref());
                route.is_some_and(|r| r.interface == interface && r.gateway.unwrap_or(endpoint.address) == address)
            })
        };
        *timer
            || events.iter().any(|event| match *event {
                Event::Neighbour { interface, address } => next_hop(interface, address),
                Event::Tc { .. } => false,
                Event::Overrun | Event::Link { .. } | Event::Address | Event::Route => true,
            })
    }
}

/// A file that was read, and what it means.
struct Loaded {
    bytes: Vec<u8>,
    desired: Desired,
}

/// Reads the file; what is wrong with it goes to standard error.
fn load(path: &Path) -> Option<Loaded> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            error!("cannot read {}: {error}", path.display());
            return None;
        }
    };
    match desired::load_bytes(&bytes) {
        Ok((desired, warnings)) => {
            print(path, &bytes, &warnings);
            Some(Loaded { bytes, desired })
        }
        Err(errors) => {
            print(path, &bytes, &errors);
            None
        }
    }
}

fn print(path: &Path, bytes: &[u8], diagnostics: &[diagnostic::Diagnostic]) {
    if !diagnostics.is_empty() {
        let text = String::from_utf8_lossy(bytes);
        eprint!("{}", diagnostic::render(diagnostics, &path.display().to_string(), &text, false));
    }
}

fn take(kernel: &mut Kernel, state: &mut State, desired: &Desired) -> anyhow::Result<()> {
    let before = state.obstacles.clone();
    let report = reconcile(kernel, state, desired)?;
    report.changes.iter().for_each(|change| info!("{change}"));
    state.obstacles.iter().filter(|line| !before.contains(line)).for_each(|line| warn!("{line}"));
    if report.writes > 0 || !report.changes.is_empty() {
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
