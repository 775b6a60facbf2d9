//! Input: the maps and pins in the kernel; no daemon is asked. Output: [`Status`], for people and
//! as JSON.

mod daemon;
mod file;
mod filter;
mod listed;
mod rate;
mod reasons;
mod text;
mod top;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;
use traffic_mirror_ebpf::abi::{self, Drop, IcmpError, Skipped, Trouble};

use crate::compile::{READY, called, entries, entry_of, mac, not_mirrored, outer, refused, state};
use crate::desired::{Desired, Order, Unparsed};
use crate::kernel::netlink::Netlink;
use crate::kernel::{
    Attachment, Attachments, Generation, KernelError, Mechanism, Role, require_namespace, strays,
    without_segmenters, word,
};
use crate::report::plural;
use crate::tables::{Pages, Table, elements, names};
use crate::{chain, desired, network};

/// What is mirrored at the moment.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Version of this structure.
    pub schema: u32,
    /// Something that is wanted does not work: there are reasons.
    pub degraded: bool,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
    /// Since when, seconds since 1970, as far as that is known.
    pub since: Option<u64>,
    /// The daemon.
    pub daemon: Daemon,
    /// The file that it follows; absent if no daemon has told.
    pub file: Option<File>,
    /// When the file was last taken, seconds since 1970.
    pub last_reload: Option<u64>,
    /// When it was last refused, if it was not taken since: what was taken before goes on, and this
    /// is degraded.
    pub last_rejected: Option<u64>,
    /// How often the file was taken since mirroring began.
    pub reloads: Option<u64>,
    /// What somebody else had undone: programs that were attached again, and the times that maps
    /// were written again.
    pub repairs: Option<u64>,
    /// Where packets are looked at.
    pub interfaces: Vec<InterfaceStatus>,
    /// What the file lists beside, and why packets are not looked at there.
    pub not_mirrored: Vec<NotMirrored>,
    /// What is looked for.
    pub filters: Vec<FilterStatus>,
    /// Where copies go.
    pub endpoints: Vec<EndpointStatus>,
    /// The interfaces that copies leave by.
    pub outputs: Vec<Output>,
}

/// An interface that copies leave by. What it counts are all packets that it is given to send,
/// whoever sends them.
#[derive(Debug, Clone, Serialize)]
pub struct Output {
    /// Its name.
    pub interface: String,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Kind of its queueing discipline; absent if it has none.
    pub queue: Option<String>,
    /// Packets that the queueing discipline has dropped, be it after it had accepted them.
    pub queue_drops: u32,
    /// Packets that the device has dropped or failed to send.
    pub device_drops: u64,
    /// Whether ICMP errors about copies that come back there are counted.
    pub hears_errors: bool,
}

/// One direction of one interface.
#[derive(Debug, Clone, Serialize)]
pub struct InterfaceStatus {
    /// Its name; absent if it is gone.
    pub name: Option<String>,
    /// The alternative name that the file lists it by; absent if it does so by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub altname: Option<String>,
    /// Its index.
    pub index: u32,
    /// "ingress" or "egress".
    pub direction: &'static str,
    /// "tcx" or "clsact"; absent if the program is not attached.
    pub attached: Option<&'static str>,
    /// Where it stands among the programs there.
    pub place: Option<ChainPosition>,
    /// Where it is to stand, as in the file.
    pub order: String,
    /// Whether it stands there; absent if that is not known.
    pub in_order: Option<bool>,
    /// The program that `order` names, if it is not there: the place is the last one until it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// What else is worth knowing, and nothing that is wanted here: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Packets that filters could not be asked about, or only without their ports, by reason, if
    /// any.
    pub skipped: BTreeMap<&'static str, u64>,
}

/// A place in a chain of programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainPosition {
    /// Which of them it is, counted from 1.
    pub position: usize,
    /// Those that run before, in order.
    pub after: Vec<String>,
    /// Those that run behind.
    pub before: Vec<String>,
    /// Priority of a clsact filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
}

/// One filter.
#[derive(Debug, Clone, Serialize)]
pub struct FilterStatus {
    /// Its name.
    pub name: String,
    /// Whether it is in force somewhere.
    pub active: bool,
    /// "active", or why it is not: "disabled" (its `enabled` is false), "mirroring-off" (that of
    /// the whole file), "no-interface" (no interface that is looked at is one of its own).
    pub state: &'static str,
    /// Packets that matched, as they are on the wire.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// How many come at the moment; absent if that was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// One endpoint.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// "ready", or why it gets no copies, or what keeps them from arriving.
    pub state: &'static str,
    /// Since when it is not "ready", seconds since 1970, if the daemon has seen it.
    pub since: Option<u64>,
    /// Copies are sent, and the state says what keeps them from arriving.
    #[serde(skip)]
    pub is_sent: bool,
    /// Outer destination address; absent while the endpoint cannot be reached.
    pub address: Option<IpAddr>,
    /// Outer destination port.
    pub port: Option<u16>,
    /// Output interface.
    pub interface: Option<String>,
    /// Hardware address of the next hop; absent while the kernel looks for it.
    pub next_hop: Option<String>,
    /// Bytes of an outer packet at most; less than the interface's MTU if a router has told so.
    /// Absent while the endpoint cannot be reached.
    pub mtu: Option<u32>,
    /// ICMP errors that came back about copies, by what they say, if any.
    pub errors: BTreeMap<&'static str, u64>,
    /// Packets of which the output interface, or its queue, took a copy.
    pub packets: u64,
    /// Their bytes from the inner IP header on.
    pub bytes: u64,
    /// Packets among them of which the end was cut off (`snap`, `oversize = "truncate"`).
    pub truncated: u64,
    /// Packets among them that were sent in several outer fragments.
    pub fragmented: u64,
    /// Packets that matched and were not copied, by reason, if any.
    pub drops: BTreeMap<&'static str, u64>,
    /// How many go at the moment; absent if that was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl EndpointStatus {
    /// Whether it gets copies.
    pub fn is_ready(&self) -> bool {
        self.state == READY
    }
}

/// Reads the status; `None` if nothing is live below the pin path.
///
/// # Errors
/// A map cannot be read, or what others have attached cannot be asked for, which takes `CAP_SYS_ADMIN`
/// (`bpf_prog_get_fd_by_id`); what is there belongs to another network namespace.
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

/// The same without the places among other programs, which the daemon may not ask for.
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
        schema: 1,
        degraded: false,
        reasons: Vec::new(),
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
    };
    Ok(status.judge())
}

pub use daemon::{Daemon, Life, PATIENCE};
use file::now;
pub use file::{File, Standing};
pub use listed::NotMirrored;
pub use rate::Rate;
pub use reasons::Reason;
pub use top::{Style, frame};

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
        let count = |reason: &Skipped| stats.iter().map(|cpu| cpu[*reason as usize]).sum::<u64>();
        let skipped = Skipped::ALL
            .iter()
            .map(|reason| (reason.label(), count(reason)))
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
        let wraps = |record: &abi::Endpoint| {
            let role = Role::Encap {
                generation: generation.number(),
            };
            attached
                .iter()
                .any(|(there, _)| there.role == role && there.interface == record.interface)
        };
        let segmenter = |record: &abi::Endpoint| {
            let role = Role::Segmenter {
                generation: generation.number(),
            };
            record.has_segmenter()
                && links.contains_key(&record.segmenter)
                && attached.iter().any(|(there, _)| there.role == role)
        };
        let is_missed = cpus
            .iter()
            .any(|cpu| cpu.drops[Drop::NoSegmenter as usize] > 0);
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
            Some(record) if !wraps(record) => ("not-attached", false),
            Some(record) if cpus.iter().any(|cpu| cpu.tripped == record.breaker) => {
                ("tripped", false)
            }
            // without a segmenter superpackets are not copied; all others are
            Some(record) if (record.segmenter != 0 || is_missed) && !segmenter(record) => {
                (Drop::NoSegmenter.label(), record.state == Drop::None as u32)
            }
            Some(record) => match state(record) {
                READY => (trouble.map_or(READY, Trouble::label), true),
                state => (state, false),
            },
        };
        EndpointStatus {
            name: name.to_owned(),
            state,
            since: (health.since > 0).then_some(health.since),
            is_sent,
            address: outer.map(|(_, address, _)| address),
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

/// Up to which index there are objects.
fn used(named: &[abi::Name]) -> usize {
    names(named)
        .last()
        .map_or(0, |(index, _)| index as usize + 1)
}

/// Objects keep their place in the maps while others come and go, so they stand there in no order.
fn sorted<T, K: Ord>(objects: impl Iterator<Item = T>, key: impl FnMut(&T) -> K) -> Vec<T> {
    let mut objects: Vec<T> = objects.collect();
    objects.sort_by_cached_key(key);
    objects
}

/// What a file asks for, in a few words.
pub fn summary(desired: &Desired) -> String {
    let Desired {
        interfaces,
        filters,
        endpoints,
        enabled,
        unparsed,
        ..
    } = desired;
    let switch = if *enabled { "" } else { ", disabled" };
    let unparsed = if *unparsed == Unparsed::Mirror {
        ""
    } else {
        ", unparsed packets skipped"
    };
    format!(
        "{}, {}, {}{switch}{unparsed}",
        plural(interfaces.len(), "interface"),
        plural(filters.len(), "filter"),
        plural(endpoints.len(), "endpoint")
    )
}
