//! Fragments, superpackets, and what an endpoint takes of them.

use super::{DIRECTIONS, Direction, ENDPOINTS, FAMILIES, Host, MTU, config, superpacket};
use crate::edge::Attach;
use crate::policy::policy;
use crate::routed::count;
use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::kernel;
use traffic_mirror_tests::lab::packet::{
    Ip, Packet, eth, fragment, ip_part, verify_inner_checksums,
};
use traffic_mirror_tests::lab::traffic::Stream;
use traffic_mirror_tests::lab::vnet::VnetHeader;

/// Fragments of a datagram go the way of the first, and what no longer fits goes in outer
/// fragments.
#[test]
fn fragments_both_ways() -> Result<()> {
    for &attach in Attach::all()? {
        let file =
            config("tun0").replace("name = \"all\"", "name = \"all\"\ndestination_port = [443]");
        let mut host = Host::new(&file, attach, MTU as u32)?;
        for (id, (way, (from, to))) in DIRECTIONS
            .iter()
            .flat_map(|way| FAMILIES.map(|ends| (*way, ends)))
            .enumerate()
        {
            let packet = eth().ip(from, to);
            let datagram = packet
                .clone()
                .udp(1, 443)
                .payload(Stream::new(6).bytes(4000))
                .build();
            let parts = fragment(&datagram, MTU, id as u32)?
                .into_iter()
                .map(|part| (part, VnetHeader::default()));
            host.arrive(
                &format!("{attach:?} fragments"),
                &parts.collect::<Vec<_>>(),
                way,
            )?;
            let header = if from == FAMILIES[0].0 { 28 } else { 48 };
            let lengths = MTU - 60..=MTU;
            for open in [false, true] {
                let mut frames = Vec::new();
                for bytes in lengths.clone() {
                    let mut frame = packet
                        .clone()
                        .udp(1, 443)
                        .payload(Stream::new(7).bytes(bytes - header))
                        .build();
                    let vnet = if open {
                        VnetHeader::partial(&mut frame)?
                    } else {
                        VnetHeader::default()
                    };
                    frames.push((frame, vnet));
                }
                let what = format!("{attach:?} {lengths:?} bytes, open: {open}");
                let moved = host.arrive(&what, &frames, way)?;
                for (endpoint, outer) in [("a", 32), ("six", 52)] {
                    let fragmented = count(&moved, &format!("endpoint {endpoint} fragmented"));
                    let wanted = lengths.clone().filter(|bytes| bytes + outer > MTU).count() as u64;
                    ensure!(
                        fragmented == wanted,
                        "{what}: {fragmented} of {wanted} to {endpoint} in fragments"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Sends a superpacket; each endpoint gets all its payload, in so many packets at least.
fn superpacket_arrives(
    host: &mut Host,
    packet: &Packet,
    segment: u16,
    bytes: usize,
    way: Direction,
) -> Result<()> {
    let (frame, header) = superpacket(packet, bytes, segment)?;
    let ip = Ip::parse(ip_part(&frame)?)?;
    let (headers, is_tcp) = (
        ip.header_length + if ip.protocol == 6 { 20 } else { 8 },
        ip.protocol == 6,
    );
    let payload = ip_part(&frame)?[headers..].to_vec();
    let seen = host.pass(&frame, header, way)?;
    let packets = bytes.div_ceil(segment.into());
    let context = format!("{:?}", seen.moved);
    let carried = |packets: &[Vec<u8>]| {
        packets
            .iter()
            .flat_map(|packet| packet[headers..].to_vec())
            .collect::<Vec<_>>()
    };
    ensure!(
        carried(&seen.originals) == payload,
        "{context}: {} originals differ",
        seen.originals.len()
    );
    for (endpoint, _) in ENDPOINTS {
        let copies = seen
            .copies
            .get(endpoint)
            .map(Vec::as_slice)
            .unwrap_or_default();
        copies
            .iter()
            .try_for_each(|copy| verify_inner_checksums(copy))?;
        ensure!(
            carried(copies) == payload,
            "{context}: {} copies to {endpoint} differ",
            copies.len()
        );
        ensure!(
            copies.len() == packets || is_tcp,
            "{context}: {} copies to {endpoint}",
            copies.len()
        );
        let counted = count(&seen.moved, &format!("endpoint {endpoint} packets"));
        ensure!(
            counted == packets as u64,
            "{context}: {counted} counted for {endpoint}"
        );
    }
    ensure!(
        count(&seen.moved, "filter all packets") == packets as u64,
        "{context}"
    );
    Ok(())
}

#[test]
fn superpackets_both_ways() -> Result<()> {
    for &attach in Attach::all()? {
        for output_mtu in [MTU + 52, MTU] {
            let mut host = Host::new(&config("tun0"), attach, output_mtu as u32)?;
            if output_mtu == MTU {
                host.wait_for_segmenter()?;
            }
            for way in DIRECTIONS {
                for (from, to) in FAMILIES {
                    let header = if from == FAMILIES[0].0 { 20 } else { 40 };
                    let mut packets =
                        vec![(eth().ip(from, to).tcp(1, 443), MTU as u16 - header - 20)];
                    if kernel()? >= (6, 2) {
                        packets.push((eth().ip(from, to).udp(1, 443), MTU as u16 - header - 8));
                    }
                    for (packet, segment) in packets {
                        for segment in [segment, 1000] {
                            let bytes = usize::from(segment) * 7 + 100;
                            superpacket_arrives(&mut host, &packet, segment, bytes, way).with_context(|| {
                                format!("{attach:?} {way:?} from {from}, MTU {output_mtu}, {bytes} by {segment}")
                            })?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn snap_and_limit() -> Result<()> {
    for &attach in Attach::all()? {
        let mut host = Host::new(
            &policy(&config("tun0"), "snap = 100"),
            attach,
            MTU as u32 + 52,
        )?;
        for (way, (from, to)) in DIRECTIONS
            .iter()
            .flat_map(|way| FAMILIES.map(|ends| (*way, ends)))
        {
            let packet = eth().ip(from, to).tcp(1, 443);
            let plain = packet.clone().payload([7; 1000]).build();
            for (frame, header) in [
                (plain, VnetHeader::default()),
                superpacket(&packet, 5000, 1400)?,
            ] {
                let seen = host.pass(&frame, header, way)?;
                let context = format!("{attach:?} {way:?} from {from}: {:?}", seen.moved);
                for (endpoint, _) in ENDPOINTS {
                    let copies = seen
                        .copies
                        .get(endpoint)
                        .map(Vec::as_slice)
                        .unwrap_or_default();
                    ensure!(
                        copies.iter().map(Vec::len).eq([100]),
                        "{context}: copies to {endpoint}"
                    );
                    // behind what the kernel finishes of a superpacket
                    ensure!(
                        copies[0][60..] == ip_part(&frame)?[60..100],
                        "{context}: another packet"
                    );
                    ensure!(
                        count(&seen.moved, &format!("endpoint {endpoint} truncated")) > 0,
                        "{context}"
                    );
                }
            }
        }
        let mut host = Host::new(
            &policy(&config("tun0"), "limit = \"1pps\""),
            attach,
            MTU as u32 + 52,
        )?;
        let frame = eth().ip(FAMILIES[0].0, FAMILIES[0].1).udp(1, 443).build();
        let mut dropped = 0;
        for round in 0..20 {
            let seen = host.pass(&frame, VnetHeader::default(), DIRECTIONS[round % 2])?;
            for (endpoint, _) in ENDPOINTS {
                let sent = count(&seen.moved, &format!("endpoint {endpoint} packets"));
                let came = seen.copies.get(endpoint).map_or(0, Vec::len);
                ensure!(
                    sent == came as u64,
                    "{attach:?}: {came} copies came, {sent} counted"
                );
                dropped += count(&seen.moved, &format!("endpoint {endpoint} drop limit"));
            }
        }
        ensure!(dropped > 0, "{attach:?}: no limit was held");
    }
    Ok(())
}
