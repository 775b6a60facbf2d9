//! Input: pieces of a client's handshake, in any order. Output: its beginning, without gaps. Must not
//! know packets, nor what a handshake is.

use std::ops::Range;

use super::frames::Piece;
use super::packet::Malformed;

/// Bytes of a handshake that are put together. A name that ends behind them is not found. A server
/// must be ready for as much (RFC 9000, section 7.5); hellos with post-quantum keys have some 1,800
/// bytes.
pub const HELLO_MAX_BYTES: usize = 4096;

/// Parts of a handshake with gaps between them that are kept. Clients that shuffle their pieces have
/// some ten.
const RANGES_MAX: usize = 64;

/// The beginning of a handshake.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Bytes that have not come yet are zeros.
    bytes: Vec<u8>,
    /// Which have come: sorted, and apart from each other.
    ranges: Vec<Range<usize>>,
    has_conflict: bool,
}

impl Stream {
    /// Takes a piece. What lies beyond [`HELLO_MAX_BYTES`] is not kept.
    ///
    /// # Errors
    /// `Crowded`: there are too many gaps, and this one is left out.
    pub(super) fn insert(&mut self, piece: Piece<'_>) -> Result<(), Malformed> {
        let start = usize::try_from(piece.offset).unwrap_or(usize::MAX);
        let room = HELLO_MAX_BYTES.saturating_sub(start);
        let data = &piece.data[..piece.data.len().min(room)];
        if data.is_empty() {
            return Ok(());
        }
        let end = start + data.len();
        // those that overlap the piece or touch it become one with it
        let first = self.ranges.partition_point(|range| range.end < start);
        let behind = self.ranges.partition_point(|range| range.start <= end);
        if first == behind && self.ranges.len() == RANGES_MAX {
            return Err(Malformed::Crowded);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let mut merged = start..end;
        for range in &self.ranges[first..behind] {
            let both = range.start.max(start)..range.end.min(end);
            let (from, to) = (both.start - start, both.end - start);
            self.has_conflict |= self.bytes[both] != data[from..to];
            merged = merged.start.min(range.start)..merged.end.max(range.end);
        }
        self.bytes[start..end].copy_from_slice(data);
        self.ranges.splice(first..behind, [merged]);
        Ok(())
    }

    /// All that has come without a gap before it.
    ///
    /// # Errors
    /// `Conflict` once pieces have contradicted each other, for good: which of them a server
    /// believes is not known.
    pub(super) fn front(&self) -> Result<&[u8], Malformed> {
        if self.has_conflict {
            return Err(Malformed::Conflict);
        }
        let front = self.ranges.first().filter(|range| range.start == 0);
        Ok(front.map_or(&[], |range| &self.bytes[..range.end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of which no two nearby are equal.
    fn message(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    fn insert(stream: &mut Stream, message: &[u8], range: Range<usize>) {
        let piece = Piece {
            offset: range.start as u64,
            data: &message[range],
        };
        assert_eq!(stream.insert(piece), Ok(()));
    }

    #[test]
    fn pieces_in_any_order() {
        let message = message(60);
        let cuts = [0, 1, 3, 5, 30, 60];
        let pieces: Vec<Range<usize>> = cuts.windows(2).map(|cut| cut[0]..cut[1]).collect();
        // all 120 orders
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        let mut counted = 0;
        permute(&mut order, 0, &mut |order| {
            let mut stream = Stream::default();
            for piece in order {
                let front = stream.front().unwrap();
                assert!(front.len() < 60 && message.starts_with(front), "{order:?}");
                insert(&mut stream, &message, pieces[*piece].clone());
            }
            assert_eq!(stream.front(), Ok(&message[..]), "{order:?}");
            counted += 1;
        });
        assert_eq!(counted, 120);
    }

    fn permute(order: &mut [usize], from: usize, each: &mut impl FnMut(&[usize])) {
        if from == order.len() {
            each(order);
        }
        for other in from..order.len() {
            order.swap(from, other);
            permute(order, from + 1, each);
            order.swap(from, other);
        }
    }

    #[test]
    fn pieces_that_overlap() {
        let message = message(100);
        let mut stream = Stream::default();
        for range in [40..60, 10..20, 50..70, 15..45, 10..20, 65..100, 2..12] {
            insert(&mut stream, &message, range);
            assert_eq!(stream.front(), Ok(&[][..]));
        }
        assert_eq!(stream.ranges.as_slice(), std::slice::from_ref(&(2..100)));
        insert(&mut stream, &message, 0..100);
        assert_eq!(stream.front(), Ok(&message[..]));
    }

    #[test]
    fn a_contradiction_is_never_forgotten() {
        let message = message(50);
        let mut other = message.clone();
        other[30] ^= 1;
        for (first, second) in [(20..40, 25..31), (25..31, 20..40), (0..50, 30..31)] {
            let mut stream = Stream::default();
            insert(&mut stream, &message, first);
            insert(&mut stream, &other, second);
            insert(&mut stream, &message, 0..50);
            assert_eq!(stream.front(), Err(Malformed::Conflict));
        }
        let mut stream = Stream::default();
        insert(&mut stream, &message, 0..30);
        insert(&mut stream, &other, 30..50);
        assert_eq!(stream.front(), Ok(&other[..]), "they only touch");
    }

    #[test]
    fn what_lies_beyond_the_limit_is_not_kept() {
        let message = message(HELLO_MAX_BYTES + 1);
        let mut stream = Stream::default();
        insert(
            &mut stream,
            &message,
            HELLO_MAX_BYTES - 5..HELLO_MAX_BYTES + 1,
        );
        insert(&mut stream, &message, 0..HELLO_MAX_BYTES - 5);
        for offset in [HELLO_MAX_BYTES as u64, u64::MAX >> 2, u64::MAX] {
            let data = &message[..1];
            assert_eq!(stream.insert(Piece { offset, data }), Ok(()));
        }
        assert_eq!(stream.front(), Ok(&message[..HELLO_MAX_BYTES]));
    }

    #[test]
    fn the_number_of_gaps_is_bounded() {
        let message = message(1000);
        let mut stream = Stream::default();
        for at in 0..RANGES_MAX {
            insert(&mut stream, &message, 2 * at..2 * at + 1);
        }
        let piece = Piece {
            offset: 500,
            data: &message[500..600],
        };
        assert_eq!(stream.insert(piece), Err(Malformed::Crowded));
        // what closes gaps is taken
        insert(&mut stream, &message, 1..900);
        assert_eq!(stream.front(), Ok(&message[..900]));
    }
}
