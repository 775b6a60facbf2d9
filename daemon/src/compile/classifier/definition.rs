//! Input: a filter. Output: the definition of each of its slots, in a canonical form, so that two
//! notations of the same filter are equal.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use traffic_mirror_ebpf::abi::{FIELDS, Field, VLANS};
use traffic_mirror_resolver::Name;

use crate::cgroup::Applications;
use crate::compile::classifier::cgroup_set::CgroupSet;
use crate::compile::classifier::name_set::ServerNames;
use crate::desired::{Filter, Undecided};

/// Number of port values: the ports, and "has no ports".
pub(in crate::compile) const PORT_VALUES: u32 = 65_537;
/// The value of a packet that has no ports.
pub(in crate::compile) const NO_PORT: u32 = 65_536;
/// Number of protocol values: the protocols, and "unknown".
pub(in crate::compile) const PROTOCOL_VALUES: u32 = 257;
/// The value of a packet with an unknown protocol.
pub(in crate::compile) const NO_PROTOCOL: u32 = 256;

/// Number of VLAN values: the VLANs, and 0 for none.
pub(in crate::compile) const VLAN_VALUES: u32 = VLANS as u32;

/// Values of a field that satisfy a slot; `None` in a [`Definition`] means all.
pub(in crate::compile) type Ranges = Vec<(u32, u32)>;

/// Networks of one field, IPv4 and IPv6: sorted, none inside another, no two halves of a larger
/// one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::compile) struct Networks(pub [Vec<(u128, u8)>; 2]);

/// What a slot stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::compile) struct Definition {
    pub protocol: Option<Ranges>,
    pub networks: [Option<Networks>; 2],
    pub ports: [Option<Ranges>; 2],
    pub vlan: Option<Ranges>,
    pub server_name: Option<Arc<ServerNames>>,
    pub application: Option<Arc<CgroupSet>>,
}

/// The definitions of each filter, kept while it is the same object and its applications are the
/// same cgroups: a file that is read again shares the filters that have not changed.
#[derive(Debug, Default)]
pub(in crate::compile) struct Definitions {
    of: Vec<(Arc<Filter>, Ways)>,
    /// What applications were when they were made.
    applications: Arc<Applications>,
}

/// One definition, or two.
pub(in crate::compile) type Ways = Arc<[Arc<Definition>]>;

impl Definitions {
    /// Those of `filters`, which are sorted by name, in their order.
    pub(in crate::compile) fn of(
        &mut self,
        filters: &[Arc<Filter>],
        applications: &Arc<Applications>,
    ) -> impl Iterator<Item = Ways> {
        let is_same = *applications == self.applications;
        if !is_same {
            self.applications = applications.clone();
        }
        let mut known = std::mem::take(&mut self.of).into_iter().peekable();
        let mut same = |filter: &Arc<Filter>| {
            while known
                .next_if(|(known, _)| known.name < filter.name)
                .is_some()
            {}
            known.next_if(|(known, _)| {
                Arc::ptr_eq(known, filter) && (is_same || filter.application.is_empty())
            })
        };
        let one = |filter: &Arc<Filter>| {
            let fresh = || {
                (
                    filter.clone(),
                    Definition::of(filter, applications)
                        .into_iter()
                        .map(Arc::new)
                        .collect(),
                )
            };
            same(filter).unwrap_or_else(fresh)
        };
        self.of = filters.iter().map(one).collect();
        self.of.iter().map(|(_, ways)| ways.clone())
    }
}

impl Definition {
    /// The definitions of a filter: one, or two if it is bidirectional and swapping source and
    /// destination changes it.
    pub(in crate::compile) fn of(filter: &Filter, applications: &Applications) -> Vec<Self> {
        let undecided = filter.undecided == Undecided::Mirror;
        let ranges = |list: &[std::ops::RangeInclusive<u16>], values| {
            let ranges = list
                .iter()
                .map(|r| (u32::from(*r.start()), u32::from(*r.end())))
                .collect();
            given(!list.is_empty(), ranges).and_then(|r| canonical_ranges(r, values))
        };
        let ports = |list| ranges(list, PORT_VALUES);
        let protocols = filter
            .protocol
            .iter()
            .map(|&p| (u32::from(p), u32::from(p)))
            .collect();
        let protocol = given(!filter.protocol.is_empty(), protocols)
            .and_then(|r| canonical_ranges(r, PROTOCOL_VALUES));
        let there = Self {
            protocol,
            ports: [ports(&filter.source_port), ports(&filter.destination_port)],
            networks: [
                hosts(&filter.source, &filter.source_name),
                hosts(&filter.destination, &filter.destination_name),
            ],
            vlan: ranges(&filter.vlan, VLAN_VALUES),
            server_name: given(!filter.server_name.is_empty(), &filter.server_name)
                .map(|names| Arc::new(ServerNames::new(names, undecided))),
            application: given(!filter.application.is_empty(), &filter.application)
                .map(|patterns| Arc::new(CgroupSet::new(patterns, applications, undecided))),
        };
        let mut back = there.clone();
        back.ports.reverse();
        back.networks.reverse();
        if filter.bidirectional && back != there {
            vec![there, back]
        } else {
            vec![there]
        }
    }

    /// The fields that it gives: bit f for [`Field`] f.
    pub(in crate::compile) fn field_set(&self) -> u8 {
        Field::ALL.into_iter().fold(0, |field_set, field| {
            field_set | u8::from(self.gives(field)) << field as u8
        })
    }

    pub(in crate::compile) fn gives(&self, field: Field) -> bool {
        match field {
            Field::Protocol => self.protocol.is_some(),
            Field::SourcePort => self.ports[0].is_some(),
            Field::DestinationPort => self.ports[1].is_some(),
            Field::Source => self.networks[0].is_some(),
            Field::Destination => self.networks[1].is_some(),
            Field::Vlan => self.vlan.is_some(),
            Field::ServerName => self.server_name.is_some(),
            Field::Application => self.application.is_some(),
        }
    }

    /// Whether the two give other values of a field.
    pub(in crate::compile) fn differs(&self, other: &Self, field: Field) -> bool {
        match field {
            Field::Protocol => self.protocol != other.protocol,
            Field::SourcePort => self.ports[0] != other.ports[0],
            Field::DestinationPort => self.ports[1] != other.ports[1],
            Field::Source => self.networks[0] != other.networks[0],
            Field::Destination => self.networks[1] != other.networks[1],
            Field::Vlan => self.vlan != other.vlan,
            Field::ServerName => self.server_name != other.server_name,
            Field::Application => self.application != other.application,
        }
    }
}
const _: () = assert!(FIELDS == 8);

fn given<T>(is: bool, value: T) -> Option<T> {
    is.then_some(value)
}

/// Sorts and joins ranges; `None` if they are all values.
pub(in crate::compile) fn canonical_ranges(mut ranges: Ranges, values: u32) -> Option<Ranges> {
    ranges.sort_unstable();
    let mut joined: Ranges = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= *end + 1 => *end = (*end).max(last),
            _ => joined.push((first, last)),
        }
    }
    (joined != [(0, values - 1)]).then_some(joined)
}

/// `None` if they are all addresses, as where a filter gives neither networks nor names. Names of
/// which no address is known are no address at all.
fn hosts(networks: &[IpNet], names: &[Name]) -> Option<Networks> {
    if networks.is_empty() && names.is_empty() {
        return None;
    }
    let mut families = [Vec::new(), Vec::new()];
    for network in networks {
        let (family, bits) = match network.network() {
            IpAddr::V4(v4) => (0, u128::from(v4.to_bits()) << 96),
            IpAddr::V6(v6) => (1, v6.to_bits()),
        };
        families[family].push((bits, network.prefix_len()));
    }
    canonical(Networks(families.map(aggregated)))
}

/// `None` if they are all addresses of both families.
pub(in crate::compile) fn canonical(networks: Networks) -> Option<Networks> {
    let all = networks.0.iter().all(|family| *family == [(0, 0)]);
    (!all).then_some(networks)
}

/// Sorts prefixes, drops those inside others, and joins halves.
pub(in crate::compile) fn aggregated(mut prefixes: Vec<(u128, u8)>) -> Vec<(u128, u8)> {
    prefixes.sort_unstable();
    let mut kept: Vec<(u128, u8)> = Vec::with_capacity(prefixes.len());
    for (bits, length) in prefixes {
        if kept
            .last()
            .is_some_and(|&(outer, shorter)| shorter <= length && bits & mask(shorter) == outer)
        {
            continue;
        }
        kept.push((bits, length));
        while let [.., (left, a), (right, b)] = kept[..] {
            let joins = a == b && a > 0 && left | half(a) == right && left & half(a) == 0;
            if !joins {
                break;
            }
            kept.truncate(kept.len() - 2);
            kept.push((left, a - 1));
        }
    }
    kept
}

/// An address of the tables as one number.
pub(in crate::compile) fn bits_of(halves: [u64; 2]) -> u128 {
    u128::from(halves[0]) << 64 | u128::from(halves[1])
}

/// The inverse of [`bits_of`].
pub(in crate::compile) const fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

/// Length of a prefix, from its mask.
pub(in crate::compile) fn length_of(mask: [u64; 2]) -> u8 {
    bits_of(mask).count_ones() as u8
}

/// The bit that separates the two halves of a prefix one bit shorter.
const fn half(length: u8) -> u128 {
    1 << (128 - length)
}

pub(in crate::compile) const fn mask(length: u8) -> u128 {
    if length == 0 { 0 } else { !0 << (128 - length) }
}
