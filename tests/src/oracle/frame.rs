//! Random packets for a file: about half of them match something, many by a hair or miss by one. What the packet is,
//! is known because it was built so, not parsed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use traffic_mirror::desired::{Desired, Filter};
use traffic_mirror_ebpf::abi::Unseen;

use super::naive::Flow;
use super::random::Random;
use crate::lab::packet::{Ether, Extension, Ipv4, Ipv6, Layer, Packet, Tcp, Vlan};
use crate::lab::testrun::SkBuff;

const TCP: u8 = 6;
const UDP: u8 = 17;
const PORTED: [u8; 5] = [TCP, UDP, 33, 132, 136];
const EXTENSIONS: [u8; 7] = [0, 43, 51, 60, 135, 139, 140];
const FRAGMENT: u8 = 44;
/// Extension headers and VLAN tags that are looked through, according to the manual.
const LOOKED_THROUGH: usize = 8;
const TAGS: usize = 3;
const ETHER_BYTES: usize = 14;

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
    if random.percent(if filter.bidirectional { 50 } else { 10 }) { flow.swapped() } else { flow }
}

fn anything(random: &mut Random) -> Flow {
    let v6 = random.percent(50);
    let protocol = protocol(random, &[]);
    let ports = ports(random, protocol, [&[], &[]], &[]);
    Flow { source: address(random, v6), destination: address(random, v6), protocol, ports }
}

/// Fulfils all that a filter asks of addresses, ports and protocol, often at the border.
fn matching(random: &mut Random, desired: &Desired, filter: &Filter) -> Flow {
    let has = |networks: &[IpNet], v6| networks.is_empty() || networks.iter().any(|n| is_v6(n) == v6);
    let can = |v6| has(&filter.source, v6) && has(&filter.destination, v6);
    let v6 = if can(true) && can(false) { random.percent(50) } else { can(true) };
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
            *filter.protocol.iter().find(|p| PORTED.contains(p)).unwrap_or(&protocol)
        }
        protocol => protocol,
    };
    let ports = ports(random, protocol, [&filter.source_port, &filter.destination_port], &desired.filters);
    Flow { source, destination, protocol, ports }
}

/// Moves one value just beyond what the filter takes.
fn spoil(random: &mut Random, filter: &Filter, flow: &mut Flow) {
    match random.below(5) {
        0 => flow.protocol = random.bits() as u8,
        1 => flow.source = beside_one(random, &filter.source, flow.source),
        2 => flow.destination = beside_one(random, &filter.destination, flow.destination),
        _ => {
            let mut beyond = |wanted: &[RangeInclusive<u16>], port: u16| match wanted {
                [] => port,
                _ => {
                    let range = random.pick(wanted);
                    if random.percent(50) { range.start().wrapping_sub(1) } else { range.end().wrapping_add(1) }
                }
            };
            if let Some((source, destination)) = &mut flow.ports {
                let moved = [beyond(&filter.source_port, *source), beyond(&filter.destination_port, *destination)];
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
            ([], Some(foreign)) if !foreign.is_empty() && random.percent(50) => of_range(random, foreign),
            ([], _) if random.percent(20) => *random.pick(&[0, 1, 65_534, 65_535]),
            ([], _) => random.bits() as u16,
            _ => of_range(random, wanted),
        }
    };
    PORTED.contains(&protocol).then(|| (port(wanted[0], 0), port(wanted[1], 1)))
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
    if v6 { Ipv6Addr::from_bits(random.wide()).into() } else { Ipv4Addr::from_bits(random.bits() as u32).into() }
}

/// An address where any would do: often one that another filter asks for.
fn elsewhere(random: &mut Random, desired: &Desired, v6: bool) -> IpAddr {
    let filter = random.pick(&desired.filters);
    let networks: Vec<&IpNet> = filter.source.iter().chain(&filter.destination).filter(|n| is_v6(n) == v6).collect();
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
        IpNet::V4(v4) => Ipv4Addr::from_bits(v4.addr().to_bits() | host as u32 & v4.hostmask().to_bits()).into(),
        IpNet::V6(v6) => Ipv6Addr::from_bits(v6.addr().to_bits() | host & v6.hostmask().to_bits()).into(),
    }
}

fn beside_one(random: &mut Random, networks: &[IpNet], address: IpAddr) -> IpAddr {
    let networks: Vec<&IpNet> = networks.iter().filter(|n| is_v6(n) == address.is_ipv6()).collect();
    if networks.is_empty() {
        return address;
    }
    let network = random.pick(&networks);
    beside(random, network)
}

/// The address before the first or after the last, or one that differs in a single bit of the prefix.
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

/// A frame, and what the programs must make of it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What the kernel knows beside it.
    pub context: SkBuff,
    /// What filters are asked about, or why none is.
    pub flow: Result<Flow, Unseen>,
    /// Packets on the wire.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub length: u64,
}

/// Dresses a flow as a frame: tags, options, extension headers, fragments, superpackets, padding, cuts. What that hides
/// from the programs is hidden in [`Frame::flow`], too.
pub fn frame(random: &mut Random, flow: Flow) -> Frame {
    let mut draft = Draft { packet: Packet::new(), flow: Ok(flow.clone()), headers: 0 };
    draft.link(random);
    let offset = draft.packet.build().len();
    match (flow.source, flow.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => draft.ipv4(random, &flow, Ipv4::new(source, destination)),
        (source, destination) => draft.ipv6(random, &flow, Ipv6::new(source, destination)),
    }
    draft.finish(random, &flow, offset)
}

/// A frame half built.
struct Draft {
    packet: Packet,
    flow: Result<Flow, Unseen>,
    /// Bytes of IP and transport header; 0 if they are not whole.
    headers: usize,
}

impl Draft {
    fn add(&mut self, layer: impl Into<Layer>) {
        self.packet = std::mem::take(&mut self.packet).layer(layer);
    }

    fn hide_ports(&mut self) {
        if let Ok(flow) = &mut self.flow {
            flow.ports = None;
        }
    }

    fn link(&mut self, random: &mut Random) {
        let strange = random.percent(1).then_some(0x0806);
        self.add(Ether { ethertype: strange, ..Ether::default() });
        if strange.is_some() {
            self.flow = Err(Unseen::NotIp);
            return;
        }
        let tags = match random.below(100) {
            0..80 => 0,
            80..98 => random.within(1, TAGS as u64) as usize,
            _ => TAGS + 1,
        };
        for _ in 0..tags {
            self.add(Vlan { tpid: *random.pick(&[0x8100, 0x88a8]), tci: random.bits() as u16, ethertype: None });
        }
        if tags > TAGS {
            self.flow = Err(Unseen::NotIp);
        }
    }

    fn ipv4(&mut self, random: &mut Random, flow: &Flow, mut ip: Ipv4) {
        if random.percent(15) {
            let bytes = random.within(1, 40) as usize;
            ip.options = random.bytes(bytes);
        }
        let later = self.fragment_v4(random, &mut ip);
        if random.percent(2) {
            ip.total_length = Some(0);
        } else if random.percent(1) {
            self.malform(random, &mut ip);
        }
        let header = 20 + ip.options.len().next_multiple_of(4);
        self.add(ip);
        self.transport(random, flow, later, header);
    }

    fn fragment_v4(&mut self, random: &mut Random, ip: &mut Ipv4) -> bool {
        if !random.percent(10) {
            return false;
        }
        ip.flags = if random.percent(70) { Ipv4::MF } else { 0 };
        ip.fragment_offset = if random.percent(50) { 0 } else { random.within(1, 0x1fff) as u16 };
        if ip.fragment_offset != 0 {
            self.hide_ports();
        }
        ip.fragment_offset != 0
    }

    fn malform(&mut self, random: &mut Random, ip: &mut Ipv4) {
        match random.below(3) {
            0 => ip.version = random.below(4) as u8,
            1 => ip.ihl = Some(random.below(5) as u8),
            _ => ip.total_length = Some(random.within(1, 19) as u16),
        }
        self.flow = self.flow.clone().and(Err(Unseen::Malformed));
    }

    fn ipv6(&mut self, random: &mut Random, flow: &Flow, mut ip: Ipv6) {
        if random.percent(1) {
            ip.version = random.within(7, 15) as u8;
            self.flow = self.flow.clone().and(Err(Unseen::Malformed));
        }
        // behind a hop-by-hop header 0 stands for a length beyond 65,535
        let jumbo = random.percent(3);
        if jumbo {
            ip.payload_length = Some(0);
        }
        self.add(ip);
        let (later, bytes) =
            if jumbo || random.percent(25) { self.extensions(random, flow, jumbo) } else { (false, 0) };
        self.transport(random, flow, later, 40 + bytes);
    }

    /// Whether a later fragment follows, and the bytes of the headers.
    fn extensions(&mut self, random: &mut Random, flow: &Flow, jumbo: bool) -> (bool, usize) {
        let count = if random.percent(90) { random.within(1, 3) } else { random.within(4, 10) } as usize;
        let mut bytes = 0;
        for position in 0..count {
            let mut header = match position {
                0 if jumbo => Extension::options(Extension::HOP_BY_HOP, &random.bytes(6)),
                _ => extension(random),
            };
            bytes += header.body.len() + 2;
            let later = header.kind == FRAGMENT && header.body[..2] >= [0, 8][..];
            if later {
                header.next_header = Some(flow.protocol);
            }
            if position == LOOKED_THROUGH {
                // what comes behind the last that is looked through stands for the protocol
                if let Ok(flow) = &mut self.flow {
                    (flow.protocol, flow.ports) = (header.kind, None);
                }
            }
            self.add(header);
            if later {
                self.hide_ports();
                return (true, bytes);
            }
        }
        (false, bytes)
    }

    /// The transport header, or what is there of it; `before` bytes of headers come before.
    fn transport(&mut self, random: &mut Random, flow: &Flow, later: bool, before: usize) {
        let payload = random.below(64) as usize;
        let payload = random.bytes(payload);
        let walked = flow.source.is_ipv6() && (EXTENSIONS.contains(&flow.protocol) || flow.protocol == FRAGMENT);
        let bytes = match flow.ports {
            _ if later => payload,
            Some((source, destination)) => {
                self.headers = before;
                self.with_ports(random, flow.protocol, [source, destination], &payload);
                return;
            }
            // an extension header without its first four bytes stays what it is
            None if walked => random.bytes(payload.len() % 4),
            None => payload,
        };
        self.add(Layer::Raw(flow.protocol, bytes));
    }

    fn with_ports(&mut self, random: &mut Random, protocol: u8, ports: [u16; 2], payload: &[u8]) {
        let [source_port, destination_port] = ports;
        let cut = random.percent(4);
        if protocol == TCP && !cut {
            let options = random.below(41) as usize;
            let tcp = Tcp { options: random.bytes(options), ..Tcp::new(source_port, destination_port) };
            self.headers += 20 + options.next_multiple_of(4);
            self.add(tcp);
            self.add(Layer::Payload(payload.to_owned()));
            return;
        }
        let mut bytes = ports.map(u16::to_be_bytes).concat();
        bytes.extend(payload);
        if cut {
            bytes.truncate(random.below(4) as usize);
            self.hide_ports();
        }
        self.headers = if protocol == UDP && bytes.len() >= 8 { self.headers + 8 } else { 0 };
        self.add(Layer::Raw(protocol, bytes));
    }

    fn finish(self, random: &mut Random, asked: &Flow, offset: usize) -> Frame {
        let mut frame = Frame {
            bytes: self.packet.build(),
            context: SkBuff { mark: random.bits() as u32, priority: random.bits() as u32, ..SkBuff::default() },
            flow: self.flow,
            packets: 1,
            length: 0,
        };
        frame.context.cb = std::array::from_fn(|_| random.bits() as u32);
        frame.length = (frame.bytes.len() - offset) as u64;
        let whole = frame.flow.as_ref() == Ok(asked);
        let stated = frame.bytes.get(offset..offset + 6).is_some_and(|ip| {
            let field = if asked.source.is_ipv6() { &ip[4..6] } else { &ip[2..4] };
            field != [0, 0]
        });
        let payload = frame.length as usize - self.headers.min(frame.length as usize);
        if whole && random.percent(10) {
            // Ethernet pads; without a length in the header nobody can tell
            let padded = frame.bytes.len() + random.within(1, 20) as usize;
            if asked.ports.is_some() {
                frame.bytes.resize(padded, 0);
                if !stated {
                    frame.length = (padded - offset) as u64;
                }
            }
        } else if whole && self.headers != 0 && payload != 0 && random.percent(10) {
            let size = random.within(1, payload as u64);
            frame.context.gso_size = size as u32;
            frame.packets = (payload as u64).div_ceil(size);
            frame.context.gso_segs = if random.percent(50) { frame.packets as u32 } else { 0 };
            frame.length += (frame.packets - 1) * self.headers as u64;
        } else if frame.flow.is_ok() && offset > ETHER_BYTES && random.percent(10) {
            // a run refuses frames whose EtherType is IP and that have no IP header (`bpf_prog_test_run_skb`)
            let minimum = if asked.source.is_ipv6() { 40 } else { 20 };
            frame.bytes.truncate(offset + random.below(minimum) as usize);
            frame.flow = Err(Unseen::Malformed);
        }
        frame
    }
}

/// A header that may stand between IPv6 and the transport.
fn extension(random: &mut Random) -> Extension {
    if random.percent(25) {
        let (offset, more) = match random.below(3) {
            0 => (0, false),
            1 => (0, true),
            _ => (random.within(1, 0x1fff) as u16, random.percent(50)),
        };
        return Extension::fragment(offset, more, random.bits() as u32);
    }
    let kind = *random.pick(&EXTENSIONS);
    if kind == Extension::AUTHENTICATION {
        let units = random.within(0, 4) as usize;
        return Extension::authentication(1, 1, &random.bytes(4 + 8 * units));
    }
    let units = random.within(1, 5) as usize;
    Extension { kind, next_header: None, length: None, body: random.bytes(8 * units - 2) }
}

/// A packet that says nothing but this.
pub fn packet(flow: &Flow) -> traffic_mirror_ebpf::packet::Packet {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => [u64::from(v4.to_bits()) << 32, 0],
        IpAddr::V6(v6) => [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64],
    };
    let (source_port, destination_port) = flow.ports.unwrap_or_default();
    traffic_mirror_ebpf::packet::Packet {
        source: bits(flow.source),
        destination: bits(flow.destination),
        source_port,
        destination_port,
        version: if flow.source.is_ipv6() { 6 } else { 4 },
        protocol: flow.protocol,
        ported: flow.ports.is_some().into(),
        ..traffic_mirror_ebpf::packet::Packet::default()
    }
}
