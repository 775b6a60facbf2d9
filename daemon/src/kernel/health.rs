//! Reads the samples of [`health`](crate::health), and leaves its findings for `status`. Makes the
//! kernel check the next hops.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use traffic_mirror_ebpf::abi::{
    self, Control, Drop, EndpointPair, EndpointStats, IcmpError, MAX_ENDPOINTS, Name, Trouble,
};

use super::observe::next_hop;
use crate::compile::outer;
use crate::desired::Desired;
use crate::health::{Findings, Health, Sample};
use crate::kernel::Kernel;
use crate::kernel::error::{KernelError, map_error};
use crate::kernel::generation::Generation;
use crate::kernel::object::HEALTH;
use crate::network::Network;
use crate::tables::{Table, elements, names};

/// `CLOCK_MONOTONIC`, which the programs have, too.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// When the drops of outputs are read.
#[derive(Debug, Default)]
pub(super) struct Asking {
    sent: u64,
    left: u32,
}

impl Asking {
    /// For this many samples after the last copy, drops may still be drops of copies.
    const LOOKS: u32 = 5;

    fn is_due(&mut self, sent: u64) -> bool {
        self.left = if sent == self.sent {
            self.left.saturating_sub(1)
        } else {
            Self::LOOKS
        };
        self.sent = sent;
        self.left > 0
    }
}

impl Kernel {
    /// What has been counted about each endpoint to which copies are sent, by name, and the time.
    ///
    /// # Errors
    /// A map cannot be read; a netlink request fails.
    pub fn sample(&mut self) -> Result<(BTreeMap<String, Sample>, Duration), KernelError> {
        let Some(generation) = self.live_generation()? else {
            return Ok((BTreeMap::new(), now()));
        };
        let (named, records) = generation.endpoints()?;
        let used = named
            .iter()
            .rposition(|name| name.text().is_some())
            .map_or(0, |at| at + 1);
        let stats = generation.endpoint_stats(used)?;
        // reading the queues of a host takes time, and without copies none was lost
        let asks = self
            .drops
            .is_due(stats.iter().flatten().map(|cpu| cpu.sent.packets).sum());
        let queues = if asks {
            self.netlink.queues()?
        } else {
            BTreeMap::new()
        };
        let mut drops: BTreeMap<u32, Option<u64>> = BTreeMap::new();
        let mut samples = BTreeMap::new();
        for (index, name) in names(&named) {
            let (record, cpus) = (&records[index as usize], &stats[index as usize]);
            if !record.has_way() {
                continue;
            }
            if asks && !drops.contains_key(&record.interface) {
                let queue = queues
                    .get(&record.interface)
                    .map_or(0, |queue| u64::from(queue.drops));
                let device = self.netlink.device_drops(record.interface)?;
                drops.insert(record.interface, device.map(|device| device + queue));
            }
            let output_drops = drops.get(&record.interface).copied().flatten();
            samples.insert(name.to_owned(), sample(record, cpus, output_drops));
        }
        Ok((samples, now()))
    }

    /// What this daemon or a predecessor has noted, of endpoints to which copies go, and the time.
    ///
    /// # Errors
    /// A map cannot be read; a netlink request fails.
    pub fn known_health(&mut self) -> Result<(Findings, Duration), KernelError> {
        let Some(generation) = self.live_generation()? else {
            return Ok((Findings::new(), now()));
        };
        let (noted, (samples, now)) = (generation.noted()?, self.sample()?);
        let known = |(name, sample)| {
            let noted = noted.get(&name)?;
            let trouble = Trouble::ALL
                .get(noted.trouble as usize)
                .copied()
                .filter(|trouble| *trouble != Trouble::None);
            Some((
                name,
                (
                    sample,
                    trouble,
                    (noted.path_mtu > 0).then_some(noted.path_mtu),
                ),
            ))
        };
        Ok((samples.into_iter().filter_map(known).collect(), now))
    }

    /// From now on packets are made to fit these, by the endpoint's name, bytes. Whether that is
    /// something new.
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
        let Some(generation) = self.live_generation()? else {
            return Ok(());
        };
        let (named, records) = generation.endpoints()?;
        let (troubles, path_mtus) = (health.troubles(), health.path_mtus());
        let there = generation.health()?;
        let mut map = generation.array::<abi::Health>(HEALTH)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        for (index, before) in there.iter().enumerate() {
            let name = named.get(index).and_then(Name::text);
            let trouble = name
                .and_then(|name| troubles.get(name))
                .copied()
                .unwrap_or(Trouble::None) as u32;
            let state = name
                .and_then(|_| records.get(index))
                .map_or(Drop::None as u32, |record| match record.state {
                    0 if record.is_unresolved() => Drop::Resolving as u32,
                    state => state,
                });
            let path_mtu = name
                .and_then(|name| path_mtus.get(name))
                .copied()
                .unwrap_or(0);
            let is_well = trouble == Trouble::None as u32 && state == Drop::None as u32;
            let is_new = (before.trouble, before.state) != (trouble, state);
            let since = if is_well {
                0
            } else if is_new {
                now
            } else {
                before.since
            };
            let found = abi::Health {
                trouble,
                state,
                since,
                path_mtu,
                reserved: 0,
            };
            if *before != found {
                map.set(index as u32, &found, 0)
                    .map_err(io::Error::other)
                    .map_err(map_error("write", HEALTH))?;
            }
        }
        Ok(())
    }

    /// Makes the kernel check the next hops. Copies do not, since they carry a complete header.
    pub fn look_after_next_hops(&mut self, network: &Network, desired: &Desired) {
        for endpoint in &desired.endpoints {
            let Some(path) = network.paths.get(&endpoint.name) else {
                continue;
            };
            if let Some((interface, address)) = next_hop(endpoint, path, &network.links) {
                // what fails is tried again in a second
                let _ = self.netlink.look_after(interface, address);
            }
        }
    }

    fn live_generation(&self) -> Result<Option<Generation>, KernelError> {
        let number = Generation::list(&self.pin_path)?.pop();
        let generation = number.map(|number| Generation::open(&self.pin_path, number));
        Ok(generation.filter(Generation::is_sound))
    }
}

fn sample(record: &abi::Endpoint, cpus: &[EndpointStats], output_drops: Option<u64>) -> Sample {
    let mut errors = [0; IcmpError::COUNT];
    for (sum, kind) in errors.iter_mut().zip(0..) {
        *sum = cpus.iter().map(|cpu| cpu.errors[kind]).sum();
    }
    let told = cpus
        .iter()
        .filter(|cpu| cpu.path_mtu != 0)
        .max_by_key(|cpu| cpu.path_mtu_ns);
    let (_, address, port) = outer(record);
    Sample {
        way: (address, port, record.interface),
        mtu: record.mtu,
        sent: cpus.iter().map(|cpu| cpu.sent.packets).sum(),
        held_up: cpus
            .iter()
            .map(|cpu| cpu.drops[Drop::Backlog as usize])
            .sum(),
        errors,
        path_mtu: told.map(|cpu| (cpu.path_mtu, Duration::from_nanos(cpu.path_mtu_ns))),
        output_drops,
    }
}

impl Generation {
    /// Names and live records of the endpoints, by index.
    fn endpoints(&self) -> Result<(Vec<Name>, Vec<abi::Endpoint>), KernelError> {
        let control: Control =
            bytemuck::pod_read_unaligned(&self.read(Table::Control)?[..size_of::<Control>()]);
        let bytes = self.read(Table::Endpoints)?;
        let pairs = elements::<EndpointPair>(&bytes);
        let named = self.read(Table::EndpointNames)?;
        let named = elements(&named);
        Ok((
            named.collect(),
            pairs.map(|pair| pair[control.epoch as usize & 1]).collect(),
        ))
    }

    /// The same by name.
    ///
    /// # Errors
    /// A map is missing or cannot be read.
    pub(super) fn noted(&self) -> Result<BTreeMap<String, abi::Health>, KernelError> {
        let (health, (named, _)) = (self.health()?, self.endpoints()?);
        Ok(names(&named)
            .map(|(index, name)| (name.to_owned(), health[index as usize]))
            .collect())
    }

    /// What the daemon has found out about the endpoints, by index.
    ///
    /// # Errors
    /// The map is missing or cannot be read.
    pub fn health(&self) -> Result<Vec<abi::Health>, KernelError> {
        let map = self.array::<abi::Health>(HEALTH)?;
        let one = |index| {
            map.get(&index, 0)
                .map_err(io::Error::other)
                .map_err(map_error("read", HEALTH))
        };
        (0..MAX_ENDPOINTS as u32).map(one).collect()
    }
}
