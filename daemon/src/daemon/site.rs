//! What the daemon works with, and its loop.

use std::time::Instant;

use sd_notify::NotifyState;
use tracing::{Level, debug, error, info, warn};

use super::complaint::Complaint;
use super::load::load;
use super::notify::{notify, notify_reloading};
use super::pending::{Pending, gather};
use super::take::{Occasion, take};
use super::timers::{Timers, worked};
use crate::about::About;
use crate::compile::addresses;
use crate::desired::{Addresses, Desired};
use crate::dns::Resolver;
use crate::health::Health;
use crate::initials::Reader;
use crate::kernel::{Kernel, KernelError, Note};
use crate::log::tell;
use crate::metrics::Textfile;
use crate::reconciled::Reconciled;
use crate::source::ConfigSource;
use crate::triggers::{End, Triggers};

/// Status for the service manager while the daemon keeps what its predecessor left.
const ADOPTED: &str = "the file is invalid; mirroring continues with the previous configuration \
                       until the file is valid";

/// What the daemon works with.
pub(super) struct Site {
    pub(super) kernel: Kernel,
    state: Reconciled,
    source: ConfigSource,
    pub(super) resolver: Resolver,
    pub(super) metrics: Textfile,
    health: Health,
    initials: Reader,
    /// The meaning of the last valid file, as written; `None` before the first.
    written: Option<Desired>,
    /// The same with the addresses of DNS names.
    desired: Option<Desired>,
    /// Programs that are still to be attached or detached for it.
    left: usize,
    /// Whether to notify the service manager once all programs are attached.
    is_awaited: bool,
    timers: Timers,
    complaint: Complaint,
    blindness: Complaint,
}

impl Site {
    /// Nothing has been done so far.
    pub(super) fn new(
        kernel: Kernel,
        source: ConfigSource,
        resolver: Resolver,
        metrics: Textfile,
        written: Option<Desired>,
    ) -> Self {
        Self {
            kernel,
            state: Reconciled::default(),
            source,
            resolver,
            metrics,
            health: Health::default(),
            initials: Reader::default(),
            is_awaited: written.is_some(),
            written,
            desired: None,
            left: 0,
            timers: Timers::new(),
            complaint: Complaint::default(),
            blindness: Complaint::default(),
        }
    }

    /// Goes on with what a predecessor has found out; what cannot be read is found out again.
    pub(super) fn resume(&mut self) {
        if let Ok((known, now)) = self.kernel.known_health() {
            self.health.resume(known, now);
            self.kernel.follow_path_mtus(self.health.path_mtus());
        }
    }

    /// Applies the file if it is valid.
    ///
    /// # Errors
    /// The kernel rejects the configuration.
    pub(super) fn begin(&mut self) -> Result<(), KernelError> {
        if let Some(written) = &self.written {
            self.resolver.want(written.dns_names());
            let desired = self.resolved(written)?;
            let (kernel, state) = (&mut self.kernel, &mut self.state);
            self.left = take(kernel, state, &mut self.metrics, &desired, Occasion::File)?;
            self.desired = Some(desired);
            self.metrics.process.dns = self.resolver.figures();
        }
        Ok(())
    }

    /// What is written, with the addresses of DNS names. Endpoints keep those that they have,
    /// possibly from a predecessor.
    fn resolved(&self, written: &Desired) -> Result<Desired, KernelError> {
        let has_dns_names = written.has_dns_names();
        let kept = match &self.desired {
            _ if !has_dns_names => Addresses::new(),
            Some(before) => before.addresses(),
            None => (self.kernel.live(None)?)
                .map_or_else(Addresses::new, |live| addresses(&live.tables)),
        };
        Ok(written.resolved(self.resolver.known(), self.desired.as_ref(), &kept))
    }

    /// Says what became of the file.
    pub(super) fn announce(&mut self) {
        self.initials.follow(&self.kernel);
        if self.desired.is_some() {
            self.tell_live();
        } else {
            self.reject();
            error!(event = "rejected", "{ADOPTED}");
            notify(&[NotifyState::Ready, NotifyState::Status(ADOPTED)]);
        }
    }

    /// Handles events until the end.
    pub(super) fn serve(&mut self, triggers: &Triggers) -> End {
        self.timers = Timers::new();
        loop {
            if self.is_awaited && self.left == 0 {
                notify(&[NotifyState::Ready]);
                self.is_awaited = false;
            }
            let files = (&mut self.source, &mut self.resolver);
            let (metrics, timers) = (&mut self.metrics, &self.timers);
            let mut pending = match gather(triggers, files, metrics, timers, self.left > 0) {
                Ok(pending) => pending,
                Err(end) => return end,
            };
            self.kernel.hear(&pending.network);
            pending.timer = self.timers.is_drift_due();
            debug!(event = "woken", "woken by {pending}");
            if pending.timer {
                self.kernel.try_again();
            }
            let mut is_concerned = self.is_concerned(&pending);
            let mut is_changed = self.left > 0;
            if self.timers.pulse.due() <= Instant::now() {
                is_changed |= self.beat();
                is_concerned |= is_changed;
            }
            let is_new = self.is_new(&pending);
            if is_new {
                notify_reloading();
                is_concerned &= !self.reload();
            }
            if self.resolver.look() {
                is_concerned &= !self.follow_names();
            }
            if is_concerned {
                let is_due = is_changed || pending.may_have_undone() || self.complaint.is_open();
                self.follow_network(is_due);
            }
            self.metrics.process.dns = self.resolver.figures();
            if is_new {
                self.is_awaited = true;
                self.metrics.hurry();
            }
        }
    }

    /// Whether anything that was seen bears on what is desired.
    fn is_concerned(&self, pending: &Pending) -> bool {
        self.desired
            .as_ref()
            .is_some_and(|desired| self.left > 0 || pending.concerns(&self.state.network, desired))
    }

    /// Whether the file is to be read.
    fn is_new(&mut self, pending: &Pending) -> bool {
        if pending.reload {
            self.source.force();
            return true;
        }
        self.source.look(pending.timer)
    }

    /// Writes a heartbeat and checks copies; returns whether the network must be read again.
    fn beat(&mut self) -> bool {
        self.timers.pulse.beat(&mut self.kernel);
        self.initials.follow(&self.kernel);
        self.source.poll();
        self.resolver.poll();
        let looked = self.look_after();
        let is_changed = matches!(looked, Ok(true)) || self.kernel.has_asked_enough();
        self.blindness.about(looked.map(|_| 0));
        is_changed
    }

    /// Reads the file, and applies it if it is valid; returns whether it was.
    fn reload(&mut self) -> bool {
        let Some(written) = load(&mut self.source) else {
            self.reject();
            warn!(
                event = "rejected",
                "rejected the file: mirroring continues with the last valid version"
            );
            return false;
        };
        debug!(
            event = "read",
            "read the file: {} bytes",
            self.source.bytes()
        );
        self.kernel.try_again();
        self.kernel.try_segmenter_again();
        self.resolver.want(written.dns_names());
        // what is new there is read with the file
        self.resolver.look();
        let resolved = self.resolved(&written);
        self.written = Some(written);
        let desired = match resolved {
            Ok(desired) => desired,
            Err(error) => {
                self.note_rejected();
                self.left = self.complaint.about(Err(error));
                return true;
            }
        };
        let (kernel, state) = (&mut self.kernel, &mut self.state);
        let taken = take(kernel, state, &mut self.metrics, &desired, Occasion::File);
        self.resolver.applied(taken.is_ok());
        match taken {
            Ok(left) => {
                self.left = left;
                self.initials.follow(&self.kernel);
                self.tell_live();
            }
            Err(_) => self.note_rejected(),
        }
        self.left = self.complaint.about(taken);
        if self.desired.replace(desired).is_none() {
            notify(&[NotifyState::Status("")]);
        }
        true
    }

    /// Applies the addresses that DNS names have now. Returns whether anything that is desired is
    /// otherwise.
    fn follow_names(&mut self) -> bool {
        let written = self.written.as_ref();
        // it was resolved before, so no table is read
        let Some(desired) = written.and_then(|written| self.resolved(written).ok()) else {
            return false;
        };
        if self.desired.as_ref() == Some(&desired) {
            return false;
        }
        let (kernel, state) = (&mut self.kernel, &mut self.state);
        let taken = take(kernel, state, &mut self.metrics, &desired, Occasion::Names);
        self.resolver.applied(taken.is_ok());
        if let Ok(left) = taken {
            self.left = left;
            self.tell_live();
        }
        self.left = self.complaint.about(taken);
        self.desired = Some(desired);
        self.metrics.hurry();
        true
    }

    /// Has what is desired hold in the network as it is now, if that is due or the network is not
    /// as it was.
    fn follow_network(&mut self, is_due: bool) {
        let Some(desired) = &self.desired else { return };
        let before = worked();
        let (kernel, state) = (&mut self.kernel, &mut self.state);
        let is_same = !is_due && is_same(kernel, state, desired);
        debug!(event = "read", "read the network: changed {}", !is_same);
        if !is_same {
            let taken = take(kernel, state, &mut self.metrics, desired, Occasion::Network);
            let before = self.left;
            self.resolver.applied(taken.is_ok());
            if let Ok(left) = taken {
                self.left = left;
                self.tell_live();
            }
            self.left = self.complaint.about(taken);
            if before > 0 && self.left == 0 {
                info!(event = "attached", "all programs are attached");
            }
        }
        self.timers.rest(worked().saturating_sub(before));
    }

    /// Checks whether copies arrive, as far as this host can know, and logs changes. Returns
    /// whether the network must be read again.
    fn look_after(&mut self) -> Result<bool, KernelError> {
        let Self {
            kernel,
            state,
            health,
            ..
        } = self;
        kernel.look_after_next_hops(&state.network, &state.desired);
        let (samples, now) = kernel.sample()?;
        let changes = health.look(samples, now);
        if !changes.is_empty() {
            self.metrics.hurry();
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
            let level = if change.is_loss() {
                Level::WARN
            } else {
                Level::INFO
            };
            let about = About::endpoint(&name);
            tell(level, change.event(), &about, change.line(endpoint));
        }
        kernel.note_health(health)?;
        Ok(kernel.follow_path_mtus(health.path_mtus()))
    }

    /// Marks the last valid file as live, once all its programs are attached.
    fn tell_live(&mut self) {
        if let Some(hash) = self.source.right().filter(|_| self.left == 0) {
            self.kernel.tell_live(hash);
        }
    }

    /// The file was read, and is wrong or cannot be read.
    fn reject(&mut self) {
        self.metrics.process.rejected();
        self.note_rejected();
    }

    /// Records in the kernel that the file was rejected.
    fn note_rejected(&mut self) {
        let _ = self.kernel.note(Note::Rejected);
        self.kernel.tell_rejected(self.source.found());
    }
}

/// Whether the network is unchanged since the last successful reconciliation: then there is nothing
/// to do. Most changes of routes do not concern the file, and reading the tables and compiling
/// takes a hundred times as long as this check.
fn is_same(kernel: &mut Kernel, state: &Reconciled, desired: &Desired) -> bool {
    kernel
        .observe(desired)
        .is_ok_and(|network| network == state.network)
}
