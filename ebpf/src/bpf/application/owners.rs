//! Which cgroup is at which end of a flow, or at which port. Only what sockets of this host send is
//! remembered, so what they receive pushes nothing out.

use traffic_mirror_ebpf::abi::{ANY_CLASS, MOST_WAITING, OWNER_BUCKETS, WAITING_CELLS};
use traffic_mirror_ebpf::flow::{IDLE_LIFE, Known, age};
use traffic_mirror_ebpf::owner::{self, Lesson, RECEIVER, SENDER};
use traffic_mirror_ebpf::packet::{Packet, protocol};

use super::{STALE, origins};
use crate::bpf::direct::values;
use crate::bpf::flow_cells;
use crate::bpf::maps::{OWNERS, WAITING};
use crate::bpf::server_name::UNDECIDED;
use crate::bpf::verifier::opaque;

/// A bucket where something may be remembered under a key; `choice` is 0 or 1.
#[inline(always)]
fn bucket(key: u64, choice: u32) -> u32 {
    (key >> (32 * choice)) as u32 % OWNER_BUCKETS
}

/// What is remembered under a key, 0 if nothing is.
#[inline(always)]
fn find_owner(key: u64) -> u64 {
    match find_in(key, bucket(key, 0)) {
        0 => find_in(key, bucket(key, 1)),
        known => known,
    }
}

#[inline(always)]
fn find_in(key: u64, bucket: u32) -> u64 {
    match OWNERS.get(bucket) {
        Some(bucket) => flow_cells::find(bucket, key),
        None => 0,
    }
}

/// Remembers something under a key. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn put_owner(key: u64, value: u64, now: u32) -> u32 {
    let (first, second) = (bucket(key, 0), bucket(key, 1));
    let (mut bucket, mut found) = (first, opaque(least_owner(key, first, now)));
    let other = opaque(least_owner(key, second, now));
    if other < found {
        (bucket, found) = (second, other);
    }
    match OWNERS.get_ptr_mut(bucket) {
        Some(bucket) => flow_cells::put(bucket, found, key, Known(value)),
        None => 0,
    }
}

/// As [`flow_cells::least`]. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn least_owner(key: u64, bucket: u32, now: u32) -> u32 {
    match OWNERS.get(bucket) {
        Some(bucket) => flow_cells::least(bucket, key, now),
        None => u32::MAX,
    }
}

/// A packet's flow, of TCP; 0 for others.
#[inline(always)]
fn flow_of_packet(packet: &Packet) -> u64 {
    if packet.protocol != protocol::TCP || packet.ported == 0 {
        return 0;
    }
    owner::flow_of(packet, &values().name_keys.flows)
}

/// The key of an address and port. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn key_of_port(packet: *const Packet, end: u32) -> u64 {
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    owner::port(unsafe { &*packet }, end as usize, &values().name_keys.flows)
}

/// The class of what is remembered of one end of a packet: 0 if no filter has its cgroup,
/// [`UNDECIDED`] if nothing is, [`STALE`] if only the port is known, see there. A global function,
/// as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn remembered(packet: *const Packet, end: u32, epoch: u32) -> u32 {
    if packet.is_null() {
        return UNDECIDED;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let of = unsafe { &*packet };
    if of.ported == 0 {
        return UNDECIDED;
    }
    let flow = flow_of_packet(of);
    if flow != 0 {
        let class = class_of_owner(owner::end_key(flow, end as usize), epoch);
        if class == STALE {
            return 0;
        }
        if class != UNDECIDED {
            return class;
        }
    }
    let port = owner::port(of, end as usize, &values().name_keys.flows);
    class_of_owner(port, epoch)
}

/// The key of the sender's end of a TCP packet's flow. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn key_of_sender(packet: *const Packet) -> u64 {
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    owner::end_key(flow_of_packet(unsafe { &*packet }), SENDER)
}

/// The class of what is remembered under a key.
#[inline(always)]
fn class_of_owner(key: u64, epoch: u32) -> u32 {
    let known = Known(find_owner(key));
    let Some(index) = known.name() else {
        return UNDECIDED;
    };
    let id = origins::id_of(index);
    if known.0 == 0 || id == 0 || !known.is(origins::hash_of(id)) {
        return UNDECIDED;
    }
    origins::class_of_origin(index, epoch, 0)
}

/// Remembers what a packet teaches of its sender, whose cgroup is at an index of `ORIGINS`. A global
/// function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn teach(packet: *const Packet, index: u32, lesson: u32, now: u32) -> u32 {
    let id = origins::id_of(index);
    if id == 0 || lesson == Lesson::None as u32 {
        return 0;
    }
    let known = Known::named(index, origins::hash_of(id)).seen(now, 0, 0);
    if lesson == Lesson::Flow as u32 {
        put_owner(key_of_sender(packet), known.0, now);
        return 0;
    }
    let port = key_of_port(packet, SENDER as u32);
    let there = Known(find_owner(port));
    let is_same = there.0 != 0 && there.lasting() == known.lasting();
    if lesson == Lesson::Unknown as u32 {
        if !is_same {
            // of a flow that is known nothing but the time changes
            let flow = key_of_sender(packet);
            let there = Known(find_owner(flow));
            if there.0 == 0 {
                put_owner(flow, known.0, now);
            } else if there.time() != now {
                put_owner(flow, there.seen(now, 0, 0).0, now);
            }
            return 0;
        }
    } else if lesson == Lesson::Listener as u32 {
        let flow = key_of_sender(packet);
        if find_owner(flow) != 0 {
            put_owner(flow, known.0, now);
        }
    }
    if !is_same || there.time() != now {
        put_owner(port, known.0, now);
    }
    0
}

/// [`ANY_CLASS`] for some packets to an address and port of which nothing is known, so that the
/// answer shows whose they are; then [`UNDECIDED`]. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn wait(packet: *const Packet, now: u32) -> u32 {
    let key = key_of_port(packet, RECEIVER as u32);
    let Some(cell) = WAITING.get_ptr_mut(key as u32 % WAITING_CELLS) else {
        return UNDECIDED;
    };
    // SAFETY: an element of the map; that two CPUs count one packet does no harm.
    let cell = unsafe { &mut *cell };
    if age(cell.since, now) >= IDLE_LIFE {
        cell.since = now;
        cell.packets = 0;
    }
    if cell.packets >= MOST_WAITING {
        return UNDECIDED;
    }
    cell.packets += 1;
    ANY_CLASS
}
