//! Reads the content of [`Network`]. The daemon makes the kernel resolve unknown neighbours; an
//! [`Observer`](crate::kernel::Observer) changes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::netlink::Netlink;
use super::offload::Offloads;
use crate::compile::entry_of;
use crate::desired::{Desired, Endpoint};
use crate::kernel::error::KernelError;
use crate::kernel::{Kernel, segmenter};
use crate::network::{
    Direction, Link, LinkKind, Neighbour, NeighbourState, Network, Path, RouteKind,
};

impl Kernel {
    /// Whether the kernel has tried to resolve a next hop for long enough, and that was not
    /// reported yet.
    pub fn has_asked_enough(&self) -> bool {
        self.asked
            .iter()
            .any(|(next_hop, since)| !self.silent.contains(next_hop) && since.elapsed() >= PATIENCE)
    }

    /// Has `tell` called when other cgroups may be the applications of the file, until it returns
    /// `false`. Without it cgroups are read each time.
    pub fn follow_cgroups(&mut self, tell: impl Fn() -> bool + Send + Sync + 'static) {
        self.cgroups.tell = Some(Arc::new(tell));
    }

    /// What the network is like, as far as the file is concerned with it.
    ///
    /// # Errors
    /// A netlink request fails.
    pub fn observe(&mut self, desired: &Desired) -> Result<Network, KernelError> {
        let Self {
            netlink,
            offloads,
            pin_path,
            silent,
            asked,
            ..
        } = self;
        let was_silent = |_: &Endpoint, next_hop: (u32, IpAddr)| {
            // traffic may make the kernel begin again: its time has passed
            let asked = asked.get(&next_hop);
            silent.contains(&next_hop) || asked.is_some_and(|since| since.elapsed() >= PATIENCE)
        };
        let mut network = observe(
            netlink,
            desired,
            offloads,
            was_silent,
            Unknown::Resolve,
            pin_path,
        )?;
        let unresolved = unresolved(desired, &network);
        self.silent = unresolved
            .iter()
            .filter(|(_, silent)| **silent)
            .map(|(next_hop, _)| *next_hop)
            .collect();
        let asked = std::mem::take(&mut self.asked);
        let now = Instant::now();
        self.asked = unresolved
            .into_keys()
            .map(|next_hop| (next_hop, asked.get(&next_hop).copied().unwrap_or(now)))
            .collect();
        for (name, mtu) in &self.path_mtus {
            network
                .paths
                .entry(name.clone())
                .and_modify(|path| path.path_mtu = Some(*mtu));
        }
        self.has_segmenter_parts = !network.segmenter_parts.is_empty();
        network.segmenter = network
            .segmenter
            .filter(|_| self.segmenter.refused().is_none());
        network.segmenter_refused = self.segmenter.is_refused();
        let refused = self.refused.keys().copied().collect();
        Ok(Network {
            applications: self.cgroups.look(desired),
            refused,
            rewired: self.rewired.clone(),
            secret: self.secret,
            ..network
        })
    }
}

/// Next hops whose hardware address is not known, and whether they are silent.
fn unresolved(desired: &Desired, network: &Network) -> BTreeMap<(u32, IpAddr), bool> {
    let unresolved = desired.endpoints.iter().filter_map(|endpoint| {
        let path = network
            .paths
            .get(&endpoint.name)
            .filter(|path| path.mac.is_none())?;
        Some((next_hop(endpoint, path, &network.links)?, path.silent))
    });
    unresolved.collect()
}

/// Time in which the kernel resolves a hardware address, three seconds by default, and a little
/// more.
const PATIENCE: Duration = Duration::from_millis(3500);
/// How long to wait for answers, and until the kernel is asked again the first time.
const ANSWER: Duration = Duration::from_millis(250);
const ANSWER_PAUSE: Duration = Duration::from_millis(1);

/// What to do about an unresolved next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Resolve,
    Leave,
}

pub(super) fn observe(
    netlink: &mut Netlink,
    desired: &Desired,
    offloads: &mut Offloads,
    was_silent: impl Fn(&Endpoint, (u32, IpAddr)) -> bool,
    unknown: Unknown,
    pin_path: &FilePath,
) -> Result<Network, KernelError> {
    let mut links = netlink.links()?;
    let segmenter::Found { segmenter, parts } = segmenter::apart(&mut links, pin_path);
    let segmenter_missed = segmenter::is_missed(pin_path);
    let ipsec = netlink.policies()?;
    let is_sent = |link: &&Link| entry_of(&desired.interfaces, link, Direction::Egress).is_some();
    let unsummed = offloads.unsummed(netlink, links.values().filter(is_sent));
    let mut network = Network {
        links,
        segmenter,
        segmenter_parts: parts,
        segmenter_missed,
        ipsec,
        unsummed,
        ..Network::default()
    };
    for endpoint in &desired.endpoints {
        let path = path(netlink, endpoint, &network, &was_silent, unknown)?;
        network.paths.insert(endpoint.name.clone(), path);
    }
    if unknown == Unknown::Resolve {
        await_neighbours(netlink, desired, &mut network)?;
    }
    Ok(network)
}

/// The kernel resolves addresses now. On a link that takes milliseconds: a short wait spares a
/// second change of the tables, and no copy meets an unresolved endpoint.
fn await_neighbours(
    netlink: &mut Netlink,
    desired: &Desired,
    network: &mut Network,
) -> Result<(), KernelError> {
    let (deadline, mut pause) = (Instant::now() + ANSWER, ANSWER_PAUSE);
    loop {
        let mut is_missing = false;
        for endpoint in &desired.endpoints {
            let Some(path) = network.paths.get_mut(&endpoint.name) else {
                continue;
            };
            let is_asked = path.mac.is_none() && !path.silent;
            let Some((interface, next_hop)) =
                next_hop(endpoint, path, &network.links).filter(|_| is_asked)
            else {
                continue;
            };
            path.mac = netlink
                .neighbour(interface, next_hop)?
                .and_then(|neighbour| neighbour.usable_mac());
            is_missing |= path.mac.is_none();
        }
        if !is_missing || Instant::now() >= deadline {
            return Ok(());
        }
        thread::sleep(pause);
        pause *= 2;
    }
}

/// The next hop of an endpoint that must be resolved, and its interface.
pub(super) fn next_hop(
    endpoint: &Endpoint,
    path: &Path,
    links: &BTreeMap<u32, Link>,
) -> Option<(u32, IpAddr)> {
    let route = path
        .route
        .as_ref()
        .filter(|route| !path.own && !route.assumed)?;
    links
        .get(&route.interface)
        .filter(|link| link.kind == LinkKind::Ethernet && link.up && link.running)?;
    Some((route.interface, route.gateway.or(endpoint.address)?))
}

fn path(
    netlink: &mut Netlink,
    endpoint: &Endpoint,
    network: &Network,
    was_silent: &impl Fn(&Endpoint, (u32, IpAddr)) -> bool,
    unknown: Unknown,
) -> Result<Path, KernelError> {
    // that of a DNS name may not be known yet
    let Some(address) = endpoint.address else {
        return Ok(Path::default());
    };
    // with an interface in the request, the kernel answers as if even its own addresses were
    // elsewhere
    let destination = SocketAddr::new(address, endpoint.port);
    let anywhere = netlink.route(destination, None)?;
    let own = anywhere
        .as_ref()
        .is_some_and(|route| route.kind == RouteKind::Local);
    let route = match &endpoint.interface {
        None => anywhere,
        Some(name) => match network.link(name) {
            None => None,
            Some(link) => netlink.route(destination, Some(link.index))?,
        },
    };
    let mut path = Path {
        own,
        route,
        ..Path::default()
    };
    if let Some((interface, next_hop)) = next_hop(endpoint, &path, &network.links) {
        let neighbour = netlink.neighbour(interface, next_hop)?;
        path.mac = neighbour.as_ref().and_then(Neighbour::usable_mac);
        // the kernel's timeout decides; a repeated resolution counts as silent until there is an
        // answer
        let has_failed =
            neighbour.is_some_and(|neighbour| neighbour.state == NeighbourState::Failed);
        path.silent =
            path.mac.is_none() && (has_failed || was_silent(endpoint, (interface, next_hop)));
        if path.mac.is_none() && unknown == Unknown::Resolve {
            // for instance a full neighbour table must not block everything else; the next round
            // tries again
            let _ = netlink.resolve(interface, next_hop);
        }
    }
    Ok(path)
}
