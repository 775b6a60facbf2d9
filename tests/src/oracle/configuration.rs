//! Random files, as text, and a network for them. All that the classification bears on varies;
//! endpoints are out of reach, so that each copy that is wanted shows as a drop.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use traffic_mirror::network::{Link, LinkKind, Network};

use super::random::Random;

/// Interfaces of every kind, and no way to any endpoint.
pub fn network() -> Network {
    let ethernet = ["eth0", "eth1", "eth10", "wan0", "lan0"].map(|name| (name, LinkKind::Ethernet));
    // test runs take nothing but Ethernet frames
    let others = [
        ("lo", LinkKind::Loopback),
        ("mon0", LinkKind::Other(libc::ARPHRD_IEEE80211_RADIOTAP)),
    ];
    // the order of the indices is not that of the names, and with the first multiplier one too many
    // would be in a bucket
    let indices = [1239, 629, 1616, 1006, 19, 700, 812];
    let links = ethernet
        .into_iter()
        .chain(others)
        .zip(indices)
        .enumerate()
        .map(|(position, ((name, kind), index))| {
            let mac = (kind == LinkKind::Ethernet).then_some([2, 0, 0, 0, 0, position as u8]);
            (
                index,
                Link {
                    mac,
                    kind,
                    ..Link::ethernet(index, name)
                },
            )
        });
    Network {
        links: links.collect(),
        ..Network::default()
    }
}

/// A file with so many filters.
pub fn random(random: &mut Random, filters: usize) -> String {
    let mut text = String::new();
    if random.percent(3) {
        text += "enabled = false\n";
    }
    if random.percent(20) {
        text += "unparsed = \"skip\"\n";
    }
    let interfaces = interfaces(random);
    for Listed { name, direction } in &interfaces {
        writeln!(
            text,
            "[[interface]]\nname = {name:?}\ndirection = {direction:?}"
        )
        .unwrap();
    }
    let endpoints = if random.percent(5) {
        64
    } else {
        random.within(1, 6)
    };
    for endpoint in 0..endpoints {
        writeln!(
            text,
            "[endpoint.e{endpoint}]\naddress = \"192.0.2.{}\"",
            endpoint + 1
        )
        .unwrap();
    }
    let ground = Ground::random(random);
    for index in 0..filters {
        filter(&mut text, random, index, &interfaces, endpoints, &ground);
    }
    text
}

/// An `[[interface]]`.
struct Listed {
    name: &'static str,
    direction: &'static str,
}

fn interfaces(random: &mut Random) -> Vec<Listed> {
    const DIRECTIONS: [&str; 4] = ["ingress", "egress", "both", "both"];
    let names = [
        "eth0", "eth*", "eth?", "eth[!1]", "wan0", "*an0", "lo", "mon0", "gone0",
    ];
    let mut listed = Vec::new();
    for name in names {
        if random.percent(25) {
            listed.push(Listed {
                name,
                direction: random.pick::<&str>(&DIRECTIONS),
            });
        }
    }
    if listed.is_empty() {
        listed.push(Listed {
            name: "eth0",
            direction: "both",
        });
    }
    listed
}

/// Addresses and ports that the filters of a file lie around, so that they nest and overlap.
struct Ground {
    v4: Vec<u32>,
    v6: Vec<u128>,
    ports: Vec<u16>,
}

impl Ground {
    fn random(random: &mut Random) -> Self {
        Self {
            v4: (0..3).map(|_| random.bits() as u32).collect(),
            v6: (0..3).map(|_| random.wide()).collect(),
            ports: [0, 1, 65_535]
                .into_iter()
                .chain((0..4).map(|_| random.bits() as u16))
                .collect(),
        }
    }

    /// A network that shares its first bits with others, of any length.
    fn network(&self, random: &mut Random, v6: bool) -> String {
        let (length, bits) = if v6 {
            (random.below(129) as u32, *random.pick(&self.v6))
        } else {
            (
                random.below(33) as u32,
                u128::from(*random.pick(&self.v4)) << 96,
            )
        };
        let differs_after = random.below(128) as u32;
        let bits = if random.percent(60) {
            bits ^ random.wide() >> differs_after
        } else {
            bits
        };
        let bits = if length == 0 {
            0
        } else {
            bits & !0 << (128 - length)
        };
        if v6 {
            // IPv4 in IPv6 notation is refused
            let bits = if length >= 96 && bits >> 32 == 0xffff {
                bits ^ 1 << 127
            } else {
                bits
            };
            let address = Ipv6Addr::from_bits(bits);
            if length == 128 {
                format!("\"{address}\"")
            } else {
                format!("\"{address}/{length}\"")
            }
        } else {
            let address = Ipv4Addr::from_bits((bits >> 96) as u32);
            if length == 32 {
                format!("\"{address}\"")
            } else {
                format!("\"{address}/{length}\"")
            }
        }
    }

    fn ports(&self, random: &mut Random) -> String {
        let near = random
            .pick(&self.ports)
            .wrapping_add(random.below(5) as u16)
            .wrapping_sub(2);
        let first = if random.percent(70) {
            near
        } else {
            random.bits() as u16
        };
        if random.percent(50) {
            return first.to_string();
        }
        let width = 1u64 << random.below(17);
        let last = first.saturating_add(random.below(width).min(65_535) as u16);
        format!("\"{first}-{last}\"")
    }
}

fn filter(
    text: &mut String,
    random: &mut Random,
    index: usize,
    interfaces: &[Listed],
    endpoints: u64,
    ground: &Ground,
) {
    writeln!(text, "[[filter]]\nname = \"f{index}\"").unwrap();
    let exclude = random.percent(20);
    if exclude {
        text.push_str("action = \"exclude\"\n");
    }
    if random.percent(8) {
        text.push_str("enabled = false\n");
    }
    if random.percent(35) {
        text.push_str("bidirectional = true\n");
    }
    if !exclude || random.percent(70) {
        let to = several(random, 3, |random| {
            format!("\"e{}\"", random.below(endpoints))
        });
        list(text, "to", to);
    }
    fields(text, random, ground);
    let listed = random.pick(interfaces);
    let mut narrowed = false;
    if random.percent(25) {
        // the name of an entry, or of one interface that it covers
        let name = match listed.name {
            "eth*" | "eth?" if random.percent(50) => "eth1",
            "eth[!1]" if random.percent(50) => "eth0",
            name => name,
        };
        list(text, "interface", vec![format!("{name:?}")]);
        narrowed = true;
    }
    if random.percent(25) {
        let either = ["ingress", "egress"];
        let all = !narrowed && interfaces.iter().any(|listed| listed.direction == "both");
        let direction = if all || listed.direction == "both" {
            *random.pick(&either)
        } else {
            listed.direction
        };
        writeln!(text, "direction = {direction:?}").unwrap();
    }
}

/// Protocols, ports and addresses that can hold together.
fn fields(text: &mut String, random: &mut Random, ground: &Ground) {
    const PORTED: [u8; 5] = [6, 17, 33, 132, 136];
    // the family that every list has something of
    let v6 = random.percent(50);
    let mixed = random.percent(25);
    let given = |random: &mut Random| random.percent(45);
    let ported = [given(random), given(random)];
    if given(random) {
        let mut protocols = several(random, 3, |random| match random.below(4) {
            0 => random.bits() as u8,
            1 => {
                if v6 {
                    58
                } else {
                    1
                }
            }
            _ => *random.pick(&PORTED),
        });
        if ported.contains(&true) && !protocols.iter().any(|protocol| PORTED.contains(protocol)) {
            protocols.push(*random.pick(&PORTED));
        }
        // ICMP and IGMP are IPv4's, ICMPv6 is IPv6's
        if protocols.iter().all(|protocol| {
            if v6 {
                [1, 2].contains(protocol)
            } else {
                *protocol == 58
            }
        }) {
            protocols.push(17);
        }
        let names = protocols.iter().map(|protocol| match protocol {
            6 => "\"tcp\"".to_owned(),
            58 => "\"icmpv6\"".to_owned(),
            132 => "\"132\"".to_owned(),
            number => number.to_string(),
        });
        list(text, "protocol", names.collect());
    }
    for (key, given) in ["source_port", "destination_port"].into_iter().zip(ported) {
        if given {
            let ports = several(random, 4, |random| ground.ports(random));
            list(text, key, ports);
        }
    }
    if random.percent(20) {
        let vlans = several(random, 3, |random| match random.below(4) {
            0 => "\"none\"".to_owned(),
            1 => random.within(1, 4094).to_string(),
            _ => {
                let first = random.within(1, 4094);
                format!("\"{first}-{}\"", random.within(first, 4094))
            }
        });
        list(text, "vlan", vlans);
    }
    for key in ["source", "destination"] {
        if given(random) {
            let mut networks = vec![ground.network(random, v6)];
            networks.extend(several(random, 3, |random| {
                let v6 = v6 ^ (mixed && random.percent(50));
                ground.network(random, v6)
            }));
            list(text, key, networks);
        }
    }
}

/// From one to `most` different ones.
fn several<T: PartialEq>(
    random: &mut Random,
    most: u64,
    mut one: impl FnMut(&mut Random) -> T,
) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for _ in 0..random.within(1, most) {
        let one = one(random);
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

fn list(text: &mut String, key: &str, values: Vec<String>) {
    writeln!(text, "{key} = [{}]", values.join(", ")).unwrap();
}
