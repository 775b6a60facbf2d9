//! Packets that must be segmented before encapsulation: superpackets whose packets exceed the MTU,
//! and SCTP packets whose checksum was left to the output interface. [`segment`] sends a clone into
//! the segmenter, interfaces of ours in which the kernel segments everything; at their exit, below,
//! [`segmenter`] gets the packets one by one, while the helper of the first still runs.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use traffic_mirror_ebpf::abi::{Drop, Receipt, Transit, cb};
use traffic_mirror_ebpf::classify::lowest_bit;
use traffic_mirror_ebpf::packet::Packet;

use crate::bpf::copy::drops::count_lost;
use crate::bpf::copy::fan_out::fan_out;
use crate::bpf::copy::fragment::fragment;
use crate::bpf::copy::send::{CloneRequest, send, was_over};
use crate::bpf::direct::control;
use crate::bpf::level::{depth, is_too_deep, level};
use crate::bpf::maps::{CPU, ENDPOINTS};
use crate::bpf::measure::measure;
use crate::bpf::parse::parse_scattered;
use crate::bpf::skb::{DROP, NEXT, Skb, pop_tags};

/// Sends a copy through the segmenter for each of the endpoints. A global function: the verifier
/// checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn segment(
    skb: *mut __sk_buff,
    packet: *const Packet,
    endpoints: u64,
    bank: u32,
) -> u32 {
    let (Some(cpu), Some(pair)) = (CPU.get_ptr_mut(0), ENDPOINTS.get(lowest_bit(endpoints))) else {
        return 0;
    };
    let level = level(cpu, depth(cpu));
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let size = measure(Skb(skb), unsafe { &*packet });
    // there is one for all
    let endpoint = &pair[bank as usize & 1];
    let interface = if endpoint.has_segmenter() {
        endpoint.segmenter
    } else {
        0
    };
    // SAFETY: a per-CPU element.
    let sequence = unsafe {
        let sequence = (*cpu).sequence.wrapping_add(2) & !1 | bank & 1;
        (*cpu).sequence = sequence;
        (*level).transit = Transit {
            endpoints,
            sequence,
            arrived: 0,
        };
        sequence
    };
    let reason = if interface == 0 {
        Drop::NoSegmenter as u32
    } else {
        // SAFETY: the caller passes a pointer to a local variable.
        let word = if unsafe { (*packet).headerless } != 0 {
            cb::HEADERLESS
        } else {
            0
        };
        let request = CloneRequest {
            interface,
            word,
            flow: sequence,
            // SAFETY: no arguments.
            length: unsafe { bpf_get_smp_processor_id() },
        };
        let reason = send(skb, &raw const request);
        // SAFETY: a per-CPU element; volatile, since `encap` has written it meanwhile.
        let is_taken =
            word == 0 || unsafe { (&raw const (*level).relay.interface).read_volatile() } == 0;
        if reason == Drop::Budget as u32 || !is_taken && reason == Drop::Unwrapped as u32 {
            // it has not even got to the segmenter
            reason
        } else if was_over(cpu) {
            Drop::Budget as u32
        } else {
            // whatever the reason is: packets that have not come out by now are lost inside this
            // host
            Drop::Clone as u32
        }
    };
    // SAFETY: a per-CPU element; volatile, since `segmenter` has written it meanwhile.
    let arrived = unsafe {
        (&raw mut (*level).transit.endpoints).write_volatile(0);
        (&raw const (*level).transit.arrived).read_volatile()
    };
    if arrived < size.packets {
        count_lost(endpoints, reason, size.packets - arrived, bank);
    }
    0
}

/// Sends a copy of a packet that has come through the segmenter to each endpoint, and ends it
/// there.
#[inline(always)]
pub(super) fn segmenter(skb: Skb) -> i32 {
    let Some(cpu) = CPU.get_ptr_mut(0) else {
        return NEXT;
    };
    let control = control();
    let is_ours = skb.is_clone(control.secret)
        && skb.cb::<{ cb::ENDPOINT }>() >> cb::GENERATION_SHIFT == control.generation & 0xffff;
    if !is_ours {
        return NEXT;
    }
    let mut packet = Packet::default();
    let depth = depth(cpu);
    let (sender, own) = (level(cpu, depth.wrapping_sub(1)), level(cpu, depth));
    // SAFETY: a per-CPU element.
    let Transit {
        endpoints,
        sequence,
        ..
    } = unsafe { (*sender).transit };
    // If another process has added a queue, it comes later, or on a CPU that is sending another
    // one.
    // SAFETY: no arguments.
    let is_here = skb.cb::<{ cb::FLOW }>() == sequence
        && skb.cb::<{ cb::LENGTH }>() == unsafe { bpf_get_smp_processor_id() };
    // Otherwise it counts as lost. So do packets that are not segmented, and fragments of a
    // datagram that a guest leaves to this host (UFO): their number is unknown before, and they
    // belong to another flow.
    let is_packet = is_here
        && endpoints != 0
        // otherwise it is among those that `segment` counts
        && !was_over(cpu)
        && !is_too_deep(depth)
        && skb.gso_size() == 0
        // an output without a link header would get a tag that cannot be removed any more
        && pop_tags(skb).is_some()
        && parse_scattered(skb.0, &raw mut packet) == 0;
    if is_packet && packet.fragment == 0 {
        // SAFETY: a per-CPU element.
        unsafe {
            // the fragments of each have an identification of their own
            (*cpu).serial += 1;
            (*own).number = (*cpu).serial as u32;
        }
        let bank = sequence & 1;
        let oversize = fan_out(skb.0, &raw const packet, endpoints, bank);
        if oversize != 0 {
            fragment(skb.0, &raw const packet, oversize, bank, 1);
        }
        // SAFETY: as above.
        unsafe { (*sender).transit.arrived += 1 };
    }
    if is_here && endpoints != 0 {
        // SAFETY: as above.
        unsafe { (&raw mut (*sender).receipt).write_volatile(Receipt::Segmented as u32) };
    }
    DROP
}
