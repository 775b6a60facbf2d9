//! What a daemon has in the kernel, by the numbers that the kernel gives: to see that it is there,
//! and that it is gone.

use super::netns::Netns;
use super::socket::PacketType;
use super::{deadline, pause};
use anyhow::{Context as _, Result, ensure};
use aya::maps::loaded_maps;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_links, loaded_programs};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Numbers of programs, maps and links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Maps that the programs use.
    pub maps: BTreeSet<u32>,
    /// Links; clsact filters have none.
    pub links: BTreeSet<u32>,
}

impl Objects {
    /// What is attached by pins below a pin path, and the programs that stand beside the maps.
    pub fn below(pin_path: &Path) -> Result<Self> {
        let mut objects = Self::default();
        for path in entries(&pin_path.join("links"))? {
            let link =
                PinnedLink::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
            let info = FdLink::from(link)
                .info()
                .with_context(|| format!("inspect {}", path.display()))?;
            objects.links.insert(info.id());
            objects.programs.insert(info.program_id());
        }
        let generations = entries(pin_path)?
            .into_iter()
            .filter(|path| name_of(path).starts_with("maps-"));
        let pinned = generations
            .map(|dir| entries(&dir))
            .collect::<Result<Vec<_>>>()?
            .concat();
        // names of maps have upper case
        let beside_maps = pinned
            .into_iter()
            .filter(|path| name_of(path).starts_with(char::is_lowercase));
        for path in entries(&pin_path.join("filters"))?
            .into_iter()
            .chain(beside_maps)
        {
            let info =
                ProgramInfo::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
            objects.programs.insert(info.id());
        }
        for program in loaded_programs().filter_map(Result::ok) {
            if objects.programs.contains(&program.id()) {
                objects.maps.extend(program.map_ids()?.unwrap_or_default());
            }
        }
        Ok(objects)
    }

    /// Those that the kernel still has.
    pub fn left(&self) -> Self {
        // what vanishes while the list is read is gone
        let programs = loaded_programs()
            .filter_map(Result::ok)
            .map(|program| program.id())
            .collect();
        let maps = loaded_maps()
            .filter_map(Result::ok)
            .map(|map| map.id())
            .collect();
        let links = loaded_links()
            .filter_map(Result::ok)
            .map(|link| link.id())
            .collect();
        Self {
            programs: &self.programs & &programs,
            maps: &self.maps & &maps,
            links: &self.links & &links,
        }
    }

    /// Waits until the kernel, which frees objects some time after their last use, has none of them
    /// any more.
    pub fn wait_gone(&self, deadline: Instant) -> Result<()> {
        loop {
            let left = self.left();
            if left == Self::default() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left in the kernel: {left}");
            pause();
        }
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} programs, {} maps, {} links",
            self.programs.len(),
            self.maps.len(),
            self.links.len()
        )
    }
}

/// Numbers of the TCX programs on a hook, in the order in which they run. None on a kernel without
/// TCX (before 6.6).
pub fn tcx_programs(netns: &Netns, interface: &str, direction: PacketType) -> Result<Vec<u32>> {
    Ok(tcx_infos(netns, interface, direction)?
        .iter()
        .map(ProgramInfo::id)
        .collect())
}

/// The same with all that the kernel tells of them.
pub fn tcx_infos(
    netns: &Netns,
    interface: &str,
    direction: PacketType,
) -> Result<Vec<ProgramInfo>> {
    if super::kernel()? < (6, 6) {
        return Ok(Vec::new());
    }
    let attach_type = match direction {
        PacketType::Incoming => TcAttachType::Ingress,
        PacketType::Outgoing => TcAttachType::Egress,
    };
    let index = netns.index(interface)?;
    let until = deadline();
    loop {
        let queried = netns.enter(|| Ok(SchedClassifier::query_tcx(index, attach_type)?));
        let queried = queried.with_context(|| format!("query the TCX programs of {interface}"));
        match queried {
            Ok((_, programs)) => return Ok(programs),
            // one of them has gone before it was asked for
            Err(error) if is_gone(&error) && Instant::now() < until => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    let causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes
        .into_iter()
        .any(|cause| cause.kind() == ErrorKind::NotFound)
}

/// What `tc` shows of both hooks of an interface: classic filters, one a line; empty if there are
/// none.
pub fn tc_filters(netns: &Netns, interface: &str) -> Result<String> {
    let show = |hook| netns.run(&format!("tc filter show dev {interface} {hook}"));
    Ok(show("ingress")? + &show("egress")?)
}

/// Whether an interface has a clsact queueing discipline.
pub fn has_clsact(netns: &Netns, interface: &str) -> Result<bool> {
    Ok(netns
        .run(&format!("tc qdisc show dev {interface}"))?
        .contains("qdisc clsact"))
}

fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("list {}", directory.display()))?,
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}
