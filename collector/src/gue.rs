//! Input: what a UDP datagram holds. Output: the IP packet in it. Variants 0 and 1 of GUE
//! (draft-ietf-intarea-gue-09, sections 3 and 4).

use std::fmt;

/// Why a datagram is no copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Malformed {
    /// It ends within the GUE header.
    Short,
    /// A variant that is not known.
    Variant,
    /// A control message, which carries no packet.
    Control,
    /// What it carries is not IP.
    Protocol,
    /// What it carries says that it is IP, and is not.
    NotIp,
}

impl Malformed {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 5] = [
        Self::Short,
        Self::Variant,
        Self::Control,
        Self::Protocol,
        Self::NotIp,
    ];
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "shorter than its GUE header",
            Self::Variant => "of an unknown GUE variant",
            Self::Control => "GUE control messages",
            Self::Protocol => "with something else than IP",
            Self::NotIp => "with a malformed IP packet",
        })
    }
}

/// An IP packet that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inner<'d> {
    /// Its bytes from the IP header on: all of them, or as many as `snap` left.
    pub(crate) bytes: &'d [u8],
    /// Bytes that it had, by its header; never less than there are.
    pub(crate) length: usize,
    /// IPv6, else IPv4.
    pub is_ipv6: bool,
}

/// Bytes of a GUE header of variant 0 before its optional fields.
const HEADER_BYTES: usize = 4;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
/// IP protocol numbers of packets in tunnels.
const IPV4: u8 = 4;
const IPV6: u8 = 41;

/// Finds the packet in a datagram.
///
/// # Errors
/// There is none.
pub(crate) fn unwrap(datagram: &[u8]) -> Result<Inner<'_>, Malformed> {
    let &first = datagram.first().ok_or(Malformed::Short)?;
    match first >> 6 {
        0 => {
            let header = HEADER_BYTES + usize::from(first & 0x1f) * 4;
            let rest = datagram.get(header..).ok_or(Malformed::Short)?;
            if first & 0x20 != 0 {
                return Err(Malformed::Control);
            }
            match datagram[1] {
                IPV4 => packet(rest, 4),
                IPV6 => packet(rest, 6),
                _ => Err(Malformed::Protocol),
            }
        }
        // no header: the version of IP begins with the same bits
        1 => packet(datagram, first >> 4),
        _ => Err(Malformed::Variant),
    }
}

fn packet(bytes: &[u8], version: u8) -> Result<Inner<'_>, Malformed> {
    let is_ipv6 = version == 6;
    let least = if is_ipv6 { IPV6_BYTES } else { IPV4_BYTES };
    if bytes.len() < least || bytes[0] >> 4 != version || !matches!(version, 4 | 6) {
        return Err(Malformed::NotIp);
    }
    let word = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let length = if is_ipv6 {
        // 0 is that of a jumbogram, or of a superpacket
        if word(4) == 0 {
            bytes.len()
        } else {
            IPV6_BYTES + word(4)
        }
    } else {
        word(2)
    };
    if length < least {
        return Err(Malformed::NotIp);
    }
    // what is behind the packet is padding
    let bytes = &bytes[..bytes.len().min(length)];
    Ok(Inner {
        bytes,
        length,
        is_ipv6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(total: u16, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet
    }

    fn v6(payload: u16, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        packet
    }

    fn gue(header: &[u8], packet: &[u8]) -> Vec<u8> {
        [header, packet].concat()
    }

    #[test]
    fn whole_packets() {
        let four = gue(&[0, 4, 0, 0], &v4(60, 60));
        let inner = unwrap(&four).unwrap();
        assert_eq!((inner.bytes, inner.length), (&four[4..], 60));
        assert!(!inner.is_ipv6);
        let six = gue(&[0, 41, 0, 0], &v6(20, 60));
        let inner = unwrap(&six).unwrap();
        assert_eq!((inner.bytes, inner.length), (&six[4..], 60));
        assert!(inner.is_ipv6);
    }

    #[test]
    fn what_was_cut_off_is_known_by_its_header() {
        let inner = gue(&[0, 4, 0, 0], &v4(1500, 128));
        let inner = unwrap(&inner).unwrap();
        assert_eq!((inner.bytes.len(), inner.length), (128, 1500));
    }

    #[test]
    fn padding_is_left_out() {
        let inner = gue(&[0, 4, 0, 0], &v4(30, 46));
        assert_eq!(unwrap(&inner).unwrap().bytes.len(), 30);
    }

    #[test]
    fn optional_fields_are_passed_over() {
        let inner = gue(&[2, 4, 0, 0, 9, 9, 9, 9, 8, 8, 8, 8], &v4(20, 20));
        assert_eq!(unwrap(&inner).unwrap().bytes[0], 0x45);
    }

    #[test]
    fn variant_1_is_the_packet_itself() {
        assert_eq!(unwrap(&v4(20, 20)).unwrap().length, 20);
        assert_eq!(unwrap(&v6(0, 40)).unwrap().length, 40);
        assert_eq!(unwrap(&[0x50; 60]), Err(Malformed::NotIp));
    }

    #[test]
    fn nothing_else_is_a_copy() {
        let wrong: [(&[u8], Malformed); 9] = [
            (&[], Malformed::Short),
            (&[0, 4, 0], Malformed::Short),
            (&[31, 4, 0, 0, 0x45], Malformed::Short),
            (&[0x20, 4, 0, 0], Malformed::Control),
            (&[0x80, 4, 0, 0], Malformed::Variant),
            (&[0, 47, 0, 0, 0, 0, 8, 0], Malformed::Protocol),
            (&gue(&[0, 4, 0, 0], &v6(0, 40)), Malformed::NotIp),
            (&gue(&[0, 41, 0, 0], &v6(0, 39)), Malformed::NotIp),
            (&gue(&[0, 4, 0, 0], &v4(19, 40)), Malformed::NotIp),
        ];
        for (datagram, reason) in wrong {
            assert_eq!(unwrap(datagram), Err(reason), "{datagram:?}");
        }
    }
}
