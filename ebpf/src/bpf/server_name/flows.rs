//! The tables of flows: what is known, and what is tentative. Their size is fixed: a flood of flows
//! pushes out the ones that have ended or been silent longest, and never a known one for a tentative
//! one.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use traffic_mirror_ebpf::abi::{
    FLOW_BUCKETS, FLOW_CELLS, FlowCell, TENTATIVE_BUCKETS, TENTATIVE_CELLS, TentativeCell,
};
use traffic_mirror_ebpf::flow::{Known, Tentative};

use super::state::current;
use crate::bpf::maps::{FLOWS, TENTATIVE};

/// What is known of a flow, 0 if nothing is. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn find_flow(key: u64) -> u64 {
    let Some(bucket) = FLOWS.get(key as u32 % FLOW_BUCKETS) else {
        return 0;
    };
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
fn is_known(cell: &FlowCell, key: u64) -> bool {
    cell.check ^ Known(cell.value).lasting() == key && cell.value != 0
}

/// Remembers what is known of the flow at hand, in the place of what is worth least; returns 1. If
/// another CPU takes the place at the same time, it returns 0. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn put_flow() -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let (key, known, now) = (visit.key, visit.flow.known, visit.flow.now);
    let Some(bucket) = FLOWS.get_ptr_mut(key as u32 % FLOW_BUCKETS) else {
        return 0;
    };
    // SAFETY: an element of the map; a reader detects a cell that is half written.
    let cells = unsafe { &mut (*bucket).cells };
    let (mut place, mut least, mut nth) = (0, u32::MAX, 0);
    while nth < FLOW_CELLS {
        let cell = cells[nth];
        let worth = if is_known(&cell, key) {
            0
        } else if cell.value == 0 {
            1
        } else {
            2 + Known(cell.value).worth(now)
        };
        if worth < least {
            (place, least) = (nth, worth);
        }
        nth += 1;
    }
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

/// Forgets a flow. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn forget_flow(key: u64) -> u32 {
    let Some(bucket) = FLOWS.get_ptr_mut(key as u32 % FLOW_BUCKETS) else {
        return 0;
    };
    // SAFETY: as above.
    let cells = unsafe { &mut (*bucket).cells };
    let mut nth = 0;
    while nth < FLOW_CELLS {
        if is_known(&cells[nth], key) {
            cells[nth] = FlowCell::default();
        }
        nth += 1;
    }
    0
}

#[inline(always)]
fn is_of(cell: &TentativeCell, key: u64) -> bool {
    cell.check ^ cell.value ^ cell.sequence == key && cell.value != 0
}

/// Puts what is tentative of the flow at hand into its visit. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn find_tentative() -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let Some(bucket) = TENTATIVE.get(visit.key as u32 % TENTATIVE_BUCKETS) else {
        return 0;
    };
    let mut nth = 0;
    while nth < TENTATIVE_CELLS {
        let cell = bucket.cells[nth];
        if is_of(&cell, visit.key) {
            visit.flow.tentative.value = cell.value;
            visit.flow.tentative.sequence = cell.sequence as u32;
        }
        nth += 1;
    }
    0
}

/// Forgets what is tentative of the flow at hand. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn forget_tentative() -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let Some(bucket) = TENTATIVE.get_ptr_mut(visit.key as u32 % TENTATIVE_BUCKETS) else {
        return 0;
    };
    // SAFETY: as in `put_flow`.
    let cells = unsafe { &mut (*bucket).cells };
    let mut nth = 0;
    while nth < TENTATIVE_CELLS {
        let cell = cells[nth];
        if is_of(&cell, visit.key) {
            cells[nth] = TentativeCell::default();
        }
        nth += 1;
    }
    0
}

/// Remembers what is tentative of the flow at hand, in the place of the oldest. A global function,
/// as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn put_tentative() -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let (key, now) = (visit.key, visit.flow.now);
    let Some(bucket) = TENTATIVE.get_ptr_mut(key as u32 % TENTATIVE_BUCKETS) else {
        return 0;
    };
    // SAFETY: as in `put_flow`.
    let cells = unsafe { &mut (*bucket).cells };
    let (mut place, mut most, mut nth) = (0, 0, 0);
    while nth < TENTATIVE_CELLS {
        let cell = cells[nth];
        let there = Tentative {
            value: cell.value,
            ..Tentative::default()
        };
        let age = if is_of(&cell, key) {
            // not an empty one before it: it would be found later on
            u32::MAX
        } else if cell.value == 0 {
            u32::MAX - 1
        } else {
            1 + there.age(now)
        };
        if age > most {
            (place, most) = (nth, age);
        }
        nth += 1;
    }
    let value = visit.flow.tentative.value;
    let sequence = u64::from(visit.flow.tentative.sequence);
    cells[place % TENTATIVE_CELLS] = TentativeCell {
        check: key ^ value ^ sequence,
        value,
        sequence,
        reserved: 0,
    };
    0
}
