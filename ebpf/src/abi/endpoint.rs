//! Endpoints.

use super::Drop;

/// Bytes of the largest outer header: IPv6, UDP, GUE.
pub const OUTER_MAX_BYTES: usize = 52;

/// A copy of an element of `ENDPOINTS`: how to reach an endpoint.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Endpoint {
    /// Most bits per second of outer IP packets, 0 for any amount.
    pub limit_bits: u64,
    /// Most packets per second, 0 for any number.
    pub limit_packets: u64,
    /// Nothing is sent while the output interface's queue holds more than this, bytes.
    pub backlog: u64,
    /// 0 if copies can be sent, otherwise the [`Drop`] that each of them is counted as. With
    /// [`Drop::NoNeighbour`] the other fields are still filled in: one copy a second and CPU is
    /// sent, so that the kernel resolves the next hop.
    pub state: u32,
    /// Index of the output interface.
    pub interface: u32,
    /// Largest outer IP packet, bytes.
    pub mtu: u32,
    /// Changes whenever `encap` was attached again; see
    /// [`EndpointStats::tripped`](super::EndpointStats::tripped).
    pub breaker: u32,
    /// Bytes of the outer header: 32 or 52.
    pub outer_bytes: u32,
    /// Bytes of the output interface's link header: 14, or 0 for one that has none.
    pub link_bytes: u32,
    /// 1 if `link` is filled in; with 0 the kernel finds the neighbour.
    pub link_known: u32,
    /// Treatment of a packet that exceeds `mtu` after encapsulation: an [`Oversize`].
    pub oversize: u32,
    /// Bytes of a packet at most, from its IP header on; 0 for all of it.
    pub snap: u32,
    /// One of this many flows is sent; 1 for all.
    pub sample: u32,
    /// The Ethernet header.
    pub link: [u8; 16],
    /// Outer header, network byte order; lengths, identification, checksum, flow label and source
    /// port are zero.
    pub outer: [u8; OUTER_MAX_BYTES],
    /// Index of the interface that accepts packets to be segmented, 0 if there is none;
    /// [`Endpoint::SEGMENTER_REFUSED`].
    pub segmenter: u32,
    /// What is the same in the UDP checksum of all copies that have one: a sum of words in network
    /// byte order, of the pseudo header without the length, and of the destination port.
    pub checksum: u32,
    /// 1 if copies need a route of their own, since the output would write into that of the packet
    /// they are made from.
    pub own_route: u32,
    /// 1 if each copy has a UDP checksum; with 0 only a copy in fragments, since their
    /// identification in IPv4 has only 16 bits.
    pub summed: u32,
    /// Zero.
    pub reserved: u32,
}

impl Endpoint {
    /// Whether the path is known, even if the next hop does not answer.
    #[must_use]
    pub const fn has_way(&self) -> bool {
        self.interface != 0
            && (self.state == Drop::None as u32 || self.state == Drop::NoNeighbour as u32)
    }

    /// Whether the next hop's hardware address is needed and unknown.
    #[must_use]
    pub const fn is_unresolved(&self) -> bool {
        self.link_bytes != 0 && self.link_known == 0
    }

    /// Whether the kernel's neighbour code is to send copies.
    #[must_use]
    #[inline(always)]
    pub const fn is_routed(&self) -> bool {
        self.is_unresolved() || self.own_route != 0
    }

    /// [`Endpoint::segmenter`] where a segmenter is needed and the kernel has rejected it. No
    /// interface has that index.
    pub const SEGMENTER_REFUSED: u32 = u32::MAX;

    /// Whether there is a segmenter to send to.
    #[must_use]
    #[inline(always)]
    pub const fn has_segmenter(&self) -> bool {
        self.segmenter != 0 && self.segmenter != Self::SEGMENTER_REFUSED
    }

    /// Whether there is a limit.
    #[must_use]
    #[inline(always)]
    pub const fn is_limited(&self) -> bool {
        self.limit_bits | self.limit_packets != 0
    }
}

/// What becomes of a packet that is too long.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversize {
    /// It is sent in several outer IP fragments.
    Fragment,
    /// The copy is truncated.
    Truncate,
    /// It is not sent.
    Drop,
}

/// The two copies of an endpoint.
pub type EndpointPair = [Endpoint; 2];
