//! The live or wanted objects, with their values.

use std::collections::{BTreeMap, BTreeSet};

use traffic_mirror_ebpf::abi::{self, Field};

use crate::attached::Attached;
use crate::compile::{
    Described, DescribedFilter, HookKey, key, learns, mac, not_mirrored, outer, state,
};
use crate::desired::{Action, Unparsed};
use crate::network::Network;

/// The order of `mirror` on each hook, as in the file.
pub(super) type Orders = BTreeMap<HookKey, String>;

/// Objects by kind and name, with their values. Kinds are in the order of the output.
pub(super) type Objects = BTreeMap<(usize, String), Facts>;
pub(super) type Facts = Vec<(&'static str, Vec<String>)>;
pub(super) const KINDS: [&str; 4] = ["mirroring", "interface", "endpoint", "filter"];

/// `hooks` are those on which filters are compared, if they are.
pub(super) fn objects(
    described: &Described,
    network: &Network,
    attached: &Attached,
    orders: &Orders,
    hooks: Option<&BTreeSet<HookKey>>,
) -> Objects {
    let mut objects = Objects::new();
    let state = if described.enabled {
        "enabled"
    } else {
        "disabled"
    };
    let unparsed = match described.unparsed {
        Unparsed::Mirror => "mirror",
        Unparsed::Skip => "skip",
    };
    let budget = format!("{:?}", described.budget.0);
    let facts = [
        ("state", state),
        ("unparsed", unparsed),
        ("budget", &budget),
    ];
    let mut facts = facts
        .map(|(key, value)| (key, vec![value.to_owned()]))
        .to_vec();
    facts.push(("peers", described.peers.clone()));
    objects.insert((0, String::new()), facts);
    for &(index, direction) in described.hooks.values() {
        let facts = objects
            .entry((1, interface_name(network, index)))
            .or_insert_with(|| {
                vec![
                    ("direction", Vec::new()),
                    (ORDER, Vec::new()),
                    (ATTACHED, vec![YES.to_owned()]),
                    (LEARN, learn(described, network, index)),
                ]
            });
        facts[0].1.push(direction.word().to_owned());
        facts[0].1.sort_unstable_by(|a, b| b.cmp(a));
        let order = orders
            .get(&(index, direction))
            .filter(|order| !facts[1].1.contains(order));
        facts[1].1.extend(order.cloned());
        if !attached.mirrors.contains_key(&(index, direction)) {
            facts[2].1 = vec![NO.to_owned()];
        }
    }
    let mirrored = described.hooks.values().map(|(index, _)| *index).collect();
    for one in not_mirrored(
        &described.listed,
        &network.links,
        &mirrored,
        &network.refused,
    ) {
        let directions = one
            .directions
            .iter()
            .map(|direction| direction.word().to_owned())
            .collect();
        let attached = format!("{NO} ({})", one.why.state());
        let facts = vec![
            ("direction", directions),
            (ORDER, vec![one.order.to_string()]),
            (ATTACHED, vec![attached]),
        ];
        objects.insert((1, one.name), facts);
    }
    for (name, endpoint) in &described.endpoints {
        objects.insert(
            (2, name.clone()),
            endpoint_facts(endpoint, network, attached),
        );
    }
    for (name, filter) in &described.filters {
        objects.insert(
            (3, name.clone()),
            filter_facts(filter, described, network, hooks),
        );
    }
    objects
}

fn learn(described: &Described, network: &Network, index: u32) -> Vec<String> {
    let link = network.links.get(&index);
    let is_so = link.is_some_and(|link| learns(&described.listed, link));
    vec![if is_so { YES } else { NO }.to_owned()]
}

pub(super) const ATTACHED: &str = "attached";
pub(super) const ENABLED: &str = "enabled";
pub(super) const FRAGMENT: &str = "fragment";
pub(super) const LAST: &str = "last";
pub(super) const LEARN: &str = "learn";
pub(super) const ORDER: &str = "order";
pub(super) const OVERSIZE: &str = "oversize";
pub(super) const SAMPLE: &str = "sample";
pub(super) const BACKLOG: &str = "backlog";
pub(super) const CHECKSUM: &str = "checksum";
pub(super) const YES: &str = "yes";
pub(super) const NO: &str = "no";

pub(super) fn endpoint_facts(
    endpoint: &abi::Endpoint,
    network: &Network,
    attached: &Attached,
) -> Facts {
    let one = |text: String| vec![text];
    let state = ("state", one(state(endpoint).to_owned()));
    if !endpoint.has_way() {
        return vec![state];
    }
    let (source, destination, port) = outer(endpoint);
    let known = endpoint.link_known != 0 || endpoint.link_bytes == 0;
    let next_hop = if known {
        mac(&endpoint.link[..6])
    } else {
        "not resolved yet".to_owned()
    };
    let wrapped = if attached.encaps.contains(&endpoint.interface) {
        YES
    } else {
        NO
    };
    let mut facts = vec![
        state,
        ("address", one(destination.to_string())),
        ("port", one(port.to_string())),
        (
            "interface",
            one(interface_name(network, endpoint.interface)),
        ),
        ("source", one(source.to_string())),
        ("mtu", one(endpoint.mtu.to_string())),
        (ATTACHED, one(wrapped.to_owned())),
    ];
    if endpoint.link_bytes != 0 {
        facts.push(("next_hop", one(next_hop)));
    }
    facts.push((OVERSIZE, one(oversize_word(endpoint).to_owned())));
    facts.push((
        "snap",
        (endpoint.snap != 0)
            .then(|| endpoint.snap.to_string())
            .into_iter()
            .collect(),
    ));
    facts.push(("limit", limit_words(endpoint).into_iter().collect()));
    facts.push((BACKLOG, one(memory_words(endpoint.backlog))));
    facts.push((SAMPLE, one(format!("1/{}", endpoint.sample))));
    facts.push((
        CHECKSUM,
        one(if endpoint.summed == 0 { NO } else { YES }.to_owned()),
    ));
    facts
}

/// `oversize` of an endpoint, as in the file.
pub(super) fn oversize_word(endpoint: &abi::Endpoint) -> &'static str {
    use abi::Oversize::{Drop, Fragment, Truncate};
    let words = [(Fragment, FRAGMENT), (Truncate, "truncate"), (Drop, "drop")];
    words
        .into_iter()
        .find(|(way, _)| *way as u32 == endpoint.oversize)
        .map_or("?", |(_, word)| word)
}

/// `limit` of an endpoint, as in the file.
pub(super) fn limit_words(endpoint: &abi::Endpoint) -> Option<String> {
    let (bits, packets) = (endpoint.limit_bits, endpoint.limit_packets);
    let units = [
        (1_000_000_000, "Gbit"),
        (1_000_000, "Mbit"),
        (1_000, "Kbit"),
        (1, "bit"),
    ];
    let largest = units
        .into_iter()
        .find(|(unit, _)| bits.is_multiple_of(*unit));
    match (bits, packets) {
        (0, 0) => None,
        (0, packets) => Some(format!("{packets}pps")),
        (bits, _) => largest.map(|(unit, name)| format!("{}{name}", bits / unit)),
    }
}

/// An amount of memory as in the file.
pub(super) fn memory_words(bytes: u64) -> String {
    let units = [
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
        (1, "B"),
    ];
    let largest = units
        .into_iter()
        .find(|(unit, _)| bytes.is_multiple_of(*unit));
    largest.map_or_else(String::new, |(unit, name)| {
        format!("{}{name}", bytes / unit)
    })
}

pub(super) fn filter_facts(
    filter: &DescribedFilter,
    described: &Described,
    network: &Network,
    hooks: Option<&BTreeSet<HookKey>>,
) -> Facts {
    let flag = |is: bool| vec![if is { YES } else { NO }.to_owned()];
    let Some(way) = filter.slots.first() else {
        return vec![(ENABLED, flag(false))];
    };
    let action = match filter.action {
        Action::Mirror => "mirror",
        Action::Exclude => "exclude",
    };
    let mut facts = vec![(ENABLED, flag(true)), ("action", vec![action.to_owned()])];
    use Field::{Application, Destination, DestinationPort, Protocol, Source, SourcePort, Vlan};
    let shown = [
        Protocol,
        Source,
        SourcePort,
        Destination,
        DestinationPort,
        Vlan,
        Application,
    ];
    facts.extend(shown.map(|field| (key(field), way.values(field))));
    facts.push(("bidirectional", flag(filter.slots.len() > 1)));
    facts.push(("to", filter.to.iter().cloned().collect()));
    if let Some(hooks) = hooks {
        let on = filter
            .hooks
            .iter()
            .filter_map(|hook| described.hooks.get(hook));
        let on: BTreeSet<HookKey> = on.copied().filter(|hook| hooks.contains(hook)).collect();
        let mut names: Vec<String> = on.iter().map(|hook| hook_name(network, *hook)).collect();
        names.sort_unstable();
        facts.push(("on", if on == *hooks { Vec::new() } else { names }));
    }
    facts
}

/// Name and direction of a hook.
pub fn hook_name(network: &Network, (index, direction): HookKey) -> String {
    format!("{} {}", interface_name(network, index), direction.word())
}

/// Name of an interface that may have gone.
pub fn interface_name(network: &Network, index: u32) -> String {
    network
        .links
        .get(&index)
        .map_or_else(|| format!("(index {index})"), |link| link.name.clone())
}
