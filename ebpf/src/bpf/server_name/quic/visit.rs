//! Input: a packet. Output: its datagram and what is remembered of its flow, in the state of the
//! CPU.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_skb_load_bytes};
use traffic_mirror_ebpf::abi::INITIAL_MIN_BYTES;
use traffic_mirror_ebpf::flow::datagram::{self, HEADER_BYTES, SOURCE_BYTES};
use traffic_mirror_ebpf::flow::{self, Datagram, Read, Tentative, clock};
use traffic_mirror_ebpf::packet::Packet;

use super::super::flows;
use super::super::state::current;
use super::tentative;
use crate::bpf::direct::values;
use crate::bpf::skb::Skb;

const UDP_BYTES: u32 = 8;
/// In place of a [`Step`](flow::Step): no packet of which a name can be known.
const NO_STEP: u32 = u32::MAX;

/// Reads a datagram and what is remembered of its flow; returns the [`Step`](flow::Step), or
/// [`NO_STEP`]. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn visit_datagram(
    skb: *mut __sk_buff,
    packet: *const Packet,
    epoch: u32,
) -> u32 {
    let Some(visit) = current() else {
        return NO_STEP;
    };
    if packet.is_null() {
        return NO_STEP;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    visit.flow.forget = 0;
    visit.was_known = 0;
    if packet.ported == 0 || packet.fragment != 0 {
        return NO_STEP;
    }
    let at = u32::from(packet.transport) + UDP_BYTES;
    let length = Skb(skb).len();
    let stated = match packet.ip_bytes() {
        0 => length,
        bytes => u32::from(packet.offset) + bytes,
    };
    let end = if stated < length { stated } else { length };
    let payload = end.saturating_sub(at);
    if read_header(skb, at, payload) == 0 {
        return NO_STEP;
    }
    let key = flow::key(packet, &values().name_keys.flows);
    visit.key = key.hash;
    visit.at = at;
    visit.payload = payload;
    visit.epoch = epoch;
    visit.flow.datagram.side = key.side;
    // SAFETY: no arguments.
    visit.flow.now = clock(unsafe { bpf_ktime_get_coarse_ns() });
    let known = flows::find_flow(key.hash);
    visit.was_known = known;
    visit.flow.known = flow::Known(known);
    visit.flow.tentative = Tentative::default();
    visit.flow.read = Read::default();
    if !datagram::is_plain(&visit.flow) {
        tentative::find_datagrams();
    }
    if known == 0 && visit.flow.tentative.value == 0 {
        // another CPU may have moved it from there to here meanwhile
        let known = flows::find_flow(key.hash);
        visit.was_known = known;
        visit.flow.known = flow::Known(known);
    }
    datagram::step(&mut visit.flow) as u32
}

/// Reads what is not encrypted of the payload at a place; returns 0 if it is too short. A global
/// function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_header(skb: *mut __sk_buff, at: u32, payload: u32) -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let mut bytes = [0; HEADER_BYTES];
    // SAFETY: the variable has that many bytes.
    let failed = unsafe {
        bpf_skb_load_bytes(
            skb.cast(),
            at,
            bytes.as_mut_ptr().cast(),
            HEADER_BYTES as u32,
        )
    };
    if failed != 0 || payload < HEADER_BYTES as u32 {
        return 0;
    }
    let header = datagram::header(&bytes);
    let mut source = [0; SOURCE_BYTES];
    if header.source_at != 0 {
        // SAFETY: as above.
        let failed = unsafe {
            bpf_skb_load_bytes(
                skb.cast(),
                at + header.source_at,
                source.as_mut_ptr().cast(),
                SOURCE_BYTES as u32,
            )
        };
        if failed != 0 {
            source = [0; SOURCE_BYTES];
        }
    }
    let gso = Skb(skb).gso_size();
    let is_super = gso != 0 && gso < payload;
    let (bytes, packets) = if is_super {
        let all = payload.wrapping_add(gso - 1).checked_div(gso);
        (gso, all.unwrap_or(1))
    } else {
        (payload, 1)
    };
    visit.flow.datagram = Datagram {
        destination: header.destination,
        source: datagram::source(&source),
        packets,
        is_initial: header.is_initial & u32::from(bytes >= INITIAL_MIN_BYTES),
        side: 0,
        bytes,
    };
    1
}
