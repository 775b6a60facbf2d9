//! Rejections by the kernel: the object, the request, and the kernel's answer.

use std::io;
use std::path::{Path, PathBuf};

use super::claim::capability::missing;
use super::netlink;

/// An error of the kernel, or on the path to it.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A map could not be created, opened, read or written.
    #[error("cannot {action} map {map}: {source}{}", remedy(source))]
    Map {
        /// "create", "read", ...
        action: &'static str,
        /// Its name.
        map: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program could not be loaded.
    #[error("cannot load program {program}: {reason}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The kernel's answer, the verifier's last line with it.
        reason: String,
    },
    /// A program could not be attached or detached.
    #[error("cannot {action} {program} {preposition} the {direction} of {interface}: {reason}", preposition = if *action == "detach" { "from" } else { "to" })]
    Attach {
        /// "attach" or "detach".
        action: &'static str,
        /// Its name.
        program: &'static str,
        /// Interface name, or index if it has none any more.
        interface: String,
        /// "ingress" or "egress".
        direction: &'static str,
        /// The kernel's answer.
        reason: String,
    },
    /// A pin could not be made, opened or removed.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(source))]
    Pin {
        /// "create", "open", "remove".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Running programs could not be waited for.
    #[error("cannot wait until the running programs have ended: {0}")]
    Wait(#[source] io::Error),
    /// Something failed in the middle, and so did going back.
    #[error("{}; the daemon could not restore the previous state either: {}", reason(error.as_ref()), reason(again.as_ref()))]
    Halfway {
        /// What failed first.
        error: Box<KernelError>,
        /// What failed during the restoration.
        again: Box<KernelError>,
    },
    /// The kernel has no such feature.
    #[error("{what}; {remedy}")]
    Unsupported {
        /// Which.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Something around this process is not as it must be: its capabilities, a directory, a file
    /// system.
    #[error("{what}; {remedy}")]
    Environment {
        /// What.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The pin path or a hook is another's: a daemon's, a network namespace's, a program's.
    #[error("{what}; {remedy}")]
    Conflict {
        /// The owner.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The maps have another layout.
    #[error(
        "another version of traffic-mirror created the maps; use the commands of that version, \
         or restart the daemon with this one"
    )]
    OtherVersion,
    /// The file asks for more than the maps can hold.
    #[error("{what}; {remedy}")]
    Limit {
        /// For what.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The network or the maps change again and again while they are worked on.
    #[error("{what}; {remedy}")]
    Unsettled {
        /// Which.
        what: String,
        /// What happens next, or what to do.
        remedy: &'static str,
    },
    /// A netlink request failed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

/// Why a change was not applied.
#[derive(Debug)]
pub enum NotApplied {
    /// An output interface or the segmenter rejected a program that clones are sent to. No clones
    /// may be sent there, so the tables must be compiled again.
    Refused,
    /// Any other error.
    Failed(KernelError),
}

impl From<KernelError> for NotApplied {
    fn from(error: KernelError) -> Self {
        Self::Failed(error)
    }
}

/// The remedy of an error, where it is known.
fn remedy(source: &io::Error) -> &'static str {
    let is_refused = source.kind() == io::ErrorKind::PermissionDenied;
    if is_refused && !missing().is_empty() {
        "; run it as root"
    } else {
        ""
    }
}

/// An error about a map.
pub(super) fn map_error(
    action: &'static str,
    map: &str,
) -> impl Fn(io::Error) -> KernelError + Copy {
    move |source| KernelError::Map {
        action,
        map: map.to_owned(),
        source,
    }
}

pub(super) fn pin_error(action: &'static str, path: &Path, source: io::Error) -> KernelError {
    KernelError::Pin {
        action,
        path: path.to_owned(),
        source,
    }
}

/// An error with its causes; of the verifier's log only the last line with content.
pub fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    const STATISTICS: [&str; 3] = ["processed ", "verification time", "stack depth"];
    let telling = lines.rfind(|line| !STATISTICS.iter().any(|words| line.starts_with(words)));
    telling.map_or_else(|| first.clone(), |last| format!("{first} ... {last}"))
}
