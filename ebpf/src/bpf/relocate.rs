//! For the time in which an attached program goes to another place of its hook, and so is there
//! twice: all packets of a hook pass `first` or `drain` first and `second` behind, on one CPU, and
//! exactly one of the two places passes them on to the program.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, ProgramArray};
use aya_ebpf::programs::TcContext;
use traffic_mirror_ebpf::abi::LEVELS;

use crate::bpf::direct::control;
use crate::bpf::level::depth;
use crate::bpf::maps::CPU;
use crate::bpf::skb::{NEXT, Skb};

/// The program that is relocated. Like [`SEEN`] it belongs to those who loaded the three.
#[map]
static RELOCATING: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Whether the program has processed this packet, by the number of clones that are being sent:
/// packets that pass meanwhile are independent of the packet that they are copies of.
#[map]
static SEEN: PerCpuArray<u32> = PerCpuArray::with_max_entries(LEVELS as u32 + 1, 0);

/// Where packets come by first: the program has it, and `second` lets it pass.
#[inline(always)]
pub(super) fn first(context: &TcContext) -> i32 {
    see(1);
    run(context)
}

/// Where packets come by later: the program has what it has not had.
#[inline(always)]
pub(super) fn second(context: &TcContext) -> i32 {
    let Some(seen) = seen() else { return NEXT };
    if is_copy(context) {
        return NEXT;
    }
    // SAFETY: a per-CPU element.
    unsafe {
        if seen.read_volatile() == 0 {
            return run(context);
        }
        // without a `first` before it the packet must not continue here
        seen.write_volatile(0);
    }
    NEXT
}

/// In the place of `first`: from now on the program has its packets where `second` is.
#[inline(always)]
pub(super) fn drain(context: &TcContext) -> i32 {
    if !is_copy(context) {
        see(0);
    }
    NEXT
}

/// A copy of ours may leave by the same hook while the program processes its original, and is
/// independent of that.
#[inline(always)]
fn is_copy(context: &TcContext) -> bool {
    Skb::of(context).is_clone(control().secret)
}

#[inline(always)]
fn see(seen: u32) {
    if let Some(place) = self::seen() {
        // SAFETY: a per-CPU element.
        unsafe { place.write_volatile(seen) }
    }
}

#[inline(always)]
fn seen() -> Option<*mut u32> {
    let depth = CPU.get_ptr_mut(0).map_or(0, depth);
    SEEN.get_ptr_mut(if depth < LEVELS as u32 {
        depth
    } else {
        LEVELS as u32
    })
}

#[inline(always)]
fn run(context: &TcContext) -> i32 {
    // SAFETY: nothing of this program is needed afterwards; without a program in the array
    // execution continues here.
    unsafe { RELOCATING.tail_call(context, 0) };
    NEXT
}
