//! The file: when it is read, its content, its meaning. Half-written content is never loaded.

pub mod path;
pub mod reader;
pub mod trust;
mod watch;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use nix::sys::signal::{SigHandler, Signal, signal};
use tracing::{Level, error, info, warn};

use crate::debounce::Debounce;
use crate::desired::Desired;
use crate::kernel::{Hash, hash};
use crate::log;
use crate::source::reader::{Reader, read_all};
use crate::triggers::{Save, Trigger, TriggerSender};
pub use watch::FileWatch;

/// The file is read this long after the last change, since some writers open and close it several
/// times; at the latest after [`QUIET_MOST`]. What was renamed into place is read at once.
const QUIET: Duration = Duration::from_millis(150);
const QUIET_MOST: Duration = Duration::from_secs(1);
/// A file that is being written is read again when it is closed, and without such an event after
/// this time, then after twice this time, and so on.
const PATIENCE: Duration = Duration::from_millis(10);
const PATIENCE_MOST: Duration = Duration::from_secs(30);
/// Where the kernel does not report writers, a file that changed within this time is too new.
const SETTLED: Duration = Duration::from_millis(10);

/// The content of the file, or why it is rejected unread.
pub type Content = Result<Vec<u8>, Unfit>;

/// Why the file is rejected whatever its content is: a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// Others may change it.
    #[error("{0}")]
    Untrusted(String),
}

impl Unfit {
    fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable(format!("cannot read {}: {error}", path.display()))
    }
}

/// The file, and what was last found there.
pub struct ConfigSource {
    path: PathBuf,
    watch: FileWatch,
    /// Right or wrong: it is complained about once.
    seen: Content,
    /// Of what was last right.
    right: Option<Hash>,
    reader: Reader,
    debounce: Debounce,
    patience: Duration,
    /// What was last complained about the watch.
    complaint: Option<String>,
    /// Identity of the file when it was last polled, without a watch.
    file_id: Option<FileId>,
    /// The file has no name any more, and that was logged.
    is_orphan: bool,
}

/// Device, inode, size, last change (`st_ctime`).
type FileId = (u64, u64, u64, i64, i64);

/// The name of a file that is a mount of its own always leads to the same inode, even if another
/// file replaces the original.
const ORPHAN: &str = "was replaced or deleted outside of this mount, where the daemon cannot \
                      see it; restart the container, or mount the directory of the file in \
                      place of the file";

impl ConfigSource {
    /// Watches the file and reads it. Waits a limited time while another process writes it.
    /// [`Self::poll`] checks a file that cannot be watched.
    ///
    /// # Errors
    /// Signals cannot be set.
    pub fn open(path: &Path, triggers: TriggerSender) -> anyhow::Result<Self> {
        ignore_writers()?;
        let mut source = Self {
            path: path.to_owned(),
            watch: FileWatch::new(path, triggers, Trigger::File),
            seen: Err(Unfit::Unreadable(String::new())),
            right: None,
            reader: Reader::default(),
            debounce: Debounce::default(),
            patience: PATIENCE,
            complaint: None,
            file_id: None,
            is_orphan: false,
        };
        source.rearm();
        source.file_id = file_id(path);
        let latest = Instant::now() + QUIET_MOST;
        source.seen = loop {
            if let Some(content) = read_complete(path, &source.watch) {
                break content;
            }
            if Instant::now() >= latest {
                warn!(
                    event = "problem",
                    "{} is open for writing: loaded as it is",
                    path.display()
                );
                break read(path);
            }
            std::thread::sleep(PATIENCE);
        };
        Ok(source)
    }

    /// Checks whether the file has changed, if it cannot be watched. To be called once a second.
    pub fn poll(&mut self) {
        if !self.watch.is_blind() {
            return;
        }
        self.rearm();
        let file_id = file_id(&self.path);
        // a change from before the watch caused no event
        if file_id != self.file_id || !self.watch.is_blind() {
            self.file_id = file_id;
            self.tell(Save::Changed);
        }
    }

    /// The SHA-256 of what was last found; `None` if it could not be read.
    pub fn found(&self) -> Option<Hash> {
        self.seen.as_ref().ok().map(|bytes| hash(bytes))
    }

    /// Length of what was last found, bytes.
    pub fn bytes(&self) -> usize {
        self.seen.as_ref().map_or(0, Vec::len)
    }

    /// The SHA-256 of what [`Self::load`] last found right.
    pub fn right(&self) -> Option<Hash> {
        self.right
    }

    /// Something has happened to the file.
    pub fn tell(&mut self, save: Save) {
        let now = Instant::now();
        match save {
            Save::Replaced => self.debounce.set(now),
            Save::Changed => self.debounce.extend(now, QUIET, QUIET_MOST),
            // most writers close the file; some change it without opening it
            Save::Writing => return self.debounce.set(now + QUIET),
        }
        self.patience = PATIENCE;
    }

    /// When to read the file; `None` if there was no event.
    pub fn due(&self) -> Option<Instant> {
        self.debounce.due()
    }

    /// Reads the file if that is due, or if nothing has happened to it and `anyway`. Whether it has
    /// changed.
    pub fn look(&mut self, anyway: bool) -> bool {
        let now = Instant::now();
        if !self.debounce.due().map_or(anyway, |due| due <= now) {
            return false;
        }
        self.rearm();
        let Some(content) = read_complete(&self.path, &self.watch) else {
            self.debounce.set(now + self.patience);
            self.patience = PATIENCE_MOST.min(self.patience * 2);
            return false;
        };
        self.see(content)
    }

    /// Reads the file as it is.
    pub fn force(&mut self) {
        self.rearm();
        self.see(read(&self.path));
    }

    fn see(&mut self, content: Content) -> bool {
        (self.debounce, self.patience) = (Debounce::default(), PATIENCE);
        let is_new = content != self.seen;
        self.seen = content;
        is_new
    }

    fn rearm(&mut self) {
        let complaint = self.watch.rearm().err();
        let path = self.path.display();
        match (&self.complaint, &complaint) {
            (Some(_), None) => {
                info!(
                    event = "resolved",
                    "the daemon receives events of {path} again"
                )
            }
            (before, Some(why)) if before.as_ref() != Some(why) => {
                warn!(
                    event = "problem",
                    "cannot watch {path}: {why}; the daemon reads it every second until then"
                );
            }
            _ => {}
        }
        self.complaint = complaint;
        let is_orphan = is_orphan(&self.path);
        match (self.is_orphan, is_orphan) {
            (false, true) => warn!(event = "problem", "{path} {ORPHAN}"),
            (true, false) => {
                info!(
                    event = "resolved",
                    "the daemon sees changes of {path} again"
                )
            }
            _ => {}
        }
        self.is_orphan = is_orphan;
    }

    /// What the file means; what is wrong with it goes to standard error.
    pub fn load(&mut self) -> Option<Desired> {
        let complain = |unfit: &Unfit| error!(event = "rejected", "{unfit}");
        let bytes = self.seen.as_ref().map_err(complain).ok()?;
        let (desired, diagnostics, level) = match self.reader.load(bytes) {
            Ok((desired, warnings)) => (Some(desired), warnings, Level::WARN),
            Err(errors) => (None, errors, Level::ERROR),
        };
        if desired.is_some() {
            self.right = Some(hash(bytes));
        }
        log::diagnostics(
            level,
            &self.path,
            &String::from_utf8_lossy(bytes),
            &diagnostics,
        );
        desired
    }
}

fn read(path: &Path) -> Content {
    open(path)
        .and_then(read_all)
        .map_err(|error| Unfit::unreadable(path, &error))
        .and_then(|bytes| trusted(path, bytes))
}

/// The content, unless another user can write the file.
fn trusted(path: &Path, bytes: Vec<u8>) -> Content {
    trust::distrust(path).map_or(Ok(bytes), |why| Err(Unfit::Untrusted(why)))
}

/// A writer that waits for the lease of [`read_complete`] is announced by SIGIO, which would end
/// the process.
///
/// # Errors
/// The kernel rejects the signal action.
pub fn ignore_writers() -> anyhow::Result<()> {
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }
        .context("cannot ignore SIGIO")
        .map(drop)
}

/// The content of the file; `None` while another process writes it.
pub fn read_complete(path: &Path, watch: &FileWatch) -> Option<Content> {
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
        Err(error) => return Some(Err(Unfit::unreadable(path, &error))),
    };
    let content = match lease(&file) {
        // the lease keeps writers waiting until the file is closed
        Ok(()) => read_all(&mut file),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
        // only events report writers, and they may still be queued
        Err(_) => {
            let before = last_change(&file)?;
            // in the future, if the clock was set back
            if before.elapsed().is_ok_and(|age| age < SETTLED) {
                return None;
            }
            let content = read_all(&file);
            if watch.is_written() || last_change(&file)? != before {
                return None;
            }
            content
        }
    };
    Some(
        content
            .map_err(|error| Unfit::unreadable(path, &error))
            .and_then(|bytes| trusted(path, bytes)),
    )
}

/// What no program can set: the change of the inode (`st_ctime`).
fn last_change(file: &File) -> Option<SystemTime> {
    let data = file.metadata().ok()?;
    let since = Duration::new(
        data.ctime().try_into().ok()?,
        data.ctime_nsec().try_into().ok()?,
    );
    Some(SystemTime::UNIX_EPOCH + since)
}

fn file_id(path: &Path) -> Option<FileId> {
    let file = std::fs::metadata(path).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.size(),
        file.ctime(),
        file.ctime_nsec(),
    ))
}

/// Whether a name leads to a file that has none any more.
pub fn is_orphan(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.nlink() == 0)
}

/// The SHA-256 of a regular file, even if another process is writing it.
///
/// # Errors
/// It cannot be read.
pub fn fingerprint(path: &Path) -> io::Result<Hash> {
    open(path).and_then(read_all).map(|bytes| hash(&bytes))
}

/// Opens a regular file without blocking.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// A read lease: the kernel rejects it while the file is open for writing or mapped writable
/// (`generic_add_lease`). While it is held, the kernel blocks processes that open the file for
/// writing. Closing the file releases it.
///
/// # Errors
/// `WouldBlock`: the file is open for writing. Others: it belongs to another user, or the file system has no leases.
fn lease(file: &File) -> io::Result<()> {
    // SAFETY: the call takes a descriptor that is open, and an integer.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
