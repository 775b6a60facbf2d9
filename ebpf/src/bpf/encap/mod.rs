//! Input: every packet that leaves an output interface. It encapsulates our clones and passes all
//! other packets on unchanged.

mod outer;
mod room;
mod slice;

use core::intrinsics::cold_path;

use aya_ebpf::bindings::{__sk_buff, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO};
use aya_ebpf::helpers::generated::{bpf_redirect_neigh, bpf_skb_change_head};
use traffic_mirror_ebpf::abi::{Level, Receipt, cb, tc_index_tag};
use traffic_mirror_ebpf::gue::{IPV4_BYTES, IPV6_BYTES, OUTER6_BYTES, Variable};
use traffic_mirror_ebpf::packet::ETHER_BYTES;

use crate::bpf::copy::relay::relay;
use crate::bpf::direct::control;
use crate::bpf::encap::outer::{identification, store_outer};
use crate::bpf::encap::room::{cut, make_room, take_jumbo_off};
use crate::bpf::encap::slice::take_slice;
use crate::bpf::level::{has_wrapped, sender};
use crate::bpf::maps::ENDPOINTS;
use crate::bpf::queue::is_full;
use crate::bpf::skb::{DROP, NEXT, Skb, pop_tags};

/// Copies yield where a queue has bands: pfifo_fast, prio and mqprio put this priority into the
/// last band, and most of production, which has priority 0, into the one before
/// (include/uapi/linux/pkt_sched.h, `sch_default_prio2band`).
const TC_PRIO_BULK: u32 = 2;

#[inline(always)]
pub(super) fn encap(skb: Skb) -> i32 {
    let control = control();
    if !skb.is_clone(control.secret) {
        return NEXT;
    }
    let word = skb.cb::<{ cb::ENDPOINT }>();
    if word >> cb::GENERATION_SHIFT != control.generation & 0xffff {
        return NEXT;
    }
    if word & cb::DONE != 0 {
        cold_path();
        confirm(skb);
        return NEXT;
    }
    if word & cb::HEADERLESS != 0 {
        cold_path();
        relay(skb.0);
        // what was sent on is a clone of it
        return DROP;
    }
    let Some(sender) = sender() else { return DROP };
    let is_held = word & cb::LOOK != 0
        && ENDPOINTS.get(word & 0xff).is_some_and(|pair| {
            is_full(skb.0, pair[(word >> cb::BANK_SHIFT & 1) as usize].backlog) != 0
        });
    let (verdict, receipt) = if is_held {
        cold_path();
        (DROP, Receipt::Full)
    } else {
        match wrap(skb, word, control.secret, sender) {
            None => (DROP, Receipt::Refused),
            Some(NEXT) => (NEXT, Receipt::Passed),
            Some(redirected) => (redirected, Receipt::Resolving),
        }
    };
    // SAFETY: a per-CPU element; volatile, since `mirror` waits for it in a helper.
    unsafe { (&raw mut (*sender).receipt).write_volatile(receipt as u32) }
    verdict
}

/// The kernel's neighbour code has sent a copy on. If `mirror` still waits for it, and not for
/// another, it has not been held.
#[inline(always)]
fn confirm(skb: Skb) {
    let Some(sender) = sender() else { return };
    // SAFETY: a per-CPU element.
    unsafe {
        let receipt = &raw mut (*sender).receipt;
        if receipt.read_volatile() == Receipt::Resolving as u32 && has_wrapped(skb.0) != 0 {
            receipt.write_volatile(Receipt::Passed as u32);
        }
    }
}

/// Encapsulates the clone; `None` if the kernel failed.
#[inline(always)]
fn wrap(skb: Skb, word: u32, secret: u64, sender: *mut Level) -> Option<i32> {
    let pair = ENDPOINTS.get(word & 0xff)?;
    let endpoint = &pair[(word >> cb::BANK_SHIFT & 1) as usize];
    let flow = skb.cb::<{ cb::FLOW }>();
    let length = skb.cb::<{ cb::LENGTH }>();
    // Production's mark and priority must not put a copy into production's class.
    skb.set_mark(0);
    skb.set_priority(TC_PRIO_BULK);
    skb.set_tc_index(tc_index_tag(secret));
    skb.set_cb::<{ cb::ENDPOINT }>(word | cb::DONE);
    pop_tags(skb)?;
    if length != 0 {
        cold_path();
        cut(skb, endpoint.link_bytes + length)?;
    }
    if word & cb::IPV6 != 0
        && skb.len() > endpoint.link_bytes + IPV6_BYTES as u32 + u32::from(u16::MAX)
    {
        cold_path();
        take_jumbo_off(skb, endpoint.link_bytes)?;
    }
    let over_ipv6 = endpoint.outer_bytes == OUTER6_BYTES as u32;
    let variable = if word & cb::SLICE != 0 {
        cold_path();
        take_slice(skb, endpoint, word, flow, sender)?
    } else {
        let fixed = if word & cb::FIXED != 0 && skb.gso_size() != 0 {
            BPF_F_ADJ_ROOM_FIXED_GSO
        } else {
            0
        };
        make_room(
            skb,
            endpoint.outer_bytes,
            over_ipv6,
            fixed | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        )?;
        let ip_bytes = skb.len().wrapping_sub(endpoint.link_bytes);
        let header = if over_ipv6 { IPV6_BYTES } else { IPV4_BYTES } as u32;
        Variable {
            length: ip_bytes,
            udp_length: ip_bytes.wrapping_sub(header),
            flow,
            identification: identification(word, sender),
            offset: 0,
            more: false,
            inner_ipv6: word & cb::IPV6 != 0,
            checksum: 0,
            payload: 0,
        }
    };
    store_outer(skb, endpoint, variable, over_ipv6, sender)?;
    if word & cb::PROBE == 0 {
        return Some(NEXT);
    }
    cold_path();
    let verdict = route(skb.0, endpoint.interface, endpoint.link_bytes);
    (verdict != DROP).then_some(verdict)
}

/// Has the kernel find route and neighbour by the outer header; answers the verdict. A global
/// function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn route(skb: *mut __sk_buff, interface: u32, link_bytes: u32) -> i32 {
    // the neighbour code removes a link header, of which it reads only a multicast bit
    // SAFETY: the context is valid.
    if link_bytes == 0 && unsafe { bpf_skb_change_head(skb, ETHER_BYTES, 0) } != 0 {
        return DROP;
    }
    // SAFETY: without parameters the kernel finds both by itself.
    unsafe { bpf_redirect_neigh(interface, core::ptr::null_mut(), 0, 0) as i32 }
}
