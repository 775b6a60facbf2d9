//! Input: a packet of a hook. Output: the [`Packet`] that filters are matched against, wherever its
//! bytes are.

use aya_ebpf::bindings::__sk_buff;
use traffic_mirror_ebpf::abi::Skipped;
use traffic_mirror_ebpf::packet::{Packet, parse, parse_extensions, parse_ip, skip_tags};

use crate::bpf::network_offset::{NOWHERE, network_offset};
use crate::bpf::skb::{Scattered, Skb};

/// Reads the linear part, and only if that does not suffice the whole.
#[inline(always)]
pub(super) fn parse_packet(skb: Skb, packet: &mut Packet) -> Result<(), Skipped> {
    let parsed = parse(&mut skb.linear(), skb.ethertype(), packet);
    if parsed.is_ok() && packet.is_extended() {
        parse_extensions_linear(skb.0, &raw mut *packet);
    }
    let is_cut = match parsed {
        Ok(()) => packet.unknown != 0,
        Err(reason) => reason == Skipped::Malformed,
    };
    if !(is_cut && skb.is_scattered()) {
        return parsed;
    }
    parsed_or(parse_scattered(skb.0, &raw mut *packet))
}

/// Reads a packet of an interface that may have no link headers, wherever its bytes are.
#[inline(always)]
pub(super) fn parse_unusual(
    skb: Skb,
    is_headerless: bool,
    packet: &mut Packet,
) -> Result<(), Skipped> {
    if is_headerless {
        let offset = network_offset(skb.0);
        if offset == NOWHERE {
            return Err(Skipped::Malformed);
        }
        packet.headerless = 1;
        packet.offset = offset as u16;
    }
    parsed_or(parse_scattered(skb.0, &raw mut *packet))
}

/// What [`parse_scattered`] has answered.
#[inline(always)]
const fn parsed_or(answer: u32) -> Result<(), Skipped> {
    match answer {
        0 => Ok(()),
        NOT_IP => Err(Skipped::NotIp),
        _ => Err(Skipped::Malformed),
    }
}

/// A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn parse_extensions_linear(skb: *mut __sk_buff, packet: *mut Packet) -> u32 {
    if !packet.is_null() {
        // SAFETY: the caller passes a pointer to a local variable.
        parse_extensions(&mut Skb(skb).linear(), unsafe { &mut *packet });
    }
    0
}

const NOT_IP: u32 = 1;
const MALFORMED: u32 = 2;

/// Parses a packet wherever its bytes are. One that is [`Packet::headerless`] has its IP header at
/// [`Packet::offset`]. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn parse_scattered(skb: *mut __sk_buff, packet: *mut Packet) -> u32 {
    if packet.is_null() {
        return MALFORMED;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let (skb, packet) = unsafe { (Skb(skb), &mut *packet) };
    let (headerless, at) = (packet.headerless, packet.offset);
    *packet = Packet {
        headerless,
        ..Packet::default()
    };
    let (mut frame, mut ethertype) = (Scattered::new(skb), skb.ethertype());
    let offset = if headerless != 0 {
        at.into()
    } else {
        let Some(offset) = skip_tags(&mut frame, &mut ethertype, packet) else {
            return MALFORMED;
        };
        offset
    };
    match parse_ip(&mut frame, offset, ethertype, packet) {
        Ok(()) => 0,
        Err(Skipped::NotIp) => NOT_IP,
        Err(_) => MALFORMED,
    }
}
