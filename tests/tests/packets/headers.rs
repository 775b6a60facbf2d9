//! IP headers as they come: options, extension headers, fragments, cut off, contradicting
//! themselves, in pieces.

use crate::case::{Case, behind_link, bytes, case, run};
use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::{config, filter};
use anyhow::Result;
use traffic_mirror_tests::lab::packet::{Extension, Ipv4, Ipv6, Packet, Tcp};
use traffic_mirror_tests::lab::traffic::Stream;
use traffic_mirror_tests::lab::vnet::VnetHeader;

const V4: (&str, &str) = ("10.1.2.3", "198.51.100.7");
const V6: (&str, &str) = ("2001:db8:1::3", "2001:db8:2::7");

pub(crate) fn v4() -> Ipv4 {
    Ipv4::new(V4.0, V4.1)
}

pub(crate) fn v6() -> Ipv6 {
    Ipv6::new(V6.0, V6.1)
}

/// "all" catches whatever can be looked at, "tcp" asks for the protocol, "port" for TCP or UDP port
/// 443 either way.
pub(crate) fn all_and_port() -> String {
    config(
        &[
            filter("all", "", "\"a\""),
            filter("tcp", "protocol = [\"tcp\"]", "\"b\""),
            filter(
                "port",
                "destination_port = [443]\nbidirectional = true",
                "\"six\"",
            ),
        ]
        .concat(),
    )
}

impl Case {
    pub(crate) fn tcp_with_port(self) -> Self {
        self.matches(["all", "tcp", "port"]).to(["a", "b", "six"])
    }

    pub(crate) fn udp_with_port(self) -> Self {
        self.matches(["all", "port"]).to(["a", "six"])
    }

    pub(crate) fn tcp_without_port(self) -> Self {
        self.matches(["all", "tcp"]).to(["a", "b"])
    }
}

pub(crate) fn plain(edge: &mut Edge, attach: Attach) -> Result<()> {
    let mut cases = Vec::new();
    for addresses in [V4, V6] {
        let ip = || frame().ip(addresses.0, addresses.1);
        let family = if addresses == V4 { "IPv4" } else { "IPv6" };
        for length in [0, 1, 6, 7, 100, 1399, 1400, 4096, 8000] {
            let payload = Stream::new(length as u64).bytes(length);
            cases.push(
                case(
                    format!("{family} TCP of {length} bytes"),
                    &ip().tcp(1, 443).payload(&payload[..]),
                )
                .tcp_with_port(),
            );
            cases.push(
                case(
                    format!("{family} UDP of {length} bytes"),
                    &ip().udp(443, 9).payload(&payload[..]),
                )
                .udp_with_port(),
            );
        }
        let syn = Tcp {
            flags: Tcp::SYN,
            options: vec![2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
            ..Tcp::new(1, 443)
        };
        cases.extend([
            case(format!("{family} SYN with options"), &ip().layer(syn)).tcp_with_port(),
            case(
                format!("{family} wrong TCP checksum"),
                &ip().layer(Tcp {
                    checksum: Some(0xbad),
                    ..Tcp::new(1, 443)
                }),
            )
            .tcp_with_port(),
        ]);
    }
    let marked = [
        Ipv4 {
            dscp: 46,
            ecn: 3,
            ttl: 1,
            id: 7,
            flags: 0,
            ..v4()
        },
        Ipv4 {
            ttl: 0,
            flags: 0b100,
            ..v4()
        },
    ];
    cases.extend(
        marked.map(|ip| case("IPv4 fields", &frame().layer(ip).tcp(1, 443)).tcp_with_port()),
    );
    let marked = Ipv6 {
        dscp: 46,
        ecn: 1,
        flow_label: 0xf_edcb,
        hop_limit: 0,
        ..v6()
    };
    cases.push(case("IPv6 fields", &frame().layer(marked).tcp(1, 443)).tcp_with_port());
    cases.push(
        case(
            "wrong IPv4 checksum",
            &frame()
                .layer(Ipv4 {
                    checksum: Some(1),
                    ..v4()
                })
                .tcp(1, 443),
        )
        .tcp_with_port(),
    );
    run(edge, attach, "plain", &all_and_port(), &cases)
}

pub(crate) fn ipv4(edge: &mut Edge, attach: Attach) -> Result<()> {
    let options = |length: usize| Ipv4 {
        options: Stream::new(5).bytes(length),
        ..v4()
    };
    let mut cases = Vec::new();
    for length in [4, 8, 20, 36, 40] {
        cases.extend([
            case(
                format!("options of {length} bytes, TCP"),
                &frame().layer(options(length)).tcp(443, 1).payload("x"),
            )
            .tcp_with_port(),
            case(
                format!("options of {length} bytes, UDP"),
                &frame().layer(options(length)).udp(1, 443),
            )
            .udp_with_port(),
            // the ports' place without options holds 443, theirs does not
            case(
                format!("options of {length} bytes that look like ports"),
                &frame()
                    .layer(Ipv4 {
                        options: [1, 0xbb].repeat(length / 2),
                        ..v4()
                    })
                    .tcp(1, 2),
            )
            .tcp_without_port(),
        ]);
    }
    cases.push(case("options and ICMP", &frame().layer(options(12)).icmp(8, 0)).copied());
    run(edge, attach, "IPv4 options", &all_and_port(), &cases)
}

pub(crate) fn ipv6_extensions(edge: &mut Edge, attach: Attach) -> Result<()> {
    let ip = || frame().layer(v6());
    let routing = || Extension::routing(4, 1, &[&[0, 0, 0, 0][..], &[0x20; 16]].concat());
    let long = || {
        Extension::options(
            Extension::DESTINATION,
            &[&[0x1e, 250][..], &[0; 250]].concat(),
        )
    };
    let times = |count: usize| (0..count).fold(ip(), |packet, _| packet.destination_options());
    let mut cases = vec![
        case("hop-by-hop", &ip().hop_by_hop().tcp(1, 443)).tcp_with_port(),
        case(
            "hop-by-hop, UDP",
            &ip().hop_by_hop().udp(443, 1).payload("x"),
        )
        .udp_with_port(),
        case(
            "destination options",
            &ip().destination_options().tcp(1, 443),
        )
        .tcp_with_port(),
        case("routing", &ip().layer(routing()).tcp(1, 443)).tcp_with_port(),
        case("authentication", &ip().authentication().tcp(1, 443)).tcp_with_port(),
        case("atomic fragment", &ip().fragment(0, false, 7).tcp(1, 443)).tcp_with_port(),
        case(
            "all of them",
            &ip()
                .hop_by_hop()
                .destination_options()
                .layer(routing())
                .fragment(0, false, 7)
                .authentication()
                .destination_options()
                .tcp(1, 443),
        )
        .tcp_with_port(),
        case(
            "options of 256 bytes",
            &ip().layer(long()).layer(long()).tcp(1, 443),
        )
        .tcp_with_port(),
        case("eight headers", &times(8).tcp(1, 443)).tcp_with_port(),
        case("nine headers", &times(9).tcp(1, 443))
            .skipped("unparsed")
            .tcp_with_port(),
        case("ten headers", &times(10).udp(1, 443))
            .skipped("unparsed")
            .tcp_with_port(),
        case(
            "no next header",
            &ip().destination_options().payload("nothing to see"),
        )
        .copied(),
        case("ESP", &ip().hop_by_hop().raw(50, Stream::new(1).bytes(40))).copied(),
        case(
            "ICMPv6 behind hop-by-hop",
            &ip().hop_by_hop().icmpv6(143, 0).payload([0; 16]),
        )
        .copied(),
        case(
            "upper layer that is no ports",
            &ip().destination_options().raw(47, [1, 0xbb, 1, 0xbb]),
        )
        .copied(),
    ];
    for cut in 1..16 {
        // Ethernet 14, IPv6 40, options 8, TCP 20: the ports are there from the 66th byte on
        let packet = ip().destination_options().tcp(443, 1).truncate(54 + cut);
        let one = bytes(
            format!("cut {cut} bytes behind the IPv6 header"),
            packet.build(),
        )
        .inner(behind_link(&packet.build()));
        cases.push(match cut {
            0..12 => one.skipped("unparsed").tcp_with_port(),
            _ => one.tcp_with_port(),
        });
    }
    run(
        edge,
        attach,
        "IPv6 extension headers",
        &all_and_port(),
        &cases,
    )
}

pub(crate) fn cut_off_and_lies(edge: &mut Edge, attach: Attach) -> Result<()> {
    let mut cases = Vec::new();
    for (header, packet) in [(20, frame().layer(v4())), (40, frame().layer(v6()))] {
        let whole = packet.tcp(1, 443).payload("payload").build();
        for behind in 0..header + 24 {
            let cut = whole[..14 + behind].to_vec();
            let one = bytes(
                format!("header of {header} bytes, cut at {behind}"),
                cut.clone(),
            );
            cases.push(match behind {
                _ if behind < header => one.skipped("malformed"),
                _ if behind < header + 4 => one
                    .inner(behind_link(&cut))
                    .skipped("unparsed")
                    .tcp_with_port(),
                _ => one.inner(behind_link(&cut)).tcp_with_port(),
            });
        }
    }
    let lie = |what: &str, packet: &Packet| {
        bytes(what, packet.build()).inner(behind_link(&packet.build()))
    };
    let four = |ip: Ipv4| frame().layer(ip).tcp(1, 443).payload("payload");
    let six = |ip: Ipv6| frame().layer(ip).tcp(1, 443).payload("payload");
    cases.extend([
        lie("version 5", &four(Ipv4 { version: 5, ..v4() })).skipped("malformed"),
        lie(
            "version 6 in an IPv4 frame",
            &four(Ipv4 { version: 6, ..v4() }),
        )
        .skipped("malformed"),
        lie("version 0", &four(Ipv4 { version: 0, ..v4() })).skipped("malformed"),
        lie(
            "version 4 in an IPv6 frame",
            &six(Ipv6 { version: 4, ..v6() }),
        )
        .skipped("malformed"),
        lie(
            "version 15",
            &six(Ipv6 {
                version: 15,
                ..v6()
            }),
        )
        .skipped("malformed"),
        lie(
            "header length 4",
            &four(Ipv4 {
                ihl: Some(4),
                ..v4()
            }),
        )
        .skipped("malformed"),
        lie(
            "header length 0",
            &four(Ipv4 {
                ihl: Some(0),
                ..v4()
            }),
        )
        .skipped("malformed"),
        lie(
            "total length 19",
            &four(Ipv4 {
                total_length: Some(19),
                ..v4()
            }),
        )
        .skipped("malformed"),
        lie(
            "total length below the options",
            &four(Ipv4 {
                total_length: Some(23),
                options: vec![1; 4],
                ..v4()
            }),
        )
        .skipped("malformed"),
        lie(
            "total length beyond the frame",
            &four(Ipv4 {
                total_length: Some(48),
                ..v4()
            }),
        )
        .tcp_with_port(),
        lie(
            "total length 65535",
            &four(Ipv4 {
                total_length: Some(65535),
                ..v4()
            }),
        )
        .tcp_with_port(),
        lie(
            "header length beyond the frame",
            &frame()
                .layer(Ipv4 {
                    ihl: Some(15),
                    total_length: Some(80),
                    ..v4()
                })
                .tcp(1, 443),
        )
        .skipped("unparsed")
        .tcp_with_port(),
        lie(
            "payload length beyond the frame",
            &six(Ipv6 {
                payload_length: Some(28),
                ..v6()
            }),
        )
        .tcp_with_port(),
        lie(
            "payload length 65535",
            &six(Ipv6 {
                payload_length: Some(65535),
                ..v6()
            }),
        )
        .tcp_with_port(),
        // what is behind the length is padding, whatever it looks like
        case(
            "total length in the payload",
            &four(Ipv4 {
                total_length: Some(43),
                ..v4()
            }),
        )
        .tcp_with_port(),
        case(
            "payload length in the payload",
            &six(Ipv6 {
                payload_length: Some(23),
                ..v6()
            }),
        )
        .tcp_with_port(),
        lie(
            "extension header beyond the frame",
            &frame()
                .layer(v6())
                .layer(Extension {
                    length: Some(200),
                    ..Extension::options(60, &[])
                })
                .tcp(1, 443),
        )
        .skipped("unparsed")
        .tcp_with_port(),
        lie(
            "TCP header length 0",
            &frame().layer(v4()).layer(Tcp {
                data_offset: Some(0),
                ..Tcp::new(1, 443)
            }),
        )
        .tcp_with_port(),
        lie(
            "UDP length 0",
            &frame().layer(v4()).raw(17, [0, 1, 1, 0xbb, 0, 0, 0, 0]),
        )
        .udp_with_port(),
    ]);
    run(edge, attach, "cut off and lies", &all_and_port(), &cases)
}

pub(crate) fn scattered(edge: &mut Edge, attach: Attach) -> Result<()> {
    let mut cases = Vec::new();
    for (name, packet) in [
        ("IPv4", frame().layer(v4())),
        (
            "IPv4 with options",
            frame().layer(Ipv4 {
                options: vec![1; 20],
                ..v4()
            }),
        ),
        ("IPv6", frame().layer(v6())),
        (
            "IPv6 with extension headers",
            frame().layer(v6()).hop_by_hop().destination_options(),
        ),
        ("tagged IPv4", frame().vlan(9).layer(v4())),
        ("twice tagged IPv6", frame().qinq(9, 10).layer(v6())),
    ] {
        for linear in [14, 15, 18, 20, 33, 34, 36, 38, 54, 60, 100, 1000] {
            for payload in [0, 500, 8000] {
                let payload = Stream::new(7).bytes(payload);
                let what = format!(
                    "{name}, {} bytes of payload, {linear} bytes in one piece",
                    payload.len()
                );
                let one = case(what, &packet.clone().tcp(1, 443).payload(payload)).tcp_with_port();
                cases.push(one.layout(SkbLayout::Scattered(linear)).ways(&[
                    Direction::Ingress,
                    Direction::Egress,
                    Direction::Local,
                ]));
            }
        }
    }
    let later = |linear| SkbLayout::Scattered(linear);
    let all = [Direction::Ingress, Direction::Local];
    cases.extend([
        case(
            "padding in a piece of its own",
            &frame().layer(v4()).udp(1, 443).pad(300),
        )
        .udp_with_port()
        .layout(later(14))
        .ways(&all),
        case(
            "padding behind the linear part",
            &frame().layer(v6()).udp(1, 443).pad(300),
        )
        .udp_with_port()
        .layout(later(62))
        .ways(&all),
        case("ICMP", &frame().layer(v4()).icmp(8, 0).payload([3; 400]))
            .copied()
            .layout(later(14))
            .ways(&all),
        bytes(
            "cut in the IP header",
            frame().layer(v4()).tcp(1, 443).truncate(30).build(),
        )
        .skipped("malformed")
        .layout(later(14))
        .ways(&all),
        case(
            "later fragment",
            &frame()
                .layer(Ipv4 {
                    flags: 0,
                    fragment_offset: 9,
                    protocol: Some(6),
                    ..v4()
                })
                .payload([1, 0xbb, 1, 0xbb]),
        )
        .skipped("orphan-fragment")
        .tcp_with_port()
        .layout(later(14))
        .ways(&all),
        case("not IP", &frame().payload([1; 300]))
            .skipped("not-ip")
            .layout(later(14))
            .ways(&all),
    ]);
    run(edge, attach, "in pieces", &all_and_port(), &cases)
}

pub(crate) fn open_checksums(edge: &mut Edge, attach: Attach) -> Result<()> {
    let mut cases = Vec::new();
    for (name, packet) in [
        ("IPv4", frame().layer(v4())),
        (
            "IPv4 with options",
            frame().layer(Ipv4 {
                options: vec![1; 8],
                ..v4()
            }),
        ),
        ("IPv6", frame().layer(v6())),
        ("tagged IPv4", frame().vlan(9).layer(v4())),
        ("IPv6 with hop-by-hop", frame().layer(v6()).hop_by_hop()),
    ] {
        for length in [0, 1, 1000, 8000] {
            let payload = Stream::new(8).bytes(length);
            for (transport, packet) in [
                ("TCP", packet.clone().tcp(1, 443)),
                ("UDP", packet.clone().udp(1, 443)),
            ] {
                let finished = packet.payload(&payload[..]).build();
                let mut open = finished.clone();
                let header = VnetHeader::partial(&mut open)?;
                let one = bytes(format!("{name} {transport} of {length} bytes"), open)
                    .inner(behind_link(&finished));
                let one = if transport == "TCP" {
                    one.tcp_with_port()
                } else {
                    one.udp_with_port()
                };
                cases.push(one.layout(SkbLayout::Vnet(header)).ways(&[
                    Direction::Ingress,
                    Direction::Egress,
                    Direction::Local,
                ]));
            }
        }
        // padding must not be summed, nor hinder the sum
        let finished = packet.udp(1, 443).payload("x").build();
        let mut open = finished.clone();
        let header = VnetHeader::partial(&mut open)?;
        open.resize(100, 0);
        cases.push(
            bytes(format!("{name}, padded"), open)
                .inner(behind_link(&finished))
                .udp_with_port()
                .layout(SkbLayout::Vnet(header)),
        );
    }
    run(
        edge,
        attach,
        "checksums still open",
        &all_and_port(),
        &cases,
    )
}
