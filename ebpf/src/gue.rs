//! The outer header: IPv4 or IPv6, UDP and GUE variant 0 (draft-ietf-intarea-gue-09, section 3).
//! Input: addresses once, length and flow per packet. Output: bytes in network order. Must not know: maps.

use core::net::IpAddr;

use crate::abi::OUTER_MAX_BYTES;

/// GUE's UDP port, IANA.
pub const PORT: u16 = 6080;
/// Bytes of a GUE header of variant 0 without optional fields.
pub const GUE_BYTES: usize = 4;
const UDP_BYTES: usize = 8;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
/// IP protocol number of an IPv4 packet in a tunnel.
pub const PROTOCOL_IPV4: u8 = 4;
/// IP protocol number of an IPv6 packet in a tunnel.
pub const PROTOCOL_IPV6: u8 = 41;
const PROTOCOL_UDP: u8 = 17;
/// TTL and hop limit of the outer header (RFC 1700).
pub const TTL: u8 = 64;
/// Dynamic ports (RFC 6335) that carry the flow's entropy.
pub const SOURCE_PORT_BASE: u16 = 0xc000;

/// Bytes of the outer header over IPv4.
pub const OUTER4_BYTES: usize = IPV4_BYTES + UDP_BYTES + GUE_BYTES;
/// Bytes of the outer header over IPv6.
pub const OUTER6_BYTES: usize = IPV6_BYTES + UDP_BYTES + GUE_BYTES;

/// Everything of the outer header that is the same for all packets to an endpoint, and its length in bytes.
/// `None` if the addresses are of different families.
///
/// DSCP and ECN are 0: a copy competes with production traffic as best effort. DF is 0: a router on the way may cut
/// a copy rather than lose it. In place of the IPv4 checksum stands the sum of the words that do not vary.
#[must_use]
pub fn template(source: IpAddr, destination: IpAddr, port: u16) -> Option<([u8; OUTER_MAX_BYTES], usize)> {
    let mut outer = [0; OUTER_MAX_BYTES];
    let udp = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            outer[0] = 0x45;
            outer[8] = TTL;
            outer[9] = PROTOCOL_UDP;
            outer[12..16].copy_from_slice(&source.octets());
            outer[16..20].copy_from_slice(&destination.octets());
            let sum = (0..IPV4_BYTES).step_by(2).map(|i| u32::from(u16::from_ne_bytes([outer[i], outer[i + 1]]))).sum();
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

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Bytes of the outer IP packet; its low 16 bits go into the header (segmentation writes them again).
    pub length: u32,
    /// Hash of the inner flow.
    pub flow: u32,
    /// Identification for IPv4.
    pub identification: u16,
    /// The inner packet is IPv6.
    pub inner_ipv6: bool,
}

/// Completes an IPv4 outer header: `words` is the template as 16-bit words in network byte order.
#[inline(always)]
pub fn fill4(words: &mut [u16; OUTER4_BYTES / 2], variable: Variable) {
    let length = (variable.length as u16).to_be();
    let identification = variable.identification.to_be();
    words[1] = length;
    words[2] = identification;
    words[5] = !fold(u32::from(words[5]) + u32::from(length) + u32::from(identification));
    words[10] = source_port(variable.flow).to_be();
    words[12] = (variable.length.wrapping_sub(IPV4_BYTES as u32) as u16).to_be();
    words[14] = gue(variable.inner_ipv6);
}

/// RFC 1071: a sum of words, in whichever byte order, folded to one.
#[inline(always)]
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// Completes an IPv6 outer header: `words` is the template as 16-bit words in network byte order.
/// The UDP checksum stays 0, which RFC 6935 allows for tunnels.
#[inline(always)]
pub fn fill6(words: &mut [u16; OUTER6_BYTES / 2], variable: Variable) {
    let payload = (variable.length.wrapping_sub(IPV6_BYTES as u32) as u16).to_be();
    words[0] = (0x6000 | (variable.flow & 0xf) as u16).to_be();
    words[1] = ((variable.flow >> 4) as u16).to_be();
    words[2] = payload;
    words[20] = source_port(variable.flow).to_be();
    words[22] = payload;
    words[24] = gue(variable.inner_ipv6);
}

#[inline(always)]
const fn source_port(flow: u32) -> u16 {
    SOURCE_PORT_BASE | (flow >> 18) as u16
}

/// Variant 0, header length 0, a data message: 0, and the inner protocol.
#[inline(always)]
const fn gue(ipv6: bool) -> u16 {
    (if ipv6 { PROTOCOL_IPV6 } else { PROTOCOL_IPV4 } as u16).to_be()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn bytes(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    fn words<const N: usize>(outer: &[u8]) -> [u16; N] {
        core::array::from_fn(|i| u16::from_ne_bytes([outer[2 * i], outer[2 * i + 1]]))
    }

    const VARIABLE: Variable = Variable { length: 132, flow: 0x8000_0001, identification: 7, inner_ipv6: false };

    #[test]
    fn outer_ipv4_byte_for_byte() {
        let (outer, length) = template("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), PORT).unwrap();
        assert_eq!(length, OUTER4_BYTES);
        let mut filled = words(&outer);
        fill4(&mut filled, VARIABLE);
        assert_eq!(
            bytes(&filled),
            [
                0x45, 0, 0, 132, 0, 7, 0, 0, 64, 17, 0xf6, 0x5e, 192, 0, 2, 1, 192, 0, 2, 2, // IPv4
                0xe0, 0x00, 0x17, 0xc0, 0, 112, 0, 0, // UDP
                0, 4, 0, 0, // GUE
            ]
        );
    }

    #[test]
    fn outer_ipv6_byte_for_byte() {
        let (outer, length) = template("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), 7000).unwrap();
        assert_eq!(length, OUTER6_BYTES);
        let mut filled = words(&outer);
        fill6(&mut filled, Variable { length: 152, inner_ipv6: true, ..VARIABLE });
        let address = |last| [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let mut want = Vec::from([0x60, 1, 0, 0, 0, 112, 17, 64]);
        want.extend(address(1));
        want.extend(address(2));
        want.extend([0xe0, 0x00, 0x1b, 0x58, 0, 112, 0, 0, 0, 41, 0, 0]);
        assert_eq!(bytes(&filled), want);
    }

    #[test]
    fn families_must_agree() {
        assert!(template("192.0.2.1".parse().unwrap(), "2001:db8::2".parse().unwrap(), PORT).is_none());
    }
}
