//! Inotify events of the file and of the directories and symbolic links of its path. Output:
//! [`Save`]s. The file is never read here. A file that is a mount point, as in containers, is
//! watched by its inode: the events of its writers go to its original directory, which is invisible
//! here.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher};

use crate::source::path;
use crate::triggers::{Save, Trigger, TriggerSender};

/// Attempts to follow a path that changes all the time.
const MAX_ATTEMPTS: u32 = 8;

/// Watches the file, as long as it lives.
pub struct FileWatch {
    path: PathBuf,
    triggers: TriggerSender,
    /// What an event of this file is.
    trigger: fn(Save) -> Trigger,
    way: Way,
    told: Arc<Told>,
    watcher: Option<RecommendedWatcher>,
    /// The path could not be watched, or not completely.
    is_blind: bool,
}

/// The state after the last events.
#[derive(Debug, Default)]
struct Told {
    /// The file was written, and not closed since.
    is_written: AtomicBool,
    /// A directory was moved or deleted: what is watched may no longer be what has its name.
    is_stale: AtomicBool,
}

impl FileWatch {
    /// A watch that sees nothing before [`Self::rearm`].
    pub fn new(path: &Path, triggers: TriggerSender, trigger: fn(Save) -> Trigger) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            path,
            triggers,
            trigger,
            way: Way::default(),
            told: Arc::default(),
            watcher: None,
            is_blind: true,
        }
    }

    /// Whether events may be missing: then the file must be polled.
    pub fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// Follows the path again, and watches it if it has changed. To be called before the file is
    /// read, so that no change is missed.
    ///
    /// # Errors
    /// A directory cannot be watched; the text has the reason. A missing directory is no error.
    pub fn rearm(&mut self) -> Result<(), String> {
        let armed = self.arm().map_err(|error| reason(&error));
        self.is_blind = armed.is_err();
        armed
    }

    fn arm(&mut self) -> notify::Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let way = Way::to(&self.path);
            if way == self.way && !self.told.is_stale.load(Ordering::Relaxed) {
                break;
            }
            let told: Arc<Told> = Arc::default();
            let mut watcher = listen(
                way.clone(),
                Arc::clone(&told),
                self.triggers.clone(),
                self.trigger,
            )?;
            let inode = way.mounted.as_ref().map(|(_, file)| file);
            let watched = way
                .directories
                .values()
                .chain(inode)
                .map(|one| watch(&mut watcher, one));
            let watched = watched.fold(Ok(()), Result::and);
            // what could not be watched is tried again
            told.is_stale.fetch_or(watched.is_err(), Ordering::Relaxed);
            // the one before listened until here
            (self.way, self.told, self.watcher) = (way, told, Some(watcher));
            watched?;
        }
        Ok(())
    }

    /// Whether the file is being written, according to the events: not if that began before the
    /// path was watched, or under another name.
    pub fn is_written(&self) -> bool {
        self.told.is_written.load(Ordering::Relaxed)
    }
}

/// A watcher that watches nothing so far.
fn listen(
    way: Way,
    told: Arc<Told>,
    triggers: TriggerSender,
    trigger: fn(Save) -> Trigger,
) -> notify::Result<RecommendedWatcher> {
    let hear = move |event: notify::Result<Event>| {
        if let Some(save) = told.hear(&way, event) {
            // the receiver is gone only when the daemon ends
            triggers.send(trigger(save));
        }
    };
    // opening and reading cause no event
    let kinds = EventKindMask::CORE | EventKindMask::ACCESS_CLOSE;
    RecommendedWatcher::new(hear, Config::default().with_event_kinds(kinds))
}

/// The limits that a busy host meets have a remedy.
fn reason(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::Io(io) if io.raw_os_error() == Some(libc::EMFILE) => {
            "all inotify instances of this user are in use; raise the sysctl fs.inotify.max_user_instances".to_owned()
        }
        notify::ErrorKind::MaxFilesWatch => {
            "all inotify watches of this user are in use; raise the sysctl fs.inotify.max_user_watches".to_owned()
        }
        _ => error.to_string(),
    }
}

fn watch(watcher: &mut RecommendedWatcher, directory: &Path) -> notify::Result<()> {
    match watcher.watch(directory, RecursiveMode::NonRecursive) {
        // deleted in the meantime: the path has changed
        Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => Ok(()),
        watched => watched,
    }
}

impl Told {
    /// What an event means for the file. One about other files means nothing.
    fn hear(&self, way: &Way, event: notify::Result<Event>) -> Option<Save> {
        let Some(event) = event.ok().filter(|event| !event.need_rescan()) else {
            // events were lost: it may have been anything
            self.is_stale.store(true, Ordering::Relaxed);
            return Some(Save::Changed);
        };
        let path = event.paths.first().filter(|path| way.concerns(path))?;
        let (save, is_written) = match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => (Save::Writing, true),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (Save::Replaced, false),
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                (Save::Changed, false)
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => (Save::Changed, false),
            // a new file is about to be written, a link is complete
            EventKind::Create(_) => {
                let is_empty = |made: fs::Metadata| made.is_file() && made.size() == 0;
                (
                    Save::Changed,
                    fs::symlink_metadata(path).is_ok_and(is_empty),
                )
            }
            // what could not be read may be readable
            EventKind::Modify(ModifyKind::Metadata(_)) => return Some(Save::Changed),
            _ => return None,
        };
        self.is_written.store(is_written, Ordering::Relaxed);
        if way.directories.values().any(|directory| directory == path) {
            self.is_stale.store(true, Ordering::Relaxed);
        }
        Some(save)
    }
}

/// Which names in which directories lead to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Way {
    /// Directories to watch, by device and inode number: inotify has one watch for a directory,
    /// whatever its paths.
    directories: BTreeMap<(u64, u64), PathBuf>,
    /// In these directories: directories and symbolic links, and at last the file, or what is
    /// missing.
    entries: BTreeSet<PathBuf>,
    /// The file, if it is a mount point, by device and inode number.
    mounted: Option<((u64, u64), PathBuf)>,
}

impl Way {
    fn to(path: &Path) -> Self {
        let mut way = Self::default();
        for stop in path::to(path) {
            let is_directory = stop.found.as_ref().is_ok_and(fs::Metadata::is_dir);
            // a watched directory has events of its own for being moved or deleted; the root, with
            // many events, is not watched
            let is_known = is_directory && stop.directory == Path::new("/");
            let known = if is_known {
                None
            } else {
                way.watch(&stop.directory, &stop.name)
            };
            let entry = stop.path();
            if stop.found.as_ref().is_ok_and(fs::Metadata::is_file) && is_mount_point(&entry) {
                let inode = fs::metadata(&entry)
                    .ok()
                    .map(|file| (file.dev(), file.ino()));
                way.mounted = inode.zip(known);
            }
        }
        way
    }

    /// Returns the name in the events of it.
    fn watch(&mut self, directory: &Path, name: &OsString) -> Option<PathBuf> {
        let metadata = fs::metadata(directory).ok()?;
        let known = self
            .directories
            .entry((metadata.dev(), metadata.ino()))
            .or_insert_with(|| directory.to_owned());
        let entry = known.join(name);
        self.entries.insert(entry.clone());
        Some(entry)
    }

    fn concerns(&self, path: &Path) -> bool {
        self.entries.contains(path) || self.directories.values().any(|directory| directory == path)
    }
}

/// Whether something is mounted right there (`STATX_ATTR_MOUNT_ROOT`).
fn is_mount_point(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: the path lives through the call and ends with 0; the kernel writes the structure, for
    // which any bytes are valid.
    let (done, stat) = unsafe {
        let mut stat: libc::statx = std::mem::zeroed();
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        (
            libc::statx(
                libc::AT_FDCWD,
                path.as_ptr(),
                flags,
                libc::STATX_BASIC_STATS,
                &raw mut stat,
            ),
            stat,
        )
    };
    done == 0 && stat.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0
}
