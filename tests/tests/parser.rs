//! What the parser sees in a frame, on the host: the same code runs in the kernel.

use std::collections::BTreeSet;

use traffic_mirror_ebpf::abi::{FlowKeys, Skipped};
use traffic_mirror_ebpf::packet::{Bytes, Packet, mix, parse};
use traffic_mirror_tests::lab::packet::{self, Extension, FiveTuple, Ipv4, Ipv6, eth, ip_part};

/// Neither protocol nor ports are known.
const TRANSPORT: u8 = Packet::PORTS | Packet::PROTOCOL;

/// As the kernel would with the frame's own EtherType.
fn see(frame: &[u8]) -> Result<Packet, Skipped> {
    let ethertype = frame
        .get(12..14)
        .map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let mut packet = Packet::default();
    parse(&mut Bytes(frame), ethertype, &mut packet).map(|()| packet)
}

fn v4() -> packet::Packet {
    eth().ip("10.0.0.1", "10.0.0.2")
}

fn v6() -> packet::Packet {
    eth().ip("2001:db8::1", "2001:db8::2")
}

#[test]
fn the_laboratory_sees_the_same_five_tuple() {
    let frames = [
        v4().tcp(40_000, 443),
        v4().udp(0, 65_535),
        v4().sctp(5, 6),
        v4().icmp(8, 0),
        v4().raw(253, [1; 20]),
        eth()
            .layer(Ipv4 {
                options: vec![1; 40],
                ..Ipv4::new("10.0.0.1", "10.0.0.2")
            })
            .tcp(1, 2),
        eth().vlan(7).ip("10.0.0.1", "10.0.0.2").udp(53, 54),
        eth().qinq(7, 8).ip("2001:db8::1", "2001:db8::2").tcp(1, 2),
        v6().tcp(40_000, 443),
        v6().icmpv6(128, 0),
        v6().hop_by_hop().destination_options().udp(1, 2),
        v6().authentication().tcp(3, 4),
        v6().layer(Extension::routing(0, 1, &[0; 20]))
            .fragment(0, true, 9)
            .udp(7, 8),
    ];
    for frame in frames {
        let frame = frame.payload(*b"payload").build();
        let seen = see(&frame).unwrap();
        let want = FiveTuple::parse(ip_part(&frame).unwrap()).unwrap();
        assert_eq!(seen.protocol, want.protocol, "{want}");
        let ports = (seen.ported != 0).then_some((seen.source_port, seen.destination_port));
        assert_eq!(ports, want.ports, "{want}");
        let address = |halves: [u64; 2]| match seen.version {
            4 => std::net::IpAddr::from(((halves[0] >> 32) as u32).to_be_bytes()),
            _ => std::net::IpAddr::from(
                (u128::from(halves[0]) << 64 | u128::from(halves[1])).to_be_bytes(),
            ),
        };
        assert_eq!(
            (address(seen.source), address(seen.destination)),
            (want.source, want.destination),
            "{want}"
        );
    }
}

#[test]
fn the_ip_header_is_found_behind_tags() {
    for (frame, offset) in [
        (v4(), 14),
        (eth().vlan(1).ip("10.0.0.1", "10.0.0.2"), 18),
        (eth().qinq(1, 2).ip("10.0.0.1", "10.0.0.2"), 22),
        (eth().qinq(1, 2).vlan(3), 0),
    ] {
        let frame = frame.udp(1, 2).build();
        match see(&frame) {
            Ok(packet) => assert_eq!((packet.offset, packet.transport), (offset, offset + 20)),
            Err(reason) => assert_eq!((reason, offset), (Skipped::NotIp, 0)),
        }
    }
}

#[test]
fn later_fragments_have_no_ports() {
    let first = see(&eth()
        .layer(Ipv4 {
            flags: Ipv4::MF,
            ..Ipv4::new("10.0.0.1", "10.0.0.2")
        })
        .udp(1, 2)
        .build());
    let later = see(&eth()
        .layer(Ipv4 {
            fragment_offset: 1,
            ..Ipv4::new("10.0.0.1", "10.0.0.2")
        })
        .udp(1, 2)
        .build());
    let later6 = see(&v6().fragment(1, false, 3).udp(1, 2).build());
    let ports = |packet: Result<Packet, Skipped>| {
        packet.map(|p| (p.protocol, p.fragment, p.ported, p.unknown))
    };
    assert_eq!(ports(first), Ok((17, 1, 1, 0)));
    assert_eq!(ports(later), Ok((17, 2, 0, 0)));
    assert_eq!(ports(later6), Ok((17, 2, 0, 0)));
    // a part of a part has the identification of the outer one
    let nested = v6()
        .fragment(0, true, 3)
        .fragment(0, true, 4)
        .udp(1, 2)
        .build();
    let nested = see(&nested).unwrap();
    assert_eq!(
        (nested.fragment, nested.identification, nested.unknown),
        (Packet::FIRST, 3, TRANSPORT)
    );
    let whole = see(&v6()
        .fragment(0, false, 3)
        .fragment(0, true, 4)
        .udp(1, 2)
        .build())
    .unwrap();
    assert_eq!(
        (whole.fragment, whole.identification, whole.ported),
        (Packet::FIRST, 4, 1)
    );
}

#[test]
fn more_extension_headers_than_eight_hide_the_ports() {
    let chain = |count| {
        let mut frame = v6();
        for _ in 0..count {
            frame = frame.destination_options();
        }
        see(&frame.tcp(1, 2).build()).unwrap()
    };
    assert_eq!(
        (chain(8).protocol, chain(8).ported, chain(8).unknown),
        (6, 1, 0)
    );
    for count in [9, 10, 100, 200] {
        assert_eq!(
            (chain(count).ported, chain(count).unknown),
            (0, TRANSPORT),
            "{count}"
        );
    }
}

#[test]
fn a_cut_frame_is_malformed_or_has_ports_that_are_unknown() {
    let frame = v4().tcp(1, 2).build();
    for length in 0..frame.len() {
        let seen = see(&frame[..length]);
        match length {
            0..14 => assert_eq!(seen, Err(Skipped::NotIp)),
            14..34 => assert_eq!(seen, Err(Skipped::Malformed)),
            34..38 => assert_eq!(
                seen.map(|p| (p.protocol, p.ported, p.unknown)),
                Ok((6, 0, Packet::PORTS))
            ),
            _ => assert_eq!(
                seen.map(|p| (p.protocol, p.ported, p.unknown)),
                Ok((6, 1, 0))
            ),
        }
    }
    let icmp = see(&v4().icmp(8, 0).build()[..34]).unwrap();
    assert_eq!((icmp.ported, icmp.unknown), (0, 0), "ICMP has no ports");
}

#[test]
fn a_chain_that_is_cut_off_hides_the_protocol() {
    let frame = v6()
        .hop_by_hop()
        .authentication()
        .fragment(0, false, 1)
        .tcp(1, 2)
        .build();
    let whole = see(&frame).unwrap();
    assert_eq!((whole.protocol, whole.ported, whole.unknown), (6, 1, 0));
    let transport = usize::from(whole.transport);
    for length in 54..transport + 4 {
        let unknown = see(&frame[..length]).unwrap().unknown;
        assert_eq!(
            unknown,
            if length < transport {
                TRANSPORT
            } else {
                Packet::PORTS
            },
            "{length} bytes"
        );
    }
}

#[test]
fn headers_that_contradict_themselves_are_malformed() {
    let ip = || Ipv4::new("10.0.0.1", "10.0.0.2");
    for header in [
        Ipv4 { version: 5, ..ip() },
        Ipv4 { version: 6, ..ip() },
        Ipv4 {
            ihl: Some(4),
            ..ip()
        },
        Ipv4 {
            ihl: Some(0),
            ..ip()
        },
        Ipv4 {
            total_length: Some(19),
            ..ip()
        },
        Ipv4 {
            total_length: Some(1),
            ..ip()
        },
    ] {
        let frame = eth().layer(header.clone()).udp(1, 2).build();
        assert_eq!(see(&frame), Err(Skipped::Malformed), "{header:?}");
    }
    let frame = eth()
        .layer(Ipv6 {
            version: 4,
            ..Ipv6::new("2001:db8::1", "2001:db8::2")
        })
        .udp(1, 2)
        .build();
    assert_eq!(see(&frame), Err(Skipped::Malformed));
}

const KEYS: FlowKeys = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6c,
    0xc0ac_29b7_c97c_50dd,
    0x3f84_d5b5_b547_0917,
    0x9216_d5d9_8979_fb1b,
    0xd131_0ba6_98df_b5ac,
    0x2ffd_72db_d01a_dfb7,
];

#[test]
fn the_flow_hash_is_the_same_both_ways_and_for_fragments() {
    let hash = |frame: packet::Packet| see(&frame.build()).unwrap().flow_hash(&KEYS);
    let there = hash(v4().tcp(40_000, 443));
    assert_eq!(
        there,
        hash(eth().ip("10.0.0.2", "10.0.0.1").tcp(443, 40_000))
    );
    assert_ne!(there, hash(v4().tcp(40_001, 443)));
    assert_ne!(there, hash(v4().udp(40_000, 443)));
    // a later fragment is told its ports before it is hashed
    let first = hash(
        eth()
            .layer(Ipv4 {
                flags: Ipv4::MF,
                ..Ipv4::new("10.0.0.1", "10.0.0.2")
            })
            .udp(1, 2),
    );
    assert_eq!(first, hash(v4().udp(1, 2)));
}

#[test]
fn the_flow_hash_spreads() {
    let mut seen = BTreeSet::new();
    for port in 0..4_096u16 {
        let frame = v4().tcp(32_768 + port, 443).build();
        // the part that becomes the outer source port
        seen.insert(see(&frame).unwrap().flow_hash(&KEYS) >> 18);
    }
    // 4,096 balls in 16,384 bins leave some 3,620 bins hit
    assert!(
        seen.len() > 3_400,
        "{} source ports for 4,096 flows",
        seen.len()
    );
}

/// What a sender can choose, addresses and ports, does not decide with one set of keys what it
/// decides with another.
#[test]
fn what_is_never_sampled_with_one_set_of_keys_is_with_others() {
    const SAMPLE: u64 = 10;
    let is_sampled = |hash: u32| (u64::from(hash.wrapping_mul(0x9e37_79b1)) * SAMPLE) >> 32 == 0;
    let packets: Vec<_> = (0..20_000u32)
        .map(|flow| {
            let source = format!("2001:db8:{:x}:{:x}::1", flow >> 8, flow & 0xff);
            see(&eth()
                .ip(&source, "2001:db8::2")
                .udp(1000 + flow as u16 % 1000, 53)
                .build())
            .unwrap()
        })
        .filter(|packet| !is_sampled(packet.flow_hash(&KEYS)))
        .collect();
    let mut other = KEYS;
    other.iter_mut().for_each(|key| *key = mix(*key));
    let sampled = packets
        .iter()
        .filter(|packet| is_sampled(packet.flow_hash(&other)))
        .count();
    let wanted = packets.len() / SAMPLE as usize;
    assert!(
        sampled.abs_diff(wanted) < wanted / 5,
        "{sampled} of {} flows, {wanted} wanted",
        packets.len()
    );
}
