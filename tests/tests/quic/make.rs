//! Datagrams, and what is expected of them.

use traffic_mirror::quic::{Flow, Outcome};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::quic::{Client, Hello, crypto};

/// A server.
pub(crate) const NAME: &str = "cart.shop.example.com";

pub(crate) fn named(name: &str) -> Outcome {
    Outcome::Name {
        name: name.to_owned(),
        has_ech: false,
    }
}

pub(crate) fn client(random: &mut Random) -> Client {
    Client {
        source: random.bytes(5),
        ..Client::new(&random.bytes(8))
    }
}

pub(crate) fn post_quantum(random: &mut Random) -> Vec<u8> {
    let hello = Hello {
        is_post_quantum: true,
        ..Hello::of(NAME)
    };
    hello.message(random)
}

/// CRYPTO frames for the whole message, cut at `cuts` places, in any order, with PING and PADDING
/// among them.
pub(crate) fn frames(message: &[u8], cuts: usize, random: &mut Random) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = (0..cuts)
        .map(|_| random.within(1, message.len() as u64 - 1) as usize)
        .collect();
    at.extend([0, message.len()]);
    at.sort_unstable();
    let mut frames: Vec<Vec<u8>> = at
        .windows(2)
        .map(|range| {
            let frame = crypto(range[0], &message[range[0]..range[1]]);
            let behind = *random.pick(&[&[][..], &[1], &[0; 5], &[1, 0, 0]]);
            [&frame[..], behind].concat()
        })
        .collect();
    random.shuffle(&mut frames);
    frames
}

/// The frames in as many datagrams as they take.
pub(crate) fn datagrams(client: &mut Client, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut packed = vec![Vec::new()];
    for frame in frames {
        if packed.last().unwrap().len() + frame.len() > 1140 {
            packed.push(Vec::new());
        }
        packed.last_mut().unwrap().extend(frame);
    }
    packed
        .iter()
        .map(|frames| client.datagram(frames))
        .collect()
}

/// Asserts that the last datagram decides and none before it.
pub(crate) fn assert_last_decides(flow: &mut Flow, datagrams: &[Vec<u8>], expected: &Outcome) {
    let (last, before) = datagrams.split_last().unwrap();
    for datagram in before {
        assert_eq!(flow.datagram(datagram), Outcome::More);
    }
    assert_eq!(&flow.datagram(last), expected);
}
