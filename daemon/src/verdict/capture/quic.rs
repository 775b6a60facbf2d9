//! Input: the datagrams of a capture, in their order. Output: the server name of each one's flow in
//! QUIC, as far as the programs would know it when it comes, of a daemon that reads at once.

use std::collections::HashMap;

use traffic_mirror_ebpf::abi::INITIAL_MIN_BYTES;
use traffic_mirror_ebpf::flow::datagram::{
    self, Datagram, HANDSHAKE_PACKETS, HEADER_BYTES, Read, SOURCE_BYTES,
};
use traffic_mirror_ebpf::flow::{Key, Known, Step, Tentative, Undecided, Visit};

use super::CapturedName;
use crate::quic;

/// What is remembered, without the bounds that the kernel's tables have.
#[derive(Default)]
pub(super) struct Flows {
    flows: HashMap<u64, Flow>,
    names: Vec<String>,
}

#[derive(Default)]
struct Flow {
    known: Known,
    tentative: Tentative,
    read: Read,
    quic: quic::Flow,
}

impl Flows {
    /// Of the flow with this key, to which a payload belongs.
    pub(super) fn name(&mut self, key: Key, payload: &[u8]) -> CapturedName {
        let Some(datagram) = datagram(key.side, payload) else {
            return CapturedName::Undecided;
        };
        let flow = self.flows.entry(key.hash).or_default();
        let mut visit = Visit {
            known: flow.known,
            tentative: flow.tentative,
            read: flow.read,
            datagram,
            ..Visit::default()
        };
        let step = datagram::step(&mut visit);
        match step {
            Step::Begin => {
                (flow.tentative, flow.quic) = (visit.tentative, quic::Flow::default());
            }
            Step::Confirm => (flow.known, flow.tentative) = (visit.known, Tentative::default()),
            Step::Ask | Step::Unknown | Step::Decided | Step::Known => {}
            _ => return CapturedName::Undecided,
        }
        flow.read = visit.read;
        if flow.known.0 != 0 {
            flow.known = visit.known;
        }
        if matches!(step, Step::Begin | Step::Ask) {
            flow.read.known = read(flow.quic.datagram(payload), &mut self.names);
        }
        if visit.known.0 == 0 && visit.read.packets <= HANDSHAKE_PACKETS {
            return CapturedName::NotYet;
        }
        let name = visit.known.name().filter(|_| visit.known.0 != 0);
        let name = name.and_then(|at| self.names.get(at as usize));
        name.map_or(CapturedName::Undecided, |name| {
            CapturedName::Is(name.clone())
        })
    }
}

/// What the daemon would answer; 0 if nothing.
fn read(outcome: quic::Outcome, names: &mut Vec<String>) -> Known {
    match outcome {
        quic::Outcome::Name { name, .. } => {
            names.push(name);
            // any hash but 0: that and the first name would be nothing
            Known::named(names.len() as u32 - 1, u64::MAX)
        }
        quic::Outcome::NoName | quic::Outcome::Ech => Known::undecided(Undecided::NoName),
        quic::Outcome::TooLong => Known::undecided(Undecided::TooLong),
        _ => Known::default(),
    }
}

fn datagram(side: u32, payload: &[u8]) -> Option<Datagram> {
    let header = datagram::header(payload.first_chunk::<HEADER_BYTES>()?);
    let source = payload.get(header.source_at as usize..);
    let source = source.and_then(|source| source.first_chunk::<SOURCE_BYTES>());
    let source = source.filter(|_| header.source_at != 0);
    let bytes = payload.len() as u32;
    Some(Datagram {
        destination: header.destination,
        source: source.map_or(0, datagram::source),
        packets: 1,
        is_initial: header.is_initial & u32::from(bytes >= INITIAL_MIN_BYTES),
        side,
        bytes,
    })
}
