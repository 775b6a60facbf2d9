//! The tables of flows: what is known, and what is tentative. Their size is fixed: a flood of flows
//! pushes out the ones that have ended or been silent longest, and never a known one for a tentative
//! one.

use traffic_mirror_ebpf::abi::{
    FLOW_BUCKETS, FLOW_CELLS, FlowCell, TENTATIVE_BUCKETS, TENTATIVE_CELLS, TentativeCell,
};
use traffic_mirror_ebpf::flow::Tentative;

use super::state::{Visit, current};
use crate::bpf::flow_cells::{self, is_known};
use crate::bpf::maps::{FLOWS, TENTATIVE};
use crate::bpf::verifier::opaque;

/// A bucket where a flow may be; `choice` is 0 or 1.
#[inline(always)]
fn bucket(key: u64, choice: u32) -> u32 {
    (key >> (32 * choice)) as u32 % FLOW_BUCKETS
}

/// What is known of a flow, 0 if nothing is.
#[inline(always)]
pub(super) fn find_flow(key: u64) -> u64 {
    match find_in(key, bucket(key, 0)) {
        0 => find_in(key, bucket(key, 1)),
        known => known,
    }
}

#[inline(always)]
fn find_in(key: u64, bucket: u32) -> u64 {
    let Some(bucket) = FLOWS.get(bucket) else {
        return 0;
    };
    flow_cells::find(bucket, key)
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
    let (first, second) = (bucket(key, 0), bucket(key, 1));
    let (mut bucket, mut found) = (first, opaque(least(key, first, now)));
    let other = opaque(least(key, second, now));
    if other < found {
        (bucket, found) = (second, other);
    }
    let Some(bucket) = FLOWS.get_ptr_mut(bucket) else {
        return 0;
    };
    flow_cells::put(bucket, found, key, known)
}

/// As [`flow_cells::least`]. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn least(key: u64, bucket: u32, now: u32) -> u32 {
    let Some(bucket) = FLOWS.get(bucket) else {
        return 0;
    };
    flow_cells::least(bucket, key, now)
}

/// Forgets a flow. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn forget_flow(key: u64) -> u32 {
    forget_in(key, bucket(key, 0));
    forget_in(key, bucket(key, 1));
    0
}

#[inline(always)]
fn forget_in(key: u64, bucket: u32) {
    let Some(bucket) = FLOWS.get_ptr_mut(bucket) else {
        return;
    };
    // SAFETY: an element of the map; a reader detects a cell that is half written.
    let cells = unsafe { &mut (*bucket).cells };
    let mut nth = 0;
    while nth < FLOW_CELLS {
        if is_known(&cells[nth], key) {
            cells[nth] = FlowCell::default();
        }
        nth += 1;
    }
}

#[inline(always)]
fn is_of(cell: &TentativeCell, key: u64) -> bool {
    cell.check ^ cell.value ^ cell.said == key && cell.value != 0
}

/// Of datagrams each word changes by itself.
#[inline(always)]
pub(super) fn is_of_datagrams(cell: &TentativeCell, key: u64) -> bool {
    cell.check ^ cell.value == key && cell.value != 0
}

/// A bucket where what is tentative of a flow may be; `choice` is 0 or 1.
#[inline(always)]
pub(super) fn tentative_bucket(key: u64, choice: u32) -> u32 {
    (key >> (32 * choice)) as u32 % TENTATIVE_BUCKETS
}

/// Puts what is tentative of the flow at hand into its visit. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn find_tentative() -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    find_tentative_in(visit, tentative_bucket(visit.key, 0));
    if visit.flow.tentative.value == 0 {
        find_tentative_in(visit, tentative_bucket(visit.key, 1));
    }
    0
}

#[inline(always)]
fn find_tentative_in(visit: &mut Visit, bucket: u32) {
    let Some(bucket) = TENTATIVE.get(bucket) else {
        return;
    };
    let mut nth = 0;
    while nth < TENTATIVE_CELLS {
        let cell = bucket.cells[nth];
        if is_of(&cell, visit.key) {
            visit.flow.tentative.value = cell.value;
            visit.flow.tentative.sequence = cell.said as u32;
        }
        nth += 1;
    }
}

/// Forgets what is tentative of the flow at hand. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn forget_tentative() -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    forget_tentative_in(visit.key, tentative_bucket(visit.key, 0));
    forget_tentative_in(visit.key, tentative_bucket(visit.key, 1));
    0
}

#[inline(always)]
fn forget_tentative_in(key: u64, bucket: u32) {
    let Some(bucket) = TENTATIVE.get_ptr_mut(bucket) else {
        return;
    };
    // SAFETY: as in `forget_in`.
    let cells = unsafe { &mut (*bucket).cells };
    let mut nth = 0;
    while nth < TENTATIVE_CELLS {
        let cell = cells[nth];
        if is_of(&cell, key) {
            cells[nth] = TentativeCell::default();
        }
        nth += 1;
    }
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
    let (bucket, place) = tentative_place(key, now);
    let Some(bucket) = TENTATIVE.get_ptr_mut(bucket) else {
        return 0;
    };
    // SAFETY: as in `forget_in`.
    let cells = unsafe { &mut (*bucket).cells };
    let value = visit.flow.tentative.value;
    let sequence = u64::from(visit.flow.tentative.sequence);
    cells[place] = TentativeCell {
        check: key ^ value ^ sequence,
        value,
        said: sequence,
        ..TentativeCell::default()
    };
    0
}

/// The bucket and the cell where what is tentative of a flow goes: its own, else an empty one, else
/// the oldest.
#[inline(always)]
pub(super) fn tentative_place(key: u64, now: u32) -> (u32, usize) {
    let (first, second) = (tentative_bucket(key, 0), tentative_bucket(key, 1));
    let (mut bucket, mut found) = (first, opaque(oldest(key, first, now)));
    let other = opaque(oldest(key, second, now));
    if other / TENTATIVES > found / TENTATIVES {
        (bucket, found) = (second, other);
    }
    (bucket, (found % TENTATIVES) as usize)
}

const TENTATIVES: u32 = TENTATIVE_CELLS as u32;

/// How old the oldest cell of a bucket is, the flow's own older than any other, times
/// [`TENTATIVES`]; and which it is. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn oldest(key: u64, bucket: u32, now: u32) -> u32 {
    const MOST: u32 = u32::MAX / TENTATIVES;
    let Some(bucket) = TENTATIVE.get(bucket) else {
        return 0;
    };
    let (mut most, mut nth) = (0, 0);
    while nth < TENTATIVE_CELLS {
        let cell = bucket.cells[nth];
        let there = Tentative {
            value: cell.value,
            ..Tentative::default()
        };
        let age = if is_of(&cell, key) || is_of_datagrams(&cell, key) {
            // not an empty one before it: it would be found later on
            MOST
        } else if cell.value == 0 {
            // the lower, the fewer of the bucket are taken
            MOST - 1 - nth as u32
        } else {
            there.age(now)
        };
        if nth == 0 || age > most / TENTATIVES {
            most = age * TENTATIVES + nth as u32;
        }
        nth += 1;
    }
    most
}
