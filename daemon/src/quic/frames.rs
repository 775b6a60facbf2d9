//! Input: the frames of an Initial. Output: the pieces of handshake in them, or that a frame must
//! not be there (RFC 9000, sections 12.4 and 19). Must not know how pieces fit together.

use super::packet::Malformed;
use super::reader::Reader;

/// A piece of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Where it belongs, bytes from the beginning of the handshake.
    pub(super) offset: u64,
    /// Possibly none.
    pub(super) data: &'a [u8],
}

const PADDING: u64 = 0x00;
const PING: u64 = 0x01;
const ACK: u64 = 0x02;
const ACK_ECN: u64 = 0x03;
const CRYPTO: u64 = 0x06;
const CONNECTION_CLOSE: u64 = 0x1c;

/// No offset is larger (RFC 9000, section 19.6).
const OFFSET_MAX: u64 = (1 << 62) - 1;

/// The pieces of all CRYPTO frames, as they come.
///
/// # Errors
/// `Frame`; no piece counts then.
pub(super) fn pieces(frames: &[u8]) -> Result<Vec<Piece<'_>>, Malformed> {
    // RFC 9000, section 12.4: a packet without frames is a violation, too
    if frames.is_empty() {
        return Err(Malformed::Frame);
    }
    let mut reader = Reader::new(frames);
    let mut pieces = Vec::new();
    while !reader.rest().is_empty() {
        pieces.extend(frame(&mut reader).ok_or(Malformed::Frame)?);
    }
    Ok(pieces)
}

/// Reads one frame. `None` if it must not be there or is cut short.
fn frame<'a>(reader: &mut Reader<'a>) -> Option<Option<Piece<'a>>> {
    let before = reader.rest().len();
    let kind = reader.varint()?;
    // all types of an Initial take one byte, and the shortest encoding is the only one
    if reader.rest().len() + 1 != before {
        return None;
    }
    match kind {
        PADDING => {
            let rest = reader.rest();
            let padding = rest.iter().position(|byte| u64::from(*byte) != PADDING);
            reader.take(padding.unwrap_or(rest.len()))?;
        }
        PING => {}
        ACK | ACK_ECN => acknowledgement(reader, kind == ACK_ECN)?,
        CRYPTO => {
            let offset = reader.varint()?;
            let data = reader.varint_vector()?;
            let end = offset.checked_add(u64::try_from(data.len()).ok()?)?;
            return (end <= OFFSET_MAX).then_some(Some(Piece { offset, data }));
        }
        CONNECTION_CLOSE => {
            let (_code, _frame) = (reader.varint()?, reader.varint()?);
            reader.varint_vector()?;
        }
        _ => return None,
    }
    Some(None)
}

/// RFC 9000, section 19.3.
fn acknowledgement(reader: &mut Reader<'_>, has_counts: bool) -> Option<()> {
    let (_largest, _delay) = (reader.varint()?, reader.varint()?);
    let ranges = reader.varint()?;
    let _first = reader.varint()?;
    for _ in 0..ranges {
        let (_gap, _length) = (reader.varint()?, reader.varint()?);
    }
    if has_counts {
        for _ in 0..3 {
            reader.varint()?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_an_initial() {
        let frames = [
            &[0x00, 0x00, 0x01][..],
            &[0x06, 5, 2, 0xa, 0xb],
            // acknowledges 9, 8 and 5, with a delay in two bytes
            &[0x02, 9, 0x40, 99, 1, 1, 1, 0],
            &[0x03, 0, 0, 0, 0, 1, 2, 3],
            &[0x06, 0, 0],
            &[0x1c, 0x41, 0x28, 0x06, 3, b'b', b'a', b'd'],
            &[0x06, 0x80, 1, 0, 0, 1, 0xc],
            &[0x00],
        ];
        let piece = |offset, data| Piece { offset, data };
        assert_eq!(
            pieces(&frames.concat()).unwrap(),
            [
                piece(5, &[0xa, 0xb][..]),
                piece(0, &[]),
                piece(65_536, &[0xc])
            ]
        );
        assert_eq!(pieces(&[0; 900]), Ok(Vec::new()));
    }

    /// RFC 9000, section 12.4, table 3.
    #[test]
    fn other_frames_are_malformed() {
        let allowed = [0x00, 0x01, 0x02, 0x03, 0x06, 0x1c];
        for kind in 0..=u8::MAX {
            let mut frames = vec![kind];
            frames.extend([0; 16]);
            assert_eq!(pieces(&frames).is_ok(), allowed.contains(&kind), "{kind:x}");
        }
        assert_eq!(pieces(&[]), Err(Malformed::Frame));
        assert_eq!(
            pieces(&[0x40, 0x06, 0, 0]),
            Err(Malformed::Frame),
            "PING in two bytes"
        );
    }

    #[test]
    fn a_frame_that_is_cut_short_is_malformed() {
        for frame in [
            &[0x06, 5, 2, 0xa, 0xb][..],
            &[0x02, 9, 0x40, 99, 1, 1, 1, 0],
            &[0x03, 0, 0, 0, 0, 1, 2, 3],
            &[0x1c, 0x41, 0x28, 0x06, 3, b'b', b'a', b'd'],
        ] {
            assert!(pieces(frame).is_ok());
            for length in 1..frame.len() {
                assert_eq!(pieces(&frame[..length]), Err(Malformed::Frame), "{length}");
            }
        }
        // more ranges than bytes; an end beyond the last offset
        let mut ranges = vec![0x02, 9, 0];
        ranges.extend([0xff; 8]);
        ranges.extend([0; 99]);
        assert_eq!(pieces(&ranges), Err(Malformed::Frame));
        let mut beyond = vec![0x06];
        beyond.extend([0xff; 8]);
        beyond.extend([1, 0xa]);
        assert_eq!(pieces(&beyond), Err(Malformed::Frame));
    }
}
