//! The maps. The daemon sets `max_entries` from the file; what is written here is the smallest.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use traffic_mirror_ebpf::abi::{
    Assembly, Block, Bucket, CgroupText, Class, Control, Cpu, Daemon, EndpointPair, EndpointStats,
    Explained, FilterStats, First, FlowBucket, Health, History, Hook, HookStats, Learned, Listed,
    MAX_ENDPOINTS, MAX_FIRSTS, Name, NameText, Node, Origin, OwnerBucket, Row, Skip, Slot,
    TentativeBucket, Values, Waiting,
};
use traffic_mirror_ebpf::classify::Tables;

use crate::bpf::direct::values;
use crate::bpf::verifier::forget;

// Written by the daemon through a memory mapping, each change in one store.
#[map]
pub(super) static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static VALUES: Array<Values> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static ROWS: Array<Row> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static NODES: Array<Node> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static SKIPS: Array<Skip> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static SUMMARIES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static CLASSES: Array<Class> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static BLOCKS: Array<Block> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static ENDPOINTS: Array<EndpointPair> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static NAMES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static CGROUPS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// How often the daemon has begun to write.
#[map]
pub(super) static STEPS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

// For people and the next daemon.
#[map]
pub(super) static FILTERS: Array<Name> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static HOOKS: Array<Hook> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static ENDPOINT_NAMES: Array<Name> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static NAME_TEXTS: Array<NameText> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static CGROUP_TEXTS: Array<CgroupText> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static LISTED: Array<Listed> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static HISTORY: Array<History> = Array::with_max_entries(1, 0);
#[map]
pub(super) static HEALTH: Array<Health> = Array::with_max_entries(MAX_ENDPOINTS as u32, 0);
#[map]
pub(super) static DAEMON: Array<Daemon> = Array::with_max_entries(1, 0);
#[map]
pub(super) static FILTER_PAST: Array<FilterStats> = Array::with_max_entries(1, 0);
#[map]
pub(super) static ENDPOINT_PAST: Array<EndpointStats> = Array::with_max_entries(1, 0);
#[map]
pub(super) static HOOK_PAST: Array<HookStats> = Array::with_max_entries(1, 0);

// Written by the programs.
#[map]
pub(super) static FILTER_STATS: PerCpuArray<FilterStats> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(super) static ENDPOINT_STATS: PerCpuArray<EndpointStats> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(super) static HOOK_STATS: PerCpuArray<HookStats> = PerCpuArray::with_max_entries(1, 0);
/// For bytes that are moved from one place of a packet to another.
#[map]
pub(super) static SCRATCH: PerCpuArray<[u32; SCRATCH_BYTES / 4]> =
    PerCpuArray::with_max_entries(1, 0);
#[map]
pub(super) static BUCKETS: Array<Bucket> = Array::with_max_entries(MAX_ENDPOINTS as u32, 0);
#[map]
pub(super) static FIRSTS: Array<First> = Array::with_max_entries(MAX_FIRSTS as u32, 0);
#[map]
pub(super) static CPU: PerCpuArray<Cpu> = PerCpuArray::with_max_entries(1, 0);

// Of flows whose server name matters; of one element where no filter gives one.
#[map]
pub(super) static FLOWS: Array<FlowBucket> = Array::with_max_entries(1, 0);
#[map]
pub(super) static TENTATIVE: Array<TentativeBucket> = Array::with_max_entries(1, 0);
#[map]
pub(super) static LEARNED: Array<Learned> = Array::with_max_entries(1, 0);
/// One element, too, where they give few.
#[map]
pub(super) static LEARNED_MORE: Array<Learned> = Array::with_max_entries(1, 0);
#[map]
pub(super) static ASSEMBLIES: Array<Assembly> = Array::with_max_entries(1, 0);
/// A page there; the loader makes it as large as that of the kernel.
#[map]
pub(super) static INITIALS: RingBuf = RingBuf::with_byte_size(4096, 0);

// Of packets whose application matters; of one element where no filter gives one.
#[map]
pub(super) static ORIGINS: Array<Origin> = Array::with_max_entries(1, 0);
#[map]
pub(super) static OWNERS: Array<OwnerBucket> = Array::with_max_entries(1, 0);
#[map]
pub(super) static WAITING: Array<Waiting> = Array::with_max_entries(1, 0);

/// Bytes of [`SCRATCH`]: as many as `bpf_csum_diff` takes at once on any kernel.
pub(super) const SCRATCH_BYTES: usize = 512;

/// Written by `explain`. It is pinned nowhere: each process that loads the program has its own.
#[map]
pub(super) static EXPLAINED: Array<Explained> = Array::with_max_entries(1, 0);

/// The tables as the kernel holds them.
pub(super) struct Kernel;

impl Tables for Kernel {
    #[inline(always)]
    fn values(&self) -> Option<&Values> {
        Some(values())
    }

    #[inline(always)]
    fn summary(&self, class: u32) -> Option<&u64> {
        SUMMARIES.get(class)
    }

    #[inline(always)]
    fn class(&self, id: u32) -> Option<&Class> {
        CLASSES.get(id)
    }

    #[inline(always)]
    fn block(&self, id: u32) -> Option<&Block> {
        BLOCKS.get(id)
    }

    #[inline(always)]
    fn node(&self, id: u32) -> Option<&Node> {
        NODES.get(id)
    }

    #[inline(always)]
    fn skip(&self, id: u32) -> Option<&Skip> {
        SKIPS.get(id)
    }

    #[inline(always)]
    fn row(&self, id: u32) -> Option<&Row> {
        ROWS.get(id)
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        forget(value)
    }
}
