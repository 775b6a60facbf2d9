//! Links, routes, neighbours and tc filters of the kernel, as plain data. Must not know: netlink,
//! the clock, the file system.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::cgroup::Applications;
use crate::ipsec::Policies;

/// One network interface of this namespace. Its index is its identity: a name can move to another
/// interface, and the index of a deleted interface can be given to a stranger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index, never zero.
    pub index: u32,
    /// Name; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Largest network-layer packet, in bytes.
    pub mtu: u32,
    /// `IFF_UP`: an administrator wants it up.
    pub up: bool,
    /// `IFF_RUNNING`: it has a carrier and can send.
    pub running: bool,
    /// Hardware address of an Ethernet or loopback interface.
    pub mac: Option<[u8; 6]>,
    /// What its frames begin with.
    pub kind: LinkKind,
    /// Index of the bond, bridge or VRF that it is a port of.
    pub master: Option<u32>,
    /// Index of the interface that it is built on, such as the parent of a VLAN. `None` if that is
    /// in another network namespace, where the index means nothing here. The other end of a veth is
    /// no parent.
    pub parent: Option<u32>,
    /// Its driver's `rtnl_link_ops` kind ("vlan", "bond", "veth"); hardware has none.
    pub info_kind: Option<String>,
    /// Its alternative names (`ip link property add`), such as those that systemd gives. None is
    /// the name of another one.
    pub altnames: Vec<String>,
    /// It is an ipvlan in mode l3s, which receives packets on netfilter's hooks.
    pub is_l3s: bool,
    /// `IFF_NOARP`: it needs no neighbour resolution.
    pub no_arp: bool,
    /// Kind of its root queueing discipline ("noqueue"); empty if the kernel does not report it.
    pub qdisc: String,
    /// Most segments and bytes of a superpacket that it accepts (`gso_max_segs`, `gso_max_size`); 0
    /// if the kernel does not report them.
    pub gso_max: [u32; 2],
    /// An XDP program stands on it.
    pub has_xdp: bool,
}

impl Link {
    /// An Ethernet interface that is up, has a carrier and an MTU of 1,500 bytes, and no other
    /// property.
    pub fn ethernet(index: u32, name: &str) -> Self {
        Self {
            index,
            name: name.to_owned(),
            mtu: 1500,
            up: true,
            running: true,
            mac: None,
            kind: LinkKind::Ethernet,
            master: None,
            parent: None,
            info_kind: None,
            altnames: Vec::new(),
            is_l3s: false,
            no_arp: false,
            qdisc: String::new(),
            gso_max: [0; 2],
            has_xdp: false,
        }
    }

    /// Its name, then its alternative ones.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.name).chain(self.altnames.iter().map(String::as_str))
    }
}

/// The daemon's interfaces in which the kernel segments superpackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmenter {
    /// Index of the interface that superpackets are sent to.
    pub entrance: u32,
    /// Index of the one by which the packets would leave.
    pub exit: u32,
}

/// What the frames of an interface begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// An Ethernet header (`ARPHRD_ETHER`).
    Ethernet,
    /// An Ethernet header of zeros (`ARPHRD_LOOPBACK`).
    Loopback,
    /// Something else: the `ARPHRD_*` number of include/uapi/linux/if_arp.h.
    Other(u16),
}

/// `ARPHRD_*` of interfaces whose packets begin with the IP header: PPP, RAWIP, TUNNEL, TUNNEL6,
/// SIT, IPGRE, IP6GRE, NONE (tun, WireGuard, XFRM).
const HEADERLESS: [u16; 8] = [512, 519, 768, 769, 776, 778, 823, 0xfffe];

impl LinkKind {
    /// Whether packets have no link header.
    pub fn is_headerless(self) -> bool {
        matches!(self, Self::Other(kind) if HEADERLESS.contains(&kind))
    }
}

/// Where the kernel would send a packet for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Index of the output interface; the loopback interface for [`RouteKind::Local`].
    pub interface: u32,
    /// Next hop; the destination itself if absent. May be IPv6 for an IPv4 destination (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// Source address that the kernel would choose; absent if the host has none to choose.
    pub source: Option<IpAddr>,
    /// Path MTU in bytes where it is not the interface's: the route's own, or learned from ICMP.
    pub mtu: Option<u32>,
    /// What kind of destination it is.
    pub kind: RouteKind,
    /// No route matched. If the query names an interface, IPv4 then treats any destination as
    /// on-link there, even one that a `blackhole` route covers or that belongs to this host on
    /// another interface (`ip_route_output_key_hash_rcu`).
    pub assumed: bool,
}

/// What kind of destination a route leads to. `blackhole`, `unreachable` and `prohibit` count as no
/// route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// One host, elsewhere.
    Unicast,
    /// This host.
    Local,
    /// All hosts on a link.
    Broadcast,
    /// A multicast group.
    Multicast,
    /// Something else: the `RTN_*` number of include/uapi/linux/rtnetlink.h.
    Other(u8),
}

/// One entry of the kernel's neighbour tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface of its link.
    pub interface: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address, while the kernel has a valid one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// How far the kernel trusts the entry.
    pub state: NeighbourState,
}

impl Neighbour {
    /// The hardware address to send to, if there is one that the kernel would use itself.
    pub fn usable_mac(&self) -> Option<[u8; 6]> {
        self.mac.filter(|_| self.state.usable())
    }
}

/// How far the kernel trusts a neighbour entry: `NUD_*` of include/uapi/linux/neighbour.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Nothing tried.
    None,
    /// Asked for, no answer so far.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Not confirmed lately; the next packet begins to check it.
    Stale,
    /// Used while stale; checked soon.
    Delay,
    /// Being checked.
    Probe,
    /// The resolution failed.
    Failed,
    /// Needs no resolution.
    NoArp,
    /// Set by an administrator.
    Permanent,
    /// A state that is none of the above.
    Other(u16),
}

impl NeighbourState {
    /// Whether the kernel sends to the entry's hardware address (`NUD_VALID` of
    /// include/net/neighbour.h).
    pub fn usable(self) -> bool {
        use NeighbourState::{Delay, NoArp, Permanent, Probe, Reachable, Stale};
        matches!(self, Reachable | Stale | Delay | Probe | Permanent | NoArp)
    }
}

/// One of the two tc hooks of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Packets that the host receives.
    Ingress,
    /// Packets that the host sends.
    Egress,
}

impl Direction {
    /// The word for it in files, logs and pins.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// One filter on a tc hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcFilter {
    /// Preference; the kernel tries low ones first.
    pub priority: u16,
    /// Handle within its priority.
    pub handle: u32,
    /// Classifier ("bpf", "u32", "flower").
    pub kind: String,
    /// Name of a bpf filter.
    pub name: Option<String>,
    /// Kernel id of a bpf filter's program.
    pub program_id: Option<u32>,
}

/// The root queueing discipline of an interface, and its counters, which include all packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Its kind ("fq_codel", "mq").
    pub kind: String,
    /// Packets that wait.
    pub packets: u32,
    /// Their bytes.
    pub bytes: u32,
    /// Packets that it has dropped; the count wraps at 2^32.
    pub drops: u32,
}

/// The part of the network that matters to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// All interfaces by index.
    pub links: BTreeMap<u32, Link>,
    /// The path to each endpoint, by its name.
    pub paths: BTreeMap<String, Path>,
    /// Interfaces on whose egress the kernel rejected `encap`.
    pub refused: BTreeSet<u32>,
    /// Interfaces that clones are sent to and on which `encap` was missing for a while.
    pub rewired: BTreeSet<u32>,
    /// The segmenter, if there is one. Its interfaces are not among the `links`, and neither are
    /// those of another daemon.
    pub segmenter: Option<Segmenter>,
    /// Indices of its interfaces that exist, even if others are missing.
    pub segmenter_parts: BTreeSet<u32>,
    /// Copies were dropped because there was none.
    pub segmenter_missed: bool,
    /// The kernel has rejected the segmenter.
    pub segmenter_refused: bool,
    /// Monitored interfaces without TX checksum offload: UDP superpackets there can be segmented
    /// only before they are encapsulated.
    pub unsummed: BTreeSet<u32>,
    /// IPsec policies.
    pub ipsec: Policies,
    /// The secret of the pin path, by which copies are marked, too.
    pub secret: u64,
    /// The cgroups that the file's applications are now.
    pub applications: Arc<Applications>,
}

/// The path to an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path {
    /// The endpoint's address is this host's own.
    pub own: bool,
    /// Where the kernel would send, by the endpoint's interface if it names one.
    pub route: Option<Route>,
    /// Hardware address of the next hop, if the kernel has resolved it.
    pub mac: Option<[u8; 6]>,
    /// The kernel could not resolve that address, and the next hop has not answered since.
    pub silent: bool,
    /// MTU that a router of the path reported by ICMP, bytes.
    pub path_mtu: Option<u32>,
}

impl Network {
    /// The interface of that name or alternative name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links
            .values()
            .find(|link| link.names().any(|one| one == name))
    }
}
