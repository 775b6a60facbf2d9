//! Errors of a netlink socket, with the request and its object.

use std::{fmt, io};

use nix::errno::Errno;

/// A failed conversation with the kernel over netlink.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be set up or read.
    #[error("cannot {action} a netlink socket: {}", Described(*.errno))]
    Socket {
        /// What was tried, such as "open".
        action: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// The kernel rejected a request.
    #[error("cannot {request}: {}{}", Described(*.errno), Hint(.hint.as_deref()))]
    Refused {
        /// The request with its object: "read the tc filters of interface 3".
        request: String,
        /// Why not.
        errno: Errno,
        /// The kernel's own explanation (`NLMSGERR_ATTR_MSG`), if it gave one.
        hint: Option<String>,
    },
    /// The kernel's answer stayed incomplete after all attempts: the listed objects kept changing,
    /// or messages were lost.
    #[error("cannot {request}: no complete answer after {attempts} attempts")]
    Incomplete {
        /// The request with its object.
        request: String,
        /// How often.
        attempts: usize,
    },
    /// The kernel's answer makes no sense.
    #[error("cannot {request}: unexpected answer: {reason}")]
    Malformed {
        /// The request with its object.
        request: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl Error {
    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Socket { errno, .. } | Self::Refused { errno, .. } => Some(*errno),
            Self::Incomplete { .. } | Self::Malformed { .. } => None,
        }
    }

    pub(super) fn socket(action: &'static str, error: &io::Error) -> Self {
        Self::Socket {
            action,
            errno: errno(error),
        }
    }
}

pub(super) fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

struct Described(Errno);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.0.desc(), self.0)
    }
}

struct Hint<'a>(Option<&'a str>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |text| write!(f, ": {}", text.trim_end_matches('.')))
    }
}
