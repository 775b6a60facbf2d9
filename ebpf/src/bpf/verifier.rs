//! What there is because the verifier wants it so.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated::bpf_loop;
use traffic_mirror_ebpf::hello::{Step, Steps};

/// Calls `step` with 0, 1, ... until it returns [`STOP`], at most `count` times. That number is
/// unknown to the verifier, so it checks one round; with a counter in `step` it would check them
/// all.
#[inline(always)]
pub(super) fn each<S>(
    count: usize,
    step: unsafe extern "C" fn(u32, *mut S) -> c_long,
    state: &mut S,
) {
    // SAFETY: the kernel hands `state` back to `step`, which has the type for it.
    unsafe {
        bpf_loop(
            count as u32,
            step as *mut c_void,
            (&raw mut *state).cast(),
            0,
        )
    };
}

/// Drives the loops of pure code by [`each`].
pub(super) struct Loop;

impl Steps for Loop {
    #[inline(always)]
    fn each<S: Step>(&self, state: &mut S) {
        const { assert!(S::MOST.is_multiple_of(S::AT_ONCE)) };
        each((S::MOST / S::AT_ONCE) as usize, rounds::<S>, state);
    }
}

unsafe extern "C" fn rounds<S: Step>(index: u32, state: *mut S) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let state = unsafe { &mut *state };
    let mut round = 0;
    while round < S::AT_ONCE {
        if state.step(index * S::AT_ONCE + round).is_break() {
            return STOP;
        }
        round += 1;
    }
    go_on_if(true)
}

pub(super) const STOP: c_long = 1;

#[inline(always)]
pub(super) const fn go_on_if(more: bool) -> c_long {
    !more as c_long
}

/// A value that the compiler cannot evaluate: otherwise it drops a bound that it derives from code
/// which the verifier checks separately, or from a comparison from which the verifier learns
/// nothing.
#[inline(always)]
pub(super) fn opaque(value: u32) -> u32 {
    let mut slot = value;
    // SAFETY: a local variable.
    unsafe {
        (&raw mut slot).write_volatile(value);
        (&raw const slot).read_volatile()
    }
}

/// A value of which the verifier forgets all that it knows: a global function may return anything.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn forget(value: u32) -> u32 {
    opaque(value)
}

/// A pointer whose target is opaque to the compiler.
#[inline(always)]
pub(super) fn opaque_pointer<T>(pointer: *mut T) -> *mut T {
    let mut pointer = pointer;
    // an instruction: without it its line would be that of the next one, which the kernel rejects
    // (`check_btf_line`)
    // SAFETY: it does nothing.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) pointer, options(nostack, preserves_flags)) };
    pointer
}
