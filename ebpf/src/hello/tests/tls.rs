use std::vec;
use std::vec::Vec;

use super::hellos::{Random, extension, message, record, records, samples, server_name, vector};
use super::{filled, found, nameless, oracle, reading, search, search_prefixes};
use crate::hello::{Outcome, Plain, tls};

#[test]
fn each_prefix_of_a_hello_waits_until_the_name_is_there() {
    for sample in samples() {
        let stream = record(&sample.message);
        let want = match sample.name {
            Some(name) => found(name, sample.ech),
            None => nameless(Outcome::NoName),
        };
        assert_eq!(search_prefixes(&stream), want, "{}", sample.what);
        // what a client sends behind it does not matter
        let more = [&stream[..], &[20, 3, 3, 0, 1, 1]].concat();
        assert_eq!(search(&more), want, "{}", sample.what);
    }
}

#[test]
fn samples_are_as_long_as_real_ones() {
    let bytes = |what| {
        let mut samples = samples().into_iter().filter(|sample| sample.what == what);
        record(&samples.next().unwrap().message).len()
    };
    assert_eq!(bytes("padded to 517 bytes"), 517);
    assert!(bytes("post-quantum") > 1700);
}

#[test]
fn records_of_any_size_are_joined() {
    for sample in samples() {
        let want = match sample.name {
            Some(name) => found(name, sample.ech),
            None => nameless(Outcome::NoName),
        };
        for bytes in [8, 16, 100, 511, 1400] {
            let stream = records(&sample.message, bytes);
            assert_eq!(search(&stream), want, "{} {bytes}", sample.what);
        }
    }
    for sample in &samples()[..6] {
        for bytes in [1, 2, 3, 5, 7, 8, 11, 64] {
            let stream = records(&sample.message, bytes);
            let at_the_end = search_prefixes(&stream);
            // the steps do not suffice for a long one in small records
            if sample.message.len() < 200 {
                assert_eq!(at_the_end.name.as_deref(), sample.name.map(str::as_bytes));
            }
        }
    }
}

#[test]
fn records_of_different_sizes_are_joined() {
    let mut random = Random(5);
    for sample in samples() {
        let (mut rest, mut stream) = (&sample.message[..], Vec::new());
        while !rest.is_empty() {
            let (content, behind) = rest.split_at((1 + random.below(200)).min(rest.len()));
            stream.extend(record(content));
            rest = behind;
        }
        let reading = search_prefixes(&stream);
        assert_eq!(reading.name.as_deref(), sample.name.map(str::as_bytes));
    }
}

/// The name that has arrived before counts.
#[test]
fn another_record_in_a_hello_ends_it() {
    let hello = message(&[], &[0, 0x2f], &[server_name(b"a.test"), vec![0; 20]]);
    for (at, other) in (5..hello.len()).map(|at| (at, [21, 3, 3, 0, 2, 1, 0])) {
        let stream = [record(&hello[..at]), other.to_vec(), record(&hello[at..])].concat();
        let reading = search_prefixes(&stream);
        let name_ends = hello.windows(6).position(|name| name == b"a.test").unwrap() + 6;
        let want = if at >= name_ends {
            found("a.test", false)
        } else {
            nameless(Outcome::Other)
        };
        assert_eq!(reading, want, "{at}");
    }
}

#[test]
fn a_message_without_records_is_read() {
    for sample in samples() {
        for have in 0..=sample.message.len() {
            let buffer = filled(&sample.message[..have], b"\x16\x03");
            let parsed = tls::message(&Plain, &buffer, 0, have as u32);
            let want = oracle::read_message(&sample.message[..have], 0);
            assert_eq!(reading(parsed, &buffer, have), want, "{have}");
        }
    }
}

fn of(extensions: &[Vec<u8>]) -> Vec<u8> {
    record(&message(&[], &[0x13, 1], extensions))
}

#[test]
fn names_that_no_server_accepts_are_none() {
    let entry = |kind: u8, name: &[u8]| [&[kind][..], &vector(2, name)].concat();
    let list = |entries: &[u8]| extension(0, &vector(2, entries));
    let cut = |bytes: usize| server_name(b"a.test")[4..4 + bytes].to_vec();
    let wrong = [
        extension(0, &[]),
        extension(0, &[0, 0]),
        extension(0, &cut(4)),
        extension(0, &cut(10)),
        list(&entry(1, b"a.test")),
        list(&entry(0, b"")),
        list(&entry(0, &[b'a'; 256])),
    ];
    for extension in wrong {
        assert_eq!(
            search_prefixes(&of(&[extension])),
            nameless(Outcome::NoName)
        );
    }
    // the message ends within the extension
    let mut stream = of(&[server_name(b"a.test")]);
    let length = stream.len() - 9 - 1;
    stream[8] = length as u8;
    assert_eq!(search_prefixes(&stream), nameless(Outcome::NoName));
}

#[test]
fn a_message_that_ends_early_has_no_name() {
    for bytes in 0..41 {
        let stream = record(&[&[1][..], &vector(3, &vec![0; bytes])].concat());
        assert_eq!(search_prefixes(&stream), nameless(Outcome::NoName));
    }
}

#[test]
fn the_longest_name_is_found() {
    let name = [b'a'; 255];
    let reading = search_prefixes(&of(&[server_name(&name)]));
    assert_eq!(reading.name.as_deref(), Some(&name[..]));
}

#[test]
fn the_first_of_two_names_counts() {
    let stream = of(&[server_name(b"a.test"), server_name(b"b.test")]);
    assert_eq!(search_prefixes(&stream), found("a.test", false));
}

/// Behind the name or before it.
#[test]
fn an_encrypted_hello_is_noticed() {
    let ech = extension(0xfe0d, &[0; 100]);
    let name = server_name(b"outer.test");
    for extensions in [[ech.clone(), name.clone()], [name, ech.clone()]] {
        assert_eq!(search(&of(&extensions)), found("outer.test", true));
    }
    let reading = search(&of(&[ech]));
    assert_eq!((reading.outcome, reading.ech), (Outcome::NoName, true));
}

#[test]
fn what_lies_behind_the_buffer_is_too_long() {
    let long = |bytes: usize| extension(0x15, &vec![0; bytes]);
    let hello = of(&[long(5000), server_name(b"a.test")]);
    // known as soon as the length is there
    let early = hello.windows(2).position(|b| b == [0, 0x15]).unwrap() + 4;
    assert_eq!(search(&hello[..early - 1]).outcome, Outcome::More);
    assert_eq!(search(&hello[..early]), nameless(Outcome::TooLong));
    assert_eq!(search(&hello), nameless(Outcome::TooLong));
    let first = of(&[server_name(b"a.test"), long(5000)]);
    assert_eq!(search(&first), found("a.test", false));
    // at the very end
    let fixed = of(&[long(0), server_name(b"a.test")]).len();
    for (bytes, outcome) in [(4096, Outcome::Found), (4097, Outcome::TooLong)] {
        let hello = of(&[long(bytes - fixed), server_name(b"a.test")]);
        assert_eq!((search(&hello).outcome, hello.len()), (outcome, bytes));
    }
    // of records as well
    let hello = message(&[], &[0x13, 1], &[long(5000), server_name(b"a.test")]);
    assert_eq!(search(&records(&hello, 1000)).outcome, Outcome::TooLong);
}

#[test]
fn more_extensions_than_are_read_are_too_long() {
    for (count, want) in [(127, Outcome::Found), (128, Outcome::TooLong)] {
        let mut extensions = vec![extension(0x1234, &[]); count];
        extensions.push(server_name(b"a.test"));
        assert_eq!(search_prefixes(&of(&extensions)).outcome, want, "{count}");
    }
}

#[test]
fn other_protocols_are_told_by_their_first_bytes() {
    let other: [&[u8]; 8] = [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[22, 2, 0, 0, 5, 1],
        &[22, 3, 1, 0, 5, 2],
        &[22, 3, 1, 0, 0, 1, 0, 0, 1],
        &[22, 3, 1, 0x40, 1, 1, 0, 0, 1],
        &[23, 3, 3, 0, 5],
        // a hello of SSL 2
        &[0x80, 0x2e, 1, 3, 1],
        b"\x13BitTorrent protocol",
    ];
    for stream in other {
        assert_eq!(search_prefixes(stream), nameless(Outcome::Other));
    }
}

/// Each byte of a hello as something else: no name but one that stands there, and both readers
/// agree.
#[test]
fn hostile_bytes_do_not_matter() {
    let mut random = Random(11);
    for sample in &samples()[..6] {
        let stream = record(&sample.message);
        for at in 0..stream.len().min(300) {
            for byte in [0, 1, 0xff, stream[at] ^ 0x80, stream[at].wrapping_add(1)] {
                let mut stream = stream.clone();
                stream[at] = byte;
                let have = random.below(stream.len());
                let early = search(&stream[..have]);
                assert_eq!(early, oracle::read(&stream[..have]));
                let whole = search(&stream);
                assert_eq!(whole, oracle::read(&stream));
                super::assert_final(&early, &whole);
            }
        }
    }
}
