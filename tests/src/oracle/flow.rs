//! Random flows for a file: about half of them match something, many by a hair or miss by one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use traffic_mirror::desired::{Desired, Filter};

use super::naive::{Flow, Unknown};
use super::random::Random;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const PORTED: [u8; 5] = [TCP, UDP, 33, 132, 136];

/// A flow that has something to do with the filters of a file.
pub fn flow(random: &mut Random, desired: &Desired) -> Flow {
    if desired.filters.is_empty() || random.percent(5) {
        return anything(random);
    }
    let filter = random.pick(&desired.filters);
    let mut flow = matching(random, desired, filter);
    if random.percent(40) {
        spoil(random, filter, &mut flow);
    }
    if random.percent(if filter.bidirectional { 50 } else { 10 }) {
        flow.swapped()
    } else {
        flow
    }
}

fn anything(random: &mut Random) -> Flow {
    let v6 = random.percent(50);
    let protocol = protocol(random, &[]);
    let ports = ports(random, protocol, [&[], &[]], &[]);
    let vlan = vlan(random, &[]);
    Flow {
        source: address(random, v6),
        destination: address(random, v6),
        protocol,
        ports,
        vlan,
        unknown: Unknown::Nothing,
    }
}

/// Fulfils all that a filter asks of addresses, ports and protocol, often at the border.
fn matching(random: &mut Random, desired: &Desired, filter: &Filter) -> Flow {
    let has =
        |networks: &[IpNet], v6| networks.is_empty() || networks.iter().any(|n| is_v6(n) == v6);
    let can = |v6| has(&filter.source, v6) && has(&filter.destination, v6);
    let v6 = if can(true) && can(false) {
        random.percent(50)
    } else {
        can(true)
    };
    let mut end = |wanted: &[IpNet]| {
        let candidates: Vec<&IpNet> = wanted.iter().filter(|n| is_v6(n) == v6).collect();
        match candidates[..] {
            [] => elsewhere(random, desired, v6),
            _ => {
                let network = random.pick(&candidates);
                inside(random, network)
            }
        }
    };
    let (source, destination) = (end(&filter.source), end(&filter.destination));
    let wants_ports = !(filter.source_port.is_empty() && filter.destination_port.is_empty());
    let protocol = match protocol(random, &filter.protocol) {
        _ if wants_ports && filter.protocol.is_empty() => *random.pick(&PORTED),
        protocol if wants_ports && !PORTED.contains(&protocol) => {
            // one of the filter's has ports, else it would be refused
            *filter
                .protocol
                .iter()
                .find(|p| PORTED.contains(p))
                .unwrap_or(&protocol)
        }
        protocol => protocol,
    };
    let ports = ports(
        random,
        protocol,
        [&filter.source_port, &filter.destination_port],
        &desired.filters,
    );
    let vlan = vlan(random, &filter.vlan);
    Flow {
        source,
        destination,
        protocol,
        ports,
        vlan,
        unknown: Unknown::Nothing,
    }
}

/// Moves one value just beyond what the filter takes.
fn spoil(random: &mut Random, filter: &Filter, flow: &mut Flow) {
    match random.below(6) {
        5 => flow.vlan = vlan(random, &[]),
        0 => flow.protocol = random.bits() as u8,
        1 => flow.source = beside_one(random, &filter.source, flow.source),
        2 => flow.destination = beside_one(random, &filter.destination, flow.destination),
        _ => {
            let mut beyond = |wanted: &[RangeInclusive<u16>], port: u16| match wanted {
                [] => port,
                _ => {
                    let range = random.pick(wanted);
                    if random.percent(50) {
                        range.start().wrapping_sub(1)
                    } else {
                        range.end().wrapping_add(1)
                    }
                }
            };
            if let Some((source, destination)) = &mut flow.ports {
                let moved = [
                    beyond(&filter.source_port, *source),
                    beyond(&filter.destination_port, *destination),
                ];
                if random.percent(50) {
                    *source = moved[0];
                } else {
                    *destination = moved[1];
                }
            }
        }
    }
    if !PORTED.contains(&flow.protocol) {
        flow.ports = None;
    } else if flow.ports.is_none() {
        flow.ports = Some((random.bits() as u16, random.bits() as u16));
    }
}

/// Most packets have no tag.
fn vlan(random: &mut Random, wanted: &[RangeInclusive<u16>]) -> u16 {
    match wanted {
        [] if random.percent(60) => 0,
        [] => random.within(1, 4094) as u16,
        _ => of_range(random, wanted),
    }
}

fn protocol(random: &mut Random, wanted: &[u8]) -> u8 {
    match wanted {
        [] if random.percent(70) => *random.pick(&[TCP, TCP, UDP, 1, 58]),
        [] => random.bits() as u8,
        _ => *random.pick(wanted),
    }
}

fn ports(
    random: &mut Random,
    protocol: u8,
    wanted: [&[RangeInclusive<u16>]; 2],
    others: &[Arc<Filter>],
) -> Option<(u16, u16)> {
    let mut port = |wanted: &[RangeInclusive<u16>], side: usize| {
        let foreign = (!others.is_empty()).then(|| random.pick(others));
        let foreign = foreign.map(|filter| [&filter.source_port, &filter.destination_port][side]);
        match (wanted, foreign) {
            ([], Some(foreign)) if !foreign.is_empty() && random.percent(50) => {
                of_range(random, foreign)
            }
            ([], _) if random.percent(20) => *random.pick(&[0, 1, 65_534, 65_535]),
            ([], _) => random.bits() as u16,
            _ => of_range(random, wanted),
        }
    };
    PORTED
        .contains(&protocol)
        .then(|| (port(wanted[0], 0), port(wanted[1], 1)))
}

fn of_range(random: &mut Random, ranges: &[RangeInclusive<u16>]) -> u16 {
    let (first, last) = random.pick(ranges).clone().into_inner();
    match random.below(4) {
        0 => first,
        1 => last,
        _ => random.within(first.into(), last.into()) as u16,
    }
}

const fn is_v6(network: &IpNet) -> bool {
    matches!(network, IpNet::V6(_))
}

fn address(random: &mut Random, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(random.wide()).into()
    } else {
        Ipv4Addr::from_bits(random.bits() as u32).into()
    }
}

/// An address where any would do: often one that another filter asks for.
fn elsewhere(random: &mut Random, desired: &Desired, v6: bool) -> IpAddr {
    let filter = random.pick(&desired.filters);
    let networks: Vec<&IpNet> = filter
        .source
        .iter()
        .chain(&filter.destination)
        .filter(|n| is_v6(n) == v6)
        .collect();
    if networks.is_empty() || random.percent(40) {
        return address(random, v6);
    }
    let network = random.pick(&networks);
    inside(random, network)
}

/// The first, the last or any address of a network.
fn inside(random: &mut Random, network: &IpNet) -> IpAddr {
    let host = match random.below(4) {
        0 => 0,
        1 => u128::MAX,
        _ => random.wide(),
    };
    match network {
        IpNet::V4(v4) => {
            Ipv4Addr::from_bits(v4.addr().to_bits() | host as u32 & v4.hostmask().to_bits()).into()
        }
        IpNet::V6(v6) => {
            Ipv6Addr::from_bits(v6.addr().to_bits() | host & v6.hostmask().to_bits()).into()
        }
    }
}

fn beside_one(random: &mut Random, networks: &[IpNet], address: IpAddr) -> IpAddr {
    let networks: Vec<&IpNet> = networks
        .iter()
        .filter(|n| is_v6(n) == address.is_ipv6())
        .collect();
    if networks.is_empty() {
        return address;
    }
    let network = random.pick(&networks);
    beside(random, network)
}

/// The address before the first or after the last, or one that differs in a single bit of the
/// prefix.
fn beside(random: &mut Random, network: &IpNet) -> IpAddr {
    let length = network.prefix_len();
    let flip = 127 - random.below(u64::from(length.max(1))) as u32;
    let way = random.below(3);
    match network {
        IpNet::V4(v4) => {
            let first = v4.addr().to_bits();
            Ipv4Addr::from_bits(match way {
                0 => first.wrapping_sub(1),
                1 => (first | v4.hostmask().to_bits()).wrapping_add(1),
                _ => first ^ 1 << (flip - 96),
            })
            .into()
        }
        IpNet::V6(v6) => {
            let first = v6.addr().to_bits();
            Ipv6Addr::from_bits(match way {
                0 => first.wrapping_sub(1),
                1 => (first | v6.hostmask().to_bits()).wrapping_add(1),
                _ => first ^ 1 << flip,
            })
            .into()
        }
    }
}
