//! The layout of every table that the daemon writes and the programs read, and of every counter the
//! other way round.
//!
//! Law: host byte order unless a field says network; no implicit padding (asserted below); what the
//! daemon writes and what the kernel writes never share a map; whatever a packet must see change at
//! once exists twice, in copy `epoch % 2` and in the inactive copy.

mod counters;
mod cpu;
mod daemon;
mod direct;
mod explained;
mod health;
mod interfaces;
mod labels;
mod listed;
mod peer;
mod relay;

/// Version of all that is laid out here: to be raised by one whenever anything in it changes, so
/// that a daemon leaves the maps of another version alone. The first 16 bytes of [`Control`] stay
/// what they are for ever.
pub const LAYOUT: u32 = 11;

pub use counters::*;
pub use cpu::{Cpu, LEVELS, Level, Wrapped};
pub use daemon::{Daemon, HASH_BYTES, PATH_BYTES, VERSION_BYTES};
pub use direct::*;
pub use explained::Explained;
pub use health::Health;
pub use interfaces::*;
pub use labels::{History, Hook, NAME_BYTES, Name};
pub use listed::{Listed, ORDER_BYTES, PATTERN_BYTES};
pub use peer::{MAX_PEERS, Peer};
pub use relay::Relay;

/// Filters in a file, at most.
pub const MAX_FILTERS: usize = 16_384;
/// Endpoints in a file, at most: an endpoint is one bit of a `u64`.
pub const MAX_ENDPOINTS: usize = 64;
/// Places for what is remembered of first fragments, two for each.
pub const MAX_FIRSTS: usize = 65_536;
/// Transmit queues and interfaces that are walked over for one look at what an output interface
/// holds, at most.
pub const MAX_LOOKS: usize = 512;

/// Slots in a block. A slot is the bit that stands for a filter (for each way round of a
/// bidirectional one).
pub const BLOCK_SLOTS: usize = 512;
/// `u64` words in a block.
pub const BLOCK_WORDS: usize = BLOCK_SLOTS / 64;
/// Blocks: one bit each in a summary.
pub const BLOCKS: usize = 64;
/// Slots in all blocks: room for [`MAX_FILTERS`] bidirectional filters.
pub const MAX_SLOTS: usize = BLOCKS * BLOCK_SLOTS;

/// The fields whose values select classes, in the order of every per-field array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// IP protocol number.
    Protocol,
    /// TCP, UDP, SCTP, DCCP or UDP-Lite source port.
    SourcePort,
    /// Destination port.
    DestinationPort,
    /// IPv4 or IPv6 source address.
    Source,
    /// Destination address.
    Destination,
    /// Outermost VLAN.
    Vlan,
}

/// Number of [`Field`]s.
pub const FIELDS: usize = 6;

impl Field {
    /// All of them, in order.
    pub const ALL: [Self; FIELDS] = [
        Self::Protocol,
        Self::SourcePort,
        Self::DestinationPort,
        Self::Source,
        Self::Destination,
        Self::Vlan,
    ];
}

/// The one element of `CONTROL`: which copy counts, and what hangs on it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Control {
    /// Bit 0 selects the copy of everything that exists twice. Storing it is the commit.
    pub epoch: u32,
    /// Number of the maps' generation: `encap` takes the clones of its own.
    pub generation: u32,
    /// Marks a copy in `skb->cb`; random, never zero, the same for all generations below a pin
    /// path.
    pub secret: u64,
    /// The two copies.
    pub banks: [Bank; 2],
}

/// One copy of what a commit switches as a whole.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Bank {
    /// Per [`Field`]: bit b is set if no filter in block b gives the field, so that its class does
    /// not matter there.
    pub omitted: [u64; FIELDS],
    /// By IP protocol number: bit b is set if block b has a filter for it, or omits the field.
    pub protocols: [u64; 256],
    /// By [`Root`]: the first step of an address look-up.
    pub roots: [Skip; 4],
    /// Which interface has which place.
    pub interfaces: Interfaces,
    /// Per hook: bit b is set if block b has an active slot there.
    pub hooks: [u64; MAX_HOOKS],
    /// Per hook: its row in `ROWS`.
    pub rows: [u32; MAX_HOOKS],
    /// 1 if the file's master switch (`enabled`) is off, which every row says, too; for `status`,
    /// no program reads it.
    pub off: u64,
    /// 1 if what is unknown of a packet matches no filter that asks for it (`unparsed = "skip"`); 0
    /// if it matches each.
    pub skips_unparsed: u64,
    /// How long the copies of one packet may take, ns.
    pub budget_ns: u64,
    /// Other mirrors, whose copies are not copied: as many as there are, then none.
    pub peers: [Peer; MAX_PEERS],
    /// What the hash of a flow is made with.
    pub flow_keys: FlowKeys,
}

/// Keys of [`Packet::flow_hash`](crate::packet::Packet::flow_hash): one, and one for each 32 bits
/// of two addresses, for the ports and for the protocol.
pub const FLOW_KEYS: usize = 11;
/// Random numbers that no sender knows.
pub type FlowKeys = [u64; FLOW_KEYS];

/// An element of `ROWS`: the slots that are active on a hook.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Row {
    /// By number of the block.
    pub blocks: [Block; BLOCKS],
}

/// An element of `BLOCKS`: one bit for each of 512 slots.
pub type Block = [u64; BLOCK_WORDS];

/// The one element of `VALUES`: the class of each value of the small fields.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Values {
    /// By IP protocol number.
    pub protocol: [u32; 256],
    /// The class of a packet of which nobody can tell the protocol: what asks for none.
    pub no_protocol: u32,
    /// Zero.
    pub reserved: u32,
    /// By source port.
    pub source_port: [u32; 65_536],
    /// By destination port.
    pub destination_port: [u32; 65_536],
    /// Source and destination port class of a packet that has no ports.
    pub no_port: [u32; 2],
    /// By the number of the outermost VLAN; 0 is for packets without a tag, or with one for
    /// priority alone (802.1Q).
    pub vlan: [u32; VLANS],
}

/// VLAN numbers: 12 bits.
pub const VLANS: usize = 4096;

/// Where an address look-up begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// IPv4 source address.
    Source4,
    /// IPv6 source address.
    Source6,
    /// IPv4 destination address.
    Destination4,
    /// IPv6 destination address.
    Destination6,
}

impl Root {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [
        Self::Source4,
        Self::Source6,
        Self::Destination4,
        Self::Destination6,
    ];
}

/// A trie entry packed into a `u32`, so that one store switches it:
/// a class (bit 31 clear), a node (bits 31-30 = 10) or a skip (11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The look-up ends with this class.
    Class(u32),
    /// Go on in `NODES[id]` with byte `byte` of the address.
    Node {
        /// Byte of the address, counted from the most significant.
        byte: u8,
        /// Index into `NODES`.
        id: u32,
    },
    /// Go on in `SKIPS[id]`.
    Skip(u32),
}

impl Entry {
    /// Bit that tells a node or skip from a class.
    pub const INNER: u32 = 1 << 31;
    /// Bit that tells a skip from a node.
    pub const SKIP: u32 = 1 << 30;
    /// Position of a node's byte number.
    pub const BYTE_SHIFT: u32 = 26;
    /// Bits of an index.
    pub const ID_MASK: u32 = (1 << Self::BYTE_SHIFT) - 1;

    /// The packed form.
    #[must_use]
    pub const fn pack(self) -> u32 {
        match self {
            Self::Class(id) => id,
            Self::Node { byte, id } => Self::INNER | (byte as u32) << Self::BYTE_SHIFT | id,
            Self::Skip(id) => Self::INNER | Self::SKIP | id,
        }
    }

    /// The inverse of [`Entry::pack`].
    #[must_use]
    pub const fn unpack(raw: u32) -> Self {
        if raw & Self::INNER == 0 {
            Self::Class(raw)
        } else if raw & Self::SKIP != 0 {
            Self::Skip(raw & Self::ID_MASK)
        } else {
            Self::Node {
                byte: (raw >> Self::BYTE_SHIFT & 15) as u8,
                id: raw & Self::ID_MASK,
            }
        }
    }
}

/// An element of `NODES`: the next [`Entry`] for each value of one address byte.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Node {
    /// Packed entries.
    pub child: [u32; 256],
}

/// An element of `SKIPS`: one comparison in place of a chain of nodes. An address is two `u64` in
/// host byte order, the first with the most significant bytes; IPv4 fills the upper half of the
/// first.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Skip {
    /// The bits that the address must have.
    pub expect: [u64; 2],
    /// The bits that are compared.
    pub mask: [u64; 2],
    /// Packed entry if they are equal.
    pub hit: u32,
    /// Packed entry if not.
    pub miss: u32,
}

impl Skip {
    /// Compares nothing: the look-up goes on with `entry`.
    #[must_use]
    pub const fn to(entry: Entry) -> Self {
        Self {
            expect: [0; 2],
            mask: [0; 2],
            hit: entry.pack(),
            miss: entry.pack(),
        }
    }
}

/// Id of the class without slots.
pub const EMPTY_CLASS: u32 = 0;
/// In place of a class: the set of all slots, for a field that is unknown. No table holds it.
pub const ANY_CLASS: u32 = u32::MAX;

/// Id of the block without slots.
pub const EMPTY_BLOCK: u32 = 0;

/// An element of `CLASSES`: a set of slots. `SUMMARIES` has a word for each: bit b is set if the
/// set has slots in block b.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Class {
    /// What it holds of each block, by index into `BLOCKS`; classes that hold the same of a block
    /// share it.
    pub blocks: [u32; BLOCKS],
}

/// An element of `SLOTS`: what a match does.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Slot {
    /// The two copies.
    pub action: [Action; 2],
    /// Index into `FILTERS` and `FILTER_STATS`.
    pub filter: u32,
    /// [`Slot::USED`], [`Slot::REVERSE`].
    pub flags: u32,
}

impl Slot {
    /// The slot stands for something.
    pub const USED: u32 = 1;
    /// Its filter has another slot (bidirectional): it counts a packet once all the same.
    pub const REVERSE: u32 = 2;
}

/// Endpoints as bits, by their index in `ENDPOINTS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Action {
    /// Endpoints that get a copy.
    pub include: u64,
    /// Endpoints that get none, whatever other filters say.
    pub exclude: u64,
}

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
    /// 0 if copies can be sent, else the [`Drop`] that each of them is counted as. With
    /// [`Drop::NoNeighbour`] the rest is filled in all the same: one copy a second and CPU goes, so
    /// that the kernel looks for the next hop.
    pub state: u32,
    /// Index of the output interface.
    pub interface: u32,
    /// Largest outer IP packet, bytes.
    pub mtu: u32,
    /// Changes whenever `encap` was attached again; see [`EndpointStats::tripped`].
    pub breaker: u32,
    /// Bytes of the outer header: 32 or 52.
    pub outer_bytes: u32,
    /// Bytes of the output interface's link header: 14, or 0 for one that has none.
    pub link_bytes: u32,
    /// 1 if `link` is filled in; with 0 the kernel finds the neighbour.
    pub link_known: u32,
    /// What becomes of a packet that is longer than `mtu` once wrapped: an [`Oversize`].
    pub oversize: u32,
    /// Bytes of a packet at most, from its IP header on; 0 for all of it.
    pub snap: u32,
    /// Of so many flows one is sent; 1 for all.
    pub sample: u32,
    /// The Ethernet header.
    pub link: [u8; 16],
    /// Outer header, network byte order; lengths, identification, checksum, flow label and source
    /// port are zero.
    pub outer: [u8; OUTER_MAX_BYTES],
    /// Index of the interface that takes what must be cut into packets first, 0 if there is none;
    /// [`Endpoint::SEGMENTER_REFUSED`].
    pub segmenter: u32,
    /// What is the same in the UDP checksum of all copies that have one: a sum of words in network
    /// byte order, of the pseudo header without the length, and of the destination port.
    pub checksum: u32,
    /// 1 if copies need a route of their own, since the output would write into that of the packet
    /// they are made from.
    pub own_route: u32,
    /// 1 if each copy has a UDP checksum; with 0 only one that is sent in fragments, which could
    /// not be told from others' otherwise: the identification of IPv4 has 16 bits.
    pub summed: u32,
    /// Zero.
    pub reserved: u32,
}

impl Endpoint {
    /// Whether it is known how to get there, be it that the next hop does not answer.
    #[must_use]
    pub const fn has_way(&self) -> bool {
        self.interface != 0
            && (self.state == Drop::None as u32 || self.state == Drop::NoNeighbour as u32)
    }

    /// Whether the next hop's hardware address is needed and not known.
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

    /// [`Endpoint::segmenter`] where one is wanted and the kernel has refused to make it. No
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
    /// Its end is cut off.
    Truncate,
    /// It is not sent.
    Drop,
}

/// The two copies of an endpoint.
pub type EndpointPair = [Endpoint; 2];

/// What `skb->tc_index` of a wrapped copy holds: it goes with it through the tunnels and stacked
/// interfaces of this host, where `skb->cb` is lost. 16 bits, never 0.
#[must_use]
#[inline(always)]
pub const fn tc_index_tag(secret: u64) -> u32 {
    (secret >> 24) as u32 & 0xffff | 0x8000
}

/// Layout of a copy's `skb->cb` between `mirror` and `encap`.
pub mod cb {
    /// Words 0 and 1: the secret, low word first.
    pub const SECRET: usize = 0;
    /// Word 2: the endpoint (bits 0-7), which copy of it (bit 8), flags.
    pub const ENDPOINT: usize = 2;
    /// Word 3: hash of the flow.
    pub const FLOW: usize = 3;
    /// Word 4: length of the IP packet in bytes, 0 for a superpacket.
    pub const LENGTH: usize = 4;

    /// Bit of word 2: index of the endpoint's copy.
    pub const BANK_SHIFT: u32 = 8;
    /// Flag of word 2: segments keep their size.
    pub const FIXED: u32 = 1 << 9;
    /// Flag of word 2: the kernel finds route and neighbour.
    pub const PROBE: u32 = 1 << 10;
    /// Flag of word 2: the inner packet is IPv6.
    pub const IPV6: u32 = 1 << 11;
    /// Flag of word 2: already wrapped.
    pub const DONE: u32 = 1 << 12;
    /// Flag of word 2: a part of the packet, as [`Cpu`](super::Cpu) says.
    pub const SLICE: u32 = 1 << 13;
    /// Flag of word 2: without a link header, on the egress of the interface that the packet
    /// passes.
    pub const HEADERLESS: u32 = 1 << 14;
    /// Flag of word 2: the output interface's queue is to be looked at.
    pub const LOOK: u32 = 1 << 15;
    /// Word 2 from here on: the low bits of the generation.
    pub const GENERATION_SHIFT: u32 = 16;
}

const _: () = {
    assert!(
        size_of::<Bank>()
            == FIELDS * 8
                + 256 * 8
                + 4 * size_of::<Skip>()
                + size_of::<Interfaces>()
                + MAX_HOOKS * 12
                + 24
                + MAX_PEERS * size_of::<Peer>()
                + FLOW_KEYS * 8
    );
    assert!(size_of::<Control>() == 16 + 2 * size_of::<Bank>());
    assert!(size_of::<Row>() == BLOCKS * BLOCK_WORDS * 8);
    assert!(size_of::<Values>() == 4 * (256 + 2 + 2 * 65_536 + 2 + VLANS));
    assert!(size_of::<Skip>() == 40);
    assert!(size_of::<Class>() == 4 * BLOCKS);
    assert!(size_of::<Slot>() == 40);
    assert!(size_of::<Endpoint>() == 24 + 40 + 16 + OUTER_MAX_BYTES + 20);
    assert!(MAX_SLOTS == 2 * MAX_FILTERS);
};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn entries_survive_packing() {
        for entry in [
            Entry::Class(0),
            Entry::Class(70_000),
            Entry::Node {
                byte: 15,
                id: Entry::ID_MASK,
            },
            Entry::Node { byte: 0, id: 0 },
            Entry::Skip(0),
            Entry::Skip(Entry::ID_MASK),
        ] {
            assert_eq!(Entry::unpack(entry.pack()), entry);
        }
    }

    #[test]
    fn names_survive_and_long_ones_are_refused() {
        assert_eq!(Name::new("ids").unwrap().text(), Some("ids"));
        let longest = "x".repeat(NAME_BYTES);
        assert_eq!(Name::new(&longest).unwrap().text(), Some(longest.as_str()));
        assert!(Name::new(&"x".repeat(NAME_BYTES + 1)).is_none());
        assert_eq!(Name::new("").unwrap().text(), None);
    }
}
