//! Input: a packet that a filter with applications may match. Output: under which keys the cgroups
//! at its two ends are remembered, and what a socket's packet teaches of its own end. Must not know:
//! maps, cgroups, the clock.
//!
//! Only packets that sockets of this host send teach. A forger can make a listener answer, so an
//! answer teaches the port, of which there is one; a flow is taught by what a socket sends
//! otherwise, which takes a connection. So a forger cannot have anything remembered in the place of
//! something else.

use crate::abi::FLOW_KEYS_OF_NAMES;
use crate::bits::mix;
use crate::flow;
use crate::flow::Segment;
use crate::packet::{Packet, protocol};

/// The end of a packet that has sent it.
pub const SENDER: usize = 0;
/// The end that it is for.
pub const RECEIVER: usize = 1;

/// A flow and which of its sides has sent a packet, in one word, which is 0 for hardly any.
#[must_use]
#[inline(always)]
pub fn flow_of(packet: &Packet, keys: &[u64; FLOW_KEYS_OF_NAMES]) -> u64 {
    let key = flow::key(packet, keys);
    key.hash & !1 | key.side as u64
}

/// The key of one end of a packet's [`flow_of`].
#[must_use]
#[inline(always)]
pub const fn end_key(flow: u64, end: usize) -> u64 {
    mix(flow ^ end as u64)
}

/// The key of the address and port at one end of a packet.
#[must_use]
#[inline(always)]
pub fn port(packet: &Packet, end: usize, keys: &[u64; FLOW_KEYS_OF_NAMES]) -> u64 {
    let (address, port) = if end == SENDER {
        (packet.source, packet.source_port)
    } else {
        (packet.destination, packet.destination_port)
    };
    // the last word of a flow is not 0
    let port = port as u64 | (packet.protocol as u64) << 32 | 1 << 63;
    flow::key_of_end(packet.version == 4, address, port, keys)
}

/// What a socket's packet teaches.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// Nothing: it may come from a socket of the kernel.
    None,
    /// The end of the flow, whatever was known of it.
    Flow,
    /// The end of the flow, if nothing is known of it.
    Unknown,
    /// The port of a listener, and the end of the flow if something is known of it.
    Listener,
    /// The port.
    Port,
}

impl Lesson {
    /// That of a packet; `flags` are those of its TCP header, 0 if it has none.
    #[must_use]
    #[inline(always)]
    pub fn of(packet: &Packet, flags: u32) -> Self {
        let is = |flag: u32| flags & flag != 0;
        if packet.ported == 0 || packet.fragment == Packet::LATER {
            Self::None
        } else if packet.protocol != protocol::TCP {
            Self::Port
        } else if is(Segment::RST) {
            // the kernel answers for nobody
            Self::None
        } else if is(Segment::SYN) && is(Segment::ACK) {
            Self::Listener
        } else if is(Segment::SYN) {
            Self::Flow
        } else {
            // a connection that has ended is answered for by the kernel, too
            Self::Unknown
        }
    }
}

/// One word for the flow that a packet teaches about, the index of its sender and the time, which
/// is hardly ever that of others. Nobody but sockets of this host, whose lessons they are, chooses
/// what goes in, and nobody knows the keys.
#[must_use]
#[inline(always)]
pub const fn lesson_of(
    packet: &Packet,
    index: u32,
    now: u32,
    keys: &[u64; FLOW_KEYS_OF_NAMES],
) -> u64 {
    let ports = packet.source_port as u64 | (packet.destination_port as u64) << 16;
    let words = [
        packet.source[0] ^ packet.source[1].rotate_left(32),
        packet.destination[0] ^ packet.destination[1].rotate_left(32),
        ports | (packet.protocol as u64) << 32,
        index as u64 | (now as u64) << 32,
    ];
    // each word is spread before the next one is added
    let (mut sum, mut word) = (keys[0], 0);
    while word < words.len() {
        sum = (sum ^ words[word]).wrapping_mul(keys[1 + word] | 1);
        sum ^= sum >> 32;
        word += 1;
    }
    sum
}

/// Whether whoever a packet is for may be about to send for the first time: a TCP packet that begins
/// a connection, any packet of another protocol. `flags` as in [`Lesson::of`].
#[must_use]
#[inline(always)]
pub const fn begins(packet: &Packet, flags: u32) -> bool {
    packet.protocol != protocol::TCP
        || flags & (Segment::SYN | Segment::ACK | Segment::RST) == Segment::SYN
}

/// The keyed hash of a cgroup's id, for `CGROUPS` and `ORIGINS`.
#[must_use]
#[inline(always)]
pub const fn cgroup_hash(id: u64, keys: &[u64; FLOW_KEYS_OF_NAMES]) -> u64 {
    mix(mix(id ^ keys[0]) ^ keys[1])
}

/// Detects ids that two CPUs have written at the same time: begins with 0, and goes on with each id.
#[must_use]
#[inline(always)]
pub const fn checksum(sum: u64, id: u64) -> u64 {
    (sum ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests;
