//! Input: an ICMP error, as a router or the endpoint sends it about a copy. Output: its kind, and
//! the copy that it quotes.

use crate::abi::{Endpoint, IcmpError};
use crate::gue::{OUTER6_BYTES, SOURCE_PORT_BASE};
use crate::packet::protocol;

/// Bytes of the header before the packet that an error is about (RFC 792, RFC 4443).
pub const ICMP_BYTES: u32 = 8;
/// The bits of an IPv4 fragment's offset, and of an IPv6 fragment's.
const OFFSET4: u16 = 0x1fff;
const OFFSET6: u16 = 0xfff8;

/// The header of an error.
pub type Header = [u8; ICMP_BYTES as usize];

/// Its kind: an [`IcmpError`] as a number, or [`IcmpError::COUNT`] if it does not concern copies.
#[must_use]
#[inline(always)]
pub const fn kind(header: &Header, ipv6: bool) -> u32 {
    let kind = match (ipv6, header[0], header[1]) {
        (false, 3, 3) | (true, 1, 4) => IcmpError::PortClosed,
        (false, 3, 4) | (true, 2, _) => IcmpError::TooBig,
        (false, 3, _) | (true, 1, _) => IcmpError::Unreachable,
        (false, 11, _) | (true, 3, _) => IcmpError::TimeExceeded,
        _ => return IcmpError::COUNT as u32,
    };
    kind as u32
}

/// The MTU of a packet-too-big over IPv6, bytes.
#[must_use]
#[inline(always)]
pub const fn mtu(header: &Header) -> u32 {
    u32::from_be_bytes([header[4], header[5], header[6], header[7]])
}

/// The quoted packet's IPv4 header.
pub type Quoted4 = [u8; 20];
/// The quoted packet's IPv6 header.
pub type Quoted6 = [u8; 40];
/// What follows it in a fragment (RFC 8200 section 4.5).
pub type Fragment6 = [u8; 8];
/// Source and destination port, the beginning of a UDP header.
pub type Ports = [u8; 4];

/// Where the UDP header begins in a quoted IPv4 packet, bytes; 0 if it has none, as a later
/// fragment.
#[must_use]
#[inline(always)]
pub const fn udp4(quoted: &Quoted4) -> u32 {
    let offset = u16::from_be_bytes([quoted[6], quoted[7]]) & OFFSET4;
    if quoted[9] == protocol::UDP && offset == 0 {
        (quoted[0] & 0x0f) as u32 * 4
    } else {
        0
    }
}

/// Whether a quoted fragment over IPv6 has a UDP header.
#[must_use]
#[inline(always)]
pub const fn is_first6(fragment: &Fragment6) -> bool {
    fragment[0] == protocol::UDP && u16::from_be_bytes([fragment[2], fragment[3]]) & OFFSET6 == 0
}

/// Whether addresses and ports are those of copies to an endpoint. `addresses` are source and
/// destination as in the quoted header; IPv4 fills the first two words.
#[must_use]
#[inline(always)]
pub fn is_ours(addresses: &[u32; 8], ports: Ports, endpoint: &Endpoint, ipv6: bool) -> bool {
    const ADDRESSES4: usize = 12 / 4;
    const ADDRESSES6: usize = 8 / 4;
    let over_ipv6 = endpoint.outer_bytes == OUTER6_BYTES as u32;
    if !endpoint.has_way() || over_ipv6 != ipv6 {
        return false;
    }
    let (first, words) = if ipv6 {
        (ADDRESSES6, 8)
    } else {
        (ADDRESSES4, 2)
    };
    let outer = endpoint.outer.as_ptr().cast::<u32>();
    let mut i = 0;
    while i < words {
        // SAFETY: the header has these words, at an address that is a multiple of 4 (asserted
        // below).
        if unsafe { outer.add(first + i).read() } != addresses[i] {
            return false;
        }
        i += 1;
    }
    let at = if ipv6 { 42 } else { 22 };
    [ports[2], ports[3]] == [endpoint.outer[at], endpoint.outer[at + 1]]
        && u16::from_be_bytes([ports[0], ports[1]]) >= SOURCE_PORT_BASE
}

const _: () = assert!(core::mem::offset_of!(Endpoint, outer) % 4 == 0);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::abi::{Drop, OUTER_MAX_BYTES};
    use crate::gue::template;
    use std::vec::Vec;

    fn endpoint(source: &str, destination: &str, port: u16) -> Endpoint {
        let (outer, bytes) =
            template(source.parse().unwrap(), destination.parse().unwrap(), port).unwrap();
        let zeros = [0u8; size_of::<Endpoint>()];
        // SAFETY: any bytes are a valid value.
        let zeroed: Endpoint = unsafe { core::ptr::read_unaligned(zeros.as_ptr().cast()) };
        Endpoint {
            interface: 1,
            outer,
            outer_bytes: bytes as u32,
            ..zeroed
        }
    }

    fn addresses(outer: [u8; OUTER_MAX_BYTES], ipv6: bool) -> [u32; 8] {
        let bytes = if ipv6 { &outer[8..40] } else { &outer[12..20] };
        let words: Vec<u32> = bytes
            .chunks(4)
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        core::array::from_fn(|i| words.get(i).copied().unwrap_or_default())
    }

    #[test]
    fn only_quotes_of_our_own_headers_count() {
        for (ipv6, endpoint, other) in [
            (false, endpoint("192.0.2.1", "192.0.2.2", 6080), "192.0.2.3"),
            (
                true,
                endpoint("2001:db8::1", "2001:db8::2", 6080),
                "2001:db8::3",
            ),
        ] {
            let quoted = addresses(endpoint.outer, ipv6);
            let ports = |from: u16, to: u16| {
                let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
                [a, b, c, d]
            };
            assert!(is_ours(&quoted, ports(0xc123, 6080), &endpoint, ipv6));
            assert!(
                !is_ours(&quoted, ports(0xc123, 6081), &endpoint, ipv6),
                "another port"
            );
            assert!(
                !is_ours(&quoted, ports(1234, 6080), &endpoint, ipv6),
                "a port that no copy has"
            );
            assert!(
                !is_ours(&quoted, ports(0xc123, 6080), &endpoint, !ipv6),
                "another family"
            );
            for word in 0..if ipv6 { 8 } else { 2 } {
                let mut forged = quoted;
                forged[word] ^= 1;
                assert!(
                    !is_ours(&forged, ports(0xc123, 6080), &endpoint, ipv6),
                    "another address, {other}"
                );
            }
            let silent = Endpoint {
                state: Drop::NoNeighbour as u32,
                ..endpoint
            };
            assert!(is_ours(&quoted, ports(0xc123, 6080), &silent, ipv6));
            let gone = Endpoint {
                state: Drop::NoRoute as u32,
                ..endpoint
            };
            assert!(!is_ours(&quoted, ports(0xc123, 6080), &gone, ipv6));
        }
    }

    #[test]
    fn types_and_codes_are_those_of_the_standards() {
        let said = |kind_, code, ipv6| kind(&[kind_, code, 0, 0, 0, 0, 0x05, 0x78], ipv6);
        assert_eq!(said(3, 3, false), IcmpError::PortClosed as u32);
        assert_eq!(said(3, 1, false), IcmpError::Unreachable as u32);
        assert_eq!(said(3, 4, false), IcmpError::TooBig as u32);
        assert_eq!(said(11, 1, false), IcmpError::TimeExceeded as u32);
        assert_eq!(said(1, 4, true), IcmpError::PortClosed as u32);
        assert_eq!(said(1, 1, true), IcmpError::Unreachable as u32);
        assert_eq!(said(2, 0, true), IcmpError::TooBig as u32);
        for (echo, ipv6) in [(8, false), (0, false), (5, false), (128, true), (135, true)] {
            assert_eq!(said(echo, 0, ipv6), IcmpError::COUNT as u32);
        }
        assert_eq!(mtu(&[2, 0, 0, 0, 0, 0, 0x05, 0x78]), 1400);
    }

    #[test]
    fn later_fragments_quote_no_ports() {
        let mut quoted = [0; 20];
        (quoted[0], quoted[9]) = (0x46, 17);
        assert_eq!(udp4(&quoted), 24);
        quoted[6] = 0x20;
        assert_eq!(udp4(&quoted), 24, "a first fragment");
        quoted[7] = 1;
        assert_eq!(udp4(&quoted), 0);
        assert!(is_first6(&[17, 0, 0, 1, 0, 0, 0, 1]));
        assert!(!is_first6(&[17, 0, 0, 8, 0, 0, 0, 1]));
        assert!(!is_first6(&[6, 0, 0, 1, 0, 0, 0, 1]));
    }
}
