//! The accounting of a daemon under test, kept across its configurations.
//!
//! Asserted for every test without being asked: wherever a laboratory reads counters, before each
//! new configuration, and when the daemon goes. See [`Passed`] for what is compared.

use anyhow::Result;
use std::ops::{Deref, DerefMut};
use std::time::Instant;
use traffic_mirror::desired::Desired;
use traffic_mirror_tests::lab::account::{adds_up, load};
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::status::Status;

pub(crate) use traffic_mirror_tests::lab::account::Passed;

/// The same file with time for all copies, if it says nothing of that: machines that are emulated
/// or busy take longer than the default, and how long a packet may be copied is the matter of one
/// test.
pub(crate) fn unhurried(config: &str) -> String {
    let is_given = config.lines().any(|line| line.starts_with("budget"));
    if is_given {
        config.to_owned()
    } else {
        format!("budget = \"1000ms\"\n{config}")
    }
}

/// A daemon whose counters must add up. It panics on drop if they do not, as nobody is left to
/// return an error to.
pub(crate) struct Accounted {
    daemon: Daemon,
    desired: Desired,
    /// `None` until somebody says where a new configuration begins, and once something was wrong.
    before: Option<Status>,
}

impl Accounted {
    /// A daemon that has just become ready: all it has counted was counted by this configuration.
    pub(crate) fn new(daemon: Daemon, config: &str) -> Result<Self> {
        let nothing = Status(serde_json::Value::Null);
        Ok(Self {
            daemon,
            desired: load(config)?,
            before: Some(nothing),
        })
    }

    /// Replaces the configuration. What passes until [`Self::begin`] is nobody's.
    pub(crate) fn write_config(&mut self, text: &str) -> Result<()> {
        let status = Status::count(&self.daemon)?;
        self.check(&status, Passed::Traffic)?;
        self.desired = load(text)?;
        self.before = None;
        self.daemon.write_config(&unhurried(text))
    }

    /// From here on the configuration counts.
    pub(crate) fn begin(&mut self, status: &Status) {
        self.before = Some(status.clone());
    }

    /// Checks what has been counted since the last time. What is wrong is told once.
    pub(crate) fn check(&mut self, status: &Status, passed: Passed) -> Result<()> {
        let Some(before) = self.before.take() else {
            return Ok(());
        };
        let (mut status, until) = (status.clone(), deadline());
        while let Err(error) = adds_up(
            &self.desired,
            &status.since(&before)?,
            passed,
            hooked(&status),
        ) {
            // a packet may just be on its way from one counter to the next
            let later = Status::count(&self.daemon)?;
            if later.counters() == status.counters() || Instant::now() > until {
                return Err(error);
            }
            status = later;
        }
        self.before = Some(status);
        Ok(())
    }
}

/// How many interfaces are looked at: a packet passes no more than one hook of each.
fn hooked(status: &Status) -> usize {
    let mut names: Vec<_> = status.0["interfaces"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|interface| interface["name"].as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    names.len()
}

impl Deref for Accounted {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Accounted {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

impl Drop for Accounted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let checked =
            Status::count(&self.daemon).and_then(|status| self.check(&status, Passed::Traffic));
        assert!(checked.is_ok(), "{:#}", checked.unwrap_err());
    }
}
