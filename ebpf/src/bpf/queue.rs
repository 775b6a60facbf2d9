//! Input: a copy before it enters the queue of its output interface. Output: whether the queue
//! holds more than the endpoint allows.
//!
//! Nothing else limits in bytes what copies hold: a clone belongs to no socket, and a queue counts
//! packets of up to 64 KiB each. So the programs read the queueing disciplines of the interface,
//! and if it has none, as a VLAN or a bond, those of the interfaces below. Packets in a driver do
//! not count.

use core::ffi::c_long;

use aya_ebpf::bindings::__sk_buff;
use traffic_mirror_ebpf::abi::MAX_LOOKS;
use traffic_mirror_ebpf::offsets::Offsets;

use crate::bpf::kernel_memory::{offset, read};
use crate::bpf::verifier::{STOP, each, go_on_if};

/// What the kernel keeps of a packet beside its bytes, at least: `struct sk_buff`, and its shared
/// info.
pub(super) const PACKET_BYTES: u64 = 768;
/// Bytes of a `struct list_head`: of the two lists of neighbours the one of those below is the
/// second.
const LIST_BYTES: usize = 16;
/// `TCQ_F_NOLOCK` (include/net/sch_generic.h): `pfifo_fast`, the only one whose counters are one
/// for each CPU.
const NOLOCK: u32 = 0x100;
/// `PFIFO_FAST_BANDS`.
const BANDS: usize = 3;
/// Packets of a ring from which the memory of all is extrapolated, where the kernel counts packets
/// alone. Copies of a stream and of its acknowledgements alternate.
const SAMPLES: usize = 16;

/// A walk over queues.
struct Walk {
    /// The interface at hand, and among those below another one its entry and the head of their
    /// list: addresses.
    device: usize,
    entry: usize,
    head: usize,
    /// Its transmit queues; some may share one discipline.
    queues: usize,
    before: usize,
    count: u32,
    next: u32,
    /// 1 if none of them holds packets.
    is_transparent: u64,
    /// What has been found, bytes.
    held: u64,
    most: u64,
    /// The rings of a `pfifo_fast`: an address.
    rings: usize,
}

/// A ring of packets, of which some are read.
struct Ring {
    /// Its places: an address.
    places: usize,
    size: u32,
    /// Where the first packet is.
    first: u32,
    packets: u32,
    /// Number of packets read, and their memory in bytes.
    seen: u32,
    bytes: u64,
}

/// Returns 1 if there is more than this many bytes. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn is_full(skb: *mut __sk_buff, most: u64) -> u32 {
    let is_known = is_known(offset!(queue_bytes))
        && is_known(offset!(device_neighbours))
        && is_known(offset!(lower_list))
        && is_known(offset!(qdisc_stats))
        && is_known(offset!(qdisc_list));
    let Some(device) = read::<usize>(skb as usize, offset!(sk_buff), offset!(skb_dev)) else {
        return 0;
    };
    if !is_known {
        return 0;
    }
    let mut walk = Walk {
        device,
        entry: 0,
        head: 0,
        queues: 0,
        before: 0,
        count: 0,
        next: 0,
        is_transparent: 1,
        held: 0,
        most,
        rings: 0,
    };
    enter(&mut walk);
    each(MAX_LOOKS, look, &mut walk);
    u32::from(walk.held > most)
}

#[inline(always)]
const fn is_known(offset: u32) -> bool {
    offset != Offsets::UNKNOWN
}

/// An address behind another one; offsets are in bits.
#[inline(always)]
const fn behind(from: usize, offset: u32) -> usize {
    from.wrapping_add(offset as usize / 8)
}

/// Begins with an interface.
#[inline(always)]
fn enter(walk: &mut Walk) {
    walk.queues = read(walk.device, offset!(net_device), offset!(device_tx)).unwrap_or(0);
    walk.count = read(walk.device, offset!(net_device), offset!(device_queues)).unwrap_or(0);
    walk.next = 0;
    walk.before = 0;
    walk.is_transparent = 1;
}

unsafe extern "C" fn look(_: u32, walk: *mut Walk) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let walk = unsafe { &mut *walk };
    if walk.next < walk.count {
        let queue = walk
            .queues
            .wrapping_add(walk.next as usize * (offset!(queue_bytes) as usize / 8));
        walk.next += 1;
        let qdisc = read(queue, offset!(netdev_queue), offset!(queue_qdisc)).unwrap_or(0);
        if qdisc != walk.before {
            walk.before = qdisc;
            add(walk, qdisc);
        }
        return go_on_if(walk.held <= walk.most);
    }
    let next =
        |entry: usize| read::<usize>(entry, offset!(list_head), offset!(list_next)).unwrap_or(0);
    // those below, or the next one beside
    let mut head = behind(walk.device, offset!(device_neighbours)).wrapping_add(LIST_BYTES);
    let mut entry = if walk.is_transparent != 0 {
        next(head)
    } else {
        head
    };
    if entry == head {
        head = walk.head;
        entry = if walk.entry != 0 { next(walk.entry) } else { 0 };
    }
    if entry == 0 || entry == head {
        return STOP;
    }
    (walk.head, walk.entry) = (head, entry);
    let adjacent = entry.wrapping_sub(offset!(lower_list) as usize / 8);
    walk.device = read(adjacent, offset!(netdev_adjacent), offset!(lower_device)).unwrap_or(0);
    enter(walk);
    go_on_if(true)
}

/// Adds what a queueing discipline holds.
#[inline(always)]
fn add(walk: &mut Walk, qdisc: usize) {
    // `noqueue` has nothing that would take a packet
    if read::<usize>(qdisc, offset!(qdisc), offset!(qdisc_enqueue)).unwrap_or(0) == 0 {
        return;
    }
    walk.is_transparent = 0;
    if read::<u32>(qdisc, offset!(qdisc), offset!(qdisc_flags)).unwrap_or(0) & NOLOCK == 0 {
        let (stats, list) = (
            behind(qdisc, offset!(qdisc_stats)),
            behind(qdisc, offset!(qdisc_list)),
        );
        let bytes: u32 =
            read(stats, offset!(gnet_stats_queue), offset!(stats_backlog)).unwrap_or(0);
        let packets: u32 = read(list, offset!(qdisc_skb_head), offset!(list_length)).unwrap_or(0);
        walk.held += u64::from(bytes) + u64::from(packets) * PACKET_BYTES;
        return;
    }
    if !(is_known(offset!(qdisc_private))
        && is_known(offset!(ring_bytes))
        && is_known(offset!(skb_truesize)))
    {
        return;
    }
    walk.rings = behind(qdisc, offset!(qdisc_private));
    each(BANDS, look_at_ring, walk);
}

/// Adds the memory that the packets of a ring take, by some of them.
unsafe extern "C" fn look_at_ring(nth: u32, walk: *mut Walk) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let walk = unsafe { &mut *walk };
    let at = walk
        .rings
        .wrapping_add(nth as usize * (offset!(ring_bytes) as usize / 8));
    let word = |of: u32| read::<u32>(at, offset!(ptr_ring), of).unwrap_or(0);
    let (producer, first, size) = (
        word(offset!(ring_producer)),
        word(offset!(ring_consumer)),
        word(offset!(ring_size)),
    );
    let wrapped = if producer < first { size } else { 0 };
    let packets = producer.wrapping_add(wrapped).wrapping_sub(first);
    let places = read(at, offset!(ptr_ring), offset!(ring_places)).unwrap_or(0);
    let mut ring = Ring {
        places,
        size,
        first,
        packets,
        seen: 0,
        bytes: 0,
    };
    each(SAMPLES, look_at_packet, &mut ring);
    // otherwise they left the ring while it was read
    if ring.seen != 0 {
        walk.held += u64::from(packets) * (ring.bytes / u64::from(ring.seen));
    }
    go_on_if(true)
}

unsafe extern "C" fn look_at_packet(nth: u32, ring: *mut Ring) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let ring = unsafe { &mut *ring };
    let behind_first = u64::from(ring.packets) * u64::from(nth) / SAMPLES as u64;
    let mut place = u64::from(ring.first) + behind_first;
    if place >= u64::from(ring.size) {
        place -= u64::from(ring.size);
    }
    // any pointer will do for a type
    let at = ring
        .places
        .wrapping_add(place as usize * size_of::<usize>());
    let skb = read::<usize>(at, offset!(list_head), offset!(list_next)).unwrap_or(0);
    if ring.packets != 0 && skb != 0 {
        ring.seen += 1;
        ring.bytes +=
            u64::from(read::<u32>(skb, offset!(sk_buff), offset!(skb_truesize)).unwrap_or(0));
    }
    go_on_if(ring.packets != 0)
}
