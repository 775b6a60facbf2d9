//! Input: tables. Output: what they stand for, in the words of the file: the objects of the kernel,
//! for people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use traffic_mirror_ebpf::abi::{self, Field, Slot};
use traffic_mirror_ebpf::packet::Packet;

use crate::cgroup::Applications;
use crate::compile::classifier::assign::{allocated, known};
use crate::compile::classifier::decompile::decompile;
use crate::compile::classifier::definition::{
    Definition, NO_PORT, Networks, Ranges, bits_of, mask,
};
use crate::compile::classifier::reachable::Reachable;
use crate::compile::classifier::slot_set::SlotSet;
use crate::desired;
use crate::desired::{Action, Budget, Desired, Unparsed, protocol_name};
use crate::network::Direction;
use crate::tables::{Tables, names};

/// A hook: index of the interface, direction.
pub type HookKey = (u32, Direction);

/// What tables stand for.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// The master switch of the file.
    pub enabled: bool,
    /// Treatment of packets with unknown fields.
    pub unparsed: Unparsed,
    /// How long the copies of one packet may take.
    pub budget: Budget,
    /// Addresses and networks of other mirrors.
    pub peers: Vec<String>,
    /// What the hash of a flow is made with.
    pub flow_keys: abi::FlowKeys,
    /// The interface entries of the file, by name.
    pub listed: Vec<desired::Interface>,
    /// The monitored hooks, by their index.
    pub hooks: BTreeMap<u32, HookKey>,
    /// By name.
    pub endpoints: BTreeMap<String, abi::Endpoint>,
    /// By name.
    pub filters: BTreeMap<String, DescribedFilter>,
}

/// A filter as the tables have it.
#[derive(Debug, Clone)]
pub struct DescribedFilter {
    /// One, or two if it is bidirectional; none if it is disabled.
    pub slots: Vec<DescribedSlot>,
    /// What a match does.
    pub action: Action,
    /// Names of its endpoints.
    pub to: BTreeSet<String>,
    /// Indices of the hooks on which it is in force.
    pub hooks: BTreeSet<u32>,
}

/// One definition of a filter.
#[derive(Debug, Clone)]
pub struct DescribedSlot {
    /// The slot that stands for it.
    pub slot: u32,
    definition: Arc<Definition>,
}

/// Describes tables. They do not contain which definition of a bidirectional filter is the one in
/// the file: the one that has more in common with the filter of that name in `desired` comes first.
/// `None` if they are inconsistent.
pub fn describe(tables: &Tables, desired: &Desired) -> Option<Described> {
    // what goes round in circles is found here
    Reachable::of(tables)?;
    let mut definitions = decompile(tables, known(tables)?.into_iter())?;
    let place = |hook: &abi::Hook| {
        (
            hook.interface,
            if hook.egress == 0 {
                Direction::Ingress
            } else {
                Direction::Egress
            },
        )
    };
    let hooks = (0..)
        .zip(tables.hooks.iter())
        .filter(|(_, hook)| hook.interface != 0);
    let hooks: BTreeMap<u32, HookKey> = hooks.map(|(index, hook)| (index, place(hook))).collect();
    let mut rows = BTreeMap::new();
    for &index in hooks.keys() {
        let row = tables
            .rows
            .get(*tables.active_bank().rows.get(index as usize)? as usize)?;
        rows.insert(
            index,
            SlotSet::of_row(row).iter().collect::<BTreeSet<u32>>(),
        );
    }
    let endpoint_names: BTreeMap<u32, &str> = names(&tables.endpoint_names).collect();
    let bank = tables.control.epoch as usize & 1;
    let disabled = DescribedFilter {
        slots: Vec::new(),
        action: Action::Mirror,
        to: BTreeSet::new(),
        hooks: BTreeSet::new(),
    };
    let mut filters: BTreeMap<u32, DescribedFilter> = names(&tables.filters)
        .map(|(index, _)| (index, disabled.clone()))
        .collect();
    for (slot, Slot { action, filter, .. }) in allocated(tables) {
        let (Some(filter), Some(definition)) = (filters.get_mut(filter), definitions.remove(slot))
        else {
            continue;
        };
        let action = action[bank];
        let bits = action.include | action.exclude;
        filter.action = if action.exclude == 0 {
            Action::Mirror
        } else {
            Action::Exclude
        };
        filter.to = (0..64)
            .filter(|bit| bits >> bit & 1 != 0)
            .map(|bit| name_of(&endpoint_names, bit))
            .collect();
        filter.hooks.extend(
            rows.iter()
                .filter(|(_, row)| row.contains(&slot))
                .map(|(&hook, _)| hook),
        );
        filter.slots.push(DescribedSlot { slot, definition });
    }
    let enabled = tables.active_bank().off == 0;
    let unparsed = if tables.active_bank().skips_unparsed == 0 {
        Unparsed::Mirror
    } else {
        Unparsed::Skip
    };
    let budget = Budget(Duration::from_nanos(tables.active_bank().budget_ns));
    let mut filters: BTreeMap<String, DescribedFilter> = names(&tables.filters)
        .filter_map(|(index, name)| Some((name.to_owned(), filters.remove(&index)?)))
        .collect();
    desired
        .filters
        .iter()
        .for_each(|filter| orient(&mut filters, filter));
    let endpoint = |(&index, name): (&u32, &&str)| {
        Some((
            (*name).to_owned(),
            tables
                .endpoints
                .get(index as usize)
                .map(|pair| pair[bank])?,
        ))
    };
    let listed = super::entries(&tables.listed);
    let endpoints = endpoint_names.iter().filter_map(endpoint).collect();
    let peers = tables
        .active_bank()
        .peers
        .iter()
        .map_while(super::peers::peer_name)
        .collect();
    let flow_keys = tables.active_bank().flow_keys;
    Some(Described {
        enabled,
        unparsed,
        budget,
        peers,
        flow_keys,
        listed,
        hooks,
        endpoints,
        filters,
    })
}

fn name_of(names: &BTreeMap<u32, &str>, index: u32) -> String {
    names
        .get(&index)
        .map_or_else(|| format!("(number {index})"), |name| (*name).to_owned())
}

fn orient(filters: &mut BTreeMap<String, DescribedFilter>, wanted: &desired::Filter) {
    if let (Some(filter), Some(there)) = (
        filters.get_mut(&wanted.name),
        Definition::of(wanted, &Applications::default()).first(),
    ) {
        filter.slots.sort_by_key(|slot| {
            Field::ALL
                .into_iter()
                .filter(|&f| slot.definition.differs(there, f))
                .count()
        });
    }
}

impl DescribedSlot {
    /// The values of a field, as the file would give them; empty if any will do.
    pub fn values(&self, field: Field) -> Vec<String> {
        let ports =
            |ranges: &Option<Ranges>| ranges.iter().flatten().map(|&ports| range(ports)).collect();
        let definition = &*self.definition;
        match field {
            Field::Protocol => {
                let numbers = definition
                    .protocol
                    .iter()
                    .flatten()
                    .flat_map(|&(first, last)| first..=last);
                numbers.map(|number| protocol_name(number as u8)).collect()
            }
            Field::SourcePort => ports(&definition.ports[0]),
            Field::DestinationPort => ports(&definition.ports[1]),
            Field::Source => networks(definition.networks[0].as_ref()),
            Field::Destination => networks(definition.networks[1].as_ref()),
            Field::Vlan => definition
                .vlan
                .iter()
                .flatten()
                .map(|&vlans| vlan_range(vlans))
                .collect(),
            Field::ServerName => {
                let names = definition.server_name.as_deref();
                names.map_or_else(Vec::new, |names| names.texts().collect())
            }
            Field::Application => {
                let set = definition.application.as_deref();
                match set.map(|set| &*set.cgroups) {
                    None => Vec::new(),
                    Some([]) => vec![NOT_RUNNING.to_owned()],
                    Some(all) => all.iter().map(|cgroup| cgroup.path.clone()).collect(),
                }
            }
        }
    }

    /// Whether it gives a field.
    pub fn gives(&self, field: Field) -> bool {
        self.definition.gives(field)
    }

    /// Whether a server name is among those that it gives.
    pub fn admits_name(&self, name: &str) -> bool {
        let names = self.definition.server_name.as_deref();
        names.is_none_or(|names| names.has(name))
    }

    /// Whether a cgroup is among those that it gives, or below one; `ids` are those from the root
    /// down to it.
    pub fn admits_cgroup(&self, ids: &[u64]) -> bool {
        let set = self.definition.application.as_deref();
        set.is_none_or(|set| set.cgroups.iter().any(|one| ids.starts_with(&one.ids)))
    }

    /// Whether a packet's value of a field is among them; one that is unknown is none.
    pub fn admits(&self, field: Field, packet: &Packet) -> bool {
        let among = |ranges: &Option<Ranges>, value: u32| {
            ranges.as_ref().is_none_or(|ranges| {
                ranges
                    .iter()
                    .any(|&(first, last)| (first..=last).contains(&value))
            })
        };
        let port = |port: u16| {
            if packet.ported == 0 {
                NO_PORT
            } else {
                port.into()
            }
        };
        let inside = |networks: &Option<Networks>, address: [u64; 2]| {
            let within = |&(bits, length): &(u128, u8)| bits_of(address) & mask(length) == bits;
            networks
                .as_ref()
                .is_none_or(|n| n.0[usize::from(packet.version == 6)].iter().any(within))
        };
        let definition = &*self.definition;
        match field {
            Field::Protocol => among(&definition.protocol, packet.protocol.into()),
            Field::SourcePort => among(&definition.ports[0], port(packet.source_port)),
            Field::DestinationPort => among(&definition.ports[1], port(packet.destination_port)),
            Field::Source => inside(&definition.networks[0], packet.source),
            Field::Destination => inside(&definition.networks[1], packet.destination),
            Field::Vlan => among(&definition.vlan, packet.vlan.into()),
            // that of a flow, which no packet has by itself
            Field::ServerName | Field::Application => true,
        }
    }
}

/// Stands for the addresses of DNS names while none is known.
pub const NO_ADDRESS: &str = "(no address)";

/// In place of the cgroups of applications that have none now.
const NOT_RUNNING: &str = "none now";

/// The word of the file for a field.
pub const fn key(field: Field) -> &'static str {
    match field {
        Field::Protocol => "protocol",
        Field::SourcePort => "source_port",
        Field::DestinationPort => "destination_port",
        Field::Source => "source",
        Field::Destination => "destination",
        Field::Vlan => "vlan",
        Field::ServerName => "server_name",
        Field::Application => "application",
    }
}

fn range((first, last): (u32, u32)) -> String {
    let port = |value: u32| {
        if value == NO_PORT {
            "none".to_owned()
        } else {
            value.to_string()
        }
    };
    if first == last {
        port(first)
    } else {
        format!("{}-{}", port(first), port(last))
    }
}

/// The number of a VLAN as the file has it.
pub fn vlan_name(vlan: u16) -> String {
    if vlan == 0 {
        "none".to_owned()
    } else {
        vlan.to_string()
    }
}

fn vlan_range((first, last): (u32, u32)) -> String {
    let (first, last) = (vlan_name(first as u16), vlan_name(last as u16));
    if first == last {
        first
    } else {
        format!("{first}-{last}")
    }
}

fn networks(networks: Option<&Networks>) -> Vec<String> {
    let Some(Networks([v4, v6])) = networks else {
        return Vec::new();
    };
    if v4.is_empty() && v6.is_empty() {
        return vec![NO_ADDRESS.to_owned()];
    }
    let network = |address: IpAddr, length: u8, host: u8| {
        if length == host {
            address.to_string()
        } else {
            format!("{address}/{length}")
        }
    };
    let v4 = v4
        .iter()
        .map(|&(bits, length)| network(Ipv4Addr::from((bits >> 96) as u32).into(), length, 32));
    let v6 = v6
        .iter()
        .map(|&(bits, length)| network(Ipv6Addr::from(bits).into(), length, 128));
    v4.chain(v6).collect()
}

/// Source, destination and port of an endpoint's outer header.
pub fn outer(endpoint: &abi::Endpoint) -> (IpAddr, IpAddr, u16) {
    let outer = &endpoint.outer;
    let four = |at: usize| IpAddr::from([outer[at], outer[at + 1], outer[at + 2], outer[at + 3]]);
    let sixteen =
        |at: usize| IpAddr::from(std::array::from_fn::<u8, 16, _>(|byte| outer[at + byte]));
    let (source, destination, udp) = if outer[0] >> 4 == 4 {
        (four(12), four(16), 20)
    } else {
        (sixteen(8), sixteen(24), 40)
    };
    (
        source,
        destination,
        u16::from_be_bytes([outer[udp + 2], outer[udp + 3]]),
    )
}

/// The word for an endpoint's state: "ready", "resolving" while the kernel resolves the next hop,
/// or the reason why copies are dropped.
pub fn state(endpoint: &abi::Endpoint) -> &'static str {
    match abi::Drop::ALL
        .get(endpoint.state as usize)
        .copied()
        .unwrap_or(abi::Drop::None)
    {
        abi::Drop::None if endpoint.is_unresolved() => abi::Drop::Resolving.label(),
        abi::Drop::None => READY,
        reason => reason.label(),
    }
}

/// The state of an endpoint that gets its copies.
pub const READY: &str = "ready";

/// A hardware address as people write it.
pub fn mac(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}
