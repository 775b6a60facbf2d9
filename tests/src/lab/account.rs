//! The accounting of a daemon: at each endpoint, what matches is what is sent and what is dropped.
//!
//! Every [`Daemon`](super::daemon::Daemon) of the laboratory is held to it when it goes; see there.

use super::status::{Counters, Status};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::ops::RangeInclusive;
use traffic_mirror::desired::{self, Action, Desired, Directions, Filter};

/// What has moved the counters.
///
/// Filters count what they match whatever others do, so counters alone do not say what filters have
/// in common. Of the filters that have counted, some name the endpoint (m packets each), and some
/// exclude it (x each):
///
/// - Without an `exclude`, filters that name it and have no packet in common: exactly the sum of m, whatever has passed.
/// - Others, and one packet has passed one hook: exactly m, all having counted the same; none if one excludes it.
/// - Others, and one packet has passed several hooks: at least the largest m less all x, at most all m.
/// - Others, and other traffic has passed: an error. Such a test must count packet by packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// One packet, or one superpacket.
    Packet,
    /// Any number of packets.
    Traffic,
    /// Any number of packets, and nobody has counted them: as for one packet that has passed
    /// several hooks.
    Unknown,
}

/// The rule, for each endpoint.
///
/// `interfaces` is how many are looked at: a packet passes no more than one hook of each.
///
/// # Errors
/// What does not add up, and the counters.
pub fn adds_up(
    desired: &Desired,
    moved: &Counters,
    passed: Passed,
    interfaces: usize,
) -> Result<()> {
    for (index, endpoint) in desired.endpoints.iter().enumerate() {
        let name = &endpoint.name;
        let counted = |what: &str| count(moved, &format!("endpoint {name} {what}"));
        let (sent, dropped) = (counted("packets"), Status::dropped(moved, name));
        let expected = expected(desired, moved, index, passed, interfaces)
            .with_context(|| format!("for {name}"))?;
        ensure!(
            expected.contains(&(sent + dropped)),
            "{expected:?} packets matched for {name}, but {sent} were sent and {dropped} dropped: {moved:?}"
        );
        for part in ["truncated", "fragmented"] {
            ensure!(
                counted(part) <= sent,
                "of {sent} packets sent to {name} more were {part}: {moved:?}"
            );
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
    let counted = |action| {
        let filters = desired.filters.iter();
        let concerned =
            filters.filter(move |filter| filter.action == action && filter.to.contains(&endpoint));
        let counts = concerned.map(|filter| {
            (
                filter,
                count(moved, &format!("filter {} packets", filter.name)),
            )
        });
        counts.filter(|(_, count)| *count > 0)
    };
    let counts = |action| counted(action).map(|(_, count)| count);
    let (most, all) = (
        counts(Action::Mirror).max().unwrap_or(0),
        counts(Action::Mirror).sum::<u64>(),
    );
    let excluded: u64 = counts(Action::Exclude).sum();
    let others = |number| counted(Action::Mirror).skip(number + 1);
    let mut named = counted(Action::Mirror).enumerate();
    let are_disjoint =
        named.all(|(number, (one, _))| others(number).all(|(other, _)| is_disjoint(one, other)));
    match passed {
        _ if all == 0 || (are_disjoint && excluded == 0) => Ok(all..=all),
        Passed::Packet if interfaces > 1 => Ok(most.saturating_sub(excluded)..=all),
        Passed::Unknown => Ok(most.saturating_sub(excluded)..=all),
        Passed::Packet => {
            let is_one = counts(Action::Mirror)
                .chain(counts(Action::Exclude))
                .all(|count| count == most);
            ensure!(
                is_one,
                "filters have counted one packet differently: {moved:?}"
            );
            let matched = if excluded > 0 { 0 } else { most };
            Ok(matched..=matched)
        }
        Passed::Traffic => {
            bail!("filters that overlap have matched: count packet by packet. {moved:?}")
        }
    }
}

/// Whether no packet can match both. That they do not is not always seen.
fn is_disjoint(one: &Filter, other: &Filter) -> bool {
    fn apart<T: PartialOrd + Copy>(one: &[RangeInclusive<T>], other: &[RangeInclusive<T>]) -> bool {
        let overlap = |a: &RangeInclusive<T>| {
            other
                .iter()
                .any(|b| a.start() <= b.end() && b.start() <= a.end())
        };
        !one.is_empty() && !other.is_empty() && !one.iter().any(overlap)
    }
    let protocols = |filter: &Filter| {
        filter
            .protocol
            .iter()
            .map(|&number| number..=number)
            .collect::<Vec<_>>()
    };
    let is_one_way = !one.bidirectional && !other.bidirectional;
    apart(&protocols(one), &protocols(other))
        || apart(&one.vlan, &other.vlan)
        || (is_one_way && apart(&one.source_port, &other.source_port))
        || (is_one_way && apart(&one.destination_port, &other.destination_port))
        || matches!(
            (one.direction, other.direction),
            (Directions::Ingress, Directions::Egress) | (Directions::Egress, Directions::Ingress)
        )
}

/// A counter, 0 if it has not moved.
fn count(counters: &Counters, key: &str) -> u64 {
    counters.get(key).copied().unwrap_or(0)
}

/// What a configuration means.
///
/// # Errors
/// It is wrong.
pub fn load(config: &str) -> Result<Desired> {
    let loaded = desired::load(config);
    loaded
        .map(|(desired, _)| desired)
        .map_err(|errors| anyhow!("a wrong configuration: {errors:?}\n{config}"))
}

#[test]
fn what_does_not_add_up_is_told() -> Result<()> {
    let desired = load(
        r#"
        interface = [{ name = "eth0" }]
        [endpoint]
        a = { address = "192.0.2.1" }
        b = { address = "192.0.2.2" }
        [[filter]]
        name = "one"
        protocol = [1]
        to = ["a", "b"]
        [[filter]]
        name = "two"
        source = ["192.0.2.0/24"]
        to = ["a"]
        [[filter]]
        name = "apart"
        protocol = [2]
        to = ["a"]
        [[filter]]
        name = "not"
        action = "exclude"
        protocol = [3]
        to = ["a"]
        "#,
    )?;
    let told = |passed, interfaces, counted: &str| {
        let lines = counted.split(", ").filter_map(|line| line.rsplit_once(' '));
        let moved = lines
            .map(|(key, by)| Ok((key.to_owned(), by.parse()?)))
            .collect::<Result<_>>()
            .expect("numbers");
        adds_up(&desired, &moved, passed, interfaces)
            .err()
            .map(|error| format!("{error:#}"))
            .unwrap_or_default()
    };
    let both = "filter one packets 1, endpoint b packets 1, filter two packets 1";
    let apart = "filter one packets 1, endpoint b packets 1, filter apart packets 2";
    for (passed, interfaces, counted, wanted) in [
        (Passed::Traffic, 2, "", ""),
        (
            Passed::Traffic,
            2,
            "filter two packets 9, endpoint a packets 4, endpoint a drop queue 5",
            "",
        ),
        (
            Passed::Traffic,
            1,
            "filter two packets 9, endpoint a packets 4, endpoint a drop queue 4",
            "9..=9 packets",
        ),
        (
            Passed::Traffic,
            1,
            "filter two packets 9, endpoint a packets 10",
            "9..=9 packets",
        ),
        (Passed::Traffic, 1, "endpoint b packets 1", "0..=0 packets"),
        (
            Passed::Traffic,
            1,
            "filter one packets 2, endpoint a packets 2",
            "matched for b",
        ),
        (
            Passed::Traffic,
            1,
            "filter two packets 1, endpoint a packets 1, endpoint a truncated 2",
            "more were truncated",
        ),
        (
            Passed::Traffic,
            1,
            "filter two packets 1, endpoint a drop queue 1, endpoint a fragmented 1",
            "fragmented",
        ),
        (
            Passed::Traffic,
            1,
            &format!("{both}, endpoint a packets 1"),
            "overlap",
        ),
        (
            Passed::Unknown,
            1,
            &format!("{both}, endpoint a packets 2"),
            "",
        ),
        (
            Passed::Unknown,
            1,
            &format!("{both}, endpoint a packets 3"),
            "1..=2 packets",
        ),
        (
            Passed::Unknown,
            1,
            &format!("{both}, filter not packets 1"),
            "",
        ),
        (
            Passed::Traffic,
            1,
            &format!("{apart}, endpoint a packets 3"),
            "",
        ),
        (
            Passed::Unknown,
            1,
            &format!("{apart}, endpoint a packets 2"),
            "3..=3 packets",
        ),
        (
            Passed::Packet,
            1,
            &format!("{both}, endpoint a packets 1"),
            "",
        ),
        (
            Passed::Packet,
            1,
            &format!("{both}, endpoint a packets 2"),
            "1..=1 packets",
        ),
        (
            Passed::Packet,
            1,
            &format!("{both}, filter not packets 1"),
            "",
        ),
        (
            Passed::Packet,
            1,
            &format!("{both}, filter not packets 1, endpoint a packets 1"),
            "0..=0 packets",
        ),
        (
            Passed::Packet,
            1,
            "filter two packets 1, filter not packets 2",
            "differently",
        ),
        (
            Passed::Packet,
            2,
            &format!("{both}, endpoint a packets 2"),
            "",
        ),
        (
            Passed::Packet,
            2,
            &format!("{both}, endpoint a packets 3"),
            "1..=2 packets",
        ),
    ] {
        let told = told(passed, interfaces, counted);
        ensure!(
            told.contains(wanted) && told.is_empty() == wanted.is_empty(),
            "{counted}: {told:?}, not {wanted:?}"
        );
    }
    Ok(())
}
