//! Waits for what makes the daemon act: the file, signals, the network. Output: [`Trigger`]s in one channel.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::kernel::netlink::{Event, Monitor};

/// Why to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The file may have changed.
    File,
    /// SIGHUP: take the file, changed or not.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
    /// Links, addresses, routes or neighbours have changed.
    Network(BTreeSet<Event>),
}

/// Watches the directories of the file and of what it is a symbolic link to, as long as it lives.
pub struct FileWatch {
    path: PathBuf,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl FileWatch {
    /// # Errors
    /// The directory cannot be watched.
    pub fn new(path: &Path, triggers: Sender<Trigger>) -> notify::Result<Self> {
        let send = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_complete(event.kind)) {
                // the receiver is gone only when the daemon ends
                let _ = triggers.send(Trigger::File);
            }
        };
        let mut watch = Self {
            path: std::path::absolute(path)?,
            watcher: notify::recommended_watcher(send)?,
            watched: BTreeSet::new(),
        };
        watch.rearm()?;
        Ok(watch)
    }

    /// Follows the symbolic links again, and watches the directories that are there: one may have been replaced by
    /// another of the same name. To be called before the file is read, so that no change falls between.
    ///
    /// # Errors
    /// A directory cannot be watched. One that is missing is none.
    pub fn rearm(&mut self) -> notify::Result<()> {
        for directory in std::mem::take(&mut self.watched) {
            // it may have been deleted
            let _ = self.watcher.unwatch(&directory);
        }
        let resolved = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        for directory in [&self.path, &resolved].into_iter().filter_map(|path| path.parent()) {
            if directory.is_dir() && self.watched.insert(directory.to_owned()) {
                self.watcher.watch(directory, RecursiveMode::NonRecursive)?;
            }
        }
        Ok(())
    }
}

/// Whether a file may have become complete: a half-written one can be valid TOML, so writing alone is no reason.
fn is_complete(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Create(_)
            | EventKind::Remove(_)
    )
}

/// Turns signals into triggers.
///
/// # Errors
/// A handler cannot be installed.
pub fn watch_signals(triggers: Sender<Trigger>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    spawn("signals", move || {
        for signal in signals.forever() {
            let trigger = if signal == SIGHUP { Trigger::Reload } else { Trigger::Stop };
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
