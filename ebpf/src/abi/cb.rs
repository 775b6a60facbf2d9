//! Layout of a copy's `skb->cb` between `mirror` and `encap`.

/// Words 0 and 1: the secret, low word first.
pub const SECRET: usize = 0;
/// Word 2: the endpoint (bits 0-7), which copy of it (bit 8), flags.
pub const ENDPOINT: usize = 2;
/// Word 3: hash of the flow.
pub const FLOW: usize = 3;
/// Word 4: length of the IP packet in bytes, 0 for a superpacket.
pub const LENGTH: usize = 4;

/// Bit of word 2: index of the endpoint's copy.
pub const BANK_SHIFT: u32 = 8;
/// Flag of word 2: segments keep their size.
pub const FIXED: u32 = 1 << 9;
/// Flag of word 2: the kernel finds route and neighbour.
pub const PROBE: u32 = 1 << 10;
/// Flag of word 2: the inner packet is IPv6.
pub const IPV6: u32 = 1 << 11;
/// Flag of word 2: already encapsulated.
pub const DONE: u32 = 1 << 12;
/// Flag of word 2: a part of the packet, described by [`Cpu`](super::Cpu).
pub const SLICE: u32 = 1 << 13;
/// Flag of word 2: without a link header, on the egress of the interface that the packet
/// passes.
pub const HEADERLESS: u32 = 1 << 14;
/// Flag of word 2: the queue of the output interface must be checked.
pub const LOOK: u32 = 1 << 15;
/// Word 2 from here on: the low bits of the generation.
pub const GENERATION_SHIFT: u32 = 16;
