use std::vec::Vec;

use super::hellos::{Random, record, records, request, samples};
use super::{assert_final, filled, oracle, reading};
use crate::hello::coverage::Coverage;
use crate::hello::{Buffer, Plain, parse};

#[test]
fn coverage_is_that_of_a_list_of_bytes() {
    let mut random = Random(1);
    for _ in 0..300 {
        let (mut coverage, mut plain) = (Coverage::default(), [false; 4096]);
        for _ in 0..random.below(40) {
            let from = random.below(4200);
            let to = match random.below(4) {
                0 => from + random.below(8),
                1 => random.below(5000),
                2 => 4096,
                _ => from + random.below(1500),
            };
            coverage.add(&Plain, from as u32, to as u32);
            let (from, to) = (from.min(4096), to.min(4096));
            plain[from.min(to)..to].fill(true);
            let prefix = plain.iter().take_while(|is_there| **is_there).count();
            assert_eq!(coverage.prefix(&Plain) as usize, prefix);
        }
    }
}

#[test]
fn all_bytes_are_covered_one_by_one() {
    let mut coverage = Coverage::default();
    for at in (0..4096).rev() {
        assert_eq!(coverage.prefix(&Plain), 0);
        coverage.add(&Plain, at, at + 1);
    }
    assert_eq!(coverage.prefix(&Plain), 4096);
    coverage.add(&Plain, u32::MAX - 1, u32::MAX);
    coverage.add(&Plain, 5, 3);
    coverage.add(&Plain, 0, u32::MAX);
    assert_eq!(coverage.prefix(&Plain), 4096);
}

/// Segments in any order, some of them twice, as a receiver puts them together.
#[test]
fn segments_in_any_order_lead_to_the_same() {
    let mut random = Random(4);
    let mut streams: Vec<Vec<u8>> = samples().iter().map(|s| record(&s.message)).collect();
    streams.extend(samples().iter().map(|s| records(&s.message, 300)));
    streams.push(request("GET / HTTP/1.1", &["Accept: */*", "Host: a.test"]));
    for stream in streams {
        for _ in 0..20 {
            deliver(&mut random, &stream);
        }
    }
}

fn deliver(random: &mut Random, stream: &[u8]) {
    let mut segments = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let to = (at + 1 + random.below(600)).min(stream.len());
        // it may overlap with the one before
        segments.push((at - random.below(at.min(20) + 1), to));
        at = to;
    }
    let again = segments[random.below(segments.len())];
    segments.push(again);
    random.shuffle(&mut segments);
    let mut buffer = filled(&[], b"\x16\x03\x01");
    let mut coverage = Coverage::default();
    let mut last = oracle::read(&[]);
    for (from, to) in segments {
        buffer.put(from as u32, &stream[from..to]);
        coverage.add(&Plain, from as u32, to as u32);
        let have = coverage.prefix(&Plain);
        let mut copy: Buffer = *buffer;
        let parsed = parse(&mut copy, have);
        let found = reading(parsed, &copy, have as usize);
        assert_eq!(found, oracle::read(&stream[..have as usize]));
        assert_final(&last, &found);
        last = found;
    }
    assert_eq!(last, oracle::read(stream));
}
