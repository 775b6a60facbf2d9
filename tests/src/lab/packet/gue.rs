//! The strict reader of what the product sends: a frame in, a GUE packet or the reason why it is
//! none out.

use super::checksum;
use super::layer::Mac;
use super::parse::{FiveTuple, Ip, Link, array, be16, verify_ipv4_header};
use anyhow::{Context as _, Result, bail, ensure};
use std::net::IpAddr;

/// The UDP port that IANA gave to GUE.
pub const GUE_PORT: u16 = 6080;

/// A packet in Generic UDP Encapsulation, variant 0 (draft-ietf-intarea-gue-09), whole and without
/// a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gue {
    /// Source MAC address.
    pub src_mac: Mac,
    /// Destination MAC address.
    pub dst_mac: Mac,
    /// VLAN identifier of the outermost tag.
    pub outer_vlan: Option<u16>,
    /// Source of the tunnel.
    pub outer_src: IpAddr,
    /// Destination of the tunnel.
    pub outer_dst: IpAddr,
    /// TTL or hop limit of the outer header.
    pub ttl: u8,
    /// Differentiated services code point of the outer header, 6 bits.
    pub dscp: u8,
    /// Identification of the outer header; 0 for IPv6.
    pub ipv4_id: u16,
    /// "Don't fragment" of the outer header; false for IPv6.
    pub df: bool,
    /// Flow label of the outer header, 20 bits; 0 for IPv4.
    pub flow_label: u32,
    /// Outer UDP source port: the entropy of the flow.
    pub sport: u16,
    /// Outer UDP destination port.
    pub dport: u16,
    /// UDP checksum as sent; 0 is "none".
    pub udp_checksum: u16,
    /// 4 for IPv4, 41 for IPv6.
    pub inner_protocol: u8,
    /// The inner packet from its IP header on. It may have been cut: see
    /// [`super::verify_inner_checksums`].
    pub inner: Vec<u8>,
}

impl Gue {
    /// Parses a frame with the tags in it. An outer fragment is refused: [`super::Reassembler`]
    /// comes before.
    ///
    /// Verified: outer IPv4 header checksum, lengths of IP and UDP, the UDP checksum unless it is
    /// 0, variant 0, no control bit, no optional fields, no flags, the protocol number against the
    /// version of the inner packet, and that nothing follows the outer packet but the zeros of a
    /// frame of 60 bytes.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        let link = Link::parse(frame)?;
        let packet = &frame[link.length..];
        let ip = Ip::parse(packet).context("outer header")?;
        let ethertype = if ip.source.is_ipv4() { 0x0800 } else { 0x86dd };
        ensure!(
            link.ethertype == ethertype,
            "EtherType {:#06x}, outer source {}",
            link.ethertype,
            ip.source
        );
        if ip.source.is_ipv4() {
            verify_ipv4_header(packet).context("outer header")?;
        }
        ensure!(
            ip.fragment.is_none(),
            "outer packet is a fragment: {:?}",
            ip.fragment
        );
        ensure!(
            ip.header_length == if ip.source.is_ipv4() { 20 } else { 40 },
            "outer header has options"
        );
        ensure!(
            packet.len() >= ip.total_length,
            "outer packet of {} bytes, {} there",
            ip.total_length,
            packet.len()
        );
        let padding = &packet[ip.total_length..];
        ensure!(
            padding.is_empty() || (frame.len() <= 60 && padding.iter().all(|byte| *byte == 0)),
            "{} bytes follow the outer packet of {} bytes",
            padding.len(),
            ip.total_length
        );

        ensure!(
            ip.protocol == 17,
            "outer protocol {} is not UDP",
            ip.protocol
        );
        let udp = ip.upper;
        ensure!(
            udp.len() >= 12,
            "outer UDP datagram of {} bytes has no room for GUE",
            udp.len()
        );
        let (length, udp_checksum) = (be16(udp, 4), be16(udp, 6));
        ensure!(
            usize::from(length) == udp.len(),
            "outer UDP length {length}, but {} bytes are there",
            udp.len()
        );
        if udp_checksum != 0 {
            let pseudo = checksum::pseudo_header(ip.source, ip.destination, 17, udp.len());
            let sum = checksum::sum(&[&pseudo, udp]);
            ensure!(
                sum == 0xffff,
                "outer UDP checksum {udp_checksum:#06x} is wrong: the sum is {sum:#06x}"
            );
        }

        let [control, inner_protocol, flags @ ..] = array::<4>(udp, 8);
        ensure!(control >> 6 == 0, "GUE variant {}", control >> 6);
        ensure!(control & 0x20 == 0, "GUE control bit is set");
        ensure!(
            control & 0x1f == 0,
            "GUE header length {} words",
            control & 0x1f
        );
        ensure!(
            flags == [0, 0],
            "GUE flags {:#06x}",
            u16::from_be_bytes(flags)
        );
        let inner = udp[12..].to_vec();
        let version = inner.first().context("GUE carries nothing")? >> 4;
        match (inner_protocol, version) {
            (4, 4) | (41, 6) => {}
            (4 | 41, _) => {
                bail!("GUE protocol {inner_protocol}, but an inner packet of IP version {version}")
            }
            _ => bail!("GUE protocol {inner_protocol} is neither IPv4 nor IPv6"),
        }
        Ok(Self {
            src_mac: link.source,
            dst_mac: link.destination,
            outer_vlan: link.vlan.first().map(|tci| tci & 0xfff),
            outer_src: ip.source,
            outer_dst: ip.destination,
            ttl: ip.ttl,
            dscp: ip.dscp,
            ipv4_id: ip.ipv4_id,
            df: ip.dont_fragment,
            flow_label: ip.flow_label,
            sport: be16(udp, 0),
            dport: be16(udp, 2),
            udp_checksum,
            inner_protocol,
            inner,
        })
    }

    /// The flow of the inner packet.
    pub fn flow(&self) -> Result<FiveTuple> {
        FiveTuple::parse(&self.inner)
    }
}

/// Whether a frame is a UDP packet to [`GUE_PORT`] or a later fragment of any UDP packet: what a
/// collector keeps.
pub fn is_gue(frame: &[u8]) -> bool {
    let Ok(Ok(ip)) = Link::parse(frame).map(|link| Ip::parse(&frame[link.length..])) else {
        return false;
    };
    let later = ip.fragment.is_some_and(|fragment| fragment.offset > 0);
    ip.protocol == 17 && (later || ip.upper.len() >= 4 && be16(ip.upper, 2) == GUE_PORT)
}

#[cfg(test)]
mod tests {
    use super::super::{GueHeader, Ipv4, Ipv6, Packet, Udp, eth};
    use super::*;

    fn copy() -> Packet {
        let outer = Ipv4 {
            id: 9,
            dscp: 10,
            ttl: 63,
            ..Ipv4::new("192.0.2.1", "192.0.2.10")
        };
        eth()
            .vlan(7)
            .layer(outer)
            .udp(50000, GUE_PORT)
            .gue()
            .ip("10.0.0.1", "10.0.0.2")
            .tcp(40000, 443)
            .payload("payload")
    }

    #[test]
    fn gue_is_read_in_full() {
        let inner = Packet::new()
            .ip("10.0.0.1", "10.0.0.2")
            .tcp(40000, 443)
            .payload("payload")
            .build();
        let gue = Gue::parse(&copy().build()).unwrap();
        assert_eq!(gue.inner, inner);
        assert_eq!(
            gue.flow().unwrap().to_string(),
            "tcp 10.0.0.1:40000 > 10.0.0.2:443"
        );
        assert_eq!(
            (gue.outer_src.to_string(), gue.outer_dst.to_string()),
            ("192.0.2.1".into(), "192.0.2.10".into())
        );
        assert_eq!(
            (gue.ttl, gue.dscp, gue.ipv4_id, gue.df, gue.flow_label),
            (63, 10, 9, true, 0)
        );
        assert_eq!(
            (gue.sport, gue.dport, gue.inner_protocol, gue.outer_vlan),
            (50000, GUE_PORT, 4, Some(7))
        );
        assert_eq!(
            (gue.src_mac, gue.dst_mac),
            ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        );
        assert_ne!(gue.udp_checksum, 0);

        let outer = Ipv6 {
            flow_label: 0xbeef,
            ..Ipv6::new("2001:db8::1", "2001:db8::10")
        };
        let udp = Udp {
            source_port: 1,
            destination_port: GUE_PORT,
            checksum: Some(0),
            ..Udp::default()
        };
        let frame = eth()
            .layer(outer)
            .layer(udp)
            .gue()
            .ip("::1", "::2")
            .icmpv6(128, 0)
            .build();
        let gue = Gue::parse(&frame).unwrap();
        assert_eq!(
            (gue.flow_label, gue.udp_checksum, gue.inner_protocol, gue.df),
            (0xbeef, 0, 41, false)
        );
    }

    #[test]
    fn gue_with_a_flipped_bit_is_refused() {
        let frame = copy().build();
        let bits = 18 * 8..frame.len() * 8;
        for bit in bits {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Gue::parse(&damaged).is_err(),
                "bit {bit} of byte {}",
                bit / 8
            );
        }
    }

    #[test]
    fn gue_out_of_the_ordinary_is_refused_with_the_reason() {
        let with = |header: GueHeader| {
            eth()
                .ip("192.0.2.1", "192.0.2.10")
                .udp(1, GUE_PORT)
                .layer(header)
        };
        let inner = |packet: Packet| packet.ip("10.0.0.1", "10.0.0.2").udp(1, 2);
        let gue = |control, protocol, flags| {
            inner(with(GueHeader {
                control,
                protocol,
                flags,
            }))
        };
        let padded = copy().build().into_iter().chain([0]).collect();
        let no_checksum = Ipv4 {
            checksum: Some(0),
            ..Ipv4::new("192.0.2.1", "192.0.2.10")
        };
        let first = Ipv4 {
            flags: Ipv4::MF,
            ..Ipv4::new("192.0.2.1", "192.0.2.10")
        };
        let short = Udp {
            destination_port: GUE_PORT,
            length: Some(12),
            checksum: Some(0),
            ..Udp::default()
        };
        let cases: [(&str, Vec<u8>); 12] = [
            ("variant 1", gue(0x40, None, 0).build()),
            ("control bit", gue(0x20, None, 0).build()),
            ("header length 1", gue(1, None, 0).build()),
            ("flags 0x8000", gue(0, None, 0x8000).build()),
            (
                "protocol 41, but an inner packet of IP version 4",
                gue(0, Some(41), 0).build(),
            ),
            ("protocol 17 is neither", gue(0, Some(17), 0).build()),
            ("carries nothing", with(GueHeader::default()).build()),
            ("bytes follow", padded),
            (
                "header checksum",
                inner(eth().layer(no_checksum).udp(1, GUE_PORT).gue()).build(),
            ),
            (
                "is a fragment",
                inner(eth().layer(first).udp(1, GUE_PORT).gue()).build(),
            ),
            (
                "UDP length 12",
                inner(eth().ip("192.0.2.1", "192.0.2.10").layer(short).gue()).build(),
            ),
            (
                "is not UDP",
                eth().ip("10.0.0.1", "10.0.0.2").tcp(1, GUE_PORT).build(),
            ),
        ];
        for (reason, frame) in cases {
            let error = format!("{:#}", Gue::parse(&frame).expect_err(reason));
            assert!(error.contains(reason), "{error:?} instead of {reason:?}");
        }
    }
}
