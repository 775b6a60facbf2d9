//! The layout of every table that the daemon writes and the programs read, and of every counter
//! that the programs write and the daemon reads.
//!
//! Rules: host byte order unless a field says network; no implicit padding (asserted below); the
//! daemon and the kernel never write the same map; fields that a packet must see change together
//! exist twice, in bank `epoch % 2` and in the inactive bank.

mod application;
pub mod cb;
mod classes;
mod counters;
mod cpu;
mod daemon;
mod direct;
mod endpoint;
mod explained;
mod flows;
mod health;
mod initials;
mod interfaces;
mod labels;
mod listed;
mod peer;
mod relay;
mod server_name;
mod trie;

/// Version of this layout: raise it by one with every change, so that a daemon leaves the maps of
/// another version alone. The first 16 bytes of [`Control`] never change.
pub const LAYOUT: u32 = 13;

pub use application::*;
pub use classes::{
    ANY_CLASS, Action, Block, Class, EMPTY_BLOCK, EMPTY_CLASS, Row, Slot, VLANS, Values,
};
pub use counters::*;
pub use cpu::{Cpu, LEVELS, Level, Wrapped};
pub use daemon::{Daemon, HASH_BYTES, MAX_PATTERNS, PATH_BYTES, VERSION_BYTES};
pub use direct::*;
pub use endpoint::{Endpoint, EndpointPair, OUTER_MAX_BYTES, Oversize};
pub use explained::Explained;
pub use flows::*;
pub use health::Health;
pub use initials::{Answer, INITIAL_MIN_BYTES, INITIAL_REST_BYTES, INITIALS_BYTES, Initial};
pub use interfaces::*;
pub use labels::{History, Hook, NAME_BYTES, Name};
pub use listed::{Listed, ORDER_BYTES, PATTERN_BYTES};
pub use peer::{MAX_PEERS, Peer};
pub use relay::Relay;
pub use server_name::{
    FLOW_KEYS_OF_NAMES, FLOW_WORDS, NAME_PROBES, NameCell, NameKeys, NameText, SERVER_NAME_BYTES,
};
pub use trie::{Node, Root, Skip, TrieEntry};

/// Filters in a file, at most.
pub const MAX_FILTERS: usize = 16_384;
/// Endpoints in a file, at most: an endpoint is one bit of a `u64`.
pub const MAX_ENDPOINTS: usize = 64;
/// Places for what is remembered of first fragments, two for each.
pub const MAX_FIRSTS: usize = 65_536;
/// Most transmit queues and interfaces that one check of an output interface visits.
pub const MAX_LOOKS: usize = 512;

/// Slots in a block. A slot is the bit of a filter (a bidirectional one has two).
pub const BLOCK_SLOTS: usize = 512;
/// `u64` words in a block.
pub const BLOCK_WORDS: usize = BLOCK_SLOTS / 64;
/// Blocks: one bit each in a summary.
pub const BLOCKS: usize = 64;
/// Slots in all blocks: room for [`MAX_FILTERS`] bidirectional filters.
pub const MAX_SLOTS: usize = BLOCKS * BLOCK_SLOTS;

/// The fields whose values select classes, in the order of every array by field.
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
    /// Name of the server, which the client gives in the first payload of a flow.
    ServerName,
    /// Application of this host that has sent the packet or is to receive it: the cgroup of its
    /// socket, or one above.
    Application,
}

/// Number of [`Field`]s.
pub const FIELDS: usize = 8;

impl Field {
    /// All of them, in order.
    pub const ALL: [Self; FIELDS] = [
        Self::Protocol,
        Self::SourcePort,
        Self::DestinationPort,
        Self::Source,
        Self::Destination,
        Self::Vlan,
        Self::ServerName,
        Self::Application,
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
    /// 1 if the file's master switch (`enabled`) is off, as each row also has it; for `status`, no
    /// program reads it.
    pub off: u64,
    /// 1 if an unknown field matches no filter that gives it (`unparsed = "skip"`); 0 if it matches
    /// each.
    pub skips_unparsed: u64,
    /// How long the copies of one packet may take, ns.
    pub budget_ns: u64,
    /// Cells of `NAMES`, less one; a power of two less one.
    pub names_mask: u64,
    /// Cells of `CGROUPS`, less one; a power of two less one.
    pub cgroups_mask: u64,
    /// Bit b is set if filters in block b give a server name or an application.
    pub learned: u64,
    /// Other mirrors, whose copies are not copied; the rest are empty.
    pub peers: [Peer; MAX_PEERS],
    /// What the hash of a flow is made with.
    pub flow_keys: FlowKeys,
}

/// Keys of [`Packet::flow_hash`](crate::packet::Packet::flow_hash): one, and one for each 32 bits
/// of two addresses, for the ports and for the protocol.
pub const FLOW_KEYS: usize = 11;
/// Random numbers that senders do not know.
pub type FlowKeys = [u64; FLOW_KEYS];

/// The value of `skb->tc_index` of an encapsulated copy: it stays through the tunnels and stacked
/// interfaces of this host, where `skb->cb` is lost. 16 bits, never 0.
#[must_use]
#[inline(always)]
pub const fn tc_index_tag(secret: u64) -> u32 {
    (secret >> 24) as u32 & 0xffff | 0x8000
}

const _: () = {
    assert!(
        size_of::<Bank>()
            == FIELDS * 8
                + 256 * 8
                + 4 * size_of::<Skip>()
                + size_of::<Interfaces>()
                + MAX_HOOKS * 12
                + 48
                + MAX_PEERS * size_of::<Peer>()
                + FLOW_KEYS * 8
    );
    assert!(size_of::<Control>() == 16 + 2 * size_of::<Bank>());
    assert!(size_of::<Row>() == BLOCKS * BLOCK_WORDS * 8);
    assert!(
        size_of::<Values>() == 4 * (256 + 2 + 2 * 65_536 + 2 + VLANS + 4) + size_of::<NameKeys>()
    );
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
            TrieEntry::Class(0),
            TrieEntry::Class(70_000),
            TrieEntry::Node {
                byte: 15,
                id: TrieEntry::ID_MASK,
            },
            TrieEntry::Node { byte: 0, id: 0 },
            TrieEntry::Skip(0),
            TrieEntry::Skip(TrieEntry::ID_MASK),
        ] {
            assert_eq!(TrieEntry::unpack(entry.pack()), entry);
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
