//! What is remembered of a datagram's first fragment, which alone has ports, for the later ones. Input: fragments. Output:
//! what filters are to be told of them. Must not know: maps, the clock.

use crate::abi::First;
use crate::packet::{Packet, mix};

/// How long a first fragment is remembered, in units of 2^30 ns: as long as Linux waits for the rest of an IPv4 datagram
/// (`IP_FRAG_TIME`).
const LIFETIME: u64 = 28;
/// Bits of the time that are kept: a fortnight.
const TIME_BITS: u32 = 20;

const PROTOCOL_SHIFT: u32 = 32;
const LOOP: u64 = 1 << 40;
const PORTED: u64 = 1 << 41;
const TIME_SHIFT: u32 = 44;

/// Which datagram a fragment belongs to (RFC 791, RFC 8200 section 4.5), on one hook, as a hash. The secret keeps senders from
/// aiming at others' datagrams.
#[must_use]
#[inline(always)]
pub fn key(packet: &Packet, hook: u32, secret: u64) -> u64 {
    // over IPv6 later fragments need not repeat it
    let protocol = if packet.version == 4 { packet.protocol } else { 0 };
    let rest = u64::from(packet.identification) | u64::from(hook) << 32 | u64::from(protocol) << 48;
    let mut key = secret ^ u64::from(packet.version);
    key = mix(key ^ packet.source[0]);
    key = mix(key ^ packet.source[1]);
    key = mix(key ^ packet.destination[0]);
    key = mix(key ^ packet.destination[1]);
    mix(key ^ rest)
}

/// What is to be remembered of a first fragment. `now` is the time in ns.
#[must_use]
#[inline(always)]
pub fn first(packet: &Packet, key: u64, is_loop: bool, now: u64) -> First {
    let ports = u64::from(packet.source_port) | u64::from(packet.destination_port) << 16;
    let flags = if is_loop { LOOP } else { 0 } | if packet.ported != 0 { PORTED } else { 0 };
    let value = ports | u64::from(packet.protocol) << PROTOCOL_SHIFT | flags | now >> 30 << TIME_SHIFT;
    First { check: key ^ value, value }
}

/// What a later fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// Of a datagram whose first fragment was seen, and has told its ports.
    Known,
    /// Of an outer packet of a mirror's.
    Loop,
    /// Of one whose first fragment was not seen, or is forgotten.
    Orphan,
}

/// Tells a later fragment what its first one has told.
#[must_use]
#[inline(always)]
pub fn follow(packet: &mut Packet, first: First, key: u64, now: u64) -> Kin {
    let First { check, value } = first;
    // two CPUs may have written one element at the same time
    let age = (now >> 30).wrapping_sub(value >> TIME_SHIFT) & ((1 << TIME_BITS) - 1);
    if check ^ value != key || age > LIFETIME {
        return Kin::Orphan;
    }
    if value & LOOP != 0 {
        return Kin::Loop;
    }
    packet.protocol = (value >> PROTOCOL_SHIFT) as u8;
    packet.source_port = value as u16;
    packet.destination_port = (value >> 16) as u16;
    packet.ported = (value >> 41 & 1) as u8;
    Kin::Known
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn fragment(version: u8, which: u8) -> Packet {
        Packet {
            source: [0x0a00_0001 << 32, 0],
            destination: [0x0a00_0002 << 32, 0],
            version,
            protocol: 17,
            fragment: which,
            identification: 77,
            ..Packet::default()
        }
    }

    fn leader(version: u8) -> Packet {
        Packet { ported: 1, source_port: 4000, destination_port: 443, ..fragment(version, Packet::FIRST) }
    }

    #[test]
    fn later_fragments_have_the_ports_of_the_first() {
        for version in [4, 6] {
            let key_of = |packet: &Packet| key(packet, 3, 5);
            let first = first(&leader(version), key_of(&leader(version)), false, 100 * SECOND);
            let mut later = fragment(version, Packet::LATER);
            let key = key_of(&later);
            assert_eq!(follow(&mut later, first, key, 120 * SECOND), Kin::Known);
            assert_eq!(later, Packet { fragment: Packet::LATER, ..leader(version) });
            assert_eq!(follow(&mut later, first, key, 140 * SECOND), Kin::Orphan);
        }
    }

    #[test]
    fn other_datagrams_are_told_apart() {
        let now = 100 * SECOND;
        let one = fragment(4, Packet::LATER);
        let others = [
            (Packet { identification: 78, ..one }, 3, 5),
            (Packet { protocol: 6, ..one }, 3, 5),
            (Packet { source: [1, 0], ..one }, 3, 5),
            (Packet { source: one.destination, destination: one.source, ..one }, 3, 5),
            (Packet { version: 6, ..one }, 3, 5),
            (one, 2, 5),
            (one, 3, 6),
        ];
        let first = first(&leader(4), key(&leader(4), 3, 5), false, now);
        for (mut other, hook, secret) in others {
            let key = key(&other, hook, secret);
            assert_eq!(follow(&mut other, first, key, now), Kin::Orphan, "{other:?}");
        }
    }

    #[test]
    fn what_two_have_written_at_once_is_of_nobody() {
        let (a, b) = (leader(4), Packet { identification: 78, ..leader(4) });
        let (key_a, key_b) = (key(&a, 0, 5), key(&b, 0, 5));
        let (one, other) = (first(&a, key_a, false, SECOND), first(&b, key_b, true, SECOND));
        let torn = First { check: one.check, value: other.value };
        for (packet, key) in [(a, key_a), (b, key_b)] {
            assert_eq!(follow(&mut packet.clone(), torn, key, SECOND), Kin::Orphan);
        }
    }

    #[test]
    fn the_time_may_wrap() {
        let then = (1 << 50) - 2 * SECOND;
        let mut later = fragment(4, Packet::LATER);
        let key = key(&later, 0, 0);
        let first = first(&leader(4), key, true, then);
        assert_eq!(follow(&mut later, first, key, then + 4 * SECOND), Kin::Loop);
    }
}
