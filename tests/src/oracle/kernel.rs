//! Tables and programs in the kernel, without an interface: frames go through `BPF_PROG_TEST_RUN`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use aya::programs::SchedClassifier;
use traffic_mirror::kernel::{Explainer, Generation};
use traffic_mirror::network::Direction;
use traffic_mirror::tables::{Pages, Table, Tables};
use traffic_mirror_ebpf::abi::{
    Count, Drop as Reason, EndpointStats, Explained, FilterStats, HookStats, Skipped,
};

use crate::lab::netns::ensure_bpffs;
use crate::lab::unique;

/// A pin path of its own, removed on drop with all below.
#[derive(Debug)]
pub struct PinPath(PathBuf);

impl PinPath {
    /// A path that nobody else uses; nothing is there yet.
    pub fn new() -> Result<Self> {
        ensure_bpffs()?;
        Ok(Self(
            Path::new("/sys/fs/bpf").join(unique("traffic-mirror-test")),
        ))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinPath {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("remove {}: {error}", self.0.display());
            }
            _ => {}
        }
    }
}

/// Tables of a file with server names and applications: the programs for them lack no function.
pub fn tables_with_learned_fields() -> Tables {
    Tables {
        name_texts: Pages::zeroed(2),
        cgroups: Pages::zeroed(2),
        ..Tables::empty()
    }
}

/// Maps that hold what a file means, and the `mirror` programs that read them.
pub struct Loaded {
    generation: Generation,
    /// By direction.
    mirrors: [SchedClassifier; 2],
    explainer: Option<Explainer>,
    /// Elements that each map has room for.
    room: BTreeMap<&'static str, u32>,
    filters: usize,
    endpoints: usize,
    pins: PinPath,
}

impl Loaded {
    /// Makes maps and fills them with `tables`, with `secret` as the mark of a copy.
    pub fn new(tables: &Tables, secret: u64) -> Result<Self> {
        let pins = PinPath::new()?;
        let generation = Generation::create(pins.path(), 1, tables)?;
        generation.load_programs()?;
        let mirrors = [
            generation.mirror(Direction::Ingress)?,
            generation.mirror(Direction::Egress)?,
        ];
        let room = generation
            .memory()?
            .into_iter()
            .map(|(name, elements, _bytes)| (name, elements))
            .collect();
        let mut loaded = Self {
            generation,
            mirrors,
            explainer: None,
            room,
            filters: 0,
            endpoints: 0,
            pins,
        };
        loaded.fill(tables, secret)?;
        Ok(loaded)
    }

    /// Whether the maps have room for other tables.
    pub fn fits(&self, tables: &Tables) -> bool {
        Table::ALL
            .iter()
            .all(|&table| tables.len(table) <= self.room[table.map_name()] as usize)
    }

    /// Writes other tables into the maps; elements beyond them stay what they were, and so do all
    /// counters.
    pub fn fill(&mut self, tables: &Tables, secret: u64) -> Result<()> {
        for table in Table::ALL {
            self.generation.write(table, tables.pieces(table))?;
        }
        // as the daemon does: `encap` takes the copies of its own generation
        self.generation.identify(secret)?;
        (self.filters, self.endpoints) = (tables.len(Table::Filters), tables.len(Table::Endpoints));
        Ok(())
    }

    /// Clears what is remembered of first fragments, as if the time for it were over.
    pub fn forget_fragments(&self) -> Result<()> {
        let pinned = MapData::from_pin(Generation::unfinished(self.pins.path()).join("FIRSTS"))?;
        let mut firsts = Array::<_, [u64; 2]>::try_from(Map::Array(pinned))?;
        for index in 0..firsts.len() {
            if firsts.get(&index, 0)? != [0; 2] {
                firsts.set(index, &[0; 2], 0)?;
            }
        }
        Ok(())
    }

    /// The maps.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The `mirror` program of a direction.
    pub fn mirror(&self, direction: Direction) -> &SchedClassifier {
        &self.mirrors[direction as usize]
    }

    /// The program that does nothing.
    pub fn noop(&self) -> Result<SchedClassifier> {
        let mut program = self.generation.noop()?;
        let info = program.classifier().map_err(anyhow::Error::msg)?.info()?;
        Ok(SchedClassifier::from_program_info(
            info,
            program.name().into(),
        )?)
    }

    /// What `explain` says of a frame at a hook.
    pub fn explain(&mut self, hook: usize, frame: &[u8]) -> Result<Explained> {
        if self.explainer.is_none() {
            self.explainer = Some(self.generation.explainer()?);
        }
        Ok(self
            .explainer
            .as_mut()
            .context("no program")?
            .ask(hook as u32, frame, [None; 2])?)
    }

    /// Per endpoint: packets that went nowhere because there is no route.
    pub fn no_route(&self) -> Result<Vec<u64>> {
        let stats = self.generation.endpoint_stats(self.endpoints)?;
        let dropped = |cpus: &Vec<EndpointStats>| {
            cpus.iter()
                .map(|stats| stats.drops[Reason::NoRoute as usize])
                .sum()
        };
        Ok(stats.iter().map(dropped).collect())
    }

    /// Per filter: what matched.
    pub fn matched(&self) -> Result<Vec<Count>> {
        let stats = self.generation.filter_stats(self.filters)?;
        let sum = |cpus: &Vec<FilterStats>| {
            cpus.iter().fold(Count::default(), |sum, cpu| Count {
                packets: sum.packets + cpu.matched.packets,
                bytes: sum.bytes + cpu.matched.bytes,
            })
        };
        Ok(stats.iter().map(sum).collect())
    }

    /// Per hook and [`Skipped`]: packets that no filter was asked about.
    pub fn skipped(&self) -> Result<Vec<[u64; Skipped::COUNT]>> {
        let stats = self
            .generation
            .hook_stats(self.room[Table::Hooks.map_name()] as usize)?;
        let sum = |cpus: &Vec<HookStats>| {
            std::array::from_fn(|reason| cpus.iter().map(|cpu| cpu[reason]).sum::<u64>())
        };
        Ok(stats.iter().map(sum).collect())
    }
}
