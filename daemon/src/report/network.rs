//! Input: the network before and now. Output: what changed, one sentence each, as far as it
//! concerns the file. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::cgroup::Pattern;
use crate::compile::called;
use crate::desired::Desired;
use crate::network::{Link, Network, Path};

/// What changed, endpoints first. Empty if only something changed that has no sentence here.
pub fn network(desired: &Desired, before: &Network, now: &Network) -> Vec<String> {
    let mut causes = Vec::new();
    for endpoint in &desired.endpoints {
        let name = &endpoint.name;
        let (was, is) = (before.paths.get(name), now.paths.get(name));
        if let (Some(was), Some(is)) = (was, is) {
            let what = path(was, is, now);
            causes.extend(what.map(|what| format!("endpoint {name}: {what}")));
        }
    }
    let outputs: BTreeSet<u32> = [before, now]
        .iter()
        .flat_map(|network| network.paths.values())
        .filter_map(|path| Some(path.route.as_ref()?.interface))
        .collect();
    let concerns = |link: &Link| {
        let is_listed = |name| called(name, link).is_some();
        outputs.contains(&link.index)
            || (desired.interfaces.iter()).any(|interface| is_listed(&interface.name))
    };
    let indices: BTreeSet<&u32> = before.links.keys().chain(now.links.keys()).collect();
    for index in indices {
        let (was, is) = (before.links.get(index), now.links.get(index));
        let Some(one) = is.or(was).filter(|one| concerns(one)) else {
            continue;
        };
        let what = match (was, is) {
            (Some(was), Some(is)) => link(was, is),
            (None, _) => Some("it appeared".to_owned()),
            (_, None) => Some("it disappeared".to_owned()),
        };
        causes.extend(what.map(|what| format!("interface {}: {what}", one.name)));
    }
    causes.extend(applications(desired, before, now));
    if before.ipsec != now.ipsec {
        causes.push("the IPsec policies changed".to_owned());
    }
    match (before.segmenter, now.segmenter) {
        (None, Some(_)) => causes.push("the software segmenter is ready".to_owned()),
        (Some(_), None) => causes.push("the software segmenter is gone".to_owned()),
        (was, is) if was != is => causes.push("the software segmenter is another one".to_owned()),
        _ => {}
    }
    causes
}

/// What changed about the applications of the filters.
fn applications(desired: &Desired, before: &Network, now: &Network) -> Vec<String> {
    let all = desired
        .filters
        .iter()
        .flat_map(|filter| &filter.application);
    let all: BTreeSet<&Pattern> = all.collect();
    let changed = all.into_iter().filter_map(|pattern| {
        let was = before.applications.selected(pattern);
        let is = now.applications.selected(pattern);
        let text = match (was.is_empty(), is.is_empty()) {
            _ if was == is => return None,
            (true, _) => "it runs",
            (_, true) => "it has ended",
            _ => "it has other cgroups",
        };
        Some(format!("application {pattern}: {text}"))
    });
    changed.collect()
}

/// What changed on the path of an endpoint: the first of several things, since the others follow
/// from it as a rule.
fn path(was: &Path, is: &Path, network: &Network) -> Option<String> {
    let text = match (&was.route, &is.route) {
        (_, Some(route)) if was.route.as_ref() != Some(route) => {
            let name = network
                .links
                .get(&route.interface)
                .map_or("?", |link| &link.name);
            let mut text = format!("its route leaves by {name}");
            if let Some(gateway) = route.gateway {
                // writing to a string never fails
                let _ = write!(text, " to {gateway}");
            }
            if let Some(source) = route.source {
                let _ = write!(text, " from {source}");
            }
            text
        }
        (Some(_), None) => "it has no route".to_owned(),
        _ if was.own != is.own && is.own => "its address belongs to this host".to_owned(),
        _ if was.own != is.own => "its address is no longer of this host".to_owned(),
        _ if was.mac != is.mac => match is.mac {
            Some([a, b, c, d, e, f]) => {
                format!("its next hop has address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
            }
            None => "the address of its next hop is unknown".to_owned(),
        },
        _ if was.silent != is.silent && is.silent => "its next hop does not answer".to_owned(),
        _ if was.silent != is.silent => "its next hop answers again".to_owned(),
        _ if was.path_mtu != is.path_mtu => match is.path_mtu {
            Some(mtu) => format!("its path MTU is {mtu}"),
            None => "its path MTU is unknown".to_owned(),
        },
        _ => return None,
    };
    Some(text)
}

/// What changed about an interface: the first of several things.
fn link(was: &Link, is: &Link) -> Option<String> {
    let text = if was.name != is.name {
        format!("it was called {}", was.name)
    } else if was.up != is.up {
        format!("it is {}", if is.up { "up" } else { "down" })
    } else if was.running != is.running {
        format!("it has {} carrier", if is.running { "a" } else { "no" })
    } else if was.mtu != is.mtu {
        format!("its MTU is {}", is.mtu)
    } else if was.mac != is.mac {
        "its hardware address changed".to_owned()
    } else if was != is {
        "its settings changed".to_owned()
    } else {
        return None;
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::desired::load;
    use crate::network::{Route, RouteKind, Segmenter};

    const FILE: &str = "[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"192.0.2.10\"\n\
                        [[filter]]\nname = \"all\"\nto = [\"ids\"]\n";

    fn plain() -> Network {
        let mut network = Network::default();
        for (index, name) in [(2, "eth0"), (3, "eth1"), (4, "other")] {
            network.links.insert(index, Link::ethernet(index, name));
        }
        let path = Path {
            route: Some(route(3)),
            mac: Some([2, 0, 0, 0, 0, 1]),
            ..Path::default()
        };
        network.paths.insert("ids".to_owned(), path);
        network
    }

    fn route(interface: u32) -> Route {
        Route {
            interface,
            gateway: Some(IpAddr::from([203, 0, 113, 1])),
            source: None,
            mtu: None,
            kind: RouteKind::Unicast,
            assumed: false,
        }
    }

    /// The sentences after a change.
    fn said(change: impl FnOnce(&mut Network)) -> Vec<String> {
        let (desired, _) = load(FILE).expect("a valid file");
        let mut now = plain();
        change(&mut now);
        network(&desired, &plain(), &now)
    }

    fn ids(network: &mut Network) -> &mut Path {
        network.paths.get_mut("ids").expect("the endpoint")
    }

    #[test]
    fn what_changed_on_the_path_of_an_endpoint_is_named() {
        assert_eq!(said(|_| ()), [""; 0]);
        assert_eq!(
            said(|network| ids(network).route = Some(route(2))),
            ["endpoint ids: its route leaves by eth0 to 203.0.113.1"]
        );
        assert_eq!(
            said(|network| *ids(network) = Path::default()),
            ["endpoint ids: it has no route"]
        );
        assert_eq!(
            said(|network| ids(network).mac = Some([2, 0, 0, 0, 0, 0xff])),
            ["endpoint ids: its next hop has address 02:00:00:00:00:ff"]
        );
        assert_eq!(
            said(|network| ids(network).silent = true),
            ["endpoint ids: its next hop does not answer"]
        );
        assert_eq!(
            said(|network| ids(network).path_mtu = Some(1280)),
            ["endpoint ids: its path MTU is 1280"]
        );
    }

    #[test]
    fn interfaces_are_named_that_are_listed_or_outputs_and_no_others() {
        assert_eq!(
            said(|network| network.links.get_mut(&3).unwrap().up = false),
            ["interface eth1: it is down"]
        );
        assert_eq!(
            said(|network| drop(network.links.remove(&2))),
            ["interface eth0: it disappeared"]
        );
        assert_eq!(
            said(|network| network.links.get_mut(&2).unwrap().mtu = 9000),
            ["interface eth0: its MTU is 9000"]
        );
        assert_eq!(
            said(|network| network.links.get_mut(&4).unwrap().mtu = 9000),
            [""; 0]
        );
        let segmenter = Segmenter {
            entrance: 8,
            exit: 9,
        };
        assert_eq!(
            said(|network| network.segmenter = Some(segmenter)),
            ["the software segmenter is ready"]
        );
    }
}
