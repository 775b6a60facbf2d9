//! Superpackets whose packets do not fit once wrapped: each packet arrives whole, or as the
//! endpoint asks.

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame, shared_with};
use crate::gso::{datagrams_arrive, guest, missing};
use crate::policy::policy;
use crate::routed::{CLIENT, COLLECTOR, Routed, SERVER, WEB, address, count, sent_to};
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::time::Instant;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{
    Packet, Reassembler, Tcp, ip_part, verify_inner_checksums,
};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::traffic::{Stream, tcp_transfer, udp_bind};
use traffic_mirror_tests::lab::vnet::VnetHeader;
use traffic_mirror_tests::lab::{deadline, ethtool, kernel};

/// Has the output carry no more than 1,500 bytes, and waits for the segmenter.
pub(crate) fn narrow(edge: &mut Edge) -> Result<()> {
    edge.set_output_mtu(1500)?;
    edge.edge.run_until(
        "ip -oneline link show type macvlan",
        |links| links.contains("-in@"),
        deadline(),
    )?;
    let (frame, header) = superpacket(30_000)?;
    let until = deadline();
    while !edge
        .pass(&frame, SkbLayout::Vnet(header), Direction::Ingress)?
        .copies
        .contains_key("a")
    {
        ensure!(
            Instant::now() < until,
            "the segmenter is there, but not used"
        );
    }
    Ok(())
}

/// TCP segments of 3,040 bytes, which cannot be cut smaller: over 1,500 bytes not even one without
/// a tunnel fits.
fn superpacket(bytes: usize) -> Result<(Vec<u8>, VnetHeader)> {
    let mut frame = frame()
        .ip("10.0.0.1", "10.0.0.2")
        .tcp(443, 1)
        .payload(Stream::new(1).bytes(bytes))
        .build();
    let header = VnetHeader::gso(&mut frame, 3000)?;
    Ok((frame, header))
}

const FAMILIES: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")];

#[test]
fn superpackets_of_a_guest_that_do_not_fit() -> Result<()> {
    for &attach in Attach::all()? {
        shared_with(
            attach,
            &config(&filter("all", "", "\"a\", \"six\"")),
            |edge| {
                narrow(edge)?;
                let mut packets: Vec<(&str, Packet, &[u16])> = Vec::new();
                for (from, to) in FAMILIES {
                    // what can be cut smaller is not for the segmenter
                    packets.push((
                        "TCP",
                        frame().ip(from, to).layer(Tcp {
                            options: vec![1; 12],
                            ..Tcp::new(443, 1)
                        }),
                        &[8000],
                    ));
                    packets.push((
                        "TCP in a VLAN",
                        frame().vlan(7).ip(from, to).tcp(443, 1),
                        &[3000],
                    ));
                    if kernel()? >= (6, 2) {
                        let sizes: &[u16] = &[1400, 1441, 1452, 1472, 3000, 8000];
                        packets.push(("UDP", frame().ip(from, to).udp(443, 1), sizes));
                        packets.push((
                            "UDP in a VLAN",
                            frame().vlan(7).ip(from, to).udp(443, 1),
                            &[1452, 8000],
                        ));
                        packets.push((
                            "UDP in two VLANs",
                            frame().qinq(7, 8).ip(from, to).udp(443, 1),
                            &[1452],
                        ));
                    }
                }
                for (name, packet, sizes) in packets {
                    for &size in sizes {
                        for way in [Direction::Ingress, Direction::Egress, Direction::Local] {
                            let bytes = usize::from(size) * 7 + 100;
                            let context =
                                || format!("{attach:?} {way:?} {name}, {bytes} bytes by {size}");
                            guest(edge, &packet, size, bytes, way).with_context(context)?;
                        }
                    }
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Segments of 3,040 IP bytes, but for the last one of 140; 1,468 fit.
#[test]
fn packets_of_a_superpacket_are_treated_as_asked() -> Result<()> {
    const MATCHED: u64 = 11;
    for &attach in Attach::all()? {
        let lines = |oversize: &str| format!("oversize = \"{oversize}\"");
        for (lines, copies, lengths, moved) in [
            (lines("truncate"), 11, (1468, 140), ("truncated", 10)),
            (lines("drop"), 0, (0, 0), ("drop oversize", 11)),
            ("snap = 1470".to_owned(), 11, (1470, 140), ("truncated", 10)),
            ("snap = 100".to_owned(), 1, (100, 100), ("truncated", 11)),
        ] {
            let file = config(&filter("all", "", "\"a\""));
            let mut edge = Edge::new(&file, attach)?;
            narrow(&mut edge)?;
            edge.configure(&policy(&file, &lines))?;
            let (frame, header) = superpacket(10 * 3000 + 100)?;
            let seen = edge.pass(&frame, SkbLayout::Vnet(header), Direction::Ingress)?;
            let context = format!("{attach:?} {lines}: {:?}", seen.moved);
            ensure!(
                seen.originals == [frame.clone()],
                "{context}: the original differs"
            );
            let got = seen.copies.get("a").map(Vec::as_slice).unwrap_or_default();
            ensure!(got.len() == copies, "{context}: {} copies", got.len());
            for (number, copy) in got.iter().enumerate() {
                let wanted = if number + 1 < got.len() {
                    lengths.0
                } else {
                    lengths.1
                };
                ensure!(
                    copy.inner.len() == wanted,
                    "{context}: copy {number} has {} bytes",
                    copy.inner.len()
                );
                let (start, headers) = (number * 3000, 40);
                let payload = &ip_part(&frame)?[headers + start..];
                ensure!(
                    copy.inner[headers..] == payload[..wanted - headers],
                    "{context}: copy {number} differs"
                );
            }
            ensure!(
                count(&seen.moved, "filter all packets") == MATCHED,
                "{context}"
            );
            ensure!(
                count(&seen.moved, &format!("endpoint a {}", moved.0)) == moved.1,
                "{context}"
            );
        }
    }
    Ok(())
}

/// What comes out of a queue comes late, or on a CPU that is sending another superpacket: that is
/// lost, and never sent for it.
#[test]
fn a_queue_in_the_segmenter_mixes_nothing_up() -> Result<()> {
    const TIMES: usize = 2000;
    const PACKETS: usize = 3;
    let ways = [("a", 443), ("b", 444)];
    for &attach in Attach::all()? {
        for queue in [
            "bfifo limit 100000000",
            "tbf rate 1gbit burst 200000 limit 100000000",
        ] {
            let mut edge = Edge::new(&config(&filter("all", "", "\"a\"")), attach)?;
            narrow(&mut edge)?;
            let filters = ways.map(|(to, port)| {
                filter(
                    to,
                    &format!("destination_port = [{port}]"),
                    &format!("\"{to}\""),
                )
            });
            edge.configure(&config(&filters.concat()))?;
            let links = edge.edge.run("ip -oneline link show type macvlan")?;
            let entrance = links
                .split([':', '@'])
                .nth(1)
                .context("no entrance")?
                .trim();
            // the daemon would take it off
            edge.daemon.signal(Signal::SIGSTOP)?;
            edge.edge
                .run(&format!("tc qdisc add dev {entrance} root {queue}"))?;
            let superpackets = ways.map(|(_, port)| -> Result<_> {
                let packet = frame().ip("10.0.0.1", "10.0.0.2").tcp(1, port);
                let mut frame = packet
                    .payload(Stream::new(port.into()).bytes(PACKETS * 3000))
                    .build();
                let header = VnetHeader::gso(&mut frame, 3000)?;
                Ok((frame, header))
            });
            let superpackets: Vec<_> = superpackets.into_iter().collect::<Result<_>>()?;
            let came = edge.storm(&superpackets, TIMES)?;
            let context = format!("{attach:?} {queue}: {:?}", came.moved);
            ensure!(
                came.originals[1].len() == 2 * TIMES,
                "{context}: {} originals",
                came.originals[1].len()
            );
            for (to, port) in ways {
                let copies = came.copies.get(to).map(Vec::as_slice).unwrap_or_default();
                for copy in copies {
                    let came = copy.flow()?.ports.map(|(_, to)| to);
                    ensure!(
                        came == Some(port),
                        "{context}: a packet to port {came:?} was sent to {to}"
                    );
                    verify_inner_checksums(&copy.inner)?;
                }
                let count = |what: &str| count(&came.moved, what) as usize;
                ensure!(
                    count(&format!("filter {to} packets")) == TIMES * PACKETS,
                    "{context}"
                );
                ensure!(
                    count(&format!("endpoint {to} packets")) == copies.len(),
                    "{context}: {} came",
                    copies.len()
                );
            }
            edge.daemon.signal(Signal::SIGCONT)?;
            let repaired = "another process modified the software segmenter: recreated it";
            edge.daemon
                .wait_line(|line| line.ends_with(repaired), deadline())?;
        }
    }
    Ok(())
}

/// Datagrams that a guest leaves to this host to cut into IP fragments (UFO): no copy, each of
/// their packets counted.
#[test]
fn datagrams_that_go_in_fragments_are_counted() -> Result<()> {
    const DATAGRAM_BYTES: usize = 8 + 20_000;
    const PART_BYTES: u16 = 1448;
    for &attach in Attach::all()? {
        for is_narrow in [false, true] {
            let mut edge = Edge::new(&config(&filter("all", "", "\"a\", \"six\"")), attach)?;
            if is_narrow {
                narrow(&mut edge)?;
            }
            for (from, to) in FAMILIES {
                let context = format!("{attach:?}, narrow: {is_narrow}, from {from}");
                let packet = frame()
                    .ip(from, to)
                    .udp(443, 1)
                    .payload(Stream::new(3).bytes(DATAGRAM_BYTES - 8));
                let (whole, mut open) = (packet.build(), packet.build());
                let header = VnetHeader {
                    gso_type: VnetHeader::GSO_UDP,
                    ..VnetHeader::gso(&mut open, PART_BYTES)?
                };
                // only what is sent here gets to a hook before the kernel has cut it
                let seen = edge.pass(&open, SkbLayout::Vnet(header), Direction::Local)?;
                let parts = DATAGRAM_BYTES.div_ceil(PART_BYTES.into());
                ensure!(
                    seen.originals.len() == parts,
                    "{context}: {} originals",
                    seen.originals.len()
                );
                let mut fragments = Reassembler::default();
                let put = seen
                    .originals
                    .into_iter()
                    .map(|frame| fragments.push(frame))
                    .collect::<Result<Vec<_>>>()?;
                let put: Vec<_> = put.into_iter().flatten().collect();
                ensure!(
                    put.len() == 1 && ip_part(&put[0])?[40..] == ip_part(&whole)?[40..],
                    "{context}: the original"
                );
                ensure!(
                    seen.strangers.is_empty(),
                    "{context}: {} strangers at the collector",
                    seen.strangers.len()
                );
                ensure!(
                    seen.copies.is_empty(),
                    "{context}: copies {:?}",
                    seen.copies
                );
                let matched = count(&seen.moved, "filter all packets");
                ensure!(matched > 0, "{context}: nothing is counted");
                for endpoint in ["a", "six"] {
                    let dropped = Status::dropped(&seen.moved, endpoint);
                    ensure!(
                        dropped == matched,
                        "{context}: {dropped} of {matched} dropped for {endpoint}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// What the edge receives is put together as lists of whole packets, which need no checksum and no
/// segmentation.
fn receive_lists(lab: &Routed, wire: &Netns) -> Result<PacketSocket> {
    let segmented = |name: &str| name.starts_with("tx-") && name.ends_with("-segmentation");
    ethtool::set_features(wire, "eth0", |one| {
        (segmented(&one.name) && one.available).then_some(false)
    })?;
    let lists = ["rx-gro", "rx-gro-list"];
    ethtool::set_features(&lab.edge, "eth0", |one| {
        lists.contains(&&*one.name).then_some(true)
    })?;
    PacketSocket::open(&lab.edge, "eth0", Capture::Incoming)
}

/// How many lists have come.
fn lists(socket: &PacketSocket) -> Result<usize> {
    let mut lists = 0;
    while let Some(frame) = socket.recv(Instant::now())? {
        lists += usize::from(frame.bytes.len() > 1514);
    }
    Ok(lists)
}

#[test]
fn lists_of_datagrams_arrive_whole() -> Result<()> {
    for &attach in Attach::all()? {
        let mut lab = Routed::new(WEB, attach, 1600)?;
        let tap = receive_lists(&lab, &lab.client)?;
        for (mtu, size) in [(1600, 1452), (1500, 1452), (1500, 1000)] {
            lab.set_output_mtu(mtu)?;
            for family in 0..2 {
                let context = format!(
                    "{attach:?}, MTU {mtu}, datagrams of {size} from {}",
                    CLIENT[family]
                );
                let sockets = [
                    udp_bind(&lab.client, address(CLIENT[family], 4433))?,
                    udp_bind(&lab.server, address(SERVER[family], 443))?,
                ];
                datagrams_arrive(&mut lab, &sockets, size, 1).with_context(|| context.clone())?;
                ensure!(lists(&tap)? > 0, "{context}: no list came");
            }
        }
    }
    Ok(())
}

#[test]
fn lists_of_segments_arrive_whole() -> Result<()> {
    const BYTES: usize = 3_000_000;
    for &attach in Attach::all()? {
        let mut lab = Routed::new(WEB, attach, 1600)?;
        let tap = receive_lists(&lab, &lab.client)?;
        for mtu in [1600, 1500] {
            lab.set_output_mtu(mtu)?;
            for family in 0..2 {
                let context = format!("{attach:?}, MTU {mtu}, from {}", CLIENT[family]);
                tcp_transfer(
                    &lab.client,
                    &lab.server,
                    address(SERVER[family], 443),
                    BYTES,
                    11,
                )?;
                let (copies, after) = lab.settle()?;
                ensure!(lists(&tap)? > 0, "{context}: no list came");
                let drops: Vec<_> = after.keys().filter(|key| key.contains(" drop ")).collect();
                ensure!(drops.is_empty(), "{context}: {after:?}");
                for endpoint in COLLECTOR {
                    let connection = (CLIENT[family], SERVER[family]);
                    let copies = sent_to(&copies, endpoint)?;
                    let missing = missing(&copies, connection, &Stream::new(11).bytes(BYTES), 1600)
                        .with_context(|| format!("{context} to {endpoint}"))?;
                    ensure!(
                        missing == 0,
                        "{context}: {missing} bytes missing at {endpoint}"
                    );
                }
            }
        }
    }
    Ok(())
}
