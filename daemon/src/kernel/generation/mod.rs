//! One set of maps and the programs that use them, pinned in a directory of its own. What the
//! daemon writes is written through memory mappings, so that a store is seen whole or not at all.

mod build_id;
mod content;
pub(super) mod counters;
mod direct;
pub(super) mod history;
pub(super) mod learned;
mod load;
mod map_spec;
mod programs;
#[cfg(test)]
mod stack;
pub(super) mod test_run;
mod unused;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::kernel::error::{KernelError, map_error, pin_error};
use crate::kernel::features::memory::{KernelMemory, memory};
use crate::kernel::generation::build_id::{BuildId, name, parse};
use crate::kernel::object;
use crate::kernel::object::{
    CounterMaps, LEARNED_MORE, OWNER_MAPS, PROGRAMS, capacity, flow_maps, map_names,
};
use crate::kernel::pins::remove_pins;
use crate::tables::{Table, Tables};

/// A set of maps and programs.
pub struct Generation {
    number: u32,
    pub(super) dir: PathBuf,
    build_id: BuildId,
    memory: &'static KernelMemory,
}

impl Generation {
    /// The numbers of the generations below a pin path, ascending.
    ///
    /// # Errors
    /// The directory cannot be read. One that does not exist has none.
    pub fn list(pin_path: &Path) -> Result<Vec<u32>, KernelError> {
        let entries = match fs::read_dir(pin_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|source| pin_error("read", pin_path, source))?,
        };
        let names = entries
            .filter_map(Result::ok)
            .map(|entry| entry.file_name());
        let mut numbers: Vec<u32> = names
            .filter_map(|name| Some(parse(name.to_str()?)?.0))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The generation of that number, which must exist.
    pub fn open(pin_path: &Path, number: u32) -> Self {
        let entries = fs::read_dir(pin_path)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let mut build_ids = entries.filter_map(|entry| parse(entry.file_name().to_str()?));
        let build_id = build_ids
            .find(|(there, _)| *there == number)
            .map_or_else(BuildId::ours, |(_, build_id)| build_id);
        Self::at(number, pin_path.join(name(number, build_id)), build_id)
    }

    fn at(number: u32, dir: PathBuf, build_id: BuildId) -> Self {
        Self {
            number,
            dir,
            build_id,
            memory: memory(),
        }
    }

    /// Whether its maps are laid out as ours: those of another version cannot be read.
    pub fn has_our_layout(&self) -> bool {
        self.build_id.layout == BuildId::ours().layout
    }

    /// For processes that only read.
    ///
    /// # Errors
    /// The maps have another layout.
    pub fn require_our_layout(&self) -> Result<(), KernelError> {
        if self.has_our_layout() {
            return Ok(());
        }
        Err(KernelError::OtherVersion)
    }

    /// Whether it has our programs, too: only then its maps can be changed in place.
    pub fn is_ours(&self) -> bool {
        self.build_id == BuildId::ours()
    }

    /// Whether each of its maps and programs has its pin.
    pub fn is_complete(&self) -> bool {
        map_names()
            .chain(PROGRAMS)
            .all(|name| self.dir.join(name).exists())
    }

    /// Whether its maps can be read.
    pub(super) fn is_sound(&self) -> bool {
        self.has_our_layout() && self.is_complete() && self.flaw().is_none()
    }

    /// Whether it has the maps of flows whose server name matters.
    ///
    /// # Errors
    /// They cannot be opened.
    pub(crate) fn knows_flows(&self) -> Result<bool, KernelError> {
        self.has_more_than_one(flow_maps(0, 0)[0].0)
    }

    /// Whether it has the maps of packets whose application matters.
    ///
    /// # Errors
    /// They cannot be opened.
    pub(super) fn knows_owners(&self) -> Result<bool, KernelError> {
        self.has_more_than_one(OWNER_MAPS[0].0)
    }

    fn has_more_than_one(&self, name: &str) -> Result<bool, KernelError> {
        let info = self.open_map(name)?.info();
        let info = info.map_err(|error| map_error("open", name)(std::io::Error::other(error)))?;
        Ok(info.max_entries() > 1)
    }

    /// Creates the maps, with room for `tables` and some more.
    ///
    /// # Errors
    /// The kernel rejects a map or a program, or a pin cannot be created. Everything that was
    /// created is removed.
    pub fn create(pin_path: &Path, number: u32, tables: &Tables) -> Result<Self, KernelError> {
        let generation = Self::at(number, Self::unfinished(pin_path), BuildId::ours());
        // left by a daemon that was killed in the middle
        generation.remove()?;
        fs::create_dir_all(&generation.dir)
            .map_err(|source| pin_error("create", &generation.dir, source))?;
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, source)| pin_error("count the CPUs for", &generation.dir, source))?;
        let names = tables.len(Table::NameTexts);
        let flows = flow_maps(cpus.into(), names);
        if names > 0 {
            generation.share(pin_path, &flows)?;
        }
        let has_applications = tables.len(Table::Cgroups) > 1;
        if has_applications {
            generation.share(pin_path, &OWNER_MAPS)?;
        }
        let created = generation.load(|loader| {
            for table in Table::ALL {
                loader.map_max_entries(table.map_name(), capacity(table, tables.len(table)));
            }
            let mut counters = |CounterMaps { stats, past }, table| {
                let capacity = capacity(table, tables.len(table));
                loader
                    .map_max_entries(stats, capacity)
                    .map_max_entries(past, capacity);
            };
            counters(object::FILTERS, Table::Filters);
            counters(object::ENDPOINTS, Table::Endpoints);
            counters(object::HOOKS, Table::Hooks);
            if names > 0 {
                for (name, elements) in flows {
                    loader.map_max_entries(name, elements);
                }
            }
            if has_applications {
                for (name, elements) in OWNER_MAPS {
                    loader.map_max_entries(name, elements);
                }
            }
        });
        match created {
            Ok(_) => Ok(generation),
            Err(error) => {
                generation.remove()?;
                Err(error)
            }
        }
    }

    /// Shares what the live generation, if it is of this layout, remembers of flows in some maps:
    /// connections that are open keep their names and applications.
    fn share(&self, pin_path: &Path, maps: &[(&str, u32)]) -> Result<(), KernelError> {
        let live = Self::list(pin_path)?.pop();
        let live = live.map(|live| Self::open(pin_path, live));
        let Some(live) = live.filter(Self::is_sound) else {
            return Ok(());
        };
        let mut taken = Vec::new();
        for &(name, elements) in maps {
            let Ok(map) = live.open_map(name) else {
                return Ok(());
            };
            let there = map.info().map_or(0, |info| info.max_entries());
            if name == LEARNED_MORE && there < elements {
                // nothing refers to its one element
                continue;
            }
            // one refers to the other
            if there != elements && name != LEARNED_MORE {
                return Ok(());
            }
            taken.push((name, map));
        }
        for (name, map) in taken {
            let path = self.dir.join(name);
            map.pin(&path)
                .map_err(|error| pin_error("pin", &path, std::io::Error::other(error)))?;
        }
        Ok(())
    }

    /// Makes its programs read the kernel's memory in this way
    /// ([`reading`](traffic_mirror_ebpf::offsets::Offsets::reading)), as on older kernels: for
    /// tests.
    #[must_use]
    pub fn reading(self, reading: u32) -> Self {
        let memory = Box::leak(Box::new(self.memory.read(reading)));
        Self { memory, ..self }
    }

    /// Where a generation is made: it is not among those of [`Generation::list`] before it is
    /// published.
    pub fn unfinished(pin_path: &Path) -> PathBuf {
        pin_path.join("unfinished")
    }

    /// Whether a path has the name of one.
    pub(super) fn is_dir_of(path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| parse(name).is_some())
    }

    /// Makes it the live one.
    ///
    /// # Errors
    /// The pins cannot be renamed.
    pub fn publish(&mut self, pin_path: &Path) -> Result<(), KernelError> {
        let published = Self::at(
            self.number,
            pin_path.join(name(self.number, self.build_id)),
            self.build_id,
        );
        fs::rename(&self.dir, &published.dir)
            .map_err(|source| pin_error("rename", &self.dir, source))?;
        *self = published;
        Ok(())
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Removes the pins: the kernel frees the maps when no program uses them any more.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(&self) -> Result<(), KernelError> {
        remove_pins(&self.dir)
    }
}
