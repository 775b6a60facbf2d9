//! Input: the interfaces that the file lists and those that exist. Output: the hooks to look at, and which filters
//! apply there.

use std::collections::BTreeMap;

use traffic_mirror_ebpf::abi::{self, MAX_INTERFACES};

use super::sets::grow;

use crate::desired::{Desired, Direction, Filter, Order};
use crate::network::{self, LinkKind, Network};

/// One direction of one interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hook {
    /// Index of the interface.
    pub interface: u32,
    /// Ingress or egress.
    pub direction: network::Hook,
    /// Name of the interface.
    pub name: String,
    /// Where `mirror` stands among other programs.
    pub order: Order,
}

impl Hook {
    /// Its element of `HOOKS`.
    pub(crate) fn element(&self) -> abi::Hook {
        abi::Hook { interface: self.interface, egress: (self.direction == network::Hook::Egress).into() }
    }

    /// Whether a filter applies here.
    pub(super) fn has(&self, filter: &Filter) -> bool {
        let here = filter.interface.is_empty() || filter.interface.iter().any(|pattern| pattern.matches(&self.name));
        here && covers(filter.direction, self.direction)
    }
}

/// Whether frames of the interface can be looked at: they must begin with an Ethernet header.
pub(crate) fn is_supported(link: &network::Link) -> bool {
    matches!(link.kind, LinkKind::Ethernet | LinkKind::Loopback)
}

const fn covers(wanted: Direction, hook: network::Hook) -> bool {
    match wanted {
        Direction::Both => true,
        Direction::Ingress => matches!(hook, network::Hook::Ingress),
        Direction::Egress => matches!(hook, network::Hook::Egress),
    }
}

/// The hooks of the interfaces that the file lists and that exist, the first [`MAX_INTERFACES`] by name; an interface
/// that several entries match is looked at in all the directions that they give. A live hook keeps its index. `None` if
/// there are not enough free ones.
pub(super) fn hooks(desired: &Desired, network: &Network, live: &[abi::Hook]) -> Option<BTreeMap<u32, Hook>> {
    let mut listed: Vec<_> = network.links.values().filter(|link| is_listed(desired, link)).collect();
    listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    listed.truncate(MAX_INTERFACES);
    let mut hooks = BTreeMap::new();
    let mut places = Places::of(live);
    for link in listed {
        let place = places.take(link.index)?;
        for direction in [network::Hook::Ingress, network::Hook::Egress] {
            let wanted = desired.interfaces.iter();
            let wanted = wanted.filter(|i| i.name.matches(&link.name) && covers(i.direction, direction));
            // of several entries the one that says most about the name gives the order
            if let Some(entry) = wanted.max_by_key(|i| (i.name.as_str() == link.name, i.name.as_str().len())) {
                let (name, order) = (link.name.clone(), entry.order.clone());
                let hook = Hook { interface: link.index, direction, name, order };
                hooks.insert(2 * place + hook.element().egress, hook);
            }
        }
    }
    Some(hooks)
}

/// Which interface has which place: [`View::interfaces`](abi::View::interfaces).
struct Places([u32; MAX_INTERFACES]);

impl Places {
    fn of(live: &[abi::Hook]) -> Self {
        let mut places = [0; MAX_INTERFACES];
        for (place, pair) in places.iter_mut().zip(live.chunks(2)) {
            // what is no hook of ours is nobody's place
            *place = pair.iter().map(|hook| hook.interface).max().unwrap_or_default();
        }
        Self(places)
    }

    /// The place that an interface has, or the first one for it that is free.
    fn take(&mut self, interface: u32) -> Option<u32> {
        let home = interface as usize;
        let sought = || (0..MAX_INTERFACES).map(|behind| (home + behind) % MAX_INTERFACES);
        let place = sought().find(|&place| self.0[place] == interface);
        let place = place.or_else(|| sought().find(|&place| self.0[place] == 0))?;
        self.0[place] = interface;
        Some(place as u32)
    }
}

/// The elements of `HOOKS`.
pub(super) fn table(hooks: &BTreeMap<u32, Hook>) -> Vec<abi::Hook> {
    let mut table = Vec::new();
    for (&index, hook) in hooks {
        grow(&mut table, index as usize + 1, abi::Hook::default());
        table[index as usize] = hook.element();
    }
    table
}

fn is_listed(desired: &Desired, link: &network::Link) -> bool {
    is_supported(link) && desired.interfaces.iter().any(|interface| interface.name.matches(&link.name))
}
