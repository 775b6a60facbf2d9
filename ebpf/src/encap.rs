//! Input: every packet that leaves an output interface. A clone of ours is wrapped; any other goes on untouched.

use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
    BPF_F_ADJ_ROOM_NO_CSUM_RESET,
};
use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_redirect_neigh, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_vlan_pop,
};
use traffic_mirror_ebpf::abi::{Endpoint, Receipt, cb};
use traffic_mirror_ebpf::gue::{OUTER4_BYTES, OUTER6_BYTES, Variable, fill4, fill6};
use traffic_mirror_ebpf::packet::{ETHER_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

use crate::maps::{CONTROL, CPU, ENDPOINTS};
use crate::skb::{DROP, NEXT, Skb};

/// `BPF_ADJ_ROOM_MAC`: room behind the link header.
const ROOM_MAC: u32 = 1;
/// Tags that a frame may carry: one beside it, and in it as many as the parser looks through.
const MAX_TAGS: u32 = 4;

#[inline(always)]
pub fn encap(skb: Skb) -> i32 {
    let Some(control) = CONTROL.get(0) else { return NEXT };
    // somebody who clears the map must not have production wrapped
    if control.secret == 0 {
        return NEXT;
    }
    if skb.cb::<0>() != control.secret as u32 || skb.cb::<1>() != (control.secret >> 32) as u32 {
        return NEXT;
    }
    let word = skb.cb::<{ cb::ENDPOINT }>();
    if word & cb::DONE != 0 || word >> cb::GENERATION_SHIFT != control.generation & 0xffff {
        return NEXT;
    }
    let (verdict, receipt) = match wrap(skb, word) {
        None => (DROP, Receipt::Refused),
        Some(NEXT) => (NEXT, Receipt::Passed),
        Some(redirected) => (redirected, Receipt::Resolving),
    };
    if let Some(cpu) = CPU.get_ptr_mut(0) {
        // SAFETY: a per-CPU element.
        unsafe { (&raw mut (*cpu).receipt).write_volatile(receipt as u32) }
    }
    verdict
}

/// Wraps the clone; `None` if the kernel refused.
#[inline(always)]
fn wrap(skb: Skb, word: u32) -> Option<i32> {
    let pair = ENDPOINTS.get(word & 0xff)?;
    let endpoint = &pair[(word >> cb::PARITY_SHIFT & 1) as usize];
    let flow = skb.cb::<{ cb::FLOW }>();
    let length = skb.cb::<{ cb::LENGTH }>();
    // Production's mark and priority must not put a copy into production's class.
    skb.set_mark(0);
    skb.set_priority(0);
    skb.set_cb::<{ cb::ENDPOINT }>(word | cb::DONE);
    pop_tags(skb)?;
    if length != 0 {
        let end = endpoint.link_bytes + length;
        // SAFETY: the context is valid.
        (unsafe { bpf_skb_change_tail(skb.0, end, 0) } == 0).then_some(())?;
    }
    let over_ipv6 = endpoint.outer_bytes == OUTER6_BYTES as u32;
    let fixed = if word & cb::FIXED != 0 && skb.gso_size() != 0 { BPF_F_ADJ_ROOM_FIXED_GSO } else { 0 };
    let flags = u64::from(fixed | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
    let done = if over_ipv6 {
        // SAFETY: the context is valid.
        unsafe {
            let flags = flags | u64::from(BPF_F_ADJ_ROOM_ENCAP_L3_IPV6);
            bpf_skb_adjust_room(skb.0, OUTER6_BYTES as i32, ROOM_MAC, flags)
        }
    } else {
        // SAFETY: the context is valid.
        unsafe {
            let flags = flags | u64::from(BPF_F_ADJ_ROOM_ENCAP_L3_IPV4);
            bpf_skb_adjust_room(skb.0, OUTER4_BYTES as i32, ROOM_MAC, flags)
        }
    };
    (done == 0).then_some(())?;
    let variable = Variable {
        length: skb.len().wrapping_sub(endpoint.link_bytes),
        flow,
        identification: identification(),
        inner_ipv6: word & cb::IPV6 != 0,
    };
    if endpoint.link_bytes == 0 {
        write_outer(skb, endpoint, 0, variable, over_ipv6)?;
        return Some(NEXT);
    }
    write_link(skb, endpoint)?;
    write_outer(skb, endpoint, ETHER_BYTES as usize, variable, over_ipv6)?;
    if word & cb::PROBE == 0 {
        return Some(NEXT);
    }
    // SAFETY: without parameters the kernel finds route and neighbour by the outer header.
    Some(unsafe { bpf_redirect_neigh(endpoint.interface, core::ptr::null_mut(), 0, 0) } as i32)
}

/// Takes off all VLAN tags: one beside the frame would end up outside, one in it before the outer header.
#[inline(always)]
fn pop_tags(skb: Skb) -> Option<()> {
    let mut popped = 0;
    loop {
        if skb.vlan_present() == 0 && matches!(skb.ethertype(), ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
            return Some(());
        }
        if popped == MAX_TAGS {
            return None;
        }
        // SAFETY: the context is valid.
        (unsafe { bpf_skb_vlan_pop(skb.0) } == 0).then_some(())?;
        popped += 1;
    }
}

/// Differs between the packets of one CPU and between CPUs, so that fragments made on the way are not mixed up.
#[inline(always)]
fn identification() -> u16 {
    let Some(cpu) = CPU.get_ptr_mut(0) else { return 0 };
    // SAFETY: a per-CPU element.
    let serial = unsafe { (*cpu).serial };
    // SAFETY: no arguments.
    let offset = (unsafe { bpf_get_smp_processor_id() }).wrapping_mul(0x9e37);
    (serial as u32).wrapping_add(offset) as u16
}

#[inline(always)]
fn write_link(skb: Skb, endpoint: &Endpoint) -> Option<()> {
    let start = skb.data() as usize;
    if start + ETHER_BYTES as usize > skb.data_end() as usize {
        return None;
    }
    let to = start as *mut u16;
    let from = endpoint.link.as_ptr().cast::<u16>();
    let mut i = 0;
    while i < ETHER_BYTES as usize / 2 {
        // SAFETY: checked above; `link` has 16 bytes at an even address.
        unsafe { to.add(i).write(from.add(i).read()) };
        i += 1;
    }
    Some(())
}

#[inline(always)]
fn write_outer(skb: Skb, endpoint: &Endpoint, at: usize, variable: Variable, over_ipv6: bool) -> Option<()> {
    let start = skb.data() as usize + at;
    let end = skb.data_end() as usize;
    let template = endpoint.outer.as_ptr().cast::<u32>();
    if over_ipv6 {
        if start + OUTER6_BYTES > end {
            return None;
        }
        copy_words::<{ OUTER6_BYTES / 4 }>(start as *mut u32, template);
        // SAFETY: checked above.
        fill6(unsafe { &mut *(start as *mut [u16; OUTER6_BYTES / 2]) }, variable);
    } else {
        if start + OUTER4_BYTES > end {
            return None;
        }
        copy_words::<{ OUTER4_BYTES / 4 }>(start as *mut u32, template);
        // SAFETY: checked above.
        fill4(unsafe { &mut *(start as *mut [u16; OUTER4_BYTES / 2]) }, variable);
    }
    Some(())
}

#[inline(always)]
fn copy_words<const N: usize>(to: *mut u32, from: *const u32) {
    let mut i = 0;
    while i < N {
        // SAFETY: the caller has checked N words; each is one instruction, see `Window::load`.
        unsafe { *to.add(i) = *from.add(i) };
        i += 1;
    }
}
