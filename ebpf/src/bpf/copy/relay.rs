//! Input: the clone of a packet without a link header, on the egress of the interface that the
//! packet passes. Output: a clone of it with an Ethernet header on the egress of the output
//! interface, where it is encapsulated or fragmented like any other.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_clone_redirect, bpf_skb_change_head};
use traffic_mirror_ebpf::abi::{Receipt, Relay, cb};
use traffic_mirror_ebpf::packet::ETHER_BYTES;

use crate::bpf::level::sender;
use crate::bpf::skb::Skb;

/// Sends it, and leaves the kernel's result: `bpf_redirect` would be cheaper, but reports no result
/// (`sch_handle_egress`). A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn relay(skb: *mut __sk_buff) -> u32 {
    let Some(sender) = sender() else { return 0 };
    // SAFETY: a per-CPU element; volatile, since `mirror` waits for it in a helper.
    let (receipt, relay) = unsafe { (&raw mut (*sender).receipt, &raw mut (*sender).relay) };
    // SAFETY: as above.
    let interface = unsafe { relay.read_volatile() }.interface;
    let skb = Skb(skb);
    // SAFETY: as above; the context is valid.
    unsafe {
        if interface == 0 || bpf_skb_change_head(skb.0, ETHER_BYTES, 0) != 0 {
            receipt.write_volatile(Receipt::Refused as u32);
            relay.write_volatile(Relay::default());
            return 0;
        }
        skb.set_cb::<{ cb::ENDPOINT }>(skb.cb::<{ cb::ENDPOINT }>() & !cb::HEADERLESS);
        let answer = bpf_clone_redirect(skb.0, interface, 0) as i32;
        relay.write_volatile(Relay {
            interface: 0,
            answer,
        });
    }
    0
}
