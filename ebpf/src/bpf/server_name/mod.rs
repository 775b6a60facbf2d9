//! Input: a packet that a filter with server names may match. Output: the class of its flow's
//! server name, and what is remembered of the flow.

mod assembly;
mod flows;
mod learned;
mod payload;
mod plain;
mod quic;
mod state;
mod visit;

use aya_ebpf::bindings::__sk_buff;
use traffic_mirror_ebpf::abi::{ANY_CLASS, NameFound};
use traffic_mirror_ebpf::flow::{Known, Step, Undecided};
use traffic_mirror_ebpf::packet::Packet;

use crate::bpf::hook_stats::count;
use crate::bpf::verifier::opaque;

pub(super) use quic::{answer, server_name_of_quic};

/// The class of a TCP packet's server name, [`ANY_CLASS`] as long as it is not known, or
/// [`UNDECIDED`]. `hook` is the index of the hook's counters.
#[inline(always)]
pub(super) fn server_name_of_tcp(
    skb: *mut __sk_buff,
    packet: *const Packet,
    epoch: u32,
    hook: u32,
) -> u32 {
    match opaque(plain::class_of_plain(skb, packet, epoch)) {
        plain::ANOTHER_WAY => opaque(server_name(skb, packet, epoch, hook)),
        class => class,
    }
}

/// In place of a class: the name cannot be known.
pub(super) const UNDECIDED: u32 = ANY_CLASS - 1;

/// As [`server_name_of_tcp`], for what [`plain::class_of_plain`] leaves. A global function: the
/// verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn server_name(
    skb: *mut __sk_buff,
    packet: *const Packet,
    epoch: u32,
    hook: u32,
) -> u32 {
    let step = opaque(visit::visit(skb, packet, epoch));
    let Some(visit) = state::current() else {
        return UNDECIDED;
    };
    if visit.flow.forget != 0 {
        flows::forget_flow(visit.key);
    }
    let mut answered = 1;
    if step == Step::Read as u32 {
        let name = opaque(payload::find_name(skb));
        if name == payload::MORE {
            flows::put_tentative();
            return ANY_CLASS;
        }
        visit.flow.known = match name {
            payload::NO_NAME => Known::undecided(Undecided::NoName),
            payload::TOO_LONG => Known::undecided(Undecided::TooLong),
            payload::NO_ROOM => Known::undecided(Undecided::NoRoom),
            payload::OTHER if visit.flow.tentative.has_handshake() => {
                Known::undecided(Undecided::Other)
            }
            payload::OTHER => Known::undecided(Undecided::MidFlow),
            name => Known::named(name, learned::hash_of(name)),
        };
        let (segment, now) = (visit.flow.segment, visit.flow.now);
        let end = segment.first().wrapping_add(segment.payload);
        visit.flow.tentative = visit.flow.tentative.decided(visit.flow.known, end, now);
        flows::put_tentative();
        count_found(hook);
        answered = 0;
    } else if step == Step::Known as u32 {
        if visit.flow.known.0 != visit.was_known {
            flows::put_flow();
        }
    } else if step == Step::Confirm as u32 {
        // else the next packet of the other side tries again
        if flows::put_flow() != 0 {
            flows::forget_tentative();
        }
    } else if step == Step::Decided as u32 {
        answered = 0;
    } else if step == Step::Conclude as u32 {
        flows::put_tentative();
        count_found(hook);
        answered = 0;
    } else if step == Step::Remember as u32 {
        flows::put_tentative();
        return ANY_CLASS;
    } else if step == Step::Unknown as u32 {
        return ANY_CLASS;
    } else {
        return UNDECIDED;
    }
    learned::class_of_flow(answered)
}

/// Counts what was found of the name of the flow at hand. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn count_found(hook: u32) -> u32 {
    if let Some(visit) = state::current() {
        let found = match visit.flow.known.reason() {
            0 => visit.found,
            reason => NameFound::of(reason),
        };
        count(hook, NameFound::Wanted.place() as u32 + found);
    }
    0
}
