//! The programs, and one that answers questions. Their verdict on a packet that is not ours is always "next program".
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch, core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "this target has no compare_exchange in core::sync::atomic")
)]

#[cfg(target_arch = "bpf")]
mod clonable;
#[cfg(target_arch = "bpf")]
mod direct;
#[cfg(target_arch = "bpf")]
mod echo;
#[cfg(target_arch = "bpf")]
mod encap;
#[cfg(target_arch = "bpf")]
mod epoch;
#[cfg(target_arch = "bpf")]
mod errors;
#[cfg(target_arch = "bpf")]
mod explain;
#[cfg(target_arch = "bpf")]
mod fan;
#[cfg(target_arch = "bpf")]
mod fragment;
#[cfg(target_arch = "bpf")]
mod lane;
#[cfg(target_arch = "bpf")]
mod level;
#[cfg(target_arch = "bpf")]
mod limit;
#[cfg(target_arch = "bpf")]
mod lost;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod memo;
#[cfg(target_arch = "bpf")]
mod mirror;
#[cfg(target_arch = "bpf")]
mod network;
#[cfg(target_arch = "bpf")]
mod probe;
#[cfg(target_arch = "bpf")]
mod queue;
#[cfg(target_arch = "bpf")]
mod recall;
#[cfg(target_arch = "bpf")]
mod relay;
#[cfg(target_arch = "bpf")]
mod size;
#[cfg(target_arch = "bpf")]
mod skb;
#[cfg(target_arch = "bpf")]
mod turn;
#[cfg(target_arch = "bpf")]
mod verifier;

#[cfg(target_arch = "bpf")]
mod entries {
    use aya_ebpf::macros::classifier;
    use aya_ebpf::programs::TcContext;

    use crate::skb::Skb;

    /// On the ingress of the interfaces that are looked at.
    #[classifier]
    pub fn mirror_ingress(ctx: TcContext) -> i32 {
        crate::mirror::mirror(Skb(ctx.skb.skb), false)
    }

    /// On the egress of the interfaces that are looked at.
    #[classifier]
    pub fn mirror_egress(ctx: TcContext) -> i32 {
        crate::mirror::mirror(Skb(ctx.skb.skb), true)
    }

    /// On the egress of each output interface.
    #[classifier]
    pub fn encap(ctx: TcContext) -> i32 {
        crate::encap::encap(Skb(ctx.skb.skb))
    }

    /// On the ingress of each output interface whose frames begin with an Ethernet header.
    #[classifier]
    pub fn icmp_errors(ctx: TcContext) -> i32 {
        crate::errors::errors(Skb(ctx.skb.skb), true)
    }

    /// On the ingress of the other ones.
    #[classifier]
    pub fn icmp_errors_ip(ctx: TcContext) -> i32 {
        crate::errors::errors(Skb(ctx.skb.skb), false)
    }

    /// On the egress of the lane's exit.
    #[classifier]
    pub fn lane(ctx: TcContext) -> i32 {
        crate::lane::lane(Skb(ctx.skb.skb))
    }

    /// On no hook: run by `BPF_PROG_TEST_RUN`, with the hook's index in the first word of `cb`.
    #[classifier]
    pub fn explain(ctx: TcContext) -> i32 {
        crate::explain::explain(Skb(ctx.skb.skb))
    }

    /// While one of the others goes to another place of its hook.
    #[classifier]
    pub fn turn_mark(ctx: TcContext) -> i32 {
        crate::turn::mark(&ctx)
    }

    /// As [`turn_mark`].
    #[classifier]
    pub fn turn_check(ctx: TcContext) -> i32 {
        crate::turn::check(&ctx)
    }

    /// As [`turn_mark`].
    #[classifier]
    pub fn turn_clear(ctx: TcContext) -> i32 {
        crate::turn::clear(&ctx)
    }

    /// Does nothing: what the others' cost is measured against.
    #[classifier]
    pub fn noop(_ctx: TcContext) -> i32 {
        crate::skb::NEXT
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        loop {}
    }

    // The kernel lets only GPL-compatible programs call `bpf_skb_adjust_room` and others.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "license")]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these are eBPF programs; the daemon's build script builds them for the BPF target");
}
