//! Input: a fragment. Output: what its datagram's first fragment has told. The table has a fixed size: a flood of fragments
//! makes it forget, not grow.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use traffic_mirror_ebpf::abi::MAX_FIRSTS;
use traffic_mirror_ebpf::datagram::{Kin, first, follow, key};
use traffic_mirror_ebpf::packet::Packet;

use crate::echo::is_echo;
use crate::maps::{CONTROL, FIRSTS};

/// [`Kin`] as a number.
pub const KNOWN: u32 = 0;
pub const LOOP: u32 = 1;
pub const ORPHAN: u32 = 2;

/// Remembers a first fragment; gives a later one the ports of its first. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn recall(skb: *mut __sk_buff, packet: *mut Packet, hook: u32) -> u32 {
    let Some(control) = CONTROL.get(0) else { return ORPHAN };
    if packet.is_null() {
        return ORPHAN;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &mut *packet };
    let key = key(packet, hook, control.secret);
    let Some(place) = FIRSTS.get_ptr_mut(key as u32 % MAX_FIRSTS as u32) else { return ORPHAN };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if packet.fragment == Packet::FIRST {
        let is_loop = is_echo(skb, &raw const *packet) != 0;
        // SAFETY: an element of the map; who reads it half written sees that.
        unsafe { *place = first(packet, key, is_loop, now) };
        return if is_loop { LOOP } else { KNOWN };
    }
    // SAFETY: as above.
    match follow(packet, unsafe { *place }, key, now) {
        Kin::Known => KNOWN,
        Kin::Loop => LOOP,
        Kin::Orphan => ORPHAN,
    }
}
