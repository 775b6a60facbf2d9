//! What goes wrong with copies never harms production, and is counted under its own reason.

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::routed::count;
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::fs;
use std::time::Instant;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::objects::tcx_programs;
use traffic_mirror_tests::lab::socket::PacketType;
use traffic_mirror_tests::lab::status::Counters;
use traffic_mirror_tests::lab::traffic::Stream;

/// Endpoint "a" leaves by `eth1` whatever happens, "b" as the route says.
pub(crate) fn two_endpoints() -> String {
    let pinned = "address = \"10.9.0.11\"\ninterface = \"eth1\"\n";
    config(&filter("all", "", "\"a\", \"b\"")).replace("address = \"10.9.0.11\"\n", pinned)
}

/// Frames of many lengths, each different.
fn frames(count: usize) -> Vec<Vec<u8>> {
    let one = |n: usize| {
        frame()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(1000 + n as u16, 2)
            .payload(Stream::new(n as u64).bytes(n * 37 % 1400))
    };
    (0..count).map(|n| one(n).build()).collect()
}

/// Sends frames both ways. Each must arrive as it was, and must match. Says what moved.
pub(crate) fn unharmed(edge: &mut Edge, what: &str, count_of: usize) -> Result<Counters> {
    let mut sum = Counters::new();
    for way in [Direction::Ingress, Direction::Egress, Direction::Local] {
        let frames = frames(count_of);
        let arrived = edge
            .originals(&frames, SkbLayout::Linear, way)
            .with_context(|| what.to_owned())?;
        ensure!(
            arrived == frames,
            "{what}, {way:?}: {} of {} frames arrived, or others",
            arrived.len(),
            frames.len()
        );
        let moved = edge.moved(way)?;
        let matched = count(&moved, "filter all packets");
        ensure!(
            matched == frames.len() as u64,
            "{what}, {way:?}: {matched} of {} frames matched",
            frames.len()
        );
        moved
            .into_iter()
            .for_each(|(key, count)| *sum.entry(key).or_default() += count);
    }
    Ok(sum)
}

/// All copies to these endpoints were dropped for this reason.
fn all_dropped(moved: &Counters, what: &str, reasons: [(&str, &str); 2]) -> Result<()> {
    for (endpoint, reason) in reasons {
        let (dropped, matched) = (
            count(moved, &format!("endpoint {endpoint} drop {reason}")),
            count(moved, "filter all packets"),
        );
        ensure!(
            dropped == matched,
            "{what}: {dropped} of {matched} dropped for {endpoint} as {reason}: {moved:?}"
        );
    }
    Ok(())
}

/// Copies arrive at the collector again.
pub(crate) fn resumed(edge: &mut Edge, what: &str) -> Result<()> {
    edge.wait(|status| {
        ["a", "b"]
            .iter()
            .all(|name| status.endpoint(name, "state") == "ready")
    })
    .with_context(|| what.to_owned())?;
    // the kernel may have to find the neighbour first: copies wait for it
    edge.originals(&frames(1), SkbLayout::Linear, Direction::Ingress)?;
    for _ in 0..2 {
        edge.next_copy(deadline())?
            .with_context(|| format!("{what}: no copy"))?;
    }
    edge.wait(|status| {
        ["a", "b"]
            .iter()
            .all(|name| !status.endpoint(name, "next_hop").is_empty())
    })?;
    edge.copies()?;
    unharmed(edge, what, 10)?;
    let (copies, strangers) = edge.copies()?;
    ensure!(
        strangers.is_empty(),
        "{what}: {} strangers",
        strangers.len()
    );
    for endpoint in ["a", "b"] {
        let arrived = copies.get(endpoint).map_or(0, Vec::len);
        ensure!(
            arrived == 30,
            "{what}: {arrived} of 30 copies arrived at {endpoint}"
        );
    }
    Ok(())
}

#[test]
fn output_interface_down() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&two_endpoints(), attach)?;
        resumed(&mut edge, "at the start")?;
        edge.edge.run("ip link set eth1 down")?;
        unharmed(&mut edge, "just down", 20)?;
        edge.wait(|status| {
            status.endpoint("a", "state") == "interface-down"
                && status.endpoint("b", "state") == "no-route"
        })?;
        let moved = unharmed(&mut edge, "down", 20)?;
        all_dropped(&moved, "down", [("a", "interface-down"), ("b", "no-route")])?;
        edge.edge.run("ip link set eth1 up")?;
        resumed(&mut edge, "up again")?;
    }
    Ok(())
}

#[test]
fn output_interface_deleted_and_made_again() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&two_endpoints(), attach)?;
        resumed(&mut edge, "at the start")?;
        edge.edge.run("ip link delete eth1")?;
        unharmed(&mut edge, "just deleted", 20)?;
        edge.wait(|status| {
            status.endpoint("a", "state") == "no-interface"
                && status.endpoint("b", "state") == "no-route"
        })?;
        let moved = unharmed(&mut edge, "deleted", 20)?;
        all_dropped(
            &moved,
            "deleted",
            [("a", "no-interface"), ("b", "no-route")],
        )?;
        edge.reconnect()?;
        resumed(&mut edge, "made again")?;
    }
    Ok(())
}

#[test]
fn endpoint_unreachable() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&two_endpoints(), attach)?;
        resumed(&mut edge, "at the start")?;
        for refusal in ["blackhole", "unreachable", "prohibit"] {
            for address in ["10.9.0.11", "10.9.0.12"] {
                edge.edge
                    .run(&format!("ip route add {refusal} {address}"))?;
            }
            edge.wait(|status| status.endpoint("b", "state") == "no-route")?;
            let moved = unharmed(&mut edge, refusal, 20)?;
            let dropped = count(&moved, "endpoint b drop no-route");
            ensure!(dropped == 60, "{attach:?} {refusal}: {moved:?}");
            for address in ["10.9.0.11", "10.9.0.12"] {
                edge.edge
                    .run(&format!("ip route delete {refusal} {address}"))?;
            }
            edge.copies()?;
            resumed(&mut edge, "reachable again")?;
        }
        edge.edge.run("ip address delete 10.9.0.1/24 dev eth1")?;
        edge.wait(|status| {
            ["a", "b"]
                .iter()
                .all(|name| status.endpoint(name, "state") != "ready")
        })?;
        unharmed(&mut edge, "without an address", 20)?;
        edge.edge.address("eth1", "10.9.0.1/24")?;
        edge.copies()?;
        resumed(&mut edge, "with an address again")?;
        // a neighbour that is its own address: nothing can be sent to this host
        edge.edge.address("eth1", "10.9.0.12/32")?;
        edge.wait(|status| status.endpoint("b", "state") == "own-address")?;
        let moved = unharmed(&mut edge, "own address", 20)?;
        ensure!(
            count(&moved, "endpoint b drop own-address") == 60,
            "{attach:?}: {moved:?}"
        );
    }
    Ok(())
}

/// Somebody takes `encap` off the output interface: a clone leaves as it is, once for each CPU at
/// most.
#[test]
fn encap_taken_away() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&two_endpoints(), attach)?;
        resumed(&mut edge, "at the start")?;
        // stopped, or it would be repaired before the first packet
        edge.daemon.signal(Signal::SIGSTOP)?;
        match attach {
            Attach::Tcx => {
                for entry in fs::read_dir(edge.daemon.pin_path().join("links"))? {
                    let path = entry?.path();
                    if path
                        .file_name()
                        .is_some_and(|name| name.to_string_lossy().starts_with("encap"))
                    {
                        fs::remove_file(path)?;
                    }
                }
                // the kernel detaches it in its own time
                let until = deadline();
                while !tcx_programs(&edge.edge, "eth1", PacketType::Outgoing)?.is_empty() {
                    ensure!(
                        Instant::now() < until,
                        "encap stays attached without its pin"
                    );
                }
            }
            Attach::Clsact => drop(
                edge.edge
                    .run("tc filter delete dev eth1 egress prio 1000")?,
            ),
        }
        let moved = unharmed(&mut edge, "without encap", 20)?;
        all_dropped(
            &moved,
            "without encap",
            [("a", "unwrapped"), ("b", "unwrapped")],
        )?;
        let (copies, strangers) = edge.copies()?;
        ensure!(copies.is_empty(), "{attach:?}: {copies:?}");
        // all was sent on one CPU: one clone for each endpoint shows that nobody wraps it, and no
        // other follows
        ensure!(
            strangers.len() == 2,
            "{attach:?}: {} clones got out unwrapped",
            strangers.len()
        );
        edge.daemon.signal(Signal::SIGCONT)?;
        edge.daemon.signal(Signal::SIGHUP)?;
        edge.daemon.reload_done(deadline())?;
        resumed(&mut edge, "wrapped again")?;
    }
    Ok(())
}
