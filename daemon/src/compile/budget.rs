//! Whether one packet may take longer to be copied than the file allows: an estimate that does not
//! exaggerate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use traffic_mirror_ebpf::abi;
use traffic_mirror_ebpf::fit::{Fit, Size};
use traffic_mirror_ebpf::packet::protocol::{SCTP, TCP, UDP};

use crate::compile::Compiled;
use crate::compile::hooks::Hook;
use crate::compile::segmenter::{cut, longest, takes};
use crate::desired::{Action, Desired, Filter};
use crate::network::{Direction, Link, Network};
use crate::tables::names;

/// Least time of a copy: measurements gave 0.7 µs for a copy in one piece, 1.5 for each fragment of
/// a packet that is segmented before.
const COPY: Duration = Duration::from_micros(1);
/// Bytes of a superpacket (`GSO_LEGACY_MAX_SIZE`).
const SUPERPACKET_BYTES: u32 = 65_536;

/// A packet that takes longer than `budget`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Costly {
    /// Where it comes by.
    pub interface: String,
    /// A filter that it matches.
    pub filter: String,
    /// Packets on the wire that the superpacket becomes; 1 if it is not segmented.
    pub packets: u32,
    /// Endpoints that get them.
    pub endpoints: usize,
    /// Clones that it takes: one for each outer packet, or fragment of one.
    pub copies: u32,
    /// The time that these take at least.
    pub time: Duration,
}

/// The packet with the longest copying time, if that exceeds the file's budget: a superpacket of
/// the longest packets that match one filter, and the filters that match anything. Filters that
/// match the same packet by chance are not combined.
pub fn costly(desired: &Desired, network: &Network, compiled: &Compiled) -> Option<Costly> {
    let passage = Passage::new(desired, network, compiled)?;
    let (included, excluded): (BTreeSet<_>, BTreeSet<_>) = (
        passage.always(Action::Mirror).collect(),
        passage.always(Action::Exclude).collect(),
    );
    let most = passage
        .filters(Action::Mirror)
        .map(|filter| {
            let to: BTreeSet<&usize> = filter.to.iter().chain(included.iter().copied()).collect();
            passage.cost(filter, to.difference(&excluded).copied())
        })
        .max_by_key(|costly| costly.copies)?;
    (desired.enabled && most.time > desired.budget.0).then_some(most)
}

/// Where the longest packets come by.
struct Passage<'a> {
    desired: &'a Desired,
    compiled: &'a Compiled,
    link: &'a Link,
    /// Packets of a superpacket.
    packets: u32,
    is_sent_bare: bool,
    /// Indices of endpoints.
    indices: BTreeMap<&'a str, u32>,
}

impl<'a> Passage<'a> {
    fn new(desired: &'a Desired, network: &'a Network, compiled: &'a Compiled) -> Option<Self> {
        let link = longest(&compiled.hooks, network)?;
        let mut passage = Self {
            desired,
            compiled,
            link,
            packets: (SUPERPACKET_BYTES / link.mtu.max(1)).max(1),
            is_sent_bare: false,
            indices: names(&compiled.tables.endpoint_names)
                .map(|(index, name)| (name, index))
                .collect(),
        };
        passage.is_sent_bare = network.unsummed.contains(&link.index)
            && passage
                .hooks()
                .any(|hook| hook.direction == Direction::Egress);
        Some(passage)
    }

    fn hooks(&self) -> impl Iterator<Item = &'a Hook> {
        let index = self.link.index;
        let hooks = self.compiled.hooks.values();
        hooks.filter(move |hook| hook.interface == index)
    }

    /// The filters of that action that are in force there.
    fn filters(&self, action: Action) -> impl Iterator<Item = &'a Filter> {
        let filters = self.desired.filters.iter().map(|filter| &**filter);
        filters
            .filter(|filter| filter.enabled)
            .filter(move |filter| {
                filter.action == action && self.hooks().any(|hook| hook.has(filter))
            })
    }

    /// The endpoints of filters that match anything.
    fn always(&self, action: Action) -> impl Iterator<Item = &'a usize> {
        self.filters(action)
            .filter(|filter| is_for_anything(filter))
            .flat_map(|filter| &filter.to)
    }

    /// How to reach an endpoint of the file.
    fn reached(&self, position: usize) -> Option<abi::Endpoint> {
        let index = *self
            .indices
            .get(self.desired.endpoints[position].name.as_str())?;
        let record = self.compiled.tables.endpoints[index as usize][0];
        Some(record).filter(abi::Endpoint::has_way)
    }

    /// What a superpacket takes that a filter matches, and which goes to these endpoints.
    fn cost<'e>(&self, filter: &Filter, to: impl Iterator<Item = &'e usize>) -> Costly {
        let endpoints: Vec<_> = to.filter_map(|position| self.reached(*position)).collect();
        let copies = [UDP, SCTP, TCP]
            .into_iter()
            .filter(|protocol| takes(filter, *protocol))
            .map(|protocol| self.copies(&endpoints, protocol))
            .max();
        let copies = copies.unwrap_or(0);
        Costly {
            interface: self.link.name.clone(),
            filter: filter.name.clone(),
            packets: self.packets,
            endpoints: endpoints.len(),
            copies,
            time: COPY * copies,
        }
    }

    /// Clones of a superpacket of one protocol.
    fn copies(&self, endpoints: &[abi::Endpoint], protocol: u8) -> u32 {
        let of = |endpoint: &abi::Endpoint| {
            let is_cut = cut(endpoint, Some(self.link), self.is_sent_bare);
            let packets = if is_cut.contains(&Some(protocol)) {
                self.packets
            } else {
                1
            };
            packets * fragments(endpoint, self.link)
        };
        endpoints.iter().map(of).sum()
    }
}

/// Whether a filter matches every packet of its interface and direction.
fn is_for_anything(filter: &Filter) -> bool {
    filter.protocol.is_empty()
        && filter.source.is_empty()
        && filter.destination.is_empty()
        && !filter.has_dns_names()
        && filter.source_port.is_empty()
        && filter.destination_port.is_empty()
        && filter.vlan.is_empty()
}

/// Outer fragments of the longest packet of an interface.
fn fragments(endpoint: &abi::Endpoint, link: &Link) -> u32 {
    let bytes = link.mtu;
    let size = Size {
        packets: 1,
        bytes,
        segment: bytes,
        gso: 0,
        trim: 0,
        bare: 0,
        brittle: 0,
    };
    Fit::of(&size, UDP.into(), endpoint).map_or(0, |fit| fit.fragments)
}
