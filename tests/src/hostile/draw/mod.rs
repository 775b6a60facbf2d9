//! Packets as somebody makes them who wants to be delivered and not to be seen.

use crate::lab::packet::{Extension, Ipv4, Ipv6, Mac, Packet, checksum, eth_between};
use crate::oracle::random::Random;
use std::net::IpAddr;

mod plot;

/// The port that a filter asks for, and one that only the filter for TCP does.
pub const PORTS: [u16; 2] = [443, 9];
/// TCP and UDP.
pub const PROTOCOLS: [u8; 2] = [6, 17];

/// What is sent in a row.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// From the Ethernet header on.
    pub frames: Vec<Vec<u8>>,
    /// Bytes of what is to be delivered, from the ports on.
    pub bytes: usize,
    /// Of how many packets it consists, with those that are matched beside it.
    pub pieces: u64,
    /// Whether all of these are matched; else it will do that a counter moves.
    pub whole: bool,
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Hardware addresses of sender and receiver.
    pub macs: [Mac; 2],
    /// IPv4 and IPv6 address of the sender.
    pub sources: [IpAddr; 2],
    /// Those of the receiver.
    pub destinations: [IpAddr; 2],
}

impl Scenario {
    /// `id` must not have been used between these ends for as long as the kernel waits for
    /// fragments.
    pub fn draw(random: &mut Random, ends: &Ends, id: u32) -> Self {
        let family = random.below(2) as usize;
        let (source, destination) = (ends.sources[family], ends.destinations[family]);
        let protocol = *random.pick(&PROTOCOLS);
        let port = *random.pick(&[PORTS[0], PORTS[0], PORTS[1]]);
        let upper = upper(random, source, destination, protocol, port);
        let link = eth_between(ends.macs[0], ends.macs[1]);
        let draft = Draft {
            link,
            source,
            destination,
            protocol,
            upper,
            id,
        };
        let mut scenario = match random.below(4) {
            0 => Self {
                frames: vec![draft.whole(random)],
                bytes: draft.upper.len(),
                pieces: 1,
                whole: false,
            },
            1 => return draft.plot(random),
            _ => draft.fragments(random),
        };
        if random.percent(10) {
            scenario.tag(random);
        }
        if random.percent(25) {
            let frame = random.below(scenario.frames.len() as u64) as usize;
            damage(random, &mut scenario.frames[frame]);
        }
        if random.percent(40) {
            random.shuffle(&mut scenario.frames);
        }
        scenario
    }

    /// Priority tags, which a host without VLANs takes off.
    fn tag(&mut self, random: &mut Random) {
        let tags = random.within(1, 5);
        let tpid = *random.pick(&[0x8100_u16, 0x8100, 0x88a8]);
        for frame in &mut self.frames {
            for _ in 0..tags {
                frame.splice(12..12, [tpid.to_be_bytes(), [0, 0]].concat());
            }
        }
    }
}

/// A transport packet with a right checksum, if it is UDP.
fn upper(
    random: &mut Random,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    port: u16,
) -> Vec<u8> {
    let mut bytes = [random.within(1024, 65_535) as u16, port]
        .map(u16::to_be_bytes)
        .concat();
    let payload = random.below(160) as usize;
    if protocol == 6 {
        bytes.extend([0; 8]);
        bytes.extend([0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(random.bytes(payload));
        return bytes;
    }
    bytes.extend((8 + payload as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(random.bytes(payload));
    let pseudo = checksum::pseudo_header(source, destination, protocol, bytes.len());
    let sum = checksum::internet(&[&pseudo, &bytes]);
    bytes[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    bytes
}

struct Draft {
    link: Packet,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    upper: Vec<u8>,
    id: u32,
}

impl Draft {
    fn ipv4(&self) -> Ipv4 {
        let id = self.id as u16;
        Ipv4 {
            id,
            flags: 0,
            protocol: Some(self.protocol),
            ..Ipv4::new(self.source, self.destination)
        }
    }

    fn whole(&self, random: &mut Random) -> Vec<u8> {
        let link = self.link.clone();
        if self.source.is_ipv6() {
            let headers = if random.percent(60) {
                random.below(9)
            } else {
                random.within(9, 40)
            };
            let packet = chain(
                random,
                link.layer(Ipv6::new(self.source, self.destination)),
                headers as usize,
            );
            return packet.raw(self.protocol, &self.upper[..]).build();
        }
        let mut ip = self.ipv4();
        if random.percent(50) {
            ip.options = options(random);
        }
        let whole = 20 + ip.options.len().next_multiple_of(4) + self.upper.len();
        ip.total_length = match random.below(10) {
            0 => Some(random.below(whole as u64 + 20) as u16),
            1 => Some(0),
            _ => None,
        };
        let packet = link.layer(ip).payload(&self.upper[..]);
        if random.percent(10) {
            packet.pad(random.within(60, 120) as usize).build()
        } else {
            packet.build()
        }
    }

    fn fragments(&self, random: &mut Random) -> Scenario {
        let before = if self.source.is_ipv6() && random.percent(20) {
            random.within(1, 3)
        } else {
            0
        };
        // headers that only the first piece has
        let inside = if self.source.is_ipv6() && random.percent(30) {
            random.within(1, 12)
        } else {
            0
        };
        let (next, body) = if inside == 0 {
            (self.protocol, self.upper.clone())
        } else {
            let chain = chain(
                random,
                Packet::new().layer(Ipv6::new(self.source, self.destination)),
                inside as usize,
            );
            let bytes = chain.raw(self.protocol, &self.upper[..]).build();
            (bytes[6], bytes[40..].to_vec())
        };
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < body.len() {
            let length = (8 * random.within(1, 6)) as usize;
            let end = if pieces.len() == 3 {
                body.len()
            } else {
                (at + length).min(body.len())
            };
            pieces.push(at..end);
            at = end;
        }
        let count = pieces.len() as u64;
        let piece = |range: &std::ops::Range<usize>| {
            self.piece(
                before as usize,
                next,
                range.start,
                range.end < body.len(),
                &body[range.clone()],
            )
        };
        let mut frames: Vec<Vec<u8>> = pieces.iter().map(piece).collect();
        for _ in 0..random.below(3) {
            let first = &body[pieces[0].clone()];
            let forged = self.forged(random, before as usize, next, first);
            frames.insert(random.below(frames.len() as u64 + 1) as usize, forged);
        }
        if random.percent(20) {
            let again = random.pick(&frames).clone();
            frames.insert(random.below(frames.len() as u64 + 1) as usize, again);
        }
        Scenario {
            frames,
            bytes: self.upper.len(),
            pieces: count,
            whole: false,
        }
    }

    fn piece(&self, before: usize, next: u8, offset: usize, more: bool, bytes: &[u8]) -> Vec<u8> {
        let link = self.link.clone();
        let offset = (offset / 8) as u16;
        if self.source.is_ipv6() {
            let ip = link.layer(Ipv6::new(self.source, self.destination));
            let ip = (0..before).fold(ip, |packet, _| packet.destination_options());
            return ip.fragment(offset, more, self.id).raw(next, bytes).build();
        }
        let flags = if more { Ipv4::MF } else { 0 };
        link.layer(Ipv4 {
            flags,
            fragment_offset: offset,
            ..self.ipv4()
        })
        .payload(bytes)
        .build()
    }

    /// Another first piece, with another port, which the kernel takes, drops or takes for the same.
    fn forged(&self, random: &mut Random, before: usize, next: u8, first: &[u8]) -> Vec<u8> {
        let mut bytes = first.to_vec();
        let other = *random.pick(&[PORTS[0], PORTS[1], 77]);
        bytes[2..4].copy_from_slice(&other.to_be_bytes());
        let link = |macs: [Mac; 2]| eth_between(macs[0], macs[1]);
        let forged = bytes.clone();
        let frame = match random.below(6) {
            0 => self.piece(before, next, 0, true, &bytes[..bytes.len().min(8)]),
            1 => self.piece(before, next, 0, true, &bytes[..random.below(4) as usize]),
            2 => self.piece(before, next, 0, false, &bytes),
            3 => self.piece(before, *random.pick(&[58, 59, 6, 17, 60]), 0, true, &bytes),
            4 => self.piece(
                before,
                next,
                0,
                true,
                &[bytes, vec![0; 8 * random.below(3) as usize]].concat(),
            ),
            _ => self.piece(before, next, 0, true, &bytes),
        };
        if self.source.is_ipv6() {
            return match random.below(4) {
                0 => to_another_host(frame),
                1 => with(frame, 18, [0xff, 0xf8]),
                2 => in_vlan(frame),
                _ => frame,
            };
        }
        let ip = Ipv4 {
            flags: Ipv4::MF,
            ..self.ipv4()
        };
        let macs = [
            [2, 0, 0, 0, 0, 1],
            [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]],
        ];
        match random.below(8) {
            0 => with(frame, 24, [0xba, 0xd0]),
            1 => to_another_host(frame),
            2 => in_vlan(frame),
            3 => link(macs)
                .layer(Ipv4 {
                    options: options(random),
                    ..ip
                })
                .payload(forged)
                .build(),
            4 => link(macs)
                .layer(Ipv4 {
                    total_length: Some(1400),
                    ..ip
                })
                .payload(forged)
                .build(),
            5 => link(macs)
                .layer(Ipv4 { ttl: 0, ..ip })
                .payload(forged)
                .build(),
            _ => frame,
        }
    }
}

fn to_another_host(mut frame: Vec<u8>) -> Vec<u8> {
    frame[5] ^= 1;
    frame
}

fn with(mut frame: Vec<u8>, at: usize, bytes: [u8; 2]) -> Vec<u8> {
    frame[at..at + 2].copy_from_slice(&bytes);
    frame
}

fn in_vlan(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0, 77]);
    frame
}

/// What a host lets pass, mostly.
fn chain(random: &mut Random, packet: Packet, headers: usize) -> Packet {
    (0..headers).fold(packet, |packet, position| match random.below(20) {
        0 if position == 0 => packet.hop_by_hop(),
        1 => packet.layer(Extension::routing(4, 0, &[0; 4])),
        2 => packet.fragment(0, false, random.bits() as u32),
        3 if headers < 4 => packet.authentication(),
        4 => packet.layer(Extension::options(Extension::DESTINATION, &[0x1e, 0])),
        _ => packet.destination_options(),
    })
}

fn options(random: &mut Random) -> Vec<u8> {
    let length = random.within(1, 40) as usize;
    match random.below(4) {
        0 => random.bytes(length),
        // router alert
        1 => vec![148, 4, 0, 0],
        _ => vec![1; length],
    }
}

/// Changes a header somewhere; mostly so that the IPv4 checksum is right all the same.
fn damage(random: &mut Random, frame: &mut Vec<u8>) {
    let reach = frame.len().min(80) as u64;
    for _ in 0..random.within(1, 2) {
        let at = random.below(reach) as usize;
        match random.below(3) {
            0 => frame[at] ^= 1 << random.below(8),
            1 => {
                frame[at] =
                    *random.pick(&[0, 1, 4, 6, 17, 41, 43, 44, 45, 51, 58, 60, 0x45, 0x60, 0xff])
            }
            _ => frame[at] = random.bits() as u8,
        }
    }
    if random.percent(5) {
        frame.truncate(random.within(14, reach) as usize);
    }
    let header = 4 * usize::from(frame.get(14).map_or(0, |byte| byte & 0xf));
    if frame.get(12..14) == Some(&[8, 0])
        && frame.len() >= 14 + header
        && header >= 20
        && random.percent(80)
    {
        frame[24..26].fill(0);
        let sum = checksum::internet(&[&frame[14..14 + header]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// A datagram that the filter for the port matches, to know by that all before it was delivered.
pub fn marker(ends: &Ends, number: u64) -> Vec<u8> {
    let packet = eth_between(ends.macs[0], ends.macs[1]).ip(ends.sources[0], ends.destinations[0]);
    packet
        .udp(7, PORTS[0])
        .payload(number.to_be_bytes())
        .build()
}
