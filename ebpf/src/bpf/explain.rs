//! Input: a packet that the daemon makes up, and a hook. Output: the filters that match it, by the
//! same parser, tables and search as in `mirror`; nothing is sent, and nothing is counted.

use core::ffi::c_long;

use traffic_mirror_ebpf::abi::{BLOCKS, Explained, Field, Skipped};
use traffic_mirror_ebpf::classify::{Candidates, OutOfTable};
use traffic_mirror_ebpf::packet::Packet;

use crate::bpf::direct::control;
use crate::bpf::learned::UNKNOWN;
use crate::bpf::maps::{EXPLAINED, Kernel};
use crate::bpf::memo::{CANDIDATES, FAILED, FOUND, NONE};
use crate::bpf::mirror::{EXCLUDES, INCLUDES, kept, look_up};
use crate::bpf::parse::parse_packet;
use crate::bpf::skb::{NEXT, Skb};
use crate::bpf::verifier::{STOP, each, go_on_if};

#[inline(always)]
pub(super) fn explain(skb: Skb) -> i32 {
    let Some(explained) = EXPLAINED.get_ptr_mut(0) else {
        return NEXT;
    };
    // SAFETY: the process that has loaded the program runs it once at a time, and has the map for
    // itself.
    let explained = unsafe { &mut *explained };
    let skipped = match try_explain(skb, explained) {
        Ok(()) => Explained::SEEN,
        Err(reason) => reason as u32,
    };
    explained.skipped = skipped;
    NEXT
}

#[inline(always)]
fn try_explain(skb: Skb, explained: &mut Explained) -> Result<(), Skipped> {
    let control = control();
    let mut packet = Packet::default();
    parse_packet(skb, &mut packet)?;
    let bank = control.epoch & 1;
    let active = &control.banks[bank as usize];
    if packet.fragment & Packet::LATER != 0 {
        // for a single packet the ports of its first fragment are unknown
        packet.forget_ports();
    }
    explained.packet = packet;
    explained.epoch = control.epoch;
    let hook = skb.cb::<0>();
    // 0 if the server name or the application is unknown, else its class and 1
    let (name, application) = (skb.cb::<1>(), skb.cb::<2>());
    if packet.unknown == 0 || active.skips_unparsed != 0 {
        let found = look_up_known(&raw const packet, hook, bank, name, application);
        if found & UNKNOWN == 0 {
            return search(found, bank);
        }
        packet.unknown = found as u8;
        explained.packet.unknown = packet.unknown;
    }
    // `EXCLUDES` last: it replaces unknown classes in the map by those of other values
    let any = bank | INCLUDES;
    search(look_up(&raw const packet, hook, any), any)?;
    let certain = bank | EXCLUDES;
    search(look_up(&raw const packet, hook, certain), certain)
}

#[inline(always)]
fn search(found: u32, how: u32) -> Result<(), Skipped> {
    match found {
        NONE => Ok(()),
        FOUND if keep_matches(how) == 0 => Ok(()),
        _ => Err(Skipped::Table),
    }
}

/// As [`look_up`], for a packet without unknown fields; `name` and `application` as in
/// [`try_explain`]. Answers [`UNKNOWN`], too, with those of them that matter and are unknown.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_up_known(
    packet: *const Packet,
    hook: u32,
    bank: u32,
    name: u32,
    application: u32,
) -> u32 {
    let control = control();
    if packet.is_null() {
        return FAILED;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    let active = &control.banks[bank as usize & 1];
    let found = Candidates::of(&Kernel, active, hook as usize, packet);
    let Ok(Some(mut candidates)) = found else {
        return kept(found);
    };
    let mut unknown = 0;
    // what the class of a field leaves
    let mut give = |field: Field, bit: u8, class: u32| {
        if !candidates.want(active, field) {
            FOUND
        } else if class == 0 {
            unknown |= u32::from(bit);
            FOUND
        } else {
            match candidates.give(&Kernel, active, field, class.wrapping_sub(1)) {
                Ok(true) => FOUND,
                Ok(false) => NONE,
                Err(_) => FAILED,
            }
        }
    };
    let mut left = give(Field::ServerName, Packet::SERVER_NAME, name);
    if left == FOUND {
        left = give(Field::Application, Packet::APPLICATION, application);
    }
    if left != FOUND {
        return left;
    }
    match kept(Ok(Some(candidates))) {
        FOUND if unknown != 0 => UNKNOWN | unknown,
        found => found,
    }
}

/// The search in all blocks.
struct Asked {
    candidates: Candidates,
    how: u32,
    failed: u32,
}

/// Puts the slots that match into the map: into both rows, or with [`INCLUDES`] into that for
/// filters that mirror, with [`EXCLUDES`] into the other one. Answers 1 if the tables contradict
/// each other. A global function, as `gather`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_matches(how: u32) -> u32 {
    let Some(candidates) = CANDIDATES.get_ptr_mut(0) else {
        return 1;
    };
    let mut asked = Asked {
        // SAFETY: a per-CPU element, which `look_up` has just written.
        candidates: unsafe { (*candidates).candidates },
        how,
        failed: 0,
    };
    each(BLOCKS, next_block, &mut asked);
    asked.failed
}

unsafe extern "C" fn next_block(_: u32, asked: *mut Asked) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let asked = unsafe { &mut *asked };
    let (Some(block), Some(explained)) = (asked.candidates.next_block(), EXPLAINED.get_ptr_mut(0))
    else {
        return STOP;
    };
    match asked.candidates.search::<_, true>(
        &Kernel,
        &control().banks[asked.how as usize & 1],
        block,
    ) {
        Ok(search) => {
            // SAFETY: as in `explain`.
            let explained = unsafe { &mut *explained };
            if asked.how & EXCLUDES == 0 {
                explained.matches.blocks[block as usize % BLOCKS] = *search.matches();
            }
            if asked.how & INCLUDES == 0 {
                explained.certain.blocks[block as usize % BLOCKS] = *search.matches();
            }
            go_on_if(asked.candidates.blocks != 0)
        }
        Err(OutOfTable) => {
            asked.failed = 1;
            STOP
        }
    }
}
