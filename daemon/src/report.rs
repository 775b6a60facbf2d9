//! Input: what was wanted before and what is wanted by now. Output: the lines that an operator reads. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use traffic_mirror_ebpf::abi::Drop;

use crate::compile;
use crate::compile::{Compiled, Costly, NotMirrored, Why};
use crate::desired::{Desired, Endpoint, Filter, Oversize, Unparsed};
use crate::network::{Hook as Direction, Link, LinkKind, Network};
use crate::obstacle::Obstacle;
use crate::preview::list;
use crate::tables::names;

/// What a reload has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// One line each, such as `+ filter web`.
    pub changes: Vec<Change>,
    /// What somebody else had undone, a line each.
    pub repaired: Vec<String>,
    /// Elements of maps that were written.
    pub writes: usize,
    /// How long it took.
    pub duration: Duration,
    /// Programs that are still to be attached or detached.
    pub left: usize,
}

/// One object that has come, gone or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened to it.
    pub sign: Sign,
    /// "filter", "endpoint", "interface" or "mirroring".
    pub object: &'static str,
    /// Its name.
    pub name: String,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// It is new.
    Added,
    /// It differs.
    Changed,
    /// It is gone.
    Removed,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "+",
            Self::Changed => "~",
            Self::Removed => "-",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.sign, self.object, self.name)
    }
}

/// Changes that are told one by one.
const MOST_LINES: usize = 100;

impl Report {
    /// The changes, a line each; of very many only the first, since the journal drops what comes by the thousand.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let more = self.changes.len().saturating_sub(MOST_LINES);
        let more = (more > 0).then(|| format!("and {}", plural(more, "more change")));
        self.changes.iter().take(MOST_LINES).map(ToString::to_string).chain(more)
    }

    /// Adds what came of going on.
    pub fn extend(&mut self, next: Self) {
        self.changes.extend(next.changes);
        self.repaired.extend(next.repaired);
        self.writes += next.writes;
        self.duration += next.duration;
        self.left = next.left;
    }

    /// The last line.
    pub fn summary(&self) -> String {
        let ms = self.duration.as_millis();
        format!("{}, {}, {ms} ms", plural(self.changes.len(), "change"), plural(self.writes, "map write"))
    }
}

/// "1 filter", "2 filters".
pub fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// The objects that differ between two versions of the file.
pub fn changes(live: &Desired, want: &Desired) -> Vec<Change> {
    let mut changes = Vec::new();
    if live.enabled != want.enabled {
        let name = if want.enabled { "enabled" } else { "disabled" };
        changes.push(Change { sign: Sign::Changed, object: "mirroring", name: name.to_owned() });
    }
    if live.unparsed != want.unparsed {
        let name = match want.unparsed {
            Unparsed::Mirror => "mirrored",
            Unparsed::Skip => "skipped",
        };
        changes.push(Change { sign: Sign::Changed, object: "unparsed packets", name: name.to_owned() });
    }
    if live.budget != want.budget {
        changes.push(Change { sign: Sign::Changed, object: "budget", name: format!("{:?}", want.budget.0) });
    }
    for (name, differs) in [("peers", live.peers != want.peers), ("seed", live.seed != want.seed)] {
        if differs {
            changes.push(Change { sign: Sign::Changed, object: "mirroring", name: name.to_owned() });
        }
    }
    compare(&mut changes, "interface", &live.interfaces, &want.interfaces, |i| i.name.as_str());
    compare(&mut changes, "endpoint", &live.endpoints, &want.endpoints, |e| &e.name);
    // a filter names its endpoints by their place in the file's order, which shifts with every new one
    compare(&mut changes, "filter", &by_name(live), &by_name(want), |filter| &filter.0.name);
    changes
}

/// A filter, with the names of its endpoints.
#[derive(Clone, Copy)]
struct Resolved<'d>(&'d Filter, &'d [Endpoint]);

impl PartialEq for Resolved<'_> {
    fn eq(&self, other: &Self) -> bool {
        let names = |one: &Self| one.0.to.iter().map(|&index| one.1[index].name.clone()).collect::<Vec<_>>();
        let rest = |filter: &Filter| Filter { to: Vec::new(), ..filter.clone() };
        names(self) == names(other) && (self.0 == other.0 || rest(self.0) == rest(other.0))
    }
}

fn by_name(desired: &Desired) -> Vec<Resolved<'_>> {
    desired.filters.iter().map(|filter| Resolved(filter, &desired.endpoints)).collect()
}

/// Both lists are sorted by name.
fn compare<T: PartialEq>(
    changes: &mut Vec<Change>,
    object: &'static str,
    live: &[T],
    want: &[T],
    name: impl Fn(&T) -> &str,
) {
    let find = |list: &[T], wanted: &str| list.binary_search_by(|one| name(one).cmp(wanted)).ok();
    let mut push = |sign, one: &T| changes.push(Change { sign, object, name: name(one).to_owned() });
    live.iter().filter(|one| find(want, name(one)).is_none()).for_each(|one| push(Sign::Removed, one));
    for one in want {
        match find(live, name(one)) {
            None => push(Sign::Added, one),
            Some(index) if live[index] != *one => push(Sign::Changed, one),
            Some(_) => {}
        }
    }
}

/// What is wanted and cannot be at the moment, and what may come as a surprise.
pub fn obstacles(desired: &Desired, network: &Network, compiled: &Compiled) -> Vec<Obstacle> {
    let mirrored = compiled.hooks.values().map(|hook| hook.interface).collect();
    let Network { links, refused, .. } = network;
    let mut lines = interfaces(&compile::not_mirrored(&desired.interfaces, links, &mirrored, refused));
    let tables = &compiled.tables;
    let states: BTreeMap<&str, u32> =
        names(&tables.endpoint_names).map(|(index, name)| (name, tables.endpoints[index as usize][0].state)).collect();
    for endpoint in &desired.endpoints {
        let state = states.get(endpoint.name.as_str()).copied().unwrap_or_default();
        let reason = Drop::ALL.get(state as usize).copied().unwrap_or(Drop::None);
        if reason != Drop::None {
            let what = format!("endpoint {} ({}) gets no copies", endpoint.name, endpoint.address);
            lines.push(Obstacle::fault(what, reason.label()));
        }
    }
    lines.extend(duplicates(network, compiled).into_iter().map(Obstacle::from));
    lines.extend(compile::costly(desired, network, compiled).map(|costly| over_budget(desired, &costly)));
    lines
}

/// A packet of which not all copies are made. The numbers depend on which endpoints can be reached.
fn over_budget(desired: &Desired, costly: &Costly) -> Obstacle {
    let Costly { interface, filter, packets, endpoints, copies, time } = costly;
    let what =
        format!("a packet of {interface} may take longer to be copied than the budget of {:?}", desired.budget.0);
    let why = "what is not copied in time is counted as budget; give the output interface an MTU with room for the outer \
               header, send to fewer endpoints, or raise budget";
    let detail = format!(
        "a superpacket of {packets} packets that filter {filter} matches has {copies} copies for {endpoints} endpoints: \
         some {time:?}, as an estimate that is rather low"
    );
    Obstacle { detail, ..Obstacle::fault(what, why) }
}

/// What the file lists and is not mirrored. Those beyond the limit are one thing, since they may be hundreds that come and go.
fn interfaces(all: &[NotMirrored]) -> Vec<Obstacle> {
    let line = |one: &NotMirrored| {
        let NotMirrored { name, why, .. } = one;
        let what = match why {
            Why::Limit => return None,
            Why::Pending => format!("interface {name} is listed, but pending"),
            Why::Absent => format!("interface {name} is listed, but absent"),
            Why::Kind(_) | Why::Vrf | Why::L3s | Why::Refused => format!("interface {name} is listed, but left out"),
            Why::Waiting => format!("interface {name} is listed, but waiting"),
        };
        Some(Obstacle { is_fault: one.is_fault(), ..Obstacle::fault(what, why.text()) })
    };
    let beyond: Vec<String> = all.iter().filter(|one| one.why == Why::Limit).map(|one| one.name.clone()).collect();
    let limit = (!beyond.is_empty()).then(|| Obstacle {
        detail: format!("left out: {}", list(&beyond)),
        ..Obstacle::fault("more interfaces are listed than can be mirrored", Why::Limit.text())
    });
    all.iter().filter_map(line).chain(limit).collect()
}

/// Interfaces of which some packets are copied twice, a line for each pair.
fn duplicates(network: &Network, compiled: &Compiled) -> Vec<String> {
    let mut lines = Vec::new();
    for hook in compiled.hooks.values().filter(|hook| hook.direction == Direction::Ingress) {
        let Some(link) = network.links.get(&hook.interface) else { continue };
        if link.kind == LinkKind::Loopback && is_looked_at(compiled, link.index, Direction::Egress) {
            lines.push(format!("{} is looked at both ways: each packet there is copied twice", link.name));
        }
    }
    let looked_at: BTreeSet<u32> = compiled.hooks.values().map(|hook| hook.interface).collect();
    for link in looked_at.iter().filter_map(|index| network.links.get(index)) {
        for (other, relation) in [(link.master, "a port of"), (link.parent, "built on")] {
            let other = other.filter(|other| looked_at.contains(other)).and_then(|other| network.links.get(&other));
            if let Some(Link { name, .. }) = other {
                lines.push(format!("{} is {relation} {name}: packets that pass both are copied for each", link.name));
            }
        }
    }
    lines
}

fn is_looked_at(compiled: &Compiled, interface: u32, direction: Direction) -> bool {
    compiled.hooks.values().any(|hook| (hook.interface, hook.direction) == (interface, direction))
}

/// What is worth knowing and stands on healthy hosts, too, a line each: endpoints for which the longest packets no longer fit once
/// wrapped.
pub fn advice(desired: &Desired, network: &Network, compiled: &Compiled) -> Vec<String> {
    let Some(longest) = compile::longest(&compiled.hooks, network) else { return Vec::new() };
    let tables = &compiled.tables;
    let indices: BTreeMap<&str, u32> = names(&tables.endpoint_names).map(|(index, name)| (name, index)).collect();
    let line = |endpoint: &Endpoint| {
        let live = &tables.endpoints[*indices.get(endpoint.name.as_str())? as usize][0];
        compile::too_long(live, longest).map(|wrapped| {
            let fate = match endpoint.oversize {
                Oversize::Fragment => "sent in fragments",
                Oversize::Truncate => "truncated",
                Oversize::Drop => "dropped",
            };
            let (name, from, mtu) = (&endpoint.name, &longest.name, live.mtu);
            format!(
                "endpoint {name}: a packet of {from} may have {wrapped} bytes once wrapped; over {mtu} it is {fate}"
            )
        })
    };
    desired.endpoints.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired;
    use crate::network::{Path, Route, RouteKind};

    fn lines(live: &str, want: &str) -> Vec<String> {
        let load = |text| desired::load(text).unwrap().0;
        changes(&load(live), &load(want)).iter().map(ToString::to_string).collect()
    }

    const LIVE: &str = r#"
        [[interface]]
        name = "eth0"
        [endpoint.ids]
        address = "192.0.2.10"
        [endpoint.old]
        address = "192.0.2.11"
        [[filter]]
        name = "web"
        to = ["ids"]
        [[filter]]
        name = "old-dns"
        to = ["old"]
    "#;

    #[test]
    fn of_thousands_of_changes_the_first_are_told() {
        let change = |number: usize| Change { sign: Sign::Added, object: "filter", name: format!("f{number}") };
        let report = |count| Report { changes: (0..count).map(change).collect(), ..Report::default() };
        let lines: Vec<String> = report(MOST_LINES + 1).lines().collect();
        assert_eq!((lines.len(), &*lines[0]), (MOST_LINES + 1, "+ filter f0"));
        assert_eq!(lines[MOST_LINES - 1..], ["+ filter f99", "and 1 more change"]);
        assert_eq!(report(MOST_LINES).lines().last().unwrap(), "+ filter f99");
    }

    #[test]
    fn what_came_went_and_changed() {
        let want = r#"
            enabled = false
            [[interface]]
            name = "eth0"
            [endpoint.capture]
            address = "192.0.2.12"
            [endpoint.ids]
            address = "192.0.2.20"
            [[filter]]
            name = "web"
            to = ["ids"]
            [[filter]]
            name = "dns"
            to = ["ids", "capture"]
        "#;
        assert_eq!(
            lines(LIVE, want),
            [
                "~ mirroring disabled",
                "- endpoint old",
                "+ endpoint capture",
                "~ endpoint ids",
                "- filter old-dns",
                "+ filter dns",
            ],
            "web names the same endpoint, at another place"
        );
    }

    /// eth0 is a port of br0, and vlan5 is built on it; endpoints are behind out0.
    fn network(endpoints: &[&str]) -> Network {
        let kind = |name: &str| if name == "lo" { LinkKind::Loopback } else { LinkKind::Ethernet };
        let link = |(index, (name, mtu)): (u32, (&str, u32))| {
            let link = Link {
                mtu,
                mac: Some([2, 0, 0, 0, 0, 1]),
                kind: kind(name),
                master: (name == "eth0").then_some(2),
                parent: (name == "vlan5").then_some(1),
                ..Link::ethernet(index, name)
            };
            (index, link)
        };
        let links = [("eth0", 1500), ("br0", 1500), ("vlan5", 1496), ("lo", 65_536), ("out0", 1500)];
        let route = Route {
            interface: 5,
            gateway: None,
            source: Some([192, 0, 2, 1].into()),
            mtu: None,
            kind: RouteKind::Unicast,
            assumed: false,
        };
        let path = Path { route: Some(route), mac: Some([2, 0, 0, 0, 0, 2]), ..Path::default() };
        Network {
            links: (1..).zip(links).map(link).collect(),
            paths: endpoints.iter().map(|name| ((*name).to_owned(), path.clone())).collect(),
            ..Network::default()
        }
    }

    #[test]
    fn what_is_not_mirrored_is_told() {
        let said = surprises("[[interface]]\nname = \"eht0\"\n[[interface]]\nname = \"wlan*\"\n");
        assert_eq!(
            said,
            [
                "interface eht0 is listed, but absent: no interface has this name; mirrored once there is one",
                "interface wlan* is listed, but pending: no interface matches; each one that comes is mirrored",
            ]
        );
    }

    #[test]
    fn those_beyond_the_limit_are_told_together() {
        let beyond = |count: usize| -> Vec<NotMirrored> {
            let one = |nth| NotMirrored {
                name: format!("veth{nth:02}"),
                entry: "veth*".to_owned(),
                is_exact: false,
                directions: Vec::new(),
                order: Default::default(),
                why: Why::Limit,
            };
            (0..count).map(one).collect()
        };
        let (few, many) = (interfaces(&beyond(2)), interfaces(&beyond(10)));
        let text = many[0].to_string();
        assert!(
            text.ends_with("; left out: veth00, veth01, veth02, veth03, veth04, veth05, veth06, veth07 and 2 more")
        );
        assert_eq!((few.len(), many.len()), (1, 1));
        assert_eq!(crate::obstacle::lines(&few, &many), [], "which they are changes with each container");
    }

    fn surprises(text: &str) -> Vec<String> {
        let desired = desired::load(text).unwrap().0;
        let names: Vec<&str> = desired.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
        let network = network(&names);
        let compiled =
            crate::compile::new_maps(&desired, &network, &[], &mut crate::compile::Memory::default()).unwrap();
        let obstacles = obstacles(&desired, &network, &compiled).iter().map(ToString::to_string).collect();
        [obstacles, advice(&desired, &network, &compiled)].concat()
    }

    /// Each copy of a packet of 1,500 bytes is in two fragments.
    #[test]
    fn what_takes_longer_than_the_budget_is_told() {
        let told = |endpoints: usize, top: &str, keys: &str, filter: &str| -> Vec<String> {
            let mut text = format!("{top}\n[[interface]]\nname = \"eth0\"\n");
            let mut to = Vec::new();
            for number in 0..endpoints {
                text += &format!("[endpoint.e{number:02}]\naddress = \"192.0.2.{}\"\n{keys}\n", number + 1);
                to.push(format!("\"e{number:02}\""));
            }
            text += &format!("[[filter]]\nname = \"all\"\n{filter}\nto = [{}]\n", to.join(", "));
            surprises(&text).into_iter().filter(|line| line.contains("budget")).collect()
        };
        assert_eq!(
            told(12, "", "", ""),
            [
                "a packet of eth0 may take longer to be copied than the budget of 1ms: what is not copied in time is counted as \
                 budget; give the output interface an MTU with room for the outer header, send to fewer endpoints, or raise budget; \
                 a superpacket of 43 packets that filter all matches has 1032 copies for 12 endpoints: some 1.032ms, as an estimate \
                 that is rather low"
            ]
        );
        assert_eq!(told(11, "", "", ""), [""; 0]);
        assert_eq!(told(12, "budget = \"2ms\"", "", ""), [""; 0]);
        assert_eq!(told(12, "", "oversize = \"drop\"", ""), [""; 0]);
        assert_eq!(told(12, "", "snap = 128", ""), [""; 0]);
        assert_eq!(told(12, "", "", "protocol = [\"tcp\"]"), [""; 0], "TCP is cut smaller");
        assert_eq!(told(12, "", "checksum = true", "protocol = [\"tcp\"]").len(), 1);
        assert_eq!(told(12, "enabled = false", "", ""), [""; 0]);
        assert_eq!(told(64, "", "mtu = 1400", "protocol = [\"icmp\"]"), [""; 0], "no superpackets");
    }

    #[test]
    fn several_filters_count_where_a_packet_may_match_them_all() {
        let file = |second: &str| {
            let mut text = "[[interface]]\nname = \"eth0\"\n".to_owned();
            let mut to = [Vec::new(), Vec::new()];
            for number in 0..12 {
                text += &format!("[endpoint.e{number:02}]\naddress = \"192.0.2.{}\"\n", number + 1);
                to[number % 2].push(format!("\"e{number:02}\""));
            }
            let [first, rest] = to.map(|names| names.join(", "));
            text += &format!("[[filter]]\nname = \"a\"\nprotocol = [\"udp\"]\nto = [{first}]\n");
            text + &format!("[[filter]]\nname = \"b\"\n{second}\nto = [{rest}]\n")
        };
        let is_told = |text: &str| surprises(text).iter().any(|line| line.contains("budget"));
        assert!(is_told(&file("")));
        assert!(!is_told(&file("destination_port = [53]")), "none may match both");
        assert!(!is_told(&(file("") + "[[filter]]\nname = \"x\"\naction = \"exclude\"\nto = [\"e03\"]\n")));
    }

    #[test]
    fn what_is_looked_at_twice_is_told() {
        let all = "[[interface]]\nname = \"*\"\n";
        assert_eq!(
            surprises(all),
            [
                "lo is looked at both ways: each packet there is copied twice",
                "eth0 is a port of br0: packets that pass both are copied for each",
                "vlan5 is built on eth0: packets that pass both are copied for each",
            ]
        );
        for one in ["eth0", "br0", "vlan5"] {
            assert!(surprises(&all.replace('*', one)).is_empty(), "{one}");
        }
        assert!(surprises(&format!("{}direction = \"ingress\"", all.replace('*', "lo"))).is_empty());
    }

    #[test]
    fn encap_is_wanted_where_clones_are_sent_to() {
        let file = |endpoint: &str| format!("[[interface]]\nname = \"*\"\n{endpoint}");
        let compiled = |text: &str, refused: &[u32]| {
            let desired = desired::load(text).unwrap().0;
            let names: Vec<&str> = desired.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
            let mut network = network(&names);
            network.refused = refused.iter().copied().collect();
            network.links.get_mut(&1).unwrap().kind = LinkKind::Other(0xfffe);
            network.links.get_mut(&2).unwrap().kind = LinkKind::Other(803);
            let memory = &mut crate::compile::Memory::default();
            let compiled = crate::compile::new_maps(&desired, &network, &[], memory).unwrap();
            let lines: Vec<_> = obstacles(&desired, &network, &compiled).iter().map(ToString::to_string).collect();
            (compiled.encaps.into_iter().collect::<Vec<_>>(), lines)
        };
        let ids = file("[endpoint.ids]\naddress = \"192.0.2.10\"\nsnap = 100\n");
        let left_out = |lines: &[String], name: &str| {
            lines.iter().any(|line| line.contains(&format!("interface {name} is listed, but")))
        };
        let (encaps, lines) = compiled(&ids, &[]);
        assert_eq!(encaps, [1, 5]);
        assert!(left_out(&lines, "br0") && !left_out(&lines, "eth0"), "{lines:?}");
        assert_eq!(compiled(&file(""), &[]).0, [0; 0], "without an endpoint");
        let (encaps, lines) = compiled(&ids, &[1]);
        assert_eq!(encaps, [5]);
        assert!(left_out(&lines, "eth0"), "{lines:?}");
    }

    #[test]
    fn what_may_not_fit_is_told() {
        let file = |interface: &str, lines: &str| {
            let endpoint = format!("[endpoint.ids]\naddress = \"192.0.2.10\"\n{lines}");
            surprises(&format!("[[interface]]\nname = \"{interface}\"\n{endpoint}"))
        };
        let said = |from: &str, wrapped: u32, fate: &str| {
            [format!("endpoint ids: a packet of {from} may have {wrapped} bytes once wrapped; over 1500 it is {fate}")]
        };
        assert_eq!(file("eth0", ""), said("eth0", 1532, "sent in fragments"));
        assert_eq!(file("vlan5", "oversize = \"truncate\""), said("vlan5", 1528, "truncated"));
        assert_eq!(file("eth0", "oversize = \"drop\"\nsnap = 1469"), said("eth0", 1501, "dropped"));
        assert!(file("eth0", "snap = 1468").is_empty());
    }

    #[test]
    fn order_never_shows() {
        let mut tables: Vec<&str> = LIVE.split("[[filter]]").collect();
        tables.swap(1, 2);
        assert!(lines(LIVE, &tables.join("[[filter]]")).is_empty());
    }

    #[test]
    fn the_summary_counts() {
        let report = Report { writes: 1, duration: Duration::from_millis(4), ..Report::default() };
        assert_eq!(report.summary(), "0 changes, 1 map write, 4 ms");
    }
}
