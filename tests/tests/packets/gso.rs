//! Superpackets: TCP transfers, `UDP_SEGMENT`, and what a guest may hand over.

use crate::edge::{Attach, Direction, Edge, Seen, SkbLayout, frame, shared_with};
use crate::routed::{CLIENT, COLLECTOR, EDGE, Routed, SERVER, WEB, address, count, sent_to};
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use std::net::UdpSocket;
use std::time::Instant;
use traffic_mirror_tests::lab::packet::{Gue, Ip, Packet, Tcp, verify_inner_checksums};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::stream::TcpStream;
use traffic_mirror_tests::lab::traffic::{Stream, tcp_transfer, udp_bind, udp_gso_send};
use traffic_mirror_tests::lab::vnet::VnetHeader;
use traffic_mirror_tests::lab::{deadline, kernel};

const TRANSFER_BYTES: usize = 20_000_000;
const ENDPOINTS: [&str; 2] = ["four", "six"];

/// One connection: from, to, and the port it goes to.
type Connection<'a> = (&'a str, &'a str);

/// All connections of the test: through the router both ways, and to and from the router itself.
fn transfer(lab: &Routed, from: &str, to: &str, bytes: usize) -> Result<()> {
    let at = |address: &str| match address {
        _ if CLIENT.contains(&address) => &lab.client,
        _ if SERVER.contains(&address) => &lab.server,
        _ => &lab.edge,
    };
    tcp_transfer(at(from), at(to), address(to, 443), bytes, 11)
}

const CONNECTIONS: [(Connection<'_>, usize); 8] = [
    ((CLIENT[0], SERVER[0]), TRANSFER_BYTES),
    ((SERVER[0], CLIENT[0]), TRANSFER_BYTES),
    ((CLIENT[1], SERVER[1]), TRANSFER_BYTES),
    ((SERVER[1], CLIENT[1]), TRANSFER_BYTES),
    ((CLIENT[0], EDGE[0]), 3_000_000),
    ((EDGE[0], CLIENT[0]), 3_000_000),
    ((CLIENT[1], EDGE[1]), 3_000_000),
    ((EDGE[1], CLIENT[1]), 3_000_000),
];

/// What was missing of the stream among the copies that went to one endpoint; everything else must
/// be right.
pub(crate) fn missing(
    copies: &[Gue],
    (from, to): Connection<'_>,
    expected: &[u8],
    mtu: usize,
) -> Result<usize> {
    let mut stream = TcpStream::new(expected);
    for copy in copies {
        let outer = if copy.outer_dst.is_ipv4() { 32 } else { 52 };
        ensure!(
            copy.inner.len() + outer <= mtu,
            "an outer packet of {} bytes",
            copy.inner.len() + outer
        );
        let flow = copy.flow()?;
        if flow.source == from.parse::<std::net::IpAddr>()?
            && flow.ports.is_some_and(|(_, port)| port == 443)
        {
            stream
                .push(&copy.inner)
                .with_context(|| format!("{from} > {to} copied to {}", copy.outer_dst))?;
        } else {
            verify_inner_checksums(&copy.inner).context("the other way")?;
        }
    }
    Ok(stream.missing())
}

#[test]
fn tcp_arrives_whole_where_the_output_has_room() -> Result<()> {
    for &attach in Attach::all()? {
        let mut lab = Routed::new(WEB, attach, 1600)?;
        let mut seen = [0; 2];
        for (connection, bytes) in CONNECTIONS {
            transfer(&lab, connection.0, connection.1, bytes)?;
            let (copies, counters) = lab.settle()?;
            let expected = Stream::new(11).bytes(bytes);
            for (index, endpoint) in ENDPOINTS.iter().enumerate() {
                let copies = sent_to(&copies, COLLECTOR[index])?;
                seen[index] += copies.len();
                let context = format!("{attach:?} {connection:?} to {endpoint}");
                let missing = missing(&copies, connection, &expected, 1600)
                    .with_context(|| context.clone())?;
                ensure!(missing == 0, "{context}: {missing} bytes did not arrive");
                for counter in [
                    "filter web packets".to_owned(),
                    format!("endpoint {endpoint} packets"),
                ] {
                    let (counted, arrived) = (count(&counters, &counter), seen[index] as u64);
                    ensure!(
                        counted == arrived,
                        "{context}: {counter} {counted}, but {arrived} arrived"
                    );
                }
            }
            let drops = counters.keys().find(|key| key.contains(" drop "));
            ensure!(drops.is_none(), "{attach:?} {connection:?}: {drops:?}");
        }
    }
    Ok(())
}

/// Superpackets are cut smaller, single packets that fill the MTU go in fragments: nothing is
/// missing.
#[test]
fn tcp_arrives_whole_at_equal_mtus() -> Result<()> {
    for &attach in Attach::all()? {
        let mut lab = Routed::new(WEB, attach, 1500)?;
        for (connection, bytes) in CONNECTIONS {
            transfer(&lab, connection.0, connection.1, bytes)?;
            let (copies, after) = lab.settle()?;
            let expected = Stream::new(11).bytes(bytes);
            for (index, endpoint) in ENDPOINTS.iter().enumerate() {
                let context = format!("{attach:?} {connection:?} to {endpoint}");
                let missing = missing(
                    &sent_to(&copies, COLLECTOR[index])?,
                    connection,
                    &expected,
                    1600,
                )
                .with_context(|| context.clone())?;
                ensure!(missing == 0, "{context}: {missing} bytes missing");
            }
            let drops = after.keys().find(|key| key.contains(" drop "));
            ensure!(drops.is_none(), "{attach:?} {connection:?}: {drops:?}");
            println!(
                "{attach:?} {connection:?}: {}",
                count(&after, "endpoint four fragmented")
            );
        }
    }
    Ok(())
}

/// Superpackets beyond 64 KiB (BIG TCP), whose IPv6 header tells no length.
#[test]
fn superpackets_longer_than_an_ip_packet() -> Result<()> {
    const BYTES: usize = 6_000_000;
    const MOST_TRANSFERS: usize = 20;
    /// Ethernet and IPv6 header, and what the latter can say.
    const LONGEST_BYTES: usize = 14 + 40 + 65_535;
    // 5.19 has BIG TCP for IPv6, and 6.1 is the oldest kernel that is tested
    for &attach in Attach::all()? {
        let mut lab = Routed::new(WEB, attach, 1600)?;
        for mtu in [1600, 1500] {
            lab.set_output_mtu(mtu)?;
            for (netns, interface) in [
                (&lab.client, "eth0"),
                (&lab.edge, "eth0"),
                (&lab.edge, "eth2"),
                (&lab.server, "eth0"),
            ] {
                netns.run(&format!(
                    "ip link set {interface} gso_max_size 180000 gro_max_size 180000"
                ))?;
            }
            let tap = PacketSocket::open(&lab.edge, "eth0", Capture::BothWays)?;
            let mut longest = 0;
            let ways = [(CLIENT[1], SERVER[1]), (SERVER[1], CLIENT[1])];
            // how long they become is TCP's
            for (number, (from, to)) in ways.into_iter().cycle().take(MOST_TRANSFERS).enumerate() {
                if number >= ways.len() && longest > LONGEST_BYTES {
                    break;
                }
                transfer(&lab, from, to, BYTES)?;
                let (copies, after) = lab.settle()?;
                let context = format!("{attach:?}, MTU {mtu}, {from} > {to}");
                while let Some(frame) = tap.recv(Instant::now())? {
                    longest = longest.max(frame.bytes.len());
                }
                let drops: Vec<_> = after
                    .iter()
                    .filter(|(key, _)| key.contains(" drop "))
                    .collect();
                ensure!(drops.is_empty(), "{context}: {drops:?}");
                let expected = Stream::new(11).bytes(BYTES);
                for endpoint in COLLECTOR {
                    let missing =
                        missing(&sent_to(&copies, endpoint)?, (from, to), &expected, 1600)
                            .with_context(|| context.clone())?;
                    ensure!(
                        missing == 0,
                        "{context}: {missing} bytes did not arrive at {endpoint}"
                    );
                }
            }
            ensure!(
                longest > LONGEST_BYTES,
                "{attach:?}, MTU {mtu}: no superpacket has more than {longest} bytes"
            );
        }
    }
    Ok(())
}

/// Of a superpacket one copy with its first bytes.
#[test]
fn a_snap_cuts_superpackets() -> Result<()> {
    for &attach in Attach::all()? {
        let mut lab = Routed::new(&crate::policy::policy(WEB, "snap = 128"), attach, 1500)?;
        for (connection, bytes) in CONNECTIONS {
            transfer(&lab, connection.0, connection.1, bytes)?;
            let (copies, after) = lab.settle()?;
            let context = format!("{attach:?} {connection:?}");
            ensure!(
                copies.iter().all(|copy| copy.inner.len() <= 128),
                "{context}: a copy of more than 128 bytes"
            );
            let drops = after.keys().find(|key| key.contains(" drop "));
            ensure!(drops.is_none(), "{context}: {drops:?}");
            for endpoint in ENDPOINTS {
                let truncated = count(&after, &format!("endpoint {endpoint} truncated"));
                ensure!(truncated > 0, "{context}: nothing was cut for {endpoint}");
            }
        }
    }
    Ok(())
}

/// Sends a superpacket of ten datagrams so many times, of `segment` bytes but for the last: each
/// datagram arrives, and so does a copy of each at both endpoints.
pub(crate) fn datagrams_arrive(
    lab: &mut Routed,
    [sender, receiver]: &[UdpSocket; 2],
    segment: u16,
    times: usize,
) -> Result<()> {
    const DATAGRAMS: usize = 10;
    let (_, before) = lab.settle()?;
    let payload = Stream::new(12).bytes(usize::from(segment) * (DATAGRAMS - 1) + 100);
    for _ in 0..times {
        udp_gso_send(sender, receiver.local_addr()?, &payload, segment)?;
        let mut buffer = [0; 2000];
        for datagram in payload.chunks(segment.into()) {
            let length = receiver.recv(&mut buffer).context("a datagram")?;
            ensure!(
                buffer[..length] == *datagram,
                "another datagram has arrived"
            );
        }
    }
    let (copies, after) = lab.settle()?;
    let matched = count(&after, "filter web packets") - count(&before, "filter web packets");
    ensure!(
        matched == (times * DATAGRAMS) as u64,
        "{matched} matched: {after:?}"
    );
    for collector in COLLECTOR {
        let copies = sent_to(&copies, collector)?;
        ensure!(
            copies.len() == times * DATAGRAMS,
            "{} copies to {collector}: {after:?}",
            copies.len()
        );
        for (copy, datagram) in copies.iter().zip(payload.chunks(segment.into()).cycle()) {
            verify_inner_checksums(&copy.inner)?;
            ensure!(
                Ip::parse(&copy.inner)?.upper[8..] == *datagram,
                "a copy of another datagram"
            );
        }
    }
    Ok(())
}

/// MTUs towards the collector and sizes of datagrams: whole, in fragments and segmented by us. Over
/// IPv6 1,452 bytes make a packet of 1,500.
pub(crate) const SUPERPACKETS: [(u32, u16); 5] = [
    (1600, 1452),
    (1600, 1200),
    (1500, 1200),
    (1500, 1452),
    (1280, 1452),
];

/// Also where each of their datagrams goes in fragments.
#[test]
fn udp_superpackets_arrive_whole() -> Result<()> {
    for &attach in Attach::all()? {
        let mut lab = Routed::new(WEB, attach, 1600)?;
        for (mtu, segment) in SUPERPACKETS {
            lab.set_output_mtu(mtu)?;
            for family in 0..2 {
                let sockets = [
                    udp_bind(&lab.client, address(CLIENT[family], 4433))?,
                    udp_bind(&lab.server, address(SERVER[family], 443))?,
                ];
                let from = CLIENT[family];
                datagrams_arrive(&mut lab, &sockets, segment, 1).with_context(|| {
                    format!("{attach:?}, MTU {mtu}, datagrams of {segment} from {from}")
                })?;
            }
        }
    }
    Ok(())
}

/// Superpackets as a guest hands them over, of any segment size.
#[test]
fn superpackets_of_a_guest() -> Result<()> {
    for &attach in Attach::all()? {
        shared_with(
            attach,
            &config(&filter("all", "", "\"a\", \"six\"")),
            |edge| {
                let options = Tcp {
                    options: vec![1; 12],
                    ..Tcp::new(443, 1)
                };
                let (v4, v6) = (("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2"));
                let mut packets = Vec::new();
                for (from, to) in [v4, v6] {
                    packets.extend([
                        ("TCP", frame().ip(from, to).tcp(443, 1)),
                        (
                            "TCP with options",
                            frame().ip(from, to).layer(options.clone()),
                        ),
                        ("TCP in a VLAN", frame().vlan(7).ip(from, to).tcp(443, 1)),
                        (
                            "TCP in two VLANs",
                            frame().qinq(7, 8).ip(from, to).tcp(443, 1),
                        ),
                    ]);
                    if kernel()? >= (6, 2) {
                        packets.push(("UDP", frame().ip(from, to).udp(443, 1)));
                        packets.push(("UDP in a VLAN", frame().vlan(7).ip(from, to).udp(443, 1)));
                    }
                }
                packets.push((
                    "TCP behind hop-by-hop options",
                    frame().ip(v6.0, v6.1).hop_by_hop().tcp(443, 1),
                ));
                for (name, packet) in packets {
                    // UDP takes at most 64 (before 6.9) or 128 segments; TCP makes none below 8 bytes
                    // (`TCP_MIN_GSO_SIZE`)
                    for (size, payload) in [
                        (40, 2500),
                        (8, 400),
                        (1448, 20_000),
                        (8000, 60_000),
                        (600, 601),
                        (1448, 1449),
                    ] {
                        for way in [Direction::Ingress, Direction::Egress, Direction::Local] {
                            let context =
                                || format!("{attach:?} {way:?} {name}, {payload} bytes by {size}");
                            guest(edge, &packet, size, payload, way).with_context(context)?;
                        }
                    }
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

pub(crate) fn guest(
    edge: &mut Edge,
    packet: &Packet,
    size: u16,
    length: usize,
    way: Direction,
) -> Result<()> {
    let payload = Stream::new(size.into()).bytes(length);
    let mut frame = packet.clone().payload(&payload[..]).build();
    let header = VnetHeader::gso(&mut frame, size)?;
    let seen = edge.pass(&frame, SkbLayout::Vnet(header), way)?;
    ensure!(
        seen.originals == [frame],
        "the original arrived as {} frames",
        seen.originals.len()
    );
    ensure!(
        seen.strangers.is_empty(),
        "{} strangers at the collector",
        seen.strangers.len()
    );
    let segments = length.div_ceil(size.into());
    let Seen { copies, moved, .. } = seen;
    let bytes: usize = copies
        .get("a")
        .context("no copies")?
        .iter()
        .map(|copy| copy.inner.len())
        .sum();
    for endpoint in ["a", "six"] {
        let copies = copies
            .get(endpoint)
            .with_context(|| format!("no copies to {endpoint}"))?;
        ensure!(
            copies.len() == segments,
            "{} copies of {segments} segments to {endpoint}",
            copies.len()
        );
        let mut arrived = Vec::new();
        for copy in copies {
            verify_inner_checksums(&copy.inner)?;
            let ip = Ip::parse(&copy.inner)?;
            let data = if ip.protocol == 6 {
                usize::from(ip.upper[12] >> 4) * 4
            } else {
                8
            };
            ensure!(
                ip.upper.len() - data <= size.into(),
                "a segment of {} bytes",
                ip.upper.len() - data
            );
            arrived.extend_from_slice(&ip.upper[data..]);
        }
        ensure!(arrived == payload, "other bytes than were sent");
        for (counter, counted) in [("packets", segments), ("bytes", bytes)] {
            for key in [
                format!("filter all {counter}"),
                format!("endpoint {endpoint} {counter}"),
            ] {
                ensure!(
                    count(&moved, &key) == counted as u64,
                    "{key} moved by {} instead of {counted}",
                    count(&moved, &key)
                );
            }
        }
    }
    Ok(())
}

/// The smallest segments still have room for nothing: none may turn into a packet without limit.
#[test]
fn segments_smaller_than_the_outer_header() -> Result<()> {
    for &attach in Attach::all()? {
        let config = WEB
            .replace("[endpoint.six]\naddress = \"2001:db8:9::1\"\n", "")
            .replace(", \"six\"", "");
        // the server answers with a reset
        let config = config.replace("bidirectional = true\n", "");
        let mut lab = Routed::new(&config, attach, 100)?;
        let here = lab.client.mac("eth0")?;
        let edge = lab.edge.mac("eth0")?;
        let sender = PacketSocket::open_vnet(&lab.client, "eth0", Capture::Nothing)?;
        let mut arrived = traffic_mirror_tests::lab::collector::Collector::start_filtered(
            &lab.server,
            "eth0",
            |frame| frame.len() > 1000,
        )?;
        // header 40, outer header 32, MTU 100: 28 bytes fit, 60 go into a packet that does not;
        // what cannot be cut smaller is cut into packets, and those are too short for fragments
        for (size, drops, copies) in [
            (20, 0, 100),
            (28, 0, 72),
            (33, 0, 2000),
            (29, 68, 1),
            (60, 0, 72),
            (61, 33, 0),
        ] {
            let (_, before) = lab.settle()?;
            let packet = traffic_mirror_tests::lab::packet::eth_between(here, edge)
                .ip(CLIENT[0], SERVER[0])
                .tcp(4000, 443);
            let mut frame = packet.payload(vec![7; 2000]).build();
            let header = VnetHeader::gso(&mut frame, size)?;
            sender.send_vnet(&frame, header)?;
            arrived.wait_for(1, deadline())?;
            let (got, after) = lab.settle()?;
            ensure!(
                got.len() == copies,
                "{attach:?}, segments of {size}: {} copies instead of {copies}",
                got.len()
            );
            let dropped = count(&after, "endpoint four drop oversize")
                - count(&before, "endpoint four drop oversize");
            ensure!(
                dropped == drops,
                "{attach:?}, segments of {size}: {dropped} dropped instead of {drops}"
            );
            for copy in got {
                verify_inner_checksums(&copy.inner)?;
                ensure!(
                    copy.inner.len() + 32 <= 100,
                    "{attach:?}, segments of {size}: {} bytes",
                    copy.inner.len()
                );
            }
        }
    }
    Ok(())
}
