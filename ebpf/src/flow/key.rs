//! The key of a flow: the same for both directions.

use crate::abi::{FLOW_KEYS_OF_NAMES, FLOW_WORDS};
use crate::bits::mix;
use crate::packet::Packet;

/// The key of a flow, and which side has sent the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// 64 bits, which nobody can compute without the secret.
    pub hash: u64,
    /// 1 if the sender is the side with the higher address and port.
    pub side: u32,
}

/// The key of a packet's flow: two sums of products with keys of their own (multilinear hashing, as
/// in [`Packet::flow_hash`]), of which the upper halves are kept.
#[must_use]
#[inline(always)]
pub fn key(packet: &Packet, keys: &[u64; FLOW_KEYS_OF_NAMES]) -> Key {
    let (source, destination) = (packet.source, packet.destination);
    let is_higher = if source[0] != destination[0] {
        source[0] > destination[0]
    } else if source[1] != destination[1] {
        source[1] > destination[1]
    } else {
        packet.source_port > packet.destination_port
    };
    let ports = [packet.source_port as u64, packet.destination_port as u64];
    let (low, high, ports) = if is_higher {
        (destination, source, ports[1] << 16 | ports[0])
    } else {
        (source, destination, ports[0] << 16 | ports[1])
    };
    let words: [u64; FLOW_WORDS] = [
        low[0],
        low[1],
        high[0],
        high[1],
        ports | (packet.protocol as u64) << 32,
    ];
    Key {
        hash: hash(&words, keys),
        side: is_higher as u32,
    }
}

/// The keyed hash of up to [`FLOW_WORDS`] words.
#[inline(always)]
pub(crate) fn hash<const N: usize>(words: &[u64; N], keys: &[u64; FLOW_KEYS_OF_NAMES]) -> u64 {
    const { assert!(N <= FLOW_WORDS) };
    let sum = |first: usize| {
        let (mut sum, mut word) = (keys[first], 0);
        while word < N {
            let (upper, lower) = (words[word] >> 32, words[word] & 0xffff_ffff);
            let at = first + 1 + 2 * word;
            sum = keys[at]
                .wrapping_mul(lower)
                .wrapping_add(keys[at + 1].wrapping_mul(upper))
                .wrapping_add(sum);
            word += 1;
        }
        sum >> 32
    };
    const KEYS: usize = 2 * FLOW_WORDS + 1;
    mix(sum(0) << 32 | sum(KEYS))
}
