//! Programs of this instance that are attached and cannot be reached by its pins: another bpf file
//! system is mounted over the pins, or another process has removed them. Attaching more programs
//! would copy each packet twice.
//!
//! The pin path identifies an instance: several may monitor the same interfaces, each with its own
//! pin path. The programs hold the map with the daemon's record, which contains the pin path under
//! which they were attached. So they can be identified wherever their pins are.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::{ProgramInfo, loaded_programs};
use traffic_mirror_ebpf::abi;

use crate::kernel::Kernel;
use crate::kernel::attach::Attachments;
use crate::kernel::attachment::{Mechanism, word};
use crate::kernel::bpf::link::{BpfLink, attached_to};
use crate::kernel::error::KernelError;
use crate::kernel::generation::Generation;
use crate::kernel::netlink::Netlink;
use crate::kernel::object::DAEMON;
use crate::kernel::record::text;
use crate::network;
use crate::network::Direction;

/// Names of the programs that copy.
const COPYING: [&str; 2] = ["mirror_ingress", "mirror_egress"];
/// Name of their filters.
const FILTER: &str = "mirror";

/// An attached program of this instance without a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    interface: String,
    direction: &'static str,
    /// Its number.
    program: u32,
    pin_path: PathBuf,
    is_covered: bool,
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            interface,
            direction,
            program,
            pin_path,
            is_covered,
        } = self;
        let path = pin_path.display();
        write!(
            f,
            "program {program} on the {direction} of {interface} has no pin below {path}: "
        )?;
        f.write_str(if *is_covered {
            "another bpf file system is mounted over its pins"
        } else {
            "its pins are gone"
        })
    }
}

impl Kernel {
    /// # Errors
    /// There are [`strays`]: beside them other programs would copy each packet a second time.
    /// Without `CAP_SYS_ADMIN` the owner of a program cannot be queried; then each possible one
    /// counts while another bpf file system is mounted over the pins.
    pub fn refuse_strays(&mut self) -> Result<(), KernelError> {
        let found = strays(&self.pin_path, &mut self.netlink)?;
        match found.first() {
            None => Ok(()),
            Some(stray) if stray.is_covered => Err(refusal(stray, UMOUNT)),
            Some(stray) => Err(refusal(stray, REMOVE)),
        }
    }

    /// # Errors
    /// What is at the pin path is not what this daemon has locked, which is still there: it cannot be seen what is attached.
    pub(in crate::kernel) fn require_sight(&self) -> Result<(), KernelError> {
        let inode = |data: fs::Metadata| (data.dev(), data.ino());
        let locked = self
            .lock
            .metadata()
            .map_err(|source| crate::kernel::error::pin_error("inspect", &self.pin_path, source))?;
        let is_there =
            fs::metadata(&self.pin_path).is_ok_and(|there| inode(there) == inode(locked.clone()));
        if is_there || locked.nlink() == 0 {
            return Ok(());
        }
        let what = format!(
            "another file system is mounted over the pins below {}",
            self.pin_path.display()
        );
        Err(KernelError::Conflict {
            what,
            remedy: UMOUNT,
        })
    }
}

const UMOUNT: &str = "unmount it (`findmnt -t bpf` shows both); until then the daemon attaches \
                      nothing, since each packet would be copied twice";
const REMOVE: &str = "detach it (`bpftool net`, `tc filter del`): beside it another program \
                      would copy each packet a second time";

fn refusal(stray: &Stray, remedy: &'static str) -> KernelError {
    KernelError::Conflict {
        what: stray.to_string(),
        remedy,
    }
}

/// The attached programs of this instance without a pin.
///
/// # Errors
/// The interfaces or the programs on a hook cannot be queried.
pub fn strays(pin_path: &Path, netlink: &mut Netlink) -> Result<Vec<Stray>, KernelError> {
    let first = look(pin_path, netlink)?;
    if first.is_empty() {
        return Ok(first);
    }
    // a daemon may have put other programs there meanwhile
    let second = look(pin_path, netlink)?;
    Ok(second
        .into_iter()
        .filter(|stray| first.contains(stray))
        .collect())
}

fn look(pin_path: &Path, netlink: &mut Netlink) -> Result<Vec<Stray>, KernelError> {
    let is_covered = is_covered(pin_path);
    let candidates = match candidates(pin_path) {
        Some(candidates) if candidates.is_empty() => return Ok(Vec::new()),
        // without the capability to query programs, only mounts count
        None if !is_covered => return Ok(Vec::new()),
        candidates => candidates,
    };
    let own = own(pin_path)?;
    let mut found = Vec::new();
    for link in netlink.links()?.into_values() {
        for direction in [Direction::Ingress, Direction::Egress] {
            for (program, name) in on_hook(netlink, &link, direction)? {
                let is_candidate = match &candidates {
                    Some(candidates) => candidates.contains(&program),
                    None => name.is_none_or(|name| name == FILTER),
                };
                if is_candidate && !own.contains(&program) {
                    let (interface, pin_path) = (link.name.clone(), pin_path.to_owned());
                    found.push(Stray {
                        interface,
                        direction: word(direction),
                        program,
                        pin_path,
                        is_covered,
                    });
                }
            }
        }
    }
    Ok(found)
}

/// The numbers of the programs on a hook, with the names of filters.
fn on_hook(
    netlink: &mut Netlink,
    link: &network::Link,
    direction: Direction,
) -> Result<Vec<(u32, Option<String>)>, KernelError> {
    // kernels without TCX reject the query
    let linked = attached_to(link.index, direction).unwrap_or_default();
    let linked = linked.into_iter().map(|there| (there.program, None));
    let filters = netlink.filters(link.index, direction)?.into_iter();
    let filters = filters
        .filter_map(|filter| Some((filter.program_id?, Some(filter.name.unwrap_or_default()))));
    Ok(linked.chain(filters).collect())
}

/// The ids of the loaded programs that copy packets and were attached under this pin path; `None`
/// if this process may not query them.
fn candidates(pin_path: &Path) -> Option<BTreeSet<u32>> {
    let absolute = std::path::absolute(pin_path).ok()?;
    let mut found = BTreeSet::new();
    let mut told = std::collections::BTreeMap::new();
    for program in loaded_programs() {
        let program = match program {
            Ok(program) => program,
            // one that has ended meanwhile is none
            Err(error) if is_gone(&error) => continue,
            Err(_) => return None,
        };
        if !program
            .name_as_str()
            .is_some_and(|name| COPYING.contains(&name))
        {
            continue;
        }
        let maps = program.map_ids().ok().flatten().unwrap_or_default();
        let mut is_of_ours = |id: u32| *told.entry(id).or_insert_with(|| is_told(id, &absolute));
        if maps.into_iter().any(&mut is_of_ours) {
            found.insert(program.id());
        }
    }
    Some(found)
}

fn is_gone(error: &aya::programs::ProgramError) -> bool {
    let text = crate::kernel::error::reason(error);
    text.contains("os error 2)")
}

/// Whether a map is the record of an instance with that pin path.
fn is_told(map: u32, pin_path: &Path) -> bool {
    let is_record = MapInfo::from_id(map).is_ok_and(|info| info.name_as_str() == Some(DAEMON));
    let read = || {
        let map: Array<MapData, abi::Daemon> =
            Array::try_from(Map::Array(MapData::from_id(map).ok()?)).ok()?;
        map.get(&0, 0).ok()
    };
    is_record
        && read().is_some_and(|record| text(&record.pin_path) == pin_path.as_os_str().as_bytes())
}

/// The numbers of the programs that are pinned or attached below a pin path.
fn own(pin_path: &Path) -> Result<BTreeSet<u32>, KernelError> {
    let generations = Generation::list(pin_path)?
        .into_iter()
        .map(|number| Generation::open(pin_path, number).dir);
    let dirs: Vec<PathBuf> = generations
        .chain([Generation::unfinished(pin_path)])
        .collect();
    let pinned = dirs
        .iter()
        .flat_map(|dir| COPYING.map(|name| dir.join(name)));
    let id_of = |pin: PathBuf| ProgramInfo::from_pin(pin).ok().map(|info| info.id());
    let mut own: BTreeSet<u32> = pinned.filter_map(id_of).collect();
    let attachments = Attachments::below(pin_path);
    for (attachment, mechanism) in attachments.list()? {
        match mechanism {
            Mechanism::Tcx => {
                own.extend(
                    BpfLink::open(&attachments.link_pin(attachment))
                        .and_then(|link| link.program())
                        .ok()
                        .flatten(),
                );
            }
            Mechanism::Clsact => own.extend(
                attachments
                    .filter_pins(attachment)
                    .into_iter()
                    .filter_map(id_of),
            ),
        }
    }
    Ok(own)
}

/// Whether a bpf file system is mounted over another one where a pin path is, by
/// /proc/self/mountinfo (proc(5)): `36 35 98:0 /root /mount/point rw - bpf bpf rw`.
fn is_covered(pin_path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        behind
            .starts_with("bpf ")
            .then(|| before.split(' ').nth(4))?
    });
    let mut seen = BTreeSet::new();
    points
        .filter(|point| pin_path.starts_with(point))
        .any(|point| !seen.insert(point))
}
