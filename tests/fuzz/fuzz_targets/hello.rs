//! Any bytes as the first of a stream, in any segments: what the parser makes of what has arrived,
//! in memory that ends where its buffer does, against a slow reading of the same bytes.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use traffic_mirror_ebpf::hello::coverage::Coverage;
use traffic_mirror_ebpf::hello::{Buffer, Outcome, Parsed, Plain, STREAM_BYTES, parse, tls};
use traffic_mirror_fuzz::fence::Fence;
use traffic_mirror_fuzz::hello::{Reading, read, read_message};

thread_local! {
    static MEMORY: RefCell<Fence> = RefCell::new(Fence::new(size_of::<Buffer>()));
}

fuzz_target!(|bytes: &[u8]| {
    let (segments, stream) = draw(bytes);
    MEMORY.with_borrow_mut(|fence| {
        in_one_piece(fence, stream);
        in_segments(fence, stream, &segments);
    });
});

/// Some segments, and the stream that they are of. The first byte says how many; of each four bytes
/// say where it begins and ends, in 65,536ths of the stream.
fn draw(bytes: &[u8]) -> (Vec<(u16, u16)>, &[u8]) {
    let Some((count, rest)) = bytes.split_first() else {
        return (Vec::new(), bytes);
    };
    let count = usize::from(count % 7).min(rest.len() / 4);
    let (segments, stream) = rest.split_at(4 * count);
    let (segments, _) = segments.as_chunks();
    let number = |first: u8, second: u8| u16::from_be_bytes([first, second]);
    let segments = segments
        .iter()
        .map(|&[a, b, c, d]| (number(a, b), number(c, d)));
    (segments.collect(), stream)
}

/// A buffer at the end of memory, in which bytes of another stream lie.
fn buffer(fence: &mut Fence) -> &mut Buffer {
    let mut stale = [0; size_of::<Buffer>()];
    for (byte, number) in stale.iter_mut().zip(0u32..STREAM_BYTES + 512) {
        *byte = b"\n\0Host: stale\0\x15"[number as usize % 15];
    }
    let memory = fence.put(&stale).as_mut_ptr().cast::<Buffer>();
    assert!(memory.is_aligned());
    // SAFETY: as many bytes as a buffer has, aligned; any bytes are one.
    unsafe { &mut *memory }
}

fn in_one_piece(fence: &mut Fence, stream: &[u8]) {
    let stream = &stream[..stream.len().min(STREAM_BYTES as usize)];
    let whole = search(fence, stream);
    assert_eq!(whole, read(stream));
    let half = &stream[..stream.len() / 2];
    let early = search(fence, half);
    assert_eq!(early, read(half));
    assert_final(&early, &whole);
    let buffer = buffer(fence);
    buffer.put(0, stream);
    let parsed = tls::message(&Plain, buffer, 0, stream.len() as u32);
    assert_eq!(
        reading(parsed, buffer, stream.len()),
        read_message(stream, 0)
    );
}

fn search(fence: &mut Fence, stream: &[u8]) -> Reading {
    let buffer = buffer(fence);
    buffer.put(0, stream);
    let parsed = parse(buffer, stream.len() as u32);
    reading(parsed, buffer, stream.len())
}

fn reading(parsed: Parsed, buffer: &Buffer, have: usize) -> Reading {
    assert_eq!(parsed.outcome == Outcome::Found, parsed.bytes != 0);
    assert!(usize::from(parsed.at + parsed.bytes) <= have);
    let name = buffer.get(parsed.at, parsed.bytes).expect("in the buffer");
    Reading {
        outcome: parsed.outcome,
        name: (parsed.bytes != 0).then(|| name.to_vec()),
        ech: parsed.ech == 1,
    }
}

/// More bytes do not change what was found.
fn assert_final(before: &Reading, now: &Reading) {
    if before.outcome != Outcome::More {
        assert_eq!((before.outcome, &before.name), (now.outcome, &now.name));
    }
    assert!(now.ech || !before.ech);
}

fn in_segments(fence: &mut Fence, stream: &[u8], segments: &[(u16, u16)]) {
    let place = |part: u16| (stream.len() * usize::from(part)) >> 16;
    let mut there = vec![false; stream.len()];
    let (mut coverage, mut last) = (Coverage::default(), read(&[]));
    for &(one, other) in segments.iter().chain(&[(0, u16::MAX)]) {
        let (from, to) = (place(one.min(other)), place(one.max(other)));
        coverage.add(&Plain, from as u32, to as u32);
        there[from..to].fill(true);
        let have = there.iter().take_while(|is_there| **is_there).count();
        let have = have.min(STREAM_BYTES as usize);
        assert_eq!(coverage.prefix(&Plain) as usize, have);
        // what has arrived out of order lies there, too
        let buffer = buffer(fence);
        for (at, _) in there.iter().enumerate().filter(|(_, is_there)| **is_there) {
            buffer.put(at as u32, &stream[at..=at]);
        }
        let parsed = parse(buffer, have as u32);
        let now = reading(parsed, buffer, have);
        assert_eq!(now, read(&stream[..have]));
        assert_final(&last, &now);
        last = now;
    }
}
