//! Input: bytes from the network. Output: numbers and pieces of them, front to back. Must not know
//! what they mean.

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next bytes. `None`, and nothing is read, if fewer are left.
    pub(super) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    /// A number of so many bytes, at most 8, in network byte order.
    pub(super) fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = self.take(bytes)?;
        Some(
            taken
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    }

    /// A variable-length integer (RFC 9000, section 16): two bits say how long it is.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let bytes = 1 << (self.rest.first()? >> 6);
        let mask = (1 << (8 * bytes - 2)) - 1;
        Some(self.number(bytes)? & mask)
    }

    /// A piece behind its length, which is a number of so many bytes.
    pub(super) fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let bytes = self.number(length_bytes)?;
        self.take(usize::try_from(bytes).ok()?)
    }

    /// A piece behind its length, which is a variable-length integer.
    pub(super) fn varint_vector(&mut self) -> Option<&'a [u8]> {
        let bytes = self.varint()?;
        self.take(usize::try_from(bytes).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000, Appendix A.1.
    #[test]
    fn variable_length_integers() {
        for (bytes, number) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
            (&[0xff; 8], (1 << 62) - 1),
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.varint(), Some(number));
            assert!(reader.rest().is_empty());
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).varint(), None);
        }
    }

    #[test]
    fn a_piece_that_is_cut_is_none() {
        let mut reader = Reader::new(&[0, 2, 7, 8, 9]);
        assert_eq!(reader.vector(2), Some(&[7, 8][..]));
        assert_eq!((reader.vector(1), reader.rest()), (None, &[][..]));
        assert_eq!(Reader::new(&[0x40, 2, 7]).varint_vector(), None);
        assert_eq!(Reader::new(&[0xff; 12]).varint_vector(), None);
    }
}
