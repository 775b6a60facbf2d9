//! Input: every packet of a hook. Output: a clone for each endpoint that the filters name; the
//! packet itself continues unchanged.

use core::ffi::c_long;
use core::intrinsics::cold_path;

use aya_ebpf::bindings::__sk_buff;
use traffic_mirror_ebpf::abi::{
    ANY_CLASS, BLOCK_SLOTS, BLOCKS, Field, Interfaces, Skipped, Slot, cb, tc_index_tag,
};
use traffic_mirror_ebpf::classify::{Candidates, OutOfTable, Search, hook_at, hook_of};
use traffic_mirror_ebpf::packet::{Packet, VLAN_MASK, protocol};

use crate::bpf::copy::begin;
use crate::bpf::copy::clonable::clonable;
use crate::bpf::copy::fan_out::{copy_to_one, fan_out};
use crate::bpf::copy::fragment::fragment;
use crate::bpf::direct::control;
use crate::bpf::fragment_cache::find_fragment;
use crate::bpf::hook_stats::count;
use crate::bpf::learned::{NOT_ASKED, find_learned};
use crate::bpf::level::{depth, has_wrapped, is_too_deep};
use crate::bpf::loop_guard::{find_loop, may_be_loop};
use crate::bpf::maps::{CPU, FILTER_STATS, Kernel, SLOTS};
use crate::bpf::measure::measure;
use crate::bpf::memo::{
    CANDIDATES, FAILED, FOUND, FOUND_MAX, Kept, Key, Memo, NO_FILTER, NONE, remember,
};
use crate::bpf::parse::{parse_packet, parse_unusual};
use crate::bpf::segmenter::segment;
use crate::bpf::server_name::server_name_of_tcp;
use crate::bpf::skb::{DROP, NEXT, Skb};
use crate::bpf::verifier::{STOP, each, go_on_if, opaque, opaque_pointer};
use crate::bpf::{fragment_cache, memo};

#[inline(always)]
pub(super) fn mirror(skb: Skb, egress: bool) -> i32 {
    if let Err(reason) = try_mirror(skb, egress) {
        count_skipped(skb.0, egress.into(), reason as u32);
        let is_bare =
            |skb: Skb| skb.cb::<{ cb::ENDPOINT }>() & (cb::HEADERLESS | cb::DONE) == cb::HEADERLESS;
        if egress && reason == Skipped::Copy && is_bare(skb) {
            // another process has detached its `encap`: it must not leave without encapsulation
            return DROP;
        }
    }
    NEXT
}

#[inline(always)]
fn try_mirror(skb: Skb, egress: bool) -> Result<(), Skipped> {
    let control = control();
    if skb.is_clone(control.secret) {
        // a copy that `encap` will hand to the kernel's neighbour code comes by again
        cold_path();
        let again =
            skb.cb::<{ cb::ENDPOINT }>() & (cb::PROBE | cb::DONE | cb::HEADERLESS) == cb::PROBE;
        return if again { Ok(()) } else { Err(Skipped::Copy) };
    }
    // once, for the bank and for what is remembered
    // SAFETY: the daemon writes it.
    let epoch = unsafe { (&raw const control.epoch).read_volatile() };
    let bank = epoch & 1;
    let active = &control.banks[bank as usize];
    // none while a hook comes or goes
    let Some(place) = active.interfaces.find(skb.ifindex()) else {
        return Ok(());
    };
    let hook = hook_at(place, egress);
    let mut packet = Packet::default();
    let mut class = NOT_ASKED;
    if place & Interfaces::UNUSUAL != 0 {
        cold_path();
        parse_unusual(skb, place & Interfaces::NO_ETHERNET != 0, &mut packet)?;
        // of datagrams the daemon would have to read all
        let is_learned = !packet.is_odd() && packet.protocol != protocol::UDP;
        if place & Interfaces::LEARN != 0 && is_learned {
            class = server_name_of_tcp(skb.0, &raw const packet, epoch, hook as u32);
        }
    } else {
        parse_packet(skb, &mut packet)?;
    }
    // the outermost tag is usually beside the frame; most files do not match VLANs
    if active.omitted[Field::Vlan as usize] != u64::MAX && skb.vlan_present() != 0 {
        packet.vlan = skb.vlan_tci() as u16 & VLAN_MASK;
    }
    let mut unknown = 0;
    if packet.is_odd() {
        cold_path();
        match opaque(find_fragment(skb.0, &raw mut packet, hook as u32)) {
            fragment_cache::KNOWN => {}
            LOOP => return Err(Skipped::Loop),
            NESTED => return Err(Skipped::Nested),
            reason => count(hook as u32, reason),
        }
        if active.skips_unparsed == 0 {
            unknown = packet.unknown;
        }
    }
    let mut memo = core::ptr::null::<Memo>();
    if unknown == 0 {
        let Ok(candidates) = Candidates::of(&Kernel, active, hook, &packet) else {
            return Err(Skipped::Table);
        };
        let Some(candidates) = candidates else {
            return Ok(());
        };
        let kept = keep(&candidates)?;
        if candidates.want_learned(active) {
            cold_path();
            match opaque(find_learned(skb.0, &raw const packet, epoch, class)) {
                FOUND => {}
                NONE => return Ok(()),
                FAILED => return Err(Skipped::Table),
                found => {
                    packet.unknown = found as u8;
                    unknown = packet.unknown;
                }
            }
        }
        if unknown == 0 {
            kept.key = Key::of(&kept.candidates, epoch);
            memo = memo::find(&kept.key);
            if memo.is_null() {
                match kept.candidates.rule_out(&Kernel, active) {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(_) => return Err(Skipped::Table),
                }
            }
        }
    }
    if unknown != 0 {
        cold_path();
        match look_up(&raw const packet, hook as u32, bank | INCLUDES) {
            NONE => return Ok(()),
            FOUND => {}
            _ => return Err(Skipped::Table),
        }
    }
    let depth = CPU.get_ptr_mut(0).map_or(0, depth);
    if skb.tc_index() == tc_index_tag(control.secret) || depth != 0 && has_wrapped(skb.0) != 0 {
        return Err(Skipped::Loop);
    }
    // `find_fragment` has checked that for a fragment
    if packet.fragment == 0 && may_be_loop(packet.protocol) {
        match opaque(find_loop(skb.0, &raw const packet)) {
            0 => {}
            LOOP => return Err(Skipped::Loop),
            _ => return Err(Skipped::Nested),
        }
    }
    if is_too_deep(depth) {
        cold_path();
        return Err(Skipped::Recursion);
    }
    let endpoints = if !memo.is_null() {
        // SAFETY: a per-CPU element, which nothing else has written since.
        unsafe { (*memo).endpoints }
    } else if unknown == 0 {
        gather(skb.0, &raw const packet, bank)
    } else {
        let include = gather(skb.0, &raw const packet, bank | INCLUDES);
        // what is unknown excludes nothing
        match look_up(&raw const packet, hook as u32, bank | EXCLUDES) {
            FOUND => include & !gather(skb.0, &raw const packet, bank | EXCLUDES),
            _ => include,
        }
    };
    let endpoints = if endpoints != 0 {
        clonable(skb.0, &raw const packet, endpoints, bank)
    } else {
        0
    };
    let is_one = endpoints & endpoints.wrapping_sub(1) == 0;
    let mut left = if is_one && (endpoints != 0 || !memo.is_null()) {
        copy_to_one(skb.0, &raw const packet, memo, endpoints, bank)
    } else if endpoints != 0 {
        if !memo.is_null() {
            // counts alone
            copy_to_one(skb.0, &raw const packet, memo, 0, bank);
        }
        fan_out(skb.0, &raw const packet, endpoints, bank)
    } else {
        0
    };
    if left != 0 && skb.gso_size() == 0 {
        cold_path();
        left = fragment(skb.0, &raw const packet, left, bank, 0);
    }
    if left != 0 {
        cold_path();
        segment(skb.0, &raw const packet, left, bank);
    }
    Ok(())
}

const LOOP: u32 = Skipped::Loop as u32;
const NESTED: u32 = Skipped::Nested as u32;

/// Beside the bank: only filters that mirror are matched, and unknown fields match any value.
pub(super) const INCLUDES: u32 = 1 << 1;
/// Beside the bank: only filters that exclude are matched, and unknown fields match no value.
pub(super) const EXCLUDES: u32 = 1 << 2;

/// Puts the candidates for a packet with unknown fields into the map: [`FOUND`], or [`NONE`] if
/// there are none. A global function, as [`gather`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn look_up(packet: *const Packet, hook: u32, how: u32) -> u32 {
    let control = control();
    if packet.is_null() {
        return FAILED;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    let (active, hook) = (&control.banks[how as usize & 1], hook as usize);
    // what is known of them was put there with the packet's candidates
    let learned = match CANDIDATES.get_ptr_mut(0) {
        // SAFETY: a per-CPU element.
        Some(kept) if packet.unknown & Packet::LEARNED != 0 => unsafe {
            (*kept).candidates.learned()
        },
        _ => [ANY_CLASS; 2],
    };
    let any = how & INCLUDES != 0;
    match kept(Candidates::of_odd(&Kernel, active, hook, packet, any)) {
        FOUND => give_learned(how, learned[0], learned[1]),
        found => found,
    }
}

/// Gives the candidates in the map the classes of server name and application, [`ANY_CLASS`] for
/// one that is unknown; answers as [`look_up`]. A global function, as [`gather`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn give_learned(how: u32, name: u32, application: u32) -> u32 {
    let Some(kept) = CANDIDATES.get_ptr_mut(0) else {
        return FAILED;
    };
    // SAFETY: a per-CPU element, which the caller has just written.
    let candidates = unsafe { &mut (*kept).candidates };
    let active = &control().banks[how as usize & 1];
    match candidates.give_odd(&Kernel, active, [name, application], how & INCLUDES != 0) {
        Ok(true) => FOUND,
        Ok(false) => NONE,
        Err(_) => FAILED,
    }
}

/// Puts candidates into the map.
#[inline(always)]
pub(super) fn kept(found: Result<Option<Candidates>, OutOfTable>) -> u32 {
    match found {
        Ok(None) => NONE,
        Ok(Some(candidates)) if keep(&candidates).is_ok() => FOUND,
        _ => FAILED,
    }
}

#[inline(always)]
fn keep(candidates: &Candidates) -> Result<&'static mut Kept, Skipped> {
    let kept = CANDIDATES.get_ptr_mut(0).ok_or(Skipped::Table)?;
    // SAFETY: a per-CPU element; nothing else runs before `gather` has read it.
    unsafe {
        (*kept).candidates = *candidates;
        // what is read from there need not be on the stack
        Ok(&mut *opaque_pointer(kept))
    }
}

/// Counts a packet that no filter was matched against, by its reason ([`Skipped`]). A global
/// function, as [`gather`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_skipped(skb: *mut __sk_buff, egress: u32, reason: u32) -> u32 {
    let control = control();
    let active = &control.banks[control.epoch as usize & 1];
    if let Some(hook) = hook_of(active, Skb(skb).ifindex(), egress != 0) {
        count(hook as u32, reason);
    }
    0
}

/// What the matching filters want, gathered slot by slot.
struct Gathered<'a> {
    kept: &'a mut Kept,
    include: u64,
    exclude: u64,
    packets: u32,
    bytes: u32,
    /// The bank, with [`INCLUDES`] or [`EXCLUDES`] if only such filters are matched.
    how: u32,
    failed: u32,
}

/// Counts the filters that match and answers the endpoints that get a copy, as bits; with
/// [`EXCLUDES`] those that get none.
///
/// A global function: the verifier checks it once, not for each path through the parser, and it has
/// a stack frame of its own. Hence pointers, which it has to check.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn gather(skb: *mut __sk_buff, packet: *const Packet, how: u32) -> u64 {
    let (Some(cpu), Some(kept)) = (CPU.get_ptr_mut(0), CANDIDATES.get_ptr_mut(0)) else {
        return 0;
    };
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable; a per-CPU element.
    let (packet, kept) = unsafe { (&*packet, &mut *kept) };
    kept.found = 0;
    kept.filters = [NO_FILTER; FOUND_MAX];
    let size = measure(Skb(skb), packet);
    begin(cpu, size.packets);
    let mut wanted = Gathered {
        kept,
        include: 0,
        exclude: 0,
        packets: size.packets,
        bytes: size.bytes,
        how,
        failed: 0,
    };
    if how & (INCLUDES | EXCLUDES) == 0 {
        each(BLOCKS, next_block::<false>, &mut wanted);
    } else {
        each(BLOCKS, next_block::<true>, &mut wanted);
    }
    if wanted.failed != 0 {
        count(wanted.kept.candidates.hook, Skipped::Table as u32);
    }
    let endpoints = wanted.include & !wanted.exclude;
    if how & (INCLUDES | EXCLUDES) == 0 && wanted.failed == 0 {
        remember(wanted.kept, endpoints);
    }
    if how & EXCLUDES != 0 {
        wanted.exclude
    } else {
        endpoints
    }
}

/// `ODD` is for packets with unknown fields.
unsafe extern "C" fn next_block<const ODD: bool>(_: u32, wanted: *mut Gathered<'_>) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let wanted = unsafe { &mut *wanted };
    let Some(block) = wanted.kept.candidates.next_block() else {
        return STOP;
    };
    match wanted.kept.candidates.search::<_, ODD>(
        &Kernel,
        &control().banks[wanted.how as usize & 1],
        block,
    ) {
        Ok(search) => {
            if !search.is_empty() {
                each(BLOCK_SLOTS, next_slot::<ODD>, &mut Slots { search, wanted });
            }
            go_on_if(wanted.kept.candidates.blocks != 0)
        }
        Err(_) => {
            wanted.failed = 1;
            STOP
        }
    }
}

/// The search in one block, and where it puts what it finds.
struct Slots<'a, 'b> {
    search: Search,
    wanted: &'a mut Gathered<'b>,
}

unsafe extern "C" fn next_slot<const ODD: bool>(_: u32, slots: *mut Slots<'_, '_>) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let slots = unsafe { &mut *slots };
    let wanted = &mut *slots.wanted;
    let Some(slot) = slots.search.next_slot() else {
        return STOP;
    };
    let Some(slot) = SLOTS.get(slot) else {
        wanted.failed = 1;
        return STOP;
    };
    let action = &slot.action[wanted.how as usize & 1];
    if ODD && (wanted.how & EXCLUDES != 0) != (action.exclude != 0) {
        return go_on_if(!slots.search.is_empty());
    }
    wanted.include |= action.include;
    wanted.exclude |= action.exclude;
    if let Some(stats) = FILTER_STATS.get_ptr_mut(slot.filter) {
        // SAFETY: a per-CPU element.
        let stats = unsafe { &mut *stats };
        // looked up here, since in `wanted` it would exceed the stack of kernels that round up each
        // frame
        let has_reverse = slot.flags & Slot::REVERSE != 0;
        let serial = if has_reverse { serial() } else { 0 };
        if !has_reverse || stats.serial != serial {
            stats.matched.add(wanted.packets, wanted.bytes);
            stats.serial = serial;
            let found = wanted.kept.found;
            wanted.kept.filters[found as usize % FOUND_MAX] = slot.filter;
            wanted.kept.found = found + 1;
        }
    }
    go_on_if(!slots.search.is_empty())
}

/// Number of the packet at hand.
#[inline(always)]
fn serial() -> u64 {
    // SAFETY: a per-CPU element.
    CPU.get_ptr_mut(0).map_or(0, |cpu| unsafe { (*cpu).serial })
}
