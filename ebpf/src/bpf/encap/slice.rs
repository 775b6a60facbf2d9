//! A part of a packet, as the next fragment of a copy carries it.

use aya_ebpf::bindings::BPF_F_ADJ_ROOM_NO_CSUM_RESET;
use aya_ebpf::helpers::generated::{bpf_skb_adjust_room, bpf_skb_load_bytes, bpf_skb_store_bytes};
use traffic_mirror_ebpf::abi::{Endpoint, Level, Slice, cb};
use traffic_mirror_ebpf::gue::{
    ENCAPSULATION_BYTES, FRAGMENT6_BYTES, IPV4_BYTES, IPV6_BYTES, OUTER6_BYTES, Variable, fold,
};

use crate::bpf::copy::checksum::sum_of;
use crate::bpf::encap::outer::identification;
use crate::bpf::encap::room::{PULL_MAX, PULLS, ROOM_MAC, cut, make_room, pull, trim};
use crate::bpf::maps::SCRATCH;
use crate::bpf::skb::Skb;
use crate::bpf::verifier::opaque;

/// Leaves what the fragment is to carry, behind its outer header; or all of it, with a checksum in
/// either case. What is pulled takes the checksum with it that was left to the output interface;
/// the head is put back with the finished one.
#[inline(always)]
pub(super) fn take_slice(
    skb: Skb,
    endpoint: &Endpoint,
    word: u32,
    flow: u32,
    sender: *mut Level,
) -> Option<Variable> {
    let over_ipv6 = endpoint.outer_bytes == OUTER6_BYTES as u32;
    // SAFETY: a per-CPU element.
    let slice = unsafe { (*sender).slice };
    let is_whole = slice.first == 0 && slice.more == 0;
    let fragment6 = if is_whole { 0 } else { FRAGMENT6_BYTES };
    let header = if over_ipv6 {
        IPV6_BYTES + fragment6
    } else {
        IPV4_BYTES
    } as u32;
    let is_summed = slice.first == 0;
    let variable = Variable {
        length: header + slice.end - slice.first
            + if slice.first == 0 {
                ENCAPSULATION_BYTES as u32
            } else {
                0
            },
        udp_length: slice.udp_length,
        flow,
        identification: identification(word, sender),
        offset: slice.offset,
        more: slice.more != 0,
        inner_ipv6: word & cb::IPV6 != 0,
        checksum: endpoint.checksum,
        payload: if is_summed {
            sum_up(skb, endpoint.link_bytes, &slice)?
        } else {
            0
        },
    };
    if slice.first == 0 {
        let outer_bytes = header + ENCAPSULATION_BYTES as u32;
        let bytes = endpoint.link_bytes + slice.end;
        // the kernel leaves an IP header of what it shortens; what is that short gets an end for as
        // long
        let is_short = slice.end < 2 * Slice::HEAD_MAX;
        trim(
            skb,
            if is_whole && is_short && slice.checksum_at != 0 {
                bytes + Slice::HEAD_MAX
            } else {
                bytes
            },
        )?;
        if !is_whole {
            put_head_back(skb, endpoint, &slice, outer_bytes, over_ipv6)?;
        } else {
            if slice.checksum_at != 0 {
                put_head_back(skb, endpoint, &slice, 0, over_ipv6)?;
                trim(skb, bytes)?;
            }
            make_room(skb, outer_bytes, over_ipv6, 0)?;
        }
    } else {
        let mut left = slice.first;
        let mut pulls = 0;
        while left != 0 {
            let bytes = if left > PULL_MAX { PULL_MAX } else { left };
            pull(skb, bytes)?;
            left -= bytes;
            pulls += 1;
            if pulls > PULLS {
                return None;
            }
        }
        // only now, since the helper takes no length beyond 16 KiB (`BPF_SKB_MAX_LEN`)
        cut(skb, endpoint.link_bytes + slice.end - slice.first)?;
        make_room(skb, header, over_ipv6, 0)?;
    }
    Some(variable)
}

/// The sum of all that is sent of the inner packet, with the finished checksum in it.
#[inline(always)]
pub(super) fn sum_up(skb: Skb, link_bytes: u32, slice: &Slice) -> Option<u16> {
    let bytes = slice.udp_length.wrapping_sub(ENCAPSULATION_BYTES as u32);
    let sum = sum_of(skb.0, link_bytes, bytes);
    let at = slice.checksum_at;
    if at == 0 || at + 2 > bytes {
        return Some(sum as u16);
    }
    let mut open = 0u16;
    // SAFETY: two bytes are copied to a local variable.
    let failed =
        unsafe { bpf_skb_load_bytes(skb.0.cast(), link_bytes + at, (&raw mut open).cast(), 2) };
    (failed == 0).then_some(fold(sum + u32::from(!open) + slice.checksum))
}

/// Removes the head, and puts it back with the complete checksum, behind room for this many bytes
/// of an outer header, of which the kernel is informed; with 0 there is none yet.
#[inline(always)]
pub(super) fn put_head_back(
    skb: Skb,
    endpoint: &Endpoint,
    slice: &Slice,
    outer_bytes: u32,
    over_ipv6: bool,
) -> Option<()> {
    let scratch = SCRATCH.get_ptr_mut(0)?.cast::<u8>();
    // from 1 on, which Linux 6.1 does not learn from a comparison
    let head = (opaque(slice.head.wrapping_sub(1)) & (Slice::HEAD_MAX - 1)) + 1;
    let at = slice.checksum_at as usize & (Slice::HEAD_MAX as usize - 1);
    // SAFETY: the scratch has far more bytes than a head; the context is valid.
    unsafe {
        (bpf_skb_load_bytes(skb.0.cast(), endpoint.link_bytes, scratch.cast(), head) == 0)
            .then_some(())?;
        if at != 0 {
            let checksum = (slice.checksum as u16).to_ne_bytes();
            *scratch.add(at) = checksum[0];
            *scratch.add(at + 1) = checksum[1];
        }
    }
    pull(skb, head)?;
    if outer_bytes == 0 {
        let flags = BPF_F_ADJ_ROOM_NO_CSUM_RESET.into();
        // SAFETY: the context is valid.
        (unsafe { bpf_skb_adjust_room(skb.0, head as i32, ROOM_MAC, flags) } == 0).then_some(())?;
    } else {
        make_room(skb, head + outer_bytes, over_ipv6, 0)?;
    }
    // SAFETY: as above.
    let stored = unsafe {
        bpf_skb_store_bytes(
            skb.0,
            endpoint.link_bytes + outer_bytes,
            scratch.cast(),
            head,
            0,
        )
    };
    (stored == 0).then_some(())
}
