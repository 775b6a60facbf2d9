//! Input: the holder of the lock of the pin path, and the daemon's record. Output: whether a daemon
//! runs, and whether it is alive.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Reason;
use crate::kernel::{Record, holder, uptime};

/// A daemon writes a heartbeat each second. Its longest work, thousands of filters or hundreds of
/// interfaces at once, takes some seconds.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon, as others see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Daemon {
    /// Whether it runs.
    pub state: Life,
    /// Its process number; absent without a record.
    pub pid: Option<u32>,
    /// The number is that of another process namespace: here it may be another process, or none.
    pub is_elsewhere: bool,
    /// Its version.
    pub version: Option<String>,
    /// When it was started, seconds since 1970.
    pub since: Option<u64>,
    /// If it does not run or hangs, when it gave its last sign of life, seconds since 1970.
    pub last_sign: Option<u64>,
    /// If it hangs, for how many seconds it has given no sign of life.
    pub silent_seconds: Option<u64>,
}

/// Whether a daemon runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// It does.
    Running,
    /// There is a process, which does not do its work.
    Hangs,
    /// There is none.
    #[default]
    NotRunning,
}

impl Daemon {
    /// Looks for the daemon of a pin path.
    pub fn look(pin_path: &Path, record: Option<&Record>) -> Self {
        let holder = holder(pin_path);
        let silent = record.map_or(Duration::ZERO, |record| {
            uptime().saturating_sub(record.heartbeat)
        });
        let state = match holder {
            None => Life::NotRunning,
            Some(_) if silent > PATIENCE => Life::Hangs,
            Some(_) => Life::Running,
        };
        let own = record
            .map(|record| record.pid)
            .filter(|&pid| pid == std::process::id());
        let here = holder.and_then(|holder| holder.pid).or(own);
        let told = record.map(|record| record.pid);
        let is_silent = state != Life::Running && record.is_some();
        Self {
            state,
            pid: holder.and_then(|_| here.or(told)),
            is_elsewhere: holder.is_some() && here.is_none(),
            version: record.map(|record| record.version.clone()),
            since: record.map(|record| record.started),
            last_sign: is_silent.then(|| super::now().saturating_sub(silent.as_secs())),
            silent_seconds: (state == Life::Hangs).then_some(silent.as_secs()),
        }
    }

    /// Its process number, if that means something here.
    pub fn process(&self) -> Option<u32> {
        self.pid.filter(|_| !self.is_elsewhere)
    }

    /// Its process, for people.
    pub(super) fn named(&self) -> String {
        match (self.pid, self.is_elsewhere) {
            (None, _) => "pid unknown".to_owned(),
            (Some(pid), false) => format!("pid {pid}"),
            (Some(pid), true) => format!("pid {pid} of another process namespace"),
        }
    }

    /// Why something is wrong with it, if it is.
    pub fn reason(&self) -> Option<Reason> {
        let text = match self.state {
            Life::Running => return None,
            Life::Hangs => {
                let silent = self.silent_seconds.unwrap_or_default();
                format!(
                    "the daemon hangs: no heartbeat for {silent} s ({})",
                    self.named()
                )
            }
            Life::NotRunning => "the daemon is not running".to_owned(),
        };
        Some(Reason {
            text,
            since: self.last_sign,
        })
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let version = self
            .version
            .as_ref()
            .map(|version| format!(", version {version}"))
            .unwrap_or_default();
        let since = self
            .since
            .map(|at| format!(", since {}", super::local(at)))
            .unwrap_or_default();
        match self.state {
            Life::Running => format!("{}{version}{since}", self.named()),
            Life::Hangs => {
                let silent = self.silent_seconds.unwrap_or_default();
                format!(
                    "HANGS: no heartbeat for {silent} s ({}{version}{since})",
                    self.named()
                )
            }
            Life::NotRunning => {
                "NOT RUNNING: no process follows routes, interfaces or the file".to_owned()
            }
        }
    }
}
