//! Input: the bytes of a file, again and again. Output: what it means, if there is room for that.

use std::io::{self, Read};

use crate::compile::{Rooms, TooLarge};
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
    /// The diagnostics of an invalid file, or of one that is too large.
    pub fn load(&mut self, bytes: &[u8]) -> Loaded {
        if bytes.len() > MOST_FILE_BYTES {
            let message = format!("the file is larger than {} MiB", MOST_FILE_BYTES >> 20);
            let help = "write networks and ranges in place of single addresses and ports";
            return Err(vec![
                Diagnostic::new(Code::LimitExceeded, 0..0, message).help(help),
            ]);
        }
        let (desired, warnings) = self.rereader.load(bytes)?;
        match self.rooms.check(&desired) {
            Ok(()) => Ok((desired, warnings)),
            Err(too_large) => {
                let place = place_of(&String::from_utf8_lossy(bytes), &too_large.filter);
                Err(vec![
                    Diagnostic::new(Code::LimitExceeded, place, too_large.to_string())
                        .help(TooLarge::REMEDY),
                ])
            }
        }
    }
}

/// Reads the whole file, but not much more than the limit.
///
/// # Errors
/// The file cannot be read.
pub fn read_all(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MOST_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map(|_| bytes)
}
