//! Reads maps and pins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use traffic_mirror_ebpf::abi::{self, Drop, IcmpError, NameFound, Skipped, Trouble};

use super::named::{sorted, used};
use super::{
    ChainPosition, Daemon, EndpointStatus, File, InterfaceStatus, NotMirrored, Output, Reason,
    SCHEMA, State, Status, filter,
};
use crate::compile::{READY, called, entries, entry_of, mac, not_mirrored, outer, refused, state};
use crate::desired::Order;
use crate::kernel::netlink::Netlink;
use crate::kernel::{
    Attachment, Attachments, Generation, KernelError, Mechanism, Role, require_namespace, strays,
    without_segmenters, word,
};
use crate::tables::{Pages, Table, elements, names};
use crate::{chain, desired, network};

/// Reads the status; `None` if nothing is live below the pin path.
///
/// # Errors
/// A map cannot be read; the programs of other processes cannot be queried without `CAP_SYS_ADMIN`
/// (`bpf_prog_get_fd_by_id`); the pin path belongs to another network namespace.
pub fn read(pin_path: &Path) -> Result<Option<Status>, KernelError> {
    require_namespace(pin_path)?;
    let Some(mut status) = read_without_places(pin_path)? else {
        return Ok(None);
    };
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let attached = attached(pin_path, &mut netlink, &links)?;
    let orders = Attachments::below(pin_path).orders()?;
    for interface in &mut status.interfaces {
        find_place(pin_path, &mut netlink, &attached, &orders, interface)?;
        let has_xdp = links.get(&interface.index).is_some_and(|link| link.has_xdp);
        interface.note = interface
            .note
            .take()
            .filter(|_| has_xdp && interface.direction == INGRESS);
    }
    status.judge_places();
    for stray in strays(pin_path, &mut netlink)? {
        status.worsen(Reason::new(stray.to_string()));
    }
    Ok(Some(status))
}

/// The same without the positions among other programs, which the daemon may not query.
///
/// # Errors
/// A map cannot be read.
pub fn read_without_places(pin_path: &Path) -> Result<Option<Status>, KernelError> {
    loop {
        let Some(number) = Generation::list(pin_path)?.pop() else {
            return Ok(None);
        };
        match read_generation(pin_path, number) {
            // a reload has put another in its place
            Err(_) if Generation::list(pin_path)?.last() != Some(&number) => {}
            status => return status.map(Some),
        }
    }
}

fn read_generation(pin_path: &Path, number: u32) -> Result<Status, KernelError> {
    let generation = Generation::open(pin_path, number);
    generation.require_our_layout()?;
    let control: abi::Control = pod(&generation.read(Table::Control)?);
    let bank = control.epoch as usize & 1;
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let attached = attached(pin_path, &mut netlink, &links)?;
    let table: Pages<abi::Listed> = elements(&generation.read(Table::Listed)?).collect();
    let (listed, refused) = (entries(&table), refused(&table));
    let interfaces = interfaces(&attached, &generation, &links, &listed)?;
    let mirrored = interfaces.iter().map(|interface| interface.index).collect();
    let not_mirrored = not_mirrored(
        &listed,
        &without_segmenters(links.clone(), pin_path),
        &mirrored,
        &refused,
    );
    let not_mirrored: Vec<NotMirrored> = not_mirrored.iter().map(NotMirrored::of).collect();
    let endpoints = endpoints(&attached, &generation, bank, &links)?;
    let filters = filter::filters(&generation, &control.banks[bank])?;
    let hears_errors = |interface: u32| {
        let role = Role::Errors { generation: number };
        attached
            .iter()
            .any(|(there, _)| there.role == role && there.interface == interface)
    };
    let outputs = outputs(&mut netlink, &endpoints, &links, hears_errors)?;
    let noted = generation.history().ok();
    let last_rejected = noted
        .map(|history| history.last_rejected)
        .filter(|&at| at > 0);
    let record = generation.record();
    let daemon = Daemon::look(pin_path, record.as_ref());
    let file = record.as_ref().map(|record| File::look(record, &daemon));
    let history = noted.filter(|history| history.reloads > 0);
    let status = Status {
        schema: SCHEMA,
        state: State::Ok,
        degraded: false,
        reasons: Vec::new(),
        idle: filter::idle(&filters),
        since: None,
        daemon,
        file,
        last_reload: history.map(|history| history.last_reload),
        last_rejected,
        reloads: history.map(|history| history.reloads),
        repairs: history.map(|history| history.repairs),
        interfaces,
        not_mirrored,
        filters,
        endpoints,
        outputs,
        dns_names: Vec::new(),
    };
    Ok(status.judge())
}

fn pod<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> T {
    bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()])
}

/// What is in force, of what has a pin.
fn attached(
    pin_path: &Path,
    netlink: &mut Netlink,
    links: &BTreeMap<u32, network::Link>,
) -> Result<Vec<(Attachment, Mechanism)>, KernelError> {
    let attachments = Attachments::below(pin_path);
    let mut attached = Vec::new();
    for (attachment, mechanism) in attachments.list()? {
        if links.contains_key(&attachment.interface)
            && attachments.is_attached(netlink, attachment, mechanism)?
        {
            attached.push((attachment, mechanism));
        }
    }
    Ok(attached)
}

fn find_place(
    pin_path: &Path,
    netlink: &mut Netlink,
    attached: &[(Attachment, Mechanism)],
    orders: &BTreeMap<Attachment, Order>,
    interface: &mut InterfaceStatus,
) -> Result<(), KernelError> {
    let (index, direction) = (interface.index, interface.direction);
    let is_it = |there: &Attachment| {
        there.role == Role::Mirror && there.interface == index && word(there.direction) == direction
    };
    let attachments = Attachments::below(pin_path);
    let order = orders.iter().find(|(there, _)| is_it(there));
    let order = order.map(|(_, order)| order.clone()).unwrap_or_default();
    interface.order = order.to_string();
    let Some(&(attachment, mechanism)) = attached.iter().find(|(there, _)| is_it(there)) else {
        return Ok(());
    };
    let chain = attachments.chain(netlink, attached, attachment, mechanism)?;
    if let Some(ours) = chain.ours() {
        let labels = |programs: &[chain::Entry]| programs.iter().map(chain::Entry::label).collect();
        let (after, before) = (
            labels(&chain.programs[..ours]),
            labels(&chain.programs[ours + 1..]),
        );
        interface.place = Some(ChainPosition {
            position: ours + 1,
            after,
            before,
            priority: chain.programs[ours].priority,
        });
        interface.pending = chain.awaited(&order).map(str::to_owned);
        interface.note = chain.loses_metadata();
        interface.in_order = Some(chain.holds(&order) && interface.pending.is_none());
    }
    Ok(())
}

const INGRESS: &str = word(network::Direction::Ingress);

fn interfaces(
    attached: &[(Attachment, Mechanism)],
    generation: &Generation,
    links: &BTreeMap<u32, network::Link>,
    listed: &[desired::Interface],
) -> Result<Vec<InterfaceStatus>, KernelError> {
    let hooks: Vec<abi::Hook> = elements(&generation.read(Table::Hooks)?).collect();
    let last = hooks.iter().rposition(|hook| hook.interface != 0);
    let has_names = generation.knows_flows()?;
    let stats = generation.hook_stats(last.map_or(0, |index| index + 1))?;
    let used = hooks
        .iter()
        .zip(stats)
        .filter(|(hook, _)| hook.interface != 0);
    let interface = |(hook, stats): (&abi::Hook, Vec<abi::HookStats>)| {
        let direction = if hook.egress == 0 {
            network::Direction::Ingress
        } else {
            network::Direction::Egress
        };
        let link = links.get(&hook.interface);
        let name = link.map(|link| link.name.clone());
        let altname = link.and_then(|link| called(&entry_of(listed, link, direction)?.name, link));
        let altname = altname
            .filter(|altname| Some(*altname) != name.as_deref())
            .map(str::to_owned);
        let how = attached.iter().find(|(attachment, _)| {
            attachment.role == Role::Mirror
                && attachment.interface == hook.interface
                && attachment.direction == direction
        });
        let how = how.map(|(_, how)| match how {
            Mechanism::Tcx => "tcx",
            Mechanism::Clsact => "clsact",
        });
        let count = |place: usize| stats.iter().map(|cpu| cpu[place]).sum::<u64>();
        let skipped = Skipped::ALL
            .iter()
            .map(|reason| (reason.label(), count(*reason as usize)))
            .filter(|(_, n)| *n > 0);
        let connections = NameFound::ALL
            .iter()
            .map(|found| (found.label(), count(found.place())))
            .filter(|(_, n)| *n > 0);
        InterfaceStatus {
            name,
            altname,
            index: hook.interface,
            direction: word(direction),
            attached: how,
            place: None,
            order: Order::default().to_string(),
            in_order: None,
            pending: None,
            note: None,
            skipped: skipped.collect(),
            connections: has_names.then(|| connections.collect()),
        }
    };
    Ok(sorted(used.map(interface), |one| {
        (one.name.clone(), one.index, one.direction != INGRESS)
    }))
}

fn endpoints(
    attached: &[(Attachment, Mechanism)],
    generation: &Generation,
    bank: usize,
    links: &BTreeMap<u32, network::Link>,
) -> Result<Vec<EndpointStatus>, KernelError> {
    let named: Vec<abi::Name> = elements(&generation.read(Table::EndpointNames)?).collect();
    let pairs: Vec<abi::EndpointPair> = elements(&generation.read(Table::Endpoints)?).collect();
    let stats = generation.endpoint_stats(used(&named))?;
    let health = generation.health()?;
    let roles = Roles {
        attached,
        generation: generation.number(),
    };
    let endpoint = |(index, name): (u32, &str)| {
        let (record, cpus) = (&pairs[index as usize][bank], &stats[index as usize]);
        let reached = record.has_way().then_some(record);
        let outer = reached.map(outer);
        let total = |get: &dyn Fn(&abi::EndpointStats) -> u64| cpus.iter().map(get).sum::<u64>();
        let drops = Drop::ALL
            .iter()
            .map(|reason| (reason.label(), total(&|cpu| cpu.drops[*reason as usize])));
        let link =
            |record: &abi::Endpoint| links.get(&record.interface).map(|link| link.name.clone());
        let errors = IcmpError::ALL
            .iter()
            .map(|kind| (kind.label(), total(&|cpu| cpu.errors[*kind as usize])));
        let health = health[index as usize];
        let trouble = Trouble::ALL
            .get(health.trouble as usize)
            .copied()
            .filter(|trouble| *trouble != Trouble::None);
        let next_hop = reached
            .filter(|record| record.link_known != 0)
            .map(|record| mac(&record.link[..6]));
        let (state, is_sent) = match reached {
            None => (state(record), false),
            Some(record) => roles.state(record, cpus, trouble, links),
        };
        EndpointStatus {
            name: name.to_owned(),
            state,
            since: (health.since > 0).then_some(health.since),
            is_sent,
            address: outer.map(|(_, address, _)| address),
            dns_name: None,
            port: outer.map(|(.., port)| port),
            interface: reached.and_then(link),
            next_hop,
            mtu: reached.map(|record| record.mtu),
            errors: errors.filter(|(_, n)| *n > 0).collect(),
            packets: total(&|cpu| cpu.sent.packets),
            bytes: total(&|cpu| cpu.sent.bytes),
            truncated: total(&|cpu| cpu.truncated),
            fragmented: total(&|cpu| cpu.fragmented),
            drops: drops.filter(|(_, n)| *n > 0).collect(),
            rate: None,
        }
    };
    Ok(sorted(names(&named).map(endpoint), |one| one.name.clone()))
}

/// The programs that copies meet.
struct Roles<'a> {
    attached: &'a [(Attachment, Mechanism)],
    generation: u32,
}

impl Roles<'_> {
    fn has_encap(&self, interface: u32) -> bool {
        let generation = self.generation;
        let role = Role::Encap { generation };
        self.attached
            .iter()
            .any(|(there, _)| there.role == role && there.interface == interface)
    }

    fn has_segmenter(&self) -> bool {
        let generation = self.generation;
        let role = Role::Segmenter { generation };
        self.attached.iter().any(|(there, _)| there.role == role)
    }

    /// The state of an endpoint that can be reached, and whether copies are sent to it.
    fn state(
        &self,
        record: &abi::Endpoint,
        cpus: &[abi::EndpointStats],
        trouble: Option<Trouble>,
        links: &BTreeMap<u32, network::Link>,
    ) -> (&'static str, bool) {
        let is_missed = cpus
            .iter()
            .any(|cpu| cpu.drops[Drop::NoSegmenter as usize] > 0);
        let is_segmented =
            record.has_segmenter() && links.contains_key(&record.segmenter) && self.has_segmenter();
        if !self.has_encap(record.interface) {
            ("not-attached", false)
        } else if cpus.iter().any(|cpu| cpu.tripped == record.breaker) {
            ("tripped", false)
        } else if (record.segmenter != 0 || is_missed) && !is_segmented {
            // without a segmenter superpackets are not copied; all others are
            (Drop::NoSegmenter.label(), record.state == Drop::None as u32)
        } else {
            match state(record) {
                READY => (trouble.map_or(READY, Trouble::label), true),
                state => (state, false),
            }
        }
    }
}

fn outputs(
    netlink: &mut Netlink,
    endpoints: &[EndpointStatus],
    links: &BTreeMap<u32, network::Link>,
    hears_errors: impl Fn(u32) -> bool,
) -> Result<Vec<Output>, KernelError> {
    let used: BTreeSet<&str> = endpoints
        .iter()
        .filter_map(|endpoint| endpoint.interface.as_deref())
        .collect();
    let queues = if used.is_empty() {
        BTreeMap::new()
    } else {
        netlink.queues()?
    };
    let output = |name: &&str| links.values().find(|link| link.name == *name);
    let mut outputs = Vec::new();
    for link in used.iter().filter_map(output) {
        let queue = queues.get(&link.index);
        outputs.push(Output {
            interface: link.name.clone(),
            carrier: link.running,
            queue: queue.map(|queue| queue.kind.clone()),
            queue_drops: queue.map_or(0, |queue| queue.drops),
            device_drops: netlink.device_drops(link.index)?.unwrap_or(0),
            hears_errors: hears_errors(link.index),
        });
    }
    Ok(outputs)
}
