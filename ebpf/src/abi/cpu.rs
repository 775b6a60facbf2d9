//! State that programs share while a copy is being sent.

use super::{Relay, Slice, Transit};

/// Copies that a CPU may be sending at the same time, each of a packet that passed while the one
/// before was being sent. The segmenter takes a level of its own.
pub const LEVELS: usize = 4;

/// Per CPU. While a clone is being sent (`bpf_clone_redirect`), other packets may pass our hooks on
/// the same CPU: neighbour discovery by the kernel, the outer packet of a tunnel, packets from the
/// queue of a stacked interface. So the state that a run needs until its clone is sent is in a
/// level of its own.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Cpu {
    /// Number of the packet that matched last: one for each packet on the wire.
    pub serial: u64,
    /// Clones that are being sent at the moment, each while the one before it is.
    pub depth: u32,
    /// [`Transit::sequence`] of the last superpacket that went through the segmenter.
    pub sequence: u32,
    /// `CLOCK_MONOTONIC_COARSE` up to which packets with GUE in GUE have used up what is copied of
    /// them, ns.
    pub nested_up_to_ns: u64,
    /// Until when the packet at hand may be copied, ns of `CLOCK_MONOTONIC`; 0 as long as it has
    /// had few copies.
    pub until_ns: u64,
    /// Clones that have been made of it, and of what came by meanwhile.
    pub clones: u32,
    /// Zero.
    pub reserved: u32,
    /// By the depth at which a run has begun.
    pub levels: [Level; LEVELS],
}

/// The state of a run.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Level {
    /// The low bits of the packet's number, which distinguish the fragments of its copies from
    /// others.
    pub number: u32,
    /// What `encap` did with the copy: a [`Receipt`](super::Receipt).
    pub receipt: u32,
    /// What of the packet the copy with [`cb::SLICE`](super::cb::SLICE) is to carry.
    pub slice: Slice,
    /// What is in the segmenter.
    pub transit: Transit,
    /// The copy that is to get an Ethernet header.
    pub relay: Relay,
    /// The copy that `encap` encapsulated last.
    pub wrapped: Wrapped,
}

/// Identifies a copy wherever the kernel carries it, also in a tunnel: its outer packet is the end
/// of the packet that passes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Wrapped {
    /// The first bytes of the outer IP header, as they are: length, identification and flow label
    /// among them.
    pub begin: u64,
    /// Bytes of the outer packet, from the IP header on; 0 if none was encapsulated.
    pub bytes: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<Level>() == 80);
    assert!(size_of::<Cpu>() == 40 + LEVELS * size_of::<Level>());
    assert!(LEVELS.is_power_of_two());
};

#[cfg(feature = "user")]
// SAFETY: repr(C), `Copy`, no padding (`bytemuck::Pod`), any bytes are a valid value.
unsafe impl aya::Pod for Cpu {}
