//! What lies below IP: VLAN tags beside and in the frame, padding, other protocols, groups.

use crate::case::{case, run};
use crate::edge::{Attach, Direction, Edge, SkbLayout, frame, shared_with};
use crate::{config, exclude, filter};
use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::packet::{Ether, Ipv6, Mac, Packet, Vlan};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket, PacketType};
use traffic_mirror_tests::lab::status::Counters;

fn all() -> String {
    config(&filter("all", "", "\"a\""))
}

const BOTH: [Direction; 3] = [Direction::Ingress, Direction::Egress, Direction::Local];

pub(crate) fn tags(edge: &mut Edge, attach: Attach) -> Result<()> {
    let config = config(
        &[
            filter("all", "", "\"a\""),
            filter("port", "source_port = [443]", "\"six\""),
        ]
        .concat(),
    );
    let tag = |tpid, tci| Vlan {
        tpid,
        tci,
        ethertype: None,
    };
    let mut cases = Vec::new();
    for (from, to) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
        let cased = |what: &str, packet: Packet| {
            let packet = packet.ip(from, to).tcp(443, 1).payload("payload");
            case(format!("{what}, {from}"), &packet)
                .matches(["all", "port"])
                .to(["a", "six"])
        };
        cases.extend([
            cased("802.1Q", frame().vlan(5)).ways(&BOTH),
            cased(
                "priority and drop eligible",
                frame().layer(tag(0x8100, 0xf005)),
            )
            .ways(&BOTH),
            cased("VLAN 0", frame().layer(tag(0x8100, 0xe000))).ways(&BOTH),
            cased("VLAN 4095", frame().vlan(4095)).ways(&BOTH),
            cased("802.1ad alone", frame().layer(tag(0x88a8, 6))).ways(&BOTH),
            cased("QinQ", frame().qinq(7, 8)).ways(&BOTH),
            cased("802.1Q twice", frame().vlan(7).vlan(8)).ways(&BOTH),
            cased("three tags", frame().qinq(7, 8).vlan(9)).ways(&BOTH),
            cased("padded", frame().vlan(5)).ways(&BOTH),
        ]);
    }
    let arp = frame()
        .layer(Vlan {
            tpid: 0x8100,
            tci: 1,
            ethertype: Some(0x0806),
        })
        .payload([0; 28]);
    cases.push(case("ARP", &arp).skipped("not-ip").ways(&BOTH));
    run(edge, attach, "VLAN tags", &config, &cases)?;

    // the parser looks through three in the frame
    let four = frame()
        .qinq(1, 2)
        .vlan(3)
        .vlan(4)
        .ip("10.0.0.1", "10.0.0.2")
        .udp(443, 1);
    let beside = case("four tags, one beside the frame", &four)
        .matches(["all", "port"])
        .to(["a", "six"]);
    let cases = [
        beside.ways(&[Direction::Ingress, Direction::Egress]),
        case("four tags in the frame", &four)
            .skipped("not-ip")
            .ways(&[Direction::Local]),
    ];
    run(edge, attach, "four VLAN tags", &config, &cases)
}

/// Filters by the outermost VLAN, be its tag beside the frame or in it.
pub(crate) fn vlans(edge: &mut Edge, attach: Attach) -> Result<()> {
    let config = config(
        &[
            filter("five", "vlan = [5]", "\"a\""),
            filter(
                "some",
                "vlan = [1, \"100-199\", 4094]\nprotocol = [\"udp\"]",
                "\"b\"",
            ),
            filter(
                "untagged",
                "vlan = [\"none\"]\ndestination_port = [1]",
                "\"six\"",
            ),
            exclude("not-here", "vlan = [7]\nsource = [\"10.0.0.1\"]"),
            filter("seven", "vlan = [7]", "\"a\""),
        ]
        .concat(),
    );
    let tag = |tci| {
        frame().layer(Vlan {
            tpid: 0x8100,
            tci,
            ethertype: None,
        })
    };
    let mut cases = Vec::new();
    for (from, to) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
        let udp = |what: &str, packet: Packet| {
            case(
                format!("{what}, {from}"),
                &packet.ip(from, to).udp(443, 1).payload("payload"),
            )
            .ways(&BOTH)
        };
        cases.extend([
            udp("untagged", frame()).matches(["untagged"]).to(["six"]),
            udp("priority alone", tag(0xe000))
                .matches(["untagged"])
                .to(["six"]),
            udp("VLAN 5", frame().vlan(5)).matches(["five"]).to(["a"]),
            udp("VLAN 5 with a priority", tag(0xf005))
                .matches(["five"])
                .to(["a"]),
            udp("VLAN 1", frame().vlan(1)).matches(["some"]).to(["b"]),
            udp("VLAN 99", frame().vlan(99)),
            udp("VLAN 100", frame().vlan(100))
                .matches(["some"])
                .to(["b"]),
            udp("VLAN 199", frame().vlan(199))
                .matches(["some"])
                .to(["b"]),
            udp("VLAN 200", frame().vlan(200)),
            udp("VLAN 4094", frame().vlan(4094))
                .matches(["some"])
                .to(["b"]),
            // the outermost counts
            udp("VLAN 5 in 100", frame().qinq(100, 5))
                .matches(["some"])
                .to(["b"]),
            udp("VLAN 100 in 5", frame().vlan(5).vlan(100))
                .matches(["five"])
                .to(["a"]),
            case(
                format!("TCP in VLAN 100, {from}"),
                &frame().vlan(100).ip(from, to).tcp(443, 1),
            )
            .ways(&BOTH),
        ]);
        let seven = udp("VLAN 7", frame().vlan(7));
        let is_excluded = from == "10.0.0.1";
        cases.push(match is_excluded {
            true => seven.matching(vec!["not-here", "seven"], vec![]),
            false => seven.matches(["seven"]).to(["a"]),
        });
    }
    run(edge, attach, "VLANs in filters", &config, &cases)
}

pub(crate) fn padding(edge: &mut Edge, attach: Attach) -> Result<()> {
    let four = |payload: usize| {
        frame()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(1, 2)
            .payload(vec![1; payload])
    };
    let six = || Ipv6::new("2001:db8::1", "2001:db8::2");
    let none = |packet: Packet| packet.payload([]);
    let cases = [
        case(
            "40 bytes in 60",
            &frame().ip("10.0.0.1", "10.0.0.2").tcp(1, 2).pad(60),
        )
        .copied()
        .ways(&BOTH),
        case("28 bytes in 60", &four(0).pad(60))
            .copied()
            .ways(&BOTH),
        case("45 bytes in 60", &four(17).pad(60))
            .copied()
            .ways(&BOTH),
        case("46 bytes in 60", &four(18).pad(60))
            .copied()
            .ways(&BOTH),
        case("28 bytes in 1514", &four(0).pad(1514))
            .copied()
            .ways(&BOTH),
        case("28 bytes in 9014", &four(0).pad(9014))
            .copied()
            .ways(&BOTH),
        case(
            "20 bytes in 60",
            &frame().ip("10.0.0.1", "10.0.0.2").raw(253, []).pad(60),
        )
        .copied()
        .ways(&BOTH),
        case(
            "tagged",
            &frame().vlan(5).ip("10.0.0.1", "10.0.0.2").udp(1, 2).pad(64),
        )
        .copied()
        .ways(&BOTH),
        case(
            "twice tagged",
            &frame()
                .qinq(5, 6)
                .ip("10.0.0.1", "10.0.0.2")
                .udp(1, 2)
                .pad(68),
        )
        .copied()
        .ways(&BOTH),
        case("IPv6", &frame().layer(six()).udp(1, 2).pad(80))
            .copied()
            .ways(&BOTH),
        case(
            "IPv6 that is all header",
            &none(frame().layer(six())).pad(60),
        )
        .copied()
        .ways(&BOTH),
        case("unpadded", &four(0)).copied().ways(&BOTH),
    ];
    run(edge, attach, "padding", &all(), &cases)
}

pub(crate) fn not_ip(edge: &mut Edge, attach: Attach) -> Result<()> {
    let with = |ethertype: u16, destination: Mac, body: &[u8]| {
        Packet::new()
            .layer(Ether {
                source: [2, 0, 0, 0, 0, 0xaa],
                destination,
                ethertype: Some(ethertype),
            })
            .payload(body)
    };
    let unicast = [2, 0, 0, 0, 0, 0xbb];
    let ip = frame().ip("10.0.0.1", "10.0.0.2").tcp(1, 2).build()[14..].to_vec();
    let llc = |body: &[u8]| with(body.len() as u16, unicast, body);
    let case = |what: &str, packet: Packet| case(what, &packet).skipped("not-ip").ways(&BOTH);
    let cases = [
        case(
            "LLDP",
            with(
                0x88cc,
                [1, 0x80, 0xc2, 0, 0, 0x0e],
                &[2, 7, 4, 2, 0, 0, 0, 0, 1, 0, 0],
            ),
        ),
        case(
            "802.3 with LLC",
            llc(&[&[0x42, 0x42, 3][..], &[0; 40]].concat()),
        ),
        case(
            "802.3 with SNAP and IPv4",
            llc(&[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &ip].concat()),
        ),
        case("length field of a packet", llc(&ip)),
        case(
            "MPLS",
            with(0x8847, unicast, &[&[0, 0, 0x11, 64][..], &ip].concat()),
        ),
        case(
            "PPPoE",
            with(
                0x8864,
                unicast,
                &[&[0x11, 0, 0, 1, 0, 42, 0, 0x21][..], &ip].concat(),
            ),
        ),
        case("local experiment", with(0x88b5, unicast, &ip)),
        case("EtherType 0x9000", with(0x9000, unicast, &[0; 46])),
        case("header alone", with(0x88b5, unicast, &[])),
    ];
    run(edge, attach, "not IP", &all(), &cases)
}

pub(crate) fn groups(edge: &mut Edge, attach: Attach) -> Result<()> {
    let ether = |source: Mac, destination: Mac| {
        Packet::new().layer(Ether {
            source,
            destination,
            ethertype: None,
        })
    };
    let here = [2, 0, 0, 0, 0, 0xaa];
    let cases = [
        case(
            "broadcast",
            &ether(here, [0xff; 6])
                .ip("10.0.0.1", "255.255.255.255")
                .udp(68, 67)
                .payload([1; 240]),
        )
        .copied(),
        case(
            "IPv4 group",
            &ether(here, [1, 0, 0x5e, 0, 0, 0xfb])
                .ip("10.0.0.1", "224.0.0.251")
                .udp(5353, 5353),
        )
        .copied(),
        case(
            "IPv6 group",
            &ether(here, [0x33, 0x33, 0, 0, 0, 1])
                .ip("fe80::1", "ff02::1")
                .icmpv6(134, 0)
                .payload([0; 8]),
        )
        .copied(),
        case(
            "somebody's MAC",
            &ether(here, [2, 9, 9, 9, 9, 9])
                .ip("10.0.0.1", "10.0.0.2")
                .tcp(1, 2),
        )
        .copied(),
        case(
            "destination MAC 0",
            &ether(here, [0; 6]).ip("10.0.0.1", "10.0.0.2").tcp(1, 2),
        )
        .copied(),
        case(
            "loopback addresses",
            &ether(here, [2, 9, 9, 9, 9, 9])
                .ip("127.0.0.1", "127.0.0.1")
                .tcp(1, 2),
        )
        .copied(),
        case(
            "unspecified addresses",
            &ether(here, [2, 9, 9, 9, 9, 9]).ip("::", "::").udp(1, 2),
        )
        .copied(),
    ];
    run(
        edge,
        attach,
        "groups",
        &all(),
        &cases.map(|case| case.ways(&BOTH)),
    )
}

/// Nobody receives such a frame (`skb_vlan_untag` drops it), so that it is caught where it leaves.
#[test]
fn cut_off_in_the_tag() -> Result<()> {
    for &attach in Attach::all()? {
        shared_with(attach, &all(), |edge| {
            let leaves = PacketSocket::open(&edge.edge, "eth0", Capture::BothWays)?;
            for length in 14..18 {
                let cut = frame()
                    .vlan(5)
                    .ip("10.0.0.1", "10.0.0.2")
                    .udp(1, 2)
                    .truncate(length)
                    .build();
                let arrived = edge.originals(
                    std::slice::from_ref(&cut),
                    SkbLayout::Linear,
                    Direction::Local,
                )?;
                ensure!(
                    arrived.is_empty(),
                    "{attach:?}: {} frames of {length} bytes arrived",
                    arrived.len()
                );
                let left = leaves
                    .recv(deadline())?
                    .context("the frame did not leave")?;
                ensure!(
                    left.bytes == cut && left.direction == PacketType::Outgoing,
                    "{attach:?}: {left:?}"
                );
                leaves
                    .recv(deadline())?
                    .context("the marker did not leave")?;
                let (copies, strangers) = edge.copies()?;
                ensure!(
                    copies.is_empty() && strangers.is_empty(),
                    "{attach:?}: {copies:?} {strangers:?}"
                );
                let moved = edge.moved(Direction::Local)?;
                let malformed = Counters::from([("eth0 egress malformed".to_owned(), 1)]);
                ensure!(moved == malformed, "{attach:?}, {length} bytes: {moved:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}
