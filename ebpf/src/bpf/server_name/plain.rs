//! Input: a packet. Output: the class of its flow, if the packet is one of most: its flow is known,
//! and the packet changes nothing of that.

use aya_ebpf::bindings::__sk_buff;
use traffic_mirror_ebpf::flow::{self, Known, Segment, age};
use traffic_mirror_ebpf::packet::{Frame as _, Packet, protocol};

use super::state::current;
use super::{UNDECIDED, flows, learned};
use crate::bpf::direct::values;
use crate::bpf::skb::Skb;
use crate::bpf::verifier::opaque;

/// In place of a class: the packet is another one, of which `server_name` takes care. The key of its
/// flow, and what is known of that, are in the state of the CPU then.
pub(super) const ANOTHER_WAY: u32 = UNDECIDED - 2;

/// Offset of the length and, in the second byte, the flags in a TCP header, bytes.
const FLAGS: u32 = 12;

/// The class, or [`ANOTHER_WAY`]. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn class_of_plain(
    skb: *mut __sk_buff,
    packet: *const Packet,
    epoch: u32,
) -> u32 {
    let Some(visit) = current() else {
        return UNDECIDED;
    };
    if packet.is_null() {
        return UNDECIDED;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    if packet.protocol != protocol::TCP || packet.ported == 0 || packet.fragment != 0 {
        return UNDECIDED;
    }
    let key = flow::key(packet, &values().name_keys.flows);
    let known = flows::find_flow(key.hash);
    visit.key = key.hash;
    visit.flow.segment.side = key.side;
    visit.was_known = known;
    let now = visit.clock.now();
    visit.flow.now = now;
    // the clock of another CPU may be a little ahead
    if known == 0 || age(Known(known).time(), now) != 0 {
        return ANOTHER_WAY;
    }
    // the verifier wants to see that it is within a packet
    let at = opaque(u32::from(packet.transport) + FLAGS) & 0x3fff;
    let Some(flags) = Skb(skb).linear().window::<2>(at) else {
        return ANOTHER_WAY;
    };
    if flags.u8(1) & (Segment::FIN | Segment::SYN | Segment::RST) as u8 != 0 {
        return ANOTHER_WAY;
    }
    match learned::remembered_class(Known(known), epoch, now, 1) {
        learned::NOT_COMPARED => ANOTHER_WAY,
        class => class,
    }
}
