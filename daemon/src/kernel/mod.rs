//! The only module that talks to the kernel: maps, programs, attachments, netlink.

mod attach;
mod attaching;
mod btf;
mod capability;
mod chain;
mod counters;
mod direct;
mod drift;
mod error;
mod explain;
mod generation;
mod health;
mod history;
mod lane;
mod link;
mod lock;
mod mapping;
mod memory;
mod namespace;
pub mod netlink;
mod observe;
mod offload;
mod order;
mod origin;
mod patches;
mod probe;
mod program;
mod programs;
mod qdisc;
mod rcu;
mod realtime;
mod record;
mod shape;
#[cfg(test)]
mod stack;
mod step;
mod strays;
mod takeover;
mod tcx;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::fcntl::Flock;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

pub use attach::{Attachment, Attachments, Mechanism, Role, word};
pub use capability::require as require_capabilities;
pub use error::KernelError;
pub use explain::Explainer;
pub use generation::Generation;
pub use history::Note;
pub use lane::without_lanes;
pub use lock::{Holder, holder};
pub use namespace::require as require_namespace;
pub use observe::Observer;
pub use program::{Program, reason};
pub use realtime::require as require_serial_softirqs;
pub use record::{Hash, Record, Rejection, hash, mounts, record, uptime};
pub use step::Step;
pub use strays::{Stray, strays};

use crate::compile::{Compiled, Hook, Then};
use crate::plan::{Change, Plan};
use crate::tables::{Live, Tables};
use attach::remove_dir;
use attaching::{Attaching, Slice};
use generation::remove_pins;
use lane::Attempts;
use netlink::{Event, Netlink};
use offload::Offloads;

/// What is ours in the kernel, below one pin path.
pub struct Kernel {
    pin_path: PathBuf,
    mechanism: Mechanism,
    attachments: Attachments,
    netlink: Netlink,
    /// Interfaces on whose egress `encap` could not be attached, and why: no clone may be sent there.
    refused: BTreeMap<u32, String>,
    /// Interfaces on whose egress `encap` was attached again: copies that left meanwhile have blown the fuses of its
    /// endpoints.
    rewired: BTreeSet<u32>,
    lane: Attempts,
    /// There are interfaces of one.
    has_lane_parts: bool,
    /// Next hops that the kernel asks for, and since when.
    asked: BTreeMap<(u32, IpAddr), Instant>,
    /// What outputs have dropped.
    drops: health::Asking,
    /// Next hops that the kernel has asked for in vain, by interface: they have not answered since.
    silent: BTreeSet<(u32, IpAddr)>,
    /// MTUs that routers have told, by the endpoint's name, bytes.
    path_mtus: BTreeMap<String, u32>,
    offloads: Offloads,
    /// What has gone to another place of its hook lately, and what came in the way, if it has not.
    turned: BTreeMap<Attachment, Option<String>>,
    attaching: Attaching,
    /// What somebody else had put in the place of directories of ours, a line each, until it is said.
    cleared: Vec<String>,
    /// What has begun is not done, and what was lost before it is known.
    has_looked: bool,
    before: Box<dyn FnMut(Step) -> Result<(), KernelError>>,
    /// Programs may still run that began before the last commit, be it a predecessor's.
    is_switching: bool,
    pen: record::Pen,
    /// What marks copies, and keys the hash of their flows.
    secret: u64,
    lock: Flock<File>,
}

impl Kernel {
    /// Claims the pin path. Without `mechanism` the kernel's best is taken.
    ///
    /// # Errors
    /// The kernel lacks something, there is no bpf file system, no permission, another daemon has the pin path, or what is
    /// there belongs to another network namespace.
    pub fn claim(pin_path: &Path, mechanism: Option<Mechanism>) -> Result<Self, KernelError> {
        capability::require()?;
        let parent = pin_path.parent().unwrap_or(pin_path);
        if !parent.is_dir() {
            return Err(KernelError::Missing {
                what: format!("there is no directory {}", parent.display()),
                remedy: "make it, or give another --pin-path",
            });
        }
        if statfs(parent).map(|stat| stat.filesystem_type()) != Ok(BPF_FS_MAGIC) {
            return Err(KernelError::Missing {
                what: format!("{} is not a bpf file system", parent.display()),
                remedy: "mount it: mount -t bpf bpf /sys/fs/bpf",
            });
        }
        probe::require()?;
        let mechanism = match mechanism {
            Some(Mechanism::Tcx) => probe::require_tcx().map(|()| Mechanism::Tcx)?,
            Some(Mechanism::Clsact) => Mechanism::Clsact,
            None if probe::has_tcx() => Mechanism::Tcx,
            None => Mechanism::Clsact,
        };
        let lock = lock::claim(pin_path)?;
        let attachments = Attachments::below(pin_path);
        let cleared = attachments.clear(pin_path)?;
        namespace::claim(pin_path)?;
        let mut netlink = Netlink::open()?;
        attachments.end_turns(&mut netlink)?;
        attachments.detach_doubles(&mut netlink, mechanism)?;
        let secret = takeover::secret(pin_path)?;
        Ok(Self {
            pin_path: pin_path.to_owned(),
            mechanism,
            attachments,
            netlink,
            refused: BTreeMap::new(),
            rewired: BTreeSet::new(),
            lane: Attempts::default(),
            has_lane_parts: false,
            asked: BTreeMap::new(),
            drops: health::Asking::default(),
            silent: BTreeSet::new(),
            path_mtus: BTreeMap::new(),
            offloads: Offloads::default(),
            turned: BTreeMap::new(),
            attaching: Attaching::default(),
            cleared,
            has_looked: false,
            before: Box::new(|_| Ok(())),
            is_switching: true,
            pen: record::Pen::default(),
            secret,
            lock,
        })
    }

    /// Has something called before each change of the kernel, in place of which its error is taken.
    pub fn before(&mut self, call: impl FnMut(Step) -> Result<(), KernelError> + 'static) {
        self.before = Box::new(call);
    }

    /// Whether there are live tables below a pin path, such as those that a predecessor left.
    ///
    /// # Errors
    /// The pin path cannot be read.
    pub fn is_live(pin_path: &Path) -> Result<bool, KernelError> {
        Ok(!Generation::list(pin_path)?.is_empty())
    }

    /// The content of the live tables; `None` if there are none, if another version of us made them or their programs, if
    /// some programs use others, or if somebody has removed the pin of one or pinned something else there. What is as in `known` is
    /// shared with it.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn live(&self, known: Option<&Tables>) -> Result<Option<Live>, KernelError> {
        self.readable()?.map(|generation| generation.live(known)).transpose()
    }

    /// The number of the live tables, if there are any that can be read.
    ///
    /// # Errors
    /// As [`Kernel::live`].
    pub fn live_number(&self) -> Result<Option<u32>, KernelError> {
        Ok(self.readable()?.map(|generation| generation.number()))
    }

    /// The maps that are live, if all of them use these, and they are ours.
    fn readable(&self) -> Result<Option<Generation>, KernelError> {
        self.require_sight()?;
        let number = Generation::list(&self.pin_path)?.pop();
        let Some(number) = number.filter(|_| !self.taking_over().exists()) else { return Ok(None) };
        let generation = Generation::open(&self.pin_path, number);
        let is_sound = generation.is_ours() && generation.is_complete() && generation.flaw().is_none();
        Ok(is_sound.then_some(generation))
    }

    /// Why what is pinned for the live tables is of no use, if something there is not ours.
    ///
    /// # Errors
    /// The pin path cannot be read.
    pub fn flaw(&self) -> Result<Option<String>, KernelError> {
        let number = Generation::list(&self.pin_path)?.pop();
        let generation = number.map(|number| Generation::open(&self.pin_path, number));
        Ok(generation.filter(|live| live.is_ours() && live.is_complete()).and_then(|live| live.flaw()))
    }

    /// Applies a change, and attaches again what somebody else has detached. Attachments that fail do not undo the rest.
    /// Of many that are to come or go some are left for the next time, so that nobody waits for all of them.
    ///
    /// # Errors
    /// The maps or programs cannot be made; the live ones stay as they were.
    pub fn apply(&mut self, change: &Change, want: &Compiled) -> Result<Applied, KernelError> {
        let live = Generation::list(&self.pin_path)?.pop();
        let is_written = !matches!(change, Change::InPlace(plan) if !plan.is_empty());
        // with many hooks it takes a while: at the beginning of a look, and at its end
        let is_asked = is_written || !std::mem::take(&mut self.has_looked);
        let lost = if is_asked { self.lost(live, want)? } else { Vec::new() };
        let rewired: BTreeSet<u32> = lost.iter().filter(|lost| lost.role.catches()).map(|lost| lost.index).collect();
        let mut slice = Slice::begin(is_written);
        let (number, mut failed, writes) = match (change, live) {
            (Change::InPlace(plan), Some(live)) => (live, self.write(plan, live, want, &mut slice)?, plan.elements()),
            (Change::NewMaps, live) | (Change::InPlace(_), live @ None) => {
                let (number, failed) = self.replace(live, want)?;
                (number, failed.iter().map(ToString::to_string).collect(), want.tables.elements())
            }
        };
        if want.then == Then::Nothing {
            let uncleaned = self.clean(number, want, &mut slice).unwrap_or_else(|error| vec![error]);
            failed.extend(uncleaned.iter().map(ToString::to_string));
        }
        let is_settled = matches!(change, Change::InPlace(plan) if plan.is_empty()) && rewired.is_empty();
        let mut is_done = is_settled && slice.left == 0;
        self.rewired = rewired;
        let mut repaired = std::mem::take(&mut self.cleared);
        repaired.extend(lost.iter().map(ToString::to_string));
        let mut obstacles = Vec::new();
        if is_done {
            let ordered = self.put_in_order(number, want)?;
            is_done = ordered.rewired.is_empty();
            self.rewired = ordered.rewired;
            repaired.extend(ordered.repaired);
            obstacles = ordered.obstacles;
        }
        if is_done && want.lane_wanted && want.lane.is_none() && self.lane.refused().is_none() {
            // the last: all else need not wait for it
            is_done = false;
            self.make_lane()?;
        }
        if is_done && self.lane.settle(want.lane) {
            repaired.push("the lane was damaged by somebody else; made again".to_owned());
        }
        obstacles.extend(self.refused.values().chain(self.lane.refused()).cloned());
        obstacles.extend(failed);
        obstacles.extend(memory::obstacles());
        let left = if is_settled { slice.left } else { 0 };
        self.has_looked = !is_done && left == 0;
        Ok(Applied { obstacles, repaired, writes, is_done, left })
    }

    /// Writes what differs into the live maps.
    fn write(
        &mut self,
        plan: &Plan,
        number: u32,
        want: &Compiled,
        slice: &mut Slice,
    ) -> Result<Vec<String>, KernelError> {
        let live = Generation::open(&self.pin_path, number);
        self.attach_catchers(&live, want)?;
        if !plan.is_empty() {
            if self.is_switching {
                // what is not in use any more may still be for programs that began before the last commit
                rcu::synchronize()?;
            }
            // nor after a plan that fails in the middle
            self.is_switching = true;
            live.clear_stats(plan)?;
            live.apply(&plan.writes, &mut || (self.before)(Step::Write))?;
            self.is_switching = false;
        }
        if let Some(epoch) = plan.commit {
            (self.before)(Step::Commit)?;
            live.commit(epoch)?;
            self.is_switching = true;
        }
        self.attach_missing(number, want, slice)
    }

    /// Forgets what may be otherwise after these events.
    pub fn hear(&mut self, events: &BTreeSet<Event>) {
        self.offloads.hear(events);
    }

    /// Forgets which output interfaces have refused `encap`, what has been put in order, and what interfaces have answered, so
    /// that the next look tries and asks again.
    pub fn try_again(&mut self) {
        self.offloads.forget();
        self.refused.clear();
        self.turned.clear();
        self.attaching.all_again();
        self.lane.look();
    }

    /// How many interfaces have refused a program that clones are sent to: with each, what is wanted must be compiled anew.
    pub fn refusals(&self) -> usize {
        self.refused.len() + usize::from(self.lane.refused().is_some())
    }

    /// Removes what does not belong to this generation or is not wanted.
    fn clean(&mut self, number: u32, want: &Compiled, slice: &mut Slice) -> Result<Vec<KernelError>, KernelError> {
        let others = catchers(number, want).chain(watchers(number, want));
        let wanted: BTreeSet<Attachment> = want.hooks.values().map(mirror_of).chain(others).collect();
        let Self { attachments, netlink, mechanism, before, .. } = self;
        let mut surplus = attachments.list()?;
        surplus.retain(|(attachment, how)| !wanted.contains(attachment) || how != mechanism);
        let (mirrors, catchers): (Vec<_>, Vec<_>) =
            surplus.into_iter().partition(|(attachment, _)| attachment.role == Role::Mirror);
        let mut failed = Vec::new();
        let mut detach = |(attachment, how)| {
            failed.extend(before(Step::Detach).and_then(|()| attachments.detach(netlink, attachment, how)).err());
        };
        slice.each(mirrors, &mut detach);
        if slice.left > 0 {
            // a `mirror` that is left needs what is below
            return Ok(failed);
        }
        if !catchers.is_empty() {
            // an old `mirror` that still runs needs the old `encap`
            rcu::synchronize()?;
        }
        catchers.into_iter().for_each(&mut detach);
        if want.lane.is_none() && self.has_lane_parts {
            self.remove_lane()?;
        }
        for old in Generation::list(&self.pin_path)?.into_iter().filter(|&old| old != number) {
            (self.before)(Step::Remove)?;
            Generation::open(&self.pin_path, old).remove()?;
        }
        // left by a daemon that was killed in the middle
        remove_pins(&Generation::unfinished(&self.pin_path))?;
        Ok(failed)
    }

    /// Detaches and removes everything, also the pin path, if a daemon has made it.
    ///
    /// # Errors
    /// The first that the kernel refuses to remove; the rest is tried all the same.
    pub fn remove(mut self) -> Result<(), KernelError> {
        let mut result = Ok(());
        let mut attempt = |done: Result<(), KernelError>| {
            if result.is_ok() {
                result = done;
            }
        };
        let (mirrors, catchers): (Vec<_>, Vec<_>) =
            self.attachments.list()?.into_iter().partition(|(attachment, _)| attachment.role == Role::Mirror);
        for attachments in [mirrors, catchers] {
            for (attachment, mechanism) in attachments {
                attempt(self.attachments.detach(&mut self.netlink, attachment, mechanism));
            }
            // a `mirror` that still runs needs `encap`
            attempt(rcu::synchronize());
        }
        attempt(self.remove_lane());
        for number in Generation::list(&self.pin_path)? {
            attempt(Generation::open(&self.pin_path, number).remove());
        }
        attempt(self.attachments.end_turns(&mut self.netlink));
        attempt(remove_pins(&Generation::unfinished(&self.pin_path)));
        attempt(remove_dir(&self.taking_over()));
        attempt(self.attachments.remove_dirs());
        if result.is_ok() {
            result = namespace::forget(&self.pin_path).and_then(|()| lock::remove_pin_path(&self.pin_path));
        }
        result
    }
}

/// What came of applying a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// What could not be attached, detached or put in order, a line each.
    pub obstacles: Vec<String>,
    /// What somebody else had detached or got in the way of, a line each.
    pub repaired: Vec<String>,
    /// Elements that were written.
    pub writes: usize,
    /// What is wanted is live, and nothing was left to do.
    pub is_done: bool,
    /// Nothing is left to do but to attach or detach so many programs.
    pub left: usize,
}

fn mirror_of(hook: &Hook) -> Attachment {
    Attachment { role: Role::Mirror, interface: hook.interface, direction: hook.direction }
}

/// What takes the clones of a generation: `encap` on each output and each source without link headers, `lane` at the lane's exit.
fn catchers(generation: u32, want: &Compiled) -> impl Iterator<Item = Attachment> {
    let encaps = want.encaps.iter().map(move |&interface| (Role::Encap { generation }, interface));
    let lane = want.lane.map(|lane| (Role::Lane { generation }, lane.exit));
    let direction = crate::network::Hook::Egress;
    encaps.chain(lane).map(move |(role, interface)| Attachment { role, interface, direction })
}

/// What counts errors about the copies of a generation: `icmp_errors` on each output.
fn watchers(generation: u32, want: &Compiled) -> impl Iterator<Item = Attachment> {
    let (role, direction) = (Role::Errors { generation }, crate::network::Hook::Ingress);
    want.outputs.iter().map(move |&interface| Attachment { role, interface, direction })
}
