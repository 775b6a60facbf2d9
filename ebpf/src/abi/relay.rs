//! What passes from `mirror` to `encap` where a copy gets its Ethernet header.

/// Per CPU: the copy of a packet without a link header. The kernel clones such a packet to no
/// Ethernet interface (`__bpf_redirect_common`), so its clone goes to the egress of its own
/// interface, where `encap` gives it an Ethernet header and sends it on.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Relay {
    /// Index of the interface that the copy must be sent to; 0 once `encap` has read it.
    pub interface: u32,
    /// What the kernel has answered to sending it on: 0, a negative error, or a `NET_XMIT_*`.
    pub answer: i32,
}
