//! The programs, and one that answers questions. Their verdict on a packet that is not ours is
//! always "next program".
#![cfg_attr(
    target_arch = "bpf",
    no_std,
    no_main,
    feature(asm_experimental_arch, core_intrinsics)
)]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        internal_features,
        reason = "this target has no compare_exchange in core::sync::atomic"
    )
)]

#[cfg(target_arch = "bpf")]
mod bpf;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these are eBPF programs; the daemon's build script builds them for the BPF target");
}
