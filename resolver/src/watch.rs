//! Input: the path of a file. Output: a call for each time that it was written, replaced or removed,
//! by inotify(7) on its directory.

use std::ffi::OsStr;
use std::path::Path;
use std::thread;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Watches a file from now on, in a thread of its own, until the callback answers false or the
/// directory is removed. A removed directory is a last call.
///
/// # Errors
/// The directory cannot be watched.
pub(crate) fn follow(
    path: &Path,
    mut call: impl FnMut() -> bool + Send + 'static,
) -> anyhow::Result<()> {
    let name = path
        .file_name()
        .context("the path of the list has no file name")?
        .to_owned();
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).context("cannot use inotify")?;
    let events = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(directory, events).with_context(|| {
        format!(
            "cannot watch {}; the daemon makes this directory when it starts",
            directory.display()
        )
    })?;
    let follow = move || {
        loop {
            let events = match inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            // without a name: the directory is gone, or events were lost
            let is_it = |name: &Option<_>, own: &OsStr| name.as_deref().is_none_or(|n| n == own);
            if events.iter().any(|event| is_it(&event.name, &name)) && !call() {
                return;
            }
            if events
                .iter()
                .any(|event| event.mask.contains(AddWatchFlags::IN_IGNORED))
            {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("watch".into())
        .spawn(follow)
        .context("cannot start a thread")?;
    Ok(())
}
