//! Looks at what is below a pin path without a daemon, or beside it.

use std::net::IpAddr;
use std::path::{Path as FilePath, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use traffic_mirror_ebpf::abi::{self, Drop};

use super::cgroups::applications;
use super::netlink::Netlink;
use super::observe::{Unknown, observe};
use super::offload::Offloads;
use crate::attached::Attached;
use crate::compile::{HookKey, outer, refused};
use crate::desired::{Desired, Endpoint, Published};
use crate::kernel::attach::Attachments;
use crate::kernel::attachment::Role;
use crate::kernel::claim::namespace;
use crate::kernel::error::KernelError;
use crate::kernel::generation::Generation;
use crate::kernel::record::record;
use crate::network::Network;
use crate::tables::{Live, names};

/// Whether the live tables mark the endpoint's next hop as silent.
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
            && Some(outer(record).1) == endpoint.address
    })
}

/// Looks at what is below a pin path, beside the daemon that has it or without one. Changes
/// nothing, and has no packet sent.
pub struct Observer {
    pin_path: PathBuf,
    netlink: Netlink,
    offloads: Offloads,
    /// When interfaces were last queried: an observer receives no events about them.
    asked: Instant,
}

/// How often two readings of the tables are compared, and how long is waited between them.
const READINGS: usize = 50;
const PAUSE: Duration = Duration::from_millis(20);
/// How long a repeated observer uses the answer of an interface.
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

    /// The filters that have metrics of their own.
    pub fn published(&self) -> Published {
        record(&self.pin_path).map_or_else(Published::default, |record| record.published)
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
                // another generation has taken over
                Err(_) if Generation::list(&self.pin_path)?.last() != Some(&generation) => {}
                live => return live.map(Some),
            }
        }
    }

    /// The network as a daemon would read it for this file. `live` contains the interfaces that
    /// rejected `encap`, and whether the segmenter was rejected.
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
        network.applications = applications(desired);
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
    /// A link or filter cannot be queried.
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
    /// A link or filter cannot be queried.
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
