//! How programs are attached, and the daemon that does it.

use crate::account::{Accounted, unhurried};
use anyhow::{Result, bail};
use std::ffi::OsString;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::{deadline, kernel};

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attach {
    Tcx,
    Clsact,
}

impl Attach {
    /// What this kernel has; TCX came with 6.6. `TEST_ATTACH` asks for one of them, where both
    /// would take too long.
    pub(crate) fn all() -> Result<&'static [Self]> {
        let all: &[Self] = if kernel()? >= (6, 6) {
            &[Self::Tcx, Self::Clsact]
        } else {
            &[Self::Clsact]
        };
        match std::env::var("TEST_ATTACH").as_deref() {
            Err(_) => Ok(all),
            Ok("tcx") if all.contains(&Self::Tcx) => Ok(&[Self::Tcx]),
            Ok("clsact") => Ok(&[Self::Clsact]),
            Ok(other) => bail!("TEST_ATTACH={other}: tcx (Linux 6.6) or clsact"),
        }
    }

    pub(crate) fn launch(self) -> Launch {
        let word = match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        };
        Launch {
            args: ["--attach", word].map(OsString::from).to_vec(),
            ..Launch::default()
        }
    }
}

/// Starts the daemon and waits until it is ready.
pub(crate) fn start(netns: &Netns, config: &str, attach: Attach) -> Result<Accounted> {
    let mut daemon = Daemon::spawn(netns, &unhurried(config), attach.launch())?;
    daemon.ready(deadline())?;
    Accounted::new(daemon, config)
}
