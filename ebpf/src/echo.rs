//! Input: a packet that a filter may want. Output: whether it is an outer packet of a mirror's, of this host or another, or
//! an ICMP error about one. Copies of copies would multiply.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use traffic_mirror_ebpf::gue::{Head, Quoted, is_wrapped, is_wrapped_in_error, quoted_udp};
use traffic_mirror_ebpf::packet::{Packet, protocol};

/// Types of ICMP errors: destination unreachable, source quench, redirect, time exceeded, parameter problem (IANA). All of
/// ICMPv6 are below 128.
const ICMP_ERRORS: u32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 11 | 1 << 12;
/// Bytes of an ICMP header before the packet that the error is about.
const ICMP_BYTES: u32 = 8;

/// Answers 1 if it is. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_echo(skb: *mut __sk_buff, packet: *const Packet) -> u32 {
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    let at = u32::from(packet.transport);
    let is_echo = match packet.protocol {
        protocol::UDP => packet.fragment != Packet::LATER && load(skb, at).is_some_and(|head| is_wrapped(&head)),
        protocol::ICMP | protocol::ICMPV6 => is_error(skb, packet) && is_about_copy(skb, at + ICMP_BYTES),
        _ => false,
    };
    is_echo.into()
}

#[inline(always)]
fn is_error(skb: *mut __sk_buff, packet: &Packet) -> bool {
    let mut kind = 0u8;
    // SAFETY: one byte is copied to a local variable.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), packet.transport.into(), (&raw mut kind).cast(), 1) };
    if failed != 0 {
        false
    } else if packet.protocol == protocol::ICMPV6 {
        kind < 128
    } else {
        kind < 32 && ICMP_ERRORS >> kind & 1 != 0
    }
}

#[inline(always)]
fn is_about_copy(skb: *mut __sk_buff, at: u32) -> bool {
    let mut header = MaybeUninit::<Quoted>::uninit();
    // SAFETY: as many bytes are copied to a local variable as it has.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), at, header.as_mut_ptr().cast(), size_of::<Quoted>() as u32) };
    if failed != 0 {
        return false;
    }
    // SAFETY: all of it was written.
    let udp = quoted_udp(unsafe { header.assume_init_ref() });
    udp != 0 && load(skb, at + udp).is_some_and(|head| is_wrapped_in_error(&head))
}

#[inline(always)]
fn load(skb: *mut __sk_buff, at: u32) -> Option<Head> {
    let mut head = MaybeUninit::<Head>::uninit();
    // SAFETY: as many bytes are copied to a local variable as it has.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), at, head.as_mut_ptr().cast(), size_of::<Head>() as u32) };
    // SAFETY: all of it was written.
    (failed == 0).then(|| unsafe { head.assume_init() })
}
