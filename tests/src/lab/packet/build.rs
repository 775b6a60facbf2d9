//! The packet builder: a list of layers in, bytes out.

use super::checksum;
use super::extension::{Extension, final_destination};
use super::layer::{
    Ether, GueHeader, Icmp, Ipv4, Ipv6, Mac, Sctp, Tcp, Udp, Vlan, length16, parse,
};
use std::net::IpAddr;

/// A packet layer by layer, outermost first. Lengths, protocol numbers and checksums are right
/// unless a layer overrides them.
///
/// ```
/// use traffic_mirror_tests::lab::packet::{Ipv4, eth};
/// let plain = eth().vlan(7).ip("10.0.0.1", "10.0.0.2").tcp(40000, 443).payload(b"hello").build();
/// let last_hop = eth().layer(Ipv4 { ttl: 1, ..Ipv4::new("10.0.0.1", "10.0.0.2") }).udp(53, 53).build();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Packet {
    layers: Vec<Layer>,
    pad_to: usize,
    cut_at: Option<usize>,
}

/// A frame between the default MAC addresses.
pub fn eth() -> Packet {
    Packet::default().layer(Ether::default())
}

/// A frame from one MAC address to another.
pub fn eth_between(source: Mac, destination: Mac) -> Packet {
    Packet::default().layer(Ether {
        source,
        destination,
        ethertype: None,
    })
}

impl Packet {
    /// Nothing yet: for packets that begin with IP.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any layer.
    pub fn layer(mut self, layer: impl Into<Layer>) -> Self {
        self.layers.push(layer.into());
        self
    }

    /// An 802.1Q tag with VLAN identifier `id`.
    pub fn vlan(self, id: u16) -> Self {
        self.layer(Vlan {
            tpid: 0x8100,
            tci: id,
            ethertype: None,
        })
    }

    /// An 802.1ad tag and an 802.1Q tag within.
    pub fn qinq(self, outer: u16, inner: u16) -> Self {
        self.layer(Vlan {
            tpid: 0x88a8,
            tci: outer,
            ethertype: None,
        })
        .vlan(inner)
    }

    /// IPv4 or IPv6, as the addresses say. Panics if they are none, or of two families.
    pub fn ip(self, source: impl ToString, destination: impl ToString) -> Self {
        match parse(source.to_string()) {
            IpAddr::V4(source) => self.layer(Ipv4::new(source, destination)),
            IpAddr::V6(source) => self.layer(Ipv6::new(source, destination)),
        }
    }

    /// IPv4. Panics if an address is not one.
    pub fn ipv4(self, source: impl ToString, destination: impl ToString) -> Self {
        self.layer(Ipv4::new(source, destination))
    }

    /// IPv6. Panics if an address is not one.
    pub fn ipv6(self, source: impl ToString, destination: impl ToString) -> Self {
        self.layer(Ipv6::new(source, destination))
    }

    /// A hop-by-hop header with a router alert.
    pub fn hop_by_hop(self) -> Self {
        self.layer(Extension::options(Extension::HOP_BY_HOP, &[5, 2, 0, 0]))
    }

    /// A destination options header with nothing but padding.
    pub fn destination_options(self) -> Self {
        self.layer(Extension::options(Extension::DESTINATION, &[]))
    }

    /// An IPv6 fragment header; `offset` in units of 8 bytes.
    pub fn fragment(self, offset: u16, more: bool, id: u32) -> Self {
        self.layer(Extension::fragment(offset, more, id))
    }

    /// An authentication header of 24 bytes (HMAC-SHA-1-96) with a meaningless check value.
    pub fn authentication(self) -> Self {
        self.layer(Extension::authentication(1, 1, &[0xa5; 12]))
    }

    /// A TCP data segment.
    pub fn tcp(self, source_port: u16, destination_port: u16) -> Self {
        self.layer(Tcp::new(source_port, destination_port))
    }

    /// UDP.
    pub fn udp(self, source_port: u16, destination_port: u16) -> Self {
        self.layer(Udp {
            source_port,
            destination_port,
            ..Udp::default()
        })
    }

    /// SCTP's common header.
    pub fn sctp(self, source_port: u16, destination_port: u16) -> Self {
        self.layer(Sctp {
            source_port,
            destination_port,
            ..Sctp::default()
        })
    }

    /// ICMP of type `kind`.
    pub fn icmp(self, kind: u8, code: u8) -> Self {
        self.layer(Layer::Icmp(Icmp {
            kind,
            code,
            ..Icmp::default()
        }))
    }

    /// ICMPv6 of type `kind`.
    pub fn icmpv6(self, kind: u8, code: u8) -> Self {
        self.layer(Layer::Icmpv6(Icmp {
            kind,
            code,
            ..Icmp::default()
        }))
    }

    /// The GUE base header; put IP behind it.
    pub fn gue(self) -> Self {
        self.layer(GueHeader::default())
    }

    /// The bytes of an IP protocol by its number, also the body of a later fragment.
    pub fn raw(self, protocol: u8, bytes: impl Into<Vec<u8>>) -> Self {
        self.layer(Layer::Raw(protocol, bytes.into()))
    }

    /// Bytes that the layers before do not look into.
    pub fn payload(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.layer(Layer::Payload(bytes.into()))
    }

    /// Pads the frame with zeros to at least `bytes`, as Ethernet does to 60.
    pub fn pad(self, bytes: usize) -> Self {
        Self {
            pad_to: bytes,
            ..self
        }
    }

    /// Cuts the built frame to at most `bytes`, headers saying what they said.
    pub fn truncate(self, bytes: usize) -> Self {
        Self {
            cut_at: Some(bytes),
            ..self
        }
    }

    /// The bytes. Panics if a length does not fit its field and is not overridden.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, layer) in self.layers.iter().enumerate().rev() {
            bytes = layer.wrap(
                self.layers.get(index + 1),
                self.addresses_above(index),
                bytes,
            );
        }
        bytes.resize(bytes.len().max(self.pad_to), 0);
        bytes.truncate(self.cut_at.unwrap_or(usize::MAX));
        bytes
    }

    /// Source and destination of the pseudo-header for layer `index`.
    fn addresses_above(&self, index: usize) -> Option<(IpAddr, IpAddr)> {
        let mut routed = None;
        self.layers[..index]
            .iter()
            .rev()
            .find_map(|layer| match layer {
                Layer::Extension(header) if header.kind == Extension::ROUTING => {
                    routed = final_destination(&header.body);
                    None
                }
                Layer::Ipv4(ip) => Some((ip.source.into(), ip.destination.into())),
                Layer::Ipv6(ip) => {
                    Some((ip.source.into(), routed.unwrap_or(ip.destination).into()))
                }
                _ => None,
            })
    }
}

/// A layer of a [`Packet`].
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "each variant is named like the header it holds"
)]
pub enum Layer {
    Ether(Ether),
    Vlan(Vlan),
    Ipv4(Ipv4),
    Ipv6(Ipv6),
    Extension(Extension),
    Tcp(Tcp),
    Udp(Udp),
    Sctp(Sctp),
    Icmp(Icmp),
    Icmpv6(Icmp),
    Gue(GueHeader),
    /// The bytes of a protocol that has no struct here.
    Raw(u8, Vec<u8>),
    Payload(Vec<u8>),
}

macro_rules! layer_from {
    ($($layer:ident($header:ty)),*) => {$(
        impl From<$header> for Layer {
            fn from(header: $header) -> Self {
                Self::$layer(header)
            }
        }
    )*};
}

layer_from!(
    Ether(Ether),
    Vlan(Vlan),
    Ipv4(Ipv4),
    Ipv6(Ipv6),
    Extension(Extension)
);
layer_from!(Tcp(Tcp), Udp(Udp), Sctp(Sctp), Gue(GueHeader));

impl Layer {
    /// The protocol number that an IP header before this layer holds; 59 is "no next header".
    fn protocol(&self) -> u8 {
        match self {
            Self::Icmp(_) => 1,
            Self::Ipv4(_) => 4,
            Self::Tcp(_) => 6,
            Self::Udp(_) => 17,
            Self::Ipv6(_) => 41,
            Self::Icmpv6(_) => 58,
            Self::Sctp(_) => 132,
            Self::Ether(_) => 143,
            Self::Extension(header) => header.kind,
            Self::Raw(protocol, _) => *protocol,
            Self::Vlan(_) | Self::Gue(_) | Self::Payload(_) => 59,
        }
    }

    /// The EtherType that a frame holds before this layer; 0x88b5 is for local experiments (IEEE
    /// 802).
    fn ethertype(&self) -> u16 {
        match self {
            Self::Ipv4(_) => 0x0800,
            Self::Ipv6(_) => 0x86dd,
            Self::Vlan(tag) => tag.tpid,
            _ => 0x88b5,
        }
    }

    fn wrap(&self, next: Option<&Self>, ends: Option<(IpAddr, IpAddr)>, body: Vec<u8>) -> Vec<u8> {
        let protocol = next.map_or(59, Self::protocol);
        let ethertype = next.map_or(0x88b5, Self::ethertype);
        match self {
            Self::Ether(header) => {
                let ethertype = header.ethertype.unwrap_or(ethertype).to_be_bytes();
                [&header.destination[..], &header.source, &ethertype, &body].concat()
            }
            Self::Vlan(tag) => {
                let ethertype = tag.ethertype.unwrap_or(ethertype).to_be_bytes();
                [&tag.tci.to_be_bytes()[..], &ethertype, &body].concat()
            }
            Self::Ipv4(header) => header.wrap(protocol, body),
            Self::Ipv6(header) => header.wrap(protocol, body),
            Self::Extension(header) => header.wrap(protocol, body),
            Self::Tcp(header) => self.transport(header.header(), body, 16, header.checksum, ends),
            Self::Udp(header) => {
                let length = header.length.unwrap_or_else(|| length16(8 + body.len()));
                let words = [header.source_port, header.destination_port, length, 0];
                self.transport(
                    words.map(u16::to_be_bytes).concat(),
                    body,
                    6,
                    header.checksum,
                    ends,
                )
            }
            Self::Icmp(header) | Self::Icmpv6(header) => {
                let bytes = [&[header.kind, header.code, 0, 0][..], &header.rest].concat();
                let ends = ends.filter(|_| matches!(self, Self::Icmpv6(_)));
                self.transport(bytes, body, 2, header.checksum, ends)
            }
            Self::Sctp(header) => {
                let ports = [header.source_port, header.destination_port]
                    .map(u16::to_be_bytes)
                    .concat();
                let mut bytes = [&ports[..], &header.tag.to_be_bytes(), &[0; 4], &body].concat();
                let checksum = header.checksum.unwrap_or_else(|| checksum::crc32c(&bytes));
                bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
                bytes
            }
            Self::Gue(header) => {
                let bytes = [header.control, header.protocol.unwrap_or(protocol)];
                [&bytes[..], &header.flags.to_be_bytes(), &body].concat()
            }
            Self::Raw(_, bytes) | Self::Payload(bytes) => [&bytes[..], &body].concat(),
        }
    }

    /// Header and body with the Internet checksum at `offset`, over the pseudo-header too where
    /// there are `ends`.
    fn transport(
        &self,
        mut bytes: Vec<u8>,
        body: Vec<u8>,
        offset: usize,
        given: Option<u16>,
        ends: Option<(IpAddr, IpAddr)>,
    ) -> Vec<u8> {
        bytes.extend(body);
        let pseudo = ends.map(|(source, destination)| {
            checksum::pseudo_header(source, destination, self.protocol(), bytes.len())
        });
        let computed = checksum::internet(&[pseudo.as_deref().unwrap_or_default(), &bytes]);
        // a UDP checksum of 0 means "none", so that a computed 0 is sent as 0xffff
        let computed = if matches!(self, Self::Udp(_)) && computed == 0 {
            0xffff
        } else {
            computed
        };
        bytes[offset..offset + 2].copy_from_slice(&given.unwrap_or(computed).to_be_bytes());
        bytes
    }
}
