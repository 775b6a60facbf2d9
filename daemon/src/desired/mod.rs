//! Input: a [`Config`](crate::config). Output: [`Desired`], what the file means, or every error in
//! it. Must not know: the kernel, the clock, the file system.

mod address;
mod application;
mod cidr;
mod consistency;
mod dns_name;
mod endpoint;
mod field;
mod filter;
mod follow;
mod host;
mod interface;
mod mirrors;
mod name;
mod order;
mod policy;
mod port;
mod problem;
mod protocol;
mod published;
mod quantity;
mod rate;
mod repair;
mod reread;
mod resolve;
mod resolved;
mod server_name;
mod vlan;

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use traffic_mirror_resolver::Name;

use crate::config::{Config, Secret};
use crate::diagnostic::{Code, Diagnostic};

pub use application::parsed as parse_application;
pub use host::{absent, absent_applications, unresolved};
pub use order::Order;
pub(crate) use protocol::name as protocol_name;
pub use protocol::parse as parse_protocol;
pub use published::Published;
pub use reread::Rereader;
pub use resolved::{Addresses, choose};

/// What the file means and the warnings about it, or everything that is wrong with it, in the order
/// of the file.
pub type Loaded = Result<(Desired, Vec<Diagnostic>), Vec<Diagnostic>>;

/// Reads the text of a file.
///
/// # Errors
/// Every error that the file has, at least one.
pub fn load(text: &str) -> Loaded {
    Desired::resolve(&Config::parse(text)).map_err(|errors| follow::up(text, errors))
}

/// Where a text gives a filter its name; the beginning of the text if it does not.
pub fn place_of(text: &str, filter: &str) -> Range<usize> {
    let config = Config::parse(text);
    let mut names = config
        .filters
        .iter()
        .filter_map(|raw| raw.name.as_ref()?.as_ref().ok());
    names
        .find(|name| name.get_ref() == filter)
        .map_or(0..0, |name| name.span())
}

/// Reads the bytes of a file. Render the diagnostics with [`String::from_utf8_lossy`] of the same
/// bytes.
///
/// # Errors
/// As [`load`]; bytes that are not UTF-8 are one error at the first of them.
pub fn load_bytes(bytes: &[u8]) -> Loaded {
    match std::str::from_utf8(bytes) {
        Ok(text) => load(text),
        Err(error) => Err(vec![not_utf8(bytes, error.valid_up_to())]),
    }
}

fn not_utf8(bytes: &[u8], offset: usize) -> Diagnostic {
    let span = offset..offset + char::REPLACEMENT_CHARACTER.len_utf8();
    let message = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the file is UTF-16, not UTF-8".to_owned(),
        _ => {
            let byte = bytes.get(offset).copied().unwrap_or_default();
            format!("the file is not UTF-8: byte 0x{byte:02x} is no character")
        }
    };
    Diagnostic::new(Code::InvalidUtf8, span, message).help("save the file as UTF-8")
}

/// The meaning of the file. Interfaces, endpoints and filters are sorted by name, so that the order
/// in the file has no effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The master switch.
    pub enabled: bool,
    /// Treatment of packets whose ports or protocol are unknown.
    pub unparsed: Unparsed,
    /// How long the copies of one packet may take.
    pub budget: Budget,
    /// Addresses and networks of other mirrors, whose copies are not copied: sorted, no duplicates;
    /// at most [`MAX_PEERS`](traffic_mirror_ebpf::abi::MAX_PEERS).
    pub peers: Vec<IpNet>,
    /// What the hash of a flow is made with, so that hosts with the same one sample the same flows;
    /// if absent, a secret of this host.
    pub seed: Option<Secret>,
    /// The filters that have metrics of their own.
    pub published: Published,
    /// The interfaces whose packets are matched.
    pub interfaces: Vec<Interface>,
    /// The GUE endpoints; at most [`MAX_ENDPOINTS`](traffic_mirror_ebpf::abi::MAX_ENDPOINTS).
    pub endpoints: Vec<Endpoint>,
    /// The filters; at most [`MAX_FILTERS`](traffic_mirror_ebpf::abi::MAX_FILTERS).
    pub filters: Vec<Arc<Filter>>,
}

impl Desired {
    /// Finds out what the file means.
    ///
    /// # Errors
    /// Every error of the file: those that [`Config::parse`] kept and those of meaning, at least one.
    pub fn resolve(config: &Config) -> Loaded {
        resolve::resolve(config)
    }
}

/// One `[[interface]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name or glob.
    pub name: glob::Pattern,
    /// The directions in which packets are matched.
    pub direction: Directions,
    /// The position of our program on its hooks.
    pub order: Order,
    /// Whether the server names of all its connections are remembered, before a filter gives any.
    pub learn: bool,
}

impl Interface {
    /// Whether it is a glob: else it is the name of one interface.
    pub fn is_glob(&self) -> bool {
        name::is_glob(self.name.as_str())
    }
}

/// `budget` in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget(pub Duration);

impl Default for Budget {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

/// `unparsed` in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unparsed {
    /// An unknown value matches every `mirror` filter and no `exclude` filter.
    #[default]
    Mirror,
    /// An unknown value matches no filter that gives the field.
    Skip,
}

/// `undecided` in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undecided {
    /// They match no filter that gives a server name.
    #[default]
    Skip,
    /// They match.
    Mirror,
}

/// `direction` in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Directions {
    /// Packets that the host receives.
    Ingress,
    /// Packets that the host sends.
    Egress,
    /// Both.
    #[default]
    Both,
}

/// One `[endpoint.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, unique.
    pub name: String,
    /// Outer destination address; `None` while that of its DNS name is not known.
    pub address: Option<IpAddr>,
    /// The DNS name that the address is of, if the file gives a name.
    pub address_name: Option<Name>,
    /// Outer destination UDP port, host byte order.
    pub port: u16,
    /// Output interface; by route if absent.
    pub interface: Option<String>,
    /// Treatment of a packet that exceeds the output MTU after encapsulation.
    pub oversize: Oversize,
    /// So many bytes of a packet at most, from its IP header on; all of it if absent.
    pub snap: Option<u16>,
    /// Most that is sent; any amount if absent.
    pub limit: Option<Limit>,
    /// One of this many flows is sent; 1 for all.
    pub sample: u32,
    /// Largest outer IP packet, bytes, where it is not less by interface and route.
    pub mtu: Option<u32>,
    /// Whether copies have a UDP checksum.
    pub checksum: bool,
    /// What IPsec policies are to copies.
    pub ipsec: Ipsec,
    /// Copies are dropped while the output interface's queue holds more than this, bytes.
    pub backlog: u64,
}

/// `ipsec` in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ipsec {
    /// Nothing is sent where a policy of this host would encrypt or block what goes there.
    #[default]
    Obey,
    /// Copies leave unencrypted, whatever the policies are.
    Bypass,
}

/// `oversize` in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Oversize {
    /// It is sent in several outer IP fragments.
    #[default]
    Fragment,
    /// The copy is truncated.
    Truncate,
    /// It is not sent.
    Drop,
}

/// `limit` in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bits per second of outer IP packets.
    Bits(u64),
    /// Packets per second.
    Packets(u64),
}

/// Networks, and the DNS names of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Hosts {
    networks: Vec<IpNet>,
    names: Vec<Name>,
}

/// One `[[filter]]`. An empty list means any, unless there are DNS names beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Its name, unique.
    pub name: String,
    /// A disabled filter matches nothing.
    pub enabled: bool,
    /// What a match does.
    pub action: Action,
    /// Indices into [`Desired::endpoints`], ascending. For an `exclude` without `to`, all of them.
    pub to: Vec<usize>,
    /// IP protocol numbers, ascending.
    pub protocol: Vec<u8>,
    /// Source networks, those of names included: sorted, no duplicates, host bits zero.
    pub source: Vec<IpNet>,
    /// DNS names of sources, sorted, no duplicates.
    pub source_name: Vec<Name>,
    /// Source ports, sorted by start, not overlapping.
    pub source_port: Vec<RangeInclusive<u16>>,
    /// Destination networks, those of names included: sorted, no duplicates, host bits zero.
    pub destination: Vec<IpNet>,
    /// DNS names of destinations, sorted, no duplicates.
    pub destination_name: Vec<Name>,
    /// Destination ports, sorted by start, not overlapping.
    pub destination_port: Vec<RangeInclusive<u16>>,
    /// Numbers of the outermost VLAN, 0 for no tag: sorted by start, not overlapping.
    pub vlan: Vec<RangeInclusive<u16>>,
    /// Server names, ASCII in lower case: `shop.example.com`, or `*.example.com` for all below.
    /// Sorted, no duplicates.
    pub server_name: Vec<String>,
    /// Applications of this host that send or receive it, sorted, no duplicates.
    pub application: Vec<crate::cgroup::Pattern>,
    /// Flows whose server name or application cannot be known.
    pub undecided: Undecided,
    /// Match with source and destination swapped, too.
    pub bidirectional: bool,
    /// Only packets of these interfaces (names or globs), sorted, no duplicates.
    pub interface: Vec<glob::Pattern>,
    /// Match only packets in this direction.
    pub direction: Directions,
}

/// What a matching filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a copy to each of its endpoints.
    Mirror,
    /// Send no copy to any of its endpoints, whatever other filters match.
    Exclude,
}
