//! Input: what was wanted before and what is wanted by now. Output: the lines that an operator reads. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use traffic_mirror_ebpf::abi::Drop;

use crate::compile::Compiled;
use crate::desired::{Desired, Endpoint, Filter};
use crate::network::Network;
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

/// What is wanted and cannot be at the moment, a line each.
pub fn obstacles(desired: &Desired, network: &Network, compiled: &Compiled) -> Vec<String> {
    let mut lines = Vec::new();
    for interface in &desired.interfaces {
        let mut matching = network.links.values().filter(|link| interface.name.matches(&link.name)).peekable();
        if matching.peek().is_none() {
            lines.push(format!("interface {} is not there yet; it is attached when it appears", interface.name));
        }
        for link in matching.filter(|link| !compiled.hooks.values().any(|hook| hook.interface == link.index)) {
            lines.push(format!("interface {} is left out: {}", link.name, crate::compile::why_left_out(link)));
        }
    }
    let tables = &compiled.tables;
    let states: BTreeMap<&str, u32> =
        names(&tables.endpoint_names).map(|(index, name)| (name, tables.endpoints[index as usize][0].state)).collect();
    for endpoint in &desired.endpoints {
        let state = states.get(endpoint.name.as_str()).copied().unwrap_or_default();
        let reason = Drop::ALL.get(state as usize).copied().unwrap_or(Drop::None);
        if reason != Drop::None {
            lines.push(format!("endpoint {} ({}) gets no copies: {}", endpoint.name, endpoint.address, reason.label()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired;

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
