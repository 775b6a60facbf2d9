//! Random frames of a flow. What the packet is, is known because it was built so, not parsed.

use std::net::IpAddr;

use traffic_mirror_ebpf::abi::Skipped;

use super::flow::{TCP, UDP};
use super::naive::{Flow, Unknown};
use super::random::Random;
use crate::lab::packet::{Ether, Extension, Ipv4, Ipv6, Layer, Packet, Tcp, Vlan};
use crate::lab::testrun::SkBuff;

const EXTENSIONS: [u8; 4] = [0, 43, 51, 60];
const FRAGMENT: u8 = 44;
/// Extension headers and VLAN tags that are looked through, according to the manual.
const LOOKED_THROUGH: usize = 8;
const TAGS: usize = 3;
const ETHER_BYTES: usize = 14;

/// A frame, and what the programs must make of it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What the kernel knows beside it.
    pub context: SkBuff,
    /// What filters are asked about, or why none is.
    pub flow: Result<Flow, Skipped>,
    /// Why something of it is unknown.
    pub doubt: Option<Skipped>,
    /// Packets on the wire.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub length: u64,
}

/// Dresses a flow as a frame: tags, options, extension headers, fragments, superpackets, padding,
/// cuts. What that hides from the programs is hidden in [`Frame::flow`], too.
pub fn frame(random: &mut Random, flow: Flow) -> Frame {
    let mut draft = Draft {
        packet: Packet::new(),
        flow: Ok(flow.clone()),
        doubt: None,
        headers: 0,
        is_first: false,
    };
    draft.link(random, &flow);
    let offset = draft.packet.build().len();
    match (flow.source, flow.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            draft.ipv4(random, &flow, Ipv4::new(source, destination))
        }
        (source, destination) => draft.ipv6(random, &flow, Ipv6::new(source, destination)),
    }
    draft.finish(random, &flow, offset)
}

/// A frame half built.
struct Draft {
    packet: Packet,
    flow: Result<Flow, Skipped>,
    doubt: Option<Skipped>,
    /// Bytes of IP and transport header; 0 if they are not whole.
    headers: usize,
    /// The first fragment of a datagram.
    is_first: bool,
}

impl Draft {
    fn add(&mut self, layer: impl Into<Layer>) {
        self.packet = std::mem::take(&mut self.packet).layer(layer);
    }

    /// Nobody can tell the ports, if it has any.
    fn hide_ports(&mut self, doubt: Skipped) {
        self.doubt = self.doubt.or(Some(doubt));
        if let Ok(flow) = &mut self.flow
            && flow.ports.take().is_some()
            && flow.unknown == Unknown::Nothing
        {
            flow.unknown = Unknown::Ports;
        }
    }

    /// Nobody can tell what is behind the IPv6 headers.
    fn hide_transport(&mut self, doubt: Skipped) {
        self.hide_ports(doubt);
        if let Ok(flow) = &mut self.flow {
            flow.unknown = Unknown::Transport;
        }
    }

    fn link(&mut self, random: &mut Random, flow: &Flow) {
        let strange = random.percent(1).then_some(0x0806);
        self.add(Ether {
            ethertype: strange,
            ..Ether::default()
        });
        if strange.is_some() {
            self.flow = Err(Skipped::NotIp);
            return;
        }
        let tags = match random.below(100) {
            0..80 => usize::from(flow.vlan != 0),
            80..98 => random.within(1, TAGS as u64) as usize,
            _ => TAGS + 1,
        };
        for tag in 0..tags {
            let bits = random.bits() as u16;
            let tci = if tag == 0 {
                bits & 0xf000 | flow.vlan
            } else {
                bits
            };
            self.add(Vlan {
                tpid: *random.pick(&[0x8100, 0x88a8]),
                tci,
                ethertype: None,
            });
        }
        if tags > TAGS {
            self.flow = Err(Skipped::NotIp);
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
        ip.id = random.bits() as u16;
        ip.flags = if random.percent(70) { Ipv4::MF } else { 0 };
        ip.fragment_offset = if random.percent(50) {
            0
        } else {
            random.within(1, 0x1fff) as u16
        };
        if ip.fragment_offset != 0 {
            self.hide_ports(Skipped::Orphan);
        }
        self.is_first = ip.fragment_offset == 0 && ip.flags == Ipv4::MF;
        ip.fragment_offset != 0
    }

    fn malform(&mut self, random: &mut Random, ip: &mut Ipv4) {
        match random.below(3) {
            0 => ip.version = random.below(4) as u8,
            1 => ip.ihl = Some(random.below(5) as u8),
            _ => ip.total_length = Some(random.within(1, 19) as u16),
        }
        self.flow = self.flow.clone().and(Err(Skipped::Malformed));
    }

    fn ipv6(&mut self, random: &mut Random, flow: &Flow, mut ip: Ipv6) {
        if random.percent(1) {
            ip.version = random.within(7, 15) as u8;
            self.flow = self.flow.clone().and(Err(Skipped::Malformed));
        }
        // behind a hop-by-hop header 0 stands for a length beyond 65,535
        let jumbo = random.percent(3);
        if jumbo {
            ip.payload_length = Some(0);
        }
        self.add(ip);
        let (later, bytes) = if jumbo || random.percent(25) {
            self.extensions(random, flow, jumbo)
        } else {
            (false, 0)
        };
        self.transport(random, flow, later, 40 + bytes);
    }

    /// Whether a later fragment follows, and the bytes of the headers.
    fn extensions(&mut self, random: &mut Random, flow: &Flow, jumbo: bool) -> (bool, usize) {
        let count = if random.percent(90) {
            random.within(1, 3)
        } else {
            random.within(4, 10)
        } as usize;
        let (mut bytes, mut is_part, mut is_read) = (0, false, true);
        for position in 0..count {
            let mut header = match position {
                0 if jumbo => Extension::options(Extension::HOP_BY_HOP, &random.bytes(6)),
                _ => extension(random),
            };
            bytes += header.body.len() + 2;
            let later = header.kind == FRAGMENT && header.body[..2] >= [0, 8][..];
            if header.kind == FRAGMENT && is_part {
                // a part of a part: what is read ends before
                self.hide_transport(Skipped::Unparsed);
                if position < LOOKED_THROUGH
                    && is_read
                    && let Ok(flow) = &mut self.flow
                {
                    flow.protocol = FRAGMENT;
                    is_read = false;
                }
            }
            is_part |= header.kind == FRAGMENT && header.body[1] & 1 != 0;
            self.is_first = is_part;
            if later {
                header.next_header = Some(flow.protocol);
            }
            if position == LOOKED_THROUGH {
                // what comes behind the last that is looked through stands for the protocol
                self.hide_transport(Skipped::Unparsed);
                if is_read && let Ok(flow) = &mut self.flow {
                    flow.protocol = header.kind;
                }
            }
            self.add(header);
            if later {
                self.hide_transport(Skipped::Orphan);
                return (true, bytes);
            }
        }
        (false, bytes)
    }

    /// The transport header, or what is there of it; `before` bytes of headers come before.
    fn transport(&mut self, random: &mut Random, flow: &Flow, later: bool, before: usize) {
        let payload = random.below(64) as usize;
        let payload = random.bytes(payload);
        let walked = flow.source.is_ipv6()
            && (EXTENSIONS.contains(&flow.protocol) || flow.protocol == FRAGMENT);
        let bytes = match flow.ports {
            _ if later => payload,
            Some((source, destination)) => {
                self.headers = before;
                self.with_ports(random, flow.protocol, [source, destination], &payload);
                return;
            }
            // an extension header without its first four bytes stays what it is
            None if walked => {
                self.hide_transport(Skipped::Unparsed);
                random.bytes(payload.len() % 4)
            }
            None => payload,
        };
        self.add(Layer::Raw(flow.protocol, bytes));
    }

    fn with_ports(&mut self, random: &mut Random, protocol: u8, ports: [u16; 2], payload: &[u8]) {
        let [source_port, destination_port] = ports;
        let cut = random.percent(4);
        if protocol == TCP && !cut {
            let options = random.below(41) as usize;
            let tcp = Tcp {
                options: random.bytes(options),
                ..Tcp::new(source_port, destination_port)
            };
            self.headers += 20 + options.next_multiple_of(4);
            self.add(tcp);
            self.add(Layer::Payload(payload.to_owned()));
            return;
        }
        let mut bytes = ports.map(u16::to_be_bytes).concat();
        bytes.extend(payload);
        if cut {
            bytes.truncate(random.below(4) as usize);
            self.hide_ports(Skipped::Unparsed);
        }
        self.headers = if protocol == UDP && bytes.len() >= 8 {
            self.headers + 8
        } else {
            0
        };
        self.add(Layer::Raw(protocol, bytes));
    }

    fn finish(self, random: &mut Random, asked: &Flow, offset: usize) -> Frame {
        let mut frame = Frame {
            bytes: self.packet.build(),
            context: SkBuff {
                mark: random.bits() as u32,
                priority: random.bits() as u32,
                ..SkBuff::default()
            },
            flow: self.flow,
            doubt: self.doubt,
            packets: 1,
            length: 0,
        };
        if self.is_first && frame.doubt.is_none() && !is_plain(&frame.bytes[offset..]) {
            frame.doubt = Some(Skipped::Unparsed);
        }
        frame.context.cb = std::array::from_fn(|_| random.bits() as u32);
        frame.length = (frame.bytes.len() - offset) as u64;
        let whole = frame.flow.as_ref() == Ok(asked);
        let stated = frame.bytes.get(offset..offset + 6).is_some_and(|ip| {
            let field = if asked.source.is_ipv6() {
                &ip[4..6]
            } else {
                &ip[2..4]
            };
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
            frame.context.gso_segs = if random.percent(50) {
                frame.packets as u32
            } else {
                0
            };
            frame.length += (frame.packets - 1) * self.headers as u64;
        } else if frame.flow.is_ok() && offset > ETHER_BYTES && random.percent(10) {
            // a run refuses frames whose EtherType is IP and that have no IP header
            // (`bpf_prog_test_run_skb`)
            let minimum = if asked.source.is_ipv6() { 40 } else { 20 };
            frame
                .bytes
                .truncate(offset + random.below(minimum) as usize);
            frame.flow = Err(Skipped::Malformed);
        }
        frame
    }
}

/// Whether a first fragment is such as any host takes: no options, no header but that of the
/// fragment, whole units of 8 bytes, and over IPv6 a whole header behind.
fn is_plain(ip: &[u8]) -> bool {
    let field = |at: usize| usize::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
    match ip[0] >> 4 {
        4 => ip[0] & 0xf == 5 && field(2) >= 28 && (field(2) - 20).is_multiple_of(8),
        _ if ip.len() < 48
            || ip[6] != FRAGMENT
            || EXTENSIONS.contains(&ip[40])
            || ip[40] == FRAGMENT =>
        {
            false
        }
        _ => field(4) >= if ip[40] == TCP { 28 } else { 16 } && field(4).is_multiple_of(8),
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
    Extension {
        kind,
        next_header: None,
        length: None,
        body: random.bytes(8 * units - 2),
    }
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
        unknown: match flow.unknown {
            Unknown::Nothing => 0,
            Unknown::Ports => traffic_mirror_ebpf::packet::Packet::PORTS,
            Unknown::Transport => {
                traffic_mirror_ebpf::packet::Packet::PORTS
                    | traffic_mirror_ebpf::packet::Packet::PROTOCOL
            }
        },
        vlan: flow.vlan,
        ..traffic_mirror_ebpf::packet::Packet::default()
    }
}
