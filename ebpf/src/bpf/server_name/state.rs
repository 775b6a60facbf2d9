//! The packet at hand, in memory of its CPU: the stack has no room for it. Nothing else that looks
//! for names runs on the CPU meanwhile.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use traffic_mirror_ebpf::flow;

use crate::bpf::clock::Clock;

/// Bytes of a TCP header without options.
pub(super) const TCP_BYTES: u32 = 20;

/// The packet at hand, and its flow.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Visit {
    /// The key of the flow.
    pub key: u64,
    /// What was known of it.
    pub was_known: u64,
    /// The flow.
    pub flow: flow::Visit,
    /// Where the payload begins in the frame, bytes.
    pub at: u32,
    /// The epoch of the tables.
    pub epoch: u32,
    /// What was found in its payload, a [`NameFound`](traffic_mirror_ebpf::abi::NameFound).
    pub found: u32,
    /// Bytes of the payload.
    pub payload: u32,
    /// Zero.
    reserved: u32,
    /// The TCP header, network byte order.
    pub header: [u32; TCP_BYTES as usize / 4],
    /// The time.
    pub clock: Clock,
}

/// It is pinned nowhere, so that each process that loads programs has its own.
#[map]
static VISITS: PerCpuArray<Visit> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
pub(super) fn current() -> Option<&'static mut Visit> {
    // SAFETY: an element of this CPU, see above.
    VISITS.get_ptr_mut(0).map(|visit| unsafe { &mut *visit })
}
