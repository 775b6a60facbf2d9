//! Whatever comes, nothing panics.

use std::time::Duration;

use traffic_mirror::quic::{Flow, Table};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::quic::{DATAGRAM_BYTES, ONE, TWO, crypto};

use crate::make::client;

/// Whatever comes, nothing panics; and what is not sealed by a client decides nothing.
#[test]
fn random_bytes() {
    let mut random = Random::new(20);
    let mut table = Table::new(4, Duration::from_secs(1));
    for round in 0..50_000_u64 {
        let bytes = if random.percent(50) {
            0
        } else {
            DATAGRAM_BYTES
        } + random.below(200) as usize;
        let mut payload = random.bytes(bytes);
        // often the beginning of a long header, with IDs of any length
        let version = *random.pick(&[0, ONE, TWO, 7]);
        let id_bytes = *random.pick(&[8, 0, 20, 21, 255]);
        let id = random.bytes(id_bytes);
        let mut head = vec![0xc0 | random.bits() as u8];
        head.extend(version.to_be_bytes());
        head.push(id.len() as u8);
        head.extend(&id);
        head.extend([0, 0].get(..random.below(3) as usize).unwrap_or_default());
        if random.percent(80) && payload.len() > head.len() {
            payload[..head.len()].copy_from_slice(&head);
        }
        let outcome = table.datagram(round % 9, Duration::from_millis(round), &payload);
        assert!(!outcome.is_decided(), "{outcome:?}");
    }
    assert!(table.is_empty());
    let counts = table.counts();
    assert!(
        counts.malformed > 1000 && counts.not_quic > 1000,
        "{counts:?}"
    );
    assert!(counts.unopened > 10 && counts.more > 10, "{counts:?}");
}

/// As [`random_bytes`], behind the seal: any frames in any number of Initials.
#[test]
fn random_frames() {
    let mut random = Random::new(21);
    let mut decided = 0;
    for _ in 0..5_000 {
        let mut flow = Flow::default();
        let mut client = client(&mut random);
        let message = [&[1, 0, 0, 70][..], &random.bytes(90)].concat();
        for _ in 0..3 {
            let mut frames = Vec::new();
            for _ in 0..random.below(6) {
                let from = random.below(80) as usize;
                let to = (from + random.below(60) as usize).min(message.len());
                frames.extend(match random.below(40) {
                    0 => random.bytes(to - from),
                    1..5 => vec![*random.pick(&[0, 1, 2, 3, 0x1c])],
                    5 => crypto(from, &random.bytes(to - from)),
                    6..14 => crypto(0, &message[..to]),
                    _ => crypto(from, &message[from..to]),
                });
            }
            decided += u32::from(flow.datagram(&client.datagram(&frames)).is_decided());
        }
    }
    assert!(decided > 25, "{decided}");
}
