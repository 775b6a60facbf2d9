//! Input: a frame and its metadata from the kernel. Output: the [`Packet`] that filters are matched
//! against, or why there is none. Must not know: maps, filters.

mod frame;
mod parse;

use parse::is_extension;

use crate::abi::FlowKeys;

pub use crate::bits::mix;
pub use frame::{Bytes, Frame, Window};
pub use parse::{parse, parse_extensions, parse_ip, skip_tags};

/// EtherType of IPv4, IANA.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of a VLAN tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;

/// Bytes of an Ethernet header.
pub const ETHER_BYTES: u32 = 14;
pub(crate) const VLAN_BYTES: u32 = 4;
/// The VLAN's number in the tag control information (802.1Q).
pub const VLAN_MASK: u16 = 0x0fff;
/// Most VLAN tags that are read.
pub(crate) const MAX_TAGS: u32 = 3;
pub(crate) const IPV4_BYTES: u32 = 20;
pub(crate) const IPV6_BYTES: u32 = 40;
/// Bytes of a hop-by-hop header that holds nothing but the length of a jumbogram (RFC 2675).
pub const JUMBO_BYTES: u32 = 8;
/// The most bytes that are read at once.
pub const WINDOW_BYTES: usize = 40;

/// IP protocol numbers, IANA.
pub mod protocol {
    #![expect(missing_docs, reason = "the names are the registry's")]
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
    pub const UDP_LITE: u8 = 136;
}

/// Whether the protocol's header begins with a source and a destination port.
#[must_use]
#[inline(always)]
pub const fn has_ports(number: u8) -> bool {
    matches!(
        number,
        protocol::TCP | protocol::UDP | protocol::DCCP | protocol::SCTP | protocol::UDP_LITE
    )
}

/// An address as two `u64` in host byte order, most significant first; IPv4 in the upper half of
/// the first.
pub type Address = [u64; 2];

/// The fields that filters are matched against.
///
/// Small integers, no `bool`: the verifier forgets the range of values that are stored in less than
/// four bytes, so that the many paths through the parser lead to one state. No padding: a pointer
/// to it goes to functions that the verifier checks separately.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packet {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Offset of the IP header in the frame, bytes.
    pub offset: u16,
    /// Offset of the transport header in the frame, bytes.
    pub transport: u16,
    /// Length that the IP header gives, less the fixed header for IPv6, bytes; 0 if it gives none
    /// (superpackets over 64 KiB).
    pub length: u16,
    /// Host byte order; 0 if not `ported`.
    pub source_port: u16,
    /// Host byte order; 0 if not `ported`.
    pub destination_port: u16,
    /// 4 or 6.
    pub version: u8,
    /// IP protocol number, behind any IPv6 extension headers.
    pub protocol: u8,
    /// [`Packet::FIRST`] or [`Packet::LATER`] for a fragment, else 0.
    pub fragment: u8,
    /// Unknown fields: [`Packet::PORTS`], [`Packet::PROTOCOL`], [`Packet::SERVER_NAME`] and
    /// [`Packet::APPLICATION`], as bits.
    pub unknown: u8,
    /// Number of the outermost VLAN, 0 for none.
    pub vlan: u16,
    /// Of a fragment's datagram (RFC 791, RFC 8200 section 4.5).
    pub identification: u32,
    /// 1 if the packet has ports, and they are known.
    pub ported: u16,
    /// 1 if the packet begins without a link header, whatever else precedes the IP header.
    pub headerless: u16,
}

const _: () = assert!(size_of::<Packet>() == 56);

impl Packet {
    /// The first fragment of a datagram.
    pub const FIRST: u8 = 1;
    /// Another fragment: without ports, but for what is remembered of the first.
    pub const LATER: u8 = 2;

    /// It has ports, and they are unknown.
    pub const PORTS: u8 = 1;
    /// Its transport protocol is unknown, and so is whether that has ports.
    pub const PROTOCOL: u8 = 2;
    /// The server name of its flow is not known yet.
    pub const SERVER_NAME: u8 = 4;
    /// The application that it is for is not known yet.
    pub const APPLICATION: u8 = 8;
    /// What a flow has, and no packet by itself.
    pub const LEARNED: u8 = Self::SERVER_NAME | Self::APPLICATION;

    /// Whether it is a fragment or something of it is unknown, which hardly any packet is: one
    /// comparison for both.
    #[must_use]
    #[inline(always)]
    pub const fn is_odd(&self) -> bool {
        u16::from_ne_bytes([self.fragment, self.unknown]) != 0
    }

    /// Clears the ports, and with IPv6 the protocol, which later fragments do not carry either (RFC
    /// 8200 section 4.5). A packet of a protocol without ports still has none.
    #[inline(always)]
    pub fn forget_ports(&mut self) {
        (self.ported, self.source_port, self.destination_port) = (0, 0, 0);
        if self.version == 6 {
            self.unknown = Self::PORTS | Self::PROTOCOL;
        } else if has_ports(self.protocol) {
            self.unknown = Self::PORTS;
        }
    }

    /// Whether there are extension headers that have not been read.
    #[must_use]
    #[inline(always)]
    pub const fn is_extended(&self) -> bool {
        self.version == 6 && is_extension(self.protocol)
    }

    /// Length that the IP header gives, bytes; 0 if it gives none.
    #[must_use]
    #[inline(always)]
    pub const fn ip_bytes(&self) -> u32 {
        match self.length {
            // Behind a hop-by-hop header 0 stands for the length of a jumbogram (RFC 2675),
            // elsewhere for nothing.
            0 if self.version == 6
                && !self.is_extended()
                && self.transport - self.offset == IPV6_BYTES as u16 =>
            {
                IPV6_BYTES
            }
            0 => 0,
            length if self.version == 6 => length as u32 + IPV6_BYTES,
            length => length as u32,
        }
    }

    /// Whether an IPv6 superpacket of this many bytes is so long that its length is in a header of
    /// its own (RFC 2675), which the packets segmented from it do not have
    /// (`ipv6_hopopt_jumbo_remove`).
    #[must_use]
    #[inline(always)]
    pub const fn is_jumbo(&self, bytes: u32) -> bool {
        let headers = self.transport.wrapping_sub(self.offset) as u32;
        let is_long = self.version == 6 && self.length == 0 && bytes > IPV6_BYTES + u16::MAX as u32;
        is_long && !self.is_extended() && headers >= IPV6_BYTES + JUMBO_BYTES
    }

    /// Sum over the pseudo header of a transport packet of this many bytes (RFC 9293, RFC 768, RFC
    /// 8200 section 8.1), host byte order, not complemented.
    #[must_use]
    #[inline(always)]
    pub fn pseudo_header(&self, length: u32) -> u16 {
        let words = |half: u64| {
            (half >> 48) + (half >> 32 & 0xffff) + (half >> 16 & 0xffff) + (half & 0xffff)
        };
        let addresses = words(self.source[0]) + words(self.source[1]);
        let addresses = addresses + words(self.destination[0]) + words(self.destination[1]);
        let sum = addresses
            + u64::from(self.protocol)
            + u64::from(length >> 16)
            + u64::from(length & 0xffff);
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    /// A hash that is the same for both directions of a flow, and that cannot be computed without
    /// the keys: the hashes of any two flows are independent of each other and uniform (multilinear
    /// hashing, which is strongly universal: Carter and Wegman 1981; Lemire and Kaser 2014), so
    /// that flows which a sender has chosen are sampled like any others.
    #[must_use]
    #[inline(always)]
    pub fn flow_hash(&self, keys: &FlowKeys) -> u32 {
        let (source, destination) = (self.source, self.destination);
        let is_turned = if source[0] != destination[0] {
            source[0] > destination[0]
        } else if source[1] != destination[1] {
            source[1] > destination[1]
        } else {
            self.source_port > self.destination_port
        };
        let ((low, low_port), (high, high_port)) = if is_turned {
            (
                (destination, self.destination_port),
                (source, self.source_port),
            )
        } else {
            (
                (source, self.source_port),
                (destination, self.destination_port),
            )
        };
        let pair = |key: usize, word: u64| {
            keys[key]
                .wrapping_mul(word >> 32)
                .wrapping_add(keys[key + 1].wrapping_mul(word & 0xffff_ffff))
        };
        let addresses = pair(1, low[0]).wrapping_add(pair(3, low[1]));
        let addresses = addresses
            .wrapping_add(pair(5, high[0]))
            .wrapping_add(pair(7, high[1]));
        let ports = keys[9].wrapping_mul(u64::from(low_port) << 16 | u64::from(high_port));
        let protocol = keys[10].wrapping_mul(self.protocol.into());
        let sum = keys[0]
            .wrapping_add(addresses)
            .wrapping_add(ports)
            .wrapping_add(protocol);
        // one to one (MurmurHash3), so that an observer of some hashes cannot compute others
        let mut hash = (sum >> 32) as u32;
        hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
        hash ^ hash >> 16
    }
}
