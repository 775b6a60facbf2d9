//! Input: a fragment, or a packet of which something is unknown. Output: what is known of it, by what its datagram's first fragment
//! has told. The table has a fixed size: a flood of fragments makes orphans of those who come later, and does not make it grow.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_skb_load_bytes};
use traffic_mirror_ebpf::abi::{MAX_FIRSTS, Unseen};
use traffic_mirror_ebpf::datagram::{ANY_WAY, Kin, first, follow, is_dropped, key};
use traffic_mirror_ebpf::packet::{Packet, VLAN_MASK};

use crate::echo::echo;
use crate::maps::{CONTROL, FIRSTS};
use crate::skb::Skb;

/// Nothing of the packet is unknown; else [`recall`] answers an [`Unseen`].
pub const KNOWN: u32 = u32::MAX;

/// `skb->pkt_type` of what has the hardware address of another host (`PACKET_OTHERHOST`), and goes no further on this one.
const OTHER_HOST: u32 = 3;

/// Remembers a first fragment; gives a later one the ports of its first. A global function: the verifier checks it once.
///
/// A datagram is remembered twice. The kernel puts together what has come by any way, so first fragments must not differ, wherever
/// they come by; and what a first one tells is for those that come by as it did, since the kernel may drop what came by otherwise
/// (for another host, in a VLAN that nobody has).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn recall(skb: *mut __sk_buff, packet: *mut Packet, hook: u32) -> u32 {
    let Some(control) = CONTROL.get(0) else { return Unseen::Table as u32 };
    if packet.is_null() {
        return Unseen::Table as u32;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &mut *packet };
    match packet.fragment {
        0 => return Unseen::Unparsed as u32,
        Packet::FIRST if is_lost(skb, packet) => return known(packet),
        _ => {}
    }
    let way = way(Skb(skb), packet, hook);
    let echo = if packet.fragment == Packet::FIRST { echo(skb, &raw const *packet) } else { 0 };
    let is_loop = echo == Unseen::Loop as u32;
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let mut kin = Kin::Known;
    for way in [way, ANY_WAY] {
        let key = key(packet, way, control.secret);
        let Some(place) = FIRSTS.get_ptr_mut(key as u32 % MAX_FIRSTS as u32) else { return Unseen::Table as u32 };
        // SAFETY: an element of the map; who reads it half written sees that.
        let there = unsafe { *place };
        if packet.fragment == Packet::FIRST {
            let (told, is) = first(there, packet, key, is_loop, now);
            // SAFETY: as above.
            unsafe { *place = told };
            if kin != Kin::Ambiguous {
                kin = is;
            }
        } else if matches!(kin, Kin::Known | Kin::Loop) {
            kin = follow(packet, there, key, now);
        }
    }
    if echo != 0 {
        return echo;
    }
    match kin {
        Kin::Known => known(packet),
        Kin::Loop => Unseen::Loop as u32,
        Kin::Orphan => Unseen::Orphan as u32,
        Kin::Unparsed => Unseen::Unparsed as u32,
        Kin::Ambiguous => {
            // a first one has ports of its own; where what is unknown is left out, it keeps them
            let view = &control.view[control.epoch as usize & 1];
            if view.skips_unparsed == 0 {
                packet.forget_ports();
            }
            Unseen::Ambiguous as u32
        }
    }
}

#[inline(always)]
fn known(packet: &Packet) -> u32 {
    if packet.unknown != 0 { Unseen::Unparsed as u32 } else { KNOWN }
}

/// Where a packet came by: hook, VLAN, and whether it is for another host.
#[inline(always)]
fn way(skb: Skb, packet: &Packet, hook: u32) -> u32 {
    let vlan = if skb.vlan_present() != 0 { skb.vlan_tci() as u16 & VLAN_MASK } else { packet.vlan };
    hook | u32::from(vlan) << 16 | u32::from(skb.pkt_type() == OTHER_HOST) << 31
}

/// Whether the kernel drops a first fragment.
#[inline(always)]
fn is_lost(skb: *mut __sk_buff, packet: &Packet) -> bool {
    let bytes = Skb(skb).len().wrapping_sub(packet.offset.into());
    // A header with options is longer, and not summed up: those who forge one make the datagram ambiguous, if its first comes before
    // the rest.
    let mut sum = 0xffff;
    if packet.version == 4 && packet.transport.wrapping_sub(packet.offset) == 20 {
        let mut header = MaybeUninit::<[u16; 10]>::uninit();
        // SAFETY: 20 bytes are copied to a local variable that has as many.
        let failed = unsafe { bpf_skb_load_bytes(skb.cast(), packet.offset.into(), header.as_mut_ptr().cast(), 20) };
        if failed == 0 {
            // SAFETY: all of it was written.
            sum = unsafe { header.assume_init_ref() }.iter().map(|&word| u32::from(word)).sum();
        }
    }
    is_dropped(packet, sum, bytes)
}
