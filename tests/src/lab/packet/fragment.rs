//! Cuts frames into IP fragments, and puts fragments together again.

use super::checksum;
use super::extension::Extension;
use super::parse::{Ip, Link, be16, verify_ipv4_header};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Cuts the IP packet of a whole frame into fragments of at most `mtu` bytes, in order. The
/// checksum of the upper layer is that of the whole datagram. `id` is the identification; IPv4
/// takes its lower 16 bits.
pub fn fragment(frame: &[u8], mtu: usize, id: u32) -> Result<Vec<Vec<u8>>> {
    let link = Link::parse(frame)?;
    let packet = super::ip_part(frame)?;
    let ip = Ip::parse(packet)?;
    ensure!(
        ip.total_length == packet.len(),
        "packet of {} bytes says {}",
        packet.len(),
        ip.total_length
    );
    ensure!(ip.fragment.is_none(), "packet is a fragment already");
    // the fragment header goes right behind the fixed header: only hop-by-hop and routing would
    // have to precede it
    let unfragmentable = if ip.source.is_ipv4() {
        ip.header_length
    } else {
        40
    };
    let precedes =
        ip.source.is_ipv6() && matches!(packet[6], Extension::HOP_BY_HOP | Extension::ROUTING);
    ensure!(
        !precedes,
        "cannot cut a packet with a hop-by-hop or routing header"
    );
    let room = mtu.saturating_sub(unfragmentable + if ip.source.is_ipv6() { 8 } else { 0 }) & !7;
    ensure!(room > 0, "MTU {mtu} has no room for a fragment");
    let body = &packet[unfragmentable..];
    let pieces = body.chunks(room).enumerate().map(|(index, piece)| {
        let (offset, more) = (index * room, index * room + piece.len() < body.len());
        let mut bytes = packet[..unfragmentable].to_vec();
        if ip.source.is_ipv4() {
            bytes[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            bytes[6..8]
                .copy_from_slice(&((offset / 8) as u16 | u16::from(more) << 13).to_be_bytes());
        } else {
            let place = (offset as u16 | u16::from(more)).to_be_bytes();
            bytes.extend([&[packet[6], 0], &place[..], &id.to_be_bytes()].concat());
            bytes[6] = Extension::FRAGMENT;
        }
        bytes.extend(piece);
        finish(&mut bytes);
        [&frame[..link.length], &bytes].concat()
    });
    Ok(pieces.collect())
}

/// Puts IP fragments together, strictly: no overlap, no fragment beyond the end, no length that
/// breaks the rules.
#[derive(Debug, Default)]
pub struct Reassembler(BTreeMap<Key, Datagram>);

type Key = (IpAddr, IpAddr, u8, u32);

#[derive(Debug, Default)]
struct Datagram {
    /// Link and IP header of the first fragment.
    head: Option<(usize, Vec<u8>)>,
    /// Bytes by offset.
    pieces: BTreeMap<usize, Vec<u8>>,
    end: Option<usize>,
}

impl Reassembler {
    /// Takes a frame. A frame that is no fragment comes back as it is; the fragment that completes
    /// a datagram gives the frame as it would be had it not been cut, with the link header of the
    /// first fragment.
    pub fn push(&mut self, frame: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let link = Link::parse(&frame)?;
        if !matches!(link.ethertype, 0x0800 | 0x86dd) {
            return Ok(Some(frame));
        }
        let ip = Ip::parse(&frame[link.length..])?;
        let Some(place) = ip.fragment else {
            return Ok(Some(frame));
        };
        if ip.source.is_ipv4() {
            verify_ipv4_header(&frame[link.length..])?;
        }
        let key = (ip.source, ip.destination, place.protocol, place.id);
        ensure!(
            frame.len() >= link.length + ip.total_length,
            "fragment {place:?} is cut"
        );
        let piece = &frame[link.length + place.start..link.length + ip.total_length];
        let end = place.offset + piece.len();
        ensure!(!piece.is_empty(), "fragment {place:?} is empty");
        ensure!(
            !place.more || piece.len().is_multiple_of(8),
            "fragment {place:?} of {} bytes",
            piece.len()
        );
        ensure!(end <= 0xffff, "fragment {place:?} of {} bytes", piece.len());
        let datagram = self.0.entry(key).or_default();
        if place.offset == 0 {
            // without the IPv6 fragment header, which is the last one before the piece
            let header = place.start - if ip.source.is_ipv6() { 8 } else { 0 };
            datagram.head = Some((link.length, frame[..link.length + header].to_vec()));
        }
        if !place.more {
            ensure!(
                datagram.end.is_none_or(|known| known == end),
                "two last fragments of {key:?}"
            );
            datagram.end = Some(end);
        }
        let before = datagram.pieces.range(..end).next_back();
        let overlaps = before.is_some_and(|(offset, piece)| offset + piece.len() > place.offset);
        ensure!(
            !overlaps,
            "fragment {place:?} of {} bytes overlaps another",
            piece.len()
        );
        datagram.pieces.insert(place.offset, piece.to_vec());
        let have: usize = datagram.pieces.values().map(Vec::len).sum();
        let last = datagram
            .pieces
            .last_key_value()
            .map_or(0, |(offset, piece)| offset + piece.len());
        ensure!(
            datagram.end.is_none_or(|end| last <= end),
            "a fragment of {key:?} lies beyond the last"
        );
        if datagram.end != Some(have) {
            return Ok(None);
        }
        let datagram = self.0.remove(&key).unwrap_or_default();
        Ok(datagram
            .head
            .map(|(link, head)| datagram_frame(link, head, place.protocol, datagram.pieces)))
    }

    /// How many datagrams lack fragments.
    pub fn incomplete(&self) -> usize {
        self.0.len()
    }
}

fn datagram_frame(
    link: usize,
    head: Vec<u8>,
    protocol: u8,
    pieces: BTreeMap<usize, Vec<u8>>,
) -> Vec<u8> {
    let mut packet = head[link..].to_vec();
    if packet[0] >> 4 == 4 {
        let flags = be16(&packet, 6) & 0xc000;
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
    } else {
        unlink_fragment_header(&mut packet, protocol);
    }
    packet.extend(pieces.into_values().flatten());
    finish(&mut packet);
    [&head[..link], &packet].concat()
}

/// Lets the last header of an IPv6 header chain, cut off before its fragment header, point to
/// `protocol`.
fn unlink_fragment_header(headers: &mut [u8], protocol: u8) {
    let (mut at, mut next) = (6, 40);
    while next < headers.len() {
        (at, next) = (next, next + 8 + usize::from(headers[next + 1]) * 8);
    }
    headers[at] = protocol;
}

/// Sets the length of an IP packet to its bytes, and the header checksum of IPv4.
fn finish(packet: &mut [u8]) {
    let length = packet.len();
    if packet[0] >> 4 == 6 {
        packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        return;
    }
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet[10..12].fill(0);
    let checksum = checksum::internet(&[&packet[..usize::from(packet[0] & 0xf) * 4]]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{GUE_PORT, Ipv4, eth, ip_part, is_gue, verify_inner_checksums};
    use super::*;

    #[test]
    fn fragments_come_together_in_any_order() {
        let payload: Vec<u8> = (0..4000_u32).map(|n| n as u8).collect();
        let v4 = eth().vlan(9).layer(Ipv4 {
            id: 77,
            flags: 0,
            ..Ipv4::new("10.0.0.1", "10.0.0.2")
        });
        for packet in [v4, eth().ip("::1", "::2")] {
            let frame = packet.udp(1, GUE_PORT).payload(&payload[..]).build();
            for mtu in [576, 1280, 1500] {
                let mut fragments = fragment(&frame, mtu, 77).unwrap();
                assert!(
                    fragments.len() > 2
                        && fragments.iter().all(|fragment| fragment.len() <= mtu + 18)
                );
                for fragment in &fragments {
                    assert!(is_gue(fragment));
                    verify_inner_checksums(ip_part(fragment).unwrap()).unwrap();
                }
                fragments.reverse();
                fragments.swap(0, 1);
                let mut reassembler = Reassembler::default();
                let last = fragments.pop().unwrap();
                for fragment in fragments {
                    assert_eq!(reassembler.push(fragment).unwrap(), None);
                }
                assert_eq!(reassembler.incomplete(), 1);
                assert_eq!(reassembler.push(last).unwrap(), Some(frame.clone()));
                assert_eq!(reassembler.incomplete(), 0);
            }
        }
    }

    #[test]
    fn fragments_that_break_the_rules_are_refused() {
        let frame = eth()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(1, 2)
            .payload([1; 3000])
            .build();
        let fragments = fragment(&frame, 1500, 1).unwrap();
        let other = fragment(&frame, 1000, 1).unwrap();
        for (first, second) in [
            (&fragments[0], &fragments[0]),
            (&fragments[0], &other[1]),
            (&other[1], &fragments[0]),
        ] {
            let mut reassembler = Reassembler::default();
            assert_eq!(reassembler.push(first.clone()).unwrap(), None);
            assert!(reassembler.push(second.clone()).is_err());
        }
        assert!(
            Reassembler::default()
                .push(fragments[0][..1000].to_vec())
                .is_err()
        );
    }
}
