//! Any UDP payloads, and any frames in Initials that a client has sealed: a server name, or why
//! there is none.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use traffic_mirror::quic::{Flow, HELLO_MAX_BYTES, Malformed, Outcome, Packets};
use traffic_mirror_tests::quic::{Client, ONE, TWO, crypto};

fuzz_target!(|bytes: &[u8]| {
    raw(bytes);
    // nothing to draw from is all zeros
    let _ = sealed(&mut Unstructured::new(bytes));
});

/// What nobody has sealed decides nothing, and the packets of a datagram lie in it one behind the
/// other.
fn raw(bytes: &[u8]) {
    let mut flow = Flow::default();
    for payload in [bytes, bytes.get(1..).unwrap_or_default()] {
        let outcome = flow.datagram(payload);
        assert!(!outcome.is_decided() && !flow.has_begun(), "{outcome:?}");
        let initials = Packets::of(payload).filter_map(|packet| match packet {
            Ok(traffic_mirror::quic::Packet::Initial(initial)) => Some(initial.bytes.len()),
            _ => None,
        });
        assert!(initials.sum::<usize>() <= payload.len());
    }
}

/// The handshake as a slow reader puts it together.
#[derive(Default)]
struct Slow {
    bytes: std::collections::BTreeMap<usize, u8>,
    has_conflict: bool,
}

impl Slow {
    fn insert(&mut self, offset: usize, data: &[u8]) {
        for (at, byte) in (offset..HELLO_MAX_BYTES).zip(data) {
            self.has_conflict |= *self.bytes.entry(at).or_insert(*byte) != *byte;
        }
    }

    fn front(&self) -> Vec<u8> {
        let bytes = (0..).zip(&self.bytes);
        bytes
            .take_while(|(at, (there, _))| at == *there)
            .map(|(_, (_, byte))| *byte)
            .collect()
    }
}

/// Frames over several Initials give what the handshake in one frame gives.
fn sealed(u: &mut Unstructured<'_>) -> Result<()> {
    let mut client = Client {
        version: *u.choose(&[ONE, TWO])?,
        ..Client::new(&[7; 8])
    };
    let (mut flow, mut slow) = (Flow::default(), Slow::default());
    for _ in 0..u.int_in_range(1..=4)? {
        let (mut frames, mut is_sound) = (Vec::new(), true);
        let mut pieces = Vec::new();
        for _ in 0..u.int_in_range(1..=6)? {
            match u.int_in_range(0..=7)? {
                0 => frames.extend(*u.choose(&[&[0][..], &[1], &[2, 0, 0, 0, 0]])?),
                1 => {
                    // any bytes, of which nothing is claimed
                    let bytes = u.int_in_range(1..=20)?;
                    frames.extend(u.bytes(bytes)?);
                    is_sound = false;
                }
                _ => {
                    let offset = u.int_in_range(0..=2 * HELLO_MAX_BYTES)?;
                    let offset = if u.ratio(7, 8)? { offset % 256 } else { offset };
                    let bytes = u.int_in_range(0..=u.len().min(200))?;
                    let data = u.bytes(bytes)?;
                    frames.extend(crypto(offset, data));
                    pieces.push((offset, data));
                }
            }
        }
        let outcome = flow.datagram(&client.datagram(&frames));
        if !is_sound {
            break;
        }
        for (offset, data) in pieces {
            slow.insert(offset, data);
        }
        let expected = if slow.has_conflict {
            Outcome::Malformed(Malformed::Conflict)
        } else {
            let whole = crypto(0, &slow.front());
            Flow::default().datagram(&Client::new(&[8; 8]).datagram(&whole))
        };
        assert_eq!(outcome, expected);
    }
    Ok(())
}
