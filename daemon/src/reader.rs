//! Input: the bytes of a file, again and again. Output: what it means, if there is room for that.

use std::io::{self, Read};

use crate::compile::{MOST_BYTES, Rooms, TooLarge};
use crate::desired::{Loaded, Rereader, place_of};
use crate::diagnostic::{Code, Diagnostic};

/// Bytes that a file may have.
pub const MOST_FILE_BYTES: usize = 16 << 20;

/// Reads a file again and again.
#[derive(Default)]
pub struct Reader {
    rereader: Rereader,
    rooms: Rooms,
}

impl Reader {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// What is wrong with the file, or that it is too large.
    pub fn load(&mut self, bytes: &[u8]) -> Loaded {
        if bytes.len() > MOST_FILE_BYTES {
            let message = format!("the file is larger than {} MiB", MOST_FILE_BYTES >> 20);
            let help = "write networks and ranges in place of single addresses and ports";
            return Err(vec![Diagnostic::new(Code::LimitExceeded, 0..0, message).help(help)]);
        }
        let (desired, warnings) = self.rereader.load(bytes)?;
        match self.rooms.check(&desired) {
            Ok(()) => Ok((desired, warnings)),
            Err(too_large) => Err(vec![refusal(&String::from_utf8_lossy(bytes), &too_large)]),
        }
    }
}

fn refusal(text: &str, TooLarge { filter, terms, all }: &TooLarge) -> Diagnostic {
    let message = format!(
        "the {all} networks and port ranges of the filters need tables of more than {} MiB; filter {filter:?} gives the most \
         of them, {terms}",
        MOST_BYTES >> 20,
    );
    let help = "write fewer networks and ranges, or wider ones that take the place of several";
    Diagnostic::new(Code::LimitExceeded, place_of(text, filter), message).help(help)
}

/// Reads all of a file, and no more of one that is too large than tells so.
///
/// # Errors
/// It cannot be read.
pub fn read_all(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MOST_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
}
