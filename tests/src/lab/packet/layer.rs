//! One struct for each header: every field can be set, and what is `None` is worked out from the
//! frame around it.

use super::checksum;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A MAC address.
pub type Mac = [u8; 6];

/// Ethernet II.
#[derive(Clone, Debug)]
pub struct Ether {
    /// Source address.
    pub source: Mac,
    /// Destination address.
    pub destination: Mac,
    /// EtherType; by default that of the next layer.
    pub ethertype: Option<u16>,
}

impl Default for Ether {
    fn default() -> Self {
        Self {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            ethertype: None,
        }
    }
}

/// A VLAN tag in the frame.
#[derive(Clone, Debug)]
pub struct Vlan {
    /// EtherType of the tag itself: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub tpid: u16,
    /// Tag control information: priority (3 bits), drop eligible (1 bit), VLAN identifier (12
    /// bits).
    pub tci: u16,
    /// EtherType of what follows; by default that of the next layer.
    pub ethertype: Option<u16>,
}

/// IPv4 (RFC 791).
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// 4.
    pub version: u8,
    /// Header length in 4-byte words; by default what the options need.
    pub ihl: Option<u8>,
    /// Differentiated services code point, 6 bits.
    pub dscp: u8,
    /// Explicit congestion notification, 2 bits.
    pub ecn: u8,
    /// Total length in bytes; by default the true one.
    pub total_length: Option<u16>,
    /// Identification.
    pub id: u16,
    /// The three flag bits: [`Ipv4::DF`], [`Ipv4::MF`].
    pub flags: u8,
    /// Fragment offset in units of 8 bytes.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol; by default that of the next layer.
    pub protocol: Option<u8>,
    /// Header checksum; by default the right one.
    pub checksum: Option<u16>,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Options, padded to a multiple of 4 bytes with zeros (end of options).
    pub options: Vec<u8>,
}

impl Ipv4 {
    /// "Don't fragment".
    pub const DF: u8 = 0b010;
    /// "More fragments".
    pub const MF: u8 = 0b001;

    /// A header as a host would send it: TTL 64, DF set. Panics if an address is not one.
    pub fn new(source: impl ToString, destination: impl ToString) -> Self {
        Self {
            version: 4,
            ihl: None,
            dscp: 0,
            ecn: 0,
            total_length: None,
            id: 0,
            flags: Self::DF,
            fragment_offset: 0,
            ttl: 64,
            protocol: None,
            checksum: None,
            source: parse(source),
            destination: parse(destination),
            options: Vec::new(),
        }
    }

    pub(super) fn wrap(&self, protocol: u8, body: Vec<u8>) -> Vec<u8> {
        let options = self.options.len().next_multiple_of(4);
        let ihl = self.ihl.unwrap_or((5 + options / 4) as u8);
        let total_length = self
            .total_length
            .unwrap_or_else(|| length16(20 + options + body.len()));
        let mut bytes = vec![self.version << 4 | ihl & 0xf, self.dscp << 2 | self.ecn];
        bytes.extend(total_length.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend((u16::from(self.flags) << 13 | self.fragment_offset).to_be_bytes());
        bytes.extend([self.ttl, self.protocol.unwrap_or(protocol), 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.options);
        bytes.resize(20 + options, 0);
        let checksum = self
            .checksum
            .unwrap_or_else(|| checksum::internet(&[&bytes]));
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes.extend(body);
        bytes
    }
}

/// IPv6 (RFC 8200).
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// 6.
    pub version: u8,
    /// Differentiated services code point, 6 bits.
    pub dscp: u8,
    /// Explicit congestion notification, 2 bits.
    pub ecn: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Payload length in bytes; by default the true one.
    pub payload_length: Option<u16>,
    /// Next header; by default that of the next layer.
    pub next_header: Option<u8>,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6 {
    /// A header as a host would send it: hop limit 64. Panics if an address is not one.
    pub fn new(source: impl ToString, destination: impl ToString) -> Self {
        Self {
            version: 6,
            dscp: 0,
            ecn: 0,
            flow_label: 0,
            payload_length: None,
            next_header: None,
            hop_limit: 64,
            source: parse(source),
            destination: parse(destination),
        }
    }

    pub(super) fn wrap(&self, protocol: u8, body: Vec<u8>) -> Vec<u8> {
        let first = u32::from(self.version) << 28
            | u32::from(self.dscp) << 22
            | u32::from(self.ecn) << 20
            | self.flow_label & 0xf_ffff;
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend(
            self.payload_length
                .unwrap_or_else(|| length16(body.len()))
                .to_be_bytes(),
        );
        bytes.extend([self.next_header.unwrap_or(protocol), self.hop_limit]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(body);
        bytes
    }
}

/// TCP (RFC 9293).
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Header length in 4-byte words; by default what the options need.
    pub data_offset: Option<u8>,
    /// The flag byte, CWR to FIN; by default none. [`Tcp::new`] sets ACK and PSH.
    pub flags: u8,
    /// Receive window.
    pub window: u16,
    /// Checksum; by default the right one.
    pub checksum: Option<u16>,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, padded to a multiple of 4 bytes with zeros (end of options).
    pub options: Vec<u8>,
}

impl Tcp {
    /// The sender is done.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Resets the connection.
    pub const RST: u8 = 0x04;
    /// The receiver is to hand over what it has.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;

    /// A data segment: ACK and PSH, a window of 65,535.
    pub fn new(source_port: u16, destination_port: u16) -> Self {
        Self {
            source_port,
            destination_port,
            flags: Self::ACK | Self::PSH,
            window: 0xffff,
            ..Self::default()
        }
    }

    pub(super) fn header(&self) -> Vec<u8> {
        let options = self.options.len().next_multiple_of(4);
        let mut bytes = [
            self.source_port.to_be_bytes(),
            self.destination_port.to_be_bytes(),
        ]
        .concat();
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([
            self.data_offset.unwrap_or((5 + options / 4) as u8) << 4,
            self.flags,
        ]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(&self.options);
        bytes.resize(20 + options, 0);
        bytes
    }
}

/// UDP (RFC 768).
#[derive(Clone, Debug, Default)]
pub struct Udp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Length in bytes with the header; by default the true one.
    pub length: Option<u16>,
    /// Checksum; by default the right one. `Some(0)` is "none".
    pub checksum: Option<u16>,
}

/// SCTP's common header (RFC 9260); chunks are payload.
#[derive(Clone, Debug, Default)]
pub struct Sctp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Verification tag.
    pub tag: u32,
    /// CRC32c as a number; by default the right one.
    pub checksum: Option<u32>,
}

/// The first 8 bytes of ICMP (RFC 792) and ICMPv6 (RFC 4443).
#[derive(Clone, Debug, Default)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum; by default the right one.
    pub checksum: Option<u16>,
    /// The second word: identifier and sequence number of an echo, the MTU of "too big".
    pub rest: [u8; 4],
}

/// The base header of Generic UDP Encapsulation, variant 0 (draft-ietf-intarea-gue-09); a control
/// bit, optional fields and a length to match can be set without being meaningful.
#[derive(Clone, Debug, Default)]
pub struct GueHeader {
    /// The first byte: variant (2 bits), control (1 bit), length of the optional fields in 4-byte
    /// words (5 bits).
    pub control: u8,
    /// Protocol; by default that of the next layer.
    pub protocol: Option<u8>,
    /// Flags.
    pub flags: u16,
}

/// Parses an address that a test wrote down.
pub(super) fn parse<T: std::str::FromStr>(text: impl ToString) -> T {
    let text = text.to_string();
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is not an address of this family"))
}

/// A length as its header field holds it.
pub(super) fn length16(length: usize) -> u16 {
    u16::try_from(length).expect("a packet of at most 65,535 bytes, or the length given")
}
