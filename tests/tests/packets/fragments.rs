//! Fragments of IP packets: the later ones have no ports, and go the way of the first.

use crate::case::{bytes, case, run};
use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::headers::{all_and_port, v4, v6};
use crate::routed::count;
use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::packet::{Ipv4, Packet, fragment};
use traffic_mirror_tests::lab::traffic::Stream;

const ORPHAN: &str = "orphan-fragment";
const UNPARSED: &str = "unparsed";
const AMBIGUOUS: &str = "ambiguous-fragment";

/// What it is, whether it is TCP, and its fragments.
type Datagram = (String, bool, Vec<Vec<u8>>);

/// Three fragments each of TCP and UDP packets with the port that filter "port" asks for, and
/// another one.
fn datagrams(id: u32, other: u16) -> Result<Vec<Datagram>> {
    let payload = Stream::new(6).bytes(3500);
    let mut datagrams = Vec::new();
    for (name, packet) in [
        ("IPv4", frame().layer(Ipv4 { flags: 0, ..v4() })),
        (
            "IPv4 with options",
            frame().layer(Ipv4 {
                flags: 0,
                options: vec![1; 12],
                ..v4()
            }),
        ),
        ("IPv6", frame().layer(v6())),
        ("tagged IPv6", frame().vlan(7).layer(v6())),
    ] {
        for (transport, packet) in [
            ("TCP", packet.clone().tcp(other, 443)),
            ("UDP", packet.udp(443, other)),
        ] {
            let id = id + datagrams.len() as u32;
            let frames = fragment(&packet.payload(&payload[..]).build(), 1400, id)?;
            datagrams.push((format!("{name} {transport}"), transport == "TCP", frames));
        }
    }
    Ok(datagrams)
}

pub(crate) fn in_order(edge: &mut Edge, attach: Attach) -> Result<()> {
    let mut cases = Vec::new();
    for (name, is_tcp, frames) in datagrams(100, 9)? {
        for (index, frame) in frames.into_iter().enumerate() {
            let one = bytes(format!("{name} fragment {index}"), frame);
            // a first with options may be dropped for them, and tells nothing
            let one = if name.contains("options") {
                one.skipped(UNPARSED)
            } else {
                one
            };
            cases.push(if is_tcp {
                one.tcp_with_port()
            } else {
                one.udp_with_port()
            });
        }
    }
    // what a first one has told counts, not what a later one says comes next
    let v6 = || frame().layer(v6());
    cases.push(
        case(
            "TCP",
            &v6().fragment(0, true, 1).tcp(1, 443).payload([0; 4]),
        )
        .tcp_with_port(),
    );
    cases.push(
        case(
            "and after it",
            &v6()
                .fragment(100, false, 1)
                .raw(60, [6, 0, 1, 4, 9, 9, 9, 9]),
        )
        .tcp_with_port(),
    );
    let hop = v6()
        .hop_by_hop()
        .fragment(0, true, 3)
        .tcp(1, 443)
        .payload([0; 4]);
    cases.push(
        case("hop-by-hop before", &hop)
            .skipped(UNPARSED)
            .tcp_with_port(),
    );
    cases.push(
        case(
            "and after it",
            &v6().fragment(100, false, 3).raw(6, [9, 9, 9, 9]),
        )
        .skipped(UNPARSED)
        .tcp_with_port(),
    );
    cases.push(
        case(
            "ICMPv6",
            &v6().fragment(0, true, 2).icmpv6(128, 0).payload([0; 40]),
        )
        .copied(),
    );
    cases.push(
        case(
            "and after it",
            &v6().fragment(6, false, 2).raw(58, [1, 0xbb, 1, 0xbb]),
        )
        .copied(),
    );
    run(edge, attach, "fragments", &all_and_port(), &cases)
}

/// Whoever comes before the first may have any ports, over IPv6 any protocol, and is counted;
/// whoever comes after it is not.
pub(crate) fn out_of_order(edge: &mut Edge, attach: Attach) -> Result<()> {
    let mut cases = Vec::new();
    for (name, is_tcp, frames) in datagrams(200, 9)? {
        for index in [2, 1, 0, 2, 1] {
            let is_early = cases.len() % 5 < 2;
            let one = bytes(
                format!("{name} fragment {index}, early: {is_early}"),
                frames[index].clone(),
            );
            let one = if name.contains("options") {
                one.skipped(UNPARSED)
            } else {
                one
            };
            cases.push(match (is_early, is_tcp) {
                (true, _) if name.contains("IPv6") => one.skipped(ORPHAN).tcp_with_port(),
                (true, true) => one.skipped(ORPHAN).tcp_with_port(),
                (true, false) => one.skipped(ORPHAN).udp_with_port(),
                (false, true) => one.tcp_with_port(),
                (false, false) => one.udp_with_port(),
            });
        }
    }
    run(
        edge,
        attach,
        "fragments out of order",
        &all_and_port(),
        &cases,
    )
}

/// Later fragments whose first never came, and whose first bytes look like ports.
pub(crate) fn alone(edge: &mut Edge, attach: Attach) -> Result<()> {
    let ports = [1, 0xbb, 1, 0xbb];
    let later = || Ipv4 {
        flags: 0,
        fragment_offset: 100,
        protocol: Some(6),
        id: 300,
        ..v4()
    };
    let behind = || frame().layer(v6()).fragment(100, false, 301);
    let tcp = |what: &str, packet: Packet| case(what, &packet).skipped(ORPHAN).tcp_with_port();
    let cases = [
        tcp(
            "IPv4 ports in the payload",
            frame().layer(later()).payload(ports),
        ),
        tcp("IPv6 ports in the payload", behind().raw(6, ports)),
        // what a later fragment says comes next is in another fragment
        case(
            "IPv6 options",
            &behind().raw(60, [6, 0, 1, 4, 0, 0, 0, 0, 0, 1, 1, 0xbb]),
        )
        .skipped(ORPHAN)
        .tcp_with_port(),
        case("IPv6 without anything", &behind().raw(59, []))
            .skipped(ORPHAN)
            .tcp_with_port(),
        // the first one of another datagram
        case(
            "first",
            &frame()
                .layer(Ipv4 {
                    flags: 1,
                    id: 302,
                    ..v4()
                })
                .udp(1, 443),
        )
        .udp_with_port(),
        tcp(
            "another identification",
            frame().layer(Ipv4 { id: 303, ..later() }).payload(ports),
        ),
        tcp(
            "another protocol",
            frame().layer(Ipv4 { id: 302, ..later() }).payload(ports),
        ),
        tcp(
            "another source",
            frame()
                .layer(Ipv4 {
                    id: 302,
                    source: v4().destination,
                    ..later()
                })
                .payload(ports),
        ),
    ];
    run(
        edge,
        attach,
        "fragments without a first",
        &all_and_port(),
        &cases,
    )
}

/// A flood of first fragments makes orphans of those who come after it, and the mirror forgets none
/// of those before. It has a laboratory of its own, since entries are in use for as long as the
/// kernel waits.
#[test]
fn a_flood_of_first_fragments_makes_the_mirror_forget_none() -> Result<()> {
    Attach::all()?
        .iter()
        .try_for_each(|attach| flood(&mut Edge::new(&all_and_port(), *attach)?, *attach))
}

fn flood(edge: &mut Edge, attach: Attach) -> Result<()> {
    let first = |n: u16| Ipv4 {
        flags: 1,
        id: n,
        source: format!("10.77.{}.1", n % 7).parse().unwrap(),
        ..v4()
    };
    let firsts = |other| -> Result<Vec<Vec<u8>>> {
        let plain = datagrams(400, other)?
            .into_iter()
            .filter(|(name, ..)| !name.contains("options"));
        Ok(plain.map(|(.., frames)| frames[0].clone()).collect())
    };
    for frame in firsts(9)? {
        edge.pass(&frame, SkbLayout::Linear, Direction::Ingress)?;
    }
    let flood: Vec<_> = (0..20_000)
        .map(|n| frame().layer(first(n)).udp(1, 2).build())
        .collect();
    for some in flood.chunks(500) {
        let arrived = edge.originals(some, SkbLayout::Linear, Direction::Ingress)?;
        ensure!(
            arrived == some,
            "{attach:?}: {} of {} originals arrived",
            arrived.len(),
            some.len()
        );
    }
    edge.copies()?;
    edge.moved(Direction::Ingress)?;
    let counts = |edge: &mut Edge, frame: &[u8], reason: &str| -> Result<u64> {
        let late = edge.pass(frame, SkbLayout::Linear, Direction::Ingress)?;
        ensure!(
            count(&late.moved, "filter port packets") == 1,
            "{attach:?}: {:?}",
            late.moved
        );
        Ok(count(&late.moved, &format!("eth0 ingress {reason}")))
    };
    for frame in firsts(10)? {
        ensure!(
            counts(edge, &frame, AMBIGUOUS)? == 1,
            "{attach:?}: a datagram from before was forgotten"
        );
    }
    // the flood has taken some 30,000 of 65,536 places, and each datagram needs two
    let mut new = 0;
    for (.., frames) in datagrams(500, 9)? {
        edge.pass(&frames[0], SkbLayout::Linear, Direction::Ingress)?;
        new += counts(edge, &frames[1], ORPHAN)?;
    }
    ensure!(new > 0, "{attach:?}: the flood has taken no place");
    Ok(())
}
