//! What an endpoint takes of what matches: `snap`, `oversize`, `sample`, `limit`.

use crate::case::{case, run};
use crate::edge::{Attach, Direction, Edge, Limit, SkbLayout, frame, shared_with};
use crate::routed::count;
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::packet::{Packet, ip_part};

pub(crate) use traffic_mirror_tests::lab::file::in_each_endpoint as policy;

fn udp(from: &str, to: &str, ports: (u16, u16), payload: usize) -> Packet {
    frame()
        .ip(from, to)
        .udp(ports.0, ports.1)
        .payload(vec![7; payload])
}

const FAMILIES: [(&str, &str, usize); 2] = [
    ("10.0.0.1", "10.0.0.2", 28),
    ("2001:db8::1", "2001:db8::2", 48),
];

/// What comes of a packet of which so many bytes are sent.
fn cut(what: &str, packet: &Packet, bytes: usize) -> Result<crate::case::Case> {
    let whole = ip_part(&packet.build())?.to_vec();
    let kept = whole[..whole.len().min(bytes)].to_vec();
    let one = case(what, packet)
        .ways(&[Direction::Ingress, Direction::Egress])
        .matches(["all"])
        .to(["a", "six"]);
    let one = one.sent(kept.clone());
    Ok(if kept.len() < whole.len() {
        one.also("endpoint a truncated", 1)
            .also("endpoint six truncated", 1)
    } else {
        one
    })
}

#[test]
fn a_snap_cuts_and_says_so() -> Result<()> {
    for &attach in Attach::all()? {
        let config = policy(&config(&filter("all", "", "\"a\", \"six\"")), "snap = 128");
        shared_with(attach, &config, |edge| {
            let mut cases = Vec::new();
            for (from, to, headers) in FAMILIES {
                for bytes in [headers, 127, 128, 129, 1500, 9000] {
                    cases.push(cut(
                        &format!("{bytes} bytes"),
                        &udp(from, to, (1, 2), bytes - headers),
                        128,
                    )?);
                }
            }
            run(edge, attach, "snap = 128", &config, &cases)?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn what_no_longer_fits_is_truncated_where_that_is_asked() -> Result<()> {
    for &attach in Attach::all()? {
        let config = policy(
            &config(&filter("all", "", "\"a\"")),
            "oversize = \"truncate\"",
        );
        shared_with(attach, &config, |edge| {
            edge.set_output_mtu(1500)?;
            for (from, to, headers) in FAMILIES {
                for bytes in [1468, 1469, 1500, 9000] {
                    let frame = udp(from, to, (1, 2), bytes - headers).build();
                    let until = traffic_mirror_tests::lab::deadline();
                    // until the daemon has seen the MTU
                    loop {
                        let seen = edge.pass(&frame, SkbLayout::Linear, Direction::Ingress)?;
                        let copies = seen.copies.get("a").map(Vec::as_slice).unwrap_or_default();
                        let truncated = count(&seen.moved, "endpoint a truncated");
                        let want = bytes.min(1468);
                        if copies.len() == 1 && copies[0].inner == ip_part(&frame)?[..want] {
                            ensure!(
                                truncated == u64::from(bytes > 1468),
                                "{bytes} bytes: {:?}",
                                seen.moved
                            );
                            break;
                        }
                        ensure!(
                            Instant::now() < until,
                            "{bytes} bytes: {} copies, {:?}",
                            copies.len(),
                            seen.moved
                        );
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// All packets of a flow or none, both directions alike; the share is right within four standard
/// deviations.
#[test]
fn flows_are_sampled_whole() -> Result<()> {
    const FLOWS: u16 = 400;
    let &attach = Attach::all()?.first().expect("a mechanism");
    let config = policy(&config(&filter("all", "", "\"a\"")), "sample = \"1/4\"");
    shared_with(attach, &config, |edge| {
        let frames = (0..FLOWS).flat_map(|flow| {
            let ports = (10_000 + flow, 443);
            let there = udp("10.0.0.1", "10.0.0.2", ports, 10).build();
            let back = udp("10.0.0.2", "10.0.0.1", (ports.1, ports.0), 10).build();
            [there.clone(), back, there].map(|frame| (frame, SkbLayout::Linear))
        });
        let seen = edge.pass_all(&frames.collect::<Vec<_>>(), Direction::Ingress)?;
        let mut sampled = BTreeMap::<u16, usize>::new();
        for copy in seen.copies.get("a").into_iter().flatten() {
            let (from, to) = copy.flow()?.ports.context("no ports")?;
            *sampled.entry(from.max(to)).or_default() += 1;
        }
        for (port, copies) in &sampled {
            ensure!(
                *copies == 3,
                "{copies} of 3 packets of the flow with port {port}"
            );
        }
        let dropped = count(&seen.moved, "endpoint a drop sample");
        println!("{} of {FLOWS} flows, 1/4 wanted", sampled.len());
        // 100 wanted, a standard deviation of 8.7
        ensure!(
            (66..=134).contains(&sampled.len()),
            "{} of {FLOWS} flows",
            sampled.len()
        );
        ensure!(
            dropped == 3 * (u64::from(FLOWS) - sampled.len() as u64),
            "{dropped} counted as dropped"
        );
        Ok(())
    })
}

/// As fast as this machine can for more than a second, by two CPUs if it has them.
#[test]
fn a_limit_holds() -> Result<()> {
    for (limit, per_packet) in [("8Mbit", 8.0 * 1032.0 / 8e6), ("2000pps", 1.0 / 2000.0)] {
        let &attach = Attach::all()?.first().expect("a mechanism");
        let config = policy(
            &config(&filter("all", "", "\"a\"")),
            &format!("limit = \"{limit}\""),
        );
        let edge = Edge::new(&config, attach)?;
        let frame = udp("10.0.0.1", "10.0.0.2", (1, 2), 972).build();
        let before = edge.counters()?;
        let begin = Instant::now();
        let rule = Limit {
            per_packet,
            depth: 0.010,
        };
        let forgotten = edge.flood(&frame, Duration::from_millis(1500), &rule)?;
        let seconds = begin.elapsed().as_secs_f64();
        let after = edge.counters()?;
        let moved = |key: &str| count(&after, key) - count(&before, key);
        let sent = moved("filter all packets");
        let (copied, dropped) = (moved("endpoint a packets"), moved("endpoint a drop limit"));
        let (allowed, used) = (seconds / per_packet, (seconds - forgotten) / per_packet);
        println!(
            "{limit}: {sent} packets in {seconds:.2} s, {copied} copied, {used:.0} to {allowed:.0} allowed, {dropped} dropped"
        );
        ensure!(
            sent == copied + dropped && dropped > 0,
            "{sent} sent, {copied} copied, {dropped} dropped"
        );
        ensure!(
            (copied as f64) < allowed * 1.05 && copied as f64 > used * 0.95,
            "{limit}: {copied} for {used:.0} to {allowed:.0}"
        );
    }
    Ok(())
}
