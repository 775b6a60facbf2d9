//! Input: a packet. Output: its segment and what is remembered of its flow, in the state of the CPU.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use traffic_mirror_ebpf::flow::{self, Segment, Tentative};
use traffic_mirror_ebpf::packet::{Packet, protocol};

use super::flows;
use super::state::{TCP_BYTES, current};
use crate::bpf::skb::Skb;

/// In place of a [`Step`](flow::Step): no packet of which a name can be known.
const NO_STEP: u32 = u32::MAX;

/// Reads a segment and what is tentative of its flow, after
/// [`class_of_plain`](super::plain::class_of_plain); returns the [`Step`](flow::Step), or
/// [`NO_STEP`]. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn visit(skb: *mut __sk_buff, packet: *const Packet, epoch: u32) -> u32 {
    let Some(visit) = current() else {
        return NO_STEP;
    };
    if packet.is_null() {
        return NO_STEP;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    visit.flow.forget = 0;
    if packet.protocol != protocol::TCP || packet.ported == 0 || packet.fragment != 0 {
        return NO_STEP;
    }
    let transport = u32::from(packet.transport);
    // SAFETY: the header has that many bytes.
    let failed = unsafe {
        let to = (&raw mut visit.header).cast();
        bpf_skb_load_bytes(skb.cast(), transport, to, TCP_BYTES)
    };
    if failed != 0 {
        return NO_STEP;
    }
    let word = u32::from_be(visit.header[3]);
    let length = Skb(skb).len();
    let stated = match packet.ip_bytes() {
        0 => length,
        bytes => u32::from(packet.offset) + bytes,
    };
    let end = if stated < length { stated } else { length };
    let at = transport + (word >> 28) * 4;
    visit.at = at;
    visit.epoch = epoch;
    visit.flow.segment = Segment {
        sequence: u32::from_be(visit.header[1]),
        acknowledgment: u32::from_be(visit.header[2]),
        payload: end.saturating_sub(at),
        flags: word >> 16 & 0xff,
        side: visit.flow.segment.side,
    };
    let known = visit.was_known;
    visit.flow.known = flow::Known(known);
    visit.flow.tentative = Tentative::default();
    if !visit.flow.is_plain() {
        flows::find_tentative();
    }
    if known == 0 && visit.flow.tentative.value == 0 {
        // another CPU may have moved it from there to here meanwhile
        let known = flows::find_flow(visit.key);
        visit.was_known = known;
        visit.flow.known = flow::Known(known);
    }
    flow::step(&mut visit.flow) as u32
}
