//! Waits for what makes the daemon act: the file, signals, the network. Output: [`Trigger`]s in one
//! queue.

mod queue;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use crate::kernel::netlink::{Event, Monitor};
use crate::kernel::reason;

pub use crate::triggers::queue::{TriggerSender, Triggers, queue};

/// An event of the file, or of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Save {
    /// Something was renamed into place, which is complete.
    Replaced,
    /// It was closed after writing, made, removed or given other rights. More may follow.
    Changed,
    /// It is being written.
    Writing,
}

/// Why to reconcile again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Something has happened to the file.
    File(Save),
    /// Something has happened to the addresses of DNS names.
    Names(Save),
    /// SIGHUP: take the file as it is, changed or not.
    Reload,
    /// SIGTERM, SIGINT or SIGUSR2.
    End(End),
    /// Links, addresses, routes or neighbours have changed.
    Network(BTreeSet<Event>),
    /// Other cgroups may be the applications of the file.
    Cgroups,
}

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing is mirrored any more.
    Remove,
    /// The kernel continues to mirror until the next daemon takes over.
    Leave,
}

/// Turns signals into triggers.
///
/// # Errors
/// A handler cannot be installed.
pub fn watch_signals(triggers: TriggerSender) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR2])?;
    spawn("signals", move || {
        for signal in signals.forever() {
            let trigger = match signal {
                SIGHUP => Trigger::Reload,
                SIGUSR2 => Trigger::End(End::Leave),
                _ => Trigger::End(End::Remove),
            };
            if !triggers.send(trigger) {
                return;
            }
        }
    })
}

/// After a failure the monitor is opened again after this time, then after twice this time, and so
/// on.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(30);

/// Turns network events into triggers. Opens a monitor that fails again, in the caller's network
/// namespace.
///
/// # Errors
/// The thread cannot be started.
pub fn watch_network(mut monitor: Monitor, triggers: TriggerSender) -> std::io::Result<()> {
    spawn("network", move || {
        // until it has heard again
        let mut pause: Option<Duration> = None;
        loop {
            // if nothing happens, silence must do
            let heard = monitor.wait(pause).and_then(|_| monitor.drain());
            let events = match heard {
                Ok(events) => {
                    if pause.take().is_some() {
                        info!(
                            event = "resolved",
                            "the daemon receives network events again"
                        );
                    }
                    events
                }
                Err(error) => {
                    if pause.is_none() {
                        let error = reason(&error);
                        warn!(
                            event = "problem",
                            "cannot receive network events: {error}; the daemon reads the \
                             network every 30 s until then"
                        );
                    }
                    let next = pause.map_or(PAUSE, |pause| PAUSE_MOST.min(pause * 2));
                    thread::sleep(next);
                    pause = Some(next);
                    if let Ok(fresh) = Monitor::open() {
                        monitor = fresh;
                    }
                    // what was not heard of may have been anything
                    BTreeSet::from([Event::Overrun])
                }
            };
            if !events.is_empty() && !triggers.send(Trigger::Network(events)) {
                return;
            }
        }
    })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(128 * 1024)
        .spawn(body)
        .map(drop)
}
