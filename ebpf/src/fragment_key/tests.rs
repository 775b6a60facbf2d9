use crate::fragment_key::*;
use crate::packet::Bytes;

const SECOND: u64 = 1_000_000_000;
const EMPTY: First = First { check: 0, value: 0 };
/// Where the first fragments here end, in units of 8 bytes.
const REACH: u32 = 3;

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
    Packet {
        ported: 1,
        source_port: 4000,
        destination_port: 443,
        ..fragment(version, Packet::FIRST)
    }
}

fn remember(place: First, packet: &Packet, now: u64) -> (First, Lookup) {
    first(place, packet, key(packet, 3, 5), REACH, false, now)
}

fn later(version: u8, place: First, begin: u32, now: u64) -> (First, Lookup, Packet) {
    let mut later = fragment(version, Packet::LATER);
    let (left, lookup) = follow(place, key(&later, 3, 5), begin, now);
    if lookup == Lookup::Known {
        tell(&mut later, left);
    }
    (left, lookup, later)
}

#[test]
fn later_fragments_have_the_ports_of_the_first() {
    for version in [4, 6] {
        let (place, lookup) = remember(EMPTY, &leader(version), 100 * SECOND);
        assert_eq!(lookup, Lookup::Known);
        let known = Packet {
            fragment: Packet::LATER,
            ..leader(version)
        };
        assert_eq!(
            later(version, place, REACH, 108 * SECOND),
            (place, Lookup::Known, known)
        );
        assert_eq!(later(version, place, REACH, 110 * SECOND).1, Lookup::Orphan);
    }
}

/// The kernel has thrown the first away, what was told by it waits, and another first comes before
/// the kernel has given up.
#[test]
fn a_first_is_compared_for_as_long_as_what_it_has_told_may_wait() {
    for (version, waits) in [(4, 30), (6, 60)] {
        // whatever part of a unit of time has gone by
        for begin in (100 * SECOND..102 * SECOND).step_by(50_000_000) {
            let (place, _) = remember(EMPTY, &leader(version), begin);
            let told = (0..20 * SECOND)
                .step_by(10_000_000)
                .map(|after| begin + after);
            let told = told
                .take_while(|&now| later(version, place, REACH, now).1 == Lookup::Known)
                .last()
                .unwrap();
            assert!(told > begin + 8 * SECOND);
            // and timers are late
            let last = told + waits * SECOND * 9 / 8;
            let other = Packet {
                destination_port: 9,
                ..leader(version)
            };
            assert_eq!(
                remember(place, &other, last).1,
                Lookup::Ambiguous,
                "{version} {begin} {told}"
            );
        }
    }
}

#[test]
fn other_datagrams_are_told_apart() {
    let now = 100 * SECOND;
    let one = fragment(4, Packet::LATER);
    let others = [
        (
            Packet {
                identification: 78,
                ..one
            },
            3,
            5,
        ),
        (Packet { protocol: 6, ..one }, 3, 5),
        (
            Packet {
                source: [1, 0],
                ..one
            },
            3,
            5,
        ),
        (
            Packet {
                source: one.destination,
                destination: one.source,
                ..one
            },
            3,
            5,
        ),
        (Packet { version: 6, ..one }, 3, 5),
        (one, 2, 5),
        (one, ANY_WAY, 5),
        (one, 3, 6),
    ];
    let (place, _) = remember(EMPTY, &leader(4), now);
    for (other, way, secret) in others {
        assert_eq!(
            follow(place, key(&other, way, secret), REACH, now),
            (place, Lookup::Orphan),
            "{other:?}"
        );
    }
}

#[test]
fn vlan_tags_are_a_part_of_the_way() {
    let secret = |inner: u8, priority: u8, offset| {
        let mut frame = [0; 60];
        frame[12..24].copy_from_slice(&[
            0x81,
            0,
            priority << 5,
            7,
            0x81,
            0,
            priority << 5,
            inner,
            8,
            0,
            0x45,
            inner,
        ]);
        secret_of_tags(
            &mut Bytes(&frame),
            &Packet {
                offset,
                ..leader(4)
            },
            5,
        )
    };
    assert_ne!(secret(8, 0, 22), secret(9, 0, 22));
    assert_eq!(secret(8, 0, 22), secret(8, 1, 22));
    assert_eq!((secret(8, 0, 14), secret(9, 0, 14)), (5, 5), "no tags");
    assert_eq!(secret(8, 0, 18), secret(9, 0, 18), "one tag");
}

#[test]
fn first_fragments_that_differ_are_ambiguous_and_stay_so() {
    for version in [4, 6] {
        let now = 100 * SECOND;
        let forgeries = [
            Packet {
                source_port: 9,
                ..leader(version)
            },
            Packet {
                destination_port: 9,
                ..leader(version)
            },
            Packet {
                protocol: 58,
                ported: 0,
                source_port: 0,
                destination_port: 0,
                ..leader(version)
            },
            Packet {
                unknown: Packet::PORTS,
                ported: 0,
                ..leader(version)
            },
        ];
        for forged in forgeries
            .into_iter()
            .filter(|forged| version == 6 || forged.protocol == 17)
        {
            for (one, other) in [(leader(version), forged), (forged, leader(version))] {
                let (place, is) = remember(EMPTY, &one, now);
                let (again, lookup) = remember(place, &one, now);
                assert_eq!((again, lookup), (place, is), "the same once more");
                let (place, lookup) = remember(again, &other, now);
                assert_eq!(lookup, Lookup::Ambiguous, "{forged:?}");
                let (place, lookup) = remember(place, &one, now);
                assert_eq!(lookup, Lookup::Ambiguous, "{forged:?}");
                assert_eq!(later(version, place, REACH, now).1, Lookup::Ambiguous);
                // the kernel has given up, and a new datagram may begin
                let (_, lookup) = remember(place, &leader(version), now + 80 * SECOND);
                assert_eq!(lookup, Lookup::Known);
            }
        }
        let (place, _) = remember(EMPTY, &leader(version), now);
        let longer = first(
            place,
            &leader(version),
            key(&leader(version), 3, 5),
            REACH + 1,
            false,
            now,
        );
        assert_eq!(longer.1, Lookup::Ambiguous, "one that is longer");
    }
}

#[test]
fn a_later_fragment_within_the_first_makes_all_ambiguous() {
    for version in [4, 6] {
        let now = 100 * SECOND;
        let (place, _) = remember(EMPTY, &leader(version), now);
        for begin in 0..REACH {
            // also when nothing more is told
            for now in [now, now + 20 * SECOND] {
                let (place, lookup, _) = later(version, place, begin, now);
                assert_eq!(lookup, Lookup::Ambiguous, "{begin}");
                assert_eq!(later(version, place, REACH, now).1, Lookup::Ambiguous);
                assert_eq!(remember(place, &leader(version), now).1, Lookup::Ambiguous);
            }
        }
        assert_eq!(later(version, place, REACH, now).1, Lookup::Known);
    }
}

#[test]
fn a_first_that_tells_nothing_leaves_the_later_ones_unparsed() {
    let now = SECOND;
    let cut = Packet {
        unknown: Packet::PORTS,
        ported: 0,
        source_port: 0,
        destination_port: 0,
        ..leader(4)
    };
    let doubtful = first(EMPTY, &leader(4), key(&leader(4), 3, 5), 0, false, now);
    for (place, lookup) in [remember(EMPTY, &cut, now), doubtful] {
        assert_eq!(lookup, Lookup::Unparsed);
        assert_eq!(
            later(4, place, REACH, now),
            (place, Lookup::Unparsed, fragment(4, Packet::LATER))
        );
        assert_eq!(remember(place, &leader(4), now).1, Lookup::Ambiguous);
    }
}

#[test]
fn a_place_in_use_stays_with_its_datagram() {
    let other = Packet {
        identification: 78,
        ..leader(4)
    };
    let other_key = key(&other, 3, 5) & !0xffff | key(&leader(4), 3, 5) & 0xffff;
    let (place, _) = remember(EMPTY, &leader(4), 100 * SECOND);
    let put = |now| first(place, &other, other_key, REACH, false, now);
    assert_eq!(put(130 * SECOND), (place, Lookup::Known));
    assert_ne!(put(147 * SECOND).0, place);
}

#[test]
fn what_two_have_written_at_once_is_of_nobody() {
    let (a, b) = (
        leader(4),
        Packet {
            identification: 78,
            ..leader(4)
        },
    );
    let (key_a, key_b) = (key(&a, 0, 5), key(&b, 0, 5));
    let put = |packet, key, is_loop| first(EMPTY, packet, key, REACH, is_loop, SECOND).0;
    let (one, other) = (put(&a, key_a, false), put(&b, key_b, true));
    let torn = First {
        check: one.check,
        value: other.value,
    };
    for key in [key_a, key_b] {
        assert_eq!(follow(torn, key, REACH, SECOND).1, Lookup::Orphan);
    }
}

#[test]
fn the_time_may_wrap() {
    let then = (1 << 49) - 2 * SECOND;
    let later = fragment(4, Packet::LATER);
    let key = key(&later, 0, 0);
    let (first, lookup) = first(EMPTY, &leader(4), key, REACH, true, then);
    assert_eq!(lookup, Lookup::Loop);
    assert_eq!(follow(first, key, REACH, then + 4 * SECOND).1, Lookup::Loop);
}

/// An IPv4 packet of 60 bytes, and what the parser says of it.
fn v4(which: u8, words: [u8; 2], stated: u16) -> ([u8; 60], Packet) {
    let mut bytes = [0; 60];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&stated.to_be_bytes());
    bytes[6..8].copy_from_slice(&words);
    let sum: u32 = bytes[..20]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    bytes[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    (
        bytes,
        Packet {
            transport: 20,
            length: stated,
            ..fragment(4, which)
        },
    )
}

#[test]
fn what_any_host_drops_is_known() {
    let (bytes, packet) = v4(Packet::FIRST, [0x20, 0], 60);
    let dropped =
        |bytes: &[u8], packet: &Packet| is_dropped(&mut Bytes(bytes), packet, bytes.len() as u32);
    assert!(!dropped(&bytes, &packet));
    let mut wrong = bytes;
    wrong[15] ^= 1;
    assert!(dropped(&wrong, &packet), "a wrong checksum");
    assert!(dropped(&bytes[..59], &packet), "less than it says");
    let v6 = Packet {
        length: 20,
        transport: 48,
        ..leader(6)
    };
    assert!(!dropped(&bytes, &v6) && dropped(&bytes[..59], &v6));
}

#[test]
fn a_first_that_the_kernel_may_drop_reaches_nowhere() {
    let v4 = |length, transport| {
        reach(&Packet {
            length,
            transport,
            ..leader(4)
        })
    };
    assert_eq!((v4(28, 20), v4(1500, 20), v4(65_532, 20)), (1, 185, 8189));
    assert_eq!(
        (v4(27, 20), v4(20, 20), v4(0, 20), v4(8, 20)),
        (0, 0, 0, 0),
        "no unit"
    );
    assert_eq!((v4(32, 24), v4(36, 28), v4(100, 60)), (0, 0, 0), "options");
    assert_eq!(v4(30, 20), 0, "a part of a unit");
    let v6 = |protocol, length, transport| {
        reach(&Packet {
            protocol,
            length,
            transport,
            ..leader(6)
        })
    };
    assert_eq!(
        (v6(17, 16, 48), v6(6, 32, 48), v6(17, 65_528, 48)),
        (1, 3, 8190)
    );
    assert_eq!((v6(17, 0, 48), v6(17, 8, 48), v6(17, 17, 48)), (0, 0, 0));
    assert_eq!((v6(6, 16, 48), v6(6, 24, 48)), (0, 0), "half a TCP header");
    assert_eq!((v6(17, 24, 56), v6(17, 48, 64)), (0, 0), "another header");
}

#[test]
fn a_later_fragment_begins_where_its_header_says() {
    let four = |words, stated| {
        let (bytes, packet) = v4(Packet::LATER, words, stated);
        begin(&mut Bytes(&bytes), &packet)
    };
    assert_eq!(
        (
            four([0x20, 5], 28),
            four([0, 5], 21),
            four([0x1f, 0xff], 28)
        ),
        (5, 5, 0x1fff)
    );
    assert_eq!(
        (four([0x20, 5], 27), four([0, 5], 20), four([0, 5], 0)),
        (0, 0, 0),
        "empty"
    );
    let six = |field: u16, length| {
        let mut bytes = [0; 64];
        bytes[50..52].copy_from_slice(&field.to_be_bytes());
        let packet = Packet {
            length,
            transport: 56,
            ..fragment(6, Packet::LATER)
        };
        begin(&mut Bytes(&bytes), &packet)
    };
    assert_eq!(
        (six(5 << 3 | 1, 24), six(5 << 3, 17), six(0xfff8, 17)),
        (5, 5, 0x1fff)
    );
    assert_eq!(
        (six(5 << 3 | 1, 23), six(5 << 3, 16), six(5 << 3, 0)),
        (0, 0, 0),
        "empty"
    );
}

#[test]
fn as_many_datagrams_as_there_are_places_stand_side_by_side() {
    let now = 100 * SECOND;
    let keys: [u64; PLACES as usize + 1] = core::array::from_fn(|nth| (nth as u64 + 1) << 40 | 77);
    let mut table = [EMPTY; MAX_FIRSTS];
    let at = |table: &[First], key, now| {
        place_of(key, now, |at| table.get(at as usize).copied()) as usize
    };
    for key in &keys {
        let place = at(&table, *key, now);
        table[place] = first(table[place], &leader(4), *key, REACH, false, now).0;
    }
    let lookup = |table: &[First], key, now| follow(table[at(table, key, now)], key, REACH, now).1;
    for key in &keys[..PLACES as usize] {
        assert_eq!(lookup(&table, *key, now), Lookup::Known);
    }
    let last = keys[PLACES as usize];
    assert_eq!(lookup(&table, last, now), Lookup::Orphan);
    let after = now + 80 * SECOND;
    let place = at(&table, last, after);
    table[place] = first(table[place], &leader(4), last, REACH, false, after).0;
    assert_eq!(lookup(&table, last, after), Lookup::Known);
}
