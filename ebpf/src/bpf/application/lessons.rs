//! Input: packets that sockets of this host send. Output: whether one teaches what another has
//! taught already, and the time. Both belong to this CPU.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use traffic_mirror_ebpf::owner::{Lesson, lesson_of};
use traffic_mirror_ebpf::packet::Packet;

use crate::bpf::clock::Clock;
use crate::bpf::direct::values;

const PLACES: usize = 2048;

/// What this CPU knows.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Lessons {
    pub clock: Clock,
    taught: [u64; PLACES],
}

/// It is pinned nowhere, so that each process that loads programs has its own.
#[map]
static LESSONS: PerCpuArray<Lessons> = PerCpuArray::with_max_entries(1, 0);

/// Those of this CPU.
#[inline(always)]
pub(super) fn lessons() -> Option<&'static mut Lessons> {
    // SAFETY: an element of this CPU, which no other program writes meanwhile.
    LESSONS
        .get_ptr_mut(0)
        .map(|lessons| unsafe { &mut *lessons })
}

impl Lessons {
    /// Whether a packet with the same addresses and ports has taught the same at this time;
    /// remembers that this one has. Most packets teach what one before has.
    #[inline(always)]
    pub(super) fn is_repeated(
        &mut self,
        packet: &Packet,
        index: u32,
        lesson: Lesson,
        now: u32,
    ) -> bool {
        if !matches!(lesson, Lesson::Unknown | Lesson::Port) {
            return false;
        }
        let word = lesson_of(packet, index, now, &values().name_keys.flows);
        let there = &mut self.taught[(word >> 53) as usize % PLACES];
        let is_there = *there == word;
        *there = word;
        is_there
    }
}
