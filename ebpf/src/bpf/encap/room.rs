//! Adds room in front of a packet, and removes headers.

use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO,
    BPF_F_ADJ_ROOM_NO_CSUM_RESET,
};
use aya_ebpf::helpers::generated::{
    bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use traffic_mirror_ebpf::gue::IPV6_BYTES;
use traffic_mirror_ebpf::packet::{JUMBO_BYTES, protocol};

use crate::bpf::skb::Skb;

/// `BPF_ADJ_ROOM_MAC`: room behind the link header.
pub(super) const ROOM_MAC: u32 = 1;

/// Makes room for an outer header, and informs the kernel of it.
#[inline(always)]
pub(super) fn make_room(skb: Skb, bytes: u32, over_ipv6: bool, flags: u32) -> Option<()> {
    let flags = u64::from(flags | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
    let done = if over_ipv6 {
        // SAFETY: the context is valid.
        unsafe {
            bpf_skb_adjust_room(
                skb.0,
                bytes as i32,
                ROOM_MAC,
                flags | u64::from(BPF_F_ADJ_ROOM_ENCAP_L3_IPV6),
            )
        }
    } else {
        // SAFETY: the context is valid.
        unsafe {
            bpf_skb_adjust_room(
                skb.0,
                bytes as i32,
                ROOM_MAC,
                flags | u64::from(BPF_F_ADJ_ROOM_ENCAP_L3_IPV4),
            )
        }
    };
    (done == 0).then_some(())
}

/// Removes the hop-by-hop header with the length from a superpacket beyond 64 KiB, if it has one:
/// the kernel would do so when it segments the packet, but at the wrong place once the packet is in
/// a tunnel (`ipv6_gso_segment`).
#[inline(always)]
pub(super) fn take_jumbo_off(skb: Skb, link_bytes: u32) -> Option<()> {
    const NEXT_HEADER: u32 = 6;
    const ROOM_NET: u32 = 0;
    const FLAGS: u32 = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
    let (mut next, mut behind) = (0u8, [0u8; 4]);
    let at = link_bytes + NEXT_HEADER;
    // SAFETY: as many bytes are copied to local variables as they have.
    let failed = unsafe {
        bpf_skb_load_bytes(skb.0.cast(), at, (&raw mut next).cast(), 1)
            | bpf_skb_load_bytes(
                skb.0.cast(),
                link_bytes + IPV6_BYTES as u32,
                (&raw mut behind).cast(),
                4,
            )
    };
    // RFC 2675: a length of 8 bytes (0), the option (0xc2) and its 4 bytes
    let [after, 0, 0xc2, 4] = behind else {
        return Some(());
    };
    if failed != 0 || next != protocol::HOP_BY_HOP {
        return Some(());
    }
    // SAFETY: the context is valid; one byte is copied from a local variable.
    let done = unsafe {
        bpf_skb_adjust_room(skb.0, -(JUMBO_BYTES as i32), ROOM_NET, FLAGS.into())
            | bpf_skb_store_bytes(skb.0, at, (&raw const after).cast(), 1, 0)
    };
    (done == 0).then_some(())
}

/// Truncates the frame to this many bytes.
#[inline(always)]
pub(super) fn cut(skb: Skb, bytes: u32) -> Option<()> {
    // SAFETY: the context is valid.
    (unsafe { bpf_skb_change_tail(skb.0, bytes, 0) } == 0).then_some(())
}

/// Takes off the front of the inner packet.
#[inline(always)]
pub(super) fn pull(skb: Skb, bytes: u32) -> Option<()> {
    // SAFETY: the context is valid.
    let done = unsafe {
        bpf_skb_adjust_room(
            skb.0,
            -(bytes as i32),
            ROOM_MAC,
            BPF_F_ADJ_ROOM_NO_CSUM_RESET.into(),
        )
    };
    (done == 0).then_some(())
}

/// Most that `bpf_skb_adjust_room` takes off at once, and pulls of that size that 64 KiB take.
pub(super) const PULL_MAX: u32 = 4088;
pub(super) const PULLS: u32 = 17;

/// Sets the length of the frame. The helper accepts no length beyond 16 KiB (`BPF_SKB_MAX_LEN`),
/// not even the present one.
#[inline(always)]
pub(super) fn trim(skb: Skb, bytes: u32) -> Option<()> {
    if skb.len() == bytes {
        Some(())
    } else {
        cut(skb, bytes)
    }
}
