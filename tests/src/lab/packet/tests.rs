//! The builder against bytes worked out elsewhere, and the parsers against the builder and against
//! damage.

use super::*;

/// Every way to carry `payload` from port 40000 to 443, or without ports, whose checksum covers all
/// of it.
fn variety(payload: &[u8]) -> Vec<(&'static str, Packet)> {
    let v4 = || eth().ipv4("10.0.0.1", "10.0.0.2");
    let v4_options = || {
        eth().layer(Ipv4 {
            options: vec![7, 7, 4, 0, 0, 0, 0],
            ..Ipv4::new("10.0.0.1", "10.0.0.2")
        })
    };
    let v6 = || eth().ipv6("2001:db8::1", "2001:db8::2");
    let routed = || {
        let last = "2001:db8::9"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets();
        v6().layer(Extension::routing(2, 1, &[&[0; 4][..], &last].concat()))
    };
    let mut all = vec![
        ("tcp 10.0.0.1:40000 > 10.0.0.2:443", v4().tcp(40000, 443)),
        (
            "tcp 10.0.0.1:40000 > 10.0.0.2:443",
            v4_options().tcp(40000, 443),
        ),
        (
            "udp 10.0.0.1:40000 > 10.0.0.2:443",
            eth().vlan(5).ip("10.0.0.1", "10.0.0.2").udp(40000, 443),
        ),
        (
            "sctp 10.0.0.1:40000 > 10.0.0.2:443",
            v4_options().sctp(40000, 443),
        ),
        ("icmp 10.0.0.1 > 10.0.0.2", v4().icmp(8, 0)),
        (
            "tcp [2001:db8::1]:40000 > [2001:db8::2]:443",
            v6().tcp(40000, 443),
        ),
        (
            "tcp [2001:db8::1]:40000 > [2001:db8::2]:443",
            v6().hop_by_hop().destination_options().tcp(40000, 443),
        ),
        (
            "udp [2001:db8::1]:40000 > [2001:db8::2]:443",
            v6().authentication().fragment(0, false, 7).udp(40000, 443),
        ),
        (
            "udp [2001:db8::1]:40000 > [2001:db8::2]:443",
            routed().udp(40000, 443),
        ),
        (
            "sctp [2001:db8::1]:40000 > [2001:db8::2]:443",
            eth()
                .qinq(5, 6)
                .ip("2001:db8::1", "2001:db8::2")
                .sctp(40000, 443),
        ),
        (
            "icmpv6 2001:db8::1 > 2001:db8::2",
            v6().destination_options().icmpv6(128, 0),
        ),
    ];
    for (_, packet) in &mut all {
        *packet = packet.clone().payload(payload);
    }
    all
}

#[test]
fn bytes_are_those_worked_out_elsewhere() {
    // the header that articles on the IPv4 checksum use as their example
    let header = Ipv4 {
        total_length: Some(0x73),
        protocol: Some(17),
        ..Ipv4::new("192.168.0.1", "192.168.0.199")
    };
    assert_eq!(
        Packet::new().layer(header).build(),
        [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 192, 168, 0, 1, 192, 168, 0,
            199
        ]
    );
    // by hand: the words of the pseudo-header, of the header, and "hi"
    let udp = Packet::new()
        .ip("10.0.0.1", "10.0.0.2")
        .udp(0x35, 0x36)
        .payload("hi")
        .build();
    let sum = 0x0a00 + 1 + 0x0a00 + 2 + 0x11 + 10 + 0x35 + 0x36 + 10 + 0x6869;
    assert_eq!(
        udp[20..],
        [
            0,
            0x35,
            0,
            0x36,
            0,
            10,
            (!sum >> 8) as u8,
            !sum as u8,
            b'h',
            b'i'
        ]
    );
    let v6 = Ipv6 {
        dscp: 46,
        ecn: 1,
        flow_label: 0x12345,
        ..Ipv6::new("::1", "::2")
    };
    let v6 = Packet::new()
        .layer(v6)
        .hop_by_hop()
        .fragment(185, true, 0xabcd)
        .raw(17, [1, 2])
        .build();
    assert_eq!(v6[..8], [0x6b, 0x91, 0x23, 0x45, 0, 18, 0, 64]);
    assert_eq!(
        v6[40..],
        [
            44, 0, 5, 2, 0, 0, 1, 0, 17, 0, 5, 0xc9, 0, 0, 0xab, 0xcd, 1, 2
        ]
    );
}

#[test]
fn each_packet_is_read_as_it_was_built() {
    for (flow, packet) in variety(b"some payload") {
        let frame = packet.pad(120).build();
        let inner = ip_part(&frame).unwrap();
        assert_eq!(FiveTuple::parse(inner).unwrap().to_string(), flow);
        verify_inner_checksums(inner).unwrap_or_else(|error| panic!("{flow}: {error:#}"));
    }
}

#[test]
fn each_flipped_bit_under_a_checksum_is_noticed() {
    for (flow, packet) in variety(b"odd") {
        let frame = packet.build();
        let inner = ip_part(&frame).unwrap();
        let ip = Ip::parse(inner).unwrap();
        // IPv6 has no header checksum
        let covered = if ip.source.is_ipv4() {
            0
        } else {
            ip.header_length
        };
        for bit in covered * 8..inner.len() * 8 {
            let mut damaged = inner.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                verify_inner_checksums(&damaged).is_err(),
                "{flow}: bit {bit}"
            );
        }
    }
}

#[test]
fn overrides_padding_and_cuts() {
    let wrong = Ipv4 {
        ihl: Some(15),
        checksum: Some(0),
        ..Ipv4::new("10.0.0.1", "10.0.0.2")
    };
    let frame = eth().layer(wrong).udp(1, 2).build();
    assert_eq!((frame[14], &frame[24..26]), (0x4f, &[0, 0][..]));
    assert!(ip_part(&frame).is_err());
    let frame = eth().ip("10.0.0.1", "10.0.0.2").udp(1, 2).pad(60).build();
    assert_eq!((frame.len(), ip_part(&frame).unwrap().len()), (60, 28));
    let cut = eth()
        .ip("10.0.0.1", "10.0.0.2")
        .tcp(1, 2)
        .payload([7; 100])
        .truncate(40)
        .build();
    assert_eq!(cut.len(), 40);
    assert_eq!(
        FiveTuple::parse(ip_part(&cut).unwrap())
            .unwrap()
            .to_string(),
        "tcp 10.0.0.1:1 > 10.0.0.2:2"
    );
    assert!(verify_inner_checksums(ip_part(&cut).unwrap()).is_err());
    for bytes in 0..frame.len() {
        // whatever is cut, the parsers give an answer
        let _ = (
            ip_part(&frame[..bytes]),
            Gue::parse(&frame[..bytes]),
            is_gue(&frame[..bytes]),
        );
    }
}

#[test]
fn later_fragments_have_no_ports() {
    let later = Ipv4 {
        fragment_offset: 185,
        ..Ipv4::new("10.0.0.1", "10.0.0.2")
    };
    let later = Packet::new().layer(later).raw(6, [0; 40]).build();
    assert_eq!(
        FiveTuple::parse(&later).unwrap().to_string(),
        "tcp 10.0.0.1 > 10.0.0.2"
    );
    let later = Packet::new()
        .ip("::1", "::2")
        .fragment(185, false, 1)
        .raw(17, [0; 40])
        .build();
    assert_eq!(
        FiveTuple::parse(&later).unwrap().to_string(),
        "udp ::1 > ::2"
    );
}
