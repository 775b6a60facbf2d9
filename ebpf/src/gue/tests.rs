extern crate std;
use std::vec::Vec;

use super::*;

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
        // a checksum of 0 means that there is none
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
