//! The names of servers that the programs remember.

use std::io;

use aya::maps::{Array, MapData};
use nix::time::{ClockId, clock_gettime};
use traffic_mirror_ebpf::abi::{self, LEARNED_BYTES};
use traffic_mirror_ebpf::flow::{Found, age, clock};

use super::Generation;
use crate::kernel::error::{KernelError, map_error};
use crate::kernel::object::LEARNED;

/// A name that clients ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// As a client wrote it.
    pub name: String,
    /// Connections that have asked for it since it is remembered.
    pub connections: u32,
    /// Seconds since a packet of such a connection came, with an error of two.
    pub idle: u64,
    /// Whether a filter has it, as of that packet.
    pub is_wanted: bool,
}

impl Generation {
    /// The names; `None` if no filter gives any.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn learned(&self) -> Result<Option<Vec<Learned>>, KernelError> {
        if !self.knows_flows()? {
            return Ok(None);
        }
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
            .map_err(|errno| map_error("read the clock for", LEARNED[0])(io::Error::from(errno)))?;
        let now = clock(std::time::Duration::from(now).as_nanos() as u64);
        let mut names = Vec::new();
        for map in LEARNED {
            let elements: Array<MapData, [u8; size_of::<abi::Learned>()]> = self.array(map)?;
            for element in elements.iter() {
                let bytes = element
                    .map_err(io::Error::other)
                    .map_err(map_error("read", map))?;
                let learned: abi::Learned = bytemuck::pod_read_unaligned(&bytes);
                if learned.hash != 0 {
                    names.push(name(&learned, now));
                }
            }
        }
        Ok(Some(names))
    }
}

fn name(learned: &abi::Learned, now: u32) -> Learned {
    let bytes = (learned.bytes as usize).min(LEARNED_BYTES);
    let last = |time: u32| if time == 0 { u32::MAX } else { age(time, now) };
    let units = last(learned.seen).min(last(learned.answered));
    Learned {
        name: String::from_utf8_lossy(&learned.text[..bytes]).into_owned(),
        connections: learned.connections,
        // a unit is 2^30 ns
        idle: (u64::from(units) << 30) / 1_000_000_000,
        is_wanted: Found(learned.found).any() != 0,
    }
}
