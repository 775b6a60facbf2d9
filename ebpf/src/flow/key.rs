//! The key of a flow: the same for both directions.

use crate::abi::{FLOW_KEYS_OF_NAMES, FLOW_WORDS};
use crate::bits::mix;
use crate::packet::{Address, Packet};

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
    let last = ports | (packet.protocol as u64) << 32;
    let hash = if packet.version == 4 {
        hash(&[ipv4(low), 0, ipv4(high), 0, last], keys)
    } else {
        hash(&[low[0], low[1], high[0], high[1], last], keys)
    };
    Key {
        hash,
        side: is_higher as u32,
    }
}

/// The key of an address and a last word, which is not that of a flow.
#[inline(always)]
pub(crate) fn key_of_end(
    is_ipv4: bool,
    address: Address,
    last: u64,
    keys: &[u64; FLOW_KEYS_OF_NAMES],
) -> u64 {
    if is_ipv4 {
        hash(&[ipv4(address), 0, last], keys)
    } else {
        hash(&[address[0], address[1], last], keys)
    }
}

/// The word of an IPv4 address, of which the compiler sees that its lower half is 0: for that, as
/// for the other word, it leaves out the products, which are most of what a key costs.
const fn ipv4(address: Address) -> u64 {
    address[0] >> 32 << 32
}

/// The keyed hash of up to [`FLOW_WORDS`] words.
#[inline(always)]
fn hash<const N: usize>(words: &[u64; N], keys: &[u64; FLOW_KEYS_OF_NAMES]) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ipv4_leaves_out_adds_nothing() {
        let keys = core::array::from_fn(|at| mix(at as u64 + 1));
        let packet = Packet {
            version: 4,
            protocol: 6,
            source: [0x0a00_0001 << 32, 0],
            destination: [0xc000_0201 << 32, 0],
            source_port: 0x8001,
            destination_port: 443,
            ..Packet::default()
        };
        let all = Packet {
            version: 6,
            ..packet
        };
        assert_eq!(key(&packet, &keys), key(&all, &keys));
        let of_end = |is_ipv4| key_of_end(is_ipv4, packet.source, 7 << 32 | 9, &keys);
        assert_eq!(of_end(true), of_end(false));
    }
}
