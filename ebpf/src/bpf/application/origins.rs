//! The cgroups that packets come from, whether or not a filter has them: so a filter that comes
//! takes flows that began before, and one that goes lets go of them.

use core::ffi::c_long;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_ancestor_cgroup_id;
use traffic_mirror_ebpf::abi::{CGROUP_LEVELS, MAX_ORIGINS, NameCell, ORIGIN_CELLS, Origin};
use traffic_mirror_ebpf::classify::class_of_hash;
use traffic_mirror_ebpf::flow::{Found, Stamp, age};
use traffic_mirror_ebpf::owner::{cgroup_hash, checksum};

use super::{NOWHERE, STALE};
use crate::bpf::direct::{control, steps, values};
use crate::bpf::maps::{CGROUPS, ORIGINS};
use crate::bpf::server_name::UNDECIDED;
use crate::bpf::verifier::{STOP, each, go_on_if, opaque};

const BUCKETS: u32 = MAX_ORIGINS / ORIGIN_CELLS;

#[inline(always)]
pub(super) fn hash_of(id: u64) -> u64 {
    cgroup_hash(id, &values().name_keys.flows)
}

/// The id of the cgroup at an index of `ORIGINS`; 0 if there is none.
#[inline(always)]
pub(super) fn id_of(index: u32) -> u64 {
    // SAFETY: an element of the map.
    ORIGINS
        .get_ptr_mut(index)
        .map_or(0, |origin| unsafe { (*origin).id })
}

/// The index in `ORIGINS` of the cgroup whose socket has sent the packet, which is remembered there;
/// [`NOWHERE`] if there are none. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn origin_of(skb: *mut __sk_buff, id: u64, now: u32) -> u32 {
    let first = hash_of(id) as u32 % BUCKETS * ORIGIN_CELLS;
    let (mut place, mut most, mut nth) = (NOWHERE, 0, 0);
    while nth < ORIGIN_CELLS {
        let Some(origin) = ORIGINS.get_ptr_mut(first + nth) else {
            return NOWHERE;
        };
        // SAFETY: an element of the map; each field is a word by itself.
        let origin = unsafe { &mut *origin };
        if origin.id == id {
            if origin.seen != now {
                origin.seen = now;
            }
            return first + nth;
        }
        let rank = if origin.id == 0 {
            u32::MAX
        } else {
            1 + age(origin.seen, now)
        };
        if rank > most {
            (place, most) = (first + nth, rank);
        }
        nth += 1;
    }
    remember_origin(skb, id, now, place)
}

/// Puts a cgroup into an element of `ORIGINS`; returns its index. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn remember_origin(skb: *mut __sk_buff, id: u64, now: u32, place: u32) -> u32 {
    let Some(origin) = ORIGINS.get_ptr_mut(place) else {
        return NOWHERE;
    };
    // SAFETY: an element of the map; a reader detects one that two CPUs write.
    unsafe {
        // flows of the cgroup before must not take the new one for theirs
        (&raw mut (*origin).id).write_volatile(0);
        let (mut sum, mut level) = (0, 0);
        while level < CGROUP_LEVELS {
            // 0 below its own level; the context is valid
            let above = bpf_skb_ancestor_cgroup_id(skb, level as i32);
            (*origin).ids[level] = above;
            sum = checksum(sum, above);
            level += 1;
        }
        (*origin).found = 0;
        (*origin).wanted = 0;
        (*origin).seen = now;
        (*origin).check = checksum(sum, id);
        (&raw mut (*origin).id).write_volatile(id);
    }
    place
}

/// The class of a cgroup; 0 if no filter has it, nor one above it. `sent` is 1 if a socket of it has
/// just sent something; otherwise [`STALE`] is possible, too.
#[inline(always)]
pub(super) fn class_of_origin(index: u32, epoch: u32, sent: u32) -> u32 {
    let Some(origin) = ORIGINS.get_ptr_mut(index) else {
        return UNDECIDED;
    };
    // SAFETY: an element of the map; each field is a word by itself.
    let origin = unsafe { &mut *origin };
    let (id, found) = (origin.id, origin.found);
    if id == 0 {
        return UNDECIDED;
    }
    let class = match Found(found).class(stamp(id, epoch, 0)) {
        Some(class) => class,
        None => opaque(look_up_cgroups(index, epoch)),
    };
    if sent != 0 {
        let wanted = u32::from(class != 0);
        if origin.wanted != wanted {
            origin.wanted = wanted;
        }
    } else if class == 0 && origin.wanted != 0 {
        return STALE;
    }
    class
}

/// The tables, to be read no earlier than `after`, as they are for one cgroup.
#[inline(always)]
fn stamp(id: u64, epoch: u32, after: u32) -> Stamp {
    Stamp::new(
        control().generation,
        epoch,
        steps(after) ^ id.rotate_left(32),
    )
}

/// A look for the class of a cgroup.
struct Look {
    index: u32,
    class: u32,
    mask: u64,
    sum: u64,
}

/// Compares a cgroup that is remembered, and those above it, with those of the filters. A global
/// function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_up_cgroups(index: u32, epoch: u32) -> u32 {
    let Some(origin) = ORIGINS.get_ptr_mut(index) else {
        return UNDECIDED;
    };
    let mut look = Look {
        index,
        class: 0,
        mask: control().banks[epoch as usize & 1].cgroups_mask,
        sum: 0,
    };
    each(CGROUP_LEVELS, next_level, &mut look);
    // SAFETY: an element of the map.
    let origin = unsafe { &mut *origin };
    let id = origin.id;
    if checksum(look.sum, id) != origin.check {
        // two CPUs have written it at the same time
        origin.id = 0;
        return UNDECIDED;
    }
    origin.found = Found::new(look.class, stamp(id, epoch, look.class)).0;
    look.class
}

/// From the root down: the deepest one that a filter has counts, as its class has what those above
/// it select.
unsafe extern "C" fn next_level(level: u32, look: *mut Look) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let look = unsafe { &mut *look };
    let Some(origin) = ORIGINS.get_ptr_mut(look.index) else {
        return STOP;
    };
    // SAFETY: an element of the map.
    let origin: &Origin = unsafe { &*origin };
    let id = origin.ids[level as usize % CGROUP_LEVELS];
    look.sum = checksum(look.sum, id);
    if id != 0 {
        let cell = |at: u32| CGROUPS.get(at).map(|&cell| NameCell(cell));
        if let Some(class) = class_of_hash(cell, look.mask, hash_of(id)) {
            look.class = class;
        }
    }
    go_on_if(true)
}
