//! What is tentative of flows of datagrams: in the same table as that of connections, but each word
//! changes by itself.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use traffic_mirror_ebpf::abi::{TENTATIVE_CELLS, TentativeCell};
use traffic_mirror_ebpf::flow::Verdict;

use super::super::flows::{is_of_datagrams, tentative_bucket, tentative_place};
use super::super::state::{Visit, current};
use crate::bpf::maps::TENTATIVE;

/// Puts what is tentative of the flow at hand into its visit. A global function: the verifier
/// checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn find_datagrams() -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    find_in(visit, tentative_bucket(visit.key, 0));
    if visit.flow.tentative.value == 0 {
        find_in(visit, tentative_bucket(visit.key, 1));
    }
    0
}

#[inline(always)]
fn find_in(visit: &mut Visit, bucket: u32) {
    let Some(bucket) = TENTATIVE.get(bucket) else {
        return;
    };
    let mut nth = 0;
    while nth < TENTATIVE_CELLS {
        let cell = bucket.cells[nth];
        if is_of_datagrams(&cell, visit.key) {
            visit.flow.tentative.value = cell.value;
            visit.flow.read.known = Verdict(cell.said).of(visit.key);
            visit.flow.read.has_ech = Verdict(cell.said).has_ech();
            visit.flow.read.packets = cell.packets;
            visit.flow.read.peer = cell.peer;
        }
        nth += 1;
    }
}

/// Remembers a flow that begins, in the place of the oldest.
#[inline(always)]
pub(super) fn begin() {
    begin_datagrams();
}

/// A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_datagrams() -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let (key, now) = (visit.key, visit.flow.now);
    let (bucket, place) = tentative_place(key, now);
    let Some(bucket) = TENTATIVE.get_ptr_mut(bucket) else {
        return 0;
    };
    // SAFETY: an element of the map; a reader detects a cell that is half written.
    let cells = unsafe { &mut (*bucket).cells };
    let value = visit.flow.tentative.value;
    cells[place] = TentativeCell {
        check: key ^ value,
        value,
        said: 0,
        packets: visit.flow.read.packets,
        peer: 0,
    };
    0
}

/// Calls with the cell of the flow at hand, if it is in a bucket.
#[inline(always)]
fn each_in(key: u64, bucket: u32, work: impl Fn(*mut TentativeCell)) {
    let Some(bucket) = TENTATIVE.get_ptr_mut(bucket) else {
        return;
    };
    // SAFETY: as above.
    let cells = unsafe { &mut (*bucket).cells };
    let mut nth = 0;
    while nth < TENTATIVE_CELLS {
        if is_of_datagrams(&cells[nth], key) {
            work(&raw mut cells[nth]);
        }
        nth += 1;
    }
}

/// Counts the packets at hand, and remembers where the other side wants to be sent to.
#[inline(always)]
pub(super) fn go_on() {
    go_on_with_datagrams(0);
    go_on_with_datagrams(1);
}

/// A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn go_on_with_datagrams(choice: u32) -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let bucket = tentative_bucket(visit.key, choice & 1);
    // SAFETY: a cell of the map, each of whose words changes by itself.
    each_in(visit.key, bucket, |cell| unsafe {
        atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(
            &raw mut (*cell).packets,
            visit.flow.datagram.packets,
        );
        if (*cell).peer != visit.flow.read.peer {
            (*cell).peer = visit.flow.read.peer;
        }
    });
    0
}

/// Forgets what is tentative of the flow at hand.
#[inline(always)]
pub(super) fn forget() {
    forget_datagrams(0);
    forget_datagrams(1);
}

/// A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn forget_datagrams(choice: u32) -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let bucket = tentative_bucket(visit.key, choice & 1);
    // SAFETY: as above.
    each_in(visit.key, bucket, |cell| unsafe {
        *cell = TentativeCell::default();
    });
    0
}

/// Writes what the daemon has read of the flow at hand, if what is tentative of it still is what the
/// daemon was asked about.
#[inline(always)]
pub(super) fn decide() {
    decide_datagrams(0);
    decide_datagrams(1);
}

/// A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn decide_datagrams(choice: u32) -> u32 {
    let Some(visit) = current() else {
        return 0;
    };
    let bucket = tentative_bucket(visit.key, choice & 1);
    let verdict = Verdict::new(visit.flow.known, visit.flow.read.has_ech, visit.key);
    // SAFETY: as above; one word, which names the flow.
    each_in(visit.key, bucket, |cell| unsafe {
        if (*cell).value == visit.flow.tentative.value {
            (&raw mut (*cell).said).write_volatile(verdict.0);
        }
    });
    0
}
