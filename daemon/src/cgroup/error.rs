//! Why cgroups cannot be selected, or cannot be followed. Pure.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::limits::{MAX_CGROUPS, MAX_LEVELS, MAX_WATCHES};
use crate::obstacle::Obstacle;
use crate::printable::printable;

/// What applications suffer from. Each text has its remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CgroupError {
    /// Neither version is mounted.
    #[error("no cgroup2 file system is mounted: run \"mount -t cgroup2 none /sys/fs/cgroup\"")]
    Unmounted,
    /// Sockets have cgroups of version 2 alone.
    #[error(
        "this host has cgroup v1 alone, which does not tell the cgroup of a packet: boot with \
         \"systemd.unified_cgroup_hierarchy=1\" on the kernel's command line"
    )]
    Legacy,
    /// The root that the daemon sees is not that of the host.
    #[error(
        "{} shows the cgroups of a container, not those of the host: start the daemon's \
         container with --cgroupns=host, or mount the host's /sys/fs/cgroup in it", .0.display()
    )]
    Namespace(PathBuf),
    /// More than are read. The cgroups next to the root are selected all the same.
    #[error(
        "patterns fit the paths of more than {} cgroups, and the deepest are left out: write \
         patterns with fewer \"*\"",
        MAX_CGROUPS
    )]
    TooMany,
    /// Below more cgroups than packets are asked for.
    #[error(
        "patterns select cgroups at more than {} levels, and those are left out: write the path of \
         a cgroup above them",
        MAX_LEVELS
    )]
    TooDeep,
    /// More than are watched.
    #[error(
        "patterns need watches on more than {} cgroups, and changes below the deepest are seen \
         every 30 s only: write patterns with fewer \"*\"",
        MAX_WATCHES
    )]
    TooManyWatches,
    /// The kernel has no room for another watch of this user (`ENOSPC`).
    #[error(
        "all inotify watches of this user are in use, and changes of cgroups are seen every 30 s \
         only: raise the sysctl fs.inotify.max_user_watches"
    )]
    NoWatch,
    /// The user has too many inotify instances (`EMFILE`), or the process too many files.
    #[error(
        "all inotify instances of this user are in use, and changes of cgroups are seen every \
         30 s only: raise the sysctl fs.inotify.max_user_instances"
    )]
    NoInstance,
    /// Something else.
    #[error("cannot {action} {}: {reason}", printable(&.path.to_string_lossy()))]
    Failed {
        /// A verb.
        action: &'static str,
        /// What it was to be done to.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
}

impl CgroupError {
    pub(super) fn failed(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Failed {
            action,
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    /// Whether the hierarchy cannot be read at all, so that no filter with applications matches.
    pub fn is_total(&self) -> bool {
        matches!(self, Self::Unmounted | Self::Legacy | Self::Namespace(_))
    }

    /// For the log and `status`.
    pub fn obstacle(&self) -> Obstacle {
        let what = if self.is_total() {
            "filters with applications match nothing"
        } else {
            "filters with applications may match too little"
        };
        Obstacle::fault(what, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_names_what_it_is_about_and_what_to_do() {
        let container = CgroupError::Namespace("/sys/fs/cgroup".into());
        let obstacle = container.obstacle().to_string();
        assert!(
            obstacle.starts_with("filters with applications match nothing: /sys/fs/cgroup shows"),
            "{obstacle}"
        );
        let hostile = CgroupError::failed("read", Path::new("/a\x1b[2J"), &io::Error::other("no"));
        assert_eq!(hostile.to_string(), "cannot read /a\\u{1b}[2J: no");
        let full = CgroupError::TooMany.to_string();
        assert!(full.contains("65536") && !CgroupError::TooMany.is_total());
    }
}
