//! The state of the run at hand, in which others may nest (see [`Cpu`]).

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use traffic_mirror_ebpf::abi::{Cpu, LEVELS, Level};

use crate::bpf::maps::CPU;
use crate::bpf::skb::Skb;

/// The level of this run. It exists wherever [`is_too_deep`] has returned.
#[inline(always)]
pub(super) fn own() -> Option<*mut Level> {
    CPU.get_ptr_mut(0).map(|cpu| level(cpu, depth(cpu)))
}

/// The level of the run that sends this clone. Outside any helper no run waits for it.
#[inline(always)]
pub(super) fn sender() -> Option<*mut Level> {
    CPU.get_ptr_mut(0)
        .map(|cpu| level(cpu, depth(cpu).wrapping_sub(1)))
}

/// Clones that are being sent on this CPU.
#[inline(always)]
pub(super) fn depth(cpu: *mut Cpu) -> u32 {
    // SAFETY: a per-CPU element; volatile, since it is another one while a helper runs.
    unsafe { (&raw const (*cpu).depth).read_volatile() }
}

#[inline(always)]
pub(super) fn level(cpu: *mut Cpu, depth: u32) -> *mut Level {
    // SAFETY: one of the levels.
    unsafe { &raw mut (*cpu).levels[depth as usize & (LEVELS - 1)] }
}

/// Whether no level is left for the run at hand.
#[inline(always)]
pub(super) fn is_too_deep(depth: u32) -> bool {
    depth >= LEVELS as u32
}

/// Returns 1 if a packet is the copy that is being sent, or ends with it, as a tunnel's outer
/// packet does. If a tc filter has overwritten `tc_index`, nothing else identifies it. A global
/// function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn has_wrapped(skb: *mut __sk_buff) -> u32 {
    let Some(sender) = sender() else { return 0 };
    let mut found = 0u64;
    // SAFETY: a per-CPU element; as many bytes are copied to a local variable as it has.
    unsafe {
        let wrapped = (*sender).wrapped;
        let at = Skb(skb).len().wrapping_sub(wrapped.bytes);
        let is_there = wrapped.bytes != 0
            && bpf_skb_load_bytes(skb.cast(), at, (&raw mut found).cast(), 8) == 0;
        (is_there && found == wrapped.begin).into()
    }
}
