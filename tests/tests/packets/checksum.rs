//! `checksum = true`: the outer UDP checksum of each copy is right, whatever the copy is of and
//! however it is sent.

use crate::edge::{Attach, Direction, Edge, LaidOut, Seen, SkbLayout, frame, shared_with};
use crate::policy::policy;
use crate::routed::count;
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use std::time::Instant;
use traffic_mirror_tests::lab::packet::{Gue, Packet, Tcp, ip_part, verify_inner_checksums};
use traffic_mirror_tests::lab::traffic::{Stream, udp_bind};
use traffic_mirror_tests::lab::vnet::VnetHeader;
use traffic_mirror_tests::lab::{deadline, kernel};

const V4: [&str; 2] = ["10.0.0.1", "10.0.0.2"];
const V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];
const ENDPOINTS: [&str; 2] = ["a", "six"];

/// All kinds of packets that are sent as they are, with finished checksums.
fn packets() -> Vec<(String, Packet)> {
    let mut all = Vec::new();
    for [from, to] in [V4, V6] {
        // empty, odd, short enough that a header is longer, near what fits of 1,500 bytes, as long
        // as the interface takes
        for bytes in [
            0, 1, 2, 11, 12, 13, 40, 97, 500, 1400, 1401, 1420, 1440, 1473, 3001, 8900,
        ] {
            let payload = Stream::new(bytes as u64).bytes(bytes);
            all.push((
                format!("UDP with {bytes} from {from}"),
                frame().ip(from, to).udp(4000, 443).payload(payload.clone()),
            ));
            let options = Tcp {
                options: vec![1; 12],
                ..Tcp::new(4000, 443)
            };
            all.push((
                format!("TCP with {bytes} from {from}"),
                frame().ip(from, to).layer(options).payload(payload),
            ));
        }
        all.push((
            format!("bare TCP from {from}"),
            frame().ip(from, to).tcp(4000, 443),
        ));
        all.push((
            format!("TCP in a VLAN from {from}"),
            frame()
                .vlan(7)
                .ip(from, to)
                .tcp(4000, 443)
                .payload(vec![7; 77]),
        ));
        all.push((
            format!("TCP in two VLANs from {from}"),
            frame()
                .qinq(7, 8)
                .ip(from, to)
                .tcp(4000, 443)
                .payload(vec![7; 77]),
        ));
    }
    all.push((
        "ICMP".to_owned(),
        frame().ip(V4[0], V4[1]).icmp(8, 0).payload(vec![3; 333]),
    ));
    all.push((
        "ICMPv6".to_owned(),
        frame()
            .ip(V6[0], V6[1])
            .icmpv6(128, 0)
            .payload(vec![3; 333]),
    ));
    let extended = frame()
        .ip(V6[0], V6[1])
        .hop_by_hop()
        .udp(4000, 443)
        .payload(vec![9; 99]);
    all.push(("UDP behind hop-by-hop options".to_owned(), extended));
    all
}

/// A packet as it is sent.
struct Sent {
    /// What it is, for errors.
    what: String,
    inner: Vec<u8>,
}

/// All packets in one piece and with open checksums, and with `pieces` in pieces, too: what each
/// is, and it as a frame.
fn frames(pieces: bool) -> Result<(Vec<Sent>, Vec<LaidOut>)> {
    const LINEAR_BYTES: u16 = 60;
    let (mut all, mut frames) = (Vec::new(), Vec::new());
    for (what, packet) in packets() {
        let whole = packet.build();
        let mut open = whole.clone();
        let vnet = VnetHeader::partial(&mut open)
            .ok()
            .map(|header| (open, SkbLayout::Vnet(header)));
        let has_pieces = pieces && whole.len() > LINEAR_BYTES.into();
        let scattered = has_pieces.then(|| (whole.clone(), SkbLayout::Scattered(LINEAR_BYTES)));
        let inner = ip_part(&whole)?.to_vec();
        for (bytes, layout) in [Some((whole, SkbLayout::Linear)), scattered, vnet]
            .into_iter()
            .flatten()
        {
            all.push(Sent {
                what: format!("{layout:?} {what}"),
                inner: inner.clone(),
            });
            frames.push((bytes, layout));
        }
    }
    Ok((all, frames))
}

/// Originals as they were, and as many copies to each endpoint.
fn ensure_one_each(seen: &Seen, frames: &[LaidOut], context: &str) -> Result<()> {
    let changed = frames
        .iter()
        .zip(&seen.originals)
        .find(|((frame, _), original)| frame != *original);
    ensure!(
        changed.is_none(),
        "{context}: an original differs: {changed:02x?}"
    );
    ensure!(
        seen.originals.len() == frames.len(),
        "{context}: {} originals",
        seen.originals.len()
    );
    ensure!(
        seen.strangers.is_empty(),
        "{context}: {} strangers",
        seen.strangers.len()
    );
    for endpoint in ENDPOINTS {
        let copies = seen.copies.get(endpoint).map_or(0, Vec::len);
        ensure!(
            copies == frames.len(),
            "{context}: {copies} copies to {endpoint}: {:?}",
            seen.moved
        );
    }
    Ok(())
}

/// As `Gue::parse` has found a checksum right that is there.
fn are_summed(copies: &[Gue]) -> Result<()> {
    ensure!(
        copies.iter().all(|copy| copy.udp_checksum != 0),
        "a copy without a checksum"
    );
    Ok(())
}

#[test]
fn each_copy_has_a_right_checksum() -> Result<()> {
    for &attach in Attach::all()? {
        shared_with(
            attach,
            &policy(
                &config(&filter("all", "", "\"a\", \"six\"")),
                "checksum = true",
            ),
            |edge| {
                for mtu in [crate::edge::OUTPUT_MTU, 1500] {
                    edge.set_output_mtu(mtu)?;
                    edge.wait(|status| status.0["degraded"] == false)?;
                    settled(edge, mtu)?;
                    let (sent, frames) = frames(true)?;
                    for way in [Direction::Ingress, Direction::Egress, Direction::Local] {
                        let context = format!("{attach:?} {way:?}, MTU {mtu}");
                        let seen = edge
                            .pass_all(&frames, way)
                            .with_context(|| context.clone())?;
                        ensure_one_each(&seen, &frames, &context)?;
                        for endpoint in ENDPOINTS {
                            for (copy, sent) in seen.copies[endpoint].iter().zip(&sent) {
                                let context = || format!("{context}: {} to {endpoint}", sent.what);
                                are_summed(std::slice::from_ref(copy)).with_context(context)?;
                                ensure!(copy.inner == sent.inner, "{}: another packet", context());
                            }
                        }
                    }
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Nobody could tell pieces of different copies that have been put together wrongly:
/// identifications are few.
#[test]
fn what_is_sent_in_fragments_has_a_checksum_unasked() -> Result<()> {
    for &attach in Attach::all()? {
        shared_with(
            attach,
            &config(&filter("all", "", "\"a\", \"six\"")),
            |edge| {
                edge.set_output_mtu(1500)?;
                edge.wait(|status| status.0["degraded"] == false)?;
                settled(edge, 1500)?;
                let (sent, frames) = frames(false)?;
                let seen = edge.pass_all(&frames, Direction::Egress)?;
                ensure_one_each(&seen, &frames, &format!("{attach:?}"))?;
                for (endpoint, outer) in ENDPOINTS.into_iter().zip([32, 52]) {
                    let mut fragmented = 0;
                    for (copy, sent) in seen.copies[endpoint].iter().zip(&sent) {
                        let context = format!("{attach:?} {} to {endpoint}", sent.what);
                        let is_in_fragments = sent.inner.len() + outer > 1500;
                        fragmented += u64::from(is_in_fragments);
                        ensure!(
                            (copy.udp_checksum != 0) == is_in_fragments,
                            "{context}: {copy:?}"
                        );
                        ensure!(copy.inner == sent.inner, "{context}: another packet");
                    }
                    let counted = count(&seen.moved, &format!("endpoint {endpoint} fragmented"));
                    ensure!(
                        counted == fragmented,
                        "{attach:?} {endpoint}: {counted} of {fragmented} counted in fragments"
                    );
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Waits until endpoint "a" has this MTU, and there is a segmenter.
fn settled(edge: &Edge, mtu: u32) -> Result<()> {
    let until = deadline();
    while !edge.daemon.run(&["plan"])?.status.success() {
        ensure!(Instant::now() < until, "an MTU of {mtu} is not taken");
    }
    Ok(())
}

/// Each of their packets, whatever way there would be for all of them together.
#[test]
fn superpackets_have_checksums_packet_by_packet() -> Result<()> {
    for &attach in Attach::all()? {
        let file = config(&filter("all", "", "\"a\", \"six\""));
        shared_with(attach, &policy(&file, "checksum = true"), |edge| {
            for (mtu, lines) in [
                (crate::edge::OUTPUT_MTU, "checksum = true"),
                (1500, "checksum = true"),
                (1500, "checksum = true\nsnap = 200"),
            ] {
                edge.configure(&policy(&file, lines))?;
                edge.set_output_mtu(mtu)?;
                edge.wait(|status| status.0["degraded"] == false)?;
                settled(edge, mtu)?;
                for [from, to] in [V4, V6] {
                    let tcp = frame().ip(from, to).layer(Tcp {
                        options: vec![1; 12],
                        ..Tcp::new(4000, 443)
                    });
                    let mut kinds = vec![("TCP", tcp, 32)];
                    if kernel()? >= (6, 2) {
                        kinds.push(("UDP", frame().ip(from, to).udp(4000, 443), 8));
                    }
                    for (what, packet, transport) in kinds {
                        for size in [600, 1400, 1448, 3000] {
                            let length = usize::from(size) * 7 + 101;
                            let payload = Stream::new(size.into()).bytes(length);
                            let mut bytes = packet.clone().payload(&payload[..]).build();
                            let header = VnetHeader::gso(&mut bytes, size)?;
                            for way in [Direction::Ingress, Direction::Local] {
                                let context = || {
                                    format!(
                                        "{attach:?} {way:?} {what} by {size} from {from}, MTU {mtu}, {lines}"
                                    )
                                };
                                let seen = edge
                                    .pass(&bytes, SkbLayout::Vnet(header), way)
                                    .with_context(context)?;
                                ensure!(
                                    seen.originals == [&*bytes],
                                    "{}: the original differs",
                                    context()
                                );
                                for endpoint in ENDPOINTS {
                                    let copies = seen
                                        .copies
                                        .get(endpoint)
                                        .map(Vec::as_slice)
                                        .unwrap_or_default();
                                    are_summed(copies).with_context(context)?;
                                    ensure!(
                                        copies.len() == 8,
                                        "{}: {} copies: {:?}",
                                        context(),
                                        copies.len(),
                                        seen.moved
                                    );
                                    let headers = if from == V4[0] { 20 } else { 40 } + transport;
                                    let mut segments = payload.chunks(size.into());
                                    for copy in copies {
                                        let segment = segments.next().context("too many")?;
                                        if lines.contains("snap") {
                                            let kept = segment.len().min(200 - headers);
                                            ensure!(
                                                copy.inner[headers..] == segment[..kept],
                                                "{}: another end",
                                                context()
                                            );
                                        } else {
                                            verify_inner_checksums(&copy.inner)
                                                .with_context(context)?;
                                            ensure!(
                                                copy.inner[headers..] == *segment,
                                                "{}: another packet",
                                                context()
                                            );
                                        }
                                    }
                                    ensure!(
                                        count(&seen.moved, &format!("endpoint {endpoint} packets"))
                                            == 8,
                                        "{}",
                                        context()
                                    );
                                }
                            }
                        }
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn what_is_cut_has_a_right_checksum() -> Result<()> {
    for &attach in Attach::all()? {
        let file = config(&filter("all", "", "\"a\", \"six\""));
        for (lines, most) in [
            ("snap = 131", [131, 131]),
            ("oversize = \"truncate\"", [1468, 1448]),
        ] {
            shared_with(
                attach,
                &policy(&file, &format!("checksum = true\n{lines}")),
                |edge| {
                    edge.set_output_mtu(1500)?;
                    edge.wait(|status| status.0["degraded"] == false)?;
                    settled(edge, 1500)?;
                    let (sent, frames) = frames(false)?;
                    let seen = edge.pass_all(&frames, Direction::Egress)?;
                    ensure_one_each(&seen, &frames, &format!("{attach:?} {lines}"))?;
                    for (endpoint, most) in ENDPOINTS.into_iter().zip(most) {
                        for (copy, sent) in seen.copies[endpoint].iter().zip(&sent) {
                            let context =
                                || format!("{attach:?} {lines}: {} to {endpoint}", sent.what);
                            are_summed(std::slice::from_ref(copy)).with_context(context)?;
                            ensure!(
                                copy.inner == sent.inner[..sent.inner.len().min(most)],
                                "{}: another packet",
                                context()
                            );
                        }
                    }
                    Ok(())
                },
            )?;
        }
    }
    Ok(())
}

/// RFC 8200 has a host drop UDP over IPv6 without a checksum, unless the program that listens says
/// otherwise.
#[test]
fn an_ordinary_program_takes_copies_over_ipv6() -> Result<()> {
    const PACKETS: usize = 20;
    for &attach in Attach::all()? {
        for (lines, arrive) in [("", 0), ("checksum = true", PACKETS)] {
            let endpoint =
                format!("[endpoint.six]\naddress = \"fd09::13\"\nport = 9999\n{lines}\n");
            let file = format!(
                "[[interface]]\nname = \"eth0\"\n{endpoint}{}",
                filter("all", "", "\"six\"")
            );
            let mut edge = Edge::with_live_collector(&file, attach)?;
            let program = udp_bind(edge.collector(), "[fd09::13]:9999".parse()?)?;
            let end = udp_bind(edge.collector(), "[fd09::13]:9998".parse()?)?;
            let frames: Vec<Vec<u8>> = (0..PACKETS)
                .map(|n| {
                    frame()
                        .ip(V6[0], V6[1])
                        .udp(4000, n as u16)
                        .payload(vec![1; 100])
                        .build()
                })
                .collect();
            ensure!(
                edge.originals(&frames, SkbLayout::Linear, Direction::Ingress)? == frames,
                "the originals differ"
            );
            // behind the copies, on the same way
            let sent = udp_bind(&edge.edge, "[fd09::1]:0".parse()?)?;
            sent.send_to(b"end", "[fd09::13]:9998")?;
            end.recv(&mut [0; 10]).context("the end")?;
            program.set_nonblocking(true)?;
            let (mut buffer, mut got, until) = ([0; 2000], 0, deadline());
            // one that is there may still be in the queue of another CPU
            while got < arrive && Instant::now() < until {
                got += usize::from(program.recv(&mut buffer).is_ok());
            }
            got += usize::from(program.recv(&mut buffer).is_ok());
            ensure!(got == arrive, "{attach:?} {lines:?}: {got} copies arrived");
        }
    }
    Ok(())
}
