//! From a frame to a packet.

use super::{
    ETHER_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, Frame, IPV4_BYTES, IPV6_BYTES,
    MAX_TAGS, Packet, VLAN_BYTES, VLAN_MASK, has_ports, protocol,
};
use crate::abi::Skipped;

const ETHERTYPE_QINQ: u16 = 0x88a8;
/// Most IPv6 extension headers that are read (RFC 8200 defines six).
const MAX_EXTENSIONS: u32 = 8;

/// Parses a frame with an Ethernet header. `ethertype` is the kernel's `skb->protocol`, host byte
/// order: behind a VLAN tag that is kept beside the frame, before one that is in it.
///
/// Ports that are truncated, and headers that cannot be followed to the transport header, are
/// [`Packet::unknown`]. A later fragment has no ports until the fragment cache gives it those of
/// its first ([`datagram`](crate::fragment_key)). The packet is written into the caller's memory,
/// since the verifier does not accept the code of a returned `Result` with a packet in it.
///
/// # Errors
/// [`Skipped::NotIp`], [`Skipped::Malformed`] (RFC 791, RFC 8200).
#[inline(always)]
pub fn parse<F: Frame>(frame: &mut F, ethertype: u16, packet: &mut Packet) -> Result<(), Skipped> {
    let mut ethertype = ethertype;
    let offset = skip_tags(frame, &mut ethertype, packet).ok_or(Skipped::Malformed)?;
    parse_ip(frame, offset, ethertype, packet)
}

/// Reads the VLAN tags of a frame with an Ethernet header: returns the offset behind them, and sets
/// `ethertype` to the type there. `None` if the frame ends before.
#[inline(always)]
pub fn skip_tags<F: Frame>(frame: &mut F, ethertype: &mut u16, packet: &mut Packet) -> Option<u32> {
    let mut offset = ETHER_BYTES;
    let mut tags = 0;
    while tags < MAX_TAGS && matches!(*ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ) {
        let tag = frame.window::<{ VLAN_BYTES as usize }>(offset)?;
        if tags == 0 {
            packet.vlan = tag.u16(0) & VLAN_MASK;
        }
        *ethertype = tag.u16(2);
        offset += VLAN_BYTES;
        tags += 1;
    }
    Some(offset)
}

/// Parses what begins with an IP header at `offset`; otherwise as [`parse`].
///
/// # Errors
/// As [`parse`].
#[inline(always)]
pub fn parse_ip<F: Frame>(
    frame: &mut F,
    offset: u32,
    ethertype: u16,
    packet: &mut Packet,
) -> Result<(), Skipped> {
    packet.offset = offset as u16;
    match ethertype {
        ETHERTYPE_IPV4 => parse_ipv4(frame, offset, packet),
        ETHERTYPE_IPV6 => parse_ipv6(frame, offset, packet),
        _ => Err(Skipped::NotIp),
    }
}

#[inline(always)]
fn parse_ipv4<F: Frame>(frame: &mut F, offset: u32, packet: &mut Packet) -> Result<(), Skipped> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    const MORE_FRAGMENTS: u16 = 0x2000;
    let ip = frame
        .window::<{ IPV4_BYTES as usize }>(offset)
        .ok_or(Skipped::Malformed)?;
    let header = u32::from(ip.u8(0) & 0x0f) * 4;
    let length = ip.u16(2);
    if ip.u8(0) >> 4 != 4 || header < IPV4_BYTES || (length != 0 && u32::from(length) < header) {
        return Err(Skipped::Malformed);
    }
    let fragment = ip.u16(6);
    packet.length = length;
    packet.version = 4;
    packet.protocol = ip.u8(9);
    packet.fragment = which_fragment(fragment & FRAGMENT_OFFSET, fragment & MORE_FRAGMENTS);
    packet.identification = ip.u16(4).into();
    packet.source = [u64::from(ip.u32(12)) << 32, 0];
    packet.destination = [u64::from(ip.u32(16)) << 32, 0];
    packet.transport = (offset + header) as u16;
    if fragment & FRAGMENT_OFFSET == 0 {
        read_ports(frame, offset + header, packet);
    }
    Ok(())
}

#[inline(always)]
fn parse_ipv6<F: Frame>(frame: &mut F, offset: u32, packet: &mut Packet) -> Result<(), Skipped> {
    let ip = frame
        .window::<{ IPV6_BYTES as usize }>(offset)
        .ok_or(Skipped::Malformed)?;
    if ip.u8(0) >> 4 != 6 {
        return Err(Skipped::Malformed);
    }
    packet.length = ip.u16(4);
    packet.version = 6;
    packet.protocol = ip.u8(6);
    packet.source = [ip.u64(8), ip.u64(16)];
    packet.destination = [ip.u64(24), ip.u64(32)];
    packet.transport = (offset + IPV6_BYTES) as u16;
    if !is_extension(packet.protocol) {
        read_ports(frame, offset + IPV6_BYTES, packet);
    } else if F::WALKS {
        parse_extensions(frame, packet);
    }
    Ok(())
}

/// Looks through the extension headers of a packet that [`Packet::is_extended`], as far as they are
/// in the frame.
#[inline(always)]
pub fn parse_extensions<F: Frame>(frame: &mut F, packet: &mut Packet) {
    if walk_extensions(frame, packet) {
        read_ports(frame, u32::from(packet.transport), packet);
    }
}

#[inline(always)]
pub(super) const fn is_extension(number: u8) -> bool {
    use protocol::*;
    // to Linux mobility, HIP and shim6 headers are protocols, which any process may receive
    matches!(
        number,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}

/// Moves `packet.transport` behind the extension headers; false if there is no transport header to
/// read. Unless that is because of a later fragment, protocol and ports are unknown then: the
/// kernel follows a chain of any length.
#[inline(always)]
fn walk_extensions<F: Frame>(frame: &mut F, packet: &mut Packet) -> bool {
    let is_found = follow_chain(frame, packet);
    if !is_found && packet.fragment & Packet::LATER == 0 {
        packet.unknown = Packet::PORTS | Packet::PROTOCOL;
    }
    is_found
}

#[inline(always)]
fn follow_chain<F: Frame>(frame: &mut F, packet: &mut Packet) -> bool {
    const FRAGMENT_OFFSET: u16 = 0xfff8;
    const MORE_FRAGMENTS: u16 = 0x0001;
    let mut walked = 0;
    while walked < MAX_EXTENSIONS {
        let at = forget(packet.transport) & OFFSET_MASK;
        let Some(header) = frame.window::<4>(u32::from(at)) else {
            return false;
        };
        // before the next window takes its place
        let (next, units) = (header.u8(0), u16::from(header.u8(1)));
        let mut later = false;
        let bytes = match packet.protocol {
            protocol::FRAGMENT => {
                // half a header is unusable, so the packet still counts as truncated. A fragment of
                // a fragment is reassembled twice, and its later parts share only the outer header
                // with it.
                let Some(header) = frame.window::<8>(u32::from(at)) else {
                    return false;
                };
                if packet.fragment != 0 {
                    return false;
                }
                let fragment = header.u16(2);
                packet.fragment =
                    which_fragment(fragment & FRAGMENT_OFFSET, fragment & MORE_FRAGMENTS);
                packet.identification = header.u32(4);
                later = fragment & FRAGMENT_OFFSET != 0;
                8
            }
            // RFC 4302: in 4-byte units, less two
            protocol::AUTHENTICATION => (units + 2) * 4,
            // RFC 8200: in 8-byte units, less one
            _ => (units + 1) * 8,
        };
        packet.protocol = next;
        packet.transport = at + bytes;
        if later {
            return false;
        }
        if !is_extension(packet.protocol) {
            packet.transport = forget(packet.transport) & OFFSET_MASK;
            return true;
        }
        walked += 1;
    }
    false
}

#[inline(always)]
const fn which_fragment(offset: u16, more: u16) -> u8 {
    if offset != 0 {
        Packet::LATER
    } else if more != 0 {
        Packet::FIRST
    } else {
        0
    }
}

/// Offsets in a frame that the verifier accepts (`MAX_PACKET_OFF`), with room for a header behind.
const OFFSET_MASK: u16 = 0x7fff;

/// The same value, with a range that neither compiler nor verifier knows.
#[inline(always)]
fn forget(value: u16) -> u16 {
    let mut slot = value;
    // SAFETY: a local variable.
    unsafe {
        (&raw mut slot).write_volatile(value);
        (&raw const slot).read_volatile()
    }
}

#[inline(always)]
fn read_ports<F: Frame>(frame: &mut F, transport: u32, packet: &mut Packet) {
    if !has_ports(packet.protocol) {
        return;
    }
    if let Some(ports) = frame.window::<4>(transport) {
        packet.ported = 1;
        packet.source_port = ports.u16(0);
        packet.destination_port = ports.u16(2);
    } else {
        packet.unknown = Packet::PORTS;
    }
}
