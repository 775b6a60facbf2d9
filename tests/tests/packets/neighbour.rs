//! Neighbours that are not known, die, or move.

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::routed::count;
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::packet::{Ether, Gue, Packet, ip_part};
use traffic_mirror_tests::lab::status::Status;

/// Endpoint "a" by IPv4 and "six" by IPv6.
pub(crate) fn both_families() -> String {
    config(&filter("all", "", "\"a\", \"six\""))
}

pub(crate) const NAMES: [&str; 2] = ["a", "six"];
const ADDRESSES: [&str; 2] = ["10.9.0.11/24", "fd09::13/64"];

/// Lets the neighbour state machine of `eth1` doubt and ask in milliseconds rather than half
/// minutes.
pub(crate) fn hasten(edge: &Edge, variables: &[(&str, &str)]) -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        for (variable, value) in variables {
            edge.edge
                .sysctl(&format!("net.{family}.neigh.eth1.{variable}"), value)?;
        }
    }
    // timers that run were set before
    edge.edge.run("ip -4 neighbour flush dev eth1")?;
    edge.edge.run("ip -6 neighbour flush dev eth1")?;
    Ok(())
}

fn known(status: &Status) -> bool {
    NAMES
        .iter()
        .all(|name| !status.endpoint(name, "next_hop").is_empty())
}

fn unknown(status: &Status) -> bool {
    let is_unknown = |state: &str| ["resolving", "no-neighbour"].contains(&state);
    NAMES.iter().all(|name| {
        status.endpoint(name, "next_hop").is_empty() && is_unknown(status.endpoint(name, "state"))
    })
}

/// The collector answers for its addresses, or not.
pub(crate) fn answer(edge: &Edge, answers: bool) -> Result<()> {
    for address in ADDRESSES {
        if answers {
            edge.collector().address("eth0", address)?;
        } else {
            edge.collector()
                .run(&format!("ip address delete {address} dev eth0"))?;
        }
    }
    Ok(())
}

/// Unicast, broadcast and groups: the kernel's neighbour code drops what begins with a group's
/// address.
pub(crate) fn all_kinds() -> Vec<Vec<u8>> {
    let to = |destination| {
        Packet::new().layer(Ether {
            source: [2, 0, 0, 0, 0, 0xaa],
            destination,
            ethertype: None,
        })
    };
    vec![
        frame().ip("10.0.0.1", "10.0.0.2").tcp(1, 2).pad(60).build(),
        to([0xff; 6])
            .ip("10.0.0.1", "255.255.255.255")
            .udp(68, 67)
            .build(),
        to([1, 0, 0x5e, 0, 0, 0xfb])
            .ip("10.0.0.1", "224.0.0.251")
            .udp(5353, 5353)
            .build(),
        to([0x33, 0x33, 0, 0, 0, 1])
            .ip("fe80::1", "ff02::1")
            .icmpv6(134, 0)
            .build(),
        frame()
            .vlan(5)
            .ip("2001:db8::1", "2001:db8::2")
            .udp(1, 2)
            .payload("tagged")
            .build(),
    ]
}

#[test]
fn copies_wait_for_a_neighbour_that_is_looked_for() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&both_families(), attach)?;
        hasten(
            &edge,
            &[("retrans_time_ms", "50"), ("mcast_solicit", "200")],
        )?;
        edge.wait(known).context("at the start")?;
        for way in [Direction::Ingress, Direction::Egress, Direction::Local] {
            answer(&edge, false)?;
            edge.edge.run("ip -4 neighbour flush dev eth1")?;
            edge.edge.run("ip -6 neighbour flush dev eth1")?;
            edge.wait(unknown).context("unknown")?;
            edge.copies()?;
            let originals = edge.originals(&all_kinds(), SkbLayout::Linear, way)?;
            ensure!(
                originals == all_kinds(),
                "{attach:?} {way:?}: {} originals arrived",
                originals.len()
            );
            // what is held is not sent, whatever becomes of it
            let moved = edge.moved(way)?;
            for name in NAMES {
                let held = count(&moved, &format!("endpoint {name} drop resolving"));
                let sent = count(&moved, &format!("endpoint {name} packets"));
                ensure!(
                    (held, sent) == (all_kinds().len() as u64, 0),
                    "{attach:?} {way:?} {name}: {moved:?}"
                );
            }
            let (copies, strangers) = edge.copies()?;
            ensure!(
                copies.is_empty() && strangers.is_empty(),
                "{attach:?}: {copies:?} {strangers:?}"
            );
            answer(&edge, true)?;
            let mut arrived: BTreeMap<IpAddr, Vec<Vec<u8>>> = BTreeMap::new();
            for number in 0..2 * all_kinds().len() {
                let copy = edge.next_copy(deadline())?;
                let copy = copy.with_context(|| {
                    format!("{attach:?} {way:?}: {number} copies came: {arrived:?}")
                })?;
                arrived.entry(copy.outer_dst).or_default().push(copy.inner);
            }
            let inner: Vec<Vec<u8>> = all_kinds()
                .iter()
                .map(|frame| Ok(ip_part(frame)?.to_vec()))
                .collect::<Result<_>>()?;
            ensure!(
                arrived.len() == 2 && arrived.values().all(|copies| *copies == inner),
                "{attach:?} {way:?}: {arrived:?}"
            );
            edge.wait(known).context("found")?;
        }
    }
    Ok(())
}

/// Sends a frame again and again, each of which must arrive, until a copy for which `wanted` holds
/// has come from each endpoint.
fn until_copied(edge: &mut Edge, wanted: impl Fn(&Gue) -> bool) -> Result<()> {
    let (until, mut missing) = (
        deadline(),
        vec!["10.9.0.11".parse::<IpAddr>()?, "fd09::13".parse()?],
    );
    while !missing.is_empty() {
        ensure!(
            Instant::now() < until,
            "nothing of the kind came to {missing:?}"
        );
        let frames = [frame().ip("10.0.0.1", "10.0.0.2").udp(1, 2).build()];
        ensure!(
            edge.originals(&frames, SkbLayout::Linear, Direction::Ingress)? == frames,
            "the original did not arrive"
        );
        while let Some(copy) = edge.next_copy(Instant::now() + Duration::from_millis(5))? {
            missing.retain(|address| *address != copy.outer_dst || !wanted(&copy));
        }
    }
    Ok(())
}

const HASTE: [(&str, &str); 5] = [
    ("base_reachable_time_ms", "100"),
    ("delay_first_probe_time", "0"),
    ("retrans_time_ms", "50"),
    ("ucast_solicit", "1"),
    ("mcast_solicit", "2"),
];

#[test]
fn dead_neighbour_comes_back() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&both_families(), attach)?;
        hasten(&edge, &HASTE)?;
        edge.wait(known)?;
        until_copied(&mut edge, |_| true).context("at the start")?;
        answer(&edge, false)?;
        // the kernel comes to doubt only while copies flow
        let until = deadline();
        while !unknown(&Status::read(&edge.daemon)?) {
            ensure!(
                Instant::now() < until,
                "{attach:?}: nobody noticed: {:#}",
                Status::read(&edge.daemon)?.0
            );
            let frames = all_kinds();
            ensure!(
                edge.originals(&frames, SkbLayout::Linear, Direction::Egress)? == frames,
                "{attach:?}: originals"
            );
        }
        answer(&edge, true)?;
        until_copied(&mut edge, |_| true).with_context(|| format!("{attach:?}: alive again"))?;
        edge.wait(known)?;
    }
    Ok(())
}

#[test]
fn next_hop_with_another_hardware_address() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&both_families(), attach)?;
        hasten(&edge, &HASTE)?;
        edge.wait(known)?;
        until_copied(&mut edge, |_| true).context("at the start")?;
        // nobody tells: the kernel has to find out
        edge.collector()
            .run("ip link set eth0 address 02:00:00:00:01:01")?;
        until_copied(&mut edge, |copy| copy.dst_mac == [2, 0, 0, 0, 1, 1])
            .with_context(|| format!("{attach:?}: found out"))?;
        // an administrator says so: the very next copy goes there
        for address in ["10.9.0.11", "fd09::13"] {
            edge.edge.run(&format!(
                "ip neighbour replace {address} lladdr 02:00:00:00:02:02 dev eth1 nud permanent"
            ))?;
        }
        edge.wait(|status| {
            NAMES
                .iter()
                .all(|name| status.endpoint(name, "next_hop") == "02:00:00:00:02:02")
        })?;
        edge.copies()?;
        let frames = all_kinds();
        ensure!(
            edge.originals(&frames, SkbLayout::Linear, Direction::Local)? == frames,
            "{attach:?}: originals"
        );
        let (copies, _) = edge.copies()?;
        let macs: Vec<_> = copies.values().flatten().map(|copy| copy.dst_mac).collect();
        ensure!(macs == [[2, 0, 0, 0, 2, 2]; 10], "{attach:?}: {macs:?}");
    }
    Ok(())
}
