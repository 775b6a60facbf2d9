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
/// the way may cut a copy rather than lose it. In place of the IPv4 checksum stands the sum of the
/// words that do not vary.
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

/// Completes an outer header over IPv4. `template` is its beginning, and both are words as they
/// stand in memory: who writes it into a packet in larger pieces than it was put together in waits
/// for each of them.
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

/// Completes an outer header over IPv6, of which the last half word is nothing.
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
        // RFC 768: 0 would mean that there is none
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

/// Whether a UDP packet that begins like this is one of a mirror's: a data message of GUE variant 0
/// without fields, and an IP packet in it that is at least as long as what follows (copies may be
/// cut). The port does not matter: another mirror may use any.
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
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    fn words<const N: usize>(outer: &[u8]) -> [u64; N] {
        core::array::from_fn(|i| u64::from_ne_bytes(outer[8 * i..][..8].try_into().unwrap()))
    }

    const VARIABLE: Variable = Variable {
        length: 132,
        udp_length: 112,
        flow: 0x8000_0001,
        identification: 7,
        offset: 0,
        more: false,
        inner_ipv6: false,
        checksum: 0,
        payload: 0,
    };

    #[test]
    fn outer_ipv4_byte_for_byte() {
        let (outer, length) = template(
            "192.0.2.1".parse().unwrap(),
            "192.0.2.2".parse().unwrap(),
            PORT,
        )
        .unwrap();
        assert_eq!(length, OUTER4_BYTES);
        assert_eq!(
            bytes(&outer4(words(&outer), VARIABLE)),
            [
                0x45, 0, 0, 132, 0, 7, 0, 0, 64, 17, 0xf6, 0x5e, 192, 0, 2, 1, 192, 0, 2,
                2, // IPv4
                0xe0, 0x00, 0x17, 0xc0, 0, 112, 0, 0, // UDP
                0, 4, 0, 0, // GUE
            ]
        );
    }

    #[test]
    fn outer_ipv6_byte_for_byte() {
        let (outer, length) = template(
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
            7000,
        )
        .unwrap();
        assert_eq!(length, OUTER6_BYTES);
        let filled = bytes(&outer6(
            words(&outer),
            Variable {
                length: 152,
                inner_ipv6: true,
                ..VARIABLE
            },
        ));
        let address = |last| [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let mut want = Vec::from([0x60, 1, 0, 0, 0, 112, 17, 64]);
        want.extend(address(1));
        want.extend(address(2));
        want.extend([0xe0, 0x00, 0x1b, 0x58, 0, 112, 0, 0, 0, 41, 0, 0]);
        assert_eq!(filled[..OUTER6_BYTES], want);
    }

    #[test]
    fn fragments_byte_for_byte() {
        let (outer, _) = template(
            "192.0.2.1".parse().unwrap(),
            "192.0.2.2".parse().unwrap(),
            PORT,
        )
        .unwrap();
        let first = bytes(&outer4(
            words(&outer),
            Variable {
                more: true,
                ..VARIABLE
            },
        ));
        assert_eq!(
            (&first[4..8], &first[10..12]),
            (&[0, 7, 0x20, 0][..], &[0xd6, 0x5e][..])
        );
        let last = bytes(&outer4(
            words(&outer),
            Variable {
                offset: 760,
                ..VARIABLE
            },
        ));
        assert_eq!(
            (&last[4..8], &last[10..12]),
            (&[0, 7, 0, 95][..], &[0xf5, 0xff][..])
        );

        let (outer, _) = template(
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
            PORT,
        )
        .unwrap();
        let variable = Variable {
            length: 800,
            offset: 760,
            more: true,
            identification: 0x0102_0304,
            ..VARIABLE
        };
        let whole = outer6(words(&outer), variable);
        let (fragment, whole) = (bytes(&fragment6(whole, variable)), bytes(&whole));
        assert_eq!(fragment[..8], [0x60, 1, 0, 0, 0x02, 0xf8, 44, 64]);
        assert_eq!(fragment[8..IPV6_BYTES], whole[8..IPV6_BYTES]);
        assert_eq!(
            fragment[IPV6_BYTES..][..FRAGMENT6_BYTES],
            [17, 0, 0x02, 0xf9, 1, 2, 3, 4]
        );
        assert_eq!(
            fragment[IPV6_BYTES + FRAGMENT6_BYTES..],
            whole[IPV6_BYTES..]
        );
    }

    #[test]
    fn checksums_are_those_of_rfc_768_and_8200() {
        // bytes of a packet that the sum of words does not see the end of
        let inner: Vec<u8> = (0..100).map(|byte: u8| byte.wrapping_mul(37)).collect();
        let sum = |bytes: &[u8]| {
            bytes
                .chunks(2)
                .map(|w| u32::from(u16::from_ne_bytes([w[0], w[1]])))
                .sum::<u32>()
        };
        for (source, destination, ip) in [
            ("192.0.2.1", "192.0.2.2", IPV4_BYTES),
            ("2001:db8::1", "2001:db8::2", IPV6_BYTES),
        ] {
            let (outer, _) =
                template(source.parse().unwrap(), destination.parse().unwrap(), PORT).unwrap();
            let header = |variable| {
                if ip == IPV4_BYTES {
                    bytes(&outer4(words(&outer), variable))[ip..].to_vec()
                } else {
                    bytes(&outer6(words(&outer), variable))[ip..OUTER6_BYTES].to_vec()
                }
            };
            let (checksum, payload) = (checksum_base(&outer), fold(sum(&inner)));
            let filled = header(Variable {
                udp_length: 112,
                checksum,
                payload,
                ..VARIABLE
            });
            let addresses = if ip == IPV4_BYTES {
                &outer[12..20]
            } else {
                &outer[8..40]
            };
            let pseudo = [addresses, &112u32.to_be_bytes(), &[0, 0, 0, PROTOCOL_UDP]].concat();
            let all = sum(&pseudo) + sum(&filled) + sum(&inner);
            assert_eq!(fold(all), 0xffff, "{source}");
            // one that is 0 says that there is none
            let found = u16::from_ne_bytes([filled[6], filled[7]]);
            let zero = payload
                .wrapping_add(found)
                .wrapping_add(u16::from(found > u16::MAX - payload));
            let filled = header(Variable {
                udp_length: 112,
                checksum,
                payload: zero,
                ..VARIABLE
            });
            assert_eq!(filled[6..8], [0xff, 0xff], "{source}");
        }
    }

    #[test]
    fn families_must_agree() {
        assert!(
            template(
                "192.0.2.1".parse().unwrap(),
                "2001:db8::2".parse().unwrap(),
                PORT
            )
            .is_none()
        );
    }
}
