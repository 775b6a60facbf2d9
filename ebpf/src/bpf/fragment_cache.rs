//! Input: a fragment, or a packet with unknown fields. Output: these fields, from the cached first
//! fragment of its datagram. The table has a fixed size: a flood of fragments turns later ones into
//! orphans and does not make it grow.

use core::intrinsics::{AtomicOrdering, atomic_xchg};

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use traffic_mirror_ebpf::abi::{First, Skipped};
use traffic_mirror_ebpf::fragment_key::{
    ANY_WAY, Lookup, begin, contested, first, follow, is_dropped, key, place_of, reach,
    secret_of_tags, tell,
};
use traffic_mirror_ebpf::packet::{Packet, VLAN_MASK};

use crate::bpf::direct::control;
use crate::bpf::loop_guard::find_loop;
use crate::bpf::maps::FIRSTS;
use crate::bpf::skb::{Scattered, Skb};
use crate::bpf::verifier::opaque;

/// No field of the packet is unknown; otherwise [`find_fragment`] returns a [`Skipped`].
pub(super) const KNOWN: u32 = u32::MAX;

/// Caches a first fragment; gives a later one the ports of its first. A first one that is not
/// cached keeps its own ports, but is counted. A global function: the verifier checks it once.
///
/// A datagram has two entries. The kernel reassembles fragments from all interfaces, so first
/// fragments must not differ wherever they arrive; but the ports of a first fragment apply only to
/// fragments that arrive as it did, since the kernel may drop fragments that arrive otherwise (for
/// another host, in an unused VLAN, as a broadcast of the link).
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn find_fragment(skb: *mut __sk_buff, packet: *mut Packet, hook: u32) -> u32 {
    let control = control();
    if packet.is_null() {
        return Skipped::Table as u32;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &mut *packet };
    let (mut frame, is_first) = (Scattered::new(Skb(skb)), packet.fragment == Packet::FIRST);
    let bytes = Skb(skb).len().wrapping_sub(packet.offset.into());
    let extent = match packet.fragment {
        0 => return Skipped::Unparsed as u32,
        Packet::FIRST if is_dropped(&mut frame, packet, bytes) => return known(packet),
        Packet::FIRST => reach(packet),
        _ => begin(&mut frame, packet),
    };
    let way = way(Skb(skb), packet, hook);
    let loop_found = if is_first {
        find_loop(skb, &raw const *packet)
    } else {
        0
    };
    let is_loop = loop_found == Skipped::Loop as u32;
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let extent = extent | u32::from(is_loop) << LOOP_SHIFT;
    let secret = secret_of_tags(&mut frame, packet, control.secret);
    let one = opaque(compare(&raw mut *packet, way, secret, extent, now));
    let all = opaque(compare(
        &raw mut *packet,
        ANY_WAY,
        control.secret,
        extent,
        now,
    ));
    let lookup = if one > all { one } else { all };
    if loop_found != 0 {
        return loop_found;
    }
    if lookup == Lookup::Known as u32 {
        return known(packet);
    }
    if lookup == Lookup::Loop as u32 {
        return Skipped::Loop as u32;
    }
    // a first one has ports of its own; where what is unknown is left out, it keeps them
    let active = &control.banks[control.epoch as usize & 1];
    if !is_first || lookup == Lookup::Ambiguous as u32 && active.skips_unparsed == 0 {
        packet.forget_ports();
    }
    match lookup {
        UNPARSED => Skipped::Unparsed as u32,
        ORPHAN => Skipped::Orphan as u32,
        _ => Skipped::Ambiguous as u32,
    }
}

const UNPARSED: u32 = Lookup::Unparsed as u32;
const ORPHAN: u32 = Lookup::Orphan as u32;
/// Beside where a first fragment ends: whether a mirror has sent it.
const LOOP_SHIFT: u32 = 31;

/// Compares a fragment with the cached state of its datagram on one path, and updates the state;
/// gives a later one the ports of its first. `extent` is from [`reach`] or [`begin`], with
/// [`LOOP_SHIFT`] for a first one that a mirror has sent. Returns a [`Lookup`]. A global function,
/// as [`find_fragment`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn compare(packet: *mut Packet, way: u32, secret: u64, extent: u32, now: u64) -> u32 {
    if packet.is_null() {
        return Lookup::Orphan as u32;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &mut *packet };
    let key = key(packet, way, secret);
    let Some(place) = FIRSTS.get_ptr_mut(place_of(key, now, |at| FIRSTS.get(at).copied())) else {
        return Lookup::Orphan as u32;
    };
    // SAFETY: an element of the map; a reader detects an element that is half written.
    let there = unsafe { *place };
    let is_first = packet.fragment == Packet::FIRST;
    let (mut left, mut lookup) = if is_first {
        first(
            there,
            packet,
            key,
            extent & !(1 << LOOP_SHIFT),
            extent >> LOOP_SHIFT != 0,
            now,
        )
    } else {
        follow(there, key, extent, now)
    };
    if left != there {
        // SAFETY: as above.
        let found = unsafe { put(place, left) };
        if found != there.value && found != left.value {
            (left, lookup) = (contested(packet, key, now), Lookup::Ambiguous);
            // SAFETY: as above.
            unsafe { put(place, left) };
        }
    }
    if !is_first && matches!(lookup, Lookup::Known) {
        tell(packet, left);
    }
    lookup as u32
}

/// Puts `left` into a place, and answers the value that was there: of two CPUs that have read the
/// same one finds what the other has put.
///
/// # Safety
/// `place` is an element of the map.
#[inline(always)]
unsafe fn put(place: *mut First, left: First) -> u64 {
    // SAFETY: see the caller; a reader detects one word without the other.
    unsafe {
        let found =
            atomic_xchg::<u64, { AtomicOrdering::Relaxed }>(&raw mut (*place).value, left.value);
        (*place).check = left.check;
        found
    }
}

#[inline(always)]
fn known(packet: &Packet) -> u32 {
    if packet.unknown != 0 {
        Skipped::Unparsed as u32
    } else {
        KNOWN
    }
}

/// Where a packet came by: hook, VLAN, and whether it is for this host, for another, or for
/// several.
#[inline(always)]
fn way(skb: Skb, packet: &Packet, hook: u32) -> u32 {
    let vlan = if skb.vlan_present() != 0 {
        skb.vlan_tci() as u16 & VLAN_MASK
    } else {
        packet.vlan
    };
    hook | u32::from(vlan) << 16 | skb.pkt_type() << 28
}
