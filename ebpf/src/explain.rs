//! Input: a packet that the daemon makes up, and a hook. Output: the filters that match it, by the same parser, tables and
//! search as in `mirror`; nothing is sent, and nothing is counted.

use core::ffi::c_long;

use traffic_mirror_ebpf::abi::{BLOCKS, Explained, Unseen};
use traffic_mirror_ebpf::classify::{Candidates, OutOfTable};
use traffic_mirror_ebpf::packet::Packet;

use crate::maps::{CONTROL, EXPLAINED, Kernel};
use crate::mirror::parse_packet;
use crate::skb::{NEXT, Skb};
use crate::verifier::{STOP, each, go_on_if};

#[inline(always)]
pub fn explain(skb: Skb) -> i32 {
    let Some(explained) = EXPLAINED.get_ptr_mut(0) else { return NEXT };
    // SAFETY: the process that has loaded the program runs it once at a time, and has the map for itself.
    let explained = unsafe { &mut *explained };
    let unseen = match try_explain(skb, explained) {
        Ok(()) => Explained::SEEN,
        Err(reason) => reason as u32,
    };
    explained.unseen = unseen;
    NEXT
}

#[inline(always)]
fn try_explain(skb: Skb, explained: &mut Explained) -> Result<(), Unseen> {
    let control = CONTROL.get(0).ok_or(Unseen::Table)?;
    let mut packet = Packet::default();
    parse_packet(skb, &mut packet)?;
    explained.packet = packet;
    explained.epoch = control.epoch;
    let parity = control.epoch & 1;
    let view = &control.view[parity as usize];
    let hook = skb.cb::<0>() as usize;
    let Ok(candidates) = Candidates::of(&Kernel, view, hook, &packet) else { return Err(Unseen::Table) };
    let Some(candidates) = candidates else { return Ok(()) };
    match keep_matches(&raw const candidates, parity) {
        0 => Ok(()),
        _ => Err(Unseen::Table),
    }
}

/// The search in all blocks.
struct Asked {
    candidates: Candidates,
    parity: u32,
    failed: u32,
}

/// Puts the slots that match into the map; answers 1 if the tables contradict each other. A global function, as `gather`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_matches(candidates: *const Candidates, parity: u32) -> u32 {
    if candidates.is_null() {
        return 1;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let mut asked = Asked { candidates: unsafe { *candidates }, parity, failed: 0 };
    each(BLOCKS, next_block, &mut asked);
    asked.failed
}

unsafe extern "C" fn next_block(_: u32, asked: *mut Asked) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let asked = unsafe { &mut *asked };
    let (Some(block), Some(control), Some(explained)) =
        (asked.candidates.next_block(), CONTROL.get(0), EXPLAINED.get_ptr_mut(0))
    else {
        return STOP;
    };
    match asked.candidates.search(&Kernel, &control.view[asked.parity as usize & 1], block) {
        Ok(search) => {
            // SAFETY: as in `explain`.
            unsafe { (*explained).matches.blocks[block as usize % BLOCKS] = *search.matches() }
            go_on_if(asked.candidates.blocks != 0)
        }
        Err(OutOfTable) => {
            asked.failed = 1;
            STOP
        }
    }
}
