//! Input: a packet that a filter with applications may match. Output: the class of the cgroup whose
//! socket has sent it or is to receive it, and what is remembered of whose flows are whose.
//!
//! The kernel knows the cgroup of a packet that a socket has sent, and of no other
//! (`bpf_skb_cgroup_id`): the stack looks for the socket of one that it receives after this hook.

mod lessons;
mod origins;
mod owners;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_skb_cgroup_id, bpf_skb_load_bytes};
use traffic_mirror_ebpf::abi::ANY_CLASS;
use traffic_mirror_ebpf::flow::Segment;
use traffic_mirror_ebpf::owner::{Lesson, RECEIVER, SENDER, begins};
use traffic_mirror_ebpf::packet::{Frame as _, Packet, protocol};

use self::lessons::lessons;
use crate::bpf::direct::values;
use crate::bpf::server_name::UNDECIDED;
use crate::bpf::skb::Skb;
use crate::bpf::verifier::opaque;

/// In place of a class: that of a cgroup from which no packet came since the filters came to be
/// others, and which a filter had before. Its unit may have restarted.
const STALE: u32 = UNDECIDED - 1;
/// In place of an element of `ORIGINS`.
const NOWHERE: u32 = u32::MAX;
/// The topmost cgroup, in which the kernel has sockets of its own.
const ROOT: u64 = 1;
/// Where the flags are in a TCP header, and in the two bytes there.
const FLAGS_AT: u32 = 12;

/// The class of the packet's application, [`ANY_CLASS`] as long as it may be about to be known, or
/// [`UNDECIDED`]. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn application(
    skb: *mut __sk_buff,
    packet: *const Packet,
    epoch: u32,
    hook: u32,
) -> u32 {
    if packet.is_null() {
        return UNDECIDED;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let of = unsafe { &*packet };
    let Some(lessons) = lessons() else {
        return UNDECIDED;
    };
    let (flags, now) = (flags(skb, of), lessons.clock.now());
    // SAFETY: the context is valid.
    let id = unsafe { bpf_skb_cgroup_id(skb) };
    let class = if id != 0 {
        let is_tcp = of.protocol == protocol::TCP;
        let may_be_kernels = is_tcp && (id == ROOT || flags & Segment::RST != 0);
        let mut class = UNDECIDED;
        if may_be_kernels {
            class = opaque(owners::remembered(packet, SENDER as u32, epoch));
        }
        if class == UNDECIDED || class == STALE {
            let index = opaque(origins::origin_of(skb, id, now));
            let lesson = Lesson::of(of, flags);
            if !lessons.is_repeated(of, index, lesson, now) {
                owners::teach(packet, index, lesson as u32, now);
            }
            class = opaque(origins::class_of_origin(index, epoch, 1));
        }
        if class == 0 && hook & 1 == 0 {
            // it comes from a container, and may be for a socket of this host
            let other = opaque(owners::remembered(packet, RECEIVER as u32, epoch));
            if other != UNDECIDED {
                class = other;
            }
        }
        class
    } else {
        let mut class = opaque(owners::remembered(packet, RECEIVER as u32, epoch));
        if class == UNDECIDED {
            class = opaque(owners::remembered(packet, SENDER as u32, epoch));
        }
        // another process may listen by now
        let may_be_other = class == 0 && of.protocol == protocol::TCP;
        let is_unknown = class == UNDECIDED || class == STALE || may_be_other;
        if is_unknown && of.ported != 0 && begins(of, flags) {
            let waited = owners::wait(packet, now);
            if waited == ANY_CLASS {
                class = ANY_CLASS;
            }
        }
        class
    };
    if class == 0 || class == STALE {
        values().other_application
    } else {
        class
    }
}

/// The flags of a TCP header; 0 of another packet.
#[inline(always)]
fn flags(skb: *mut __sk_buff, packet: &Packet) -> u32 {
    if packet.protocol != protocol::TCP || packet.ported == 0 || packet.fragment == Packet::LATER {
        return 0;
    }
    let at = u32::from(packet.transport) + FLAGS_AT;
    // the verifier wants to see that it is within a packet
    if let Some(flags) = Skb(skb).linear().window::<2>(opaque(at) & 0x3fff) {
        return flags.u8(1).into();
    }
    let mut word = 0u16;
    // SAFETY: the variable has two bytes; the context is valid.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), at, (&raw mut word).cast(), 2) };
    if failed == 0 {
        u32::from(u16::from_be(word) & 0xff)
    } else {
        0
    }
}

const _: () = assert!(STALE != ANY_CLASS && STALE != UNDECIDED);
