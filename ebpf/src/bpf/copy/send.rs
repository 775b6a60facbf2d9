//! Sends one clone to `encap`, and reads the result.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_clone_redirect, bpf_ktime_get_ns};
use traffic_mirror_ebpf::abi::{Control, Cpu, Drop, Receipt, Relay, cb};

use crate::bpf::direct::control;
use crate::bpf::level::{depth, level};
use crate::bpf::maps::CPU;
use crate::bpf::skb::Skb;

/// One clone for `encap`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CloneRequest {
    /// Index of the output interface.
    pub interface: u32,
    /// [`cb::ENDPOINT`], without the generation.
    pub word: u32,
    /// [`cb::FLOW`].
    pub flow: u32,
    /// [`cb::LENGTH`].
    pub length: u32,
}

/// Clones of a packet before the clock is read for the first time: nearly no packet has more.
const FREE_CLONES: u32 = 16;
/// Clones between two readings of the clock.
const CLONES: u32 = 8;
/// [`Cpu::until_ns`] once that time is over.
const OVER: u64 = 1;

/// Whether the packet at hand was found to have been copied for as long as it may.
#[inline(always)]
pub(crate) fn was_over(cpu: *mut Cpu) -> bool {
    // SAFETY: a per-CPU element.
    unsafe { (*cpu).until_ns == OVER }
}

/// Whether the packet at hand has been copied for as long as it may.
#[inline(always)]
fn is_over(cpu: *mut Cpu, budget_ns: u64) -> bool {
    // SAFETY: a per-CPU element.
    let cpu = unsafe { &mut *cpu };
    let clones = cpu.clones;
    if clones >= FREE_CLONES && clones % CLONES == 0 {
        if cpu.until_ns == OVER {
            return true;
        }
        // SAFETY: no arguments.
        let now = unsafe { bpf_ktime_get_ns() };
        if cpu.until_ns == 0 {
            // an eighth is for those that it had before
            cpu.until_ns = now + budget_ns - budget_ns / 8;
        }
        if now > cpu.until_ns {
            // the next one comes by here again
            cpu.until_ns = OVER;
            return true;
        }
    }
    cpu.clones = clones + 1;
    false
}

/// Sends a clone; answers a [`Drop`] as a number. A global function: it has a stack frame that
/// others need not make room for.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn send(skb: *mut __sk_buff, request: *const CloneRequest) -> u32 {
    if request.is_null() {
        return Drop::Clone as u32;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let request = unsafe { &*request };
    let Some(cpu) = CPU.get_ptr_mut(0) else {
        return Drop::Clone as u32;
    };
    send_by(Skb(skb), request, control(), cpu)
}

/// As [`send`], for callers whose stack frame has the room.
#[inline(always)]
pub(super) fn send_by(skb: Skb, request: &CloneRequest, control: &Control, cpu: *mut Cpu) -> u32 {
    let active = &control.banks[(request.word >> cb::BANK_SHIFT & 1) as usize];
    if is_over(cpu, active.budget_ns) {
        return Drop::Budget as u32;
    }
    let is_relayed = request.word & cb::HEADERLESS != 0;
    let (interface, onward) = if is_relayed {
        (skb.ifindex(), request.interface)
    } else {
        (request.interface, 0)
    };
    let depth = depth(cpu);
    let level = level(cpu, depth);
    // SAFETY: a per-CPU element; volatile, since `encap` writes it while the helper runs.
    let (receipt, relay) = unsafe { (&raw mut (*level).receipt, &raw mut (*level).relay) };
    // SAFETY: as above.
    unsafe {
        (&raw mut (*cpu).depth).write_volatile(depth + 1);
        receipt.write_volatile(Receipt::Missing as u32);
        if is_relayed {
            relay.write_volatile(Relay {
                interface: onward,
                answer: 0,
            });
        }
    }
    let before = [
        skb.cb::<0>(),
        skb.cb::<1>(),
        skb.cb::<2>(),
        skb.cb::<3>(),
        skb.cb::<4>(),
    ];
    skb.set_cb::<{ cb::SECRET }>(control.secret as u32);
    skb.set_cb::<{ cb::SECRET + 1 }>((control.secret >> 32) as u32);
    skb.set_cb::<{ cb::ENDPOINT }>(request.word | control.generation << cb::GENERATION_SHIFT);
    skb.set_cb::<{ cb::FLOW }>(request.flow);
    skb.set_cb::<{ cb::LENGTH }>(request.length);
    // SAFETY: the context is valid; the clone leaves by the egress of the output interface, where
    // `encap` processes it.
    let failed = unsafe { bpf_clone_redirect(skb.0, interface, 0) };
    skb.set_cb::<0>(before[0]);
    skb.set_cb::<1>(before[1]);
    skb.set_cb::<2>(before[2]);
    skb.set_cb::<3>(before[3]);
    skb.set_cb::<4>(before[4]);
    // SAFETY: as above.
    let (receipt, relay) = unsafe {
        (&raw mut (*cpu).depth).write_volatile(depth);
        let relay = if is_relayed {
            relay.read_volatile()
        } else {
            Relay {
                interface: onward,
                answer: 0,
            }
        };
        (receipt.read_volatile(), relay)
    };
    let failed = if is_relayed && relay.interface == 0 {
        relay.answer.into()
    } else {
        failed
    };
    if failed < 0 {
        Drop::Clone as u32
    } else if receipt == Receipt::Missing as u32 {
        Drop::Unwrapped as u32
    } else if receipt == Receipt::Refused as u32 {
        Drop::Encap as u32
    } else if receipt == Receipt::Full as u32 {
        Drop::Backlog as u32
    } else if receipt == Receipt::Resolving as u32 {
        Drop::Resolving as u32
    } else if receipt == Receipt::Segmented as u32 {
        // packets end at the exit of the segmenter, which the helper reports as a drop
        Drop::None as u32
    } else if failed != 0 {
        // `NET_XMIT_DROP` or `NET_XMIT_CN` of the output interface's queue
        Drop::Queue as u32
    } else {
        Drop::None as u32
    }
}
