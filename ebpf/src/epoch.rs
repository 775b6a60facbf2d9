//! What makes a CPU read the epoch before what it switches. The daemon stores the epoch last, behind a barrier (kernel/mapping.rs). Nearly
//! all that a packet reads is found by an address that depends on the epoch: the view by its parity; rows, nodes, skips, classes,
//! blocks, slots and endpoints by numbers from there, and such loads no CPU has done before. `VALUES` alone has one element, which
//! is always at the same place.

#[cfg(weakly_ordered)]
use crate::maps::CONTROL;

/// The index of the only element of a map, to be read no earlier than the epoch. x86 reads in order by itself.
#[cfg(not(weakly_ordered))]
#[inline(always)]
pub const fn only_element() -> u32 {
    0
}

/// The index of the only element of a map, to be read no earlier than the epoch: 0, computed from the epoch in a way that the compiler
/// cannot see through. BPF has had loads with a barrier only since Linux 6.15.
#[cfg(weakly_ordered)]
#[inline(always)]
pub fn only_element() -> u32 {
    static NOTHING: u32 = 0;
    let Some(control) = CONTROL.get(0) else { return 0 };
    // SAFETY: both are there for as long as the program, and aligned.
    unsafe { (&raw const control.epoch).read_volatile() & (&raw const NOTHING).read_volatile() }
}
