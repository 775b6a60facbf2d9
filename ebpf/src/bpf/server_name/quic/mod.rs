//! Input: a datagram that a filter with server names may match. Output: the class of its flow's
//! server name, which the daemon reads in QUIC Initials, and what is remembered of the flow.

mod answer;
mod initials;
mod tentative;
mod visit;

use aya_ebpf::bindings::__sk_buff;
use traffic_mirror_ebpf::abi::{ANY_CLASS, NameFound, Skipped};
use traffic_mirror_ebpf::flow::Step;
use traffic_mirror_ebpf::flow::datagram::HANDSHAKE_PACKETS;
use traffic_mirror_ebpf::packet::Packet;

pub(in crate::bpf) use answer::answer;

use super::state::current;
use super::{UNDECIDED, count_found, flows, learned};
use crate::bpf::direct::values;
use crate::bpf::hook_stats::count;
use crate::bpf::verifier::opaque;

/// As [`server_name`](super::server_name), for a datagram. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(in crate::bpf) extern "C" fn server_name_of_quic(
    skb: *mut __sk_buff,
    packet: *const Packet,
    epoch: u32,
    hook: u32,
) -> u32 {
    let step = opaque(visit::visit_datagram(skb, packet, epoch));
    let Some(visit) = current() else {
        return UNDECIDED;
    };
    if visit.flow.forget != 0 {
        flows::forget_flow(visit.key);
        visit.was_known = 0;
    }
    let is = |one: Step| step == one as u32;
    if is(Step::Begin) {
        tentative::begin();
    } else if is(Step::Ask) || is(Step::Unknown) || is(Step::Decided) {
        tentative::go_on();
    } else if !is(Step::Confirm) && !is(Step::Known) {
        return UNDECIDED;
    }
    let is_to_be_read = is(Step::Begin) || is(Step::Ask);
    if is_to_be_read && opaque(initials::send(skb)) == 0 {
        count(hook, Skipped::Unread as u32);
    }
    let is_known = opaque((visit.was_known != 0) as u32) != 0;
    let mut is_put = 0;
    if is(Step::Confirm) {
        // else the next packet of the client tries again
        is_put = opaque(flows::put_flow());
        if is_put != 0 {
            tentative::forget();
        }
    } else if is_known {
        if visit.flow.known.0 != visit.was_known {
            flows::put_flow();
        }
    } else if !is(Step::Decided) {
        return if visit.flow.read.packets > HANDSHAKE_PACKETS {
            UNDECIDED
        } else {
            ANY_CLASS
        };
    }
    let class = opaque(learned::class_of_flow(u32::from(
        is(Step::Confirm) || is_known,
    )));
    if is_put != 0 {
        visit.found = if class != values().other_name {
            NameFound::Wanted as u32
        } else if visit.flow.read.has_ech != 0 {
            NameFound::Ech as u32
        } else {
            NameFound::Other as u32
        };
        count_found(hook);
    }
    class
}
