//! The counters of a generation: read, cleared, taken over from its predecessor.

use std::collections::BTreeSet;
use std::io;

use aya::Pod;
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use traffic_mirror_ebpf::abi::{Count, EndpointStats, FilterStats, HookStats, Unseen};

use super::KernelError;
use super::generation::Generation;
use crate::plan::{Plan, Write};
use crate::tables::Table;

pub(super) const FILTER_STATS: &str = "FILTER_STATS";
pub(super) const ENDPOINT_STATS: &str = "ENDPOINT_STATS";
pub(super) const HOOK_STATS: &str = "HOOK_STATS";

/// Adds what has come to a counter since it was taken.
fn add(here: Count, there: Count, taken: Count) -> Count {
    Count { packets: here.packets + there.packets - taken.packets, bytes: here.bytes + there.bytes - taken.bytes }
}

impl Generation {
    /// Clears the counters of the filters, endpoints and hooks that a plan adds or removes.
    ///
    /// # Errors
    /// A map is missing or cannot be written.
    pub fn clear_stats(&self, plan: &Plan) -> Result<(), KernelError> {
        let added = |table| -> BTreeSet<u32> {
            plan.writes.iter().filter(|write| write.table == table).map(Write::element).collect()
        };
        self.clear::<FilterStats>(FILTER_STATS, &added(Table::Filters))?;
        self.clear::<EndpointStats>(ENDPOINT_STATS, &added(Table::EndpointNames))?;
        self.clear::<HookStats>(HOOK_STATS, &added(Table::Hooks))
    }

    fn clear<T: Pod + Default>(&self, name: &'static str, indices: &BTreeSet<u32>) -> Result<(), KernelError> {
        let error = |source| KernelError::Map { action: "clear", map: name.to_owned(), source };
        if indices.is_empty() {
            return Ok(());
        }
        let mut map = self.per_cpu::<T>(name)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| error(source))?;
        for &index in indices {
            let zeros = PerCpuValues::try_from(vec![T::default(); cpus]).map_err(error)?;
            map.set(index, zeros, 0).map_err(io::Error::other).map_err(error)?;
        }
        Ok(())
    }

    /// Counters of the filters, by index and CPU.
    ///
    /// # Errors
    /// The map is missing or cannot be read.
    pub fn filter_stats(&self, count: usize) -> Result<Vec<Vec<FilterStats>>, KernelError> {
        self.stats(FILTER_STATS, count)
    }

    /// Counters of the endpoints, by index and CPU.
    ///
    /// # Errors
    /// The map is missing or cannot be read.
    pub fn endpoint_stats(&self, count: usize) -> Result<Vec<Vec<EndpointStats>>, KernelError> {
        self.stats(ENDPOINT_STATS, count)
    }

    /// Counters of the hooks, by index and CPU.
    ///
    /// # Errors
    /// The map is missing or cannot be read.
    pub fn hook_stats(&self, count: usize) -> Result<Vec<Vec<HookStats>>, KernelError> {
        let stats: Vec<Vec<[u64; Unseen::COUNT]>> = self.stats(HOOK_STATS, count)?;
        Ok(stats)
    }

    fn stats<T: Pod>(&self, name: &str, count: usize) -> Result<Vec<Vec<T>>, KernelError> {
        let error = |source| KernelError::Map { action: "read", map: name.to_owned(), source };
        let map = self.per_cpu(name)?;
        let one = |index| map.get(&index, 0).map(|values| values.iter().copied().collect());
        (0..count as u32).map(one).collect::<Result<_, _>>().map_err(io::Error::other).map_err(error)
    }

    fn per_cpu<T: Pod>(&self, name: &str) -> Result<PerCpuArray<MapData, T>, KernelError> {
        let error = |source| KernelError::Map { action: "open", map: name.to_owned(), source };
        PerCpuArray::try_from(Map::PerCpuArray(self.open_map(name)?)).map_err(io::Error::other).map_err(error)
    }

    /// Takes counters over from another generation: (index there, index here). Done again, it adds what has come to
    /// them there since.
    ///
    /// # Errors
    /// A map is missing, cannot be read or written.
    pub fn take_stats(&self, from: &Self, filters: &[(u32, u32)], endpoints: &[(u32, u32)]) -> Result<(), KernelError> {
        self.add_stats(from, FILTER_STATS, filters, |here: FilterStats, there: FilterStats, taken| FilterStats {
            matched: add(here.matched, there.matched, taken.matched),
            // the serial numbers of packets begin anew with each generation
            serial: here.serial,
        })?;
        self.add_stats(from, ENDPOINT_STATS, endpoints, |here: EndpointStats, there: EndpointStats, taken| {
            let mut sum = EndpointStats { sent: add(here.sent, there.sent, taken.sent), ..here };
            for (reason, drops) in sum.drops.iter_mut().enumerate() {
                *drops += there.drops[reason] - taken.drops[reason];
            }
            sum
        })
    }

    fn add_stats<T: Pod + bytemuck::Pod + Default>(
        &self,
        from: &Self,
        name: &'static str,
        pairs: &[(u32, u32)],
        sum: impl Fn(T, T, T) -> T,
    ) -> Result<(), KernelError> {
        let error = |source| KernelError::Map { action: "copy", map: name.to_owned(), source };
        let (source, mut target) = (from.per_cpu::<T>(name)?, self.per_cpu::<T>(name)?);
        let mut all_taken = self.taken.borrow_mut();
        for &(there, here) in pairs {
            let live = source.get(&there, 0).map_err(io::Error::other).map_err(error)?;
            let taken = all_taken.insert((name, here), bytemuck::cast_slice(&live).to_vec());
            let taken: Vec<T> = taken.map_or_else(Vec::new, |bytes| bytemuck::pod_collect_to_vec(&bytes));
            if taken.len() == live.len()
                && bytemuck::cast_slice::<T, u8>(&taken) == bytemuck::cast_slice::<T, u8>(&live)
            {
                continue;
            }
            let values = target.get(&here, 0).map_err(io::Error::other).map_err(error)?;
            let sums = values.iter().zip(live.iter()).enumerate();
            let sums = sums.map(|(cpu, (&here, &there))| sum(here, there, taken.get(cpu).copied().unwrap_or_default()));
            let values = PerCpuValues::try_from(sums.collect::<Vec<T>>()).map_err(error)?;
            target.set(here, values, 0).map_err(io::Error::other).map_err(error)?;
        }
        Ok(())
    }
}
