//! What a server does not accept does not count here either.

use traffic_mirror::quic::{Flow, Malformed, Outcome};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::quic::{Client, Hello, crypto};

use crate::make::{NAME, client, named};

#[test]
fn a_damaged_packet_does_not_count() {
    let mut random = Random::new(14);
    let message = Hello::of(NAME).message(&mut random);
    let mut client = client(&mut random);
    let whole = client.datagram(&crypto(0, &message));
    for _ in 0..200 {
        // behind the IDs and the lengths, which make it another packet
        let bit = random.within(24 * 8, whole.len() as u64 * 8 - 1) as usize;
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut flow = Flow::default();
        assert_eq!(flow.datagram(&damaged), Outcome::Unopened, "bit {bit}");
        assert_eq!(flow.datagram(&whole), named(NAME));
    }
    let cut = &whole[..whole.len() - 1];
    assert_eq!(
        Flow::default().datagram(cut),
        Outcome::Malformed(Malformed::Header)
    );
}

#[test]
fn what_a_server_drops_does_not_count() {
    let mut random = Random::new(15);
    let message = Hello::of(NAME).message(&mut random);
    let whole = crypto(0, &message);
    let malformed = |reason| Outcome::Malformed(reason);
    let mut small = client(&mut random);
    assert_eq!(
        Flow::default().datagram(&small.initial(&whole)),
        malformed(Malformed::Small)
    );
    let mut reserved = Client {
        reserved: 1,
        ..client(&mut random)
    };
    assert_eq!(
        Flow::default().datagram(&reserved.datagram(&whole)),
        malformed(Malformed::Reserved)
    );
    // a STREAM frame behind the hello
    let stream = [&whole[..], &[8, 0, b'x']].concat();
    assert_eq!(
        Flow::default().datagram(&client(&mut random).datagram(&stream)),
        malformed(Malformed::Frame)
    );
    let other = crypto(0, &[2, 0, 0, 4, 1, 2, 3, 4]);
    assert_eq!(
        Flow::default().datagram(&client(&mut random).datagram(&other)),
        malformed(Malformed::Hello)
    );
    let mut crowded = client(&mut random);
    let pings: Vec<u8> = (0..4).flat_map(|_| crowded.initial(&[1; 20])).collect();
    let datagram = [pings, crowded.datagram(&whole)].concat();
    assert_eq!(
        Flow::default().datagram(&datagram),
        malformed(Malformed::Crowded)
    );
}

#[test]
fn contradictions_are_never_forgotten() {
    let mut random = Random::new(16);
    let message = Hello::of("innocuous.example.com").message(&mut random);
    let other = Hello::of("forbidden.example.com").message(&mut random);
    let mut client = client(&mut random);
    let mut flow = Flow::default();
    let parts = [&crypto(9, &message[9..])[..], &crypto(9, &other[9..])].concat();
    for frames in [&parts[..], &crypto(0, &message), &crypto(0, &other)] {
        assert_eq!(
            flow.datagram(&client.datagram(frames)),
            Outcome::Malformed(Malformed::Conflict)
        );
    }
}
