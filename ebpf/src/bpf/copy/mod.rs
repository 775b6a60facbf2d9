//! Copies of a packet: whole, in fragments, or segmented first.

pub(super) mod checksum;
pub(super) mod clonable;
pub(super) mod drops;
pub(super) mod fan_out;
pub(super) mod fragment;
mod limit;
pub(super) mod relay;
pub(super) mod send;

use traffic_mirror_ebpf::abi::Cpu;

use crate::bpf::level::{depth, level};

/// Counts a match of a packet that is this many on the wire.
#[inline(always)]
pub(super) fn begin(cpu: *mut Cpu, packets: u32) {
    // SAFETY: a per-CPU element.
    unsafe {
        let depth = depth(cpu);
        // what comes by while a copy is being sent takes of the time of the packet that waits
        if depth == 0 {
            ((*cpu).clones, (*cpu).until_ns) = (0, 0);
        }
        // each packet that the kernel segments from it has an identification of its own
        (*level(cpu, depth)).number = (*cpu).serial as u32 + 1;
        (*cpu).serial += u64::from(packets.max(1));
    }
}
