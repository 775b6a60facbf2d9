//! The counters of a generation: read, cleared, carried over from its predecessor.

use std::collections::BTreeSet;
use std::io;

use aya::Pod;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use traffic_mirror_ebpf::abi::{Count, EndpointStats, FilterStats, Hook, HookStats};

use crate::kernel::error::{KernelError, map_error};
use crate::kernel::generation::Generation;
use crate::kernel::object::{CounterMaps, ENDPOINTS, FILTERS, HOOKS};
use crate::plan::{Plan, Write};
use crate::tables::{Table, Tables, same_names};

fn add(to: &mut Count, other: Count) {
    to.packets += other.packets;
    to.bytes += other.bytes;
}

/// An element of such maps.
trait Counters: Pod + Default {
    /// Adds what another has counted.
    fn add(&mut self, other: &Self);
}

impl Counters for FilterStats {
    fn add(&mut self, other: &Self) {
        add(&mut self.matched, other.matched);
    }
}

impl Counters for EndpointStats {
    fn add(&mut self, other: &Self) {
        add(&mut self.sent, other.sent);
        self.truncated += other.truncated;
        self.fragmented += other.fragmented;
        self.drops.add(&other.drops);
        self.errors.add(&other.errors);
    }
}

impl<const REASONS: usize> Counters for [u64; REASONS]
where
    Self: Pod + Default,
{
    fn add(&mut self, other: &Self) {
        self.iter_mut()
            .zip(other)
            .for_each(|(count, other)| *count += other);
    }
}

/// Objects that stay when new maps take over, by their kind: (index there, index here).
pub(in crate::kernel) struct Staying {
    pub(in crate::kernel) filters: Vec<(u32, u32)>,
    pub(in crate::kernel) endpoints: Vec<(u32, u32)>,
    pub(in crate::kernel) hooks: Vec<(u32, u32)>,
}

impl Staying {
    /// Filters and endpoints stay by their names.
    pub(in crate::kernel) fn of(there: &Tables, here: &Tables) -> Self {
        let hook = |(here, hook): (u32, &Hook)| {
            let there = there
                .hooks
                .iter()
                .position(|there| there == hook && hook.interface != 0)?;
            Some((there as u32, here))
        };
        Self {
            filters: same_names(&there.filters, &here.filters),
            endpoints: same_names(&there.endpoint_names, &here.endpoint_names),
            hooks: (0..).zip(here.hooks.iter()).filter_map(hook).collect(),
        }
    }
}

impl Generation {
    /// Clears the counters of the filters, endpoints and hooks that a plan adds or removes.
    ///
    /// # Errors
    /// A map is missing or cannot be written.
    pub fn clear_stats(&self, plan: &Plan) -> Result<(), KernelError> {
        let changed = |table| -> BTreeSet<u32> {
            plan.writes
                .iter()
                .filter(|write| write.table == table)
                .map(Write::element)
                .collect()
        };
        self.clear::<FilterStats>(FILTERS, &changed(Table::Filters))?;
        self.clear::<EndpointStats>(ENDPOINTS, &changed(Table::EndpointNames))?;
        self.clear::<HookStats>(HOOKS, &changed(Table::Hooks))
    }

    fn clear<T: Pod + Default>(
        &self,
        kind: CounterMaps,
        indices: &BTreeSet<u32>,
    ) -> Result<(), KernelError> {
        if indices.is_empty() {
            return Ok(());
        }
        let error = map_error("clear", kind.stats);
        let (mut stats, mut past) = (self.per_cpu::<T>(kind)?, self.past::<T>(kind)?);
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| error(source))?;
        for &index in indices {
            let zeros =
                PerCpuValues::try_from(vec![T::default(); cpus.get() as usize]).map_err(error)?;
            let cleared = stats
                .set(index, zeros, 0)
                .and_then(|()| past.set(index, &T::default(), 0));
            cleared.map_err(io::Error::other).map_err(error)?;
        }
        Ok(())
    }

    /// Counters of the filters, by index: each CPU's, then the past.
    ///
    /// # Errors
    /// The map is missing or cannot be read.
    pub fn filter_stats(&self, count: usize) -> Result<Vec<Vec<FilterStats>>, KernelError> {
        self.stats(FILTERS, count)
    }

    /// Counters of the endpoints, by index: each CPU's, then the past.
    ///
    /// # Errors
    /// The map is missing or cannot be read.
    pub fn endpoint_stats(&self, count: usize) -> Result<Vec<Vec<EndpointStats>>, KernelError> {
        self.stats(ENDPOINTS, count)
    }

    /// Counters of the hooks, by index: each CPU's, then the past.
    ///
    /// # Errors
    /// The map is missing or cannot be read.
    pub fn hook_stats(&self, count: usize) -> Result<Vec<Vec<HookStats>>, KernelError> {
        self.stats(HOOKS, count)
    }

    fn stats<T: Pod>(&self, kind: CounterMaps, count: usize) -> Result<Vec<Vec<T>>, KernelError> {
        let error = map_error("read", kind.stats);
        let (stats, past) = (self.per_cpu(kind)?, self.past(kind)?);
        let one = |index| {
            let cpus = stats.get(&index, 0)?;
            Ok(cpus.iter().copied().chain([past.get(&index, 0)?]).collect())
        };
        (0..count as u32)
            .map(one)
            .collect::<Result<_, MapError>>()
            .map_err(io::Error::other)
            .map_err(error)
    }

    fn per_cpu<T: Pod>(&self, kind: CounterMaps) -> Result<PerCpuArray<MapData, T>, KernelError> {
        let error = map_error("open", kind.stats);
        PerCpuArray::try_from(Map::PerCpuArray(self.open_map(kind.stats)?))
            .map_err(io::Error::other)
            .map_err(error)
    }

    fn past<T: Pod>(&self, kind: CounterMaps) -> Result<Array<MapData, T>, KernelError> {
        self.array(kind.past)
    }

    /// Takes for past what another generation has counted, once its programs run no more.
    ///
    /// # Errors
    /// A map is missing, cannot be read or written.
    pub(in crate::kernel) fn take_stats(
        &self,
        from: &Self,
        staying: &Staying,
    ) -> Result<(), KernelError> {
        self.take::<FilterStats>(from, FILTERS, &staying.filters)?;
        self.take::<EndpointStats>(from, ENDPOINTS, &staying.endpoints)?;
        self.take::<HookStats>(from, HOOKS, &staying.hooks)
    }

    fn take<T: Counters>(
        &self,
        from: &Self,
        kind: CounterMaps,
        pairs: &[(u32, u32)],
    ) -> Result<(), KernelError> {
        let error = map_error("copy", kind.past);
        let there = from.stats::<T>(
            kind,
            pairs
                .iter()
                .map(|(there, _)| *there as usize + 1)
                .max()
                .unwrap_or(0),
        )?;
        let mut past = self.past(kind)?;
        for &(index, here) in pairs {
            let mut sum = T::default();
            there[index as usize]
                .iter()
                .for_each(|counted| sum.add(counted));
            past.set(here, &sum, 0)
                .map_err(io::Error::other)
                .map_err(error)?;
        }
        Ok(())
    }
}
