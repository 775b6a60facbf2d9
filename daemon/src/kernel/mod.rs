//! The only module that talks to the kernel: maps, programs, attachments, netlink.

mod apply;
mod attach;
mod attachment;
mod bpf;
mod cgroups;
mod claim;
mod error;
mod failpoint;
mod features;
mod generation;
mod health;
mod initials;
pub mod netlink;
mod object;
mod observe;
mod observer;
mod offload;
mod pins;
mod record;
mod remove;
mod reorder;
mod repair;
mod segmenter;
mod takeover;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use attach::batch::Attaching;
use netlink::{Event, Netlink};
use nix::fcntl::Flock;
use offload::Offloads;
use repair::Lost;
use segmenter::Attempts;

use crate::tables::{Live, Tables};

pub use attach::Attachments;
pub use attach::hook::{OnHook, programs_on};
pub use attach::strays::{Stray, strays};
pub use attachment::{Attachment, Mechanism, Role, word};
pub use bpf::program::Program;
pub use claim::lock::{Holder, holder};
pub use claim::namespace::require as require_namespace;
pub use claim::require_capabilities;
pub use error::{KernelError, NotApplied, reason};
pub use failpoint::Step;
pub use features::realtime::require as require_serial_softirqs;
pub use generation::Generation;
pub use generation::history::Note;
pub use generation::learned::Learned;
pub use generation::test_run::Explainer;
pub use initials::Initials;
pub use observer::Observer;
pub use record::{Hash, Record, Rejection, hash, mounts, record, uptime};
pub use segmenter::without_segmenters;

/// What is ours in the kernel, below one pin path.
pub struct Kernel {
    pin_path: PathBuf,
    mechanism: Mechanism,
    attachments: Attachments,
    netlink: Netlink,
    /// Interfaces on whose egress the kernel rejected `encap`, with the reason: no clone may be
    /// sent there.
    refused: BTreeMap<u32, String>,
    /// Interfaces on whose egress `encap` was attached again: copies that left meanwhile have
    /// tripped the circuit breakers of its endpoints.
    rewired: BTreeSet<u32>,
    segmenter: Attempts,
    /// There are interfaces of one.
    has_segmenter_parts: bool,
    /// Next hops that the kernel is resolving, and since when.
    asked: BTreeMap<(u32, IpAddr), Instant>,
    /// What outputs have dropped.
    drops: health::Asking,
    /// Next hops that the kernel could not resolve, by interface: they have not answered since.
    silent: BTreeSet<(u32, IpAddr)>,
    /// MTUs that routers have reported, by the endpoint's name, bytes.
    path_mtus: BTreeMap<String, u32>,
    offloads: Offloads,
    cgroups: cgroups::Cgroups,
    /// Recent relocations, with the obstacle of those that failed.
    relocated: BTreeMap<Attachment, Option<String>>,
    attaching: Attaching,
    /// What was in force when all that is wanted was.
    held: BTreeSet<Attachment>,
    /// What of that was attached again, without having been found missing before.
    again: Vec<Lost>,
    /// Objects that another process had put in place of our directories, a line each, until it is
    /// logged.
    cleared: Vec<String>,
    /// A change has begun and is not complete, and what was lost before it is known.
    has_looked: bool,
    before: Box<dyn FnMut(Step) -> Result<(), KernelError>>,
    /// Programs that began before the last commit, possibly a predecessor's, may still run.
    is_switching: bool,
    pen: record::Pen,
    /// What marks copies, and keys the hash of their flows.
    secret: u64,
    lock: Flock<File>,
}

impl Kernel {
    /// Claims the pin path. Without `mechanism` TCX is used if the kernel has it, otherwise clsact.
    ///
    /// # Errors
    /// The kernel lacks something, there is no bpf file system, no permission, another daemon has the pin path, or what is
    /// there belongs to another network namespace.
    pub fn claim(pin_path: &Path, mechanism: Option<Mechanism>) -> Result<Self, KernelError> {
        claim::require_capabilities()?;
        claim::require_bpf_file_system(pin_path)?;
        features::probe::require()?;
        let mechanism = match mechanism {
            Some(Mechanism::Tcx) => features::probe::require_tcx().map(|()| Mechanism::Tcx)?,
            Some(Mechanism::Clsact) => Mechanism::Clsact,
            None if features::probe::has_tcx() => Mechanism::Tcx,
            None => Mechanism::Clsact,
        };
        let lock = claim::lock::claim(pin_path)?;
        let attachments = Attachments::below(pin_path);
        let cleared = attachments.clear(pin_path)?;
        claim::namespace::claim(pin_path)?;
        claim::earlier::rename_pins(pin_path)?;
        let mut netlink = Netlink::open()?;
        attachments.end_relocations(&mut netlink)?;
        attachments.detach_doubles(&mut netlink, mechanism)?;
        let secret = takeover::secret(pin_path)?;
        Ok(Self {
            pin_path: pin_path.to_owned(),
            mechanism,
            attachments,
            netlink,
            refused: BTreeMap::new(),
            rewired: BTreeSet::new(),
            segmenter: Attempts::default(),
            has_segmenter_parts: false,
            asked: BTreeMap::new(),
            drops: health::Asking::default(),
            silent: BTreeSet::new(),
            path_mtus: BTreeMap::new(),
            cgroups: cgroups::Cgroups::default(),
            offloads: Offloads::default(),
            relocated: BTreeMap::new(),
            held: BTreeSet::new(),
            again: Vec::new(),
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

    /// Sets a function that is called before each change of the kernel, and whose error replaces
    /// the change.
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

    /// The content of the live tables; `None` if there are none, if another version made them or
    /// their programs, if some programs use others, or if another process has removed or replaced a
    /// pin. Parts that equal those in `known` are shared with it.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn live(&self, known: Option<&Tables>) -> Result<Option<Live>, KernelError> {
        self.readable()?
            .map(|generation| generation.live(known))
            .transpose()
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
        let Some(number) = number.filter(|_| !self.taking_over().exists()) else {
            return Ok(None);
        };
        let generation = Generation::open(&self.pin_path, number);
        let is_sound =
            generation.is_ours() && generation.is_complete() && generation.flaw().is_none();
        Ok(is_sound.then_some(generation))
    }

    /// Why what is pinned for the live tables is of no use, if something there is not ours.
    ///
    /// # Errors
    /// The pin path cannot be read.
    pub fn flaw(&self) -> Result<Option<String>, KernelError> {
        let number = Generation::list(&self.pin_path)?.pop();
        let generation = number.map(|number| Generation::open(&self.pin_path, number));
        Ok(generation
            .filter(|live| live.is_ours() && live.is_complete())
            .and_then(|live| live.flaw()))
    }

    /// Forgets what may be otherwise after these events.
    pub fn hear(&mut self, events: &BTreeSet<Event>) {
        self.offloads.hear(events);
    }

    /// Forgets rejections of `encap`, relocations and answers of interfaces, so that the next round
    /// tries and queries again.
    pub fn try_again(&mut self) {
        self.offloads.forget();
        self.refused.clear();
        self.relocated.clear();
        self.attaching.all_again();
        self.segmenter.look();
    }
}
