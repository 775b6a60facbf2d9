//! The original keeps what is not in its bytes, and flows keep their source port.

use crate::edge::{Attach, Direction, SkbLayout, frame, shared_with};
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use traffic_mirror_tests::lab::observer::{Hooking, Observer};
use traffic_mirror_tests::lab::packet::{Ipv4, fragment};
use traffic_mirror_tests::lab::traffic::Stream;
use traffic_mirror_tests::lab::vnet::VnetHeader;

impl Attach {
    fn hooking(self) -> Hooking {
        match self {
            Self::Tcx => Hooking::Tcx,
            Self::Clsact => Hooking::Clsact,
        }
    }
}

#[test]
fn mark_priority_and_control_block_stay() -> Result<()> {
    for &attach in Attach::all()? {
        let filters = filter("all", "", "\"a\", \"b\", \"six\", \"odd\"");
        shared_with(attach, &config(&filters), |edge| {
            for (direction, ways) in [
                ("ingress", &[Direction::Ingress][..]),
                ("egress", &[Direction::Egress, Direction::Local]),
            ] {
                let observer = Observer::attach(&edge.edge, "eth0", direction, attach.hooking())?;
                let mut expected = 0;
                for &way in ways {
                    let tcp = || frame().ip("10.0.0.1", "10.0.0.2").tcp(1, 443);
                    let mut open = tcp().payload(vec![1; 20_000]).build();
                    let gso = VnetHeader::gso(&mut open, 1000)?;
                    for (bytes, layout) in [
                        (tcp().build(), SkbLayout::Linear),
                        (tcp().pad(60).build(), SkbLayout::Linear),
                        (
                            frame()
                                .qinq(5, 6)
                                .ip("2001:db8::1", "2001:db8::2")
                                .udp(1, 2)
                                .pad(100)
                                .build(),
                            SkbLayout::Linear,
                        ),
                        (
                            tcp().payload(vec![7; 3000]).build(),
                            SkbLayout::Scattered(14),
                        ),
                        (
                            frame()
                                .ipv6("2001:db8::1", "2001:db8::2")
                                .hop_by_hop()
                                .tcp(1, 2)
                                .build(),
                            SkbLayout::Scattered(60),
                        ),
                        (open.clone(), SkbLayout::Vnet(gso)),
                        (tcp().truncate(30).build(), SkbLayout::Linear),
                        (frame().payload("not IP").build(), SkbLayout::Linear),
                    ] {
                        let seen = edge.pass(&bytes, layout, way)?;
                        ensure!(
                            seen.originals == [bytes],
                            "{attach:?} {way:?}: the original differs"
                        );
                        // and the marker that follows each
                        expected += 2;
                    }
                }
                let (passed, changed) = observer.counts()?;
                ensure!(
                    passed == expected,
                    "{attach:?} {direction}: {passed} packets passed instead of {expected}"
                );
                ensure!(
                    changed == 0,
                    "{attach:?} {direction}: {changed} of {passed} packets were changed"
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn the_outer_source_port_is_that_of_the_flow() -> Result<()> {
    const FLOWS: u16 = 200;
    shared_with(
        Attach::all()?[0],
        &config(&filter("all", "", "\"a\", \"six\"")),
        |edge| {
            let packet = |flow: u16, is_back: bool, payload: &str| {
                let hosts = [
                    ("10.0.0.1", "10.0.0.2"),
                    ("2001:db8::1", "2001:db8::2"),
                    ("10.0.0.2", "10.0.0.1"),
                ];
                let (here, there) = hosts[usize::from(flow) % 3];
                let (from, to) = if is_back {
                    (there, here)
                } else {
                    (here, there)
                };
                let (source, destination) = if is_back {
                    (443, 10_000 + flow)
                } else {
                    (10_000 + flow, 443)
                };
                let ip = frame().ip(from, to);
                let transport = if flow.is_multiple_of(2) {
                    ip.udp(source, destination)
                } else {
                    ip.tcp(source, destination)
                };
                (transport.payload(payload).build(), SkbLayout::Linear)
            };
            let mut outer = BTreeMap::<u16, Vec<_>>::new();
            for (way, payload) in [
                (Direction::Ingress, "there"),
                (Direction::Egress, "and back"),
                (Direction::Ingress, "again, longer"),
            ] {
                let frames: Vec<_> = (0..FLOWS)
                    .map(|flow| packet(flow, way == Direction::Egress, payload))
                    .collect();
                for copy in edge.pass_all(&frames, way)?.copies.values().flatten() {
                    let (from, to) = copy.flow()?.ports.context("no ports")?;
                    let label = if copy.outer_dst.is_ipv4() {
                        0
                    } else {
                        copy.flow_label
                    };
                    outer
                        .entry(from.max(to) - 10_000)
                        .or_default()
                        .push((copy.sport, copy.dport, label));
                }
            }
            let mut by_flow = BTreeMap::new();
            for flow in 0..FLOWS {
                let copies = outer.get(&flow).map(Vec::as_slice).unwrap_or_default();
                ensure!(copies.len() == 6, "flow {flow} has {} copies", copies.len());
                let ports: BTreeSet<_> = copies.iter().collect();
                let sources: BTreeSet<u16> = ports.iter().map(|(port, ..)| *port).collect();
                ensure!(
                    sources.len() == 1 && ports.len() == 2,
                    "flow {flow} has outer ports and flow labels {ports:?}"
                );
                by_flow.extend(sources.into_iter().map(|port| (port, flow)));
            }
            ensure!(
                by_flow.keys().all(|port| *port >= 0xc000),
                "ports outside the dynamic range"
            );
            // of 16,384 ports 200 flows share one about once
            ensure!(
                by_flow.len() >= 190,
                "{FLOWS} flows share {} ports",
                by_flow.len()
            );

            let ip = Ipv4 {
                flags: 0,
                ..Ipv4::new("10.0.0.1", "10.0.0.2")
            };
            let datagram = frame()
                .layer(ip)
                .udp(1, 2)
                .payload(Stream::new(1).bytes(4000))
                .build();
            let mut ports = BTreeSet::new();
            for piece in fragment(&datagram, 1500, 77)? {
                let seen = edge.pass(&piece, SkbLayout::Linear, Direction::Ingress)?;
                ports.extend(seen.copies.values().flatten().map(|copy| copy.sport));
            }
            ensure!(
                ports.len() == 1,
                "the fragments of one datagram have outer ports {ports:?}"
            );
            Ok(())
        },
    )
}

/// What belongs to production must not rule how a copy is queued; what the copy's own header says
/// is constant.
#[test]
fn outer_headers_are_plain() -> Result<()> {
    for &attach in Attach::all()? {
        shared_with(
            attach,
            &config(&filter("all", "", "\"a\", \"six\"")),
            |edge| {
                let mut identifications = BTreeSet::new();
                let frames = (0..50).map(|id| {
                    let ip = Ipv4 {
                        id,
                        dscp: 46,
                        ecn: 3,
                        ttl: 1,
                        ..Ipv4::new("10.0.0.1", "10.0.0.2")
                    };
                    (frame().layer(ip).udp(1, 2).build(), SkbLayout::Linear)
                });
                let seen = edge.pass_all(&frames.collect::<Vec<_>>(), Direction::Ingress)?;
                let macs = (edge.edge.mac("eth1")?, edge.collector().mac("eth0")?);
                for copy in seen.copies.values().flatten() {
                    let context = format!("{attach:?}: {copy:?}");
                    ensure!(
                        copy.dscp == 0 && copy.ttl == 64 && !copy.df && copy.udp_checksum == 0,
                        context
                    );
                    ensure!((copy.src_mac, copy.dst_mac) == macs, context);
                    let source = if copy.outer_dst.is_ipv4() {
                        "10.9.0.1"
                    } else {
                        "fd09::1"
                    };
                    ensure!(
                        copy.outer_src == source.parse::<std::net::IpAddr>()?,
                        context
                    );
                    if copy.outer_dst.is_ipv4() {
                        identifications.insert(copy.ipv4_id);
                    }
                }
                ensure!(
                    identifications.len() == 50,
                    "{attach:?}: 50 packets share {} identifications",
                    identifications.len()
                );
                Ok(())
            },
        )?;
    }
    Ok(())
}
