//! What the maps of a generation hold: read and written through memory mappings, so that a store is
//! seen whole or not at all.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Array, Map, MapData, MapError};
use aya::sys::SyscallError;
use bytemuck::Pod;
use traffic_mirror_ebpf::abi::Control;

use super::{Generation, map_spec};
use crate::kernel::bpf::mapping::Mapping;
use crate::kernel::error::{KernelError, map_error};
use crate::kernel::object::{STEPS, map_names};
use crate::plan::Write;
use crate::tables::{Content, Live, Pages, Table, Tables};

impl Generation {
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

    /// The content of all tables; parts that equal those in `known` are shared with it.
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

    /// The tables that assign places to objects.
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
                .map_err(map_error("write", table.map_name()))?;
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
                    .map_err(map_error("write", same[0].table.map_name()))?;
            }
        }
        Ok(())
    }

    /// Has programs forget what they remember of the tables. What they find from now on is true up
    /// to the next call: nothing that a packet has met changes meanwhile but by a commit.
    pub(in crate::kernel) fn forget_packets(&self) -> Result<(), KernelError> {
        let error = map_error("write", STEPS);
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
        Mapping::of(self.open_map(name)?).map_err(map_error("map", name))
    }

    fn content(&self, table: Table) -> Result<Reading, KernelError> {
        Ok(Reading {
            table,
            mapping: self.map(table)?,
        })
    }

    /// A map of records, which is no table.
    pub(in crate::kernel) fn array<T: aya::Pod>(
        &self,
        name: &str,
    ) -> Result<Array<MapData, T>, KernelError> {
        Array::try_from(Map::Array(self.open_map(name)?))
            .map_err(io::Error::other)
            .map_err(map_error("open", name))
    }

    pub(in crate::kernel) fn open_map(&self, name: &str) -> Result<MapData, KernelError> {
        let error = map_error("open", name);
        let map = MapData::from_pin(self.dir.join(name)).map_err(|refusal| match refusal {
            // so that a test can have the kernel reject it
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
        // that of another version may have another layout, and the pin may be of another map
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
                let error = map_error("inspect", name);
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
        let error = map_error("read", self.table.map_name());
        self.mapping.read(offset, to).map_err(error)
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
