//! The time as flows remember it, for packets that can afford no call.

use core::intrinsics::cold_path;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use traffic_mirror_ebpf::flow::clock;

/// A time that holds for some jiffies.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// Jiffies, in units of [`TICK_BITS`], when `now` was read.
    tick: u64,
    /// A [`clock`].
    now: u32,
    /// Zero.
    reserved: u32,
}

/// For so many jiffies, as a power of two, a time holds: 16 to 160 ms of a clock that goes on each
/// second.
const TICK_BITS: u32 = 4;

impl Clock {
    /// The time. The kernel puts the jiffies into the program, but has to be called for a clock,
    /// which would be much of what most packets cost.
    #[inline(always)]
    pub(super) fn now(&mut self) -> u32 {
        // SAFETY: no arguments.
        let tick = unsafe { bpf_jiffies64() } >> TICK_BITS;
        if self.tick != tick {
            cold_path();
            // SAFETY: no arguments.
            self.now = clock(unsafe { bpf_ktime_get_coarse_ns() });
            self.tick = tick;
        }
        self.now
    }
}
