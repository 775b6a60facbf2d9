//! Any bytes as a frame: what the parser makes of it in one piece and in several, in memory that
//! ends where the frame does, against a slow reading of the same bytes.
#![no_main]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use traffic_mirror_ebpf::abi::Skipped;
use traffic_mirror_ebpf::packet::{Address, Bytes, Packet, mix, parse};
use traffic_mirror_fuzz::fence::Fence;
use traffic_mirror_fuzz::pieces::{Windows, parse_in_pieces};
use traffic_mirror_fuzz::reading::{Reading, read};
use traffic_mirror_tests::lab::packet::checksum;

const FRAME_MAX_BYTES: usize = 1 << 16;

thread_local! {
    static MEMORY: RefCell<(Fence, Windows)> = RefCell::new((Fence::new(FRAME_MAX_BYTES), Windows::default()));
}

fuzz_target!(|frame: &[u8]| {
    if frame.len() > FRAME_MAX_BYTES {
        return;
    }
    let own = frame
        .get(12..14)
        .map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    MEMORY.with_borrow_mut(|(fence, windows)| {
        let frame = fence.put(frame);
        // the kernel takes a tag off and keeps it beside the frame, so its EtherType may be another
        // than the frame's
        for ethertype in [own, 0x0800, 0x86dd] {
            look(frame, ethertype, windows);
        }
    });
});

fn look(frame: &[u8], ethertype: u16, windows: &mut Windows) {
    let mut packet = Packet::default();
    let parsed = parse(&mut Bytes(frame), ethertype, &mut packet).map(|()| packet);
    let want = read(frame, ethertype);
    let found = parsed
        .as_ref()
        .map(|packet| reading(packet, want.as_ref().ok()))
        .map_err(|reason| *reason);
    assert_eq!(found, want, "{packet:?}");
    in_pieces(frame, ethertype, windows, parsed);
    if let (Ok(packet), Ok(reading)) = (parsed, want) {
        assert_hash_is_of_the_flow(&packet);
        assert_pseudo_header(&packet, &reading, frame.len() as u32);
    }
}

/// Cuts the linear part at each place that the parser looks at, and one byte before.
fn in_pieces(frame: &[u8], ethertype: u16, windows: &mut Windows, want: Result<Packet, Skipped>) {
    let mut parse = |linear: usize| {
        let mut packet = Packet::default();
        windows.take_ends();
        let parsed =
            parse_in_pieces(frame, linear, ethertype, windows, &mut packet).map(|()| packet);
        assert_eq!(parsed, want, "{linear} of {} bytes are linear", frame.len());
        windows.take_ends()
    };
    for end in parse(frame.len()) {
        for linear in [end - 1, end] {
            if linear < frame.len() {
                parse(linear);
            }
        }
    }
}

/// What the parser has found, in the words of the reading. Where that has no number, the packet's
/// must be 0.
fn reading(packet: &Packet, want: Option<&Reading>) -> Reading {
    assert!(
        packet.ported != 0 || (packet.source_port, packet.destination_port) == (0, 0),
        "{packet:?}"
    );
    assert_eq!(packet.headerless, 0);
    let address = |[first, second]: Address| -> IpAddr {
        match packet.version {
            4 => Ipv4Addr::from_bits((first >> 32) as u32).into(),
            _ => Ipv6Addr::from_bits(u128::from(first) << 64 | u128::from(second)).into(),
        }
    };
    Reading {
        source: address(packet.source),
        destination: address(packet.destination),
        protocol: packet.protocol,
        ports: (packet.ported != 0).then_some((packet.source_port, packet.destination_port)),
        are_ports_unknown: packet.unknown & Packet::PORTS != 0,
        is_protocol_unknown: packet.unknown & Packet::PROTOCOL != 0,
        is_fragment: packet.fragment != 0,
        is_later: packet.fragment & Packet::LATER != 0,
        identification: given(
            packet.identification,
            want.is_some_and(|want| want.identification.is_some()),
        ),
        vlan: given(packet.vlan, want.is_some_and(|want| want.vlan.is_some())),
        offset: packet.offset.into(),
        transport: packet.transport.into(),
        length: (packet.ip_bytes() != 0).then_some(packet.ip_bytes() as usize),
    }
}

fn given<T: Default + PartialEq>(value: T, is_wanted: bool) -> Option<T> {
    (is_wanted || value != T::default()).then_some(value)
}

/// The same for both ways.
fn assert_hash_is_of_the_flow(packet: &Packet) {
    let back = Packet {
        source: packet.destination,
        destination: packet.source,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
        ..*packet
    };
    let keys = std::array::from_fn(|key| mix(key as u64 + 1));
    assert_eq!(packet.flow_hash(&keys), back.flow_hash(&keys));
}

fn assert_pseudo_header(packet: &Packet, reading: &Reading, length: u32) {
    let slow = checksum::pseudo_header(
        reading.source,
        reading.destination,
        reading.protocol,
        length as usize,
    );
    assert_eq!(packet.pseudo_header(length), checksum::sum(&[&slow]));
}
