//! Checksums of the Internet protocols, from bytes alone.

use std::net::IpAddr;

/// The Internet checksum (RFC 1071) of `parts` end to end, in host order. Only the last part may
/// have an odd length.
pub fn internet(parts: &[&[u8]]) -> u16 {
    !sum(parts)
}

/// The ones' complement sum of `parts`, folded to 16 bits and not inverted, in host order: what a
/// `CHECKSUM_PARTIAL` packet carries for its pseudo-header, and `0xffff` over data with a right
/// checksum in it.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The pseudo-header of TCP, UDP and ICMPv6 (RFC 9293, RFC 8200 section 8.1) for `length` bytes of
/// upper layer.
///
/// It has IPv6's layout for both families: the extra zeros do not change IPv4's sum.
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// CRC32c (Castagnoli, reflected), the checksum of SCTP; its header holds it in little-endian order
/// (RFC 9260 appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_check_string() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720 appendix B.4: 32 bytes of zeros, 32 bytes of ones
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
    }

    #[test]
    fn internet_checksum_of_the_rfc_1071_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&[&data]), 0xddf2);
        assert_eq!(sum(&[&data[..4], &data[4..]]), 0xddf2);
        assert_eq!(internet(&[&data, &0x220d_u16.to_be_bytes()]), 0);
        assert_eq!(sum(&[&[0x12]]), 0x1200);
    }
}
