//! Input: the payload of a flow's first side. Output: the name of the server in it, remembered, or
//! why there is none.

use core::intrinsics::{AtomicOrdering, atomic_xchg};
use core::ops::ControlFlow;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skb_load_bytes};
use traffic_mirror_ebpf::abi::{Assembly, MAX_ASSEMBLIES, NameFound};
use traffic_mirror_ebpf::flow::age;
use traffic_mirror_ebpf::hello::{self, Outcome, Parsed, STREAM_BYTES, http, tls};

use super::assembly::{buffer, own};
use super::learned;
use super::state::{Visit, current};
use crate::bpf::maps::ASSEMBLIES;
use crate::bpf::verifier::{Loop, opaque};

/// In place of a name: more of the flow is to be seen.
pub(super) const MORE: u32 = u32::MAX;
/// The client gives no name.
pub(super) const NO_NAME: u32 = u32::MAX - 1;
/// Neither TLS nor HTTP.
pub(super) const OTHER: u32 = u32::MAX - 2;
/// The name is beyond what is read.
pub(super) const TOO_LONG: u32 = u32::MAX - 3;
pub(super) use super::learned::NO_ROOM;

/// In place of an element of `ASSEMBLIES`.
const NOWHERE: u32 = u32::MAX;
/// Most bytes of one copy to any place of a buffer.
const PIECE_BYTES: u32 = 512;
/// Units of the clock after which a flow that has not said more makes room.
const ASSEMBLY_LIFE: u32 = 5;

/// The index of the name in `LEARNED`, or one of the numbers above. A global function: the verifier
/// checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn find_name(skb: *mut __sk_buff) -> u32 {
    let Some(visit) = current() else {
        return MORE;
    };
    if visit.flow.offset >= STREAM_BYTES {
        return MORE;
    }
    if visit.flow.offset == 0 {
        let have = opaque(load_first(skb, visit.at, visit.flow.segment.payload));
        let mut parsed = Parsed::nameless(Outcome::More);
        parse(own(), have, &mut parsed);
        if !matches!(parsed.outcome, Outcome::More) {
            return outcome(own(), &parsed, visit);
        }
    }
    let place = opaque(claim_assembly());
    if place == NOWHERE {
        return NO_ROOM;
    }
    let have = opaque(add_payload(skb, place));
    let mut parsed = Parsed::nameless(Outcome::More);
    parse(place, have, &mut parsed);
    let mut from = place;
    if matches!(parsed.outcome, Outcome::Records) {
        // what arrives later must find the bytes where they are
        from = own();
        copy_assembly(place);
        parse_joined(from, have, &raw mut parsed);
    }
    if matches!(parsed.outcome, Outcome::More) {
        return MORE;
    }
    let found = outcome(from, &parsed, visit);
    release(place, visit.key);
    found
}

/// The name in a buffer, or why there is none.
#[inline(always)]
fn outcome(place: u32, parsed: &Parsed, visit: &mut Visit) -> u32 {
    visit.found = if parsed.ech == 0 {
        NameFound::Other as u32
    } else {
        NameFound::Ech as u32
    };
    match parsed.outcome {
        Outcome::Found => learned::learn(
            place,
            parsed.at.into(),
            parsed.bytes.into(),
            visit.epoch,
            visit.flow.now,
        ),
        Outcome::NoName => NO_NAME,
        Outcome::TooLong => TOO_LONG,
        Outcome::More => MORE,
        _ => OTHER,
    }
}

/// As [`hello::parse`], with the parsers as functions of their own.
#[inline(always)]
fn parse(place: u32, have: u32, parsed: &mut Parsed) {
    parse_record(place, have, &raw mut *parsed);
    match parsed.outcome {
        Outcome::Records if place >= MAX_ASSEMBLIES => {
            parse_joined(place, have, &raw mut *parsed);
        }
        Outcome::Other => {
            parse_head(place, have, &raw mut *parsed);
        }
        _ => {}
    }
}

macro_rules! parser {
    ($name:ident, $parser:path) => {
        /// Parses the first `have` bytes of a buffer. A global function: the verifier checks it
        /// once.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(place: u32, have: u32, parsed: *mut Parsed) -> u32 {
            let Some(buffer) = buffer(place) else {
                return 0;
            };
            if parsed.is_null() {
                return 0;
            }
            let found = $parser(&Loop, buffer, have);
            // SAFETY: the caller passes a pointer to a local variable.
            unsafe { *parsed = found };
            1
        }
    };
}

parser!(parse_record, tls::record);
parser!(parse_joined, tls::joined);
parser!(parse_head, http::head);

/// Puts the first bytes of a payload into the buffer of this CPU; returns how many. A global
/// function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn load_first(skb: *mut __sk_buff, at: u32, bytes: u32) -> u32 {
    let Some(buffer) = buffer(own()) else {
        return 0;
    };
    let most = if bytes < STREAM_BYTES {
        bytes
    } else {
        STREAM_BYTES
    };
    // from 1 on, which Linux 6.1 does not learn from a comparison
    let count = (opaque(most.wrapping_sub(1)) & (STREAM_BYTES - 1)) + 1;
    // SAFETY: the buffer has that many bytes; the context is valid.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), at, buffer.as_mut_ptr().cast(), count) };
    if failed == 0 { count } else { 0 }
}

/// The buffer of a flow; [`NOWHERE`] if another flow has it. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn claim_assembly() -> u32 {
    let Some(visit) = current() else {
        return NOWHERE;
    };
    let (begin, now) = (visit.flow.tentative.sequence, visit.flow.now);
    let place = visit.key as u32 % MAX_ASSEMBLIES;
    let Some(assembly) = ASSEMBLIES.get_ptr_mut(place) else {
        return NOWHERE;
    };
    let key = visit.key | Assembly::BEING_CLEARED << 1;
    // SAFETY: an element of the map. Who finds the key there finds the rest cleared.
    unsafe {
        let owner = (&raw const (*assembly).owner).read_volatile();
        if owner == key && (*assembly).begin == begin {
            (*assembly).time = now;
            return place;
        }
        let age = age((*assembly).time, now);
        if owner == Assembly::BEING_CLEARED || owner != 0 && owner != key && age < ASSEMBLY_LIFE {
            return NOWHERE;
        }
        let found = atomic_xchg::<u64, { AtomicOrdering::Relaxed }>(
            &raw mut (*assembly).owner,
            Assembly::BEING_CLEARED,
        );
        if found != owner {
            // another CPU was faster
            if found != Assembly::BEING_CLEARED {
                (&raw mut (*assembly).owner).write_volatile(found);
            }
            return NOWHERE;
        }
        (*assembly).coverage.clear();
        (*assembly).begin = begin;
        (*assembly).time = now;
        (&raw mut (*assembly).owner).write_volatile(key);
    }
    place
}

/// Gives a buffer back.
#[inline(always)]
fn release(place: u32, key: u64) {
    if let Some(assembly) = ASSEMBLIES.get_ptr_mut(place) {
        // SAFETY: an element of the map.
        unsafe {
            if (*assembly).owner == key | Assembly::BEING_CLEARED << 1 {
                (&raw mut (*assembly).owner).write_volatile(0);
            }
        }
    }
}

/// Puts a payload into a buffer; returns how many bytes from the first on are there. A global
/// function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn add_payload(skb: *mut __sk_buff, place: u32) -> u32 {
    let (Some(assembly), Some(visit)) = (ASSEMBLIES.get_ptr_mut(place), current()) else {
        return 0;
    };
    // SAFETY: an element of the map.
    let assembly = unsafe { &mut *assembly };
    let (offset, payload) = (visit.flow.offset, visit.flow.segment.payload);
    let room = STREAM_BYTES.wrapping_sub(offset);
    let bytes = if payload < room { payload } else { room };
    let mut pieces = Pieces {
        skb,
        to: assembly.buffer.as_mut_ptr(),
        at: visit.at,
        offset,
        end: offset.wrapping_add(bytes),
        failed: 0,
    };
    hello::Steps::each(&Loop, &mut pieces);
    if pieces.failed != 0 {
        return 0;
    }
    assembly
        .coverage
        .add(&Loop, offset, offset.wrapping_add(bytes));
    assembly.coverage.prefix(&Loop)
}

/// A copy in pieces.
struct Pieces {
    skb: *mut __sk_buff,
    to: *mut u8,
    at: u32,
    offset: u32,
    end: u32,
    failed: u32,
}

impl hello::Step for Pieces {
    const MOST: u32 = STREAM_BYTES / PIECE_BYTES + 1;
    const AT_ONCE: u32 = 1;

    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        let left = self.end.wrapping_sub(self.offset);
        if left == 0 || left > STREAM_BYTES {
            return ControlFlow::Break(());
        }
        let most = if left < PIECE_BYTES {
            left
        } else {
            PIECE_BYTES
        };
        let count = (opaque(most.wrapping_sub(1)) & (PIECE_BYTES - 1)) + 1;
        let place = (self.offset & (STREAM_BYTES - 1)) as usize;
        // SAFETY: the buffer has that many bytes behind each place; the context is valid.
        let failed = unsafe {
            bpf_skb_load_bytes(self.skb.cast(), self.at, self.to.add(place).cast(), count)
        };
        if failed != 0 {
            self.failed = 1;
            return ControlFlow::Break(());
        }
        self.offset = self.offset.wrapping_add(count);
        self.at = self.at.wrapping_add(count);
        ControlFlow::Continue(())
    }
}

/// Copies a buffer to that of this CPU. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn copy_assembly(place: u32) -> u32 {
    let (Some(to), Some(from)) = (buffer(own()), buffer(place)) else {
        return 0;
    };
    // SAFETY: both have that many bytes.
    unsafe {
        bpf_probe_read_kernel(
            to.as_mut_ptr().cast(),
            STREAM_BYTES,
            from.as_mut_ptr().cast(),
        ) as u32
    }
}
