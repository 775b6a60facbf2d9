//! What a frame says, read the slow way from the RFCs and the manual. Shares nothing with the
//! parser but the words for why a packet is not looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use traffic_mirror_ebpf::abi::Skipped;

/// A packet, as filters and counters ask about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Behind any extension headers.
    pub protocol: u8,
    /// Source and destination port, if they are there.
    pub ports: Option<(u16, u16)>,
    /// Whether there must be ports that cannot be read.
    pub are_ports_unknown: bool,
    /// Whether the headers do not lead to a transport header.
    pub is_protocol_unknown: bool,
    /// Whether it is a part of a packet.
    pub is_fragment: bool,
    /// Whether it is not the first part.
    pub is_later: bool,
    /// Which packet it is a part of, if the header says that.
    pub identification: Option<u32>,
    /// The outermost VLAN in the frame, if there is one.
    pub vlan: Option<u16>,
    /// Where the IP header begins, bytes.
    pub offset: usize,
    /// Where what comes behind the IP headers begins, bytes.
    pub transport: usize,
    /// Bytes of the IP packet, if its header says that.
    pub length: Option<usize>,
}

const EXTENSIONS: [u8; 5] = [0, 43, 44, 51, 60];
const PORTED: [u8; 5] = [6, 17, 33, 132, 136];

fn number<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..at + N)?.try_into().ok()
}

fn be16(frame: &[u8], at: usize) -> Option<u16> {
    number(frame, at).map(u16::from_be_bytes)
}

/// Reads a frame that the kernel takes for one of this EtherType.
///
/// # Errors
/// Why filters are not asked about it.
pub fn read(frame: &[u8], ethertype: u16) -> Result<Reading, Skipped> {
    let (mut ethertype, mut offset, mut vlan) = (ethertype, 14, None);
    for _ in 0..3 {
        if [0x8100, 0x88a8].contains(&ethertype) {
            vlan = vlan.or(be16(frame, offset).map(|control| control % 4096));
            ethertype = be16(frame, offset + 2).ok_or(Skipped::Malformed)?;
            offset += 4;
        }
    }
    let reading = match ethertype {
        0x0800 => read_ipv4(frame, offset).ok_or(Skipped::Malformed),
        0x86dd => read_ipv6(frame, offset).ok_or(Skipped::Malformed),
        _ => Err(Skipped::NotIp),
    };
    reading.map(|reading| Reading { vlan, ..reading })
}

/// RFC 791.
fn read_ipv4(frame: &[u8], offset: usize) -> Option<Reading> {
    let header: [u8; 20] = number(frame, offset)?;
    let header_bytes = usize::from(header[0] % 16) * 4;
    let length = usize::from(be16(&header, 2)?);
    let is_sound =
        header[0] / 16 == 4 && header_bytes >= 20 && (length == 0 || length >= header_bytes);
    let fragment = be16(&header, 6)?;
    let (is_later, has_more) = (fragment % 0x2000 != 0, fragment & 0x2000 != 0);
    let transport = offset + header_bytes;
    is_sound.then(|| Reading {
        source: Ipv4Addr::from(number(&header, 12).unwrap_or_default()).into(),
        destination: Ipv4Addr::from(number(&header, 16).unwrap_or_default()).into(),
        protocol: header[9],
        ports: if is_later {
            None
        } else {
            ports(frame, header[9], transport)
        },
        are_ports_unknown: !is_later
            && PORTED.contains(&header[9])
            && ports(frame, header[9], transport).is_none(),
        is_protocol_unknown: false,
        is_fragment: is_later || has_more,
        is_later,
        identification: be16(&header, 4).map(u32::from),
        vlan: None,
        offset,
        transport,
        length: (length != 0).then_some(length),
    })
}

/// RFC 8200; of extension headers eight are looked through.
fn read_ipv6(frame: &[u8], offset: usize) -> Option<Reading> {
    let header: [u8; 40] = number(frame, offset)?;
    if header[0] / 16 != 6 {
        return None;
    }
    let (mut protocol, mut transport) = (header[6], offset + 40);
    let (mut is_fragment, mut is_later, mut identification) = (false, false, None);
    for _ in 0..8 {
        let Some([next, units, high, low]) = number(frame, transport) else {
            break;
        };
        if is_later || !EXTENSIONS.contains(&protocol) {
            break;
        }
        let bytes = match protocol {
            44 => {
                let Some(which) = number(frame, transport + 4) else {
                    break;
                };
                // a part of a part
                if is_fragment {
                    break;
                }
                let fragment = u16::from_be_bytes([high, low]);
                is_later = fragment / 8 != 0;
                is_fragment |= is_later || fragment % 2 != 0;
                identification = Some(u32::from_be_bytes(which));
                8
            }
            51 => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        (protocol, transport) = (next, transport + bytes);
    }
    let is_lost = !is_later && EXTENSIONS.contains(&protocol);
    // RFC 2675: 0 before a hop-by-hop header, or whatever else may stand in for it, does not count
    let payload = usize::from(be16(&header, 4)?);
    let is_known = payload != 0 || !EXTENSIONS.contains(&header[6]);
    Some(Reading {
        source: Ipv6Addr::from(number(&header, 8)?).into(),
        destination: Ipv6Addr::from(number(&header, 24)?).into(),
        protocol,
        ports: if is_later {
            None
        } else {
            ports(frame, protocol, transport)
        },
        are_ports_unknown: !is_later
            && (is_lost
                || PORTED.contains(&protocol) && ports(frame, protocol, transport).is_none()),
        is_protocol_unknown: is_lost,
        is_fragment,
        is_later,
        identification,
        vlan: None,
        offset,
        transport,
        length: is_known.then_some(40 + payload),
    })
}

fn ports(frame: &[u8], protocol: u8, at: usize) -> Option<(u16, u16)> {
    let is_ported = PORTED.contains(&protocol);
    is_ported
        .then(|| Some((be16(frame, at)?, be16(frame, at + 2)?)))
        .flatten()
}
