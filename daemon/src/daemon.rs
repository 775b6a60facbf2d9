//! `run`: the loop around [`reconcile`](crate::reconcile).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use crate::compile::called;
use crate::debounce::Debounce;
use crate::desired::Desired;
use crate::health::Health;
use crate::kernel::netlink::{Event, Monitor};
use crate::kernel::{Kernel, KernelError, Mechanism, Note, reason, require_serial_softirqs};
use crate::metrics::Textfile;
use crate::network::{Link, Network, Path};
use crate::obstacle;
use crate::obstacle::Line;
use crate::pulse::Pulse;
use crate::reconcile::proceed;
use crate::reconciled::Reconciled;
use crate::report::plural;
use crate::source::Source;
use crate::triggers::{End, Trigger, Triggers, queue, watch_network, watch_signals};

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file.
    pub config: PathBuf,
    /// Where maps and links are pinned.
    pub pin_path: PathBuf,
    /// How programs are attached; the kernel's best if absent.
    pub mechanism: Option<Mechanism>,
    /// Where metrics are written; where they are looked for if absent.
    pub metrics: Option<PathBuf>,
}

/// Why the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was asked to.
    Stopped,
    /// The file is wrong, and nothing is mirrored; nothing was touched.
    BadConfig,
}

/// Changes of the network come in bursts.
const QUIET: Duration = Duration::from_millis(20);
const QUIET_MOST: Duration = Duration::from_secs(1);
/// After a look at the network nothing is looked at for so many times as long as it took: a host
/// where routes come and go all the time gives us a twentieth of a CPU at most, unless a look takes
/// very long.
const REST: u32 = 19;
const REST_MOST: Duration = Duration::from_secs(1);
/// What failed is tried again, and what no event tells is looked for.
const DRIFT: Duration = Duration::from_secs(30);

/// A file that takes much more memory to read than what it means.
const LARGE_BYTES: usize = 2 << 20;

/// What the service manager is told of a mirror that was adopted.
const ADOPTED: &str = "the file is wrong; what was mirrored before is mirrored until it is right";

/// Runs until a signal. With a wrong file what a predecessor left is kept as it is, until the file
/// is right.
///
/// # Errors
/// The kernel refuses at the start. Later it is logged, and the last state stays.
pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let (sender, triggers) = queue();
    watch_signals(sender.clone()).context("cannot install signal handlers")?;
    let mut source = Source::open(&options.config, sender.clone())?;
    let desired = load(&mut source);
    let is_live = Kernel::is_live(&options.pin_path)?;
    if desired.is_none() && !is_live {
        return Ok(Outcome::BadConfig);
    }
    require_serial_softirqs()?;
    let mut kernel = Kernel::claim(&options.pin_path, options.mechanism)?;
    // before the first look, so that nothing is missed
    let monitor = Monitor::open()?;
    kernel.refuse_strays()?;
    kernel.introduce(&options.config);
    let mut metrics = Textfile::new(options.metrics.as_deref(), &options.pin_path);
    let (mut state, mut health) = (Reconciled::default(), Health::default());
    // what cannot be read is found out again
    if let Ok((known, now)) = kernel.known_health() {
        health.resume(known, now);
        kernel.follow_path_mtus(health.path_mtus());
    }
    let taken = desired
        .as_ref()
        .map(|desired| take(&mut kernel, &mut state, &mut metrics, desired, Reason::File));
    if let Some(Err(error)) = taken {
        // what a predecessor left keeps mirroring
        if !is_live && let Err(failure) = kernel.remove() {
            error!("{failure}");
        }
        return Err(error.into());
    }
    watch_network(monitor, sender).context("cannot watch the network")?;
    let left = taken.and_then(Result::ok).unwrap_or_default();
    if desired.is_some() {
        tell_live(&mut kernel, &source, left);
    } else {
        reject(&mut kernel, &source, &mut metrics);
        error!("{ADOPTED}");
        notify(&[NotifyState::Ready, NotifyState::Status(ADOPTED)]);
    }
    let mut site = Site {
        kernel,
        state,
        source,
        metrics,
        health,
    };
    let end = serve(&mut site, desired, left, &triggers);
    notify(&[NotifyState::Stopping]);
    match end {
        End::Remove => {
            site.metrics.remove();
            site.kernel.remove()?;
            info!("stopped; nothing is left in the kernel");
        }
        End::Leave => {
            info!("stopped; the kernel goes on mirroring until the next daemon takes over")
        }
    }
    Ok(Outcome::Stopped)
}

/// What the daemon works with.
struct Site {
    kernel: Kernel,
    state: Reconciled,
    source: Source,
    metrics: Textfile,
    health: Health,
}

/// `desired` is what the file last asked for when it was right; `None` until it is for the first
/// time. `left` programs are still to be attached for it.
fn serve(
    site: &mut Site,
    mut desired: Option<Desired>,
    mut left: usize,
    triggers: &Triggers,
) -> End {
    let Site {
        kernel,
        state,
        source,
        metrics,
        health,
    } = site;
    let (mut timers, mut complaint, mut blindness) =
        (Timers::new(), Complaint::default(), Complaint::default());
    // whether the service manager is to be told once all is attached
    let mut is_awaited = desired.is_some();
    loop {
        if is_awaited && left == 0 {
            notify(&[NotifyState::Ready]);
            is_awaited = false;
        }
        let mut pending = match gather(triggers, source, metrics, &timers, left > 0) {
            Ok(pending) => pending,
            Err(end) => return end,
        };
        kernel.hear(&pending.network);
        let now = Instant::now();
        pending.timer = timers.drift <= now;
        if pending.timer {
            timers.drift = now + DRIFT;
            kernel.try_again();
        }
        let is_concerned =
            |desired: &Desired| left > 0 || pending.concerns(&state.network, desired);
        let mut concerned = desired.as_ref().is_some_and(is_concerned);
        let mut is_changed = left > 0;
        if timers.pulse.due() <= now {
            timers.pulse.beat(kernel);
            source.poll();
            let looked = look_after(kernel, state, health, metrics);
            is_changed |= matches!(looked, Ok(true)) || kernel.has_asked_enough();
            concerned |= is_changed;
            blindness.about(looked.map(|_| 0));
        }
        let is_new = if pending.reload {
            source.force();
            true
        } else {
            source.look(pending.timer)
        };
        if is_new {
            notify_reloading();
            if let Some(wanted) = load(source) {
                kernel.try_again();
                kernel.try_segmenter_again();
                let taken = take(kernel, state, metrics, &wanted, Reason::File);
                match &taken {
                    Ok(left) => tell_live(kernel, source, *left),
                    Err(_) => {
                        let _ = kernel.note(Note::Rejected);
                        kernel.tell_rejected(source.found());
                    }
                }
                left = complaint.about(taken);
                if desired.replace(wanted).is_none() {
                    notify(&[NotifyState::Status("")]);
                }
                concerned = false;
            } else {
                reject(kernel, source, metrics);
                warn!("the running configuration was kept; nothing changed");
            }
        }
        if let Some(desired) = desired.as_ref().filter(|_| concerned) {
            let before = worked();
            let is_due = is_changed || pending.may_have_undone() || complaint.0.is_some();
            if is_due || !is_same(kernel, state, desired) {
                let taken = take(kernel, state, metrics, desired, Reason::Network);
                taken
                    .iter()
                    .for_each(|left| tell_live(kernel, source, *left));
                let before = left;
                left = complaint.about(taken);
                if before > 0 && left == 0 {
                    info!("all programs are attached");
                }
            }
            timers.rest(worked().saturating_sub(before));
        }
        if is_new {
            is_awaited = true;
            metrics.hurry();
        }
    }
}

/// Whether copies arrive, as far as this host can know. Says what has changed, and answers whether
/// the network is to be looked at again.
fn look_after(
    kernel: &mut Kernel,
    state: &Reconciled,
    health: &mut Health,
    metrics: &mut Textfile,
) -> Result<bool, KernelError> {
    kernel.look_after_next_hops(&state.network, &state.desired);
    let (samples, now) = kernel.sample()?;
    let changes = health.look(samples, now);
    if !changes.is_empty() {
        metrics.hurry();
    }
    for (name, change) in changes {
        let Some(endpoint) = state
            .desired
            .endpoints
            .iter()
            .find(|endpoint| endpoint.name == name)
        else {
            continue;
        };
        if change.is_loss() {
            warn!("{}", change.line(endpoint));
        } else {
            info!("{}", change.line(endpoint));
        }
    }
    kernel.note_health(health)?;
    Ok(kernel.follow_path_mtus(health.path_mtus()))
}

/// The file that was last right is the live one, once all is attached that it asks for.
fn tell_live(kernel: &mut Kernel, source: &Source, left: usize) {
    source
        .right()
        .filter(|_| left == 0)
        .into_iter()
        .for_each(|hash| kernel.tell_live(hash));
}

/// The file was read, and is wrong or cannot be read.
fn reject(kernel: &mut Kernel, source: &Source, metrics: &mut Textfile) {
    metrics.process.rejected();
    let _ = kernel.note(Note::Rejected);
    kernel.tell_rejected(source.found());
}

/// Whether the network is as it was when all that is desired was last made to hold: then there is
/// nothing to do. Most changes of routes concern nobody, and to read the tables and compile anew
/// takes a hundred times as long as to ask for what concerns us.
fn is_same(kernel: &mut Kernel, state: &Reconciled, desired: &Desired) -> bool {
    kernel
        .observe(desired)
        .is_ok_and(|network| network == state.network)
}

/// When what is due that no event tells.
#[derive(Debug)]
struct Timers {
    drift: Instant,
    pulse: Pulse,
    /// However much happens in the network, it is not looked at before.
    rested: Instant,
}

impl Timers {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            drift: now + DRIFT,
            pulse: Pulse::start(),
            rested: now,
        }
    }

    /// A look at the network has taken so much of a CPU: the next one has to wait for so many times
    /// as long.
    fn rest(&mut self, work: Duration) {
        self.rested = Instant::now() + (work * REST).min(REST_MOST);
    }
}

/// What this thread has had of a CPU: not the time in which it waits for answers.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// What the file means. What reading a large one has needed is given back before anything else is
/// made of it.
fn load(source: &mut Source) -> Option<Desired> {
    let desired = source.load();
    if source.bytes() > LARGE_BYTES {
        trim();
    }
    desired
}

/// Gives back what a look has needed for a moment, but not at once, since the next may need it
/// again: the kernel's type information alone are 6 MiB, and the allocator keeps what lies below
/// something that stays.
fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What the kernel refuses is said once, however often it is tried again.
#[derive(Debug, Default)]
struct Complaint(Option<String>);

impl Complaint {
    /// Answers how many programs are still to be attached.
    fn about(&mut self, taken: Result<usize, KernelError>) -> usize {
        let (left, failure) = taken.map_or_else(|failure| (0, Some(failure)), |left| (left, None));
        let failure = failure.map(|failure| match &failure {
            KernelError::Halfway { .. } => reason(&failure),
            _ => format!("{}; the running configuration was kept", reason(&failure)),
        });
        match (&self.0, &failure) {
            (Some(_), None) => info!("what failed before works again"),
            (before, Some(text)) if before.as_ref() != Some(text) => error!("{text}"),
            _ => {}
        }
        self.0 = failure;
        left
    }
}

/// What has been asked for since the last look, beside what the source knows of.
#[derive(Debug, Default)]
struct Pending {
    reload: bool,
    network: BTreeSet<Event>,
    timer: bool,
}

/// Waits until something is due, the next timer at the latest, or until it is time to end, and
/// meanwhile writes the metrics. In a `hurry` it takes no more than what has come already.
fn gather(
    triggers: &Triggers,
    source: &mut Source,
    metrics: &mut Textfile,
    timers: &Timers,
    hurry: bool,
) -> Result<Pending, End> {
    let (mut pending, mut has_all) = (Pending::default(), false);
    let mut debounce = Debounce::default();
    loop {
        let now = Instant::now();
        let network = debounce.due().map(|due| due.max(timers.rested));
        let timer = timers.drift.min(timers.pulse.due());
        let due = [source.due(), network]
            .into_iter()
            .flatten()
            .fold(timer, Instant::min);
        if due <= now || pending.reload || has_all {
            return Ok(pending);
        }
        if metrics.due() <= now {
            metrics.write();
            trim();
            continue;
        }
        let patience = if hurry {
            Duration::ZERO
        } else {
            due.min(metrics.due()) - now
        };
        match triggers.next(patience) {
            Some(Trigger::End(end)) => return Err(end),
            Some(Trigger::File(save)) => source.tell(save),
            Some(Trigger::Reload) => pending.reload = true,
            Some(Trigger::Network(events)) => {
                pending.network.extend(events);
                debounce.extend(Instant::now(), QUIET, QUIET_MOST);
            }
            None => has_all = hurry,
        }
    }
}

impl Pending {
    /// Whether somebody may have undone what we did, which the network does not show.
    fn may_have_undone(&self) -> bool {
        let is_innocent = |event: &Event| {
            matches!(
                event,
                Event::Neighbour { .. } | Event::Address | Event::Route
            )
        };
        self.timer || !self.network.iter().all(is_innocent)
    }

    /// Whether anything that was seen of the network bears on what is desired.
    fn concerns(&self, network: &Network, desired: &Desired) -> bool {
        let next_hop = |interface: u32, address: IpAddr| {
            desired.endpoints.iter().any(|endpoint| {
                let route = network
                    .paths
                    .get(&endpoint.name)
                    .and_then(|path| path.route.as_ref());
                route.is_some_and(|r| {
                    r.interface == interface && r.gateway.unwrap_or(endpoint.address) == address
                })
            })
        };
        // somebody may have taken our programs off; that we put them there ends in a look that
        // finds nothing to do
        let attached = |interface: u32| {
            let is_output = |path: &Path| {
                path.route
                    .as_ref()
                    .is_some_and(|route| route.interface == interface)
            };
            let is_listed = |link: &Link| {
                desired
                    .interfaces
                    .iter()
                    .any(|listed| called(&listed.name, link).is_some())
            };
            network.paths.values().any(is_output)
                || network.segmenter_parts.contains(&interface)
                || network.links.get(&interface).is_some_and(is_listed)
        };
        self.timer
            || self.network.iter().any(|event| match *event {
                Event::Neighbour { interface, address } => next_hop(interface, address),
                Event::Tc { interface } => attached(interface),
                Event::Overrun
                | Event::Link { .. }
                | Event::Address
                | Event::Route
                | Event::Policy => true,
            })
    }
}

/// Why the kernel is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The file was read.
    File,
    /// Something else changed.
    Network,
}

fn take(
    kernel: &mut Kernel,
    state: &mut Reconciled,
    metrics: &mut Textfile,
    desired: &Desired,
    reason: Reason,
) -> Result<usize, KernelError> {
    let (before, advised) = (state.obstacles.clone(), state.advice.clone());
    let reconciled = proceed(kernel, state, desired);
    metrics
        .process
        .applied(reason == Reason::File, reconciled.as_ref().ok());
    let report = reconciled?;
    report.lines().for_each(|line| info!("{line}"));
    report.repaired.iter().for_each(|line| warn!("{line}"));
    let lines = obstacle::lines(&before, &state.obstacles);
    for Line { is_warning, text } in &lines {
        if *is_warning {
            warn!("{text}")
        } else {
            info!("{text}")
        }
    }
    if !lines.is_empty() {
        metrics.hurry();
    }
    state
        .advice
        .iter()
        .filter(|line| !advised.contains(line))
        .for_each(|line| info!("{line}"));
    if report.writes > 0 || reason == Reason::File {
        info!("{}", report.summary());
        if report.left > 0 {
            info!(
                "{} to be attached or detached, bit by bit",
                plural(report.left, "program")
            );
        }
    }
    // the maps may be those of a version that had no place for it
    if !report.repaired.is_empty() {
        let _ = kernel.note(Note::Repaired(report.repaired.len()));
    }
    if reason == Reason::File || !report.changes.is_empty() {
        let _ = kernel.note(Note::Loaded);
    }
    Ok(report.left)
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
