//! The laboratory itself, against the kernel: what it sends arrives as it is, what it reads is what
//! was sent, and what is wrong is refused.

use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use std::time::Instant;
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{
    FiveTuple, GUE_PORT, Icmp, Ip, Ipv4, Layer, Mac, Packet, Tcp, eth_between, fragment, ip_part,
    verify_inner_checksums,
};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket, PacketType, Tag};
use traffic_mirror_tests::lab::traffic::{
    Stream, tcp_transfer, udp_bind, udp_exchange, udp_gso_send,
};
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::vnet::VnetHeader;
use traffic_mirror_tests::lab::{deadline, kernel};

const FAMILIES: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")];

/// Two hosts on one wire: 10.0.0.1, 2001:db8::1 and 10.0.0.2, 2001:db8::2 on their `eth0`.
struct Wire {
    a: Netns,
    b: Netns,
    macs: [Mac; 2],
}

impl Wire {
    fn new(offload: bool) -> Result<Self> {
        let (a, b) = (Netns::new("lab-a")?, Netns::new("lab-b")?);
        Veth {
            offload,
            ..Veth::default()
        }
        .create(&a, "eth0", &b, "eth0")?;
        for (netns, host) in [(&a, 1), (&b, 2)] {
            netns.address("eth0", &format!("10.0.0.{host}/24"))?;
            netns.address("eth0", &format!("2001:db8::{host}/64"))?;
        }
        let macs = [a.mac("eth0")?, b.mac("eth0")?];
        Ok(Self { a, b, macs })
    }

    /// A frame from `a` to `b`.
    fn frame(&self) -> Packet {
        eth_between(self.macs[0], self.macs[1])
    }

    fn sender(&self) -> Result<PacketSocket> {
        PacketSocket::open(&self.a, "eth0", Capture::Nothing)
    }
}

fn socket_address(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// Keeps the kernel's own multicast and ARP out of the way.
fn to_port_9(frame: &[u8]) -> bool {
    let flow = ip_part(frame).and_then(FiveTuple::parse);
    flow.is_ok_and(|flow| flow.ports.is_some_and(|(_, destination)| destination == 9))
}

#[test]
fn frames_arrive_byte_for_byte_with_their_tags() -> Result<()> {
    let wire = Wire::new(true)?;
    let mut collector = Collector::start_filtered(&wire.b, "eth0", to_port_9)?;
    let both = PacketSocket::open(&wire.a, "eth0", Capture::BothWays)?;
    let one = PacketSocket::open(&wire.b, "eth0", Capture::Incoming)?;
    let plain = |packet: Packet| {
        packet
            .ip("10.0.0.1", "10.0.0.2")
            .udp(1, 9)
            .payload(Stream::new(1).bytes(201))
    };
    let frames = [
        plain(wire.frame().vlan(0x5005)).build(),
        plain(wire.frame()).build(),
        wire.frame()
            .qinq(5, 6)
            .ip("2001:db8::1", "2001:db8::2")
            .tcp(1, 9)
            .payload("payload")
            .build(),
        plain(wire.frame()).truncate(40).build(),
    ];
    let sender = wire.sender()?;
    for frame in &frames {
        sender.send(frame)?;
    }
    assert_eq!(collector.wait_for(4, deadline())?, frames);
    assert_eq!(collector.count(), 4);

    let next = |socket: &PacketSocket, direction, bytes: usize| loop {
        let frame = socket.recv(deadline())?.context("no frame")?;
        if frame.direction == direction && frame.bytes.len() == bytes {
            return anyhow::Ok(frame);
        }
    };
    let tagged = next(&one, PacketType::Incoming, frames[0].len() - 4)?;
    assert_eq!(
        tagged.tag,
        Some(Tag {
            tpid: 0x8100,
            tci: 0x5005
        })
    );
    assert_eq!(tagged.on_wire(), frames[0]);
    assert_eq!(
        next(&both, PacketType::Outgoing, frames[1].len())?.on_wire(),
        frames[1]
    );
    Ok(())
}

#[test]
fn the_kernel_accepts_what_is_built_and_nothing_damaged() -> Result<()> {
    let wire = Wire::new(false)?;
    let sender = wire.sender()?;
    let options = Ipv4 {
        options: vec![1, 1, 1],
        ..Ipv4::new("10.0.0.1", "10.0.0.2")
    };
    let (v4, v6) = (
        wire.frame().ip("10.0.0.1", "10.0.0.2"),
        wire.frame().ip("2001:db8::1", "2001:db8::2"),
    );
    let carriers = [
        ("10.0.0.2", v4),
        ("10.0.0.2", wire.frame().layer(options)),
        ("2001:db8::2", v6.clone()),
        ("2001:db8::2", v6.clone().hop_by_hop().destination_options()),
        ("2001:db8::2", v6.fragment(0, false, 3)),
    ];
    for (address, carrier) in carriers {
        let socket = udp_bind(&wire.b, socket_address(address, 9))?;
        let mut damaged = carrier.clone().udp(1, 9).payload("damaged").build();
        *damaged.last_mut().context("no bytes")? ^= 1;
        sender.send(&damaged)?;
        sender.send(&carrier.udp(1, 9).payload("whole").build())?;
        let mut buffer = [0; 100];
        let length = socket
            .recv(&mut buffer)
            .with_context(|| format!("udp to {address}"))?;
        assert_eq!(&buffer[..length], b"whole");
    }
    for (from, to) in FAMILIES {
        let socket = udp_bind(&wire.b, socket_address(to, 9))?;
        let payload = Stream::new(2).bytes(5001);
        for piece in fragment(
            &wire
                .frame()
                .ip(from, to)
                .udp(1, 9)
                .payload(&payload[..])
                .build(),
            1400,
            5,
        )? {
            sender.send(&piece)?;
        }
        let mut buffer = [0; 6000];
        let length = socket.recv(&mut buffer).context("fragments")?;
        assert_eq!(buffer[..length], payload);
    }
    Ok(())
}

#[test]
fn the_kernel_answers_what_is_built_with_what_verifies() -> Result<()> {
    let wire = Wire::new(false)?;
    let sender = wire.sender()?;
    let mut answers = Collector::start(&wire.a, "eth0")?;
    let echo = |kind, checksum| Icmp {
        kind,
        checksum,
        rest: [0, 1, 0, 2],
        ..Icmp::default()
    };
    let syn = |checksum| Tcp {
        flags: Tcp::SYN,
        window: 9,
        checksum,
        options: vec![2, 4, 5, 0xb4],
        ..Tcp::new(1, 9)
    };
    for (from, to) in FAMILIES {
        let icmp = |checksum| match from.contains(':') {
            true => Layer::Icmpv6(echo(128, checksum)),
            false => Layer::Icmp(echo(8, checksum)),
        };
        for layer in [|icmp: Layer, _| icmp, |_, tcp: Layer| tcp] {
            let frame = |checksum, payload: &str| {
                let layer = layer(icmp(checksum), Layer::Tcp(syn(checksum)));
                wire.frame()
                    .ip(from, to)
                    .layer(layer)
                    .payload(payload)
                    .build()
            };
            sender.send(&frame(Some(0x0bad), "damaged"))?;
            sender.send(&frame(None, "whole"))?;
            let (expected, length) = match FiveTuple::parse(ip_part(&frame(None, ""))?)?.protocol {
                6 => (6, 20),
                protocol => (protocol, 8 + "whole".len()),
            };
            let answer = loop {
                let frame = answers
                    .next(deadline())?
                    .with_context(|| format!("no answer from {to}"))?;
                let packet = ip_part(&frame).unwrap_or_default().to_vec();
                let ip = Ip::parse(&packet);
                // neighbour discovery is ICMPv6 too
                if ip.is_ok_and(|ip| ip.protocol == expected && !matches!(ip.upper[0], 130..=143)) {
                    break packet;
                }
            };
            verify_inner_checksums(&answer)?;
            assert_eq!(Ip::parse(&answer)?.upper.len(), length);
        }
    }
    Ok(())
}

#[test]
fn transfers_arrive_with_and_without_offloads() -> Result<()> {
    for offload in [true, false] {
        let wire = Wire::new(offload)?;
        let mut collector =
            Collector::start_filtered(&wire.b, "eth0", |frame| ip_part(frame).is_ok())?;
        for (from, to) in FAMILIES {
            tcp_transfer(&wire.a, &wire.b, socket_address(to, 443), 3_000_001, 7)?;
            let (here, there) = (socket_address(from, 5000), socket_address(to, 53));
            udp_exchange(&wire.a, here, &wire.b, there, b"question and answer")?;
            let receiver = udp_bind(&wire.b, socket_address(to, 9))?;
            let sender = udp_bind(&wire.a, socket_address(from, 4433))?;
            let payload = Stream::new(8).bytes(1200 * 10 + 100);
            udp_gso_send(&sender, socket_address(to, 9), &payload, 1200)?;
            let mut buffer = [0; 2000];
            for segment in payload.chunks(1200) {
                let length = receiver.recv(&mut buffer).context("a segment")?;
                assert_eq!(buffer[..length], *segment);
            }
        }
        let frames = collector.take()?;
        let longest = frames.iter().map(Vec::len).max().unwrap_or(0);
        if offload {
            assert!(
                longest > 1514,
                "superpackets stay whole, but the longest frame has {longest} bytes"
            );
        } else {
            assert_eq!(longest, 1514);
            frames
                .iter()
                .try_for_each(|frame| verify_inner_checksums(ip_part(frame)?))?;
        }
    }
    Ok(())
}

#[test]
fn superpackets_and_open_checksums_are_finished_on_the_wire() -> Result<()> {
    let wire = Wire::new(false)?;
    let sender = PacketSocket::open_vnet(&wire.a, "eth0", Capture::Nothing)?;
    let mut collector = Collector::start_filtered(&wire.b, "eth0", to_port_9)?;
    let payload = Stream::new(9).bytes(20_500);
    for (from, to) in FAMILIES {
        for packet in [
            wire.frame().ip(from, to).tcp(1, 9),
            wire.frame().vlan(3).ip(from, to).udp(1, 9),
        ] {
            let mut frame = packet.clone().payload(&payload[..]).build();
            let header = VnetHeader::gso(&mut frame, 1000)?;
            if let Err(error) = sender.send_vnet(&frame, header) {
                let known = kernel()? < (6, 2) && header.gso_type == VnetHeader::GSO_UDP_L4;
                assert!(known, "only before kernel 6.2, and only of UDP: {error:#}");
                continue;
            }
            let mut arrived: Vec<u8> = Vec::new();
            for segment in collector.wait_for(21, deadline())? {
                let packet = ip_part(&segment)?;
                verify_inner_checksums(packet)?;
                let ip = Ip::parse(packet)?;
                arrived.extend(&ip.upper[if ip.protocol == 6 { 20 } else { 8 }..]);
            }
            assert!(arrived == payload, "{} bytes arrived", arrived.len());

            let whole = packet.payload("one packet").build();
            let mut frame = whole.clone();
            let header = VnetHeader::partial(&mut frame)?;
            assert!(verify_inner_checksums(ip_part(&frame)?).is_err());
            sender.send_vnet(&frame, header)?;
            assert_eq!(collector.wait_for(1, deadline())?, [whole]);
        }
    }
    Ok(())
}

#[test]
fn superpackets_stay_whole_where_the_device_takes_them() -> Result<()> {
    let wire = Wire::new(true)?;
    let sender = PacketSocket::open_vnet(&wire.a, "eth0", Capture::Nothing)?;
    let receiver = PacketSocket::open_vnet(&wire.b, "eth0", Capture::Incoming)?;
    let mut frame = wire
        .frame()
        .ip("10.0.0.1", "10.0.0.2")
        .tcp(1, 9)
        .payload([1; 30_000])
        .build();
    let header = VnetHeader::gso(&mut frame, 1448)?;
    sender.send_vnet(&frame, header)?;
    let seen = loop {
        let seen = receiver.recv(deadline())?.context("no frame")?;
        if to_port_9(&seen.bytes) {
            break seen;
        }
    };
    let vnet = seen.vnet.context("no header")?;
    assert!(seen.checksum_open && seen.bytes == frame);
    assert_eq!(
        (vnet.flags, vnet.gso_type, vnet.gso_size),
        (header.flags, header.gso_type, header.gso_size)
    );
    assert_eq!(
        (vnet.csum_start, vnet.csum_offset),
        (header.csum_start, header.csum_offset)
    );
    Ok(())
}

#[test]
fn the_collector_decodes_copies_up_to_the_sentinel() -> Result<()> {
    let wire = Wire::new(true)?;
    let sender = wire.sender()?;
    let mut collector = Collector::start_gue(&wire.b, "eth0")?;
    let copy = |payload: &[u8]| {
        let tunnel = wire
            .frame()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(50_000, GUE_PORT)
            .gue();
        tunnel
            .ip("192.0.2.1", "192.0.2.2")
            .udp(1, 2)
            .payload(payload)
            .build()
    };
    let [small, large, last] = [&b"small"[..], &[7; 2000], b"sentinel"].map(copy);
    sender.send(
        &wire
            .frame()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(1, 9)
            .payload("no copy")
            .build(),
    )?;
    sender.send(&small)?;
    for piece in fragment(&large, 1500, 1)? {
        sender.send(&piece)?;
    }
    sender.send(&last)?;
    let copies = collector.copies_until(|copy| copy.inner.ends_with(b"sentinel"), deadline())?;
    let lengths: Vec<_> = copies.iter().map(|copy| copy.inner.len()).collect();
    assert_eq!(
        (lengths, collector.incomplete(), collector.count()),
        (vec![33, 2028], 0, 4)
    );

    // what is damaged, unfinished or missing is an error, not a smaller number
    let mut damaged = small;
    damaged[22] ^= 1;
    sender.send(&damaged)?;
    assert!(collector.copies(1, deadline()).is_err());
    sender.send(&fragment(&large, 1500, 2)?[1])?;
    let error = collector
        .copies(1, Instant::now() + std::time::Duration::from_millis(50))
        .expect_err("half a copy");
    assert!(
        error.to_string().starts_with("0 of 1 copies came in time"),
        "{error:#}"
    );
    let error = collector
        .wait_for(1, Instant::now())
        .expect_err("nothing was sent");
    assert_eq!(error.to_string(), "0 of 1 frames came in time");
    Ok(())
}
