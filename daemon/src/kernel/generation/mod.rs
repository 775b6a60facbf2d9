//! One set of maps and the programs that use them, pinned in a directory of its own. What the
//! daemon writes is written through memory mappings, so that a store is seen whole or not at all.

mod build_id;
pub(super) mod counters;
mod direct;
pub(super) mod history;
mod map_spec;
mod programs;
#[cfg(test)]
mod stack;
pub(super) mod test_run;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use aya::EbpfLoader;
use aya::maps::{MapData, MapError};
use aya::sys::SyscallError;
use bytemuck::Pod;
use traffic_mirror_ebpf::abi::Control;

use crate::kernel::bpf::mapping::Mapping;
use crate::kernel::bpf::program::Loading;
use crate::kernel::error::{KernelError, pin_error, reason};
use crate::kernel::features::memory::{Memory, memory};
use crate::kernel::generation::build_id::{BuildId, name, parse};
use crate::kernel::object;
use crate::kernel::object::{CounterMaps, OBJECT, OFFSETS, PROGRAMS, STEPS, capacity, map_names};
use crate::kernel::pins::remove_pins;
use crate::plan::Write;
use crate::tables::{Content, Live, Pages, Table, Tables};

/// A set of maps and programs.
pub struct Generation {
    number: u32,
    pub(super) dir: PathBuf,
    build_id: BuildId,
    memory: &'static Memory,
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

    /// For those who can only read.
    ///
    /// # Errors
    /// The maps are laid out in another way.
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

    /// Creates the maps, with room for `tables` and some more.
    ///
    /// # Errors
    /// The kernel refuses; what was made is removed.
    pub fn create(pin_path: &Path, number: u32, tables: &Tables) -> Result<Self, KernelError> {
        let generation = Self::at(number, Self::unfinished(pin_path), BuildId::ours());
        // left by a daemon that was killed in the middle
        generation.remove()?;
        fs::create_dir_all(&generation.dir)
            .map_err(|source| pin_error("create", &generation.dir, source))?;
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
        });
        match created {
            Ok(_) => Ok(generation),
            Err(error) => {
                generation.remove()?;
                Err(error)
            }
        }
    }

    /// Has its programs read the kernel's memory in this way
    /// ([`reading`](traffic_mirror_ebpf::offsets::Offsets::reading)), as older kernels do: for
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

    /// The object, with its maps, but for those that are made: no program can be loaded before they
    /// all are there.
    pub(super) fn load(
        &self,
        sizes: impl FnOnce(&mut EbpfLoader<'static>),
    ) -> Result<Loading, KernelError> {
        let refuse = |reason| KernelError::Program {
            program: "object",
            reason,
        };
        let mut loader = self.loader()?;
        sizes(&mut loader);
        let mut object = self.memory.object(OBJECT);
        let are_there = direct::names().all(|name| self.dir.join(name).exists());
        let names = direct::names().filter(|_| are_there);
        let direct = names
            .map(|name| self.open_map(name))
            .collect::<Result<Vec<_>, _>>()?;
        direct::put_in_place(&mut object, &direct);
        let ebpf = loader
            .load(bytemuck::cast_slice(&object))
            .map_err(|error| refuse(reason(&error)))?;
        Ok(Loading::new(ebpf, direct))
    }

    fn loader(&self) -> Result<EbpfLoader<'static>, KernelError> {
        let mut loader = EbpfLoader::new();
        loader.override_global(OFFSETS, &self.memory.offsets, true);
        for name in map_names() {
            let pin = self.dir.join(name);
            if pin.exists() {
                // the object says 1, and aya takes a pinned map only if it has as many elements as
                // it is to have
                let error = |source| KernelError::Map {
                    action: "open",
                    map: name.to_owned(),
                    source,
                };
                let info = self
                    .open_map(name)?
                    .info()
                    .map_err(io::Error::other)
                    .map_err(error)?;
                loader.map_max_entries(name, info.max_entries());
            }
            loader.map_pin_path(name, pin);
        }
        Ok(loader)
    }

    /// The content of a table, with the elements that are not in use.
    ///
    /// # Errors
    /// The map is missing or cannot be mapped.
    pub fn read(&self, table: Table) -> Result<Vec<u8>, KernelError> {
        let content = self.content(table)?;
        let mut bytes = vec![0; content.bytes()];
        content.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// The content of all tables; what is as in `known` is shared with it.
    ///
    /// # Errors
    /// A map is missing or cannot be mapped.
    pub fn live(&self, known: Option<&Tables>) -> Result<Live, KernelError> {
        let tables = Tables::copy(known, |table| self.content(table))?;
        Ok(Live {
            generation: self.number,
            tables,
        })
    }

    /// The tables that say which object has which place.
    ///
    /// # Errors
    /// A map is missing or cannot be mapped.
    pub fn places(&self) -> Result<Tables, KernelError> {
        fn copy<T: Pod>(content: &Reading) -> Result<Pages<T>, KernelError> {
            Pages::read(content.bytes() / size_of::<T>(), None, |offset, to| {
                content.read(offset, to)
            })
        }
        Ok(Tables {
            filters: copy(&self.content(Table::Filters)?)?,
            endpoint_names: copy(&self.content(Table::EndpointNames)?)?,
            hooks: copy(&self.content(Table::Hooks)?)?,
            ..Tables::empty()
        })
    }

    /// Writes elements of a table.
    ///
    /// # Errors
    /// The map is missing or cannot be mapped.
    pub fn write<'b>(
        &self,
        table: Table,
        elements: impl IntoIterator<Item = (usize, &'b [u8])>,
    ) -> Result<(), KernelError> {
        self.forget_packets()?;
        let mapping = self.map(table)?;
        for (offset, bytes) in elements {
            mapping
                .write(offset, bytes)
                .map_err(|source| write_error(table, source))?;
        }
        Ok(())
    }

    /// Applies writes in their order, and calls `before` each of them.
    ///
    /// # Errors
    /// A map is missing or cannot be mapped; what `before` answers.
    pub fn apply(
        &self,
        writes: &[Write],
        before: &mut dyn FnMut() -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        self.forget_packets()?;
        for same in writes.chunk_by(|a, b| a.table == b.table) {
            let mapping = self.map(same[0].table)?;
            for write in same {
                before()?;
                mapping
                    .write(write.offset, &write.bytes)
                    .map_err(|source| write_error(same[0].table, source))?;
            }
        }
        Ok(())
    }

    /// Has programs forget what they remember of the tables. What they find from now on is true up
    /// to the next call: nothing that a packet has met changes meanwhile but by a commit.
    pub(super) fn forget_packets(&self) -> Result<(), KernelError> {
        let error = |source| KernelError::Map {
            action: "write",
            map: STEPS.to_owned(),
            source,
        };
        let mapping = Mapping::of(self.open_map(STEPS)?).map_err(error)?;
        let mut steps = [0; size_of::<u64>()];
        mapping.read(0, &mut steps).map_err(error)?;
        mapping
            .write(0, &u64::from_ne_bytes(steps).wrapping_add(1).to_ne_bytes())
            .map_err(error)
    }

    /// Stores the epoch: the commit.
    ///
    /// # Errors
    /// The map is missing or cannot be mapped.
    pub fn commit(&self, epoch: u32) -> Result<(), KernelError> {
        self.write(
            Table::Control,
            [(
                std::mem::offset_of!(Control, epoch),
                &epoch.to_ne_bytes()[..],
            )],
        )
    }

    fn map(&self, table: Table) -> Result<Mapping, KernelError> {
        let name = table.map_name();
        let error = |action| {
            move |source| KernelError::Map {
                action,
                map: name.to_owned(),
                source,
            }
        };
        Mapping::of(self.open_map(name)?).map_err(error("map"))
    }

    fn content(&self, table: Table) -> Result<Reading, KernelError> {
        Ok(Reading {
            table,
            mapping: self.map(table)?,
        })
    }

    pub(super) fn open_map(&self, name: &str) -> Result<MapData, KernelError> {
        let error = |source| KernelError::Map {
            action: "open",
            map: name.to_owned(),
            source,
        };
        let map = MapData::from_pin(self.dir.join(name)).map_err(|refusal| match refusal {
            // so that it can be told that the kernel refuses
            MapError::SyscallError(SyscallError { io_error, .. }) => error(io_error),
            refusal => error(io::Error::other(refusal)),
        })?;
        if self.has_our_layout() {
            map_spec::check(name, &map).map_err(error)?;
        }
        Ok(map)
    }

    /// What marks a copy.
    ///
    /// # Errors
    /// The map is missing or cannot be mapped.
    pub fn secret(&self) -> Result<u64, KernelError> {
        let control = self.read(Table::Control)?;
        let at = std::mem::offset_of!(Control, secret);
        // another version's may be laid out in another way, and what is pinned may be no map of
        // ours at all
        let secret = control
            .get(at..at + size_of::<u64>())
            .unwrap_or(&[0; size_of::<u64>()]);
        Ok(bytemuck::pod_read_unaligned(secret))
    }

    /// Writes what marks a copy, and which of them are for this generation's `encap`.
    ///
    /// # Errors
    /// The map is missing or cannot be mapped.
    pub fn identify(&self, secret: u64) -> Result<(), KernelError> {
        let (generation, secret) = (self.number.to_ne_bytes(), secret.to_ne_bytes());
        let generation = (std::mem::offset_of!(Control, generation), &generation[..]);
        self.write(Table::Control, [generation])?;
        self.write(
            Table::Control,
            [(std::mem::offset_of!(Control, secret), &secret[..])],
        )
    }

    /// Names, sizes in elements and memory in bytes of all maps, as the kernel accounts them.
    ///
    /// # Errors
    /// A map is missing or cannot be inspected.
    pub fn memory(&self) -> Result<Vec<(&'static str, u32, u64)>, KernelError> {
        map_names()
            .map(|name| {
                let error = |source| KernelError::Map {
                    action: "inspect",
                    map: name.to_owned(),
                    source,
                };
                let map = self.open_map(name)?;
                let entries = map
                    .info()
                    .map_err(io::Error::other)
                    .map_err(error)?
                    .max_entries();
                let bytes = memlock(&map).map_err(error)?;
                Ok((name, entries, bytes))
            })
            .collect()
    }
}

/// A table that is being read.
struct Reading {
    table: Table,
    mapping: Mapping,
}

impl Content for Reading {
    type Error = KernelError;

    fn bytes(&self) -> usize {
        self.mapping.bytes()
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), KernelError> {
        let error = |source| KernelError::Map {
            action: "read",
            map: self.table.map_name().to_owned(),
            source,
        };
        self.mapping.read(offset, to).map_err(error)
    }
}

fn write_error(table: Table, source: io::Error) -> KernelError {
    KernelError::Map {
        action: "write",
        map: table.map_name().to_owned(),
        source,
    }
}

/// `memlock` of a map's fdinfo: its memory in bytes.
fn memlock(map: &MapData) -> io::Result<u64> {
    let text = fs::read_to_string(format!(
        "/proc/self/fdinfo/{}",
        map.fd().as_fd().as_raw_fd()
    ))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no memlock in fdinfo"))
}
