//! What is remembered of a datagram's first fragment, which alone has ports, for the later ones. Input: fragments. Output:
//! what filters are to be told of them. Must not know: maps, the clock.
//!
//! Whoever sends the first fragment chooses the ports, and a receiver takes the one that comes first and drops what overlaps
//! (`inet_frag_queue_insert`). So one that differs from another never takes its place: the datagram becomes ambiguous.

use crate::abi::First;
use crate::packet::{Packet, mix};

/// How long a first fragment is remembered, in units of 2^30 ns: as long as Linux waits for the rest of an IPv4 datagram
/// (`IP_FRAG_TIME`) and of an IPv6 one (`IPV6_FRAG_TIMEOUT`).
const LIFETIME: [u64; 2] = [28, 57];
/// Offsets of fragments are in units of so many bytes (RFC 791).
const UNIT_BYTES: u32 = 8;
/// Bits of the time that are kept: a week.
const TIME_BITS: u32 = 19;

const PROTOCOL_SHIFT: u32 = 32;
const LOOP: u64 = 1 << 40;
const PORTED_SHIFT: u32 = 41;
/// First fragments that differ.
const AMBIGUOUS: u64 = 1 << 42;
/// A first fragment that cannot be read up to its ports.
const UNPARSED: u64 = 1 << 43;
const IPV6_SHIFT: u32 = 44;
const TIME_SHIFT: u32 = 45;
const TOLD: u64 = (1 << TIME_SHIFT) - 1;

/// What stands for every way in [`key`].
pub const ANY_WAY: u32 = u32::MAX;

/// Which datagram a fragment belongs to (RFC 791, RFC 8200 section 4.5), on one way, as a hash. The secret keeps senders from
/// aiming at others' datagrams.
#[must_use]
#[inline(always)]
pub fn key(packet: &Packet, way: u32, secret: u64) -> u64 {
    // over IPv6 later fragments need not repeat it
    let protocol = if packet.version == 4 { packet.protocol } else { 0 };
    let mut key = secret ^ u64::from(packet.version) ^ u64::from(protocol) << 8;
    key = mix(key ^ packet.source[0]);
    key = mix(key ^ packet.source[1]);
    key = mix(key ^ packet.destination[0]);
    key = mix(key ^ packet.destination[1]);
    mix(key ^ (u64::from(packet.identification) | u64::from(way) << 32))
}

/// What a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// One whose ports are known, be it from its first fragment.
    Known,
    /// Of an outer packet of a mirror's.
    Loop,
    /// A later one whose first was not seen, or is forgotten.
    Orphan,
    /// Of a datagram of which several first fragments were seen that differ.
    Ambiguous,
    /// A later one whose first cannot be read up to its ports.
    Unparsed,
}

/// What `place` is to hold once a first fragment was seen, and what that is. `now` is the time in ns.
///
/// A place that is in use for another datagram stays so: a flood makes orphans of those who come later, and nobody is
/// forgotten for it.
#[must_use]
#[inline(always)]
pub fn first(place: First, packet: &Packet, key: u64, is_loop: bool, now: u64) -> (First, Kin) {
    let (mut told, mut kin) = (telling(packet, is_loop), if is_loop { Kin::Loop } else { Kin::Known });
    if is_live(place, now) {
        if place.check ^ place.value != key {
            return (place, kin);
        }
        if place.value & TOLD != told {
            told = AMBIGUOUS | u64::from(packet.version == 6) << IPV6_SHIFT;
            kin = Kin::Ambiguous;
        }
    }
    let value = told | now >> 30 << TIME_SHIFT;
    (First { check: key ^ value, value }, kin)
}

/// What a first fragment tells the later ones.
#[inline(always)]
fn telling(packet: &Packet, is_loop: bool) -> u64 {
    let version = u64::from(packet.version == 6) << IPV6_SHIFT;
    if packet.unknown != 0 {
        return UNPARSED | version;
    }
    let ports = u64::from(packet.source_port) | u64::from(packet.destination_port) << 16;
    let flags = if is_loop { LOOP } else { 0 } | u64::from(packet.ported & 1) << PORTED_SHIFT;
    ports | u64::from(packet.protocol) << PROTOCOL_SHIFT | flags | version
}

#[inline(always)]
fn is_live(First { check, value }: First, now: u64) -> bool {
    let age = (now >> 30).wrapping_sub(value >> TIME_SHIFT) & ((1 << TIME_BITS) - 1);
    check | value != 0 && age <= LIFETIME[(value >> IPV6_SHIFT & 1) as usize]
}

/// Tells a later fragment what its first one has told, or that nobody knows.
#[must_use]
#[inline(always)]
pub fn follow(packet: &mut Packet, first: First, key: u64, now: u64) -> Kin {
    let First { check, value } = first;
    // two CPUs may have written one element at the same time
    let kin = if check ^ value != key || !is_live(first, now) {
        Kin::Orphan
    } else if value & AMBIGUOUS != 0 {
        Kin::Ambiguous
    } else if value & UNPARSED != 0 {
        Kin::Unparsed
    } else if value & LOOP != 0 {
        return Kin::Loop;
    } else {
        packet.protocol = (value >> PROTOCOL_SHIFT) as u8;
        packet.source_port = value as u16;
        packet.destination_port = (value >> 16) as u16;
        packet.ported = (value >> PORTED_SHIFT & 1) as u16;
        return Kin::Known;
    };
    packet.forget_ports();
    kin
}

/// Whether the kernel drops an IPv4 fragment with this header because of its checksum (`ip_rcv_core`), or one of either version
/// because it is longer than the `bytes` that there are of it. What it drops tells later fragments nothing.
#[must_use]
#[inline(always)]
pub fn is_dropped(packet: &Packet, header_sum: u32, bytes: u32) -> bool {
    let folded = (header_sum & 0xffff) + (header_sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    // of what is not the last of a datagram the kernel takes whole units, and nothing of one that has none
    let headers = packet.transport.wrapping_sub(packet.offset) as u32;
    let stated = packet.ip_bytes();
    let is_empty = stated != 0 && stated < headers + UNIT_BYTES;
    packet.version == 4 && folded != 0xffff || stated > bytes || is_empty
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const EMPTY: First = First { check: 0, value: 0 };

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

    fn remember(place: First, packet: &Packet, now: u64) -> (First, Kin) {
        first(place, packet, key(packet, 3, 5), false, now)
    }

    fn later(version: u8, place: First, now: u64) -> (Kin, Packet) {
        let mut later = fragment(version, Packet::LATER);
        let key = key(&later, 3, 5);
        (follow(&mut later, place, key, now), later)
    }

    #[test]
    fn later_fragments_have_the_ports_of_the_first() {
        for (version, kept, gone) in [(4, 130, 135), (6, 160, 165)] {
            let (place, kin) = remember(EMPTY, &leader(version), 100 * SECOND);
            assert_eq!(kin, Kin::Known);
            let known = Packet { fragment: Packet::LATER, ..leader(version) };
            assert_eq!(later(version, place, kept * SECOND), (Kin::Known, known));
            assert_eq!(later(version, place, gone * SECOND).0, Kin::Orphan);
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
            (one, ANY_WAY, 5),
            (one, 3, 6),
        ];
        let (place, _) = remember(EMPTY, &leader(4), now);
        for (mut other, way, secret) in others {
            let key = key(&other, way, secret);
            assert_eq!(follow(&mut other, place, key, now), Kin::Orphan, "{other:?}");
        }
    }

    #[test]
    fn first_fragments_that_differ_are_ambiguous_and_stay_so() {
        for version in [4, 6] {
            let now = 100 * SECOND;
            let forgeries = [
                Packet { source_port: 9, ..leader(version) },
                Packet { destination_port: 9, ..leader(version) },
                Packet { protocol: 58, ported: 0, source_port: 0, destination_port: 0, ..leader(version) },
                Packet { unknown: Packet::PORTS, ported: 0, ..leader(version) },
            ];
            for forged in forgeries.into_iter().filter(|forged| version == 6 || forged.protocol == 17) {
                for (one, other) in [(leader(version), forged), (forged, leader(version))] {
                    let (place, _) = remember(EMPTY, &one, now);
                    let (again, kin) = remember(place, &one, now);
                    assert_eq!((again, kin), (place, Kin::Known), "the same once more");
                    let (place, kin) = remember(again, &other, now);
                    assert_eq!(kin, Kin::Ambiguous, "{forged:?}");
                    let (place, kin) = remember(place, &one, now);
                    assert_eq!(kin, Kin::Ambiguous, "{forged:?}");
                    let (kin, packet) = later(version, place, now);
                    let unknown = if version == 6 { Packet::PORTS | Packet::PROTOCOL } else { Packet::PORTS };
                    assert_eq!((kin, packet.unknown, packet.ported), (Kin::Ambiguous, unknown, 0));
                    // the kernel has given up, and a new datagram may begin
                    let (_, kin) = remember(place, &other, now + 70 * SECOND);
                    assert_eq!(kin, Kin::Known);
                }
            }
        }
    }

    #[test]
    fn what_the_first_does_not_tell_is_unknown_of_the_later_ones() {
        let cut = Packet { unknown: Packet::PORTS, ported: 0, source_port: 0, destination_port: 0, ..leader(4) };
        let (place, _) = remember(EMPTY, &cut, SECOND);
        let (kin, packet) = later(4, place, SECOND);
        assert_eq!((kin, packet.unknown), (Kin::Unparsed, Packet::PORTS));
        let icmp = |which| Packet { protocol: 1, ..fragment(4, which) };
        let mut orphan = icmp(Packet::LATER);
        let key = key(&orphan, 3, 5);
        assert_eq!(follow(&mut orphan, EMPTY, key, SECOND), Kin::Orphan);
        assert_eq!(orphan, icmp(Packet::LATER), "ICMP has no ports that could be unknown");
    }

    #[test]
    fn a_place_in_use_stays_with_its_datagram() {
        let other = Packet { identification: 78, ..leader(4) };
        let (place, _) = remember(EMPTY, &leader(4), 100 * SECOND);
        assert_eq!(remember(place, &other, 120 * SECOND), (place, Kin::Known));
        assert_ne!(remember(place, &other, 140 * SECOND).0, place);
    }

    #[test]
    fn what_two_have_written_at_once_is_of_nobody() {
        let (a, b) = (leader(4), Packet { identification: 78, ..leader(4) });
        let (key_a, key_b) = (key(&a, 0, 5), key(&b, 0, 5));
        let (one, other) = (first(EMPTY, &a, key_a, false, SECOND).0, first(EMPTY, &b, key_b, true, SECOND).0);
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
        let (first, kin) = first(EMPTY, &leader(4), key, true, then);
        assert_eq!(kin, Kin::Loop);
        assert_eq!(follow(&mut later, first, key, then + 4 * SECOND), Kin::Loop);
    }

    #[test]
    fn what_the_kernel_drops_is_known() {
        let sum = |packet: &Packet, header_sum, bytes| is_dropped(packet, header_sum, bytes);
        let v4 = Packet { length: 100, ..leader(4) };
        assert!(!sum(&v4, 0xffff, 100) && !sum(&v4, 0x2_fffd, 114));
        assert!(sum(&v4, 0xfffe, 100) && sum(&v4, 0, 100) && sum(&v4, 0xffff, 99));
        let v6 = Packet { length: 60, ..leader(6) };
        assert!(!sum(&v6, 0, 100) && sum(&v6, 0, 99));
    }
}
