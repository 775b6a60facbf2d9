mod hellos;
mod http;
mod name;
#[expect(unreachable_pub, reason = "the fuzz target reads by it, too")]
mod oracle;
mod stream;
mod tls;

use std::boxed::Box;

use super::{Buffer, NAME_MAX_BYTES, Outcome, Parsed, STREAM_BYTES, parse};
use oracle::Reading;

/// What may lie behind the bytes that have arrived.
const STALE: [&[u8]; 4] = [
    b"\0",
    b"\n",
    b"\r\nHost: stale.test\r\n\r\n",
    b"\0\0\0\x0a\0\x08",
];

/// What the parser finds in the first bytes of a stream, whatever lies behind them.
fn search(stream: &[u8]) -> Reading {
    let mut readings = STALE.iter().map(|stale| search_before(stream, stale));
    let reading = readings.next().unwrap();
    assert!(readings.all(|other| other == reading), "{reading:?}");
    reading
}

fn search_before(stream: &[u8], stale: &[u8]) -> Reading {
    let stream = &stream[..stream.len().min(STREAM_BYTES as usize)];
    let mut buffer = filled(stream, stale);
    let parsed = parse(&mut *buffer, stream.len() as u32);
    reading(parsed, &buffer, stream.len())
}

fn filled(stream: &[u8], stale: &[u8]) -> Box<Buffer> {
    let mut buffer = Box::new(Buffer::default());
    for at in (0..STREAM_BYTES).step_by(stale.len()) {
        buffer.put(at, stale);
    }
    buffer.put(0, stream);
    buffer
}

fn reading(parsed: Parsed, buffer: &Buffer, have: usize) -> Reading {
    assert_eq!(parsed.outcome == Outcome::Found, parsed.bytes != 0);
    assert!(u32::from(parsed.bytes) <= NAME_MAX_BYTES && parsed.ech <= 1);
    assert!(usize::from(parsed.at + parsed.bytes) <= have);
    let name = buffer.get(parsed.at, parsed.bytes).unwrap();
    Reading {
        outcome: parsed.outcome,
        name: (parsed.bytes != 0).then(|| name.to_vec()),
        ech: parsed.ech == 1,
    }
}

/// Of each prefix of a stream both readers say the same, and what they have found stays so.
/// Returns what they say of the whole.
fn search_prefixes(stream: &[u8]) -> Reading {
    let mut last = oracle::read(&[]);
    for have in 0..=stream.len() {
        let found = search_before(&stream[..have], STALE[have % STALE.len()]);
        assert_eq!(found, oracle::read(&stream[..have]), "{have} {stream:02x?}");
        assert_final(&last, &found);
        last = found;
    }
    last
}

fn assert_final(before: &Reading, now: &Reading) {
    if before.outcome != Outcome::More {
        assert_eq!((before.outcome, &before.name), (now.outcome, &now.name));
    }
    assert!(now.ech || !before.ech);
}

fn found(name: &str, ech: bool) -> Reading {
    Reading {
        outcome: Outcome::Found,
        name: Some(name.as_bytes().to_vec()),
        ech,
    }
}

fn nameless(outcome: Outcome) -> Reading {
    Reading {
        outcome,
        name: None,
        ech: false,
    }
}
