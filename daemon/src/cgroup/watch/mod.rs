//! Input: inotify events of the directories whose children patterns may select. Output: a call
//! whenever other cgroups may be selected. Nothing is read in the thread that waits.
//!
//! Before Linux 7.1 a cgroup that is removed sends nothing itself: neither `IN_DELETE_SELF` nor
//! `IN_IGNORED` comes, and the watch would hold the inode for ever. What comes is `IN_DELETE` of
//! the directory above. So watches are kept by the id of their cgroup, and
//! those whose cgroup is gone are removed with each reading. That is why inotify is used as it is:
//! `notify` keeps watches by path, and a unit that restarts has the same path with another inode.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::cgroup::error::CgroupError;
use crate::cgroup::hierarchy::Tree;
use crate::cgroup::limits::MAX_WATCHES;
use crate::cgroup::pattern::Pattern;
use crate::cgroup::state::MatchState;
use crate::cgroup::tree::{Visit, walk};

/// Cgroups come and go; version 2 cannot rename them.
const EVENTS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ONLYDIR)
    .union(AddWatchFlags::IN_DONT_FOLLOW);

/// Reads of up to 4 KiB of events before the caller is told, so that endless churn does not keep it
/// from that.
const MOST_READS: usize = 64;

/// The stack of the thread, bytes.
const STACK: usize = 128 * 1024;

/// Watches the cgroups whose children patterns may select, as long as it lives.
pub struct CgroupWatch {
    root: PathBuf,
    shared: Arc<Shared>,
    /// The watch of each cgroup, by its id.
    watches: HashMap<u64, WatchDescriptor>,
    is_blind: bool,
    /// The thread ends when this is closed.
    _end: PipeWriter,
}

/// What the thread needs, too.
struct Shared {
    inotify: Inotify,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    patterns: Arc<[Pattern]>,
    /// What the patterns say of each watched cgroup.
    states: HashMap<WatchDescriptor, MatchState>,
    /// Watches that the kernel has removed, as with a file system that is unmounted.
    gone: HashSet<WatchDescriptor>,
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        // a thread that panicked has left whole states
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CgroupWatch {
    /// A watch on the hierarchy at `root` that sees nothing before [`Self::follow`]. Its thread
    /// calls `tell` after each event that may concern the patterns, until that returns `false`;
    /// events come in bursts, which the caller gathers.
    ///
    /// # Errors
    /// [`CgroupError::NoInstance`], or the thread cannot be started.
    pub fn start(
        root: &Path,
        tell: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, CgroupError> {
        let failed = |error: &io::Error| CgroupError::failed("watch", root, error);
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(|errno| match errno {
            Errno::EMFILE => CgroupError::NoInstance,
            errno => failed(&errno.into()),
        })?;
        let shared = Arc::new(Shared {
            inotify,
            known: Mutex::default(),
        });
        let (end, writer) = io::pipe().map_err(|error| failed(&error))?;
        let listened = Arc::clone(&shared);
        thread::Builder::new()
            .name("cgroups".to_owned())
            .stack_size(STACK)
            .spawn(move || listen(&listened, &end, tell))
            .map_err(|error| failed(&error))?;
        Ok(Self {
            root: root.to_owned(),
            shared,
            watches: HashMap::new(),
            is_blind: true,
            _end: writer,
        })
    }

    /// Reads the cgroups that the patterns need, and watches those whose children they may select:
    /// for a path the directory of each component, for a glob each directory that the components
    /// before it fit, for a unit each slice. What happens after it was called causes a call.
    ///
    /// A cgroup that cannot be watched is read all the same; the tree has the reason.
    pub fn follow(&mut self, patterns: &[Pattern]) -> Tree {
        self.learn(patterns);
        let (mut tree, was_full) = self.read(patterns);
        // what was not needed any more has given its watches back
        if was_full && self.watches.len() < MAX_WATCHES {
            (tree, _) = self.read(patterns);
        }
        self.is_blind = !tree.errors.is_empty();
        tree
    }

    /// Reads and watches what patterns need; whether there was room for no other watch.
    fn read(&mut self, patterns: &[Pattern]) -> (Tree, bool) {
        let root = self.root.clone();
        let (mut seen, mut is_full) = (HashSet::new(), false);
        let tree = walk(&root, Some(patterns), |visit| {
            seen.insert(visit.id);
            if is_full {
                return Ok(());
            }
            let watched = self.watch(visit);
            is_full = matches!(
                watched,
                Err(CgroupError::NoWatch | CgroupError::TooManyWatches)
            );
            watched
        });
        self.forget_all_but(&seen);
        (tree, is_full)
    }

    /// Whether events may be missing: then [`Self::follow`] must be called from time to time.
    pub fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// How many cgroups are watched.
    pub fn watches(&self) -> usize {
        self.watches.len()
    }

    /// States belong to a list of patterns. An event that comes before its cgroup has a state again
    /// tells of something that is yet to be read.
    fn learn(&mut self, patterns: &[Pattern]) {
        let mut known = self.shared.known();
        let gone = std::mem::take(&mut known.gone);
        self.watches.retain(|_, watch| !gone.contains(watch));
        if *known.patterns != *patterns {
            known.patterns = patterns.into();
            known.states.clear();
        }
    }

    fn watch(&mut self, visit: &Visit<'_>) -> Result<(), CgroupError> {
        // under the lock, so that the thread knows the watch before it sees an event of it
        let mut known = self.shared.known();
        if let Some(watch) = self.watches.get(&visit.id) {
            known.states.insert(*watch, visit.state.clone());
            return Ok(());
        }
        if self.watches.len() >= MAX_WATCHES {
            return Err(CgroupError::TooManyWatches);
        }
        let failed =
            |errno: Errno| CgroupError::failed("watch", visit.directory, &io::Error::from(errno));
        let watch = match self.shared.inotify.add_watch(visit.directory, EVENTS) {
            Ok(watch) => watch,
            // it was removed, of which the directory above tells
            Err(Errno::ENOENT | Errno::ENODEV | Errno::ENOTDIR) => return Ok(()),
            Err(Errno::ENOSPC) => return Err(CgroupError::NoWatch),
            Err(errno) => return Err(failed(errno)),
        };
        // An id never comes back. So what had this id when it was listed and has it now is what is
        // watched; else the unit has restarted in between, of which the directory above tells.
        let is_same = fs::metadata(visit.directory).is_ok_and(|now| now.ino() == visit.id);
        if is_same {
            self.watches.insert(visit.id, watch);
            known.states.insert(watch, visit.state.clone());
        } else if !self.watches.values().any(|other| *other == watch) {
            drop(known);
            // its cgroup may be gone, and the watch with it
            let _ = self.shared.inotify.rm_watch(watch);
        }
        Ok(())
    }

    fn forget_all_but(&mut self, seen: &HashSet<u64>) {
        let shared = &self.shared;
        self.watches.retain(|id, watch| {
            let is_seen = seen.contains(id);
            if !is_seen {
                shared.known().states.remove(watch);
                // the kernel may have removed it already
                let _ = shared.inotify.rm_watch(*watch);
            }
            is_seen
        });
    }
}

/// Waits for events until the other end of the pipe is closed.
fn listen(shared: &Shared, end: &PipeReader, tell: impl Fn() -> bool) {
    loop {
        let mut files = [
            PollFd::new(shared.inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(end.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut files, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        if files[1].any().unwrap_or(true) {
            return;
        }
        let mut is_concerned = false;
        for _ in 0..MOST_READS {
            let Ok(events) = shared.inotify.read_events() else {
                break;
            };
            let mut known = shared.known();
            for event in &events {
                is_concerned |= known.hear(event);
            }
        }
        if is_concerned && !tell() {
            return;
        }
    }
}

impl Known {
    /// Whether other cgroups may be selected after an event.
    fn hear(&mut self, event: &InotifyEvent) -> bool {
        if event.mask.intersects(AddWatchFlags::IN_Q_OVERFLOW) {
            // events were lost: it may have been anything
            return true;
        }
        if event.mask.intersects(AddWatchFlags::IN_IGNORED) {
            self.gone.insert(event.wd);
            // it has no state if it was removed here
            return self.states.remove(&event.wd).is_some();
        }
        let Some(state) = self.states.get(&event.wd) else {
            return false;
        };
        match &event.name {
            // the hierarchy was unmounted
            None => true,
            Some(name) => {
                let name = OsStr::to_string_lossy(name);
                event.mask.intersects(AddWatchFlags::IN_ISDIR)
                    && state.enter(&self.patterns, &name).is_needed()
            }
        }
    }
}

#[cfg(test)]
mod tests;
