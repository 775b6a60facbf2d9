//! Input: what is live, and what the file means. Output: what taking the file would change in the
//! kernel, object by object. Pure: the steps of a reload are taken in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use traffic_mirror_ebpf::abi::{self, Field};

use crate::attached::Attached;
use crate::chain::Chain;
use crate::compile::{
    Cache, Compiled, Described, DescribedFilter, HookKey, describe, key, mac, next_tables,
    not_mirrored, outer, state,
};
use crate::desired::{Action, Desired, Unparsed};
use crate::network::Network;
use crate::plan::Transition;
use crate::report::{SHOWN, Sign, list};
use crate::tables::{Live, Tables};
use crate::{plan, report};

/// What taking a file would change.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// Version of this structure.
    pub schema: u32,
    /// Objects that would be added, changed or removed.
    pub changes: Vec<ObjectDifference>,
    /// Elements of maps that would be written.
    pub map_writes: usize,
    /// They would be written into new maps, since the live ones have no room or there are none.
    pub new_maps: bool,
    /// What is wanted and cannot be at the moment, a line each.
    pub obstacles: Vec<String>,
}

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectDifference {
    /// Whether it is added, changed or removed.
    pub change: Sign,
    /// "mirroring", "interface", "endpoint", "filter" or "segmenter".
    pub object: &'static str,
    /// Its name.
    pub name: String,
    /// What is to be said of it; of one that changes, what differs.
    pub fields: Vec<FieldDifference>,
}

/// One value of an object, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// Its name, where the file has it too that of the file.
    pub field: &'static str,
    /// In the kernel; absent if the object is not there. Of a filter's field an empty list means
    /// any.
    pub live: Option<Vec<String>>,
    /// In the kernel when the file has been taken.
    pub want: Option<Vec<String>>,
}

/// Steps of a reload, at most.
const MAX_STEPS: usize = 16;

/// Takes the steps of a reload in memory. `None` if the filters need more slots than there are.
pub fn preview(
    desired: &Desired,
    network: &Network,
    live: Option<&Live>,
    attached: &Attached,
) -> Option<Preview> {
    let Foreseen {
        want,
        writes,
        new_maps,
    } = foresee(desired, network, live.filter(|_| attached.are_ours))?;
    let before = live.and_then(|live| describe(&live.tables, desired));
    let after = describe(&want.tables, desired)?;
    let before = before.unwrap_or_else(|| Described {
        enabled: true,
        ..Described::default()
    });
    // a hook that comes or goes is a change of its interface, not of every filter
    let common: BTreeSet<HookKey> = before
        .hooks
        .values()
        .filter(|h| after.hooks.values().any(|o| o == *h))
        .copied()
        .collect();
    let is_enabled = before.enabled && after.enabled;
    let hooks = is_enabled.then_some(&common);
    let asked: Orders = want
        .hooks
        .values()
        .map(|hook| ((hook.interface, hook.direction), hook.order.to_string()))
        .collect();
    let ordered = want.hooks.values().filter_map(|hook| {
        let place = (hook.interface, hook.direction);
        Some((place, attached.mirrors.get(&place)?.order(&hook.order)))
    });
    let ordered: Orders = asked.clone().into_iter().chain(ordered).collect();
    let everywhere = Attached {
        are_ours: true,
        mirrors: after
            .hooks
            .values()
            .map(|hook| (*hook, Chain::default()))
            .collect(),
        encaps: want.encaps.clone(),
    };
    let live = objects(&before, network, attached, &ordered, hooks);
    let mut want_objects = objects(&after, network, &everywhere, &asked, hooks);
    let mut live = live;
    // what it is nobody is told
    if before.flow_keys != after.flow_keys && !before.hooks.is_empty() {
        for (objects, seed) in [(&mut live, "one"), (&mut want_objects, "another")] {
            let mirroring = objects.get_mut(&(0, String::new()));
            mirroring
                .into_iter()
                .for_each(|facts| facts.push(("seed", vec![seed.to_owned()])));
        }
    }
    let changes = differences(&live, &want_objects);
    let mut obstacles: Vec<String> = report::obstacles(desired, network, &want)
        .iter()
        .map(ToString::to_string)
        .collect();
    obstacles.extend(report::advice(desired, network, &want));
    let mut changes = changes;
    if want.segmenter_wanted && want.segmenter.is_none() {
        if network.segmenter_refused {
            obstacles.push(
                "there is no segmenter, since the kernel refuses to make it; the log says why"
                    .to_owned(),
            );
        } else {
            changes.push(ObjectDifference {
                change: Sign::Added,
                object: "segmenter",
                name: String::new(),
                fields: Vec::new(),
            });
        }
    }
    obstacles.extend(want.hooks.values().filter_map(|hook| {
        let chain = attached.mirrors.get(&(hook.interface, hook.direction))?;
        chain.obstacle(
            &hook.order,
            &format!("mirror on the {} of {}", hook.direction.word(), hook.name),
        )
    }));
    Some(Preview {
        schema: 1,
        changes,
        map_writes: writes,
        new_maps,
        obstacles,
    })
}

/// The order of `mirror` on each hook, as in the file.
type Orders = BTreeMap<HookKey, String>;

struct Foreseen {
    want: Compiled,
    writes: usize,
    new_maps: bool,
}

fn foresee(desired: &Desired, network: &Network, live: Option<&Live>) -> Option<Foreseen> {
    let (mut cache, mut live, mut writes) = (Cache::default(), live.cloned(), 0);
    for _ in 0..MAX_STEPS {
        let want = next_tables(desired, network, &mut live, &mut cache)?;
        let difference = plan::difference(live.as_ref(), &want);
        let (Transition::InPlace(plan), Some(live)) = (difference, live.as_mut()) else {
            return Some(Foreseen {
                writes: writes + want.tables.elements(),
                want,
                new_maps: true,
            });
        };
        if plan.is_empty() {
            return Some(Foreseen {
                want,
                writes,
                new_maps: false,
            });
        }
        writes += plan.elements();
        apply(&plan, &mut live.tables);
    }
    None
}

fn apply(plan: &plan::Plan, tables: &mut Tables) {
    plan.writes
        .iter()
        .for_each(|write| tables.store(write.table, write.offset, &write.bytes));
    if let Some(epoch) = plan.commit {
        tables.control.epoch = epoch;
    }
}

/// Objects by kind and name, with what is to be said of each. Kinds are in the order in which they
/// are shown.
type Objects = BTreeMap<(usize, String), Facts>;
type Facts = Vec<(&'static str, Vec<String>)>;
const KINDS: [&str; 4] = ["mirroring", "interface", "endpoint", "filter"];

/// `hooks` are those on which filters are compared, if they are.
fn objects(
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

const ATTACHED: &str = "attached";
const ENABLED: &str = "enabled";
const FRAGMENT: &str = "fragment";
const LAST: &str = "last";
const ORDER: &str = "order";
const OVERSIZE: &str = "oversize";
const SAMPLE: &str = "sample";
const BACKLOG: &str = "backlog";
const CHECKSUM: &str = "checksum";
const YES: &str = "yes";
const NO: &str = "no";

fn endpoint_facts(endpoint: &abi::Endpoint, network: &Network, attached: &Attached) -> Facts {
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
        "to be found".to_owned()
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
fn oversize_word(endpoint: &abi::Endpoint) -> &'static str {
    use abi::Oversize::{Drop, Fragment, Truncate};
    let words = [(Fragment, FRAGMENT), (Truncate, "truncate"), (Drop, "drop")];
    words
        .into_iter()
        .find(|(way, _)| *way as u32 == endpoint.oversize)
        .map_or("?", |(_, word)| word)
}

/// `limit` of an endpoint, as in the file.
fn limit_words(endpoint: &abi::Endpoint) -> Option<String> {
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
fn memory_words(bytes: u64) -> String {
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

fn filter_facts(
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
    use Field::{Destination, DestinationPort, Protocol, Source, SourcePort, Vlan};
    let shown = [
        Protocol,
        Source,
        SourcePort,
        Destination,
        DestinationPort,
        Vlan,
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

fn differences(live: &Objects, want: &Objects) -> Vec<ObjectDifference> {
    let keys: BTreeSet<_> = live.keys().chain(want.keys()).collect();
    let difference = |key: &&(usize, String)| {
        let (change, fields) = match (live.get(*key), want.get(*key)) {
            (None, Some(want)) => (
                Sign::Added,
                said(want)
                    .map(|(field, want)| field_of(field, None, Some(want)))
                    .collect(),
            ),
            (Some(_), None) => (Sign::Removed, Vec::new()),
            (Some(live), Some(want)) if live != want => (Sign::Changed, changed(live, want)),
            _ => return None,
        };
        Some(ObjectDifference {
            change,
            object: KINDS[key.0],
            name: key.1.clone(),
            fields,
        })
    };
    keys.iter().filter_map(difference).collect()
}

/// What is worth saying of a new object: what is not a matter of course.
fn said(facts: &Facts) -> impl Iterator<Item = &(&'static str, Vec<String>)> + '_ {
    let ordinary = |(field, values): &&(&'static str, Vec<String>)| match *field {
        ENABLED | ATTACHED => values[0] == YES,
        "bidirectional" | CHECKSUM => values[0] == NO,
        "action" => values[0] == "mirror",
        ORDER => *values == [LAST],
        OVERSIZE => values[0] == FRAGMENT,
        SAMPLE => values[0] == "1/1",
        BACKLOG => values[0] == "64MiB",
        _ => values.is_empty(),
    };
    facts.iter().filter(move |fact| !ordinary(fact))
}

fn changed(live: &Facts, want: &Facts) -> Vec<FieldDifference> {
    let pairs = live.iter().filter_map(|(field, live)| {
        let (_, want) = want.iter().find(|(other, _)| other == field)?;
        (live != want).then(|| field_of(field, Some(live), Some(want)))
    });
    pairs.collect()
}

fn field_of(
    field: &'static str,
    live: Option<&Vec<String>>,
    want: Option<&Vec<String>>,
) -> FieldDifference {
    FieldDifference {
        field,
        live: live.cloned(),
        want: want.cloned(),
    }
}

impl Preview {
    /// Whether the file is live.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.map_writes == 0
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes
            .iter()
            .try_for_each(|change| write!(f, "{change}"))?;
        self.obstacles
            .iter()
            .try_for_each(|line| writeln!(f, "! {line}"))?;
        if self.is_empty() {
            return writeln!(f, "no changes: the file is live");
        }
        let count = |sign: Sign| {
            self.changes
                .iter()
                .filter(|change| change.change == sign)
                .count()
        };
        let (added, changed, removed) = (
            count(Sign::Added),
            count(Sign::Changed),
            count(Sign::Removed),
        );
        let writes = report::plural(self.map_writes, "map write");
        let into = if self.new_maps { " into new maps" } else { "" };
        writeln!(
            f,
            "{added} to add, {changed} to change, {removed} to remove; {writes}{into}"
        )
    }
}

impl fmt::Display for ObjectDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() {
            String::new()
        } else {
            format!(" {}", self.name)
        };
        writeln!(f, "{} {}{name}", self.change, self.object)?;
        for FieldDifference { field, live, want } in &self.fields {
            match (live, want) {
                (Some(live), Some(want)) if live.len().max(want.len()) > SHOWN => {
                    let only = |these: &[String], those: &[String]| -> Vec<String> {
                        these
                            .iter()
                            .filter(|one| !those.contains(one))
                            .cloned()
                            .collect()
                    };
                    for (sign, values) in [('-', only(live, want)), ('+', only(want, live))] {
                        if !values.is_empty() {
                            writeln!(f, "    {field}: {sign} {}", list(&values))?;
                        }
                    }
                }
                (Some(live), Some(want)) => {
                    writeln!(f, "    {field}: {} -> {}", list(live), list(want))?
                }
                (live, want) => writeln!(
                    f,
                    "    {field}: {}",
                    list(want.as_ref().or(live.as_ref()).unwrap_or(&Vec::new()))
                )?,
            }
        }
        Ok(())
    }
}
