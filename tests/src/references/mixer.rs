//! What makes each run of a program meet another packet. `BPF_PROG_TEST_RUN` has one packet for all
//! runs, which is a packet whose every branch is foretold and whose every line is in the cache.

use anyhow::{Result, ensure};
use aya::programs::SchedClassifier;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use super::NEXT;
use super::assembler::{Code, Helper, If, Label, Register as R, Width};
use super::maps::{Kind, Map};
use crate::lab::foreign::Foreign;

/// A program that writes addresses and ports of one of many flows, chosen at random, into the
/// frame, and then calls the program that is looked at. What it takes itself is known from one that
/// calls the empty program.
#[derive(Debug)]
pub struct Mixer {
    program: SchedClassifier,
    _maps: [Map; 2],
}

/// Source and destination address and port of a frame without VLAN tags, IP options and extension
/// headers.
pub type Flow = (IpAddr, IpAddr, u16, u16);

impl Mixer {
    /// In front of `program`. The flows, a power of two of them, are of one family; the frame must
    /// be of it, too.
    ///
    /// # Errors
    /// The flows are not so; the kernel refuses a map or the program.
    pub fn new(flows: &[Flow], program: &SchedClassifier) -> Result<Self> {
        ensure!(
            flows.len().is_power_of_two(),
            "{} flows are no power of two",
            flows.len()
        );
        let is_v4 = flows
            .iter()
            .all(|flow| flow.0.is_ipv4() && flow.1.is_ipv4());
        let (offset, bytes) = if is_v4 { (26, 12) } else { (22, 36) };
        let table = Map::new(Kind::Array, 4, bytes, flows.len())?;
        for (index, flow) in flows.iter().enumerate() {
            table.set(&(index as u32).to_ne_bytes(), &octets(flow))?;
        }
        let next = Map::new(Kind::Programs, 4, 4, 1)?;
        next.set_program(0, program.fd()?.as_fd())?;
        let mut code = Code::default();
        let mut out = Label::new();
        code.copy(R::R6, R::R1)
            .call(Helper::Random)
            .mask(R::R0, flows.len() as i32 - 1);
        code.store(Width::Word, R::Frame, -4, R::R0)
            .copy(R::R2, R::Frame)
            .add(R::R2, -4);
        code.map(R::R1, table.descriptor())
            .call(Helper::MapLookup)
            .jump(R::R0, If::Is(0), &mut out);
        code.copy(R::R1, R::R6)
            .set(R::R2, offset)
            .copy(R::R3, R::R0)
            .set(R::R4, bytes as i32)
            .set(R::R5, 0);
        code.call(Helper::StoreBytes);
        code.copy(R::R1, R::R6)
            .map(R::R2, next.descriptor())
            .set(R::R3, 0)
            .call(Helper::TailCall);
        code.here(out).set(R::R0, NEXT).exit();
        Ok(Self {
            program: Foreign::assembled("mixer", &code.finish())?.classifier()?,
            _maps: [table, next],
        })
    }

    /// The program.
    pub fn program(&self) -> &SchedClassifier {
        &self.program
    }
}

/// As they stand one behind the other in a frame.
fn octets(&(source, destination, source_port, destination_port): &Flow) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
    [octets(source), octets(destination), ports].concat()
}
