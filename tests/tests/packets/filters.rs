//! Which packets a filter catches, and where they go.

use crate::case::{Case, case, run};
use crate::edge::{Attach, Direction, Edge, frame};
use crate::{config, exclude, filter, with_interfaces};
use anyhow::Result;
use traffic_mirror_tests::lab::packet::Packet;

const V4: (&str, &str) = ("10.1.2.3", "198.51.100.7");
const V6: (&str, &str) = ("2001:db8:1::3", "2001:db8:2::7");

fn ip((source, destination): (&str, &str)) -> Packet {
    frame().ip(source, destination)
}

pub(crate) fn protocols(edge: &mut Edge, attach: Attach) -> Result<()> {
    let named = ["tcp", "udp", "icmp", "icmpv6", "sctp"]
        .map(|name| filter(name, &format!("protocol = [\"{name}\"]"), "\"a\""));
    let list = filter(
        "numbers",
        "protocol = [47, 50, \"ah\", 135, \"hip\", 140, 253, 255, 0]",
        "\"six\"",
    );
    let config = config(&[named.concat(), list].concat());
    let mut cases = vec![
        case("ICMP echo", &ip(V4).icmp(8, 0).payload("ping"))
            .matches(["icmp"])
            .to(["a"]),
        case("ICMPv6 echo", &ip(V6).icmpv6(128, 0).payload("ping"))
            .matches(["icmpv6"])
            .to(["a"]),
        case(
            "neighbour solicitation",
            &ip(V6).icmpv6(135, 0).payload([0; 20]),
        )
        .matches(["icmpv6"])
        .to(["a"]),
        case("ICMP inside IPv6", &ip(V6).icmp(8, 0))
            .matches(["icmp"])
            .to(["a"]),
        case("ICMPv6 inside IPv4", &ip(V4).icmpv6(128, 0))
            .matches(["icmpv6"])
            .to(["a"]),
        case("AH over IPv4 is a protocol", &ip(V4).raw(51, [6, 4, 0, 0]))
            .matches(["numbers"])
            .to(["six"]),
        case("protocol 0 over IPv4", &ip(V4).raw(0, [1; 9]))
            .matches(["numbers"])
            .to(["six"]),
    ];
    for addresses in [V4, V6] {
        let ip = || ip(addresses);
        cases.extend([
            case("TCP", &ip().tcp(40000, 443).payload("x"))
                .matches(["tcp"])
                .to(["a"]),
            case("UDP", &ip().udp(40000, 53).payload("x"))
                .matches(["udp"])
                .to(["a"]),
            case("UDP without payload", &ip().udp(1, 2))
                .matches(["udp"])
                .to(["a"]),
            case("SCTP", &ip().sctp(40000, 2905).payload([0, 3, 0, 16]))
                .matches(["sctp"])
                .to(["a"]),
            case("another protocol", &ip().raw(89, [2; 30])),
            case("IP in IP", &ip().ip("10.0.0.1", "10.0.0.2").tcp(1, 443)),
        ]);
        // the kernel hands mobility, HIP and shim6 headers to whoever asks for these protocols
        for number in [47, 50, 135, 139, 140, 253, 255] {
            cases.push(
                case(format!("protocol {number}"), &ip().raw(number, [7; 33]))
                    .matches(["numbers"])
                    .to(["six"]),
            );
        }
    }
    run(edge, attach, "protocols", &config, &cases)
}

pub(crate) fn ports(edge: &mut Edge, attach: Attach) -> Result<()> {
    let config = config(
        &[
            filter(
                "web",
                "destination_port = [443, \"8000-8100\", 8443]",
                "\"a\"",
            ),
            filter(
                "least",
                "source_port = [0]\nprotocol = [\"tcp\", \"udp\"]",
                "\"a\"",
            ),
            filter("most", "destination_port = [65535]", "\"a\""),
            filter(
                "both",
                "source_port = [\"1000-1999\"]\ndestination_port = [\"2000-2999\", 5]",
                "\"b\"",
            ),
            filter(
                "any",
                "destination_port = [\"0-65535\"]\nsource = [\"10.77.0.0/16\"]",
                "\"six\"",
            ),
        ]
        .concat(),
    );
    let mut cases = Vec::new();
    for addresses in [V4, V6] {
        let case = |from: u16,
                    to: u16,
                    filters: &[&'static str],
                    endpoints: &[&'static str]|
         -> [Case; 3] {
            let all = [
                ip(addresses).tcp(from, to),
                ip(addresses).udp(from, to),
                ip(addresses).sctp(from, to),
            ];
            let names = ["TCP", "UDP", "SCTP"];
            let mut index = 0;
            all.map(|packet| {
                let name = names[index];
                index += 1;
                let filters: Vec<_> = filters
                    .iter()
                    .copied()
                    .filter(|f| *f != "least" || name != "SCTP")
                    .collect();
                let endpoints = if filters.is_empty() { &[] } else { endpoints };
                crate::case::case(format!("{name} {from} > {to}"), &packet)
                    .matching(filters, endpoints.to_vec())
            })
        };
        for (from, to, filters, endpoints) in [
            (40000, 443, &["web"][..], &["a"][..]),
            (40000, 442, &[], &[]),
            (40000, 444, &[], &[]),
            (443, 40000, &[], &[]),
            (40000, 7999, &[], &[]),
            (40000, 8000, &["web"], &["a"]),
            (40000, 8050, &["web"], &["a"]),
            (40000, 8100, &["web"], &["a"]),
            (40000, 8101, &[], &[]),
            (40000, 8443, &["web"], &["a"]),
            (0, 1, &["least"], &["a"]),
            (1, 0, &[], &[]),
            (1, 65535, &["most"], &["a"]),
            (65535, 1, &[], &[]),
            (1000, 2000, &["both"], &["b"]),
            (1999, 2999, &["both"], &["b"]),
            (1999, 5, &["both"], &["b"]),
            (999, 2000, &[], &[]),
            (2000, 2000, &[], &[]),
            (1000, 1999, &[], &[]),
            (1000, 3000, &[], &[]),
            (2000, 1000, &[], &[]),
        ] {
            cases.extend(case(from, to, filters, endpoints));
        }
        cases.push(crate::case::case(
            "no ports",
            &ip(addresses).icmp(8, 0).payload([1, 187, 1, 187]),
        ));
        cases.push(crate::case::case(
            "GRE",
            &ip(addresses).raw(47, [1, 187, 1, 187]),
        ));
    }
    let any = |packet: Packet| crate::case::case("any port", &packet);
    let from = || frame().ip("10.77.1.1", "10.0.0.1");
    cases.extend([
        any(from().udp(0, 0))
            .matches(["any", "least"])
            .to(["a", "six"]),
        any(from().tcp(65535, 65535))
            .matches(["any", "most"])
            .to(["a", "six"]),
        any(from().icmp(8, 0)),
        any(from().raw(33, [0, 1, 0, 2, 0, 0]))
            .matches(["any"])
            .to(["six"]),
        any(from().raw(136, [0, 1, 0, 2, 0, 8, 0, 0]))
            .matches(["any"])
            .to(["six"]),
    ]);
    run(edge, attach, "ports", &config, &cases)
}

pub(crate) fn networks(edge: &mut Edge, attach: Attach) -> Result<()> {
    let config = config(
        &[
            filter("host", "source = [\"192.0.2.77/32\"]", "\"a\""),
            filter("bare", "destination = [\"192.0.2.78\"]", "\"a\""),
            filter("thirteen", "source = [\"10.8.0.0/13\"]", "\"a\""),
            filter("nested", "source = [\"10.8.0.0/16\", \"10.9.128.0/17\"]", "\"b\""),
            filter("four", "destination = [\"0.0.0.0/0\"]\nprotocol = [99]", "\"six\""),
            filter("six", "destination = [\"::/0\"]\nprotocol = [99]", "\"six\""),
            filter("host6", "source = [\"2001:db8::abcd/128\"]", "\"a\""),
            filter("fortyfive", "destination = [\"2001:db8:8::/45\"]", "\"a\""),
            filter(
                "both",
                "source = [\"172.16.0.0/12\"]\ndestination = [\"172.31.255.0/24\", \"2001:db8:8::/64\"]",
                "\"b\"",
            ),
            filter("one", "source = [\"128.0.0.0/1\"]\nprotocol = [98]", "\"b\""),
            filter("thirtyone", "source = [\"192.0.2.80/31\"]\nprotocol = [98]", "\"a\""),
        ]
        .concat(),
    );
    let tcp =
        |from: &str, to: &str| case(format!("{from} > {to}"), &frame().ip(from, to).tcp(1, 2));
    let raw = |from: &str, to: &str, n| {
        case(
            format!("{from} > {to} {n}"),
            &frame().ip(from, to).raw(n, [0; 20]),
        )
    };
    let cases = [
        tcp("192.0.2.77", "1.2.3.4").matches(["host"]).to(["a"]),
        tcp("192.0.2.76", "1.2.3.4"),
        tcp("192.0.2.78", "1.2.3.4"),
        tcp("1.2.3.4", "192.0.2.77"),
        tcp("1.2.3.4", "192.0.2.78").matches(["bare"]).to(["a"]),
        tcp("192.0.2.77", "192.0.2.78")
            .matches(["host", "bare"])
            .to(["a"]),
        tcp("10.7.255.255", "1.2.3.4"),
        tcp("10.8.0.0", "1.2.3.4")
            .matches(["thirteen", "nested"])
            .to(["a", "b"]),
        tcp("10.8.255.255", "1.2.3.4")
            .matches(["thirteen", "nested"])
            .to(["a", "b"]),
        tcp("10.9.127.255", "1.2.3.4")
            .matches(["thirteen"])
            .to(["a"]),
        tcp("10.9.128.0", "1.2.3.4")
            .matches(["thirteen", "nested"])
            .to(["a", "b"]),
        tcp("10.15.255.255", "1.2.3.4")
            .matches(["thirteen"])
            .to(["a"]),
        tcp("10.16.0.0", "1.2.3.4"),
        raw("0.0.0.0", "255.255.255.255", 99)
            .matches(["four"])
            .to(["six"]),
        raw("255.255.255.255", "0.0.0.0", 99)
            .matches(["four"])
            .to(["six"]),
        raw("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 99)
            .matches(["six"])
            .to(["six"]),
        raw("::ffff:10.8.0.1", "::", 99)
            .matches(["six"])
            .to(["six"]),
        tcp("2001:db8::abcd", "2001:db8::1")
            .matches(["host6"])
            .to(["a"]),
        tcp("2001:db8::abcc", "2001:db8::1"),
        tcp("2001:db8:0:0:1::abcd", "2001:db8::1"),
        tcp("2001:db8::1", "2001:db8:8::")
            .matches(["fortyfive"])
            .to(["a"]),
        tcp("2001:db8::1", "2001:db8:f:ffff:ffff:ffff:ffff:ffff")
            .matches(["fortyfive"])
            .to(["a"]),
        tcp("2001:db8::1", "2001:db8:7:ffff:ffff:ffff:ffff:ffff"),
        tcp("2001:db8::1", "2001:db8:10::"),
        tcp("172.16.0.0", "172.31.255.0")
            .matches(["both"])
            .to(["b"]),
        tcp("172.31.255.255", "172.31.255.255")
            .matches(["both"])
            .to(["b"]),
        tcp("172.32.0.0", "172.31.255.0"),
        tcp("172.16.0.0", "172.31.254.255"),
        raw("127.255.255.255", "1.1.1.1", 98),
        raw("128.0.0.0", "1.1.1.1", 98).matches(["one"]).to(["b"]),
        raw("192.0.2.79", "1.1.1.1", 98).matches(["one"]).to(["b"]),
        raw("192.0.2.80", "1.1.1.1", 98)
            .matches(["one", "thirtyone"])
            .to(["a", "b"]),
        raw("192.0.2.81", "1.1.1.1", 98)
            .matches(["one", "thirtyone"])
            .to(["a", "b"]),
        raw("192.0.2.82", "1.1.1.1", 98).matches(["one"]).to(["b"]),
        raw("8000::", "8000::", 98),
        // an IPv6 address that begins with the bytes of an IPv4 network
        raw("0a08::1", "c000:024d::", 98),
        tcp("0a08::1", "c000:024e::"),
    ];
    run(edge, attach, "networks", &config, &cases)
}

pub(crate) fn bidirectional(edge: &mut Edge, attach: Attach) -> Result<()> {
    let config = config(&[
        filter("two", "bidirectional = true\nsource = [\"10.0.0.0/8\"]\ndestination = [\"192.0.2.0/24\"]\ndestination_port = [443]\nprotocol = [\"tcp\"]", "\"a\""),
        filter("overlap", "bidirectional = true\nsource = [\"10.0.0.0/8\", \"172.16.0.0/12\"]\ndestination = [\"10.0.0.0/8\"]", "\"b\""),
        filter("half", "bidirectional = true\nsource_port = [53]", "\"six\""),
        filter("same", "bidirectional = true\nprotocol = [97]", "\"a\""),
        filter("once", "bidirectional = false\nsource = [\"192.0.2.1\"]\nprotocol = [96]", "\"a\""),
    ].concat());
    let tcp = |from: &str, port: u16, to: &str, at: u16| {
        case(
            format!("{from}:{port} > {to}:{at}"),
            &frame().ip(from, to).tcp(port, at).payload("x"),
        )
    };
    let cases = [
        tcp("10.1.1.1", 40000, "192.0.2.1", 443)
            .matches(["two"])
            .to(["a"]),
        tcp("192.0.2.1", 443, "10.1.1.1", 40000)
            .matches(["two"])
            .to(["a"]),
        tcp("192.0.2.1", 40000, "10.1.1.1", 443),
        tcp("10.1.1.1", 443, "192.0.2.1", 40000),
        tcp("10.1.1.1", 443, "192.0.2.1", 443)
            .matches(["two"])
            .to(["a"]),
        tcp("10.1.1.1", 1, "10.2.2.2", 2)
            .matches(["overlap"])
            .to(["b"]),
        tcp("172.16.1.1", 1, "10.2.2.2", 2)
            .matches(["overlap"])
            .to(["b"]),
        tcp("10.2.2.2", 1, "172.16.1.1", 2)
            .matches(["overlap"])
            .to(["b"]),
        tcp("172.16.1.1", 1, "172.16.2.2", 2),
        tcp("1.1.1.1", 53, "2.2.2.2", 5353)
            .matches(["half"])
            .to(["six"]),
        tcp("1.1.1.1", 5353, "2.2.2.2", 53)
            .matches(["half"])
            .to(["six"]),
        tcp("1.1.1.1", 53, "2.2.2.2", 53)
            .matches(["half"])
            .to(["six"]),
        tcp("10.1.1.1", 53, "10.2.2.2", 53)
            .matches(["half", "overlap"])
            .to(["b", "six"]),
        tcp("1.1.1.1", 54, "2.2.2.2", 52),
        case(
            "symmetric filter",
            &frame().ip("1.1.1.1", "2.2.2.2").raw(97, [0; 20]),
        )
        .matches(["same"])
        .to(["a"]),
        case(
            "one way",
            &frame().ip("192.0.2.1", "2.2.2.2").raw(96, [0; 20]),
        )
        .matches(["once"])
        .to(["a"]),
        case(
            "the other way",
            &frame().ip("2.2.2.2", "192.0.2.1").raw(96, [0; 20]),
        ),
    ];
    run(edge, attach, "bidirectional", &config, &cases)
}

pub(crate) fn excludes(edge: &mut Edge, attach: Attach) -> Result<()> {
    let config = config(
        &[
            filter("udp", "protocol = [\"udp\"]", "\"a\", \"b\""),
            filter(
                "dns",
                "protocol = [\"udp\"]\ndestination_port = [53]",
                "\"b\", \"six\"",
            ),
            exclude("quiet", "source = [\"10.0.0.5\"]"),
            exclude(
                "not-b",
                "destination_port = [\"50-59\"]\nprotocol = [\"udp\"]\nto = [\"b\"]",
            ),
            exclude(
                "six-two-ways",
                "bidirectional = true\nsource = [\"10.0.0.9\"]\nto = [\"six\"]",
            ),
            exclude("nothing-mirrored", "protocol = [\"tcp\"]"),
        ]
        .concat(),
    );
    let udp = |from: &str, to: &str, port: u16| {
        case(
            format!("{from} > {to}:{port}"),
            &frame().ip(from, to).udp(1, port),
        )
    };
    let cases = [
        udp("10.0.0.1", "10.0.0.2", 1)
            .matches(["udp"])
            .to(["a", "b"]),
        udp("10.0.0.1", "10.0.0.2", 53)
            .matches(["udp", "dns", "not-b"])
            .to(["a", "six"]),
        udp("10.0.0.1", "10.0.0.2", 50)
            .matches(["udp", "not-b"])
            .to(["a"]),
        udp("10.0.0.1", "10.0.0.2", 60)
            .matches(["udp"])
            .to(["a", "b"]),
        udp("10.0.0.5", "10.0.0.2", 1).matches(["udp", "quiet"]),
        udp("10.0.0.5", "10.0.0.2", 53).matches(["udp", "dns", "not-b", "quiet"]),
        udp("10.0.0.2", "10.0.0.5", 53)
            .matches(["udp", "dns", "not-b"])
            .to(["a", "six"]),
        udp("10.0.0.9", "10.0.0.2", 53)
            .matches(["udp", "dns", "not-b", "six-two-ways"])
            .to(["a"]),
        udp("10.0.0.2", "10.0.0.9", 53)
            .matches(["udp", "dns", "not-b", "six-two-ways"])
            .to(["a"]),
        udp("10.0.0.2", "10.0.0.9", 9)
            .matches(["udp", "six-two-ways"])
            .to(["a", "b"]),
        case(
            "only an exclude",
            &frame().ip("10.0.0.1", "10.0.0.2").tcp(1, 2),
        )
        .matches(["nothing-mirrored"]),
        case("nobody", &frame().ip("10.0.0.1", "10.0.0.2").icmp(8, 0)),
    ];
    run(edge, attach, "excludes", &config, &cases)
}

pub(crate) fn several_endpoints(edge: &mut Edge, attach: Attach) -> Result<()> {
    let config = config(
        &[
            filter(
                "four",
                "destination_port = [4]",
                "\"a\", \"b\", \"six\", \"odd\"",
            ),
            filter("two", "destination_port = [2]", "\"b\", \"odd\""),
            filter("first", "destination_port = [7]", "\"a\""),
            filter("again", "destination_port = [\"7-8\"]", "\"a\""),
            filter(
                "wider",
                "destination_port = [\"6-9\"]\nprotocol = [\"udp\"]",
                "\"a\", \"six\"",
            ),
        ]
        .concat(),
    );
    let mut cases = Vec::new();
    for addresses in [V4, V6] {
        let udp = |port: u16, bytes: usize| {
            case(
                format!("UDP to {port}"),
                &ip(addresses).udp(1, port).payload(vec![9; bytes]),
            )
        };
        cases.extend([
            udp(4, 100).matches(["four"]).to(["a", "b", "six", "odd"]),
            udp(4, 1400).matches(["four"]).to(["a", "b", "six", "odd"]),
            udp(2, 0).matches(["two"]).to(["b", "odd"]),
            udp(7, 5)
                .matches(["first", "again", "wider"])
                .to(["a", "six"]),
            udp(8, 5).matches(["again", "wider"]).to(["a", "six"]),
            udp(6, 5).matches(["wider"]).to(["a", "six"]),
            case("TCP to 7", &ip(addresses).tcp(1, 7))
                .matches(["first", "again"])
                .to(["a"]),
        ]);
    }
    run(edge, attach, "several endpoints", &config, &cases)
}

pub(crate) fn scopes(edge: &mut Edge, attach: Attach) -> Result<()> {
    let interfaces = "[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth2\"\ndirection = \"egress\"\n[[interface]]\nname = \"eth0?\"\n";
    let config = with_interfaces(
        interfaces,
        &[
            filter("everywhere", "protocol = [91]", "\"a\""),
            filter("in", "protocol = [92]\ndirection = \"ingress\"", "\"a\""),
            filter("out", "protocol = [93]\ndirection = \"egress\"", "\"a\""),
            filter("eth0", "protocol = [94]\ninterface = [\"eth0\"]", "\"a\""),
            filter("eth2", "protocol = [95]\ninterface = [\"eth2\"]", "\"a\""),
            filter(
                "glob",
                "protocol = [96]\ninterface = [\"eth[2-9]\", \"eth0?\"]",
                "\"a\"",
            ),
            filter(
                "eth0-out",
                "protocol = [97]\ninterface = [\"e*0\"]\ndirection = \"egress\"",
                "\"a\"",
            ),
            exclude("not-eth2", "protocol = [98]\ninterface = [\"eth2\"]"),
            filter("but-eth2", "protocol = [98]", "\"a\""),
        ]
        .concat(),
    );
    let (there, back) = ([Direction::Ingress], [Direction::Egress]);
    // a frame from the client is received by eth0 and sent by eth2; one from the server is received
    // by eth2, where nobody looks, and sent by eth0; the marker that ends each case passes the same
    // hooks
    let raw = |protocol, ways: &[Direction]| {
        let one = case(
            format!("protocol {protocol}"),
            &ip(V4).raw(protocol, [5; 40]),
        )
        .ways(ways);
        if ways == [Direction::Ingress] {
            one.also("eth2 egress not-ip", 1)
        } else {
            one
        }
    };
    let cases = [
        raw(91, &there).matches(["everywhere"]).to(["a"]).times(2),
        raw(91, &back).matches(["everywhere"]).to(["a"]),
        raw(92, &there).matches(["in"]).to(["a"]),
        raw(92, &back),
        raw(93, &there).matches(["out"]).to(["a"]),
        raw(93, &back).matches(["out"]).to(["a"]),
        raw(94, &there).matches(["eth0"]).to(["a"]),
        raw(94, &back).matches(["eth0"]).to(["a"]),
        raw(95, &there).matches(["eth2"]).to(["a"]),
        raw(95, &back),
        raw(96, &there).matches(["glob"]).to(["a"]),
        raw(96, &back),
        raw(97, &there),
        raw(97, &back).matches(["eth0-out"]).to(["a"]),
        raw(98, &back).matches(["but-eth2"]).to(["a"]),
        raw(98, &there)
            .also("filter but-eth2 packets", 2)
            .also("filter but-eth2 bytes", 120)
            .also("filter not-eth2 packets", 1)
            .also("filter not-eth2 bytes", 60)
            .also("endpoint a packets", 1)
            .also("endpoint a bytes", 60)
            .copies("a", 1),
    ];
    run(edge, attach, "scopes", &config, &cases)?;

    // the output interface is looked at too: it sees the copies, and knows them
    let config = with_interfaces(
        "[[interface]]\nname = \"eth*\"\n",
        &filter("all", "protocol = [91]", "\"a\", \"six\""),
    );
    let cases = [
        raw(91, &there)
            .also("eth1 egress not-ip", 1)
            .also("eth1 egress copy", 4)
            .matches(["all"])
            .to(["a", "six"])
            .times(2),
        raw(91, &back)
            .also("eth2 ingress not-ip", 1)
            .also("eth1 egress not-ip", 1)
            .also("eth1 egress copy", 4)
            .matches(["all"])
            .to(["a", "six"])
            .times(2),
    ];
    run(edge, attach, "interfaces by glob", &config, &cases)
}

pub(crate) fn switches(edge: &mut Edge, attach: Attach) -> Result<()> {
    let tcp = || ip(V4).tcp(1, 443);
    let filters = [
        filter("off", "enabled = false\nprotocol = [\"tcp\"]", "\"a\""),
        filter("on", "enabled = true\ndestination_port = [443]", "\"b\""),
        exclude("off-too", "enabled = false\ndestination_port = [443]"),
    ]
    .concat();
    run(
        edge,
        attach,
        "a filter switched off",
        &config(&filters),
        &[case("TCP", &tcp()).matches(["on"]).to(["b"])],
    )?;
    let off = format!("enabled = false\n{}", config(&filters));
    run(
        edge,
        attach,
        "all switched off",
        &off,
        &[case("TCP", &tcp()), case("UDP", &ip(V6).udp(1, 443))],
    )?;
    let none = config("");
    run(edge, attach, "no filter", &none, &[case("TCP", &tcp())])
}

/// A change elsewhere in the file neither loses nor repeats a count. What tells a packet that
/// matches both ways from two packets is a number that begins anew with each set of maps.
pub(crate) fn counters_across_a_change(edge: &mut Edge, attach: Attach) -> Result<()> {
    let filters = filter(
        "both",
        "bidirectional = true\nsource = [\"10.0.0.0/8\"]\nprotocol = [\"tcp\"]",
        "\"a\"",
    );
    let more = [filters.clone(), filter("more", "protocol = [89]", "\"a\"")].concat();
    let one = |what| {
        let packet = frame().ip("10.0.0.1", "10.0.0.2").tcp(1, 2);
        case(what, &packet)
            .matches(["both"])
            .to(["a"])
            .ways(&[Direction::Ingress])
    };
    run(
        edge,
        attach,
        "counters",
        &config(&filters),
        &[one("first packet of the first maps")],
    )?;
    let cases = [
        one("first packet of the second maps"),
        one("second packet of the second maps"),
    ];
    run(
        edge,
        attach,
        "counters across a change",
        &config(&more),
        &cases,
    )
}
