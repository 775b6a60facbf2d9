//! Counters of a hook.

use crate::bpf::maps::HOOK_STATS;

/// Adds one to a counter of a hook: its place in
/// [`HookStats`](traffic_mirror_ebpf::abi::HookStats).
#[inline(always)]
pub(super) fn count(hook: u32, place: u32) {
    if let Some(stats) = HOOK_STATS.get_ptr_mut(hook) {
        // SAFETY: a per-CPU element; nothing else on this CPU writes it at the same time.
        let stats = unsafe { &mut *stats };
        if let Some(count) = stats.get_mut(place as usize) {
            *count += 1;
        }
    }
}
