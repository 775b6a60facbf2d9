//! Reads what [`health`](crate::health) needs to know, and leaves what it finds out for `status`. Has the kernel look after the
//! next hops.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aya::maps::{Array, Map, MapData, MapError};
use nix::time::{ClockId, clock_gettime};
use traffic_mirror_ebpf::abi::{
    self, Control, Drop, EndpointPair, EndpointStats, IcmpError, MAX_ENDPOINTS, Name, Trouble,
};

use super::observe::next_hop;
use super::{Generation, Kernel, KernelError};
use crate::desired::Desired;
use crate::health::{Health, Sample};
use crate::network::Network;
use crate::tables::{Table, names};

pub(super) const HEALTH: &str = "HEALTH";

/// `CLOCK_MONOTONIC`, which the programs have, too.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

impl Kernel {
    /// What has been counted about each endpoint to which copies are sent, by name, and the time.
    ///
    /// # Errors
    /// A map cannot be read; a netlink request fails.
    pub fn sample(&mut self) -> Result<(BTreeMap<String, Sample>, Duration), KernelError> {
        let Some(generation) = self.live_generation()? else { return Ok((BTreeMap::new(), now())) };
        let (named, records) = generation.endpoints()?;
        let stats =
            generation.endpoint_stats(named.iter().rposition(|name| name.text().is_some()).map_or(0, |at| at + 1))?;
        // no packet is lost where none was sent
        let has_sent = stats.iter().flatten().any(|cpu| cpu.sent.packets > 0);
        let queues = if has_sent { self.netlink.queues()? } else { BTreeMap::new() };
        let mut drops = BTreeMap::new();
        let mut samples = BTreeMap::new();
        for (index, name) in names(&named) {
            let (record, cpus) = (&records[index as usize], &stats[index as usize]);
            if !record.has_way() {
                continue;
            }
            if has_sent && !drops.contains_key(&record.interface) {
                let queue = queues.get(&record.interface).map_or(0, |queue| u64::from(queue.drops));
                let device = self.netlink.device_drops(record.interface)?.unwrap_or(0);
                drops.insert(record.interface, queue + device);
            }
            let output_drops = drops.get(&record.interface).copied().unwrap_or(0);
            samples.insert(name.to_owned(), sample(cpus, output_drops));
        }
        Ok((samples, now()))
    }

    /// From now on packets are made to fit these, by the endpoint's name, bytes. Whether that is something new.
    pub fn follow_path_mtus(&mut self, path_mtus: BTreeMap<String, u32>) -> bool {
        let is_new = self.path_mtus != path_mtus;
        self.path_mtus = path_mtus;
        is_new
    }

    /// Leaves what was found out for `status`.
    ///
    /// # Errors
    /// The map is missing or cannot be written.
    pub fn note_health(&mut self, health: &Health) -> Result<(), KernelError> {
        let Some(generation) = self.live_generation()? else { return Ok(()) };
        let (named, records) = generation.endpoints()?;
        let troubles = health.troubles();
        let there = generation.health()?;
        let mut map = generation.health_map()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        for (index, before) in there.iter().enumerate() {
            let name = named.get(index).and_then(Name::text);
            let trouble = name.and_then(|name| troubles.get(name)).copied().unwrap_or(Trouble::None) as u32;
            let state = name.and_then(|_| records.get(index)).map_or(Drop::None as u32, |record| match record.state {
                0 if record.is_unresolved() => Drop::Resolving as u32,
                state => state,
            });
            if (before.trouble, before.state) != (trouble, state) {
                let is_well = trouble == Trouble::None as u32 && state == Drop::None as u32;
                let found = abi::Health { trouble, state, since: if is_well { 0 } else { now } };
                map.set(index as u32, found, 0).map_err(|source| map_error("write", source))?;
            }
        }
        Ok(())
    }

    /// Has the kernel ask whether the next hops are still there. Copies do not: they carry a header that is finished.
    pub fn look_after_next_hops(&mut self, network: &Network, desired: &Desired) {
        for endpoint in &desired.endpoints {
            let Some(path) = network.paths.get(&endpoint.name) else { continue };
            if let Some((interface, address)) = next_hop(endpoint, path, &network.links) {
                // what fails is tried again in a second
                let _ = self.netlink.look_after(interface, address);
            }
        }
    }

    fn live_generation(&self) -> Result<Option<Generation>, KernelError> {
        let number = Generation::list(&self.pin_path)?.pop();
        let generation = number.map(|number| Generation::open(&self.pin_path, number));
        Ok(generation.filter(|generation| generation.has_our_layout() && generation.is_complete()))
    }
}

fn sample(cpus: &[EndpointStats], output_drops: u64) -> Sample {
    let mut errors = [0; IcmpError::COUNT];
    for (sum, kind) in errors.iter_mut().zip(0..) {
        *sum = cpus.iter().map(|cpu| cpu.errors[kind]).sum();
    }
    let told = cpus.iter().filter(|cpu| cpu.path_mtu != 0).max_by_key(|cpu| cpu.path_mtu_ns);
    Sample {
        sent: cpus.iter().map(|cpu| cpu.sent.packets).sum(),
        errors,
        path_mtu: told.map(|cpu| (cpu.path_mtu, Duration::from_nanos(cpu.path_mtu_ns))),
        output_drops,
    }
}

impl Generation {
    /// Names and live records of the endpoints, by index.
    fn endpoints(&self) -> Result<(Vec<Name>, Vec<abi::Endpoint>), KernelError> {
        let control: Control = bytemuck::pod_read_unaligned(&self.read(Table::Control)?[..size_of::<Control>()]);
        let bytes = self.read(Table::Endpoints)?;
        let pairs = bytes.chunks_exact(size_of::<EndpointPair>()).map(bytemuck::pod_read_unaligned::<EndpointPair>);
        let named = self.read(Table::EndpointNames)?;
        let named = named.chunks_exact(size_of::<Name>()).map(bytemuck::pod_read_unaligned);
        Ok((named.collect(), pairs.map(|pair| pair[control.epoch as usize & 1]).collect()))
    }

    /// What the daemon has found out about the endpoints, by index.
    ///
    /// # Errors
    /// The map is missing or cannot be read.
    pub fn health(&self) -> Result<Vec<abi::Health>, KernelError> {
        let map = self.health_map()?;
        let one = |index| map.get(&index, 0).map_err(|source| map_error("read", source));
        (0..MAX_ENDPOINTS as u32).map(one).collect()
    }

    fn health_map(&self) -> Result<Array<MapData, abi::Health>, KernelError> {
        Array::try_from(Map::Array(self.open_map(HEALTH)?)).map_err(|source| map_error("open", source))
    }
}

fn map_error(action: &'static str, source: MapError) -> KernelError {
    KernelError::Map { action, map: HEALTH.to_owned(), source: io::Error::other(source) }
}
