//! Input: a packet that is too long after encapsulation, or whose copies have a UDP checksum.
//! Output: a clone for each outer fragment, or one for all. A clone carries the whole packet to
//! `encap`, which keeps the part for the fragment and computes its sum.

use core::ffi::c_long;

use aya_ebpf::bindings::__sk_buff;
use traffic_mirror_ebpf::abi::{Drop, MAX_ENDPOINTS, Slice, cb};
use traffic_mirror_ebpf::classify::lowest_bit;
use traffic_mirror_ebpf::fit::Fit;
use traffic_mirror_ebpf::gue::ENCAPSULATION_BYTES;
use traffic_mirror_ebpf::packet::Packet;

use crate::bpf::copy::checksum::{AT_SHIFT, FINISHED, OPEN, UNKNOWN, finish_checksum};
use crate::bpf::copy::drops::count_lost;
use crate::bpf::copy::fan_out::FanOut;
use crate::bpf::copy::send::{CloneRequest, send};
use crate::bpf::level::own;
use crate::bpf::maps::{ENDPOINT_STATS, ENDPOINTS};
use crate::bpf::skb::Skb;
use crate::bpf::verifier::{STOP, each, go_on_if};

/// Fragments at most: of 64 KiB over an MTU of 1,280.
const MAX_FRAGMENTS: usize = 64;
const _: () = assert!(core::mem::offset_of!(Fragments, number) % 8 == 4);

/// This many bytes from the transport header on belong to the head: the checksum, and enough that
/// the kernel sees the beginning of the checksummed data removed with the head
/// (`skb_postpull_rcsum`).
const HEAD_BYTES: u32 = 20;

const GUE_BYTES: u32 = ENCAPSULATION_BYTES as u32;

/// The fragments of a packet, for one endpoint after the other. The verifier forgets the value of
/// what does not begin a word of 8 bytes: `number` it would follow from fragment to fragment.
#[repr(C)]
struct Fragments {
    fan: FanOut,
    /// Whether it is known how to split the packet, and how to send it whole.
    is_known: u16,
    is_whole_known: u16,
    /// Number of the next fragment.
    number: u32,
    request: CloneRequest,
}

/// Sends a copy in fragments, or whole with a checksum, to each of the endpoints, and answers 0; or
/// all endpoints, if the segmenter must finish the checksum before, which it has if `is_settled` is
/// not 0. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn fragment(
    skb: *mut __sk_buff,
    packet: *const Packet,
    endpoints: u64,
    bank: u32,
    is_settled: u32,
) -> u64 {
    let mut checksum = finish_checksum(skb, packet);
    if checksum == OPEN {
        if is_settled == 0 {
            return endpoints;
        }
        checksum = 0;
    }
    let Some(level) = own() else { return 0 };
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    let header = u32::from(packet.transport.wrapping_sub(packet.offset));
    let checksum_at = if checksum & FINISHED != 0 {
        header + (checksum >> AT_SHIFT)
    } else {
        0
    };
    let is_open = checksum & FINISHED != 0;
    let is_in_reach = header <= Slice::HEAD_MAX - HEAD_BYTES;
    // SAFETY: a per-CPU element.
    unsafe {
        (*level).slice.head = header + HEAD_BYTES;
        (*level).slice.checksum_at = checksum_at;
        (*level).slice.checksum = checksum & 0xffff;
    }
    let mut fragments = Fragments {
        fan: FanOut::measured(Skb(skb), packet, endpoints, bank),
        is_known: u16::from(is_in_reach && checksum != UNKNOWN),
        is_whole_known: u16::from(is_in_reach || !is_open),
        number: 0,
        request: CloneRequest {
            interface: 0,
            word: 0,
            flow: 0,
            length: 0,
        },
    };
    each(MAX_ENDPOINTS * MAX_FRAGMENTS, next, &mut fragments);
    let FanOut {
        endpoints,
        ref size,
        ..
    } = fragments.fan;
    if endpoints != 0 {
        count_lost(endpoints, Drop::Budget as u32, size.packets, bank);
    }
    0
}

unsafe extern "C" fn next(_: u32, fragments: *mut Fragments) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let fragments = unsafe { &mut *fragments };
    let fan = &mut fragments.fan;
    if fan.endpoints == 0 {
        return STOP;
    }
    let index = lowest_bit(fan.endpoints);
    let (Some(pair), Some(stats)) = (ENDPOINTS.get(index), ENDPOINT_STATS.get_ptr_mut(index))
    else {
        return STOP;
    };
    let endpoint = &pair[fan.bank as usize & 1];
    // SAFETY: a per-CPU element.
    let stats = unsafe { &mut *stats };
    let mut fit = Fit::default();
    let mut reason = fan.fit(endpoint, stats, &mut fit);
    let number = fragments.number;
    if reason == Drop::None as u32 && number == 0 {
        let is_known = if fit.fragments == 1 {
            fragments.is_whole_known
        } else {
            fragments.is_known
        };
        if is_known == 0 {
            reason = Drop::Oversize as u32;
        } else if let Some(request) = fan.request(endpoint, index, stats, &fit) {
            fragments.request = request;
            fragments.request.word |= cb::SLICE;
        } else {
            reason = Drop::Limit as u32;
        }
    }
    let is_last = number + 1 >= fit.fragments;
    if reason == Drop::None as u32 {
        let Some(level) = own() else { return STOP };
        // SAFETY: a per-CPU element.
        let slice = unsafe { &mut (*level).slice };
        let payload = fit.bytes + GUE_BYTES;
        let start = number * fit.piece;
        let end = if is_last { payload } else { start + fit.piece };
        slice.first = if number == 0 {
            0
        } else {
            start.wrapping_sub(GUE_BYTES)
        };
        slice.end = end.wrapping_sub(GUE_BYTES);
        slice.offset = start;
        slice.more = u32::from(!is_last);
        slice.udp_length = payload;
        reason = send(fan.skb.0, &raw const fragments.request);
        fragments.request.word &= !cb::LOOK;
    }
    if is_last || reason != Drop::None as u32 {
        fan.account(endpoint, stats, &fit, reason);
        fan.endpoints &= fan.endpoints - 1;
        fragments.number = 0;
    } else {
        fragments.number += 1;
    }
    go_on_if(fan.endpoints != 0)
}
