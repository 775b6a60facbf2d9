//! Takes packets apart: the link layer, the IP header with all it carries before the upper layer,
//! the 5-tuple, and the checksums.

use super::checksum;
use super::extension::{Extension, final_destination};
use super::layer::Mac;
use anyhow::{Context as _, Result, bail, ensure};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The Ethernet header of a frame and the VLAN tags in the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Destination address.
    pub destination: Mac,
    /// Source address.
    pub source: Mac,
    /// Tag control information of each tag in the frame, outermost first.
    pub vlan: Vec<u16>,
    /// EtherType behind the tags.
    pub ethertype: u16,
    /// Where the next header begins, in bytes.
    pub length: usize,
}

impl Link {
    /// Parses the beginning of a frame.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        ensure!(
            frame.len() >= 14,
            "frame of {} bytes ends in its Ethernet header",
            frame.len()
        );
        let (mut length, mut ethertype, mut vlan) = (14, be16(frame, 12), Vec::new());
        while matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
            ensure!(
                frame.len() >= length + 4,
                "frame of {} bytes ends in a VLAN tag",
                frame.len()
            );
            vlan.push(be16(frame, length));
            ethertype = be16(frame, length + 2);
            length += 4;
        }
        Ok(Self {
            destination: array(frame, 0),
            source: array(frame, 6),
            vlan,
            ethertype,
            length,
        })
    }
}

/// The IP packet in a frame: without link header, VLAN tags and what follows the length in the IP
/// header (padding). A packet that is shorter than it says is given as it is.
pub fn ip_part(frame: &[u8]) -> Result<&[u8]> {
    let link = Link::parse(frame)?;
    ensure!(
        matches!(link.ethertype, 0x0800 | 0x86dd),
        "EtherType {:#06x} is not IP",
        link.ethertype
    );
    let packet = &frame[link.length..];
    Ok(&packet[..Ip::parse(packet)?.total_length.min(packet.len())])
}

/// What an IP packet says before its upper layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address in the IP header.
    pub destination: IpAddr,
    /// Where it ends after all segments of a routing header; the checksum covers this address.
    pub final_destination: IpAddr,
    /// Differentiated services code point, 6 bits.
    pub dscp: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Flow label, 20 bits; 0 for IPv4.
    pub flow_label: u32,
    /// The IPv4 flag "don't fragment".
    pub dont_fragment: bool,
    /// IPv4 identification.
    pub ipv4_id: u16,
    /// The part of the datagram that this packet carries, if not all of it.
    pub fragment: Option<Fragment>,
    /// Length in bytes that the header gives for the packet; the packet may have been cut.
    pub total_length: usize,
    /// The protocol behind the IPv4 options or IPv6 extension headers, `upper`'s unless this is a
    /// later fragment.
    pub protocol: u8,
    /// Where `upper` begins, in bytes.
    pub header_length: usize,
    /// What follows, up to `total_length`.
    pub upper: &'a [u8],
}

/// Place of a fragment in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Offset in bytes.
    pub offset: usize,
    /// Whether more follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
    /// Where the bytes of the datagram begin in the packet.
    pub start: usize,
    /// Protocol of the first header in the datagram.
    pub protocol: u8,
}

impl<'a> Ip<'a> {
    /// Parses the headers of an IPv4 or IPv6 packet. It may be cut short behind them, or be
    /// followed by padding.
    pub fn parse(packet: &'a [u8]) -> Result<Self> {
        match packet.first().context("no IP packet: no bytes")? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            version => bail!("IP version {version}"),
        }
    }

    fn parse_v4(packet: &'a [u8]) -> Result<Self> {
        ensure!(
            packet.len() >= 20,
            "IPv4 packet of {} bytes ends in its header",
            packet.len()
        );
        let header_length = usize::from(packet[0] & 0xf) * 4;
        let total_length = usize::from(be16(packet, 2));
        ensure!(header_length >= 20, "IPv4 header length {header_length}");
        ensure!(
            packet.len() >= header_length,
            "IPv4 packet of {} bytes ends in its options",
            packet.len()
        );
        ensure!(
            total_length >= header_length,
            "IPv4 total length {total_length}, header length {header_length}"
        );
        let destination = IpAddr::from(array::<4>(packet, 16));
        let (place, ipv4_id) = (be16(packet, 6), be16(packet, 4));
        let fragment = Fragment {
            offset: usize::from(place & 0x1fff) * 8,
            more: place & 0x2000 != 0,
            id: ipv4_id.into(),
            start: header_length,
            protocol: packet[9],
        };
        Ok(Self {
            source: array::<4>(packet, 12).into(),
            destination,
            final_destination: destination,
            dscp: packet[1] >> 2,
            ttl: packet[8],
            flow_label: 0,
            dont_fragment: place & 0x4000 != 0,
            ipv4_id,
            fragment: (fragment.more || fragment.offset > 0).then_some(fragment),
            total_length,
            protocol: packet[9],
            header_length,
            upper: &packet[header_length..total_length.min(packet.len())],
        })
    }

    fn parse_v6(packet: &'a [u8]) -> Result<Self> {
        ensure!(
            packet.len() >= 40,
            "IPv6 packet of {} bytes ends in its header",
            packet.len()
        );
        let total_length = 40 + usize::from(be16(packet, 4));
        let first = u32::from_be_bytes(array(packet, 0));
        let destination = IpAddr::from(array::<16>(packet, 24));
        let mut ip = Self {
            source: array::<16>(packet, 8).into(),
            destination,
            final_destination: destination,
            dscp: (first >> 22 & 0x3f) as u8,
            ttl: packet[7],
            flow_label: first & 0xf_ffff,
            dont_fragment: false,
            ipv4_id: 0,
            fragment: None,
            total_length,
            protocol: packet[6],
            header_length: 40,
            upper: &packet[40..total_length.min(packet.len())],
        };
        while ip.fragment.is_none_or(|fragment| fragment.offset == 0) {
            let unit = match ip.protocol {
                Extension::HOP_BY_HOP | Extension::ROUTING | Extension::DESTINATION => 8,
                Extension::AUTHENTICATION => 4,
                Extension::FRAGMENT => 0,
                _ => break,
            };
            let header = ip.upper;
            ensure!(
                header.len() >= 8,
                "IPv6 extension header {} is cut",
                ip.protocol
            );
            let length = 8 + usize::from(header[1]) * unit;
            ensure!(
                header.len() >= length,
                "IPv6 extension header {} of {length} bytes is cut",
                ip.protocol
            );
            if ip.protocol == Extension::ROUTING {
                ip.final_destination =
                    final_destination(&header[2..length]).map_or(destination, IpAddr::from);
            }
            if ip.protocol == Extension::FRAGMENT {
                let place = be16(header, 2);
                ip.fragment = Some(Fragment {
                    offset: usize::from(place & 0xfff8),
                    more: place & 1 != 0,
                    id: u32::from_be_bytes(array(header, 4)),
                    start: ip.header_length + 8,
                    protocol: header[0],
                });
            }
            ip.protocol = header[0];
            ip.header_length += length;
            ip.upper = &header[length..];
        }
        Ok(ip)
    }
}

/// What identifies a flow. Written like `tcp 10.0.0.1:40000 > 10.0.0.2:443`, and without ports
/// where there are none: other protocols, later fragments, packets cut before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FiveTuple {
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source and destination port.
    pub ports: Option<(u16, u16)>,
}

impl FiveTuple {
    /// Of an IP packet, which may be cut behind its IP header.
    pub fn parse(packet: &[u8]) -> Result<Self> {
        let ip = Ip::parse(packet)?;
        let first = ip.fragment.is_none_or(|fragment| fragment.offset == 0);
        let ports = matches!(ip.protocol, 6 | 17 | 132) && first && ip.upper.len() >= 4;
        let ports = ports.then(|| (be16(ip.upper, 0), be16(ip.upper, 2)));
        Ok(Self {
            protocol: ip.protocol,
            source: ip.source,
            destination: ip.destination,
            ports,
        })
    }
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            1 => write!(f, "icmp ")?,
            6 => write!(f, "tcp ")?,
            17 => write!(f, "udp ")?,
            58 => write!(f, "icmpv6 ")?,
            132 => write!(f, "sctp ")?,
            number => write!(f, "{number} ")?,
        }
        match self.ports {
            None => write!(f, "{} > {}", self.source, self.destination),
            Some((from, to)) => {
                write!(
                    f,
                    "{} > {}",
                    SocketAddr::new(self.source, from),
                    SocketAddr::new(self.destination, to)
                )
            }
        }
    }
}

/// Checks that an IP packet is exactly as long as it says and that its checksums are right: IPv4
/// header, TCP, UDP, ICMP, ICMPv6, SCTP. Of a fragment only the IPv4 header can be checked.
pub fn verify_inner_checksums(packet: &[u8]) -> Result<()> {
    let ip = Ip::parse(packet)?;
    ensure!(
        ip.total_length == packet.len(),
        "IP packet of {} bytes says {}",
        packet.len(),
        ip.total_length
    );
    if ip.source.is_ipv4() {
        verify_ipv4_header(packet)?;
    }
    // an atomic fragment (RFC 6946) is whole
    if ip
        .fragment
        .is_some_and(|fragment| fragment.offset > 0 || fragment.more)
    {
        return Ok(());
    }
    let pseudo =
        checksum::pseudo_header(ip.source, ip.final_destination, ip.protocol, ip.upper.len());
    let (name, minimum, covered) = match ip.protocol {
        1 => ("ICMP", 8, &[][..]),
        6 => ("TCP", 20, &pseudo[..]),
        17 => ("UDP", 8, &pseudo[..]),
        58 => ("ICMPv6", 4, &pseudo[..]),
        132 => ("SCTP", 12, &[][..]),
        _ => return Ok(()),
    };
    ensure!(
        ip.upper.len() >= minimum,
        "{name} header of {} bytes",
        ip.upper.len()
    );
    match ip.protocol {
        132 => {
            let zeroed = [&ip.upper[..8], &[0; 4], &ip.upper[12..]].concat();
            let (has, needs) = (
                u32::from_le_bytes(array(ip.upper, 8)),
                checksum::crc32c(&zeroed),
            );
            ensure!(
                has == needs,
                "SCTP checksum {has:#010x} instead of {needs:#010x}"
            );
            return Ok(());
        }
        17 => {
            let length = usize::from(be16(ip.upper, 4));
            ensure!(
                length == ip.upper.len(),
                "UDP length {length}, but {} bytes are there",
                ip.upper.len()
            );
            if be16(ip.upper, 6) == 0 {
                ensure!(ip.source.is_ipv4(), "UDP without checksum over IPv6");
                return Ok(());
            }
        }
        _ => {}
    }
    let sum = checksum::sum(&[covered, ip.upper]);
    ensure!(
        sum == 0xffff,
        "{name} checksum is wrong: the sum is {sum:#06x} instead of 0xffff"
    );
    Ok(())
}

pub(super) fn verify_ipv4_header(packet: &[u8]) -> Result<()> {
    let sum = checksum::sum(&[&packet[..usize::from(packet[0] & 0xf) * 4]]);
    ensure!(
        sum == 0xffff,
        "IPv4 header checksum is wrong: the sum is {sum:#06x} instead of 0xffff"
    );
    Ok(())
}

pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}
