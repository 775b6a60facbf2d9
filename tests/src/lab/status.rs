//! `status --json` as a flat list of numbers, of which a test can take the difference.

use super::daemon::Daemon;
use super::{deadline, pause};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use traffic_mirror::kernel::KernelError;
use traffic_mirror::status;

/// What `status --json` says at one moment.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

/// Counters by what they count: `filter web packets`, `filter web bytes`, `endpoint ids packets`,
/// `endpoint ids bytes`, `endpoint ids fragmented`, `endpoint ids drop oversize`, `eth0 ingress
/// malformed`.
pub type Counters = BTreeMap<String, u64>;

impl Status {
    /// What it says. To start a process takes an emulated machine longer than all else that a test
    /// does with a packet: with `TEST_STATUS=library` the function is called that the subcommand
    /// prints the result of.
    pub fn read(daemon: &Daemon) -> Result<Self> {
        match std::env::var("TEST_STATUS").as_deref() {
            Ok("library") => Self::call(daemon),
            _ => Self::run(daemon),
        }
    }

    /// The counters alone, by a call of the part of the function behind the subcommand that reads
    /// them: a test asks after each packet, and to start a process takes many times as long. That
    /// the subcommand prints what the function returns is checked by [`Self::is_printed`].
    pub fn count(daemon: &Daemon) -> Result<Self> {
        Self::called(daemon, status::read_without_places)
    }

    /// That the subcommand prints what the library says, and the counters are those of
    /// [`Self::count`], as soon as nothing moves any more. Returns it.
    pub fn is_printed(daemon: &Daemon) -> Result<Self> {
        let until = deadline();
        loop {
            let printed = Self::run(daemon)?;
            let (called, counted) = (Self::call(daemon)?, Self::count(daemon)?);
            if printed.0 == called.0 && printed.counters() == counted.counters() {
                return Ok(printed);
            }
            // the daemon may have been at work in between
            ensure!(
                Instant::now() < until,
                "the subcommand prints {:#}, the library says {:#}, and {:?} is counted",
                printed.0,
                called.0,
                counted.counters()
            );
        }
    }

    /// Calls the function behind the subcommand.
    pub fn call(daemon: &Daemon) -> Result<Self> {
        Self::called(daemon, status::read)
    }

    fn called(
        daemon: &Daemon,
        read: impl Fn(&Path) -> Result<Option<status::Status>, KernelError> + Sync,
    ) -> Result<Self> {
        let status = daemon.enter(|| Ok(read(daemon.pin_path())?))?;
        Ok(Self(serde_json::to_value(
            status.context("nothing is mirrored")?,
        )?))
    }

    /// Runs the subcommand; that the daemon is degraded is no error.
    pub fn run(daemon: &Daemon) -> Result<Self> {
        let output = daemon.run(&["status", "--json"])?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "status: {}: {}",
            output.status,
            said()
        );
        Ok(Self(serde_json::from_slice(&output.stdout).with_context(
            || format!("status printed no JSON: {}", said()),
        )?))
    }

    /// Reads again and again until `wanted` holds.
    pub fn until(
        daemon: &Daemon,
        wanted: impl Fn(&Self) -> bool,
        deadline: Instant,
    ) -> Result<Self> {
        loop {
            let status = Self::read(daemon)?;
            if wanted(&status) {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("status still says {:#}", status.0);
            }
            pause();
        }
    }

    /// The element of `list` ("filters", "endpoints", "interfaces") that has this name.
    pub fn named(&self, list: &str, name: &str) -> Option<&Value> {
        self.0[list]
            .as_array()?
            .iter()
            .find(|element| element["name"] == name)
    }

    /// A field of an endpoint as text; empty if absent.
    pub fn endpoint(&self, name: &str, field: &str) -> &str {
        self.named("endpoints", name)
            .and_then(|endpoint| endpoint[field].as_str())
            .unwrap_or_default()
    }

    /// All counters that are not 0.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::new();
        let mut add = |key: String, value: &Value| {
            if let Some(count @ 1..) = value.as_u64() {
                *counters.entry(key).or_default() += count;
            }
        };
        let list = |name: &str| self.0[name].as_array().into_iter().flatten();
        let reasons = |value: &Value| value.as_object().cloned().unwrap_or_default();
        for interface in list("interfaces") {
            let (name, direction) = (text(&interface["name"]), text(&interface["direction"]));
            for (reason, count) in reasons(&interface["skipped"]) {
                add(format!("{name} {direction} {reason}"), &count);
            }
            for (result, count) in reasons(&interface["connections"]) {
                add(format!("{name} {direction} connections {result}"), &count);
            }
        }
        for (kind, objects) in [("filter", list("filters")), ("endpoint", list("endpoints"))] {
            for object in objects {
                let name = text(&object["name"]);
                for unit in ["packets", "bytes", "truncated", "fragmented"] {
                    add(format!("{kind} {name} {unit}"), &object[unit]);
                }
                for (reason, count) in reasons(&object["drops"]) {
                    add(format!("{kind} {name} drop {reason}"), &count);
                }
            }
        }
        counters
    }

    /// The counters that have moved since `before`, and by how much. One that has gone down is an
    /// error.
    pub fn since(&self, before: &Self) -> Result<Counters> {
        let (here, there) = (self.counters(), before.counters());
        let mut moved = Counters::new();
        for key in here.keys().chain(there.keys()) {
            let count = |counters: &Counters| counters.get(key).copied().unwrap_or(0);
            let (here, there) = (count(&here), count(&there));
            ensure!(here >= there, "{key} went from {there} to {here}");
            if here > there {
                moved.insert(key.clone(), here - there);
            }
        }
        Ok(moved)
    }

    /// Packets of an endpoint that were not copied, all reasons.
    pub fn dropped(counters: &Counters, endpoint: &str) -> u64 {
        let prefix = format!("endpoint {endpoint} drop ");
        counters
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .map(|(_, count)| count)
            .sum()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(packets: u64, drops: &Value) -> Status {
        Status(json!({
            "interfaces": [{ "name": "eth0", "direction": "egress", "skipped": { "not-ip": 2 } }],
            "filters": [{ "name": "web", "packets": packets, "bytes": 0 }],
            "endpoints": [{ "name": "ids", "state": "ready", "packets": 1, "drops": drops }],
        }))
    }

    #[test]
    fn differences_name_what_moved() {
        let (before, after) = (
            status(1, &json!({})),
            status(3, &json!({ "clone": 4, "queue": 5 })),
        );
        let moved = after.since(&before).unwrap();
        let listed: Vec<_> = moved
            .iter()
            .map(|(key, count)| format!("{key} {count}"))
            .collect();
        assert_eq!(
            listed,
            [
                "endpoint ids drop clone 4",
                "endpoint ids drop queue 5",
                "filter web packets 2"
            ]
        );
        assert_eq!(Status::dropped(&moved, "ids"), 9);
        assert_eq!(after.counters()["eth0 egress not-ip"], 2);
        assert_eq!(
            (
                after.endpoint("ids", "state"),
                after.endpoint("ids", "next_hop")
            ),
            ("ready", "")
        );
        assert!(before.since(&after).is_err());
    }
}
