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
        writeln!(text, "[[filter]]\nname = \"f{index}\"\nto = [\"{to}\"]\n{}", filter(index)).unwrap();
    }
    text
}

/// 80 % TCP and 20 % UDP, up to two source networks, destination networks and destination port ranges each; the
/// networks lie in 10.0.0.0/8, or in fd00::/8 for half of the filters.
pub fn mixed(random: &mut Random, count: usize) -> String {
    text(count, |_| {
        let mut fields = format!("protocol = [\"{}\"]\n", if random.percent(80) { "tcp" } else { "udp" });
        let v6 = random.percent(50);
        let network = |random: &mut Random| {
            if v6 {
                let length = *random.pick(&[48, 56, 64, 128]);
                let bits = 0xfd << 120 | random.wide() >> 8;
                format!("\"{}/{length}\"", Ipv6Addr::from_bits(bits & !0 << (128 - length)))
            } else {
                let length = *random.pick(&[16, 24, 24, 32]);
                let bits = 10 << 24 | random.bits() as u32 >> 8;
                format!("\"{}/{length}\"", Ipv4Addr::from_bits(bits & !0 << (32 - length)))
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
        let shape = 1 + index % 31;
        let network = |random: &mut Random| {
            let length = random.within(8, 32);
            Ipv4Addr::from_bits((10 << 24 | random.bits() as u32 >> 8) & !0 << (32 - length)).to_string()
                + &format!("/{length}")
        };
        if shape & 1 != 0 {
            fields += if random.percent(50) { "protocol = [\"tcp\"]\n" } else { "protocol = [\"udp\", \"sctp\"]\n" };
        }
        for (bit, key) in [(1, "source_port"), (2, "destination_port")] {
            if shape >> bit & 1 != 0 {
                writeln!(fields, "{key} = [{}]", random.below(65_536)).unwrap();
            }
        }
        for (bit, key) in [(3, "source"), (4, "destination")] {
            if shape >> bit & 1 != 0 {
                writeln!(fields, "{key} = [\"{}\"]", network(random)).unwrap();
            }
        }
        fields
    })
}

/// Each filter's networks hold those of others: every length of prefix around one address, with every length around
/// another.
pub fn nested(random: &mut Random, count: usize) -> String {
    let around = [random.wide(), random.wide()];
    let network = |around: u128, length: usize| {
        let mask = if length == 0 { 0 } else { !0 << (128 - length) };
        format!("[\"{}/{length}\"]", Ipv6Addr::from_bits(around & mask))
    };
    text(count, |index| {
        let lengths = [index % 129, index / 129 % 129];
        format!("source = {}\ndestination = {}", network(around[0], lengths[0]), network(around[1], lengths[1]))
    })
}

/// One destination port each.
pub fn ports(_: &mut Random, count: usize) -> String {
    text(count, |index| format!("protocol = [\"tcp\"]\ndestination_port = [{}]", 4 * index % 65_536))
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
