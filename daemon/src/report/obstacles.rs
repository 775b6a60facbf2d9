//! Input: what is wanted, the network and the compiled tables. Output: what is wanted and cannot be
//! done, and advice.

use std::collections::{BTreeMap, BTreeSet};

use traffic_mirror_ebpf::abi::Drop;

use super::list;
use crate::about::About;
use crate::cgroup::CgroupError;
use crate::compile;
use crate::compile::{Compiled, Costly, NotMirrored, Why};
use crate::desired::{Desired, Endpoint, Oversize};
use crate::network::{Direction, Link, LinkKind, Network};
use crate::obstacle::Obstacle;
use crate::tables::names;

/// What is wanted and cannot be at the moment, and what may come as a surprise.
pub fn obstacles(desired: &Desired, network: &Network, compiled: &Compiled) -> Vec<Obstacle> {
    let mirrored = compiled.hooks.values().map(|hook| hook.interface).collect();
    let Network { links, refused, .. } = network;
    let mut lines = interfaces(&compile::not_mirrored(
        &desired.interfaces,
        links,
        &mirrored,
        refused,
    ));
    let tables = &compiled.tables;
    let states: BTreeMap<&str, u32> = names(&tables.endpoint_names)
        .map(|(index, name)| (name, tables.endpoints[index as usize][0].state))
        .collect();
    for endpoint in &desired.endpoints {
        let state = states
            .get(endpoint.name.as_str())
            .copied()
            .unwrap_or_default();
        let reason = Drop::ALL.get(state as usize).copied().unwrap_or(Drop::None);
        if reason != Drop::None {
            let what = format!(
                "endpoint {} ({}) gets no copies",
                endpoint.name,
                endpoint.host()
            );
            lines
                .push(Obstacle::fault(what, reason.label()).about(About::endpoint(&endpoint.name)));
        }
    }
    lines.extend(
        network
            .applications
            .errors
            .iter()
            .map(CgroupError::obstacle),
    );
    lines.extend(duplicates(network, compiled));
    lines.extend(
        compile::costly(desired, network, compiled).map(|costly| over_budget(desired, &costly)),
    );
    lines
}

/// A packet that exceeds the budget. The numbers depend on which endpoints can be reached.
fn over_budget(desired: &Desired, costly: &Costly) -> Obstacle {
    let Costly {
        interface,
        filter,
        packets,
        endpoints,
        copies,
        time,
    } = costly;
    let what = format!(
        "copying one packet of {interface} may take longer than the budget of {:?}",
        desired.budget.0
    );
    let why = "copies that are not made in time are dropped as budget; give the output \
               interface an MTU with room for the outer header, send to fewer endpoints, or \
               raise budget";
    let detail = format!(
        "filter {filter} sends a superpacket of {packets} packets to {endpoints} endpoints, \
         {copies} copies take {time:?} or more"
    );
    Obstacle {
        detail,
        about: About {
            interface: Some(interface.clone()),
            ..About::filter(filter)
        },
        ..Obstacle::fault(what, why)
    }
}

/// What the file lists and is not mirrored. Those beyond the limit are one thing, since they may be
/// hundreds that come and go.
pub(super) fn interfaces(all: &[NotMirrored]) -> Vec<Obstacle> {
    let line = |one: &NotMirrored| {
        let NotMirrored { name, why, .. } = one;
        let what = match why {
            Why::Limit => return None,
            Why::Pending => format!("interface {name} is pending"),
            Why::Absent => format!("interface {name} is absent"),
            Why::Kind(_) | Why::Vrf | Why::L3s | Why::AttachFailed => {
                format!("interface {name} is left out")
            }
            Why::Waiting => format!("interface {name} is waiting"),
        };
        Some(Obstacle {
            is_fault: one.is_fault(),
            about: About::interface(name),
            ..Obstacle::fault(what, why.text())
        })
    };
    let beyond: Vec<String> = all
        .iter()
        .filter(|one| one.why == Why::Limit)
        .map(|one| one.name.clone())
        .collect();
    let limit = (!beyond.is_empty()).then(|| Obstacle {
        detail: format!("left out: {}", list(&beyond)),
        ..Obstacle::fault(
            "the file lists more interfaces than the daemon can mirror",
            Why::Limit.text(),
        )
    });
    all.iter().filter_map(line).chain(limit).collect()
}

/// Interfaces between which packets are copied twice, one line for each pair.
fn duplicates(network: &Network, compiled: &Compiled) -> Vec<Obstacle> {
    let mut lines = Vec::new();
    for hook in compiled
        .hooks
        .values()
        .filter(|hook| hook.direction == Direction::Ingress)
    {
        let Some(link) = network.links.get(&hook.interface) else {
            continue;
        };
        if link.kind == LinkKind::Loopback && is_looked_at(compiled, link.index, Direction::Egress)
        {
            let line = format!(
                "{} is monitored in both directions: each packet on it is copied twice; list one direction",
                link.name
            );
            lines.push(Obstacle::from(line).about(About::interface(&link.name)));
        }
    }
    let looked_at: BTreeSet<u32> = compiled.hooks.values().map(|hook| hook.interface).collect();
    for link in looked_at
        .iter()
        .filter_map(|index| network.links.get(index))
    {
        for (other, relation) in [(link.master, "a port of"), (link.parent, "built on")] {
            let other = other
                .filter(|other| looked_at.contains(other))
                .and_then(|other| network.links.get(&other));
            if let Some(Link { name, .. }) = other {
                let line = format!(
                    "{} is {relation} {name}: a packet that passes both is copied twice; list one of them",
                    link.name
                );
                lines.push(Obstacle::from(line).about(About::interface(&link.name)));
            }
        }
    }
    lines
}

fn is_looked_at(compiled: &Compiled, interface: u32, direction: Direction) -> bool {
    compiled
        .hooks
        .values()
        .any(|hook| (hook.interface, hook.direction) == (interface, direction))
}

/// Advice that also applies to healthy hosts, one line each: endpoints whose MTU is too small for
/// the longest packets after encapsulation.
pub fn advice(desired: &Desired, network: &Network, compiled: &Compiled) -> Vec<String> {
    let Some(longest) = compile::longest(&compiled.hooks, network) else {
        return Vec::new();
    };
    let tables = &compiled.tables;
    let indices: BTreeMap<&str, u32> = names(&tables.endpoint_names)
        .map(|(index, name)| (name, index))
        .collect();
    let line = |endpoint: &Endpoint| {
        let live = &tables.endpoints[*indices.get(endpoint.name.as_str())? as usize][0];
        compile::too_long(live, longest).map(|wrapped| {
            let fate = match endpoint.oversize {
                Oversize::Fragment => "fragmented",
                Oversize::Truncate => "truncated",
                Oversize::Drop => "dropped",
            };
            let (name, from, mtu) = (&endpoint.name, &longest.name, live.mtu);
            format!(
                "endpoint {name}: packets from {from} can reach {wrapped} bytes after \
                 encapsulation, the MTU is {mtu}: longer copies are {fate} (raise the MTU to \
                 avoid this)"
            )
        })
    };
    desired.endpoints.iter().filter_map(line).collect()
}
