//! Input: a datagram with an Initial. Output: a record of the ring buffer that the daemon reads.

use core::ffi::{c_long, c_void};

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use traffic_mirror_ebpf::abi::{INITIAL_MIN_BYTES, INITIAL_REST_BYTES, Initial};

use super::super::state::current;
use crate::bpf::maps::INITIALS;
use crate::bpf::verifier::{STOP, each, go_on_if, opaque};

/// Packets of a superpacket that the daemon gets: a hello has two, and three with room for much
/// more.
const MOST: usize = 4;

/// The packets of a superpacket, one after the other.
struct Sending {
    skb: *mut __sk_buff,
    at: u32,
    left: u32,
    failed: u32,
}

/// Sends the datagram at hand to the daemon, of a superpacket the first packets; returns 0 if there
/// is no room. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn send_initials(skb: *mut __sk_buff) -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let mut sending = Sending {
        skb,
        at: visit.at,
        left: visit.payload,
        failed: 0,
    };
    each(MOST, send_one, &mut sending);
    u32::from(sending.failed == 0)
}

pub(super) use send_initials as send;

unsafe extern "C" fn send_one(_: u32, sending: *mut Sending) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let sending = unsafe { &mut *sending };
    let Some(visit) = current() else {
        return STOP;
    };
    let each_bytes = visit.flow.datagram.bytes;
    let left = sending.left;
    let bytes = if left < each_bytes { left } else { each_bytes };
    if bytes < INITIAL_MIN_BYTES {
        return STOP;
    }
    let rest = bytes.wrapping_sub(INITIAL_MIN_BYTES);
    let rest = if rest < INITIAL_REST_BYTES {
        rest
    } else {
        INITIAL_REST_BYTES - 1
    };
    // a range that Linux 6.1 learns
    let count = (opaque(rest) & (INITIAL_REST_BYTES - 1)) + INITIAL_MIN_BYTES;
    let Some(mut record) = INITIALS.reserve::<Initial>(0) else {
        sending.failed = 1;
        return STOP;
    };
    let to = record.as_mut_ptr();
    // SAFETY: the record has room for that many bytes; the context is valid.
    let failed = unsafe {
        (*to).key = visit.key;
        (*to).time = visit.flow.tentative.time();
        (*to).side = visit.flow.tentative.side();
        (*to).bytes = count;
        (*to).reserved = 0;
        let payload: *mut c_void = (&raw mut (*to).payload).cast();
        bpf_skb_load_bytes(sending.skb.cast(), sending.at, payload.cast(), count)
    };
    if failed != 0 {
        record.discard(0);
        return STOP;
    }
    record.submit(0);
    sending.at = sending.at.wrapping_add(bytes);
    sending.left = left.wrapping_sub(bytes);
    go_on_if(sending.left != 0)
}
