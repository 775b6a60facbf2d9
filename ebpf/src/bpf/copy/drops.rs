//! Input: a packet and endpoints that get no copy, for one reason. Output: its packets, counted for
//! each of them.

use core::ffi::c_long;

use traffic_mirror_ebpf::abi::{Drop, EndpointStats, MAX_ENDPOINTS};
use traffic_mirror_ebpf::classify::lowest_bit;

use crate::bpf::maps::{ENDPOINT_STATS, ENDPOINTS};
use crate::bpf::verifier::{STOP, each, go_on_if, opaque};

/// Copies that are not sent.
struct Lost {
    /// The endpoints, as bits.
    endpoints: u64,
    /// Why: a [`Drop`] as a number.
    reason: u32,
    /// Packets on the wire, for each endpoint.
    packets: u32,
    /// Which copy of the endpoints counts.
    bank: u32,
}

/// Counts copies that are not sent to these endpoints, for a [`Drop`] as a number, of this many
/// packets on the wire each. A global function: its stack frame does not add to those of its
/// callers' other functions.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn count_lost(endpoints: u64, reason: u32, packets: u32, bank: u32) -> u32 {
    each(
        MAX_ENDPOINTS,
        next_lost,
        &mut Lost {
            endpoints,
            reason,
            packets,
            bank,
        },
    );
    0
}

unsafe extern "C" fn next_lost(_: u32, lost: *mut Lost) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let lost = unsafe { &mut *lost };
    if lost.endpoints == 0 {
        return STOP;
    }
    let index = lowest_bit(lost.endpoints);
    lost.endpoints &= lost.endpoints - 1;
    let (Some(pair), Some(stats)) = (ENDPOINTS.get(index), ENDPOINT_STATS.get_ptr_mut(index))
    else {
        return STOP;
    };
    // SAFETY: a per-CPU element.
    let stats = unsafe { &mut *stats };
    if lost.reason == Drop::Unwrapped as u32 {
        stats.tripped = pair[lost.bank as usize & 1].breaker;
    }
    count_drop(stats, lost.reason, lost.packets);
    go_on_if(lost.endpoints != 0)
}

#[inline(always)]
pub(crate) fn count_drop(stats: &mut EndpointStats, reason: u32, packets: u32) {
    // the verifier needs a bound: `state` comes from a map, and the result of a function is unknown
    // to it
    let reason = opaque(reason);
    if let Some(drops) = stats.drops.get_mut(reason as usize) {
        *drops += u64::from(packets);
    }
}
