//! The elements of maps of one element, by their address, which the daemon has written into the
//! code (`BPF_PSEUDO_MAP_VALUE`): a look-up of an array map is a dozen instructions, one of which
//! waits for a key that has just been stored.

use core::arch::asm;

use traffic_mirror_ebpf::abi::{CONTROL_ADDRESS, Control, STEPS_ADDRESS, VALUES_ADDRESS, Values};

use crate::bpf::epoch::nothing;

/// The address that the daemon puts in the place of `NUMBER`.
#[inline(always)]
fn address<const NUMBER: u64>() -> usize {
    let address: usize;
    // SAFETY: one instruction, which loads a number.
    unsafe {
        asm!("{0} = {1} ll", out(reg) address, const NUMBER, options(pure, nomem, nostack, preserves_flags))
    };
    address
}

/// The element of `CONTROL`.
#[inline(always)]
pub(super) fn control() -> &'static Control {
    // SAFETY: the number has become the address of such an element, which is there for as long as
    // the program.
    unsafe { &*(address::<CONTROL_ADDRESS>() as *const Control) }
}

/// The element of `VALUES`, to be read no earlier than the epoch.
#[inline(always)]
pub(super) fn values() -> &'static Values {
    // SAFETY: as above.
    unsafe { &*(address::<VALUES_ADDRESS>() as *const Values).byte_add(nothing(control().epoch)) }
}

/// The element of `STEPS`, to be read no earlier than `after`.
#[inline(always)]
pub(super) fn steps(after: u32) -> u64 {
    // SAFETY: as above; the daemon writes it.
    unsafe {
        (address::<STEPS_ADDRESS>() as *const u64)
            .byte_add(nothing(after))
            .read_volatile()
    }
}
