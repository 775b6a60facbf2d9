//! What the kernel refused: the object, what was asked, and its answer.

use std::io;
use std::path::PathBuf;

use super::netlink;

/// An error of the kernel or on the way to it.
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
    #[error("{}; neither can what held before be restored: {}", super::reason(error.as_ref()), super::reason(again.as_ref()))]
    Halfway {
        /// What failed first.
        error: Box<KernelError>,
        /// What failed on the way back.
        again: Box<KernelError>,
    },
    /// The kernel lacks something.
    #[error("{what}; {remedy}")]
    Missing {
        /// What.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A netlink request failed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

/// What to do about an error, where that is known.
fn remedy(source: &io::Error) -> &'static str {
    let is_refused = source.kind() == io::ErrorKind::PermissionDenied;
    if is_refused && super::require_capabilities().is_err() { "; run it as root" } else { "" }
}
