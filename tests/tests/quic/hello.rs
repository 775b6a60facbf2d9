//! ClientHellos in one Initial and in several.

use traffic_mirror::quic::{Flow, Outcome};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::quic::{DATAGRAM_BYTES, Hello, ONE, TWO, crypto};

use crate::make::{NAME, assert_last_decides, client, datagrams, frames, named, post_quantum};

#[test]
fn a_hello_in_one_initial() {
    let mut random = Random::new(1);
    for version in [ONE, TWO] {
        let mut client = client(&mut random);
        client.version = version;
        let message = Hello::of(NAME).message(&mut random);
        let datagram = client.datagram(&crypto(0, &message));
        assert_eq!(datagram.len(), DATAGRAM_BYTES);
        assert_eq!(Flow::default().datagram(&datagram), named(NAME));
    }
}

#[test]
fn names_and_what_stands_in_their_place() {
    let mut random = Random::new(2);
    let ech = Hello {
        has_ech: true,
        ..Hello::of(NAME)
    };
    let secret = Hello {
        name: None,
        ..ech.clone()
    };
    let with_ech = Outcome::Name {
        name: NAME.to_owned(),
        has_ech: true,
    };
    for (hello, expected) in [
        (Hello::of("Cart.Example.COM"), named("Cart.Example.COM")),
        (Hello::of(&"a".repeat(255)), named(&"a".repeat(255))),
        (ech, with_ech),
        (secret, Outcome::Ech),
        (Hello::default(), Outcome::NoName),
        (Hello::of("two words"), Outcome::NoName),
    ] {
        let message = hello.message(&mut random);
        let datagram = client(&mut random).datagram(&crypto(0, &message));
        assert_eq!(Flow::default().datagram(&datagram), expected, "{hello:?}");
    }
}

#[test]
fn frames_in_any_order_in_one_initial() {
    let mut random = Random::new(3);
    for _ in 0..100 {
        let message = Hello::of(NAME).message(&mut random);
        let frames = frames(&message, 7, &mut random).concat();
        let datagram = client(&mut random).datagram(&frames);
        assert_eq!(Flow::default().datagram(&datagram), named(NAME));
    }
}

#[test]
fn post_quantum_hellos_over_several_initials_in_any_order_and_repeated() {
    let mut random = Random::new(4);
    for round in 0..200 {
        let message = post_quantum(&mut random);
        assert!(message.len() > 1300);
        let cuts = random.within(2, 9) as usize;
        let frames = frames(&message, cuts, &mut random);
        let mut datagrams = datagrams(&mut client(&mut random), &frames);
        assert!(datagrams.len() >= 2);
        let again = random.pick(&datagrams).clone();
        datagrams.push(again);
        random.shuffle(&mut datagrams);
        let mut flow = Flow::default();
        let outcomes: Vec<Outcome> = datagrams
            .iter()
            .map(|datagram| flow.datagram(datagram))
            .collect();
        let first = outcomes.iter().position(Outcome::is_decided);
        let first = first.unwrap_or_else(|| panic!("round {round}: {outcomes:?}"));
        assert_eq!(outcomes[first], named(NAME));
        assert!(
            outcomes[..first].iter().all(|it| *it == Outcome::More),
            "{outcomes:?}"
        );
    }
}

#[test]
fn a_hello_over_three_initials_is_decided_by_the_last() {
    let mut random = Random::new(5);
    let message = Hello {
        padding: 1000,
        ..Hello::of(NAME)
    };
    let message = message.message(&mut random);
    // the name is in a piece that comes last
    let at = message
        .windows(NAME.len())
        .position(|window| window == NAME.as_bytes())
        .unwrap();
    let cuts = [0, at + 3, at + 5, message.len()];
    for order in [[0, 2, 1], [2, 0, 1]] {
        let mut client = client(&mut random);
        let datagrams = order.map(|piece| {
            let (from, to) = (cuts[piece], cuts[piece + 1]);
            client.datagram(&crypto(from, &message[from..to]))
        });
        assert_last_decides(&mut Flow::default(), &datagrams, &named(NAME));
    }
}

#[test]
fn hellos_that_are_too_long() {
    let mut random = Random::new(17);
    // the name is behind the padding, or before it
    let (mut before, mut behind) = (0, 0);
    for _ in 0..40 {
        let hello = Hello {
            padding: 4096,
            ..Hello::of(NAME)
        };
        let message = hello.message(&mut random);
        let at = message
            .windows(NAME.len())
            .position(|window| window == NAME.as_bytes())
            .unwrap();
        let mut client = client(&mut random);
        let mut flow = Flow::default();
        let outcomes: Vec<Outcome> = message
            .chunks(1100)
            .enumerate()
            .map(|(index, chunk)| flow.datagram(&client.datagram(&crypto(1100 * index, chunk))))
            .collect();
        let decided = outcomes.into_iter().find(Outcome::is_decided).unwrap();
        if at + NAME.len() <= 4096 {
            before += 1;
            assert_eq!(decided, named(NAME));
        } else {
            behind += 1;
            assert_eq!(decided, Outcome::TooLong);
        }
    }
    assert!(before > 0 && behind > 0);
}
