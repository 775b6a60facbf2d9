//! Input: what the kernel found out about a packet, and what the live tables stand for. Output:
//! what happens to the packet, and why. Pure.

mod capture;
mod dns;
mod frame;
mod text;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, Explained, Field, Row};
use traffic_mirror_ebpf::packet::Packet;

use crate::compile::{
    Described, DescribedFilter, DescribedSlot, HookKey, called, key, not_mirrored, outer, state,
    vlan_name,
};
use crate::desired::{Action, Unparsed, protocol_name};
use crate::network::{Direction, Network};
use crate::preview::{hook_name, interface_name};
use crate::report::list;
use crate::status::Origin;

pub use capture::{CapturedName, captured_names};
pub use frame::{frame, framed};
pub use text::Capture;

/// A packet as filters see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Name or number.
    pub protocol: String,
    /// Source address.
    pub source: IpAddr,
    /// Absent if the packet has no ports.
    pub source_port: Option<u16>,
    /// Destination address.
    pub destination: IpAddr,
    /// Absent if the packet has no ports.
    pub destination_port: Option<u16>,
    /// The outermost VLAN; absent without a tag.
    pub vlan: Option<u16>,
    /// What of it cannot be read, if anything.
    pub unknown: Option<&'static str>,
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// As the kernel parsed it; absent if it could not.
    pub packet: Option<Flow>,
    /// Why no filter was matched.
    pub skipped: Option<&'static str>,
    /// `unparsed` of the file, if something of the packet is unknown.
    pub unparsed: Option<&'static str>,
    /// The filters that match.
    pub matches: Vec<Match>,
    /// The endpoints that get a copy.
    pub goes_to: Vec<Target>,
    /// The endpoints that get none because of an `exclude`.
    pub excluded: Vec<String>,
    /// The filters that match but for one field.
    pub near_misses: Vec<Miss>,
}

/// A filter that matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// Its name.
    pub filter: String,
    /// "mirror" or "exclude".
    pub action: &'static str,
    /// Its endpoints.
    pub to: Vec<String>,
    /// The DNS names by whose addresses it matches, as far as [`Verdict::add_dns_names`] was told
    /// of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<Origin>,
}

/// An endpoint that gets a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name.
    pub endpoint: String,
    /// "ready", or why the copy would be dropped.
    pub state: &'static str,
    /// Outer destination address.
    pub address: Option<IpAddr>,
    /// Outer destination port.
    pub port: Option<u16>,
    /// Output interface.
    pub interface: Option<String>,
    /// The DNS name that the address came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<Origin>,
}

/// A filter that matches but for one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Miss {
    /// Its name.
    pub filter: String,
    /// The field that fails, as the file names it; "on" for interface and direction.
    pub field: &'static str,
    /// What the packet has.
    pub has: String,
    /// What the filter wants.
    pub wants: Vec<String>,
    /// The DNS names that it gives there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
}

/// What is asked about the packet's flow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Its server name, if it is known.
    pub name: Option<&'a str>,
    /// Its application as it was asked for, and the ids of the cgroups from the root down to it, if
    /// it is known.
    pub application: Option<(&'a str, &'a [u64])>,
}

/// Names what the kernel found at a hook.
pub fn verdict(
    explained: &Explained,
    asked: Asked<'_>,
    hook: u32,
    live: &Described,
    network: &Network,
) -> Verdict {
    let is_skipped = live.unparsed == Unparsed::Skip;
    let unparsed = if is_skipped { SKIP } else { "mirror" };
    let mut verdict = Verdict {
        packet: Flow::of(&explained.packet),
        skipped: explained.reason().map(|reason| reason.label()),
        unparsed: (explained.packet.unknown & !Packet::LEARNED != 0).then_some(unparsed),
        matches: Vec::new(),
        goes_to: Vec::new(),
        excluded: Vec::new(),
        near_misses: Vec::new(),
    };
    if verdict.skipped.is_some() {
        return verdict;
    }
    // what is unknown and skipped counts as not there
    let unknown = if is_skipped {
        0
    } else {
        explained.packet.unknown
    };
    let packet = Packet {
        unknown,
        ..explained.packet
    };
    let (mut include, mut exclude) = (BTreeSet::new(), BTreeSet::new());
    for (name, filter) in &live.filters {
        let (set, action, rows) = match filter.action {
            Action::Mirror => (&mut include, "mirror", &explained.matches),
            Action::Exclude => (&mut exclude, "exclude", &explained.certain),
        };
        if filter.slots.iter().any(|slot| has(rows, slot.slot)) {
            set.extend(&filter.to);
            let to = filter.to.iter().cloned().collect();
            verdict.matches.push(Match {
                filter: name.clone(),
                action,
                to,
                dns_names: Vec::new(),
            });
        } else {
            verdict.near_misses.extend(near_miss(
                name,
                filter,
                (&packet, asked),
                hook,
                live,
                network,
            ));
        }
    }
    verdict.excluded = include
        .intersection(&exclude)
        .map(|name| (*name).clone())
        .collect();
    verdict.goes_to = include
        .difference(&exclude)
        .map(|name| target(name, live, network))
        .collect();
    verdict
}

fn has(row: &Row, slot: u32) -> bool {
    let (block, bit) = (slot as usize / BLOCK_SLOTS, slot as usize % BLOCK_SLOTS);
    row.blocks
        .get(block)
        .is_some_and(|block| block[bit / 64] >> (bit % 64) & 1 != 0)
}

/// The one field that fails, if it is only one: in the direction that comes closest.
fn near_miss(
    name: &str,
    filter: &DescribedFilter,
    (packet, asked): (&Packet, Asked<'_>),
    hook: u32,
    live: &Described,
    network: &Network,
) -> Option<Miss> {
    let fails = |slot: &DescribedSlot| -> Vec<Field> {
        Field::ALL
            .into_iter()
            .filter(|&field| !admits(filter, slot, field, packet, asked))
            .collect()
    };
    let (slot, failing) = filter
        .slots
        .iter()
        .map(|slot| (slot, fails(slot)))
        .min_by_key(|(_, failing)| failing.len())?;
    let (field, has, wants) = match (
        failing[..].first(),
        failing.len(),
        filter.hooks.contains(&hook),
    ) {
        (None, _, _) => {
            let on = filter.hooks.iter().filter_map(|hook| live.hooks.get(hook));
            let here = live.hooks.get(&hook)?;
            (
                "on",
                hook_name(network, *here),
                on.map(|hook| hook_name(network, *hook)).collect(),
            )
        }
        (Some(&field), 1, true) => (
            key(field),
            match field {
                Field::ServerName => asked.name.unwrap_or(UNKNOWN).to_owned(),
                Field::Application => asked
                    .application
                    .map_or(UNKNOWN, |(text, _)| text)
                    .to_owned(),
                _ => Flow::of(packet)?.value(field),
            },
            slot.values(field),
        ),
        _ => return None,
    };
    Some(Miss {
        filter: name.to_owned(),
        field,
        has,
        wants,
        dns_names: Vec::new(),
    })
}

/// Whether a field is as a slot of the filter wants it, as far as it is known.
fn admits(
    filter: &DescribedFilter,
    slot: &DescribedSlot,
    field: Field,
    packet: &Packet,
    asked: Asked<'_>,
) -> bool {
    match (field, asked.name, asked.application) {
        (Field::ServerName, Some(name), _) => return slot.admits_name(name),
        (Field::Application, _, Some((_, ids))) => return slot.admits_cgroup(ids),
        _ => {}
    }
    let is_any = filter.action == Action::Mirror && is_unknown(packet, field);
    let is_given = slot.gives(field);
    is_any || slot.admits(field, packet) && !(is_given && is_unknown(packet, field))
}

fn is_unknown(packet: &Packet, field: Field) -> bool {
    match field {
        Field::Protocol => packet.unknown & Packet::PROTOCOL != 0,
        Field::SourcePort | Field::DestinationPort => packet.unknown & !Packet::LEARNED != 0,
        Field::ServerName => packet.unknown & Packet::SERVER_NAME != 0,
        Field::Application => packet.unknown & Packet::APPLICATION != 0,
        Field::Source | Field::Destination | Field::Vlan => false,
    }
}

fn target(name: &str, live: &Described, network: &Network) -> Target {
    let endpoint = live.endpoints.get(name);
    let reached = endpoint.filter(|endpoint| endpoint.has_way());
    let header = reached.map(outer);
    Target {
        endpoint: name.to_owned(),
        state: endpoint.map_or("unknown", state),
        address: header.map(|(_, address, _)| address),
        port: header.map(|(.., port)| port),
        interface: reached.map(|endpoint| interface_name(network, endpoint.interface)),
        dns_name: None,
    }
}

impl Flow {
    /// `None` if the kernel could not parse it.
    pub fn of(packet: &Packet) -> Option<Self> {
        let address = |halves: [u64; 2]| match packet.version {
            4 => Some(IpAddr::from(Ipv4Addr::from((halves[0] >> 32) as u32))),
            6 => Some(IpAddr::from(Ipv6Addr::from(
                u128::from(halves[0]) << 64 | u128::from(halves[1]),
            ))),
            _ => None,
        };
        let port = |port: u16| (packet.ported != 0).then_some(port);
        let (protocol, unknown) = match packet.unknown {
            0 => (protocol_name(packet.protocol), None),
            Packet::SERVER_NAME => (protocol_name(packet.protocol), Some(SERVER_NAME)),
            Packet::APPLICATION => (protocol_name(packet.protocol), Some(APPLICATION)),
            Packet::LEARNED => (protocol_name(packet.protocol), Some(LEARNED)),
            some if some & Packet::PROTOCOL == 0 => (protocol_name(packet.protocol), Some("ports")),
            _ => (UNKNOWN.to_owned(), Some("protocol and ports")),
        };
        Some(Self {
            protocol,
            source: address(packet.source)?,
            source_port: port(packet.source_port),
            destination: address(packet.destination)?,
            destination_port: port(packet.destination_port),
            vlan: (packet.vlan != 0).then_some(packet.vlan),
            unknown,
        })
    }

    fn value(&self, field: Field) -> String {
        let none = if self.unknown.is_some() {
            UNKNOWN
        } else {
            "none"
        };
        let port =
            |port: Option<u16>| port.map_or_else(|| none.to_owned(), |port| port.to_string());
        match field {
            Field::Protocol => self.protocol.clone(),
            Field::SourcePort => port(self.source_port),
            Field::DestinationPort => port(self.destination_port),
            Field::Source => self.source.to_string(),
            Field::Destination => self.destination.to_string(),
            Field::Vlan => vlan_name(self.vlan.unwrap_or_default()),
            Field::ServerName | Field::Application => UNKNOWN.to_owned(),
        }
    }
}

const SKIP: &str = "skip";

/// What of a flow may be unknown.
const SERVER_NAME: &str = "server name";
const APPLICATION: &str = "application";
const LEARNED: &str = "server name and application";

/// What stands for a value that cannot be read.
const UNKNOWN: &str = "unknown";

/// The index of a hook; `None` if packets are not matched there.
pub fn hook_of(live: &Described, place: HookKey) -> Option<u32> {
    live.hooks
        .iter()
        .find(|(_, there)| **there == place)
        .map(|(&index, _)| index)
}

/// Why packets are not matched there.
pub fn why_no_hook(
    name: &str,
    direction: Direction,
    live: &Described,
    network: &Network,
) -> String {
    let mirrored: BTreeSet<u32> = live
        .hooks
        .values()
        .map(|(interface, _)| *interface)
        .collect();
    let not_mirrored = not_mirrored(&live.listed, &network.links, &mirrored, &network.refused);
    let link = network.link(name);
    let real = link.map_or(name, |link| &link.name);
    let asked = format!("{name} {}", direction.word());
    if let Some(one) = not_mirrored
        .iter()
        .find(|one| one.name == real && (link.is_none() || one.directions.contains(&direction)))
    {
        return format!(
            "{name} is not monitored, it is {}: {}",
            one.why.state(),
            one.why.text()
        );
    }
    let hooks: Vec<String> = live
        .hooks
        .values()
        .map(|hook| hook_name(network, *hook))
        .collect();
    let monitored = match hooks[..] {
        [] => "none".to_owned(),
        _ => list(&hooks),
    };
    match link {
        None => format!("there is no interface {name}, and the file lists none of this name"),
        Some(link)
            if live
                .listed
                .iter()
                .any(|entry| called(&entry.name, link).is_some()) =>
        {
            format!(
                "{asked} is not monitored, the file lists the other direction only; monitored: {monitored}"
            )
        }
        Some(_) => {
            format!("{asked} is not monitored, the file does not list it; monitored: {monitored}")
        }
    }
}
