//! Whose keys open a packet, and what else comes in a flow.

use traffic_mirror::quic::{Flow, Outcome};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::quic::{Client, DATAGRAM_BYTES, Hello, ONE, TWO, crypto};

use crate::make::{NAME, assert_last_decides, client, named, post_quantum};

/// RFC 9001, section 5.2: the keys stay when the server has chosen another ID.
#[test]
fn the_keys_are_those_of_the_first_id() {
    let mut random = Random::new(6);
    for (id, source) in [(4, 5), (20, 0), (0, 5), (8, 20)] {
        let mut client = client(&mut random);
        client.source = random.bytes(source);
        let message = post_quantum(&mut random);
        // without the last bytes, nothing that ends in them is read
        let first = client.datagram(&crypto(20, &message[20..1000]));
        client.destination = random.bytes(id);
        let rest = [
            &crypto(0, &message[..20])[..],
            &crypto(1000, &message[1000..]),
        ]
        .concat();
        let second = client.datagram(&rest);
        assert_last_decides(
            &mut Flow::default(),
            &[first.clone(), second.clone()],
            &named(NAME),
        );
        let mut other = Flow::default();
        assert_eq!(other.datagram(&second), Outcome::Unopened);
        assert!(!other.has_begun());
    }
}

/// RFC 9000, section 17.2.5.2; RFC 9001, section 5.2: after a Retry packet the keys follow from the
/// ID in it, and the hello comes again.
#[test]
fn a_retry_begins_anew() {
    let mut random = Random::new(7);
    let message = post_quantum(&mut random);
    let mut first = client(&mut random);
    let mut flow = Flow::default();
    assert_eq!(
        flow.datagram(&first.datagram(&crypto(0, &message[..20]))),
        Outcome::More
    );
    let mut retry = vec![0xf0, 0, 0, 0, 1, 5];
    retry.extend(&first.source);
    retry.extend([3, 1, 2, 3]);
    retry.extend(random.bytes(40));
    assert_eq!(flow.datagram(&retry), Outcome::Retry);
    let mut second = Client {
        keys_of: vec![1, 2, 3],
        destination: vec![1, 2, 3],
        token: random.bytes(24),
        number: first.number,
        ..first.clone()
    };
    let datagrams = [
        second.datagram(&crypto(1000, &message[1000..])),
        second.datagram(&crypto(0, &message[..1000])),
    ];
    assert_last_decides(&mut flow, &datagrams, &named(NAME));
    // a late one of the first round is still read
    assert_eq!(
        flow.datagram(&first.datagram(&crypto(20, &message[20..]))),
        named(NAME)
    );
}

/// RFC 9000, section 7.2: without a token, an ID of fewer than eight bytes begins nothing.
#[test]
fn a_short_id_begins_nothing() {
    let mut random = Random::new(8);
    let message = Hello::of(NAME).message(&mut random);
    let mut client = Client::new(&[7; 7]);
    let datagram = client.datagram(&crypto(0, &message));
    assert_eq!(Flow::default().datagram(&datagram), Outcome::Unopened);
}

#[test]
fn two_connections_of_one_port_do_not_mix() {
    let mut random = Random::new(9);
    let mut datagrams = Vec::new();
    for name in ["one.example.com", "two.example.com"] {
        let hello = Hello {
            is_post_quantum: true,
            ..Hello::of(name)
        };
        let message = hello.message(&mut random);
        let mut client = client(&mut random);
        datagrams.push([
            client.datagram(&crypto(0, &message[..20])),
            client.datagram(&crypto(20, &message[20..])),
        ]);
    }
    let mut flow = Flow::default();
    for datagram in [&datagrams[0][0], &datagrams[1][0]] {
        assert_eq!(flow.datagram(datagram), Outcome::More);
    }
    assert_eq!(flow.datagram(&datagrams[0][1]), named("one.example.com"));
    assert_eq!(flow.datagram(&datagrams[1][1]), named("two.example.com"));
}

#[test]
fn early_data_beside_the_hello() {
    let mut random = Random::new(10);
    for version in [ONE, TWO] {
        let message = Hello::of(NAME).message(&mut random);
        let mut client = Client {
            version,
            ..client(&mut random)
        };
        let early = client.long(1, &random.bytes(500));
        let other = Client::new(&[9; 8]).long(1, &random.bytes(50));
        let initial = client.initial(&crypto(0, &message));
        let padding = vec![0; 400];
        for parts in [
            [&initial[..], &early, &[]],
            [&early[..], &initial, &padding],
            [&early[..], &other, &initial],
        ] {
            let mut datagram = parts.concat();
            datagram.resize(datagram.len().max(DATAGRAM_BYTES), 0);
            assert_eq!(Flow::default().datagram(&datagram), named(NAME));
        }
        assert_eq!(Flow::default().datagram(&early), Outcome::More);
        // RFC 9000, section 12.2: sent to another connection
        let mixed = [other, client.datagram(&crypto(0, &message))].concat();
        assert_eq!(Flow::default().datagram(&mixed), Outcome::More);
    }
}

#[test]
fn what_the_server_sends_decides_nothing() {
    let mut random = Random::new(11);
    let message = post_quantum(&mut random);
    let mut client = client(&mut random);
    let mut flow = Flow::default();
    let first = client.datagram(&crypto(20, &message[20..]));
    assert_eq!(flow.datagram(&first), Outcome::More);
    // it goes to the client's ID, under keys that are not the client's
    let mut server = Client {
        keys_of: random.bytes(8),
        destination: client.source.clone(),
        source: random.bytes(8),
        ..client.clone()
    };
    let answer = server.datagram(&crypto(0, &[2, 0, 0, 90]));
    assert_eq!(flow.datagram(&answer), Outcome::More);
    let acknowledgement = server.initial(&[2, 0, 0, 0, 0]);
    assert_eq!(flow.datagram(&acknowledgement), Outcome::More);
    assert_eq!(flow.datagram(&[0x41; 50]), Outcome::More);
    assert_eq!(
        flow.datagram(&client.datagram(&crypto(0, &message[..20]))),
        named(NAME)
    );
    assert_eq!(Flow::default().datagram(&answer), Outcome::Unopened);
}

#[test]
fn other_versions_and_what_is_not_quic() {
    let mut random = Random::new(12);
    let message = Hello::of(NAME).message(&mut random);
    let mut client = client(&mut random);
    let mut unknown = Client {
        version: 0x1a2a_3a4a,
        ..client.clone()
    }
    .long(0, &[7; 1180]);
    let mut flow = Flow::default();
    assert_eq!(flow.datagram(&unknown), Outcome::Version(0x1a2a_3a4a));
    let mut negotiation = vec![0x80, 0, 0, 0, 0, 5];
    negotiation.extend(&client.source);
    negotiation.push(8);
    negotiation.extend(&client.destination);
    negotiation.extend(ONE.to_be_bytes());
    assert_eq!(flow.datagram(&negotiation), Outcome::VersionNegotiation);
    assert_eq!(
        flow.datagram(&client.datagram(&crypto(0, &message))),
        named(NAME)
    );
    // RFC 9000, section 5.2.2: nothing begins in so short a datagram
    unknown.truncate(DATAGRAM_BYTES - 1);
    assert_eq!(Flow::default().datagram(&unknown), Outcome::NotQuic);
    for other in [&[][..], &[0; 12], &[0x16, 0xfe, 0xfd], &[0xff; 40]] {
        assert_eq!(Flow::default().datagram(other), Outcome::NotQuic);
    }
}

/// RFC 9369, section 4.1.
#[test]
fn the_version_may_change_in_the_handshake() {
    let mut random = Random::new(13);
    let message = post_quantum(&mut random);
    let mut client = client(&mut random);
    let first = client.datagram(&crypto(0, &message[..20]));
    client.version = TWO;
    client.destination = random.bytes(8);
    let second = client.datagram(&crypto(20, &message[20..]));
    assert_last_decides(&mut Flow::default(), &[first, second], &named(NAME));
}

#[test]
fn packet_numbers_are_completed_from_earlier_ones() {
    let mut random = Random::new(18);
    let message = post_quantum(&mut random);
    let mut client = client(&mut random);
    let cuts = [0, 20, 40, 60, message.len()];
    // in one byte each; the last is 94 there, which is next to nothing but the one before
    let datagrams = [3, 2, 1, 0].map(|piece| {
        client.number = [350, 230, 100, 10][piece];
        let (from, to) = (cuts[piece], cuts[piece + 1]);
        client.datagram(&crypto(from, &message[from..to]))
    });
    assert_last_decides(&mut Flow::default(), &datagrams, &named(NAME));
}
