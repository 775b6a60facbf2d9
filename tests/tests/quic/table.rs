//! Many flows.

use std::time::Duration;

use traffic_mirror::quic::{Outcome, Table};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::quic::crypto;

use crate::make::{NAME, client, named, post_quantum};

#[test]
fn a_table_forgets_the_oldest_and_what_takes_too_long() {
    let mut random = Random::new(19);
    let message = post_quantum(&mut random);
    let mut halves = || {
        let mut client = client(&mut random);
        [
            client.datagram(&crypto(0, &message[..20])),
            client.datagram(&crypto(20, &message[20..])),
        ]
    };
    let flows: Vec<[Vec<u8>; 2]> = (0..5).map(|_| halves()).collect();
    let seconds = Duration::from_secs;
    let mut table = Table::new(3, seconds(10));
    for (id, [first, _]) in (0..).zip(&flows) {
        assert_eq!(table.datagram(id, seconds(id), first), Outcome::More);
    }
    let counts = table.counts();
    assert_eq!((table.len(), counts.evicted, counts.more), (3, 2, 5));
    // 0 and 1 have gone
    assert_eq!(table.datagram(0, seconds(5), &[0x41; 9]), Outcome::NotQuic);
    assert_eq!(table.datagram(2, seconds(5), &[0x41; 9]), Outcome::More);
    assert_eq!(table.datagram(2, seconds(5), &flows[2][1]), named(NAME));
    assert_eq!((table.len(), table.counts().names), (2, 1));
    // 3 began ten seconds ago, 4 nine
    table.expire(seconds(13));
    assert_eq!((table.len(), table.counts().expired), (1, 1));
    assert_eq!(table.datagram(4, seconds(13), &flows[4][1]), named(NAME));
    assert!(table.is_empty());
    // what decides at once, or cannot be opened, is never kept
    let whole = [&flows[0][0][..], &flows[0][1]].concat();
    assert_eq!(table.datagram(6, seconds(14), &whole), named(NAME));
    let mut damaged = flows[1][0].clone();
    damaged[900] ^= 1;
    assert_eq!(table.datagram(7, seconds(14), &damaged), Outcome::Unopened);
    assert!(table.is_empty());
    assert_eq!((table.counts().unopened, table.counts().not_quic), (1, 1));
}
