//! Reads what [`Network`] holds. The daemon has the kernel find neighbours that it does not know;
//! an [`Observer`] changes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use traffic_mirror_ebpf::abi::{self, Drop};

use super::netlink::Netlink;
use super::offload::Offloads;
use crate::attached::Attached;
use crate::compile::{HookKey, entry_of, outer, refused};
use crate::desired::{Desired, Endpoint};
use crate::kernel::attach::Attachments;
use crate::kernel::attachment::Role;
use crate::kernel::claim::namespace;
use crate::kernel::error::KernelError;
use crate::kernel::generation::Generation;
use crate::kernel::{Kernel, segmenter};
use crate::network::{
    Direction, Link, LinkKind, Neighbour, NeighbourState, Network, Path, RouteKind,
};
use crate::tables::{Live, names};

impl Kernel {
    /// Whether the kernel has asked for a next hop for long enough, which nobody has been told.
    pub fn has_asked_enough(&self) -> bool {
        self.asked
            .iter()
            .any(|(next_hop, since)| !self.silent.contains(next_hop) && since.elapsed() >= PATIENCE)
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
        // however much traffic has the kernel begin anew: it has had its time
        let is_over = |since: &Instant| since.elapsed() >= PATIENCE;
        let was_silent = |_: &Endpoint, next_hop: (u32, IpAddr)| {
            silent.contains(&next_hop) || asked.get(&next_hop).is_some_and(is_over)
        };
        let mut network = observe(
            netlink,
            desired,
            offloads,
            was_silent,
            Unknown::Resolve,
            pin_path,
        )?;
        let unresolved = |endpoint: &Endpoint| {
            let path = network
                .paths
                .get(&endpoint.name)
                .filter(|path| path.mac.is_none())?;
            Some((next_hop(endpoint, path, &network.links)?, path.silent))
        };
        let unresolved: BTreeMap<(u32, IpAddr), bool> =
            desired.endpoints.iter().filter_map(unresolved).collect();
        self.silent = unresolved
            .iter()
            .filter(|(_, silent)| **silent)
            .map(|(next_hop, _)| *next_hop)
            .collect();
        let since = |next_hop| {
            (
                next_hop,
                self.asked
                    .get(&next_hop)
                    .copied()
                    .unwrap_or_else(Instant::now),
            )
        };
        self.asked = unresolved.keys().copied().map(since).collect();
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
            refused,
            rewired: self.rewired.clone(),
            secret: self.secret,
            ..network
        })
    }
}

/// How long the kernel asks for a hardware address, at its defaults three seconds, and a little
/// more.
const PATIENCE: Duration = Duration::from_millis(3500);
/// How long answers are waited for, and how long until the kernel is asked for them again, the
/// first time.
const ANSWER: Duration = Duration::from_millis(250);
const ANSWER_PAUSE: Duration = Duration::from_millis(1);

/// What to do about a next hop whose hardware address the kernel does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Resolve,
    Leave,
}

fn observe(
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

/// The kernel has been asked for hardware addresses. On a link they are there within milliseconds:
/// what is known then need not be changed a moment later, and no copy meets an endpoint without.
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

/// Who has to be asked for the hardware address of the way to an endpoint, and by which interface.
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
    Some((route.interface, route.gateway.unwrap_or(endpoint.address)))
}

fn path(
    netlink: &mut Netlink,
    endpoint: &Endpoint,
    network: &Network,
    was_silent: &impl Fn(&Endpoint, (u32, IpAddr)) -> bool,
    unknown: Unknown,
) -> Result<Path, KernelError> {
    // asked for with an interface, the kernel answers as if even an address of its own were
    // elsewhere
    let destination = SocketAddr::new(endpoint.address, endpoint.port);
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
        // the kernel's own patience decides; what it asks for again is as silent as before until
        // there is an answer
        let has_failed =
            neighbour.is_some_and(|neighbour| neighbour.state == NeighbourState::Failed);
        path.silent =
            path.mac.is_none() && (has_failed || was_silent(endpoint, (interface, next_hop)));
        if path.mac.is_none() && unknown == Unknown::Resolve {
            // a full neighbour table, say, must not stand in the way of everything else; the next
            // look tries again
            let _ = netlink.resolve(interface, next_hop);
        }
    }
    Ok(path)
}

/// Whether the live tables say that nobody answers on the way to the endpoint.
fn is_silent_in(Live { tables, .. }: &Live, endpoint: &Endpoint, interface: u32) -> bool {
    let place = names(&tables.endpoint_names)
        .find(|(_, name)| *name == endpoint.name)
        .map(|(index, _)| index);
    let record = place
        .and_then(|index| tables.endpoints.get(index as usize))
        .map(|pair| &pair[1 - tables.inactive()]);
    record.is_some_and(|record| {
        record.state == Drop::NoNeighbour as u32
            && record.interface == interface
            && outer(record).1 == endpoint.address
    })
}

/// Looks at what is below a pin path, beside the daemon that has it or without one. Changes
/// nothing, and has no packet sent.
pub struct Observer {
    pin_path: PathBuf,
    netlink: Netlink,
    offloads: Offloads,
    /// When interfaces were last asked anew: nobody tells an observer what happens to them.
    asked: Instant,
}

/// How often two readings of the tables are compared, and how long is waited between them.
const READINGS: usize = 50;
const PAUSE: Duration = Duration::from_millis(20);
/// How long an answer of an interface holds for one who looks again and again.
const ANSWER_HOLDS: Duration = Duration::from_secs(1);

impl Observer {
    /// # Errors
    /// No netlink socket; what is there belongs to another network namespace.
    pub fn open(pin_path: &FilePath) -> Result<Self, KernelError> {
        namespace::require(pin_path)?;
        let (netlink, offloads) = (Netlink::open()?, Offloads::default());
        Ok(Self {
            pin_path: pin_path.to_owned(),
            netlink,
            offloads,
            asked: Instant::now(),
        })
    }

    pub(super) fn pin_path(&self) -> &FilePath {
        &self.pin_path
    }

    /// The content of the live tables; `None` if there are none. A daemon may be writing them: what
    /// is read twice the same is whole.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn live(&self) -> Result<Option<Live>, KernelError> {
        let mut last = self.read()?;
        for _ in 0..READINGS {
            let next = self.read()?;
            if next == last {
                break;
            }
            thread::sleep(PAUSE);
            last = next;
        }
        Ok(last)
    }

    fn read(&self) -> Result<Option<Live>, KernelError> {
        loop {
            let Some(generation) = Generation::list(&self.pin_path)?.pop() else {
                return Ok(None);
            };
            let maps = Generation::open(&self.pin_path, generation);
            match maps.require_our_layout().and_then(|()| maps.live(None)) {
                // another has taken its place
                Err(_) if Generation::list(&self.pin_path)?.last() != Some(&generation) => {}
                live => return live.map(Some),
            }
        }
    }

    /// What the network is like, for a daemon that would make the file hold. `live` tells which
    /// interfaces it has found to refuse `encap`, and whether it could make no segmenter.
    ///
    /// # Errors
    /// A netlink request fails.
    pub fn observe(
        &mut self,
        desired: &Desired,
        live: Option<&Live>,
    ) -> Result<Network, KernelError> {
        let was_silent = |endpoint: &Endpoint, (interface, _): (u32, IpAddr)| {
            live.is_some_and(|live| is_silent_in(live, endpoint, interface))
        };
        if self.asked.elapsed() >= ANSWER_HOLDS {
            self.offloads.forget();
            self.asked = Instant::now();
        }
        let Self {
            netlink,
            pin_path,
            offloads,
            ..
        } = self;
        let mut network = observe(
            netlink,
            desired,
            offloads,
            was_silent,
            Unknown::Leave,
            pin_path,
        )?;
        let Some(Live { tables, generation }) = live else {
            return Ok(network);
        };
        for (name, noted) in Generation::open(pin_path, *generation).noted()? {
            let told = (noted.path_mtu > 0).then_some(noted.path_mtu);
            network
                .paths
                .entry(name)
                .and_modify(|path| path.path_mtu = told);
        }
        network.refused = refused(&tables.listed);
        network.secret = tables.control.secret;
        for (index, name) in names(&tables.endpoint_names) {
            let live = tables
                .endpoints
                .get(index as usize)
                .map(|pair| &pair[1 - tables.inactive()]);
            network.segmenter_refused |=
                live.is_some_and(|live| live.segmenter == abi::Endpoint::SEGMENTER_REFUSED);
            let state = live.map(|live| live.state);
            let route = network.paths.get(name).and_then(|path| path.route.as_ref());
            if let Some(route) = route.filter(|_| state == Some(Drop::Unwrapped as u32)) {
                network.refused.insert(route.interface);
            }
        }
        Ok(network)
    }

    /// Whether `mirror` is attached to a hook, and in force.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn is_attached(&mut self, (interface, direction): HookKey) -> Result<bool, KernelError> {
        let attachments = Attachments::below(&self.pin_path);
        for (attachment, mechanism) in attachments.list()? {
            let is_it = (attachment.role, attachment.interface) == (Role::Mirror, interface);
            if is_it
                && attachment.direction == direction
                && attachments.is_attached(&mut self.netlink, attachment, mechanism)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is attached, and in force.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn attached(&mut self, generation: u32) -> Result<Attached, KernelError> {
        let attachments = Attachments::below(&self.pin_path);
        let are_ours = Generation::open(&self.pin_path, generation).is_ours();
        let mut attached = Attached {
            are_ours,
            ..Attached::default()
        };
        let present = attachments.list()?;
        for &(attachment, mechanism) in &present {
            if !attachments.is_attached(&mut self.netlink, attachment, mechanism)? {
                continue;
            }
            match attachment.role {
                Role::Mirror => {
                    let chain =
                        attachments.chain(&mut self.netlink, &present, attachment, mechanism)?;
                    attached
                        .mirrors
                        .insert((attachment.interface, attachment.direction), chain);
                }
                Role::Encap { generation: of } if of == generation => {
                    attached.encaps.insert(attachment.interface);
                }
                Role::Encap { .. } | Role::Segmenter { .. } | Role::Errors { .. } => {}
            }
        }
        Ok(attached)
    }
}
