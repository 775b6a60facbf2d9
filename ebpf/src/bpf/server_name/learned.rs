//! The names that flows have, whether or not a filter has them: so a filter that comes takes flows
//! that began before, and one that goes lets go of them. Names that filters have and others do not
//! push each other out, and names of flows that were answered are pushed out by none.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use traffic_mirror_ebpf::abi::{
    LEARNED_BYTES, LEARNED_CELLS, Learned, MAX_LEARNED, MAX_LEARNED_MORE, NameCell, NameFound,
};
use traffic_mirror_ebpf::classify::class_of_hash;
use traffic_mirror_ebpf::flow::{Found, IDLE_LIFE, Known, Stamp, age};
use traffic_mirror_ebpf::hello::name::{Match, Names, look_up};

use super::UNDECIDED;
use super::assembly::own;
use super::state::current;
use crate::bpf::direct::{control, steps, values};
use crate::bpf::maps::{ASSEMBLIES, LEARNED, LEARNED_MORE, NAMES};
use crate::bpf::verifier::{Loop, forget, opaque};

/// In place of a name: there is no room for it, or to wait for more of it.
pub(super) const NO_ROOM: u32 = u32::MAX - 4;
/// Buckets of `LEARNED` for names that filters have, and as many for others.
const BUCKETS: u32 = MAX_LEARNED / LEARNED_CELLS / 2;
/// Buckets of `LEARNED_MORE`, all for names that filters have.
const MORE_BUCKETS: u32 = MAX_LEARNED_MORE / LEARNED_CELLS;
/// What distinguishes a time from none.
const IS_TIME: u32 = 1 << 16;

/// The names of the filters.
struct Patterns {
    mask: u64,
}

impl Names for Patterns {
    #[inline(always)]
    fn find(&mut self, hash: u64) -> u32 {
        let cell = |at: u32| NAMES.get(at).map(|&cell| NameCell(cell));
        class_of_hash(cell, self.mask, hash).unwrap_or(0)
    }
}

/// Compares the name at a place of a buffer with those of the filters. A global function: the
/// verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn compare_name(place: u32, at: u32, bytes: u32, epoch: u32, found: *mut Match) -> u32 {
    let Some(assembly) = ASSEMBLIES.get_ptr_mut(place) else {
        return 0;
    };
    if found.is_null() {
        return 0;
    }
    let patterns = Patterns {
        mask: control().banks[epoch as usize & 1].names_mask,
    };
    // SAFETY: an element of the map; the caller passes a pointer to a local variable.
    unsafe {
        let buffer = &(*assembly).buffer;
        *found = look_up(
            &Loop,
            buffer,
            &values().name_keys.names,
            patterns,
            (at as u16, bytes as u16),
        );
    }
    1
}

/// Remembers the name at a place of a buffer; returns its index, or [`NO_ROOM`]. A global function,
/// as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn learn(place: u32, at: u32, bytes: u32, epoch: u32, now: u32) -> u32 {
    let mut found = Match { hash: 0, class: 0 };
    if compare_name(place, at, bytes, epoch, &raw mut found) == 0 {
        return NO_ROOM;
    }
    let index = opaque(place_of_name(found.hash, found.class, now));
    let (Some(name), Some(assembly)) = (learned(index), ASSEMBLIES.get_ptr_mut(place)) else {
        return NO_ROOM;
    };
    // SAFETY: elements of maps; the text has that many bytes, and the buffer behind each place.
    unsafe {
        let name = &mut *name;
        if name.hash != found.hash {
            // flows of the name before must not take the new one for theirs
            (&raw mut name.hash).write_volatile(0);
            let count = (opaque(bytes.wrapping_sub(1)) & (LEARNED_BYTES as u32 - 1)) + 1;
            let from = (*assembly).buffer.as_mut_ptr().add((at & 0xfff) as usize);
            bpf_probe_read_kernel(name.text.as_mut_ptr().cast(), count, from.cast());
            name.bytes = count;
            name.answered = 0;
            name.connections = 0;
        }
        name.connections = name.connections.wrapping_add(1);
        name.seen = now | IS_TIME;
        name.found = stamped(found.class, epoch).0;
        (&raw mut name.hash).write_volatile(found.hash);
    }
    if found.class != 0
        && let Some(visit) = current()
    {
        visit.found = NameFound::Wanted as u32;
    }
    index
}

/// The tables, to be read no earlier than `after`.
#[inline(always)]
fn stamp(epoch: u32, after: u32) -> Stamp {
    Stamp::new(control().generation, epoch, steps(after))
}

/// A class as it is remembered.
#[inline(always)]
fn stamped(class: u32, epoch: u32) -> Found {
    Found::new(class, stamp(epoch, class))
}

/// The hash of a name.
#[inline(always)]
pub(super) fn hash_of(index: u32) -> u64 {
    // SAFETY: an element of a map.
    learned(index).map_or(0, |name| unsafe { (*name).hash })
}

/// The element with an index.
#[inline(always)]
fn learned(index: u32) -> Option<*mut Learned> {
    if index < MAX_LEARNED {
        LEARNED.get_ptr_mut(index)
    } else {
        LEARNED_MORE.get_ptr_mut(index - MAX_LEARNED)
    }
}

/// The index for a name of this class. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn place_of_name(hash: u64, class: u32, now: u32) -> u32 {
    let (base, buckets) = if class == 0 {
        (0, BUCKETS)
    } else if LEARNED_MORE.get(MAX_LEARNED_MORE - 1).is_none() {
        (MAX_LEARNED / 2, BUCKETS)
    } else {
        (MAX_LEARNED, MORE_BUCKETS)
    };
    // the upper bits are the tag of the name in its flows
    let bucket = |part: u32| base + part % buckets * LEARNED_CELLS;
    let (first, second) = (bucket(hash as u32), bucket((hash >> 16) as u32));
    let rank = opaque(rank_in(first, hash, now));
    let other = opaque(rank_in(second, hash, now));
    let (first, rank) = if other / LEARNED_CELLS > rank / LEARNED_CELLS {
        (second, other)
    } else {
        (first, rank)
    };
    if rank < LEARNED_CELLS {
        return NO_ROOM;
    }
    first + rank % LEARNED_CELLS
}

/// How much of an element of a bucket may be had for a name: of that which may most, times
/// [`LEARNED_CELLS`], 0 if it may not; and which it is. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rank_in(bucket: u32, hash: u64, now: u32) -> u32 {
    const MOST: u32 = u32::MAX / LEARNED_CELLS;
    let (mut most, mut nth) = (0, 0);
    while nth < LEARNED_CELLS {
        // of those that are worth as much not always the same one
        let cell = (nth + (hash >> 40) as u32) % LEARNED_CELLS;
        let Some(name) = learned(bucket + cell) else {
            return 0;
        };
        // SAFETY: an element of a map.
        let name = unsafe { &*name };
        let is_kept = name.answered != 0 && age(name.answered & (IS_TIME - 1), now) < IDLE_LIFE;
        let rank = if name.hash == hash {
            MOST
        } else if name.hash == 0 {
            // the lower, the fewer of the bucket are taken
            MOST - 1 - cell
        } else if is_kept {
            0
        } else {
            1 + age(name.seen & (IS_TIME - 1), now)
        };
        if rank > most / LEARNED_CELLS {
            most = rank * LEARNED_CELLS + cell;
        }
        most = forget(most);
        nth += 1;
    }
    most
}

/// In place of a class: the name was not compared with these tables yet.
pub(super) const NOT_COMPARED: u32 = UNDECIDED - 3;

/// The class of a flow by what is known of it, if it is remembered; else [`NOT_COMPARED`]. `answered`
/// is 1 if its other side has answered.
#[inline(always)]
pub(super) fn remembered_class(known: Known, epoch: u32, now: u32, answered: u32) -> u32 {
    let Some(index) = known.name() else {
        return UNDECIDED;
    };
    let Some(name) = learned(index) else {
        return UNDECIDED;
    };
    // SAFETY: an element of a map; each field is a word by itself.
    let name = unsafe { &mut *name };
    if name.hash == 0 || !known.is(name.hash) {
        return UNDECIDED;
    }
    // the clock of another CPU may be a little ahead
    let is_past = |time: u32| time == 0 || age(time & (IS_TIME - 1), now) != 0;
    if answered != 0 && is_past(name.answered) {
        name.answered = now | IS_TIME;
    } else if answered == 0 && is_past(name.seen) {
        name.seen = now | IS_TIME;
    }
    match Found(name.found).class(stamp(epoch, 0)) {
        Some(0) => values().other_name,
        Some(class) => class,
        None => NOT_COMPARED,
    }
}

/// The class of the flow at hand. `answered` is 1 if its other side has answered. A global function,
/// as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn class_of_flow(answered: u32) -> u32 {
    let Some(visit) = current() else {
        return UNDECIDED;
    };
    let (known, epoch) = (visit.flow.known, visit.epoch);
    let class = remembered_class(known, epoch, visit.flow.now, answered);
    if class != NOT_COMPARED {
        return class;
    }
    match opaque(look_up_again(known.name().unwrap_or(0), epoch)) {
        0 => values().other_name,
        class => class,
    }
}

/// Compares a name that is remembered with those of the filters. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_up_again(index: u32, epoch: u32) -> u32 {
    let (Some(name), Some(assembly)) = (learned(index), ASSEMBLIES.get_ptr_mut(own())) else {
        return 0;
    };
    // SAFETY: elements of maps; both have that many bytes.
    let name: &mut Learned = unsafe {
        let to = (*assembly).buffer.as_mut_ptr();
        bpf_probe_read_kernel(
            to.cast(),
            LEARNED_BYTES as u32,
            (*name).text.as_ptr().cast(),
        );
        &mut *name
    };
    let mut found = Match { hash: 0, class: 0 };
    compare_name(own(), 0, name.bytes, epoch, &raw mut found);
    if found.hash != name.hash {
        // two CPUs have written it at the same time
        name.hash = 0;
        return UNDECIDED;
    }
    name.found = stamped(found.class, epoch).0;
    found.class
}
