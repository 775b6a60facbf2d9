//! The look-ups that a mirror does which keeps one list for each field: is the source listed, the
//! protocol, both ports? Each is a map of its own, asked one after the other, and a packet of which
//! each field is listed is mirrored, even if no one rule asked for them together. So does the
//! ingress program of L3AF's `traffic-mirroring`, with lists of up to 50.

use anyhow::Result;
use aya::programs::SchedClassifier;
use std::net::Ipv4Addr;

use super::assembler::{Code, Helper, If, Label, Register as R, Width};
use super::maps::{Kind, Map};
use crate::lab::foreign::Foreign;

/// Most elements of a list.
const ROOM: usize = 50;
const TCP: i32 = 6;
const UDP: i32 = 17;
const ICMP: i32 = 1;

/// What is mirrored. A list has 50 elements at most.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Networks of the source: address and length.
    pub sources: Vec<(Ipv4Addr, u32)>,
    /// IP protocols.
    pub protocols: Vec<u8>,
    /// Source ports.
    pub source_ports: Vec<u16>,
    /// Destination ports.
    pub destination_ports: Vec<u16>,
}

/// The program with its maps. IPv4 over Ethernet, without VLAN tags and IP options.
#[derive(Debug)]
pub struct Lookups {
    program: SchedClassifier,
    _maps: Maps,
}

#[derive(Debug)]
struct Maps {
    /// One element: the interface that gets what is mirrored.
    output: Map,
    /// One element: bits for lists that are not asked.
    any: Map,
    sources: Map,
    protocols: Map,
    source_ports: Map,
    destination_ports: Map,
    /// One element: the program behind this one, here none.
    next: Map,
}

impl Lookups {
    /// Mirrors what is listed to an interface.
    ///
    /// # Errors
    /// A list is too long; the kernel refuses a map or the program.
    pub fn new(listed: &Listed, output: u32) -> Result<Self> {
        let list = |kind, key| Map::new(kind, key, 4, ROOM);
        let one = |kind| Map::new(kind, 4, 4, 1);
        let maps = Maps {
            output: one(Kind::Array)?,
            any: one(Kind::Array)?,
            sources: list(Kind::Prefixes, 8)?,
            protocols: list(Kind::Hash, 4)?,
            source_ports: list(Kind::Hash, 4)?,
            destination_ports: list(Kind::Hash, 4)?,
            next: one(Kind::Programs)?,
        };
        maps.output.set(&[0; 4], &output.to_ne_bytes())?;
        for (address, length) in &listed.sources {
            maps.sources
                .set(&[length.to_ne_bytes(), address.octets()].concat(), &[1; 4])?;
        }
        let numbers = |map: &Map, numbers: Vec<u32>| {
            numbers
                .iter()
                .try_for_each(|number| map.set(&number.to_ne_bytes(), &[1; 4]))
        };
        numbers(
            &maps.protocols,
            listed.protocols.iter().copied().map(u32::from).collect(),
        )?;
        numbers(
            &maps.source_ports,
            listed.source_ports.iter().copied().map(u32::from).collect(),
        )?;
        numbers(
            &maps.destination_ports,
            listed
                .destination_ports
                .iter()
                .copied()
                .map(u32::from)
                .collect(),
        )?;
        Ok(Self {
            program: Foreign::assembled("lookups", &program(&maps))?.classifier()?,
            _maps: maps,
        })
    }

    /// The program.
    pub fn program(&self) -> &SchedClassifier {
        &self.program
    }
}

/// Places on the stack.
const INDEX: i16 = -4;
const ANY: i16 = -8;
const SOURCE: i16 = -16;
const NUMBER: i16 = -20;
/// Places in a frame and in `struct __sk_buff`.
const DATA: i16 = 76;
const DATA_END: i16 = 80;
const ETHERTYPE: i16 = 12;
const PROTOCOL: i16 = 23;
const SOURCE_ADDRESS: i16 = 26;
const PORTS: i16 = 34;

/// R6 is the context, R7 the frame, R8 its end, R9 where the output interface stands.
fn program(maps: &Maps) -> Vec<u64> {
    let mut code = Code::default();
    let mut unwanted = Label::new();
    let ask = |code: &mut Code, map: &Map, key: i16| {
        code.copy(R::R2, R::Frame)
            .add(R::R2, i32::from(key))
            .map(R::R1, map.descriptor())
            .call(Helper::MapLookup);
    };
    let within = |code: &mut Code, bytes: i32, unwanted: &mut Label| {
        code.copy(R::R1, R::R7)
            .add(R::R1, bytes)
            .jump(R::R1, If::Above(R::R8), unwanted);
    };
    code.copy(R::R6, R::R1)
        .set(R::R1, 0)
        .store(Width::Word, R::Frame, INDEX, R::R1);
    ask(&mut code, &maps.output, INDEX);
    code.jump(R::R0, If::Is(0), &mut unwanted)
        .copy(R::R9, R::R0);
    code.load(Width::Word, R::R7, R::R6, DATA)
        .load(Width::Word, R::R8, R::R6, DATA_END);
    within(&mut code, 34, &mut unwanted);
    let ipv4 = i32::from(0x0800_u16.to_be());
    code.load(Width::Half, R::R1, R::R7, ETHERTYPE)
        .jump(R::R1, If::IsNot(ipv4), &mut unwanted);
    // ports, or what ICMP has in their place, are within the frame
    let mut known = Label::new();
    code.load(Width::Byte, R::R2, R::R7, PROTOCOL);
    for protocol in [TCP, UDP, ICMP] {
        code.jump(R::R2, If::Is(protocol), &mut known);
    }
    code.jump(R::R2, If::Always, &mut unwanted).here(known);
    code.store(Width::Word, R::Frame, NUMBER, R::R2);
    within(&mut code, 42, &mut unwanted);
    // which lists are asked
    code.load(Width::Word, R::R1, R::R7, SOURCE_ADDRESS).store(
        Width::Word,
        R::Frame,
        SOURCE + 4,
        R::R1,
    );
    code.set(R::R1, 32)
        .store(Width::Word, R::Frame, SOURCE, R::R1);
    ask(&mut code, &maps.any, INDEX);
    code.jump(R::R0, If::Is(0), &mut unwanted);
    code.load(Width::Word, R::R1, R::R0, 0)
        .store(Width::Word, R::Frame, ANY, R::R1);
    // the source
    let mut any_source = Label::new();
    code.jump(R::R1, If::Has(1), &mut any_source);
    ask(&mut code, &maps.sources, SOURCE);
    code.jump(R::R0, If::Is(0), &mut unwanted).here(any_source);
    ask(&mut code, &maps.protocols, NUMBER);
    code.jump(R::R0, If::Is(0), &mut unwanted);
    // the ports, if it has any
    let mut wanted = Label::new();
    code.load(Width::Word, R::R1, R::Frame, NUMBER)
        .jump(R::R1, If::Is(ICMP), &mut wanted);
    for (bit, offset, list) in [
        (2, PORTS, &maps.source_ports),
        (4, PORTS + 2, &maps.destination_ports),
    ] {
        let mut any = Label::new();
        code.load(Width::Word, R::R1, R::Frame, ANY)
            .jump(R::R1, If::Has(bit), &mut any);
        code.load(Width::Half, R::R1, R::R7, offset)
            .host_order(R::R1);
        code.store(Width::Word, R::Frame, NUMBER, R::R1);
        ask(&mut code, list, NUMBER);
        code.jump(R::R0, If::Is(0), &mut unwanted).here(any);
    }
    code.here(wanted)
        .copy(R::R1, R::R6)
        .load(Width::Word, R::R2, R::R9, 0)
        .set(R::R3, 0);
    code.call(Helper::CloneRedirect).exit();
    code.here(unwanted)
        .copy(R::R1, R::R6)
        .map(R::R2, maps.next.descriptor())
        .set(R::R3, 0)
        .call(Helper::TailCall);
    code.set(R::R0, 0).exit();
    code.finish()
}
