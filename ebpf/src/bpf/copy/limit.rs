//! Input: what a copy would send. Output: whether the endpoint's limit allows it. A token bucket
//! for all CPUs, as a time up to which it is used up (GCRA, ITU-T I.371): CPUs take from it by the
//! share, so that they seldom meet.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use traffic_mirror_ebpf::abi::Endpoint;

use crate::bpf::maps::BUCKETS;

/// Depth of the bucket: what was not used this long ago is forgotten.
const DEPTH_NS: u64 = 10_000_000;
/// What a CPU takes at once, if there is as much.
const SHARE_NS: u64 = 100_000;
/// How often a CPU tries again when another one was faster.
const TRIES: u32 = 4;
const NS: u64 = 1_000_000_000;

/// Whether this many packets with this many bytes may be sent: 1 takes them from the limit, 0 does
/// not. `credit` is what this CPU has drawn from the bucket and not used yet, in nanoseconds. A
/// global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn admits(
    endpoint: *const Endpoint,
    credit: *mut u64,
    index: u32,
    packets: u32,
    bytes: u32,
) -> u32 {
    if endpoint.is_null() || credit.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to an element of a map, and one that comes from its own
    // reference to a per-CPU element.
    let (endpoint, mut credit_ns) = unsafe { (&*endpoint, credit.read()) };
    // a limit of 0 is none
    let by_bits = (u64::from(bytes) * (8 * NS)).checked_div(endpoint.limit_bits);
    let by_packets = || (u64::from(packets) * NS).checked_div(endpoint.limit_packets);
    let cost = by_bits.or_else(by_packets).unwrap_or(0);
    if cost > credit_ns {
        let taken = borrow(index, cost - credit_ns);
        if taken == 0 {
            return 0;
        }
        credit_ns += taken;
    }
    // SAFETY: as above.
    unsafe { credit.write(credit_ns - cost) };
    1
}

/// Draws at least `missing` from the bucket, and returns how much; 0 if it is empty. While anything
/// is in it, a packet may draw more than there is, and later packets wait for that: otherwise a
/// packet that costs more than the depth would never be sent.
#[inline(always)]
fn borrow(index: u32, missing: u64) -> u64 {
    let Some(bucket) = BUCKETS.get_ptr_mut(index) else {
        return 0;
    };
    // SAFETY: an element of the map.
    let bucket = unsafe { &raw mut (*bucket).used_up_to_ns };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut tries = 0;
    while tries < TRIES {
        // SAFETY: aligned; one instruction, so what is read was written at once.
        let used = unsafe { bucket.read_volatile() };
        let from = if used + DEPTH_NS < now {
            now - DEPTH_NS
        } else {
            used
        };
        if from >= now {
            return 0;
        }
        let share = if now - from < SHARE_NS {
            now - from
        } else {
            SHARE_NS
        };
        let taken = if share > missing { share } else { missing };
        // SAFETY: as above.
        let (found, _) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::Relaxed }, { AtomicOrdering::Relaxed }>(
                bucket,
                used,
                from + taken,
            )
        };
        // 2026-11-30: rustc 1.98.1 branches on the other part, a `bool`, as on a number of 8 bits,
        // which LLVM rejects ("Invalid record")
        if found == used {
            return taken;
        }
        tries += 1;
    }
    0
}
