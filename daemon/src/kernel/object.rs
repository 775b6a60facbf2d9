//! The object with the eBPF programs: names of its programs and maps, and the room that maps have.

use traffic_mirror_ebpf::abi::{
    ASSEMBLY_OF_DAEMON, BLOCK_SLOTS, FLOW_BUCKETS, INITIALS_BYTES, MAX_ENDPOINTS, MAX_FEW_NAMES,
    MAX_FILTERS, MAX_HOOKS, MAX_INTERFACES, MAX_LEARNED, MAX_LEARNED_MORE, MAX_ORIGINS, MAX_SLOTS,
    OWNER_BUCKETS, TENTATIVE_BUCKETS, WAITING_CELLS,
};

use super::attachment::{ENCAP, ERRORS, SEGMENTER};
use crate::network::Direction;
use crate::tables::Table;

/// The BPF object that the build script made.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/mirror.o"));

pub(super) const BUCKETS: &str = "BUCKETS";
pub(super) const CPU: &str = "CPU";
pub(super) const FIRSTS: &str = "FIRSTS";
pub(super) const SCRATCH: &str = "SCRATCH";
pub(super) const STEPS: &str = "STEPS";
pub(super) const HEALTH: &str = "HEALTH";
pub(super) const HISTORY: &str = "HISTORY";
pub(super) const DAEMON: &str = "DAEMON";
pub(super) const INITIALS: &str = "INITIALS";

/// The programs' knowledge of the kernel's memory.
pub(super) const OFFSETS: &str = "OFFSETS";

/// Counters of one kind of object.
#[derive(Clone, Copy)]
pub(super) struct CounterMaps {
    /// The map that the programs count in, each CPU for itself.
    pub(super) stats: &'static str,
    /// The map with the counts of predecessors. Programs do not use it: only they may write their
    /// own counters.
    pub(super) past: &'static str,
}

pub(super) const FILTERS: CounterMaps = CounterMaps {
    stats: "FILTER_STATS",
    past: "FILTER_PAST",
};
pub(super) const ENDPOINTS: CounterMaps = CounterMaps {
    stats: "ENDPOINT_STATS",
    past: "ENDPOINT_PAST",
};
pub(super) const HOOKS: CounterMaps = CounterMaps {
    stats: "HOOK_STATS",
    past: "HOOK_PAST",
};

/// For interfaces whose packets begin with the IP header, or that of a tunnel.
pub(super) const ERRORS_IP: &str = "icmp_errors_ip";
/// The programs that are attached. They are loaded once and pinned beside the maps, since verifying
/// `mirror` is the longest part of a start.
pub(super) const PROGRAMS: [&str; 5] = [
    mirror(Direction::Ingress),
    mirror(Direction::Egress),
    ENCAP,
    ERRORS,
    ERRORS_IP,
];
/// All that may be pinned beside the maps: `segmenter` is loaded when there is a segmenter.
pub(super) const PINNED: [&str; 6] = {
    let [first, second, third, fourth, fifth] = PROGRAMS;
    [first, second, third, fourth, fifth, SEGMENTER]
};

pub(super) const fn mirror(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "mirror_ingress",
        Direction::Egress => "mirror_egress",
    }
}

/// The maps of flows whose server name matters, each with its elements where filters give so many
/// names; elsewhere they have one. `cpus` may become as many as there are.
pub(super) const fn flow_maps(cpus: u32, names: usize) -> [(&'static str, u32); 6] {
    [
        ("FLOWS", FLOW_BUCKETS),
        ("TENTATIVE", TENTATIVE_BUCKETS),
        ("LEARNED", MAX_LEARNED),
        (
            LEARNED_MORE,
            if names > MAX_FEW_NAMES {
                MAX_LEARNED_MORE
            } else {
                1
            },
        ),
        ("ASSEMBLIES", ASSEMBLY_OF_DAEMON + 1 + cpus),
        // in bytes
        (INITIALS, INITIALS_BYTES),
    ]
}

/// What of [`flow_maps`] grows with the file.
pub(super) const LEARNED_MORE: &str = "LEARNED_MORE";
/// Those with names.
pub(super) const LEARNED: [&str; 2] = ["LEARNED", LEARNED_MORE];

/// The maps of packets whose application matters, likewise.
pub(super) const OWNER_MAPS: [(&str, u32); 3] = [
    ("ORIGINS", MAX_ORIGINS),
    ("OWNERS", OWNER_BUCKETS),
    ("WAITING", WAITING_CELLS),
];

/// Every map of a generation.
pub(super) fn map_names() -> impl Iterator<Item = &'static str> {
    let counters = [FILTERS, ENDPOINTS, HOOKS];
    let counters = counters
        .into_iter()
        .flat_map(|kind| [kind.stats, kind.past]);
    let others = [
        BUCKETS, FIRSTS, SCRATCH, STEPS, CPU, HISTORY, HEALTH, DAEMON,
    ];
    Table::ALL
        .into_iter()
        .map(Table::map_name)
        .chain(counters)
        .chain(others)
        .chain(flow_maps(0, 0).map(|(name, _)| name))
        .chain(OWNER_MAPS.map(|(name, _)| name))
}

/// Elements to make room for: half as many again, so that most edits of a file fit into the maps
/// that are there.
pub(super) fn capacity(table: Table, used: usize) -> u32 {
    let (least, most) = match table {
        Table::Control | Table::Values => (1, 1),
        Table::Endpoints | Table::EndpointNames => (MAX_ENDPOINTS, MAX_ENDPOINTS),
        // each of these has this many counters on each CPU
        Table::Hooks => (128, MAX_HOOKS),
        Table::Listed => (32, MAX_INTERFACES),
        Table::Rows => (8, 2 * MAX_HOOKS + 1),
        Table::Slots => (8 * BLOCK_SLOTS, MAX_SLOTS),
        Table::Filters => (64, MAX_FILTERS),
        Table::Nodes => (64, usize::MAX),
        Table::Skips | Table::Classes | Table::Summaries => (1024, usize::MAX),
        Table::Blocks => (2048, usize::MAX),
        // none where no filter gives a server name or an application
        Table::NameTexts | Table::CgroupTexts if used == 0 => (1, 1),
        Table::Names | Table::Cgroups if used <= 1 => (1, 1),
        Table::NameTexts | Table::Names | Table::CgroupTexts | Table::Cgroups => (1024, usize::MAX),
    };
    (used + used / 2).clamp(least, most) as u32
}
