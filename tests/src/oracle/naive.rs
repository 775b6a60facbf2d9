//! What a file means for a packet, filter by filter and word by word as the manual has it.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use traffic_mirror::desired::{Action, Desired, Directions, Filter, Undecided, Unparsed};
use traffic_mirror::network::{Direction, LinkKind, Network};

/// What filters are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination port of a packet that has them in reach.
    pub ports: Option<(u16, u16)>,
    /// The outermost VLAN, 0 for none.
    pub vlan: u16,
    /// What nobody can tell.
    pub unknown: Unknown,
}

/// What cannot be read of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// All is known.
    #[default]
    Nothing,
    /// It has ports, and nobody knows which.
    Ports,
    /// Nobody knows what is behind its IP headers.
    Transport,
}

impl Flow {
    /// The other way round.
    #[must_use]
    pub fn swapped(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            ports: self
                .ports
                .map(|(source, destination)| (destination, source)),
            vlan: self.vlan,
            unknown: self.unknown,
        }
    }
}

/// Where packets are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the interface.
    pub interface: String,
    /// Which way they go.
    pub direction: Direction,
}

/// Where a file has packets looked at, by interface name, ingress first.
pub fn places(desired: &Desired, network: &Network) -> Vec<Place> {
    let mut names: Vec<&str> = Vec::new();
    for link in network.links.values() {
        if matches!(link.kind, LinkKind::Ethernet | LinkKind::Loopback) {
            names.push(&link.name);
        }
    }
    names.sort_unstable();
    let mut places = Vec::new();
    for name in names {
        for direction in [Direction::Ingress, Direction::Egress] {
            let listed = |i: &&traffic_mirror::desired::Interface| i.name.matches(name);
            if desired
                .interfaces
                .iter()
                .filter(listed)
                .any(|i| goes(i.direction, direction))
            {
                places.push(Place {
                    interface: name.to_owned(),
                    direction,
                });
            }
        }
    }
    places
}

/// What happens to a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Bit e is set if endpoint e gets a copy.
    pub endpoints: u64,
    /// The filters that match, ascending.
    pub filters: Vec<usize>,
}

/// What is known of the server name of a packet's flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Nothing yet.
    Unknown,
    /// That it cannot be known.
    Undecided,
    /// All.
    Known(String),
}

/// What a file wants done with a packet whose flow has no name.
pub fn ask(desired: &Desired, place: &Place, flow: &Flow) -> Answer {
    ask_named(desired, place, flow, &Name::Undecided)
}

/// What a file wants done with a packet.
pub fn ask_named(desired: &Desired, place: &Place, flow: &Flow, name: &Name) -> Answer {
    let mut answer = Answer::default();
    if !desired.enabled {
        return answer;
    }
    let back = flow.swapped();
    let mut excluded = 0;
    for (index, filter) in desired.filters.iter().enumerate() {
        let unknown = if desired.unparsed == Unparsed::Skip {
            Unknown::Nothing
        } else {
            flow.unknown
        };
        let fits = |flow: &Flow| fits(filter, flow, unknown);
        let fits = (fits(flow) || filter.bidirectional && fits(&back)) && is_named(filter, name);
        if !(fits && filter.enabled && is_for(filter, place)) {
            continue;
        }
        answer.filters.push(index);
        for endpoint in &filter.to {
            match filter.action {
                Action::Mirror => answer.endpoints |= 1 << endpoint,
                Action::Exclude => excluded |= 1 << endpoint,
            }
        }
    }
    answer.endpoints &= !excluded;
    answer
}

/// Of a packet that cannot be read, a mirror gets more rather than less: whatever `mirror` filters
/// ask of what is unknown is so, and whatever `exclude` filters ask is not.
fn fits(filter: &Filter, flow: &Flow, unknown: Unknown) -> bool {
    let source_port = flow.ports.map(|(source, _)| source);
    let destination_port = flow.ports.map(|(_, destination)| destination);
    let in_doubt = filter.action == Action::Mirror;
    let is_protocol = filter.protocol.is_empty()
        || if unknown == Unknown::Transport {
            in_doubt
        } else {
            filter.protocol.contains(&flow.protocol)
        };
    let asks_for_ports = !filter.source_port.is_empty() || !filter.destination_port.is_empty();
    let are_ports = if unknown == Unknown::Nothing {
        is_port(&filter.source_port, source_port)
            && is_port(&filter.destination_port, destination_port)
    } else {
        in_doubt || !asks_for_ports
    };
    is_protocol
        && are_ports
        && is_address(&filter.source, flow.source)
        && is_address(&filter.destination, flow.destination)
        && is_port(&filter.vlan, Some(flow.vlan))
}

/// Of a name that is not known yet, a mirror gets more rather than less, too.
fn is_named(filter: &Filter, name: &Name) -> bool {
    let is_below = |pattern: &str, name: &str| {
        let labels = |text: &str| text.split('.').rev().map(str::to_owned).collect::<Vec<_>>();
        match pattern.strip_prefix("*.") {
            Some(above) => {
                let (above, name) = (labels(above), labels(name));
                name.len() > above.len() && name[..above.len()] == above
            }
            None => pattern == name,
        }
    };
    filter.server_name.is_empty()
        || match name {
            Name::Unknown => filter.action == Action::Mirror,
            Name::Undecided => filter.undecided == Undecided::Mirror,
            Name::Known(name) => filter
                .server_name
                .iter()
                .any(|pattern| is_below(pattern, name)),
        }
}

fn is_port(wanted: &[RangeInclusive<u16>], port: Option<u16>) -> bool {
    wanted.is_empty() || port.is_some_and(|port| wanted.iter().any(|range| range.contains(&port)))
}

fn is_address(wanted: &[IpNet], address: IpAddr) -> bool {
    wanted.is_empty() || wanted.iter().any(|network| is_within(network, address))
}

fn is_within(network: &IpNet, address: IpAddr) -> bool {
    match (network, address) {
        (IpNet::V4(network), IpAddr::V4(address)) => {
            let differing = network.addr().to_bits() ^ address.to_bits();
            differing.leading_zeros() >= u32::from(network.prefix_len())
        }
        (IpNet::V6(network), IpAddr::V6(address)) => {
            let differing = network.addr().to_bits() ^ address.to_bits();
            differing.leading_zeros() >= u32::from(network.prefix_len())
        }
        _ => false,
    }
}

fn is_for(filter: &Filter, place: &Place) -> bool {
    let here = filter.interface.is_empty()
        || filter
            .interface
            .iter()
            .any(|name| name.matches(&place.interface));
    here && goes(filter.direction, place.direction)
}

fn goes(wanted: Directions, way: Direction) -> bool {
    match wanted {
        Directions::Ingress => way == Direction::Ingress,
        Directions::Egress => way == Direction::Egress,
        Directions::Both => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::load;

    #[test]
    fn the_example_of_the_manual() {
        let desired = load(
            r#"
            [[interface]]
            name = "eth*"
            [endpoint.ids]
            address = "192.0.2.10"
            [endpoint.log]
            address = "192.0.2.11"
            [[filter]]
            name = "checkout"
            protocol = ["tcp"]
            source = ["10.0.0.0/8", "2001:db8::/32"]
            destination_port = [443, "8000-8100"]
            bidirectional = true
            direction = "ingress"
            to = ["ids", "log"]
            [[filter]]
            name = "no-health-checks"
            action = "exclude"
            source = ["10.0.0.5"]
            to = ["log"]
            "#,
        );
        let flow = |source: &str, destination: &str, protocol, ports| Flow {
            vlan: 0,
            unknown: Unknown::Nothing,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            ports,
        };
        let ingress = Place {
            interface: "eth0".to_owned(),
            direction: Direction::Ingress,
        };
        let ask = |flow: &Flow| {
            let answer = super::ask(&desired, &ingress, flow);
            (answer.endpoints, answer.filters)
        };
        let web = flow("10.255.255.255", "192.0.2.1", 6, Some((40000, 8100)));
        assert_eq!(ask(&web), (0b11, vec![0]));
        assert_eq!(ask(&web.swapped()), (0b11, vec![0]));
        assert_eq!(
            ask(&Flow {
                protocol: 17,
                ..web.clone()
            }),
            (0, vec![])
        );
        assert_eq!(
            ask(&Flow {
                ports: Some((40000, 8101)),
                ..web.clone()
            }),
            (0, vec![])
        );
        assert_eq!(
            ask(&Flow {
                ports: None,
                ..web.clone()
            }),
            (0, vec![])
        );
        assert_eq!(
            ask(&Flow {
                source: "11.0.0.0".parse().unwrap(),
                ..web.clone()
            }),
            (0, vec![])
        );
        let check = Flow {
            source: "10.0.0.5".parse().unwrap(),
            ..web.clone()
        };
        assert_eq!(ask(&check), (0b01, vec![0, 1]));
        assert_eq!(ask(&check.swapped()), (0b11, vec![0]));
        assert_eq!(
            ask(&flow("2001:db8::1", "2001:db9::", 6, Some((1, 443)))),
            (0b11, vec![0])
        );
        let egress = Place {
            direction: Direction::Egress,
            ..ingress.clone()
        };
        assert_eq!(
            super::ask(&desired, &egress, &check),
            Answer {
                endpoints: 0,
                filters: vec![1]
            }
        );
    }
}
