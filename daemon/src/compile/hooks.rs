//! Input: the interfaces that the file lists and those that exist. Output: the hooks to monitor,
//! and the filters that apply there.

use std::collections::BTreeMap;

use traffic_mirror_ebpf::abi::{self, MAX_INTERFACES};

use super::interface::{best, called, covers, is_refused, learns};
use super::listed::refusal;
use crate::compile::hook_table::cells;
use crate::desired::{Desired, Filter, Order};
use crate::network;
use crate::network::Network;

/// One direction of one interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hook {
    /// Names of the interface.
    pub interface: u32,
    /// Ingress or egress.
    pub direction: network::Direction,
    /// Name of the interface.
    pub name: String,
    /// Its alternative names.
    pub altnames: Vec<String>,
    /// Where `mirror` stands among other programs.
    pub order: Order,
    /// Its packets have no link header.
    pub is_headerless: bool,
    /// The server names of all its connections are remembered.
    pub learns: bool,
}

impl Hook {
    /// Its element of `HOOKS`.
    pub(crate) fn element(&self) -> abi::Hook {
        abi::Hook {
            interface: self.interface,
            egress: (self.direction == network::Direction::Egress).into(),
        }
    }

    /// Whether a pattern matches a name of its interface.
    pub(super) fn is_called(&self, pattern: &glob::Pattern) -> bool {
        std::iter::once(&self.name)
            .chain(&self.altnames)
            .any(|name| pattern.matches(name))
    }

    /// Whether a filter applies here.
    pub(super) fn has(&self, filter: &Filter) -> bool {
        let here = filter.interface.is_empty()
            || filter
                .interface
                .iter()
                .any(|pattern| self.is_called(pattern));
        here && covers(filter.direction, self.direction)
    }
}

/// Indices of the listed interfaces without hooks, since the kernel rejected `encap` there.
pub(super) fn refused(desired: &Desired, network: &Network) -> impl Iterator<Item = u32> {
    let links = network
        .links
        .values()
        .filter(|link| is_refused(link, &network.refused));
    links
        .filter(|link| is_listed(desired, link))
        .map(|link| link.index)
}

/// The hooks of the listed interfaces that exist, at most [`MAX_INTERFACES`]. An interface that
/// several entries match is monitored in all the directions that they give. Interfaces with a place
/// keep it; others, by name, get the free places, and wait if there are none.
pub(super) fn hooks(
    desired: &Desired,
    network: &Network,
    live: &[abi::Hook],
) -> BTreeMap<u32, Hook> {
    let mut places = Places::of(live);
    let can_be =
        |link: &&network::Link| is_listed(desired, link) && !is_refused(link, &network.refused);
    let mut listed: Vec<_> = network.links.values().filter(can_be).collect();
    listed.sort_unstable_by_key(|link| (!places.has(link.index), &link.name));
    let mut hooks = BTreeMap::new();
    for link in listed {
        let Some(place) = places.take(link.index) else {
            break;
        };
        for direction in [network::Direction::Ingress, network::Direction::Egress] {
            // of several entries the most specific one gives the order
            let can = refusal(link, direction).is_none();
            let wanted = desired
                .interfaces
                .iter()
                .filter(|entry| can && covers(entry.direction, direction));
            if let Some(entry) = best(wanted, link) {
                let (name, altnames, order) = (
                    link.name.clone(),
                    link.altnames.clone(),
                    entry.order.clone(),
                );
                let is_headerless = link.kind.is_headerless();
                let hook = Hook {
                    interface: link.index,
                    direction,
                    name,
                    altnames,
                    order,
                    is_headerless,
                    learns: learns(&desired.interfaces, link),
                };
                hooks.insert(2 * place + hook.element().egress, hook);
            }
        }
    }
    hooks
}

/// Which interface has which place.
struct Places {
    by_interface: BTreeMap<u32, u32>,
    /// From the last to the first.
    free: Vec<u32>,
}

impl Places {
    fn of(live: &[abi::Hook]) -> Self {
        // an element that is no hook of ours takes no place
        let interface = |pair: &[abi::Hook]| {
            pair.iter()
                .map(|hook| hook.interface)
                .max()
                .unwrap_or_default()
        };
        let taken: BTreeMap<u32, u32> = (0..)
            .zip(live.chunks(2).map(interface))
            .filter(|&(_, interface)| interface != 0)
            .collect();
        let free = (0..MAX_INTERFACES as u32)
            .rev()
            .filter(|place| !taken.contains_key(place))
            .collect();
        Self {
            by_interface: taken
                .into_iter()
                .map(|(place, interface)| (interface, place))
                .collect(),
            free,
        }
    }

    fn has(&self, interface: u32) -> bool {
        self.by_interface.contains_key(&interface)
    }

    /// The place that an interface has, or the first one that is free.
    fn take(&mut self, interface: u32) -> Option<u32> {
        self.by_interface
            .get(&interface)
            .copied()
            .or_else(|| self.free.pop())
    }
}

/// The table in which programs find the interface of a packet. `None` if no such table exists.
pub(super) fn interfaces(hooks: &BTreeMap<u32, Hook>) -> Option<abi::Interfaces> {
    let flag = |hook: &Hook| {
        let flags = [
            (hook.is_headerless, abi::Interfaces::NO_ETHERNET),
            (hook.learns, abi::Interfaces::LEARN),
        ];
        let set = flags.into_iter().filter(|(is_set, _)| *is_set);
        set.fold(0, |all, (_, flag)| all | flag)
    };
    let place = |(index, hook): (&u32, &Hook)| (hook.interface, (index / 2) | flag(hook));
    let places: BTreeMap<u32, u32> = hooks.iter().map(place).collect();
    cells(&places.into_iter().collect::<Vec<_>>())
}

/// Whether there is such a table for the interfaces that the file lists.
pub fn have_table(desired: &Desired, network: &Network) -> bool {
    interfaces(&hooks(desired, network, &[])).is_some()
}

/// The elements of `HOOKS`.
pub(super) fn table(hooks: &BTreeMap<u32, Hook>) -> Vec<abi::Hook> {
    let mut table =
        vec![abi::Hook::default(); hooks.keys().last().map_or(0, |&last| last as usize + 1)];
    for (&index, hook) in hooks {
        table[index as usize] = hook.element();
    }
    table
}

fn is_listed(desired: &Desired, link: &network::Link) -> bool {
    let ways = [network::Direction::Ingress, network::Direction::Egress];
    ways.iter().any(|way| refusal(link, *way).is_none())
        && desired
            .interfaces
            .iter()
            .any(|entry| called(&entry.name, link).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired;

    fn network(names: impl Iterator<Item = String>) -> Network {
        let link = |(index, name): (u32, String)| (index, network::Link::ethernet(index, &name));
        Network {
            links: (2..).zip(names).map(link).collect(),
            ..Network::default()
        }
    }

    fn served(hooks: &BTreeMap<u32, Hook>) -> BTreeMap<&str, u32> {
        hooks
            .iter()
            .map(|(index, hook)| (hook.name.as_str(), index / 2))
            .collect()
    }

    #[test]
    fn who_is_served_keeps_its_place_and_newcomers_wait() {
        let desired = desired::load("[[interface]]\nname = \"pod*\"\n").unwrap().0;
        let mut network = network((0..=MAX_INTERFACES).map(|number| format!("pod{number:03}")));
        let first = hooks(&desired, &network, &[]);
        let before = served(&first);
        assert_eq!(
            (before.len(), first.len()),
            (MAX_INTERFACES, 2 * MAX_INTERFACES)
        );
        assert!(
            before.contains_key("pod511") && !before.contains_key("pod512"),
            "the first by name"
        );

        // an early name takes no other interface's place
        let newcomer = network
            .links
            .values()
            .next_back()
            .map(|link| link.index + 1)
            .unwrap();
        let link = network::Link {
            index: newcomer,
            name: "pod".to_owned(),
            ..network.links[&2].clone()
        };
        network.links.insert(newcomer, link);
        let live = table(&first);
        let second = hooks(&desired, &network, &live);
        assert_eq!(served(&second), before);

        // a removed interface keeps its place until the tables do not name it any more; then the
        // first by name gets it
        let gone = network.links.remove(&9).unwrap();
        let third = hooks(&desired, &network, &live);
        assert_eq!(third.len(), 2 * MAX_INTERFACES - 2);
        let fourth = hooks(&desired, &network, &table(&third));
        let mut expected = before.clone();
        let place = expected.remove(&*gone.name).unwrap();
        expected.insert("pod", place);
        assert_eq!(served(&fourth), expected);
        assert!(interfaces(&fourth).is_some());
    }
}
