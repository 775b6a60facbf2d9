//! A cache of matches: packets with the same classes match the same filters, so the result of one
//! holds for the next, as long as the tables do not change.
//!
//! The daemon raises `STEPS` before the writes of a plan, and no packet can observe these writes
//! before the next commit, however long that takes (plan.rs). So a result of one epoch and one such
//! step is valid at any time in both. Where the daemon writes what packets do observe, over writes
//! of another process, it raises `STEPS` afterwards, too.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use traffic_mirror_ebpf::abi::{MAX_HOOKS, NameCell};
use traffic_mirror_ebpf::classify::Candidates;

use crate::bpf::direct::steps;

/// No filter can match.
pub(super) const NONE: u32 = 0;
/// Some may: they are in [`CANDIDATES`].
pub(super) const FOUND: u32 = 1;
/// The tables contradict each other.
pub(super) const FAILED: u32 = 2;

/// Filters that a packet may match to be remembered.
pub(super) const FOUND_MAX: usize = 4;
/// In place of a filter.
pub(super) const NO_FILTER: u32 = u32::MAX;
/// Places per CPU.
pub(super) const PLACES: usize = 256;

/// What was found for a packet: one cache line.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Memo {
    key: Key,
    /// The endpoints that get a copy, as bits.
    pub endpoints: u64,
    /// Which filters match, by index into `FILTER_STATS`; then [`NO_FILTER`].
    pub filters: [u32; FOUND_MAX],
}

/// For which packets, and until when.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Key {
    /// Two classes each; those of server name and application are below.
    classes: [u64; 3],
    /// Hook, epoch, a bit that is set, so that no packet has the key of an empty place, and between
    /// them the upper bits of the class of the application.
    place: u64,
    /// The lower half of the step, the class of the server name above (24 bits), and the lower bits
    /// of that of the application.
    step: u64,
}

const IN_USE: u64 = 1 << 31;
/// Bits of a class of a server name or an application.
const LEARNED_BITS: u32 = NameCell::CLASSES.trailing_zeros();
/// Those of the hook.
const HOOK_BITS: u32 = MAX_HOOKS.trailing_zeros();

impl Key {
    #[inline(always)]
    pub(super) fn of(candidates: &Candidates, epoch: u32) -> Self {
        let classes = candidates.classes();
        let pair = |at: usize| u64::from(classes[at]) | u64::from(classes[at + 1]) << 32;
        let [name, application] = candidates.learned();
        let classes = [pair(0), pair(2), pair(4)];
        let all = classes[0] | classes[1] | classes[2];
        let step = steps((all | all >> 32) as u32 | name | application) & 0xffff_ffff;
        let low = u64::from(application & 0xff);
        let high = u64::from(application >> 8 & 0xffff);
        Self {
            classes,
            place: u64::from(candidates.hook) | high << HOOK_BITS | IN_USE | u64::from(epoch) << 32,
            step: step
                | u64::from(name & (NameCell::CLASSES - 1)) << 32
                | low << (32 + LEARNED_BITS),
        }
    }

    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        let classes = (self.classes[0] ^ other.classes[0])
            | (self.classes[1] ^ other.classes[1])
            | (self.classes[2] ^ other.classes[2]);
        classes | (self.place ^ other.place) | (self.step ^ other.step) == 0
    }

    /// Where it is remembered.
    #[inline(always)]
    fn memo(&self) -> Option<*mut Memo> {
        // any odd numbers
        let sum = self.classes[0]
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(self.classes[1].wrapping_mul(0xd6e8_feb8_6659_fd93))
            .wrapping_add(self.classes[2].wrapping_mul(0xa076_1d64_78bd_642f))
            .wrapping_add(self.place)
            .wrapping_add((self.step >> 32).wrapping_mul(0xe703_7ed1_a0b4_28db));
        let at = (sum >> 56) as usize % PLACES;
        let memos = MEMOS.get_ptr_mut(0)?;
        // SAFETY: one of the places of a per-CPU element.
        Some(unsafe { &raw mut (*memos)[at] })
    }
}

/// From the programs to `gather`: their stack frames have no room for it. It is pinned nowhere, so
/// that each process that loads programs has its own.
#[map]
pub(super) static CANDIDATES: PerCpuArray<Kept> = PerCpuArray::with_max_entries(1, 0);

/// The cached result for this packet.
#[repr(C)]
pub(super) struct Kept {
    pub candidates: Candidates,
    /// By what it is remembered.
    pub key: Key,
    /// How many filters match, and the first of them by index into `FILTER_STATS`.
    pub found: u32,
    pub filters: [u32; FOUND_MAX],
}

const _: () = assert!(
    MAX_HOOKS.is_power_of_two() && HOOK_BITS + LEARNED_BITS - 8 <= 31 && LEARNED_BITS == 24
);

/// What was found for packets before. It is pinned nowhere, so that each process that loads
/// programs has its own.
#[map]
pub(super) static MEMOS: PerCpuArray<[Memo; PLACES]> = PerCpuArray::with_max_entries(1, 0);

/// The result for a packet with the same classes; null if none is cached.
#[inline(always)]
pub(super) fn find(key: &Key) -> *const Memo {
    match key.memo() {
        // SAFETY: a per-CPU element.
        Some(memo) if unsafe { (*memo).key.is(key) } => memo,
        _ => core::ptr::null(),
    }
}

/// Remembers what has been found for the packet at hand.
#[inline(always)]
pub(super) fn remember(kept: &Kept, endpoints: u64) {
    if kept.found as usize > FOUND_MAX {
        return;
    }
    if let Some(memo) = kept.key.memo() {
        // SAFETY: a per-CPU element.
        unsafe {
            (*memo).key = kept.key;
            (*memo).endpoints = endpoints;
            (*memo).filters = kept.filters;
        }
    }
}
