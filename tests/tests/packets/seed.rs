//! What no sender can compute: which flows are sampled. `seed`.

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::policy::policy;
use crate::{config, filter};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use traffic_mirror_tests::lab::packet::ip_part;

const FLOWS: u16 = 600;

/// Source ports of the flows of which copies come.
fn sampled(edge: &mut Edge) -> Result<BTreeSet<u16>> {
    let frames: Vec<_> = (0..FLOWS)
        .map(|flow| {
            frame()
                .ip("10.0.0.1", "10.0.0.2")
                .udp(10_000 + flow, 443)
                .payload("x")
                .build()
        })
        .collect();
    ensure!(
        edge.originals(&frames, SkbLayout::Linear, Direction::Ingress)? == frames,
        "the originals differ"
    );
    let (copies, _) = edge.copies()?;
    let port = |inner: &[u8]| u16::from_be_bytes([inner[20], inner[21]]);
    let ports = copies
        .get("a")
        .into_iter()
        .flatten()
        .map(|copy| port(&copy.inner))
        .collect();
    let known: BTreeSet<u16> = frames
        .iter()
        .map(|frame| ip_part(frame).map(port))
        .collect::<Result<_>>()?;
    ensure!(known.is_superset(&ports), "copies of something else");
    edge.moved(Direction::Ingress)?;
    Ok(ports)
}

/// Hosts with one seed sample the same flows, others do not; and a sender who knows what one host
/// does not sample knows nothing of another.
#[test]
fn flows_are_sampled_by_a_secret_that_hosts_may_share() -> Result<()> {
    let &attach = Attach::all()?.first().expect("a mechanism");
    let unkeyed = policy(&config(&filter("all", "", "\"a\"")), "sample = \"1/4\"");
    let keyed = |seed: &str| format!("seed = \"{seed}\"\n{unkeyed}");
    let (one, other) = (
        keyed("a text of some length"),
        keyed("another text of some length"),
    );
    let mut sets = Vec::new();
    for _ in 0..2 {
        let mut edge = Edge::new(&one, attach)?;
        let by_one = sampled(&mut edge)?;
        edge.configure(&other)?;
        let by_other = sampled(&mut edge)?;
        edge.configure(&unkeyed)?;
        let by_own = sampled(&mut edge)?;
        edge.configure(&one)?;
        ensure!(
            sampled(&mut edge)? == by_one,
            "the seed is there again, and not its flows"
        );
        let said = edge.daemon.run(&["plan"])?;
        ensure!(said.status.success(), "plan: {said:?}");
        sets.push([by_one, by_other, by_own]);
    }
    let [first, second] = [&sets[0], &sets[1]];
    ensure!(
        first[0] == second[0] && first[1] == second[1],
        "hosts with one seed differ"
    );
    ensure!(first[2] != second[2], "hosts without a seed agree");
    // whatever was not sampled: a quarter of it is, with another secret; 450 flows, 112 wanted, a
    // standard deviation of 9.2
    for (dodged, others) in [
        (&first[0], &first[1]),
        (&first[0], &first[2]),
        (&first[2], &second[2]),
    ] {
        let hidden: Vec<u16> = (10_000..10_000 + FLOWS)
            .filter(|port| !dodged.contains(port))
            .collect();
        let seen = hidden.iter().filter(|port| others.contains(port)).count();
        ensure!(
            (75..=150).contains(&seen),
            "{seen} of {} flows",
            hidden.len()
        );
    }
    Ok(())
}
