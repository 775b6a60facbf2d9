//! What makes a CPU read the epoch before what it switches. The daemon stores the epoch last,
//! behind a barrier (kernel/bpf/mapping.rs). Nearly all that a packet reads is found by an address
//! that depends on the epoch: the bank by its bank; rows, nodes, skips, classes, blocks, slots and
//! endpoints by numbers from there, and such loads no CPU has done before. `VALUES` and `STEPS`
//! alone have one element, which is always at the same place.

/// 0, to be had no earlier than what has been read before: x86 reads in order by itself.
#[cfg(not(weakly_ordered))]
#[inline(always)]
pub(super) const fn nothing(_after: u32) -> usize {
    0
}

/// 0, computed from an earlier load in a way that the compiler cannot simplify: a load at an
/// address that includes it happens no earlier. BPF has loads with a barrier only since Linux 6.15.
#[cfg(weakly_ordered)]
#[inline(always)]
pub fn nothing(after: u32) -> usize {
    // the verifier knows its value, so the address stays valid
    static NOTHING: u32 = 0;
    // SAFETY: it is there for as long as the program, and aligned.
    (after & unsafe { (&raw const NOTHING).read_volatile() }) as usize
}
