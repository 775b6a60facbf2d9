//! Buckets of what is known of flows. Their number is fixed: what has ended or been silent longest
//! makes room.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use traffic_mirror_ebpf::abi::{FLOW_CELLS, FlowBucket, FlowCell};
use traffic_mirror_ebpf::flow::Known;

/// What is known of a flow, 0 if nothing is.
#[inline(always)]
pub(super) fn find(bucket: &FlowBucket, key: u64) -> u64 {
    let mut nth = 0;
    while nth < FLOW_CELLS {
        let cell = bucket.cells[nth];
        if is_known(&cell, key) {
            return cell.value;
        }
        nth += 1;
    }
    0
}

#[inline(always)]
pub(super) fn is_known(cell: &FlowCell, key: u64) -> bool {
    cell.check ^ Known(cell.value).lasting() == key && cell.value != 0
}

const CELLS: u32 = FLOW_CELLS as u32;

/// What the cell of a bucket is worth that is worth least, the flow's own less than any other, times
/// [`CELLS`]; and which it is: of empty ones it is the lower, the fewer are taken.
#[inline(always)]
pub(super) fn least(bucket: &FlowBucket, key: u64, now: u32) -> u32 {
    let (mut least, mut nth) = (u32::MAX, 0);
    while nth < FLOW_CELLS {
        let cell = bucket.cells[nth];
        let worth = if is_known(&cell, key) {
            0
        } else if cell.value == 0 {
            1
        } else {
            2 + Known(cell.value).worth(now)
        };
        let found = worth * CELLS + nth as u32;
        if found < least {
            least = found;
        }
        nth += 1;
    }
    least
}

/// Remembers what is known of a flow in a cell, which [`least`] has found; returns 1. If another CPU
/// takes the place at the same time, it returns 0.
#[inline(always)]
pub(super) fn put(bucket: *mut FlowBucket, found: u32, key: u64, known: Known) -> u32 {
    // SAFETY: an element of a map; a reader detects a cell that is half written.
    let cells = unsafe { &mut (*bucket).cells };
    let place = (found % CELLS) as usize;
    let check = key ^ known.lasting();
    let cell = &raw mut cells[place % FLOW_CELLS];
    // SAFETY: as above.
    unsafe {
        let there = cell.read_volatile();
        let (to_check, to_value) = (&raw mut (*cell).check, &raw mut (*cell).value);
        let is_mine = there.check == check || replace(to_check, there.check, check);
        u32::from(
            is_mine && replace(to_value, there.value, known.0) && to_check.read_volatile() == check,
        )
    }
}

/// Writes a word unless another CPU has written it meanwhile.
#[inline(always)]
unsafe fn replace(word: *mut u64, from: u64, to: u64) -> bool {
    // SAFETY: the caller passes a word of an element of a map. What was found is compared, see
    // `copy::limit`.
    let (found, _) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::Relaxed }, { AtomicOrdering::Relaxed }>(
            word, from, to,
        )
    };
    found == from
}
