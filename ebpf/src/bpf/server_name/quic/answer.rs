//! Input: what the daemon has read of a flow, as a packet that it makes up. Output: the name,
//! remembered, and what is known of the flow.

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_skb_load_bytes};
use traffic_mirror_ebpf::abi::{ASSEMBLY_OF_DAEMON, Answer};
use traffic_mirror_ebpf::flow::{Known, Tentative, Undecided, clock};
use traffic_mirror_ebpf::hello::NAME_MAX_BYTES;
use traffic_mirror_ebpf::packet::ETHER_BYTES;

use super::super::assembly::buffer;
use super::super::learned;
use super::super::state::current;
use super::tentative;
use crate::bpf::direct::control;
use crate::bpf::skb::{NEXT, Skb};
use crate::bpf::verifier::opaque;

/// Writes it where the packets of the flow find it. Nothing else uses the state and the buffer: the
/// daemon runs the program once at a time, and has loaded it by itself.
#[inline(always)]
pub(in crate::bpf) fn answer(skb: Skb) -> i32 {
    let mut answer = Answer::default();
    // SAFETY: the variable has that many bytes.
    let failed = unsafe {
        bpf_skb_load_bytes(
            skb.0.cast(),
            ETHER_BYTES,
            (&raw mut answer).cast(),
            size_of::<Answer>() as u32,
        )
    };
    let Some(visit) = current() else {
        return NEXT;
    };
    if failed != 0 {
        return NEXT;
    }
    visit.key = answer.key;
    // SAFETY: no arguments.
    visit.flow.now = clock(unsafe { bpf_ktime_get_coarse_ns() });
    visit.flow.tentative = Tentative::of_datagrams(answer.side, answer.time);
    visit.flow.read.has_ech = answer.has_ech;
    visit.flow.known = if answer.reason != 0 {
        Known::undecided_by(answer.reason)
    } else {
        let name = opaque(load_name(skb, answer.bytes, visit.flow.now));
        if name == learned::NO_ROOM {
            Known::undecided(Undecided::NoRoom)
        } else {
            Known::named(name, learned::hash_of(name))
        }
    };
    tentative::decide();
    NEXT
}

/// Remembers the name behind the answer; returns its index, or that there is no room.
#[inline(always)]
fn load_name(skb: Skb, bytes: u32, now: u32) -> u32 {
    let Some(buffer) = buffer(ASSEMBLY_OF_DAEMON) else {
        return learned::NO_ROOM;
    };
    // from 1 on, which Linux 6.1 does not learn from a comparison
    let count = (opaque(bytes.wrapping_sub(1)) & NAME_MAX_BYTES) + 1;
    // SAFETY: the buffer has that many bytes; the context is valid.
    let failed = unsafe {
        bpf_skb_load_bytes(
            skb.0.cast(),
            ETHER_BYTES + size_of::<Answer>() as u32,
            buffer.as_mut_ptr().cast(),
            count,
        )
    };
    if failed != 0 {
        return learned::NO_ROOM;
    }
    // SAFETY: the daemon writes it.
    let epoch = unsafe { (&raw const control().epoch).read_volatile() };
    learned::learn(ASSEMBLY_OF_DAEMON, 0, count, epoch, now)
}
