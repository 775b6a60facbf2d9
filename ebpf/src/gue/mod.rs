//! The outer header: IPv4 or IPv6, UDP and GUE variant 0 (draft-ietf-intarea-gue-09, section 3).
//! Input: addresses once, length and flow per packet. Output: bytes in network order. Must not
//! know: maps.

use core::net::IpAddr;

use crate::abi::OUTER_MAX_BYTES;

/// GUE's UDP port, IANA.
pub const PORT: u16 = 6080;
/// Bytes of a GUE header of variant 0 without optional fields.
pub const GUE_BYTES: usize = 4;
const UDP_BYTES: usize = 8;
/// Bytes of an IPv4 header without options.
pub const IPV4_BYTES: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6_BYTES: usize = 40;
/// IP protocol number of an IPv4 packet in a tunnel.
pub const PROTOCOL_IPV4: u8 = 4;
/// IP protocol number of an IPv6 packet in a tunnel.
pub const PROTOCOL_IPV6: u8 = 41;
const PROTOCOL_UDP: u8 = 17;
/// TTL and hop limit of the outer header (RFC 1700).
pub const TTL: u8 = 64;
/// Dynamic ports (RFC 6335) that carry the flow's entropy.
pub const SOURCE_PORT_BASE: u16 = 0xc000;

/// Bytes between the outer IP header and the inner packet.
pub const ENCAPSULATION_BYTES: usize = UDP_BYTES + GUE_BYTES;
/// Bytes of the outer header over IPv4.
pub const OUTER4_BYTES: usize = IPV4_BYTES + ENCAPSULATION_BYTES;
/// Bytes of the outer header over IPv6.
pub const OUTER6_BYTES: usize = IPV6_BYTES + ENCAPSULATION_BYTES;
/// Bytes of an IPv6 fragment header (RFC 8200, section 4.5).
pub const FRAGMENT6_BYTES: usize = 8;

/// Everything of the outer header that is the same for all packets to an endpoint, and its length
/// in bytes. `None` if the addresses are of different families.
///
/// DSCP and ECN are 0: a copy competes with production traffic as best effort. DF is 0: a router on
/// the path may fragment a copy instead of dropping it. The IPv4 checksum field holds the sum of
/// the constant words.
#[must_use]
pub fn template(
    source: IpAddr,
    destination: IpAddr,
    port: u16,
) -> Option<([u8; OUTER_MAX_BYTES], usize)> {
    let mut outer = [0; OUTER_MAX_BYTES];
    let udp = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            outer[0] = 0x45;
            outer[8] = TTL;
            outer[9] = PROTOCOL_UDP;
            outer[12..16].copy_from_slice(&source.octets());
            outer[16..20].copy_from_slice(&destination.octets());
            let sum = (0..IPV4_BYTES)
                .step_by(2)
                .map(|i| u32::from(u16::from_ne_bytes([outer[i], outer[i + 1]])))
                .sum();
            outer[10..12].copy_from_slice(&fold(sum).to_ne_bytes());
            IPV4_BYTES
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            outer[0] = 0x60;
            outer[6] = PROTOCOL_UDP;
            outer[7] = TTL;
            outer[8..24].copy_from_slice(&source.octets());
            outer[24..40].copy_from_slice(&destination.octets());
            IPV6_BYTES
        }
        _ => return None,
    };
    outer[udp + 2..udp + 4].copy_from_slice(&port.to_be_bytes());
    Some((outer, udp + UDP_BYTES + GUE_BYTES))
}

/// What is the same in the UDP checksum of all packets with this template: of the pseudo header
/// (RFC 768, RFC 8200 section 8.1) all but the length, and the destination port. A sum of words in
/// network byte order, never 0.
#[must_use]
pub fn checksum_base(outer: &[u8; OUTER_MAX_BYTES]) -> u32 {
    let (addresses, udp) = if outer[0] >> 4 == 4 {
        (12..20, IPV4_BYTES)
    } else {
        (8..40, IPV6_BYTES)
    };
    let words = |bytes: &[u8]| {
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|&word| u32::from(u16::from_ne_bytes(word)))
            .sum::<u32>()
    };
    words(&outer[addresses]) + words(&outer[udp + 2..udp + 4]) + words(&[0, PROTOCOL_UDP])
}

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Bytes of the outer IP packet; its low 16 bits go into the header (segmentation writes them
    /// again).
    pub length: u32,
    /// Hash of the inner flow.
    pub flow: u32,
    /// Bytes of UDP header and payload; its low 16 bits go into the header.
    pub udp_length: u32,
    /// Identification for IPv4, and for fragments over IPv6.
    pub identification: u32,
    /// Where the fragment's payload stands in the whole, bytes, a multiple of 8.
    pub offset: u32,
    /// Other fragments follow.
    pub more: bool,
    /// The inner packet is IPv6.
    pub inner_ipv6: bool,
    /// [`Endpoint::checksum`](crate::abi::Endpoint::checksum), or 0 for no UDP checksum.
    pub checksum: u32,
    /// With it, the sum of the inner packet's words in network byte order, folded.
    pub payload: u16,
}

/// Words of 64 bits of the outer header over IPv4.
pub const WORDS4: usize = OUTER4_BYTES / 8;
/// Of that over IPv6; of the last one half counts.
pub const WORDS6: usize = OUTER6_BYTES.div_ceil(8);
/// With a fragment header.
pub const FRAGMENT_WORDS6: usize = (OUTER6_BYTES + FRAGMENT6_BYTES).div_ceil(8);

/// Completes an outer header over IPv4. `template` is its beginning, and both are words in memory
/// order: a writer that copies them into a packet in larger pieces than they were assembled in
/// waits for each.
#[must_use]
#[inline(always)]
pub fn outer4(template: [u64; WORDS4], variable: Variable) -> [u64; WORDS4] {
    const MORE_FRAGMENTS: u16 = 0x2000;
    const CHECKSUM_SHIFT: u32 = 32;
    let [length, identification] =
        [variable.length as u16, variable.identification as u16].map(u64::from);
    let fragment =
        u64::from((variable.offset / 8) as u16 | if variable.more { MORE_FRAGMENTS } else { 0 });
    let protocol = u64::from_be(template[1]);
    let sum = u32::from((protocol >> CHECKSUM_SHIFT) as u16)
        + (length + identification + fragment) as u32;
    let protocol = protocol & !(0xffff << CHECKSUM_SHIFT) | u64::from(!fold(sum)) << CHECKSUM_SHIFT;
    let [ports, lengths, gue] = encapsulation(variable);
    [
        template[0] | (length << 32 | identification << 16 | fragment).to_be(),
        protocol.to_be(),
        template[2] | ports.to_be(),
        (lengths << 32 | gue).to_be(),
    ]
}

/// Completes an outer header over IPv6, whose last half word is unused.
#[must_use]
#[inline(always)]
pub fn outer6(template: [u64; WORDS6 - 1], variable: Variable) -> [u64; WORDS6] {
    let label = (variable.flow & 0xf) << 16 | variable.flow >> 4 & 0xffff;
    let length = variable.length.wrapping_sub(IPV6_BYTES as u32) as u16;
    let [begin, source, source_end, destination, destination_end, udp] = template;
    let [ports, lengths, gue] = encapsulation(variable);
    [
        begin | (u64::from(label) << 32 | u64::from(length) << 16).to_be(),
        source,
        source_end,
        destination,
        destination_end,
        udp | (ports << 32 | lengths).to_be(),
        (gue << 32).to_be(),
    ]
}

/// Puts a fragment header between the outer IPv6 header and UDP.
#[must_use]
#[inline(always)]
pub fn fragment6(outer: [u64; WORDS6], variable: Variable) -> [u64; FRAGMENT_WORDS6] {
    const PROTOCOL_FRAGMENT: u64 = 44;
    const NEXT_SHIFT: u32 = 8;
    let [
        begin,
        source,
        source_end,
        destination,
        destination_end,
        udp,
        gue,
    ] = outer;
    let begin = u64::from_be(begin) & !(0xff << NEXT_SHIFT) | PROTOCOL_FRAGMENT << NEXT_SHIFT;
    let offset = variable.offset as u16 | u16::from(variable.more);
    let fragment = u64::from(PROTOCOL_UDP) << 56
        | u64::from(offset) << 32
        | u64::from(variable.identification);
    [
        begin.to_be(),
        source,
        source_end,
        destination,
        destination_end,
        fragment.to_be(),
        udp,
        gue,
    ]
}

/// What varies of the UDP header's first and second half, and the GUE header: a data message of
/// variant 0 without options. Host byte order. Without a UDP checksum it stays 0, which RFC 6935
/// allows for tunnels over IPv6, too.
#[inline(always)]
fn encapsulation(variable: Variable) -> [u64; 3] {
    let port = source_port(variable.flow);
    let length = variable.udp_length as u16;
    let gue = if variable.inner_ipv6 {
        GUE_IPV6
    } else {
        GUE_IPV4
    };
    let checksum = if variable.checksum == 0 {
        0
    } else {
        checksum(variable, port, length, gue)
    };
    [
        u64::from(port) << 16,
        u64::from(length) << 16 | u64::from(checksum),
        u64::from(gue),
    ]
}

#[inline(always)]
const fn checksum(variable: Variable, port: u16, length: u16, gue: u32) -> u16 {
    let words = [port.to_be(), ((gue >> 16) as u16).to_be(), variable.payload];
    // the length stands in the pseudo header, too
    let sum = words[0] as u32 + words[1] as u32 + words[2] as u32 + 2 * length.to_be() as u32;
    match !fold(variable.checksum + sum) {
        // RFC 768: 0 would mean that there is no checksum
        0 => 0xffff,
        checksum => u16::from_be(checksum),
    }
}

/// RFC 1071: a sum of words, in whichever byte order, folded to one.
#[must_use]
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// UDP header, GUE header and the first word of what is inside, as 32-bit words in network byte
/// order.
pub type Head = [u32; 4];

/// Whether the beginning of a UDP packet is that of a mirror: a data message of GUE variant 0
/// without fields, with an IP packet in it that is at least as long as the rest (copies may be
/// truncated). The port does not matter: another mirror may use any.
#[must_use]
#[inline(always)]
pub const fn is_wrapped(head: &Head) -> bool {
    let (carried, stated) = (u32::from_be(head[1]) >> 16, u32::from_be(head[3]) & 0xffff);
    let is_whole = head[2] == GUE_IPV6.to_be()
        || stated == 0
        || stated + (ENCAPSULATION_BYTES as u32) >= carried;
    is_wrapped_in_error(head) && is_whole
}

/// As [`is_wrapped`], where an error quotes the beginning.
#[must_use]
#[inline(always)]
pub const fn is_wrapped_in_error(head: &Head) -> bool {
    matches!(
        (u32::from_be(head[2]), u32::from_be(head[3]) >> 24),
        (GUE_IPV4, 0x45..=0x4f) | (GUE_IPV6, 0x60..=0x6f)
    )
}

/// GUE headers of ours, host byte order.
const GUE_IPV4: u32 = (PROTOCOL_IPV4 as u32) << 16;
const GUE_IPV6: u32 = (PROTOCOL_IPV6 as u32) << 16;

/// The first bytes of a packet that an ICMP error quotes.
pub type Quoted = [u8; 12];

/// Where its UDP header begins, bytes; 0 if it has none.
#[must_use]
#[inline(always)]
pub const fn quoted_udp(quoted: &Quoted) -> u32 {
    const PROTOCOL_FRAGMENT: u8 = 44;
    const OFFSET4: u16 = 0x1fff;
    let offset4 = u16::from_be_bytes([quoted[6], quoted[7]]) & OFFSET4;
    match (quoted[0] >> 4, quoted[9], quoted[6]) {
        (4, PROTOCOL_UDP, _) if offset4 == 0 => (quoted[0] & 0x0f) as u32 * 4,
        (6, _, PROTOCOL_UDP) => IPV6_BYTES as u32,
        (6, _, PROTOCOL_FRAGMENT) => (IPV6_BYTES + FRAGMENT6_BYTES) as u32,
        _ => 0,
    }
}

#[inline(always)]
const fn source_port(flow: u32) -> u16 {
    SOURCE_PORT_BASE | (flow >> 18) as u16
}

#[cfg(test)]
mod tests;
