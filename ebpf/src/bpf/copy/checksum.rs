//! Input: bytes of a frame. Output: their sum, and the UDP or TCP checksum that is made of it.

use core::ffi::{c_long, c_void};
use core::ptr::null_mut;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_skb_load_bytes};
use traffic_mirror_ebpf::gue::fold;
use traffic_mirror_ebpf::packet::{Packet, protocol};

use crate::bpf::maps::{SCRATCH, SCRATCH_BYTES};
use crate::bpf::skb::Skb;
use crate::bpf::verifier::{STOP, each, go_on_if, opaque};

/// Flag of [`finish_checksum`]: the checksum was still to be filled in.
pub(crate) const FINISHED: u32 = 1 << 16;
/// The offset of the checksum in the transport header, from this bit on.
pub(crate) const AT_SHIFT: u32 = 24;
/// It is unknown.
pub(crate) const UNKNOWN: u32 = 1 << 17;
/// It is one that no helper computes (CRC32c), and may still have to be filled in.
pub(crate) const OPEN: u32 = 1 << 18;

/// The transport checksum, if it was left to the output interface (`CHECKSUM_PARTIAL`), which must
/// not compute it from a fragment: then the field holds the sum over the pseudo header. A checksum
/// that has this value by chance is also computed, with the same result. A global function: the
/// verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn finish_checksum(skb: *mut __sk_buff, packet: *const Packet) -> u32 {
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    let at = match packet.protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        protocol::SCTP => 8,
        _ => return 0,
    };
    if packet.fragment != 0 {
        return 0;
    }
    let mut field = 0u16;
    let place = u32::from(packet.transport) + at;
    // SAFETY: two bytes are copied to a local variable.
    if unsafe { bpf_skb_load_bytes(skb.cast(), place, (&raw mut field).cast(), 2) } != 0 {
        return UNKNOWN;
    }
    if packet.protocol == protocol::SCTP {
        // of CRC32c there is no trace before it is computed
        return if field == 0 { OPEN } else { 0 };
    }
    let length = packet
        .ip_bytes()
        .wrapping_sub(u32::from(packet.transport.wrapping_sub(packet.offset)));
    if u16::from_be(field) != packet.pseudo_header(length) {
        return 0;
    }
    let folded = !(sum_of(skb, packet.transport.into(), length) as u16);
    // RFC 768: 0 would mean that there is no checksum
    let checksum = if folded == 0 && packet.protocol == protocol::UDP {
        0xffff
    } else {
        folded
    };
    FINISHED | at << AT_SHIFT | u32::from(checksum)
}

/// The sum of words in network byte order of this many bytes of a frame, folded to one (RFC 1071).
/// A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sum_of(skb: *mut __sk_buff, at: u32, bytes: u32) -> u32 {
    let mut sum = Sum {
        skb: Skb(skb),
        at,
        left: bytes,
        sum: 0,
    };
    each(u16::MAX as usize / SCRATCH_BYTES + 1, add_chunk, &mut sum);
    u32::from(fold(sum.sum))
}

/// An intermediate sum.
struct Sum {
    skb: Skb,
    at: u32,
    left: u32,
    sum: u32,
}

unsafe extern "C" fn add_chunk(_: u32, sum: *mut Sum) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let sum = unsafe { &mut *sum };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return STOP;
    };
    let scratch = scratch.cast::<u32>();
    if sum.left >= SCRATCH_BYTES as u32 {
        // SAFETY: as many bytes as the element has.
        unsafe {
            if bpf_skb_load_bytes(
                sum.skb.0.cast(),
                sum.at,
                scratch.cast::<c_void>(),
                SCRATCH_BYTES as u32,
            ) != 0
            {
                return STOP;
            }
            sum.sum = bpf_csum_diff(null_mut(), 0, scratch, SCRATCH_BYTES as u32, sum.sum) as u32;
        }
        sum.at += SCRATCH_BYTES as u32;
        sum.left -= SCRATCH_BYTES as u32;
        return go_on_if(sum.left != 0);
    }
    if sum.left == 0 {
        return STOP;
    }
    let last = (sum.left - 1) & (SCRATCH_BYTES as u32 - 4);
    // from 1 on, which Linux 6.1 does not learn from the comparison
    let left = (opaque(sum.left - 1) & (SCRATCH_BYTES as u32 - 1)) + 1;
    // SAFETY: the last word lies in the element; what is behind the packet counts as zero.
    unsafe {
        scratch.byte_add(last as usize).write_volatile(0);
        if bpf_skb_load_bytes(sum.skb.0.cast(), sum.at, scratch.cast::<c_void>(), left) == 0 {
            sum.sum = bpf_csum_diff(null_mut(), 0, scratch, last + 4, sum.sum) as u32;
        }
    }
    STOP
}
