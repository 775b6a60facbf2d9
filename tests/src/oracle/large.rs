//! Files of any size whose filters are alike: for the limits, and for measurements.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::random::Random;

const HEAD: &str = "[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"192.0.2.1\"\n\
                    [endpoint.log]\naddress = \"192.0.2.2\"\n";

fn text(count: usize, mut filter: impl FnMut(usize) -> String) -> String {
    let mut text = HEAD.to_owned();
    for index in 0..count {
        let to = if index % 3 == 0 { "log" } else { "ids" };
        writeln!(
            text,
            "[[filter]]\nname = \"f{index}\"\nto = [\"{to}\"]\n{}",
            filter(index)
        )
        .unwrap();
    }
    text
}

/// 80 % TCP and 20 % UDP, up to two source networks, destination networks and destination port
/// ranges each; the networks lie in 10.0.0.0/8, or in fd00::/8 for half of the filters.
pub fn mixed(random: &mut Random, count: usize) -> String {
    text(count, |_| {
        let mut fields = format!(
            "protocol = [\"{}\"]\n",
            if random.percent(80) { "tcp" } else { "udp" }
        );
        let v6 = random.percent(50);
        let network = |random: &mut Random| {
            if v6 {
                let length = *random.pick(&[48, 56, 64, 128]);
                let bits = 0xfd << 120 | random.wide() >> 8;
                format!(
                    "\"{}/{length}\"",
                    Ipv6Addr::from_bits(bits & !0 << (128 - length))
                )
            } else {
                let length = *random.pick(&[16, 24, 24, 32]);
                let bits = 10 << 24 | random.bits() as u32 >> 8;
                format!(
                    "\"{}/{length}\"",
                    Ipv4Addr::from_bits(bits & !0 << (32 - length))
                )
            }
        };
        let range = |random: &mut Random| {
            let first = random.below(60_000);
            format!("\"{first}-{}\"", first + random.below(50))
        };
        let mut given = false;
        for (key, value) in [
            ("source", &network as &dyn Fn(&mut Random) -> String),
            ("destination", &network),
            ("destination_port", &range),
        ] {
            let values: Vec<String> = (0..random.below(3)).map(|_| value(random)).collect();
            if !values.is_empty() {
                writeln!(fields, "{key} = [{}]", values.join(", ")).unwrap();
                given = true;
            }
        }
        if !given {
            fields += "destination_port = [8443]\n";
        }
        fields
    })
}

/// As [`mixed`], with all combinations of fields, all matching both ways round.
pub fn bidirectional(random: &mut Random, count: usize) -> String {
    text(count, |index| {
        let mut fields = "bidirectional = true\n".to_owned();
        let field_set = 1 + index % 31;
        let network = |random: &mut Random| {
            let length = random.within(8, 32);
            Ipv4Addr::from_bits((10 << 24 | random.bits() as u32 >> 8) & !0 << (32 - length))
                .to_string()
                + &format!("/{length}")
        };
        if field_set & 1 != 0 {
            fields += if random.percent(50) {
                "protocol = [\"tcp\"]\n"
            } else {
                "protocol = [\"udp\", \"sctp\"]\n"
            };
        }
        for (bit, key) in [(1, "source_port"), (2, "destination_port")] {
            if field_set >> bit & 1 != 0 {
                writeln!(fields, "{key} = [{}]", random.below(65_536)).unwrap();
            }
        }
        for (bit, key) in [(3, "source"), (4, "destination")] {
            if field_set >> bit & 1 != 0 {
                writeln!(fields, "{key} = [\"{}\"]", network(random)).unwrap();
            }
        }
        fields
    })
}

/// Each filter's networks hold those of others: every length of prefix around one address, with
/// every length around another.
pub fn nested(random: &mut Random, count: usize) -> String {
    let around = [random.wide(), random.wide()];
    let network = |around: u128, length: usize| {
        let mask = if length == 0 { 0 } else { !0 << (128 - length) };
        format!("[\"{}/{length}\"]", Ipv6Addr::from_bits(around & mask))
    };
    text(count, |index| {
        let lengths = [index % 129, index / 129 % 129];
        format!(
            "source = {}\ndestination = {}",
            network(around[0], lengths[0]),
            network(around[1], lengths[1])
        )
    })
}

/// One destination port each.
pub fn ports(_: &mut Random, count: usize) -> String {
    text(count, |index| {
        format!(
            "protocol = [\"tcp\"]\ndestination_port = [{}]",
            4 * index % 65_536
        )
    })
}

/// One IPv6 address each.
pub fn hosts(random: &mut Random, count: usize) -> String {
    let site = 0x2001_0db8 << 96;
    text(count, |_| {
        // some far apart, some beside each other
        let bits = site | random.wide() >> random.pick(&[32, 64, 112]);
        format!("source = [\"{}\"]", Ipv6Addr::from_bits(bits))
    })
}

fn address4(random: &mut Random) -> u32 {
    (1 << 24) + random.bits() as u32 % (223 << 24)
}

/// One host and three ports each, both ways round.
pub fn hosts_and_ports(random: &mut Random, count: usize) -> String {
    text(count, |_| {
        let host = Ipv4Addr::from_bits(address4(random));
        let ports = [0; 3].map(|_| 1 + random.below(65_535));
        format!(
            "protocol = [\"tcp\"]\nsource = [\"{host}\"]\ndestination_port = {ports:?}\nbidirectional = true"
        )
    })
}

/// As files mostly are: a /24 network each, ports that many ask for, the ranges that they know, or
/// any; both ways round.
pub fn typical(random: &mut Random, count: usize) -> String {
    const PORTS: [u16; 11] = [80, 443, 8080, 8443, 22, 25, 53, 3306, 5432, 6379, 9200];
    const RANGES: [&str; 10] = [
        "1024-65535",
        "32768-60999",
        "8000-8100",
        "30000-32767",
        "5000-5100",
        "1-1023",
        "49152-65535",
        "10000-20000",
        "6000-6063",
        "27015-27050",
    ];
    text(count, |_| {
        let network = Ipv4Addr::from_bits(address4(random) & !0xff);
        let port = match random.below(3) {
            0 => random.pick(&PORTS).to_string(),
            1 => format!("\"{}\"", random.pick(&RANGES)),
            _ => (1 + random.below(65_535)).to_string(),
        };
        format!(
            "protocol = [\"tcp\"]\nsource = [\"{network}/24\"]\ndestination_port = [{port}]\nbidirectional = true"
        )
    })
}

/// A list of a hundred networks each.
pub fn lists(random: &mut Random, count: usize) -> String {
    text(count, |_| {
        let networks =
            (0..100).map(|_| format!("\"{}/24\"", Ipv4Addr::from_bits(address4(random) & !0xff)));
        format!("source = [{}]", networks.collect::<Vec<_>>().join(", "))
    })
}

/// From below the middle to above it.
fn wide_range(random: &mut Random) -> (u64, u64) {
    (random.within(1, 30_000), random.within(30_001, 65_535))
}

/// One wide range of destination ports each.
pub fn wide_ranges(random: &mut Random, count: usize) -> String {
    text(count, |_| {
        let (first, last) = wide_range(random);
        format!("protocol = [\"tcp\"]\ndestination_port = [\"{first}-{last}\"]")
    })
}

/// A wide range of destination ports and a port each, both ways round: each range overlaps with
/// each other one.
pub fn worst_ranges(random: &mut Random, count: usize) -> String {
    text(count, |_| {
        let ((first, last), port) = (wide_range(random), random.within(1, 65_535));
        format!(
            "protocol = [\"tcp\"]\ndestination_port = [\"{first}-{last}\", {port}]\nbidirectional = true"
        )
    })
}

/// Wide ranges of both ports, so many of each, both ways round.
pub fn ranges_of_both(random: &mut Random, count: usize, ranges: u64) -> String {
    text(count, |_| {
        let mut list = || {
            let width = 65_536 / ranges;
            let range = |random: &mut Random, number: u64| {
                let first = number * width;
                let (begin, end) = (
                    random.within(0, width / 2 - 2),
                    random.within(width / 2, width - 2),
                );
                format!("\"{}-{}\"", first + begin, first + end)
            };
            (0..ranges)
                .map(|number| range(random, number))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!(
            "source_port = [{}]\ndestination_port = [{}]\nbidirectional = true",
            list(),
            list()
        )
    })
}

/// A network of a large part of all addresses, and twenty hosts, each, both ways round.
pub fn wide_above_hosts(random: &mut Random, count: usize) -> String {
    text(count, |_| {
        let length = random.within(1, 8);
        let wide = Ipv4Addr::from_bits(random.bits() as u32 & !0 << (32 - length));
        let hosts = (0..20).map(|_| format!("\"{}\"", Ipv4Addr::from_bits(address4(random))));
        let networks = [format!("\"{wide}/{length}\"")]
            .into_iter()
            .chain(hosts)
            .collect::<Vec<_>>()
            .join(", ");
        format!("source = [{networks}]\nbidirectional = true")
    })
}

/// So many IPv6 hosts each, far apart: each has nodes of its own as long as there are others near
/// by.
pub fn hosts6(random: &mut Random, count: usize, hosts: usize) -> String {
    text(count, |_| {
        let hosts = (0..hosts).map(|_| {
            format!(
                "\"{}\"",
                Ipv6Addr::from_bits(0x2 << 124 | random.wide() >> 4)
            )
        });
        format!(
            "source = [{}]\nbidirectional = true",
            hosts.collect::<Vec<_>>().join(", ")
        )
    })
}
