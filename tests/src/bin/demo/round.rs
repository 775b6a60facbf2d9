//! One round of traffic: who got copies of what, and whether each is what its original was.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::multiset::Difference;
use traffic_mirror_tests::lab::packet::{FiveTuple, Gue};

use crate::screen::Screen;
use crate::stage::{COLLECTOR_A, COLLECTOR_B, Stage};

/// A filter of the demo, in force, bidirectional, with one endpoint: a second opinion on what the
/// daemon does.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) filter: &'static str,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) endpoint: &'static str,
}

impl Rule {
    fn matches(&self, flow: &FiveTuple) -> bool {
        flow.protocol == self.protocol
            && flow
                .ports
                .is_some_and(|(from, to)| from == self.port || to == self.port)
    }
}

/// What all rounds have shown.
#[derive(Default)]
pub(crate) struct Totals {
    rounds: u16,
    originals: usize,
    copies: usize,
    filters: BTreeMap<&'static str, u64>,
    endpoints: BTreeMap<&'static str, u64>,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} packets, {} copies, each byte-identical to its original",
            self.originals, self.copies
        )
    }
}

const SAMPLE: usize = 6;

/// Sends the traffic, waits for the copies, compares. `ids` is where the endpoint of that name is.
pub(crate) fn play(
    screen: &Screen,
    stage: &mut Stage,
    totals: &mut Totals,
    rules: &[Rule],
    ids: &'static str,
) -> Result<()> {
    totals.rounds += 1;
    stage.traffic(40_000 + totals.rounds)?;
    let originals = stage.originals()?;
    let expected = |collector: &str| {
        let here = |rule: &&Rule| place(rule.endpoint, ids).0 == collector;
        let matching = |flow: &FiveTuple| rules.iter().filter(here).any(|rule| rule.matches(flow));
        originals.iter().filter(|(flow, _)| matching(flow)).count()
    };
    let mut copies: Vec<(&str, Gue)> = Vec::new();
    for (index, name) in [COLLECTOR_A, COLLECTOR_B].into_iter().enumerate() {
        let come = stage.collectors[index].copies(expected(name), deadline());
        let come = come.with_context(|| format!("at {name}"))?;
        if totals.rounds == 1 && !come.is_empty() {
            sample(screen, name, &come)?;
        }
        copies.extend(come.into_iter().map(|copy| (name, copy)));
    }
    table(screen, totals, rules, ids, &originals, &copies)?;
    stage.silent()?;
    counters(stage, totals)?;
    screen.fact(
        &format!(
            "{} packets on the wire, {} copies, all compared",
            originals.len(),
            copies.len()
        ),
        "the daemon's counters say the same",
    );
    Ok(())
}

/// Where an endpoint is: the collector and the address that it listens on.
fn place(endpoint: &str, ids: &'static str) -> (&'static str, IpAddr) {
    let address: &str = match (endpoint, ids) {
        ("archive", _) => "2001:db8:cc::20",
        (_, COLLECTOR_A) => "192.0.2.10",
        _ => "203.0.113.20",
    };
    (
        if endpoint == "archive" {
            COLLECTOR_B
        } else {
            ids
        },
        address.parse().expect("an address"),
    )
}

fn sample(screen: &Screen, collector: &str, copies: &[Gue]) -> Result<()> {
    let (from, to) = (copies[0].outer_src, copies[0].outer_dst);
    screen.text(&format!(
        "\nthe first of {} packets that {collector} unwraps, from {from} to {to}:",
        copies.len()
    ));
    for copy in copies.iter().take(SAMPLE) {
        screen.text(&format!(
            "   {:<48} {:>5} bytes",
            copy.flow()?.to_string(),
            copy.inner.len()
        ));
    }
    Ok(())
}

fn table(
    screen: &Screen,
    totals: &mut Totals,
    rules: &[Rule],
    ids: &'static str,
    originals: &[(FiveTuple, Vec<u8>)],
    copies: &[(&str, Gue)],
) -> Result<()> {
    screen.text(&format!(
        "\n{:<6} {:<7} {:<11} {:<47} sent copied",
        "filter", "to", "at", "packets"
    ));
    let flows: BTreeSet<_> = originals.iter().map(|(flow, _)| key(rules, flow)).collect();
    for (rank, .., flow) in flows {
        let sent: Vec<&Vec<u8>> = originals
            .iter()
            .filter(|(other, _)| *other == flow)
            .map(|(_, packet)| packet)
            .collect();
        let rule = rules.get(rank);
        let to = rule.map(|rule| place(rule.endpoint, ids));
        let mut come: Vec<&Vec<u8>> = Vec::new();
        for (collector, copy) in copies
            .iter()
            .filter(|(_, copy)| copy.flow().is_ok_and(|other| other == flow))
        {
            ensure!(
                to == Some((collector, copy.outer_dst)),
                "{flow} came to {collector}, {}",
                copy.outer_dst
            );
            come.push(&copy.inner);
        }
        if let (Some(rule), Some((collector, _))) = (rule, to) {
            let difference = Difference::between(&sent, &come);
            let (missing, surplus) = (difference.missing.len(), difference.surplus.len());
            ensure!(
                difference.is_none(),
                "{flow}: packets without a copy: {missing}, copies of no packet: {surplus}"
            );
            let cells = format!(
                "{:<6} {:<7} {collector:<11} {:<47}",
                rule.filter,
                rule.endpoint,
                flow.to_string()
            );
            screen.row(
                &format!("{cells} {:>4} {:>6}", sent.len(), come.len()),
                "identical",
            );
            *totals.filters.entry(rule.filter).or_default() += sent.len() as u64;
            *totals.endpoints.entry(rule.endpoint).or_default() += sent.len() as u64;
        } else {
            let cells = format!("{:<6} {:<7} {:<11} {:<47}", "-", "-", "-", flow.to_string());
            screen.text(&format!("{cells} {:>4} {:>6}", sent.len(), come.len()));
        }
        totals.originals += sent.len();
        totals.copies += come.len();
    }
    Ok(())
}

/// Puts flows in the order of their filters, unmatched ones last; IPv4 before IPv6, questions
/// before answers.
fn key(rules: &[Rule], flow: &FiveTuple) -> (usize, bool, bool, FiveTuple) {
    let rank = rules
        .iter()
        .position(|rule| rule.matches(flow))
        .unwrap_or(rules.len());
    let answer = flow.ports.is_some_and(|(from, to)| from < to);
    (rank, flow.source.is_ipv6(), answer, *flow)
}

/// That the daemon counts what was seen here, no more and no less, and has dropped nothing.
fn counters(stage: &Stage, totals: &Totals) -> Result<()> {
    let output = stage.daemon.run(&["status", "--json"])?;
    let status: Value = serde_json::from_slice(&output.stdout).context("parse `status --json`")?;
    for (list, wanted) in [
        ("filters", &totals.filters),
        ("endpoints", &totals.endpoints),
    ] {
        for one in status[list]
            .as_array()
            .with_context(|| format!("`status --json` has no {list}"))?
        {
            let name = one["name"].as_str().unwrap_or_default();
            let (counted, seen) = (
                one["packets"].as_u64(),
                wanted.get(name).copied().unwrap_or(0),
            );
            ensure!(
                counted == Some(seen),
                "{list}: {name} counts {counted:?} packets, {seen} were seen"
            );
            let drops = one["drops"]
                .as_object()
                .is_none_or(serde_json::Map::is_empty);
            ensure!(drops, "{list}: {name} drops {}", one["drops"]);
        }
    }
    Ok(())
}
