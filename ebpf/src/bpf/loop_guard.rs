//! Input: a packet that a filter matches. Output: whether it is a copy of this mirror or of a peer,
//! or an ICMP error about one. Copies of copies would multiply. Properties that a sender can choose
//! do not exempt a packet: GUE of unknown senders is copied, and only nested GUE, as of two mirrors
//! that copy each other's copies, is limited by a rate.

use core::ffi::c_long;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_skb_load_bytes};
use traffic_mirror_ebpf::abi::{MAX_ENDPOINTS, MAX_PEERS, Skipped};
use traffic_mirror_ebpf::gue::{
    ENCAPSULATION_BYTES, Head, Quoted, is_wrapped, is_wrapped_in_error, quoted_udp,
};
use traffic_mirror_ebpf::icmp::{Ports, is_ours};
use traffic_mirror_ebpf::packet::{Packet, protocol};

use crate::bpf::direct::control;
use crate::bpf::maps::{CPU, ENDPOINTS};
use crate::bpf::verifier::{STOP, each, go_on_if};

/// Types of ICMP errors: destination unreachable, source quench, redirect, time exceeded, parameter
/// problem (IANA). All of ICMPv6 are below 128.
const ICMP_ERRORS: u32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 11 | 1 << 12;
/// Bytes of an ICMP header before the packet that the error is about.
const ICMP_BYTES: u32 = 8;
const GUE_BYTES: u32 = ENCAPSULATION_BYTES as u32;

/// Nested GUE headers that are read.
const NESTING_MAX: u32 = 3;
/// Cost of a packet with GUE in GUE in this CPU's budget, and of one with deeper nesting: with one
/// level 100 packets a second pass, of deeper ones, as a loop makes them, one. The budget is filled
/// in a second.
const NESTED_NS: u64 = 10_000_000;
const NESTED_DEEP_NS: u64 = 1_000_000_000;
const NESTED_DEPTH_NS: u64 = 1_000_000_000;

/// Whether [`find_loop`] must be called: a call costs more than this check.
#[inline(always)]
pub(super) const fn may_be_loop(number: u8) -> bool {
    matches!(number, protocol::UDP | protocol::ICMP | protocol::ICMPV6)
}

/// Answers [`Skipped::Loop`] or [`Skipped::Nested`] as a number, or 0. It may take from the budget
/// of nested packets. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn find_loop(skb: *mut __sk_buff, packet: *const Packet) -> u32 {
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    let (ip, at) = (u32::from(packet.offset), u32::from(packet.transport));
    let ipv6 = packet.version == 6;
    match packet.protocol {
        protocol::UDP if packet.fragment != Packet::LATER => {
            if !load::<Head>(skb, at).is_some_and(|head| is_wrapped(&head)) {
                0
            } else if is_known(skb, ip, at, u32::from(ipv6) | PEERS) != 0 {
                Skipped::Loop as u32
            } else {
                let levels = nesting(skb, at);
                if levels > 1 && !admits(levels) {
                    Skipped::Nested as u32
                } else {
                    0
                }
            }
        }
        protocol::ICMP | protocol::ICMPV6
            if is_error(skb, packet) && is_about_copy(skb, at + ICMP_BYTES, packet) =>
        {
            Skipped::Loop as u32
        }
        _ => 0,
    }
}

#[inline(always)]
fn is_error(skb: *mut __sk_buff, packet: &Packet) -> bool {
    match load::<[u8; 1]>(skb, packet.transport.into()) {
        Some([kind]) if packet.protocol == protocol::ICMPV6 => kind < 128,
        Some([kind]) => kind < 32 && ICMP_ERRORS >> kind & 1 != 0,
        None => false,
    }
}

/// Whether an error goes to the sender of the quoted packet. Any other concerns only its own
/// sender.
#[inline(always)]
fn is_sent_to(skb: *mut __sk_buff, at: u32, packet: &Packet) -> bool {
    if packet.version == 6 {
        load::<[u64; 2]>(skb, at + 8)
            .is_some_and(|source| source.map(u64::from_be) == packet.destination)
    } else {
        load::<u32>(skb, at + 12)
            .is_some_and(|source| u64::from(u32::from_be(source)) == packet.destination[0] >> 32)
    }
}

/// An error need not quote more than the ports (RFC 792), which identify a copy of this mirror;
/// anything quoted beyond must be that of a copy.
#[inline(always)]
fn is_about_copy(skb: *mut __sk_buff, at: u32, packet: &Packet) -> bool {
    let ipv6 = packet.version == 6;
    if !is_sent_to(skb, at, packet) {
        return false;
    }
    let Some(header) = load::<Quoted>(skb, at) else {
        return false;
    };
    let udp = quoted_udp(&header);
    if udp == 0 {
        return false;
    }
    let peers = match load::<Head>(skb, at + udp) {
        Some(head) if is_wrapped_in_error(&head) => PEERS,
        Some(_) => return false,
        None => 0,
    };
    is_known(skb, at, at + udp, u32::from(ipv6) | peers) != 0
}

/// An outer header, and its possible mirror.
struct Outer {
    addresses: [u32; 8],
    ports: Ports,
    ipv6: u32,
    bank: u32,
    is_known: u32,
}

/// Flags of [`is_known`]: over IPv6, and whether peers count, too.
const IPV6: u32 = 1;
const PEERS: u32 = 2;

/// Answers 1 if an outer header is one of this mirror's, or of a peer's. A global function: the
/// verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_known(skb: *mut __sk_buff, ip: u32, udp: u32, flags: u32) -> u32 {
    let control = control();
    let Some(ports) = load::<Ports>(skb, udp) else {
        return 0;
    };
    let ipv6 = flags & IPV6;
    let mut outer = Outer {
        addresses: [0; 8],
        ports,
        ipv6,
        bank: control.epoch & 1,
        is_known: 0,
    };
    if ipv6 != 0 {
        let Some(addresses) = load::<[u32; 8]>(skb, ip + 8) else {
            return 0;
        };
        outer.addresses = addresses;
    } else {
        let Some([source, destination]) = load::<[u32; 2]>(skb, ip + 12) else {
            return 0;
        };
        (outer.addresses[0], outer.addresses[1]) = (source, destination);
    }
    each(MAX_ENDPOINTS, next_endpoint, &mut outer);
    if outer.is_known == 0 && flags & PEERS != 0 {
        each(MAX_PEERS, next_peer, &mut outer);
    }
    outer.is_known
}

unsafe extern "C" fn next_endpoint(index: u32, outer: *mut Outer) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let outer = unsafe { &mut *outer };
    let Some(pair) = ENDPOINTS.get(index) else {
        return STOP;
    };
    if is_ours(
        &outer.addresses,
        outer.ports,
        &pair[outer.bank as usize & 1],
        outer.ipv6 != 0,
    ) {
        outer.is_known = 1;
    }
    go_on_if(outer.is_known == 0)
}

unsafe extern "C" fn next_peer(index: u32, outer: *mut Outer) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let outer = unsafe { &mut *outer };
    let peer = &control().banks[outer.bank as usize & 1].peers[index as usize % MAX_PEERS];
    if peer.version == 0 {
        return STOP;
    }
    outer.is_known = peer.has(&outer.addresses, outer.ipv6 != 0).into();
    go_on_if(outer.is_known == 0)
}

/// GUE headers that are in each other from this UDP header on, at most [`NESTING_MAX`]. A global
/// function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nesting(skb: *mut __sk_buff, udp: u32) -> u32 {
    let (mut at, mut levels) = (udp, 0);
    while levels < NESTING_MAX
        && load::<Head>(skb, at).is_some_and(|head| is_wrapped_in_error(&head))
    {
        levels += 1;
        let udp = load::<Quoted>(skb, at + GUE_BYTES).map_or(0, |header| quoted_udp(&header));
        if udp == 0 {
            break;
        }
        at += GUE_BYTES + udp;
    }
    levels
}

/// Takes what a nested packet costs off this CPU's budget, a time up to which it is used up, if
/// there is as much.
#[inline(always)]
fn admits(levels: u32) -> bool {
    let Some(cpu) = CPU.get_ptr_mut(0) else {
        return false;
    };
    let cost = if levels > 2 {
        NESTED_DEEP_NS
    } else {
        NESTED_NS
    };
    // SAFETY: no arguments; a per-CPU element.
    unsafe {
        let now = bpf_ktime_get_coarse_ns();
        let used = (*cpu).nested_up_to_ns;
        let from = if used + NESTED_DEPTH_NS < now {
            now - NESTED_DEPTH_NS
        } else {
            used
        };
        let is_enough = from + cost <= now;
        if is_enough {
            (*cpu).nested_up_to_ns = from + cost;
        }
        is_enough
    }
}

#[inline(always)]
fn load<T: Copy>(skb: *mut __sk_buff, at: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as many bytes are copied to a local variable as it has.
    let failed = unsafe {
        bpf_skb_load_bytes(
            skb.cast(),
            at,
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
        )
    };
    // SAFETY: all of it was written, and any bytes are a valid value of what is read.
    (failed == 0).then(|| unsafe { value.assume_init() })
}
