//! The books of a daemon under test: at each endpoint, what matches is what is sent and what is dropped.
//!
//! Asserted for every test without being asked: wherever a laboratory reads counters, before each new configuration,
//! and when the daemon goes. See [`Passed`] for what is compared.

use crate::routed::count;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::ops::{Deref, DerefMut, RangeInclusive};
use std::time::Instant;
use traffic_mirror::desired::{self, Action, Desired};
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::status::{Counters, Status};

/// What has moved the counters.
///
/// Filters count what they match whatever others do, so counters alone do not say what filters have in common. Of the
/// filters that have counted, some name the endpoint (m packets each), and some exclude it (x each):
///
/// - Without an `exclude`, one filter that names it: exactly m packets are sent or dropped, whatever has passed.
/// - More, and one packet has passed one hook: exactly m, all having counted the same; none if one excludes it.
/// - More, and one packet has passed several hooks: at least the largest m less all x, at most all m.
/// - More, and other traffic has passed: an error. Such a test must count packet by packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// One packet, or one superpacket.
    Packet,
    /// Any number of packets.
    Traffic,
}

/// A daemon whose counters must add up. It panics on drop if they do not, as nobody is left to return an error to.
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
        Ok(Self { daemon, desired: load(config)?, before: Some(nothing) })
    }

    /// Replaces the configuration. What passes until [`Self::begin`] is nobody's.
    pub(crate) fn write_config(&mut self, text: &str) -> Result<()> {
        let status = Status::read(&self.daemon)?;
        self.check(&status, Passed::Traffic)?;
        self.desired = load(text)?;
        self.before = None;
        self.daemon.write_config(text)
    }

    /// From here on the configuration counts.
    pub(crate) fn begin(&mut self, status: &Status) {
        self.before = Some(status.clone());
    }

    /// Checks what has been counted since the last time. What is wrong is told once.
    pub(crate) fn check(&mut self, status: &Status, passed: Passed) -> Result<()> {
        let Some(before) = self.before.take() else { return Ok(()) };
        let (mut status, patience) = (status.clone(), deadline());
        while let Err(error) = adds_up(&self.desired, &status.since(&before)?, passed, hooked(&status)) {
            // a packet may just be on its way from one counter to the next
            let later = Status::read(&self.daemon)?;
            if later.counters() == status.counters() || Instant::now() > patience {
                return Err(error);
            }
            status = later;
        }
        self.before = Some(status);
        Ok(())
    }
}

/// The rule, for each endpoint.
fn adds_up(desired: &Desired, moved: &Counters, passed: Passed, interfaces: usize) -> Result<()> {
    for (index, endpoint) in desired.endpoints.iter().enumerate() {
        let name = &endpoint.name;
        let counted = |what: &str| count(moved, &format!("endpoint {name} {what}"));
        let (sent, dropped) = (counted("packets"), Status::dropped(moved, name));
        let expected = expected(desired, moved, index, passed, interfaces).with_context(|| format!("for {name}"))?;
        ensure!(
            expected.contains(&(sent + dropped)),
            "{expected:?} packets matched for {name}, but {sent} were sent and {dropped} dropped: {moved:?}"
        );
        for part in ["truncated", "fragmented"] {
            ensure!(counted(part) <= sent, "of {sent} packets sent to {name} more were {part}: {moved:?}");
        }
    }
    Ok(())
}

/// How many packets matched for an endpoint.
fn expected(
    desired: &Desired,
    moved: &Counters,
    endpoint: usize,
    passed: Passed,
    interfaces: usize,
) -> Result<RangeInclusive<u64>> {
    let counts = |action| {
        let filters = desired.filters.iter();
        let concerned = filters.filter(move |filter| filter.action == action && filter.to.contains(&endpoint));
        concerned.map(|filter| count(moved, &format!("filter {} packets", filter.name))).filter(|count| *count > 0)
    };
    let (most, all) = (counts(Action::Mirror).max().unwrap_or(0), counts(Action::Mirror).sum::<u64>());
    let excluded: u64 = counts(Action::Exclude).sum();
    let is_single = all == most && excluded == 0;
    match passed {
        _ if is_single || all == 0 => Ok(all..=all),
        Passed::Packet if interfaces > 1 => Ok(most.saturating_sub(excluded)..=all),
        Passed::Packet => {
            let is_one = counts(Action::Mirror).chain(counts(Action::Exclude)).all(|count| count == most);
            ensure!(is_one, "filters have counted one packet differently: {moved:?}");
            let matched = if excluded > 0 { 0 } else { most };
            Ok(matched..=matched)
        }
        Passed::Traffic => bail!("filters that overlap have matched: count packet by packet. {moved:?}"),
    }
}

/// How many interfaces are looked at: a packet passes no more than one hook of each.
fn hooked(status: &Status) -> usize {
    let mut names: Vec<_> =
        status.0["interfaces"].as_array().into_iter().flatten().map(|interface| interface["name"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.len()
}

fn load(config: &str) -> Result<Desired> {
    let loaded = desired::load(config);
    loaded.map(|(desired, _)| desired).map_err(|errors| anyhow!("a wrong configuration: {errors:?}\n{config}"))
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
        let checked = Status::read(&self.daemon).and_then(|status| self.check(&status, Passed::Traffic));
        assert!(checked.is_ok(), "{:#}", checked.unwrap_err());
    }
}

#[test]
fn what_does_not_add_up_is_told() -> Result<()> {
    let filters = [
        crate::filter("one", "protocol = [1]", "\"a\", \"b\""),
        crate::filter("two", "protocol = [2]", "\"a\""),
        crate::exclude("not", "protocol = [3]\nto = [\"a\"]"),
    ];
    let desired = load(&crate::config(&filters.concat()))?;
    let told = |passed, interfaces, counted: &str| {
        let lines = counted.split(", ").filter_map(|line| line.rsplit_once(' '));
        let moved = lines.map(|(key, by)| Ok((key.to_owned(), by.parse()?))).collect::<Result<_>>().expect("numbers");
        adds_up(&desired, &moved, passed, interfaces).err().map(|error| format!("{error:#}")).unwrap_or_default()
    };
    let both = "filter one packets 1, endpoint b packets 1, filter two packets 1";
    for (passed, interfaces, counted, wanted) in [
        (Passed::Traffic, 2, "", ""),
        (Passed::Traffic, 2, "filter two packets 9, endpoint a packets 4, endpoint a drop queue 5", ""),
        (Passed::Traffic, 1, "filter two packets 9, endpoint a packets 4, endpoint a drop queue 4", "9..=9 packets"),
        (Passed::Traffic, 1, "filter two packets 9, endpoint a packets 10", "9..=9 packets"),
        (Passed::Traffic, 1, "endpoint b packets 1", "0..=0 packets"),
        (Passed::Traffic, 1, "filter one packets 2, endpoint a packets 2", "matched for b"),
        (
            Passed::Traffic,
            1,
            "filter two packets 1, endpoint a packets 1, endpoint a truncated 2",
            "more were truncated",
        ),
        (Passed::Traffic, 1, "filter two packets 1, endpoint a drop queue 1, endpoint a fragmented 1", "fragmented"),
        (Passed::Traffic, 1, &format!("{both}, endpoint a packets 1"), "overlap"),
        (Passed::Packet, 1, &format!("{both}, endpoint a packets 1"), ""),
        (Passed::Packet, 1, &format!("{both}, endpoint a packets 2"), "1..=1 packets"),
        (Passed::Packet, 1, &format!("{both}, filter not packets 1"), ""),
        (Passed::Packet, 1, &format!("{both}, filter not packets 1, endpoint a packets 1"), "0..=0 packets"),
        (Passed::Packet, 1, "filter two packets 1, filter not packets 2", "differently"),
        (Passed::Packet, 2, &format!("{both}, endpoint a packets 2"), ""),
        (Passed::Packet, 2, &format!("{both}, endpoint a packets 3"), "1..=2 packets"),
    ] {
        let told = told(passed, interfaces, counted);
        ensure!(told.contains(wanted) && told.is_empty() == wanted.is_empty(), "{counted}: {told:?}, not {wanted:?}");
    }
    Ok(())
}
