//! Input: the frames of a capture, in their order. Output: the server name of each one's connection,
//! as far as the programs would know it when the frame comes.

mod quic;

use std::collections::HashMap;

use traffic_mirror_ebpf::abi::FLOW_KEYS_OF_NAMES;
use traffic_mirror_ebpf::bits::mix;
use traffic_mirror_ebpf::flow::{
    Key, Known, Segment, Step, Tentative, Undecided, Visit, key, step,
};
use traffic_mirror_ebpf::hello::coverage::Coverage;
use traffic_mirror_ebpf::hello::{Buffer, Outcome, Parsed, Plain, STREAM_BYTES, parse};
use traffic_mirror_ebpf::packet::{Bytes, Packet, protocol};

/// What is known of the server's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CapturedName {
    /// Nothing yet.
    NotYet,
    /// It cannot be known.
    Undecided,
    /// It is this.
    Is(String),
}

/// The names of the frames' connections.
pub fn captured_names(frames: &[Vec<u8>]) -> Vec<CapturedName> {
    let mut names = Names::default();
    frames.iter().map(|frame| names.of(frame)).collect()
}

/// What is remembered, without the bounds that the kernel's tables have.
#[derive(Default)]
struct Names {
    connections: HashMap<u64, Connection>,
    names: Vec<String>,
    flows: quic::Flows,
}

#[derive(Default)]
struct Connection {
    known: Known,
    tentative: Tentative,
    assembly: Option<Assembly>,
}

/// The first bytes of a connection.
struct Assembly {
    begin: u32,
    coverage: Coverage,
    buffer: Box<Buffer>,
}

impl Names {
    fn of(&mut self, frame: &[u8]) -> CapturedName {
        let Some((packet, key)) = packet(frame) else {
            return CapturedName::Undecided;
        };
        if packet.protocol == protocol::UDP {
            let at = usize::from(packet.transport) + UDP_BYTES;
            return self.flows.name(key, payload(frame, &packet, at));
        }
        let Some((segment, payload)) = segment(frame, &packet, key) else {
            return CapturedName::Undecided;
        };
        let connection = self.connections.entry(key.hash).or_default();
        let mut visit = Visit {
            known: connection.known,
            tentative: connection.tentative,
            segment,
            ..Visit::default()
        };
        let step = step(&mut visit);
        if visit.forget != 0 {
            (connection.known, connection.assembly) = (Known::default(), None);
        }
        match step {
            Step::Known => connection.known = visit.known,
            Step::Confirm => {
                (connection.known, connection.tentative) = (visit.known, Tentative::default());
            }
            Step::Decided => {}
            Step::Conclude => connection.tentative = visit.tentative,
            Step::Remember => {
                connection.tentative = visit.tentative;
                return CapturedName::NotYet;
            }
            Step::Read => {
                connection.tentative = visit.tentative;
                let Some(known) = connection.read(&visit, payload, &mut self.names) else {
                    return CapturedName::NotYet;
                };
                let end = segment.first().wrapping_add(segment.payload);
                visit.known = known;
                connection.tentative = connection.tentative.decided(known, end, 0);
            }
            _ => return CapturedName::NotYet,
        }
        let name = visit
            .known
            .name()
            .and_then(|at| self.names.get(at as usize));
        name.map_or(CapturedName::Undecided, |name| {
            CapturedName::Is(name.clone())
        })
    }
}

impl Connection {
    /// What a payload tells; `None` if more of it is to come.
    fn read(&mut self, visit: &Visit, payload: &[u8], names: &mut Vec<String>) -> Option<Known> {
        let begin = visit.tentative.sequence;
        if self.assembly.as_ref().is_none_or(|one| one.begin != begin) {
            self.assembly = Some(Assembly {
                begin,
                coverage: Coverage::default(),
                buffer: Box::default(),
            });
        }
        let assembly = self.assembly.as_mut()?;
        assembly.buffer.put(visit.offset, payload);
        let end = visit.offset.saturating_add(payload.len() as u32);
        let from = visit.offset.min(STREAM_BYTES);
        assembly.coverage.add(&Plain, from, end.min(STREAM_BYTES));
        // what arrives later must find the bytes where they are
        let mut buffer = assembly.buffer.clone();
        let parsed = parse(&mut *buffer, assembly.coverage.prefix(&Plain));
        let known = outcome(&parsed, &buffer, visit, names)?;
        self.assembly = None;
        Some(known)
    }
}

fn outcome(
    parsed: &Parsed,
    buffer: &Buffer,
    visit: &Visit,
    names: &mut Vec<String>,
) -> Option<Known> {
    let undecided = match parsed.outcome {
        Outcome::More => return None,
        Outcome::Found => {
            let bytes = buffer.get(parsed.at, parsed.bytes).unwrap_or_default();
            names.push(String::from_utf8_lossy(bytes).into_owned());
            // any hash but 0: that and the first name would be nothing
            return Some(Known::named(names.len() as u32 - 1, u64::MAX));
        }
        Outcome::NoName => Undecided::NoName,
        Outcome::TooLong => Undecided::TooLong,
        _ if visit.tentative.has_handshake() => Undecided::Other,
        _ => Undecided::MidFlow,
    };
    Some(Known::undecided(undecided))
}

const UDP_BYTES: usize = 8;

/// A packet with ports, and the key of its flow; `None` of what is none, or no first fragment.
fn packet(frame: &[u8]) -> Option<(Packet, Key)> {
    let mut packet = Packet::default();
    let ethertype = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
    traffic_mirror_ebpf::packet::parse(&mut Bytes(frame), ethertype, &mut packet).ok()?;
    let keys: [u64; FLOW_KEYS_OF_NAMES] = std::array::from_fn(|at| mix(at as u64 + 1));
    let is_whole = packet.ported != 0 && packet.fragment == 0;
    is_whole.then(|| (packet, key(&packet, &keys)))
}

/// What stands in a packet from an offset in its frame on.
fn payload<'a>(frame: &'a [u8], packet: &Packet, at: usize) -> &'a [u8] {
    let stated = match packet.ip_bytes() {
        0 => frame.len(),
        bytes => usize::from(packet.offset) + bytes as usize,
    };
    frame.get(at..stated.min(frame.len())).unwrap_or_default()
}

/// What matters of a TCP segment, and its payload; `None` of what is none.
fn segment<'a>(frame: &'a [u8], packet: &Packet, key: Key) -> Option<(Segment, &'a [u8])> {
    if packet.protocol != protocol::TCP {
        return None;
    }
    let transport = usize::from(packet.transport);
    let header: &[u8; 20] = frame.get(transport..)?.first_chunk()?;
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let at = transport + usize::from(header[12] >> 4) * 4;
    let payload = payload(frame, packet, at);
    let segment = Segment {
        sequence: word(4),
        acknowledgment: word(8),
        payload: payload.len() as u32,
        flags: header[13].into(),
        side: key.side,
    };
    Some((segment, payload))
}
