//! The head of an HTTP/1 request (RFC 9112) and the host that it names: that of the target if it is
//! in absolute form, whatever Host says (section 3.2.2); that of the target of CONNECT, which is
//! where the client wants to be connected to (section 3.2.3); else the first Host. A server rejects
//! a second one, blanks before the colon, and a value on the next line (sections 3.2, 5.1, 5.2).

use core::ops::ControlFlow;

use super::word::Word;
use super::{Buffer, NAME_MAX_BYTES, Outcome, Parsed, STREAM_BYTES, Step, Steps};

/// The blank behind the method is within so many bytes: the registry of IANA has methods of 17
/// letters, and there may be empty lines before.
const METHOD_BYTES: u32 = 32;
/// Most steps to the end of a line: one for each eight bytes.
const LINE_STEPS: u32 = STREAM_BYTES / 8 + 4;
/// Most steps to the end of the head: one for each eight bytes, and for each line.
const HEAD_STEPS: u32 = STREAM_BYTES / 8 + 128;
/// A host ends within so many bytes: the longest name, brackets, a port, and blanks before.
const HOST_BYTES: u32 = NAME_MAX_BYTES + 65;
/// Bytes of the shortest target with a blank and the version.
const TARGET_MIN_BYTES: u32 = 10;

const TAB: u32 = b'\t' as u32;
const LF: u32 = b'\n' as u32;
const CR: u32 = b'\r' as u32;
const BLANK: u32 = b' ' as u32;
const HYPHEN: u32 = b'-' as u32;
const SLASH: u32 = b'/' as u32;
const COLON: u32 = b':' as u32;
const AT: u32 = b'@' as u32;
const OPEN: u32 = b'[' as u32;
const CLOSE: u32 = b']' as u32;

/// Searches a TCP stream, of which `have` bytes are at hand. Lines may end in LF alone (RFC 9112
/// section 2.2).
#[inline(always)]
pub fn head<S: Steps>(steps: &S, buffer: &Buffer, have: u32) -> Parsed {
    match place_of_host(steps, buffer, have) {
        Ok(at) => host(steps, buffer, at, have),
        Err(outcome) => Parsed::nameless(outcome.within(have)),
    }
}

/// Where the value of Host begins, or the authority of the target.
#[inline(always)]
fn place_of_host<S: Steps>(steps: &S, buffer: &Buffer, have: u32) -> Result<Place, Outcome> {
    let zero = buffer.zero() as u16;
    let mut method = Method {
        buffer,
        begin: zero,
        at: zero,
        have: have as u16,
        outcome: Outcome::Other,
    };
    steps.each(&mut method);
    let (begin, target) = (u32::from(method.begin), u32::from(method.at) + 1);
    found(method.outcome)?;
    let mut line = RequestLine {
        buffer,
        at: target as u16,
        have: have as u16,
        outcome: Outcome::TooLong,
    };
    steps.each(&mut line);
    let end = u32::from(line.at);
    found(line.outcome)?;
    check_version(buffer, target, end, have)?;
    let authority = authority(buffer, begin, target);
    if authority != 0 {
        return Ok(Place {
            at: authority,
            skips: 0,
        });
    }
    let mut fields = Fields {
        buffer,
        at: line.at,
        have: have as u16,
        outcome: Outcome::TooLong,
    };
    steps.each(&mut fields);
    found(fields.outcome)?;
    Ok(Place {
        at: fields.at.into(),
        skips: 1,
    })
}

/// Where a host begins.
struct Place {
    at: u32,
    /// 1 if blanks may stand before it, else 0.
    skips: u8,
}

#[inline(always)]
const fn found(outcome: Outcome) -> Result<(), Outcome> {
    match outcome {
        Outcome::Found => Ok(()),
        other => Err(other),
    }
}

/// Whether a request line with this target, whose last byte is before `end`, is one of HTTP/1.
#[inline(always)]
fn check_version(buffer: &Buffer, target: u32, end: u32, have: u32) -> Result<(), Outcome> {
    if buffer.u8(end) == CR {
        if end + 1 >= have {
            return Err(Outcome::More);
        }
        if buffer.u8(end + 1) != LF {
            return Err(Outcome::Other);
        }
    } else if buffer.u8(end) != LF {
        return Err(Outcome::Other);
    }
    if end - target < TARGET_MIN_BYTES {
        return Err(Outcome::Other);
    }
    let version = buffer.eight(end - 9);
    let is_digit = buffer.u8(end - 1).wrapping_sub(b'0'.into()) < 10;
    if version == u64::from_le_bytes(*b" HTTP/1.") && is_digit {
        Ok(())
    } else if version == u64::from_le_bytes(*b" HTTP/2.") && is_digit {
        Err(Outcome::Http2)
    } else {
        Err(Outcome::Other)
    }
}

/// Where the authority begins in a request line that is at hand; 0 if there is none, as in nearly
/// every request to an origin server.
#[inline(always)]
fn authority(buffer: &Buffer, begin: u32, target: u32) -> u32 {
    const SMALL: u64 = 0x2020_2020_2020_2020;
    const SEVEN: u64 = u64::MAX >> 8;
    if buffer.u8(target) == SLASH {
        return 0;
    }
    let scheme = buffer.eight(target) | SMALL;
    if scheme == u64::from_le_bytes(*b"https://") {
        target + 8
    } else if scheme & SEVEN == u64::from_le_bytes(*b"http://\0") {
        target + 7
    } else if buffer.eight(begin) == u64::from_le_bytes(*b"CONNECT ") {
        target
    } else {
        0
    }
}

/// The method, up to the blank behind it.
struct Method<'a> {
    buffer: &'a Buffer,
    begin: u16,
    at: u16,
    have: u16,
    outcome: Outcome,
}

impl Step for Method<'_> {
    // each byte of it may be one that a step ends at
    const MOST: u32 = METHOD_BYTES + METHOD_BYTES / 8;
    const AT_ONCE: u32 = 1;

    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        let word = Word::of(self.buffer, self.at.into());
        let (at, is_other) = word.first(word.below(b'A') | word.above(b'Z'));
        self.at = at as u16;
        if at.min(u32::from(self.have)) >= METHOD_BYTES {
            return ControlFlow::Break(());
        }
        if at >= u32::from(self.have) {
            self.outcome = Outcome::More;
            return ControlFlow::Break(());
        }
        if !is_other {
            return ControlFlow::Continue(());
        }
        let byte = self.buffer.u8(at);
        let is_first = at == u32::from(self.begin);
        // a server skips empty lines before the request (RFC 9112 section 2.2)
        if is_first && (byte == CR || byte == LF) {
            (self.begin, self.at) = (at as u16 + 1, at as u16 + 1);
            return ControlFlow::Continue(());
        }
        if byte == HYPHEN && !is_first {
            self.at = at as u16 + 1;
            return ControlFlow::Continue(());
        }
        if byte == BLANK && !is_first {
            self.outcome = Outcome::Found;
        }
        ControlFlow::Break(())
    }
}

/// The rest of the request line, up to the first control character.
struct RequestLine<'a> {
    buffer: &'a Buffer,
    at: u16,
    have: u16,
    outcome: Outcome,
}

impl Step for RequestLine<'_> {
    const MOST: u32 = LINE_STEPS;
    const AT_ONCE: u32 = 4;

    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        let word = Word::of(self.buffer, self.at.into());
        let (next, is_control) = word.first(word.below(b' '));
        self.at = next as u16;
        if next >= u32::from(self.have) {
            self.outcome = Outcome::More;
            return ControlFlow::Break(());
        }
        if is_control {
            self.outcome = Outcome::Found;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// The fields of the head, up to the value of Host.
struct Fields<'a> {
    buffer: &'a Buffer,
    at: u16,
    have: u16,
    outcome: Outcome,
}

impl Step for Fields<'_> {
    const MOST: u32 = HEAD_STEPS;
    const AT_ONCE: u32 = 4;

    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        let word = Word::of(self.buffer, self.at.into());
        let (next, is_line_feed) = word.first(word.equal(b'\n'));
        self.at = next as u16;
        if !is_line_feed && next < u32::from(self.have) {
            return ControlFlow::Continue(());
        }
        match self.line(next + 1) {
            Outcome::Other => ControlFlow::Continue(()),
            outcome => {
                self.outcome = outcome;
                ControlFlow::Break(())
            }
        }
    }
}

impl Fields<'_> {
    /// A line that begins at `at`: [`Outcome::Other`] if it is that of another field.
    #[inline(always)]
    fn line(&mut self, at: u32) -> Outcome {
        const SMALL: u32 = 0x2020_2020;
        self.at = at as u16;
        if at >= u32::from(self.have) {
            return Outcome::More;
        }
        let first = self.buffer.u8(at);
        if first == CR || first == LF {
            return Outcome::NoName;
        }
        if at + 5 > u32::from(self.have) {
            return Outcome::More;
        }
        let name = self.buffer.four(at) | SMALL;
        if name != u32::from_le_bytes(*b"host") || self.buffer.u8(at + 4) != COLON {
            return Outcome::Other;
        }
        self.at = at as u16 + 5;
        Outcome::Found
    }
}

/// Searches the host that begins at a place, without its port and brackets.
#[inline(always)]
fn host<S: Steps>(steps: &S, buffer: &Buffer, Place { at, skips }: Place, have: u32) -> Parsed {
    let mut host = Host {
        buffer,
        start: at as u16,
        begin: at as u16,
        at: at as u16,
        have: have as u16,
        colon: 0,
        close: 0,
        skips,
        outcome: Outcome::NoName,
    };
    steps.each(&mut host);
    let (begin, end) = (u32::from(host.begin), u32::from(host.at));
    if let Err(outcome) = found(host.outcome) {
        return Parsed::nameless(outcome.within(have));
    }
    if buffer.u8(begin) == OPEN {
        // without an end the difference is no length of a name
        return Parsed::named(begin + 1, u32::from(host.close).wrapping_sub(begin + 1));
    }
    let end = if host.colon == 0 {
        end
    } else {
        host.colon.into()
    };
    Parsed::named(begin, end - begin)
}

/// The value of Host, or an authority (RFC 3986 section 3.2), up to its end.
struct Host<'a> {
    buffer: &'a Buffer,
    start: u16,
    begin: u16,
    at: u16,
    have: u16,
    /// The first colon, which in brackets is no end; 0 if there is none.
    colon: u16,
    /// The closing bracket; 0 if there is none.
    close: u16,
    /// 1 while blanks are skipped.
    skips: u8,
    outcome: Outcome,
}

impl Step for Host<'_> {
    // each byte may be one that a step ends at
    const MOST: u32 = HOST_BYTES + HOST_BYTES / 8 + 1;
    const AT_ONCE: u32 = 1;

    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        let word = Word::of(self.buffer, self.at.into());
        let ends = word.below(b' ' + 1) | word.equal(b'/') | word.equal(b'?') | word.equal(b'#');
        let marks = word.equal(b':') | word.equal(b']') | word.equal(b'@');
        let (at, is_there) = word.first(ends | marks);
        self.at = at as u16;
        if at.min(u32::from(self.have)) - u32::from(self.start) >= HOST_BYTES {
            return ControlFlow::Break(());
        }
        if at >= u32::from(self.have) {
            self.outcome = Outcome::More;
            return ControlFlow::Break(());
        }
        if !is_there {
            return ControlFlow::Continue(());
        }
        match self.buffer.u8(at) {
            COLON if self.colon == 0 => self.colon = at as u16,
            CLOSE if self.close == 0 => self.close = at as u16,
            COLON | CLOSE => {}
            // a user before it, which only a target may have, and should not (RFC 9110 section
            // 4.2.4)
            AT => (self.begin, self.colon, self.close, self.skips) = (at as u16 + 1, 0, 0, 0),
            BLANK | TAB if at == u32::from(self.begin) && self.skips != 0 => {
                self.begin = at as u16 + 1;
            }
            _ => {
                self.outcome = Outcome::Found;
                return ControlFlow::Break(());
            }
        }
        self.at = at as u16 + 1;
        ControlFlow::Continue(())
    }
}
