//! A file in the kernel, beside the empty program and the reference that has the file's own values
//! in its lists.

use anyhow::Result;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aya::programs::SchedClassifier;
use traffic_mirror::desired::{Desired, Filter};
use traffic_mirror::network::{Direction, Link, Network, Path, Route, RouteKind};
use traffic_mirror_tests::oracle::kernel::Loaded;
use traffic_mirror_tests::oracle::naive::{self, Place, Unknown, ask, places};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{compiled, configuration, load};
use traffic_mirror_tests::references::{Flow, Listed, Lookups};

use crate::files::strangers;
use crate::race::{Cost, Load, over};
use crate::session::Runner;

pub(crate) const TCP: u8 = 6;
/// Elements of each list of the look-ups.
const LISTED: usize = 50;
/// Flows of which each run meets another one.
pub(crate) const FLOWS: usize = 1024;

/// The file.
pub(crate) struct Subject {
    desired: Desired,
    place: Place,
    pub(crate) loaded: Loaded,
    noop: SchedClassifier,
    lookups: Lookups,
    yardstick: Yardstick,
}

/// The look-ups with lists of random values, and random packets, of which none is listed: the same
/// beside all files.
struct Yardstick {
    lookups: Lookups,
    load: Load,
}

impl Yardstick {
    fn new(output: u32) -> Result<Self> {
        let mut random = Random::new(2);
        let mut flows = strangers(&mut random, false);
        let known: Vec<Flow> = flows.by_ref().take(LISTED).collect();
        let sources = known.iter().filter_map(|flow| match flow.0 {
            IpAddr::V4(source) => Some((source, 32)),
            IpAddr::V6(_) => None,
        });
        let listed = Listed {
            sources: sources.collect(),
            protocols: vec![TCP, 17],
            source_ports: distinct(known.iter().map(|flow| flow.2)),
            destination_ports: distinct(known.iter().map(|flow| flow.3)),
        };
        let load = Load::mixed(flows.take(FLOWS).collect(), 100);
        Ok(Self {
            lookups: Lookups::new(&listed, output)?,
            load,
        })
    }
}

impl Subject {
    /// Its endpoints are out of reach. What the look-ups mirror goes out of `output`.
    pub(crate) fn new(text: &str, output: u32) -> Result<Self> {
        Self::on(text, &at_loopback(configuration::network()), output)
    }

    /// On another network, where `eth0` must be at the index of `lo`.
    pub(crate) fn on(text: &str, network: &Network, output: u32) -> Result<Self> {
        let desired = load(text);
        let tables = compiled(&desired, network).tables;
        let place = places(&desired, network).swap_remove(0);
        let loaded = Loaded::new(&tables, Random::new(1).bits())?;
        let noop = loaded.noop()?;
        let lookups = Lookups::new(&listed(&desired.filters), output)?;
        Ok(Self {
            desired,
            place,
            loaded,
            noop,
            lookups,
            yardstick: Yardstick::new(output)?,
        })
    }

    /// The same for packets that leave.
    pub(crate) fn outbound(mut self) -> Self {
        self.place.direction = Direction::Egress;
        self
    }

    /// What our program costs.
    pub(crate) fn ours<'a>(&'a self, load: &'a Load) -> Result<Runner<'a, Cost>> {
        self.over(self.program(), load)
    }

    /// Our program.
    pub(crate) fn program(&self) -> &SchedClassifier {
        self.loaded.mirror(self.place.direction)
    }

    /// What the look-ups cost.
    pub(crate) fn lookups<'a>(&'a self, load: &'a Load) -> Result<Runner<'a, Cost>> {
        self.over(self.lookups.program(), load)
    }

    /// What random look-ups cost for random packets, of which none is listed: what files are
    /// compared by.
    pub(crate) fn yardstick(&self) -> Result<Runner<'_, Cost>> {
        self.over(self.yardstick.lookups.program(), &self.yardstick.load)
    }

    /// What any program costs.
    pub(crate) fn over<'a>(
        &'a self,
        program: &'a SchedClassifier,
        load: &'a Load,
    ) -> Result<Runner<'a, Cost>> {
        over(program, &self.noop, load)
    }

    /// Packets that a filter has matched so far, once for each filter.
    pub(crate) fn packets_matched(&self) -> Result<u64> {
        Ok(self
            .loaded
            .matched()?
            .iter()
            .map(|count| count.packets)
            .sum())
    }

    /// How many filters want a TCP packet.
    pub(crate) fn matches(&self, &(source, destination, from, to): &Flow) -> usize {
        let (ports, unknown) = (Some((from, to)), Unknown::Nothing);
        let flow = naive::Flow {
            source,
            destination,
            protocol: TCP,
            ports,
            vlan: 0,
            unknown,
        };
        ask(&self.desired, &self.place, &flow).filters.len()
    }

    /// TCP flows to random addresses in the networks that the filters of `large::mixed` lie in,
    /// from such addresses or from `source`, to ports that some filter asks for if `wanted_port`;
    /// those that so many filters match, as many as asked for if there are.
    pub(crate) fn inside(
        &self,
        random: &mut Random,
        source: Option<IpAddr>,
        v6: bool,
        wanted_port: bool,
        matching: usize,
        count: usize,
    ) -> Vec<Flow> {
        let ports: Vec<u16> = self
            .desired
            .filters
            .iter()
            .flat_map(|f| &f.destination_port)
            .map(|r| *r.start())
            .collect();
        let chosen = (0..200_000).filter_map(|_| {
            let mut address = || -> IpAddr {
                match v6 {
                    true => (0xfd << 120 | random.wide() >> 8).to_be_bytes().into(),
                    false => (10 << 24 | random.bits() as u32 >> 8).to_be_bytes().into(),
                }
            };
            let (source, destination) = (source.unwrap_or_else(&mut address), address());
            let port = if wanted_port && !ports.is_empty() {
                *random.pick(&ports)
            } else {
                random.bits() as u16
            };
            let flow = (source, destination, 40_000, port);
            (self.matches(&flow) == matching).then_some(flow)
        });
        chosen.take(count).collect()
    }
}

/// The first values of the filters, and others until the lists are full.
fn listed(filters: &[Arc<Filter>]) -> Listed {
    let number = 0..LISTED as u16;
    let sources = filters
        .iter()
        .flat_map(|filter| &filter.source)
        .filter_map(|network| match network {
            ipnet::IpNet::V4(network) => Some((network.network(), u32::from(network.prefix_len()))),
            ipnet::IpNet::V6(_) => None,
        });
    let others = number
        .clone()
        .map(|host| (Ipv4Addr::new(203, 0, 113, host as u8), 32));
    let ports = |pick: fn(&Filter) -> &[std::ops::RangeInclusive<u16>]| {
        let is_v4 =
            |filter: &&Arc<Filter>| filter.source.iter().all(|network| network.addr().is_ipv4());
        let wanted = filters
            .iter()
            .filter(is_v4)
            .flat_map(|filter| pick(filter))
            .map(|range| *range.start());
        distinct(wanted.chain(number.clone().map(|port| 62_000 + port)))
    };
    Listed {
        sources: distinct(sources.chain(others)),
        protocols: vec![TCP, 17],
        source_ports: ports(|filter| &filter.source_port),
        destination_ports: ports(|filter| &filter.destination_port),
    }
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if found.len() < LISTED && !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// A network in which every endpoint is on the link of interface `index`.
pub(crate) fn reaching(index: u32, source: IpAddr) -> Network {
    let mut network = at_loopback(configuration::network());
    let template = network
        .links
        .values()
        .find(|link| link.name == "eth1")
        .cloned();
    if let Some(link) = template {
        network.links.insert(
            index,
            Link {
                index,
                name: "out".to_owned(),
                ..link
            },
        );
    }
    let route = Route {
        interface: index,
        gateway: None,
        source: Some(source),
        mtu: None,
        kind: RouteKind::Unicast,
        assumed: false,
    };
    let path = Path {
        route: Some(route),
        mac: Some([2, 0, 0, 0, 0, 9]),
        ..Path::default()
    };
    network.paths.insert("ids".to_owned(), path);
    network
}

/// The same network with `eth0` at the index of `lo`, where a test run has its frame come by.
fn at_loopback(mut network: Network) -> Network {
    let eth0 = network.link("eth0").map(|link| link.index);
    if let Some(link) = eth0.and_then(|index| network.links.remove(&index)) {
        network.links.insert(1, Link { index: 1, ..link });
    }
    network
}
