//! What the programs write: counters, and what passes between the two programs. All per CPU; the
//! sum is what counts.

use crate::flow::Undecided;

/// Packets on the wire and their bytes: a superpacket counts as the segments it becomes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

impl Count {
    /// Adds packets and bytes.
    #[inline(always)]
    pub fn add(&mut self, packets: u32, bytes: u32) {
        self.packets += u64::from(packets);
        self.bytes += u64::from(bytes);
    }
}

/// Per CPU, by index in `FILTERS`: matches.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct FilterStats {
    /// What matched.
    pub matched: Count,
    /// [`Cpu::serial`](super::Cpu::serial) of the last packet that was counted for a filter with
    /// two slots.
    pub serial: u64,
}

/// Per CPU, by index in `ENDPOINTS`. Every match is in `sent` or in one of `drops`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct EndpointStats {
    /// Copies that the output interface took.
    pub sent: Count,
    /// Packets among them that were truncated.
    pub truncated: u64,
    /// Packets among them that were sent in several outer fragments.
    pub fragmented: u64,
    /// Packets by [`Drop`].
    pub drops: [u64; Drop::COUNT],
    /// Time that this CPU has drawn from the endpoint's [`Bucket`] and not used yet, ns.
    pub credit_ns: u64,
    /// When a copy last went to a next hop that does not answer, ns of `CLOCK_MONOTONIC_COARSE`.
    pub probed_ns: u64,
    /// Bytes that clones of this CPU hold since it last checked the output interface's queue.
    pub unlooked: u64,
    /// When it found there more than the endpoint's bound, ns of `CLOCK_MONOTONIC_COARSE`; 0 if it
    /// did not.
    pub full_ns: u64,
    /// ICMP errors about copies, by [`IcmpError`].
    pub errors: [u64; IcmpError::COUNT],
    /// When the last packet-too-big came, ns of `CLOCK_MONOTONIC`.
    pub path_mtu_ns: u64,
    /// Its MTU in bytes, at least [`IPV6_MTU_MIN`]; 0 if none came.
    pub path_mtu: u32,
    /// [`Endpoint::breaker`](super::Endpoint::breaker) in which a copy met no `encap`; until it
    /// changes nothing more is sent.
    pub tripped: u32,
}

/// By index in `ENDPOINTS`: how much of its limit an endpoint has used, the one thing that CPUs
/// share. It has a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// `CLOCK_MONOTONIC` up to which what was sent has used up the limit, ns.
    pub used_up_to_ns: u64,
}

/// Indexed by the low bits of a datagram's key: the cached state of its first fragment. A reader
/// detects an element that another CPU is writing: its two words do not match.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct First {
    /// The key, exclusive or `value`.
    pub check: u64,
    /// Ports, protocol, flags, time: laid out by [`tell`](crate::fragment_key::tell).
    pub value: u64,
}

/// Per CPU and hook: packets that no filter was matched against, or only with unknown fields, by
/// [`Skipped`]; behind them connections by [`NameFound`].
pub type HookStats = [u64; Skipped::COUNT + NameFound::COUNT];

/// A superpacket in the segmenter, which it leaves packet by packet.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Transit {
    /// Endpoints that get a copy of each packet, as bits.
    pub endpoints: u64,
    /// The superpacket's number on its CPU; the lowest bit is which copy of them.
    pub sequence: u32,
    /// Packets that have come out and are accounted for.
    pub arrived: u32,
}

/// What of a packet an outer fragment carries.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Slice {
    /// Its first byte, from the inner IP header on.
    pub first: u32,
    /// The byte behind its last one.
    pub end: u32,
    /// Where it stands in the outer payload, bytes.
    pub offset: u32,
    /// 1 if others follow.
    pub more: u32,
    /// Bytes of UDP header and payload of the whole.
    pub udp_length: u32,
    /// Bytes from the inner IP header to beyond the transport checksum: at most
    /// [`Slice::HEAD_MAX`].
    pub head: u32,
    /// Offset of the transport checksum from the inner IP header, bytes; 0 if it is right as it is.
    pub checksum_at: u32,
    /// The transport checksum, network byte order.
    pub checksum: u32,
}

impl Slice {
    /// Most bytes of a head.
    pub const HEAD_MAX: u32 = 128;
}

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$meta])*
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// Number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The word for it in status and metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

reasons! {
    /// Why a copy was not sent.
    Drop {
        /// Never counted: state 0 of an endpoint means that it works.
        None = "none",
        /// No address of the endpoint's DNS name is known yet.
        NoAddress = "no-address",
        /// There is no route to the endpoint.
        NoRoute = "no-route",
        /// The output interface is missing.
        NoInterface = "no-interface",
        /// The output interface is down.
        InterfaceDown = "interface-down",
        /// The output interface has no carrier.
        NoCarrier = "no-carrier",
        /// The next hop has not answered for as long as the kernel tries to resolve it.
        NoNeighbour = "no-neighbour",
        /// Passed to the kernel while it resolves the next hop's hardware address. The kernel keeps
        /// the latest few until there is an answer, so some may arrive.
        Resolving = "resolving",
        /// The output interface has no address to send from.
        NoSource = "no-source",
        /// The endpoint's address is this host's own.
        OwnAddress = "own-address",
        /// The output interface cannot carry tunnels.
        Unsupported = "unsupported-interface",
        /// An IPsec policy of this host is for what goes there, and copies pass none.
        IpsecPolicy = "ipsec-policy",
        /// Of a flow that is not sampled.
        Sample = "sample",
        /// Beyond the endpoint's limit.
        Limit = "limit",
        /// The copies of the packet had used up their time
        /// ([`Bank::budget_ns`](super::Bank::budget_ns)).
        Budget = "budget",
        /// The output interface's queue holds more bytes than the endpoint allows.
        Backlog = "backlog",
        /// Longer than the MTU after encapsulation.
        Oversize = "oversize",
        /// To be segmented first, and there is no segmenter.
        NoSegmenter = "no-segmenter",
        /// Others hold the packet, too, as those that pktgen sends: the kernel must not clone it.
        Shared = "shared",
        /// The NIC reports the transmit time of the packet, and would report that of the copy.
        HardwareTimestamp = "hardware-timestamp",
        /// The NIC is to encrypt the packet, and would encrypt the copy as if it were the packet.
        Offloaded = "offloaded",
        /// The kernel rejected the clone or its transmission (`bpf_clone_redirect` failed), or the
        /// segmenter lost it.
        Clone = "clone",
        /// The kernel could not encapsulate it (`bpf_skb_adjust_room` failed).
        Encap = "encap",
        /// The output interface's queue was full.
        Queue = "queue",
        /// `encap` was missing on the output interface.
        Unwrapped = "unwrapped",
    }
}

reasons! {
    /// Why a packet was skipped, or matched with unknown fields.
    Skipped {
        /// Neither IPv4 nor IPv6.
        NotIp = "not-ip",
        /// The IP header is truncated or inconsistent.
        Malformed = "malformed",
        /// A copy of ours.
        Copy = "copy",
        /// A table did not hold what another one points to.
        Table = "table",
        /// A copy of this mirror's or of a peer's, or an error about one.
        Loop = "loop",
        /// A later fragment without a cached first one. As with the two below, filters are matched,
        /// with any ports and over IPv6 any protocol (or with none, if the file says so).
        Orphan = "orphan-fragment",
        /// A fragment of a datagram with several different first fragments.
        Ambiguous = "ambiguous-fragment",
        /// Headers that cannot be read up to the ports: truncated, or a chain that is too long;
        /// also later fragments of such packets.
        Unparsed = "unparsed",
        /// GUE in GUE, beyond what is copied of that.
        Nested = "nested",
        /// It came by while copies were being sent, each while another was, as deep as that may go.
        Recursion = "recursion",
        /// A filter gives a server name or an application, and that of the packet cannot be known.
        Undecided = "undecided",
        /// A QUIC Initial that the daemon does not get, since it has not read those before.
        Unread = "unread-initial",
    }
}

reasons! {
    /// What was found of the server's name in a connection that filters with names may match.
    /// Forged connections count as well.
    NameFound {
        /// A filter has the name.
        Wanted = "wanted",
        /// No filter has it.
        Other = "other-name",
        /// No filter has it, and the client offers Encrypted ClientHello (RFC 9849): the name may be
        /// that of a provider, and the true one is encrypted. Browsers offer it to any server.
        Ech = "ech",
        /// The client gives none.
        NoName = "no-name",
        /// Neither TLS nor HTTP.
        OtherProtocol = "other-protocol",
        /// The server speaks first.
        ServerFirst = "server-first",
        /// The connection began before anybody looked.
        MidFlow = "mid-flow",
        /// The name lies beyond what is read.
        TooLong = "too-long",
        /// There is no room to remember the name, or to wait for more of the client's first bytes.
        NoRoom = "no-room",
    }
}

impl NameFound {
    /// Its place in [`HookStats`].
    #[must_use]
    pub const fn place(self) -> usize {
        Skipped::COUNT + self as usize
    }

    /// The number of the one that an [`Undecided`] is counted as.
    #[must_use]
    #[inline(always)]
    pub const fn of(undecided: u32) -> u32 {
        Self::NoName as u32 + undecided - Undecided::NoName as u32
    }
}

reasons! {
    /// The kinds of ICMP errors about a copy.
    IcmpError {
        /// No process listens on the endpoint's port (ICMP type 3 code 3, `ICMPv6` type 1 code 4).
        PortClosed = "port-closed",
        /// A router or the endpoint cannot or will not deliver (ICMP type 3, `ICMPv6` type 1).
        Unreachable = "unreachable",
        /// Too long for a link on the path (ICMP type 3 code 4, `ICMPv6` type 2).
        TooBig = "packet-too-big",
        /// The hop limit was used up, or fragments were missing at the endpoint (ICMP type 11,
        /// `ICMPv6` type 3).
        TimeExceeded = "time-exceeded",
    }
}

reasons! {
    /// What the daemon has found out about an endpoint to which copies are sent.
    Trouble {
        /// No trouble is known.
        None = "none",
        /// [`IcmpError::PortClosed`] comes back.
        PortClosed = "port-closed",
        /// [`IcmpError::Unreachable`] comes back.
        Unreachable = "unreachable",
        /// [`IcmpError::TooBig`] comes back, although packets have been made smaller.
        TooBig = "packet-too-big",
        /// [`IcmpError::TimeExceeded`] comes back.
        TimeExceeded = "time-exceeded",
        /// The output interface's queue holds more than the endpoint allows, so that copies are
        /// dropped ([`Drop::Backlog`]).
        Backlog = "backlog",
        /// The output interface drops packets that it, or its queue, had accepted.
        OutputDrops = "output-drops",
    }
}

/// The least MTU of a link with IPv6, bytes: less is never learned from an error (RFC 8200 section
/// 5).
pub const IPV6_MTU_MIN: u32 = 1280;

reasons! {
    /// Results that `encap` leaves for `mirror`.
    Receipt {
        /// It has not seen the copy.
        Missing = "missing",
        /// Wrapped and passed on.
        Passed = "passed",
        /// Given to the kernel's neighbour code, which has not sent it.
        Resolving = "resolving",
        /// The kernel could not encapsulate it.
        Refused = "refused",
        /// The queue holds more than the endpoint allows.
        Full = "full",
        /// It came out of the segmenter, in packets.
        Segmented = "segmented",
    }
}

const _: () = {
    assert!(size_of::<FilterStats>() == 24);
    assert!(size_of::<EndpointStats>() == 48 + 8 * Drop::COUNT + 16 + 8 * IcmpError::COUNT + 16);
};

const _: () = {
    let (none, room) = (Undecided::NoName as u32, Undecided::NoRoom as u32);
    assert!(NameFound::of(none) == NameFound::NoName as u32);
    assert!(NameFound::of(Undecided::Other as u32) == NameFound::OtherProtocol as u32);
    assert!(NameFound::of(Undecided::ServerFirst as u32) == NameFound::ServerFirst as u32);
    assert!(NameFound::of(Undecided::MidFlow as u32) == NameFound::MidFlow as u32);
    assert!(NameFound::of(Undecided::TooLong as u32) == NameFound::TooLong as u32);
    assert!(NameFound::of(room) == NameFound::NoRoom as u32);
};

#[cfg(feature = "user")]
mod pod {
    use super::{EndpointStats, FilterStats};

    macro_rules! pod {
        ($($name:ty)*) => { $(
            // SAFETY: repr(C), `Copy`, no padding (`bytemuck::Pod`), any bytes are a valid value.
            unsafe impl aya::Pod for $name {}
        )* };
    }
    pod!(FilterStats EndpointStats);
}
