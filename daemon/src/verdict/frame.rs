//! Frames for queries to the kernel.

use std::net::IpAddr;

use traffic_mirror_ebpf::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN};

/// An Ethernet frame with that packet, tagged if there is a VLAN: eight bytes of payload, which are
/// the ports if the protocol has any. `None` if the addresses are not of one family.
pub fn frame(
    protocol: u8,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    vlan: Option<u16>,
) -> Option<Vec<u8>> {
    const PAYLOAD: usize = 8;
    const TTL: u8 = 64;
    let (mut header, addresses, ethertype) = match (source.0, destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = vec![
                0x45,
                0,
                0,
                20 + PAYLOAD as u8,
                0,
                0,
                0,
                0,
                TTL,
                protocol,
                0,
                0,
            ];
            (
                header,
                [source.octets(), destination.octets()].concat(),
                ETHERTYPE_IPV4,
            )
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = vec![0x60, 0, 0, 0, 0, PAYLOAD as u8, protocol, TTL];
            (
                header,
                [source.octets(), destination.octets()].concat(),
                ETHERTYPE_IPV6,
            )
        }
        _ => return None,
    };
    header.extend(addresses);
    let mut frame = vec![0; 12];
    if let Some(vlan) = vlan {
        frame.extend(ETHERTYPE_VLAN.to_be_bytes());
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(header);
    frame.extend(source.1.to_be_bytes());
    frame.extend(destination.1.to_be_bytes());
    frame.extend([0; PAYLOAD - 4]);
    Some(frame)
}

/// An Ethernet frame with a packet that has no link header.
pub fn framed(packet: &[u8]) -> Vec<u8> {
    let is_ipv6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
    let ethertype = if is_ipv6 {
        ETHERTYPE_IPV6
    } else {
        ETHERTYPE_IPV4
    };
    [&[0; 12][..], &ethertype.to_be_bytes(), packet].concat()
}
