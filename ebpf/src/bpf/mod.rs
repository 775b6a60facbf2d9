//! The programs. What is attached begins here; each is a file of its own.

mod application;
mod clock;
mod copy;
mod direct;
mod encap;
mod epoch;
mod explain;
mod flow_cells;
mod fragment_cache;
mod hook_stats;
mod icmp_errors;
mod kernel_memory;
mod learned;
mod level;
mod loop_guard;
mod maps;
mod measure;
mod memo;
mod mirror;
mod network_offset;
mod parse;
mod queue;
mod relocate;
mod segmenter;
mod server_name;
mod skb;
mod verifier;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::bpf::skb::Skb;

/// On the ingress of monitored interfaces.
#[classifier]
pub(crate) fn mirror_ingress(ctx: TcContext) -> i32 {
    crate::bpf::mirror::mirror(Skb::of(&ctx), false)
}

/// On the egress of monitored interfaces.
#[classifier]
pub(crate) fn mirror_egress(ctx: TcContext) -> i32 {
    crate::bpf::mirror::mirror(Skb::of(&ctx), true)
}

/// On the egress of each output interface.
#[classifier]
pub(crate) fn encap(ctx: TcContext) -> i32 {
    crate::bpf::encap::encap(Skb::of(&ctx))
}

/// On the ingress of each output interface whose frames begin with an Ethernet header.
#[classifier]
pub(crate) fn icmp_errors(ctx: TcContext) -> i32 {
    crate::bpf::icmp_errors::errors(Skb::of(&ctx), true)
}

/// On the ingress of the other ones.
#[classifier]
pub(crate) fn icmp_errors_ip(ctx: TcContext) -> i32 {
    crate::bpf::icmp_errors::errors(Skb::of(&ctx), false)
}

/// On the egress of the segmenter's exit.
#[classifier]
pub(crate) fn segmenter(ctx: TcContext) -> i32 {
    crate::bpf::segmenter::segmenter(Skb::of(&ctx))
}

/// On no hook: run by `BPF_PROG_TEST_RUN`, with the hook's index in the first word of `cb`.
#[classifier]
pub(crate) fn explain(ctx: TcContext) -> i32 {
    crate::bpf::explain::explain(Skb::of(&ctx))
}

/// On no hook: run by `BPF_PROG_TEST_RUN`, with what the daemon has read of a flow as the packet.
#[classifier]
pub(crate) fn quic_name(ctx: TcContext) -> i32 {
    crate::bpf::server_name::answer(Skb::of(&ctx))
}

/// While one of the others goes to another place of its hook.
#[classifier]
pub(crate) fn relocate_first(ctx: TcContext) -> i32 {
    crate::bpf::relocate::first(&ctx)
}

/// As [`relocate_first`].
#[classifier]
pub(crate) fn relocate_second(ctx: TcContext) -> i32 {
    crate::bpf::relocate::second(&ctx)
}

/// As [`relocate_first`].
#[classifier]
pub(crate) fn relocate_drain(ctx: TcContext) -> i32 {
    crate::bpf::relocate::drain(&ctx)
}

/// Does nothing: what the others' cost is measured against.
#[classifier]
pub(crate) fn noop(_ctx: TcContext) -> i32 {
    crate::bpf::skb::NEXT
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

// The kernel lets only GPL-compatible programs call `bpf_skb_adjust_room` and others.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
