//! The software segmenter: interfaces of the daemon in which the kernel segments a superpacket. A
//! clone is sent to the entrance, a macvlan that accepts no superpacket, so the kernel segments it
//! there; the packets go on to the exit, the veth below the macvlan, and end in the program there.
//! All that happens while the clone is being sent: there is no queue, and no packet is lost
//! uncounted. The other end of the veth is never reached; it exists since a veth needs one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use traffic_mirror_ebpf::abi::{Drop, MAX_ENDPOINTS};

use crate::kernel::Kernel;
use crate::kernel::error::{KernelError, reason};
use crate::kernel::failpoint::Step;
use crate::kernel::generation::Generation;
use crate::kernel::netlink::{BARE_MTU, Error, Netlink};
use crate::network::{Link, Segmenter};

/// Names of the interfaces of a segmenter. They identify its daemon by a hash of the pin path and
/// of its file system: containers with a bpf file system of their own have different pins at the
/// same path.
struct Names {
    entrance: String,
    exit: String,
    end: String,
}

/// What the names begin with.
const PREFIX: &str = "tm";
/// What they end with: entrance, exit, and the other end of the exit.
const SUFFIXES: [&str; 3] = ["-in", "-out", "-end"];

impl Names {
    fn of(pin_path: &Path) -> Self {
        let mut path = std::path::absolute(pin_path).unwrap_or_else(|_| pin_path.to_owned());
        // the pin path itself comes and goes
        let parent = path
            .parent()
            .and_then(|parent| fs::canonicalize(parent).ok());
        let device = parent
            .as_deref()
            .and_then(|parent| fs::metadata(parent).ok())
            .map_or(0, |parent| parent.dev());
        if let (Some(parent), Some(name)) = (parent, path.file_name()) {
            path = parent.join(name);
        }
        Self::new(&path, device)
    }

    /// However the path is written.
    fn new(path: &Path, device: u64) -> Self {
        let parts = path
            .components()
            .flat_map(|part| part.as_os_str().as_encoded_bytes().iter().chain(b"/"));
        // FNV-1a: the same in each version of us
        let hash = parts
            .copied()
            .chain(device.to_ne_bytes())
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            });
        let [entrance, exit, end] = SUFFIXES.map(|suffix| format!("{PREFIX}{hash:08x}{suffix}"));
        Self {
            entrance,
            exit,
            end,
        }
    }

    fn has(&self, link: &Link) -> bool {
        [&self.entrance, &self.exit, &self.end].contains(&&link.name)
    }
}

/// Whether an interface belongs to the segmenter of any daemon.
fn is_of_a_segmenter(link: &Link) -> bool {
    let hash = |rest: &str| {
        SUFFIXES
            .iter()
            .find_map(|suffix| Some(rest.strip_suffix(suffix)?.to_owned()))
    };
    let hash = link.name.strip_prefix(PREFIX).and_then(hash);
    let is_named = hash
        .is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_named && matches!(link.info_kind.as_deref(), Some("veth" | "macvlan"))
}

/// The segmenter of a pin path, among the interfaces of the host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::kernel) struct Found {
    /// If it is whole and works.
    pub(in crate::kernel) segmenter: Option<Segmenter>,
    /// Indices of what there is of it.
    pub(in crate::kernel) parts: BTreeSet<u32>,
}

/// The interfaces of the host without those of segmenters.
pub fn without_segmenters(mut links: BTreeMap<u32, Link>, pin_path: &Path) -> BTreeMap<u32, Link> {
    apart(&mut links, pin_path);
    links
}

/// Takes the interfaces of segmenters out of those of the host.
pub(in crate::kernel) fn apart(links: &mut BTreeMap<u32, Link>, pin_path: &Path) -> Found {
    take_out(links, &Names::of(pin_path))
}

fn take_out(links: &mut BTreeMap<u32, Link>, names: &Names) -> Found {
    let ours = links
        .values()
        .filter(|link| names.has(link) && is_of_a_segmenter(link));
    let found = Found {
        segmenter: find(links, names),
        parts: ours.map(|link| link.index).collect(),
    };
    links.retain(|_, link| !is_of_a_segmenter(link));
    found
}

/// The segmenter of those names, if it is whole and works.
fn find(links: &BTreeMap<u32, Link>, names: &Names) -> Option<Segmenter> {
    // without the end the others have no carrier; the kernel reports the carrier some time later
    // (`linkwatch_event`)
    let named = |name: &str| {
        links
            .values()
            .find(|link| link.name == name && is_bare(link))
    };
    let (entrance, exit, _) = (
        named(&names.entrance)?,
        named(&names.exit)?,
        named(&names.end)?,
    );
    let is_whole = entrance.info_kind.as_deref() == Some("macvlan")
        && entrance.parent == Some(exit.index)
        && entrance.gso_max == GSO_MAX;
    is_whole.then_some(Segmenter {
        entrance: entrance.index,
        exit: exit.index,
    })
}

/// Whether an interface is as we have set it up: with a queue packets come out late or on other
/// CPUs, with a larger MTU or with ARP it would be production's, too, and a port of a bridge sends
/// what it is sent.
fn is_bare(link: &Link) -> bool {
    link.up
        && link.mtu == BARE_MTU
        && link.no_arp
        && link.master.is_none()
        && link.qdisc == "noqueue"
}

/// Whether copies were dropped because there is no segmenter. What cannot be read has none.
pub(in crate::kernel) fn is_missed(pin_path: &Path) -> bool {
    let Some(live) = Generation::list(pin_path)
        .ok()
        .and_then(|mut numbers| numbers.pop())
    else {
        return false;
    };
    let live = Generation::open(pin_path, live);
    let is_readable = live.has_our_layout() && live.is_complete();
    let stats = is_readable
        .then(|| live.endpoint_stats(MAX_ENDPOINTS).ok())
        .flatten();
    stats
        .iter()
        .flatten()
        .flatten()
        .any(|cpu| cpu.drops[Drop::NoSegmenter as usize] > 0)
}

/// Attempts to make the segmenter.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Attempts {
    /// Why there can be none for now.
    refused: Option<String>,
    /// The last attempt failed, even if the next one is due.
    is_refused: bool,
    /// Drift rounds until the next attempt, and their number the last time.
    left: u32,
    pause: u32,
    /// Attempts since the last drift round.
    made: u32,
    /// There was one when all was as wanted the last time.
    is_there: bool,
    /// It was made since.
    is_new: bool,
}

impl Attempts {
    /// Most drift rounds until the next attempt: an hour. Each failed attempt wakes the monitors of
    /// other processes.
    const LONGEST_PAUSE: u32 = 120;
    /// A process that undoes it more often between two drift rounds does so each time.
    const MOST_MADE: u32 = 20;

    pub(in crate::kernel) fn refuse(&mut self, why: &impl Display) {
        let label = Drop::NoSegmenter.label();
        self.refused = Some(format!(
            "{why}; superpackets that do not fit after encapsulation are dropped as {label}; \
             the daemon retries within an hour, and at once on SIGHUP"
        ));
        self.is_refused = true;
        self.pause = (self.pause * 2).clamp(1, Self::LONGEST_PAUSE);
        self.left = self.pause;
    }

    /// Whether the last attempt failed.
    pub(in crate::kernel) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Why there can be no segmenter for now.
    pub(in crate::kernel) fn refused(&self) -> Option<&String> {
        self.refused.as_ref()
    }

    /// All is as wanted; whether there is a segmenter again where there was one before.
    pub(in crate::kernel) fn settle(&mut self, segmenter: Option<Segmenter>) -> bool {
        let is_new = std::mem::take(&mut self.is_new);
        if self.refused.is_some() {
            return false;
        }
        let was_there = std::mem::replace(&mut self.is_there, segmenter.is_some());
        if segmenter.is_some() {
            (self.pause, self.is_refused) = (0, false);
        }
        is_new && was_there && segmenter.is_some()
    }

    /// Forgets that there can be none.
    fn forget(&mut self) {
        *self = Self {
            is_there: self.is_there,
            is_new: self.is_new,
            ..Self::default()
        };
    }

    /// A drift round begins.
    pub(in crate::kernel) fn look(&mut self) {
        self.made = 0;
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.refused = None;
        }
    }
}

/// Segments and bytes of superpackets that are not segmented: no superpacket has fewer. The kernel
/// does not know the number of segments of those from guests; it checks the bytes since 6.8, 6.6.9
/// and 6.1.70.
const GSO_MAX: [u32; 2] = [1, 1000];

impl Kernel {
    /// Creates the segmenter, in place of leftovers. A rejection by the kernel is remembered and is
    /// no error.
    pub(in crate::kernel) fn make_segmenter(&mut self) -> Result<(), KernelError> {
        (self.before)(Step::Attach)?;
        let names = Names::of(&self.pin_path);
        self.segmenter.made += 1;
        if self.segmenter.made > Attempts::MOST_MADE {
            let entrance = &names.entrance;
            self.segmenter.refuse(&format_args!(
                "another process changes interface {entrance} or its parts each time the daemon creates them"
            ));
            return Ok(());
        }
        match remove(&mut self.netlink, &names).and_then(|()| add(&mut self.netlink, &names)) {
            Ok(()) => self.segmenter.is_new = true,
            // another process has removed a part meanwhile
            Err(error) if error.errno() == Some(Errno::ENODEV) => {}
            // the next round removes what is left of it
            Err(error) => self.segmenter.refuse(&reason(&KernelError::from(error))),
        }
        Ok(())
    }

    /// Forgets that there can be no segmenter.
    pub fn try_segmenter_again(&mut self) {
        self.segmenter.forget();
    }

    /// Removes what there is of the segmenter.
    pub(in crate::kernel) fn remove_segmenter(&mut self) -> Result<(), KernelError> {
        (self.before)(Step::Detach)?;
        Self::remove_segmenter_of(&self.pin_path)
    }

    /// Removes what there is of the segmenter of a pin path, which may have been removed itself.
    ///
    /// # Errors
    /// The kernel does not remove an interface.
    pub fn remove_segmenter_of(pin_path: &Path) -> Result<(), KernelError> {
        Ok(remove(&mut Netlink::open()?, &Names::of(pin_path))?)
    }
}

fn remove(netlink: &mut Netlink, names: &Names) -> Result<(), Error> {
    let links = netlink.links()?;
    let mut ours: Vec<&Link> = links
        .values()
        .filter(|link| names.has(link) && is_of_a_segmenter(link))
        .collect();
    // a macvlan goes with what it is built on, and one end of a veth with the other
    ours.retain(|link| {
        link.name != names.end || !links.values().any(|other| other.name == names.exit)
    });
    ours.retain(|link| link.parent.is_none());
    ours.into_iter()
        .try_for_each(|link| netlink.delete_link(link.index))
}

/// Makes the interfaces and sets them up.
fn add(netlink: &mut Netlink, names: &Names) -> Result<(), Error> {
    netlink.add_veth(&names.exit, &names.end)?;
    let exit = netlink.named(&names.exit)?;
    netlink.add_macvlan(&names.entrance, exit.index)?;
    let entrance = netlink.named(&names.entrance)?;
    netlink.limit_gso(&entrance, GSO_MAX)?;
    for link in [netlink.named(&names.end)?, exit, entrance] {
        netlink.set_up_bare(&link)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
