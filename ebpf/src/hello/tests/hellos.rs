//! ClientHellos as the stacks of today and of yesterday send them, and requests.

use std::string::String;
use std::vec;
use std::vec::Vec;

use crate::packet::mix;

/// Reproducible random numbers.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// A vector with a length of so many bytes before it (RFC 8446 section 3.4).
pub(super) fn vector(width: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&length[4 - width..], content].concat()
}

pub(super) fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, content)].concat()
}

/// `server_name` with one host name.
pub(super) fn server_name(name: &[u8]) -> Vec<u8> {
    let entry = [&[0][..], &vector(2, name)].concat();
    extension(0, &vector(2, &entry))
}

/// A handshake message.
pub(super) fn message(session_id: &[u8], suites: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[0x5a; 32],
        &vector(1, session_id),
        &vector(2, suites),
        &[1, 0],
        &vector(2, &extensions.concat()),
    ];
    [&[1][..], &vector(3, &body.concat())].concat()
}

/// A record, or several of so many bytes each.
pub(super) fn records(message: &[u8], bytes: usize) -> Vec<u8> {
    message
        .chunks(bytes)
        .flat_map(|content| [&[22, 3, 1][..], &vector(2, content)].concat())
        .collect()
}

pub(super) fn record(message: &[u8]) -> Vec<u8> {
    records(message, message.len())
}

/// A hello, and what it is like.
pub(super) struct Sample {
    pub(super) what: &'static str,
    pub(super) message: Vec<u8>,
    pub(super) name: Option<&'static str>,
    pub(super) ech: bool,
}

pub(super) const NAME: &str = "cart.shop.example.com";

fn grease(random: &mut Random) -> u16 {
    0x0a0a + 0x1010 * random.below(16) as u16
}

/// Extensions of TLS 1.2 without a name.
fn of_1_2() -> Vec<Vec<u8>> {
    vec![
        extension(0x0b, &[3, 0, 1, 2]),
        extension(0x0a, &vector(2, &[0, 29, 0, 23, 0, 24])),
        extension(0x23, &[]),
        extension(0x16, &[]),
        extension(0x17, &[]),
        extension(0x0d, &vector(2, &[4, 3, 5, 3, 6, 3, 8, 4, 4, 1])),
    ]
}

/// Extensions of a browser without a name; the key share of X25519MLKEM768 has 1,216 bytes.
fn of_browser(random: &mut Random, is_post_quantum: bool) -> Vec<Vec<u8>> {
    let mut shares = [
        &grease(random).to_be_bytes()[..],
        &[0, 1, 0],
        &[0, 29],
        &vector(2, &random.bytes(32)),
    ]
    .concat();
    if is_post_quantum {
        shares.extend_from_slice(&[0x11, 0xec]);
        shares.extend_from_slice(&vector(2, &random.bytes(1216)));
    }
    let versions = [&grease(random).to_be_bytes()[..], &[3, 4, 3, 3]].concat();
    vec![
        extension(grease(random), &[]),
        extension(0x0a, &vector(2, &[0x11, 0xec, 0, 29, 0, 23])),
        extension(0x0b, &[1, 0]),
        extension(0x23, &random.bytes(192)),
        extension(5, &[1, 0, 0, 0, 0]),
        extension(0x10, &vector(2, b"\x02h2\x08http/1.1")),
        extension(0x0d, &vector(2, &random.bytes(16))),
        extension(0x12, &[]),
        extension(0x33, &vector(2, &shares)),
        extension(0x2d, &[1, 1]),
        extension(0x2b, &vector(1, &versions)),
        extension(0x1b, &[2, 0, 2]),
        extension(0x44cd, &vector(2, b"\x02h2")),
        extension(0xff01, &[0]),
        extension(0x17, &[]),
        extension(grease(random), &[0]),
    ]
}

fn with_name(mut extensions: Vec<Vec<u8>>, at: usize) -> Vec<Vec<u8>> {
    extensions.insert(at, server_name(NAME.as_bytes()));
    extensions
}

/// Some of each kind.
pub(super) fn samples() -> Vec<Sample> {
    let mut random = Random(19);
    let mut samples = vec![
        sample("TLS 1.0, no session id", &[], of_1_2().split_off(4), 0),
        sample("TLS 1.2, name first", &[], of_1_2(), 0),
        sample("TLS 1.2, name last", &[7; 32], of_1_2(), 6),
        Sample {
            what: "no name",
            message: message(&[], &[0, 0x2f], &of_1_2()),
            name: None,
            ech: false,
        },
        Sample {
            what: "no extensions",
            message: [
                &[1, 0, 0, 41][..],
                &[3, 1],
                &[0x5a; 32],
                &[0, 0, 2, 0, 0x2f, 1, 0],
            ]
            .concat(),
            name: None,
            ech: false,
        },
    ];
    let mut padded = of_browser(&mut random, false);
    let bytes = 4 + 2 + 32 + 33 + 32 + 2 + 2 + padded.concat().len() + 9 + NAME.len() + 4;
    padded.push(extension(0x15, &vec![0; 512 - bytes]));
    samples.push(sample("padded to 517 bytes", &[8; 32], padded, 3));
    for which in 0..6 {
        let mut extensions = of_browser(&mut random, true);
        let has_ech = which % 2 == 0;
        if has_ech {
            extensions.push(extension(0xfe0d, &random.bytes(250)));
        }
        random.shuffle(&mut extensions);
        let at = [0, extensions.len(), random.below(extensions.len())][which % 3];
        samples.push(Sample {
            ech: has_ech,
            ..sample("post-quantum", &[9; 32], extensions, at)
        });
    }
    // pre_shared_key is the last one (RFC 8446 section 4.2.11)
    let mut resumed = of_browser(&mut random, true);
    resumed.push(extension(0x29, &random.bytes(300)));
    samples.push(sample("resumed", &[9; 32], resumed, 9));
    samples
}

fn sample(what: &'static str, session_id: &[u8], extensions: Vec<Vec<u8>>, at: usize) -> Sample {
    let suites = [0x13, 1, 0x13, 2, 0xc0, 0x2b].repeat(5);
    Sample {
        what,
        message: message(session_id, &suites, &with_name(extensions, at)),
        name: Some(NAME),
        ech: false,
    }
}

/// A request with lines of its own.
pub(super) fn request(first: &str, lines: &[&str]) -> Vec<u8> {
    let mut head = String::from(first);
    for line in lines {
        head.push_str("\r\n");
        head.push_str(line);
    }
    head.push_str("\r\n\r\n");
    head.into_bytes()
}
