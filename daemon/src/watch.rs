//! Waits for what makes the daemon act: the file, signals, the network. Output: [`Trigger`]s in one channel.

mod file;

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::kernel::netlink::{Event, Monitor};

pub use file::{FileWatch, Save};

/// Why to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Something has happened to the file.
    File(Save),
    /// SIGHUP: take the file as it is, changed or not.
    Reload,
    /// SIGTERM, SIGINT or SIGUSR2.
    End(End),
    /// Links, addresses, routes or neighbours have changed.
    Network(BTreeSet<Event>),
}

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing is mirrored any more.
    Remove,
    /// The kernel goes on mirroring until the next daemon takes over.
    Leave,
}

/// Turns signals into triggers.
///
/// # Errors
/// A handler cannot be installed.
pub fn watch_signals(triggers: Sender<Trigger>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR2])?;
    spawn("signals", move || {
        for signal in signals.forever() {
            let trigger = match signal {
                SIGHUP => Trigger::Reload,
                SIGUSR2 => Trigger::End(End::Leave),
                _ => Trigger::End(End::Remove),
            };
            if triggers.send(trigger).is_err() {
                return;
            }
        }
    })
}

/// Turns changes of the network into triggers.
///
/// # Errors
/// The thread cannot be started.
pub fn watch_network(mut monitor: Monitor, triggers: Sender<Trigger>) -> std::io::Result<()> {
    spawn("network", move || {
        loop {
            let events = monitor.wait(None).and_then(|_| monitor.drain());
            // what cannot be read may have been anything
            let events = events.unwrap_or_else(|_| BTreeSet::from([Event::Overrun]));
            if !events.is_empty() && triggers.send(Trigger::Network(events)).is_err() {
                return;
            }
        }
    })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(128 * 1024).spawn(body).map(drop)
}
