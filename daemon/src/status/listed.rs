//! Input: what the file lists and is not mirrored. Output: the same for `status`, `top` and
//! programs, and the sentences for which the status is degraded.

use std::fmt;

use serde::Serialize;

use crate::compile;
use crate::desired::Order;
use crate::report::{list, plural};

/// An interface that the file lists, or an entry without an interface, whose packets are not
/// mirrored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotMirrored {
    /// The interface's name; that of the entry if there is no interface.
    pub name: String,
    /// `name` of the entry of the file; of several the most specific one.
    pub entry: String,
    /// The alternative name that the file lists it by; absent if it does so by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub altname: Option<String>,
    /// "ingress", "egress": the listed directions that are not mirrored.
    pub directions: Vec<&'static str>,
    /// "absent", "pending", "left out", "waiting".
    pub state: &'static str,
    /// Why, in one word: "absent", "pending", "limit", "kind", "vrf", "l3s", "attach-failed",
    /// "waiting".
    pub reason: &'static str,
    /// The same for people, with what to do about it.
    pub why: String,
    /// `order` of the entry.
    pub order: String,
    /// Whether the status is degraded by it.
    pub is_fault: bool,
    /// The interface exists, or the file lists its exact name.
    #[serde(skip)]
    pub is_interface: bool,
    #[serde(skip)]
    is_many: bool,
}

impl NotMirrored {
    pub(crate) fn of(one: &compile::NotMirrored) -> Self {
        Self {
            name: one.name.clone(),
            entry: one.entry.clone(),
            altname: one.altname().map(str::to_owned),
            directions: one
                .directions
                .iter()
                .map(|direction| direction.word())
                .collect(),
            state: one.why.state(),
            reason: one.why.label(),
            why: one.why.text(),
            order: one.order.to_string(),
            is_fault: one.is_fault(),
            is_interface: one.why != compile::Why::Pending,
            // those are one fault, and may be hundreds
            is_many: one.why == compile::Why::Limit,
        }
    }

    /// The order that waits for a program, and so for this.
    fn pending_order(&self) -> Option<&str> {
        let order = Order::read(&self.order)?;
        order.name().is_some().then_some(&*self.order)
    }
}

/// Interfaces with the same fate.
pub(super) struct Group {
    names: Vec<String>,
    state: &'static str,
    why: String,
    pub(super) is_fault: bool,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            names, state, why, ..
        } = self;
        let count = if names.len() > 1 {
            format!("{}: ", names.len())
        } else {
            String::new()
        };
        write!(f, "{count}{:<15} {state:<8} {why}", list(names))
    }
}

/// A line for each, those that are left out for the same reason in one.
pub(super) fn grouped(all: &[NotMirrored]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for one in all {
        let order = one.pending_order().map_or_else(String::new, |order| {
            format!("; order {order} is pending, too")
        });
        let altname = one
            .altname
            .as_ref()
            .map_or_else(String::new, |altname| format!("; listed as {altname}"));
        let why = format!("{}{altname}{order}", one.why);
        let same = |group: &&mut Group| {
            group.state == one.state && group.why == why && group.is_fault == one.is_fault
        };
        match groups
            .iter_mut()
            .find(same)
            .filter(|_| one.is_many || !one.is_fault && one.state == "left out")
        {
            Some(group) => group.names.push(one.name.clone()),
            None => groups.push(Group {
                names: vec![one.name.clone()],
                state: one.state,
                why,
                is_fault: one.is_fault,
            }),
        }
    }
    groups
}

/// Why the status is degraded, a sentence for each reason.
pub(super) fn reasons(all: &[NotMirrored]) -> Vec<String> {
    let faults = || all.iter().filter(|one| one.is_fault);
    let beyond = faults().filter(|one| one.is_many).count();
    let why = all
        .iter()
        .find(|one| one.is_many)
        .map_or("", |one| &one.why);
    let limit = (beyond > 0).then(|| format!("{} left out: {why}", plural(beyond, "interface")));
    let others = faults().filter(|one| !one.is_many);
    others
        .map(|one| format!("interface {} is {}: {}", one.name, one.state, one.why))
        .chain(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Why;
    use crate::network::Direction;

    fn one(name: &str, entry: &str, why: Why) -> NotMirrored {
        NotMirrored::of(&compile::NotMirrored {
            name: name.to_owned(),
            entry: entry.to_owned(),
            is_exact: !entry.contains('*'),
            directions: vec![Direction::Egress],
            order: Order::Last,
            why,
        })
    }

    #[test]
    fn each_has_a_line_and_hundreds_have_one() {
        let mut all = vec![
            one("eht0", "eht0", Why::Absent),
            one("vrf0", "enp3s0", Why::Vrf),
            one("wl*", "wl*", Why::Pending),
        ];
        all[0].order = "before policy".to_owned();
        all.extend((0..46).map(|nth| one(&format!("veth{nth:02}"), "veth*", Why::Limit)));
        let lines: Vec<String> = grouped(&all).iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        let absent = "eht0            absent   no interface has this name; the daemon mirrors \
                      it when it appears";
        assert_eq!(
            lines[0],
            format!("{absent}; order before policy is pending, too")
        );
        let vrf = "vrf0            left out tc does not see the packets of a VRF device; list its ports; listed as enp3s0";
        assert_eq!(lines[1], vrf);
        assert!(
            lines[3].starts_with("46: veth00, veth01, ")
                && lines[3].contains(" and 38 more left out at most ")
        );
        let said = reasons(&all);
        assert_eq!(said.len(), 3, "{said:#?}");
        assert!(
            said[0].starts_with("interface eht0 is absent: no interface has this name"),
            "{said:#?}"
        );
        assert!(
            said[2].starts_with("46 interfaces left out: at most "),
            "{said:#?}"
        );
        assert_eq!(reasons(&all[2..3]), [""; 0], "a glob may match nothing");
    }
}
