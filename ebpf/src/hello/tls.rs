//! The ClientHello of TLS 1.0 to 1.3 (RFC 8446 section 4.1.2; RFC 5246 section 7.4.1.2) and its
//! `server_name` (RFC 6066 section 3). Values that are not known, as GREASE (RFC 8701), are
//! skipped.

use core::ops::ControlFlow;

use super::{Buffer, NAME_MAX_BYTES, Outcome, Parsed, STREAM_BYTES, Step, Steps};

/// Bytes of a record's header: type, version, length (RFC 8446 section 5.1).
const RECORD_BYTES: u32 = 5;
/// Most bytes of a record's content.
const RECORD_MAX_BYTES: u32 = 1 << 14;
/// Content type `handshake`.
const HANDSHAKE: u32 = 22;
/// `legacy_record_version` is 3.0 to 3.4 and says nothing else.
const MAJOR: u32 = 3;
/// Bytes of a handshake message's header: type and length.
const MESSAGE_BYTES: u32 = 4;
/// Handshake type `client_hello`.
const CLIENT_HELLO: u32 = 1;
/// Bytes from the message's begin to the session id: the header, `legacy_version`, `random`.
const FIXED_BYTES: u32 = MESSAGE_BYTES + 2 + 32;
/// Bytes of an extension's header: type and length.
const EXTENSION_BYTES: u32 = 4;
/// Bytes of a `server_name` before the name: length of the list, type of the name, its length.
const LIST_BYTES: u32 = 5;
const SERVER_NAME: u32 = 0;
const HOST_NAME: u32 = 0;
/// `encrypted_client_hello` (RFC 9849).
const ECH: u32 = 0xfe0d;

/// Most extensions that are read. Browsers send some 20.
const EXTENSIONS_MAX: u32 = 128;
/// Most steps in which records are joined: a step for each header, and for each eight bytes.
const JOIN_STEPS: u32 = STREAM_BYTES / 8 + 128;

/// Searches a TCP stream, of which `have` bytes are at hand.
///
/// Answers [`Outcome::Records`] if the ClientHello goes on in another record.
#[inline(always)]
pub fn record<S: Steps>(steps: &S, buffer: &Buffer, have: u32) -> Parsed {
    if have == 0 {
        return Parsed::nameless(Outcome::More);
    }
    let is_other = buffer.u8(0) != HANDSHAKE
        || have > 1 && buffer.u8(1) != MAJOR
        || have > RECORD_BYTES && buffer.u8(RECORD_BYTES) != CLIENT_HELLO;
    if is_other {
        return Parsed::nameless(Outcome::Other);
    }
    if have < RECORD_BYTES + MESSAGE_BYTES {
        return Parsed::nameless(Outcome::More);
    }
    let content = buffer.u16(3);
    if content.wrapping_sub(1) >= RECORD_MAX_BYTES {
        return Parsed::nameless(Outcome::Other);
    }
    if MESSAGE_BYTES + message_bytes(buffer, RECORD_BYTES) > content {
        return Parsed::nameless(Outcome::Records);
    }
    message(steps, buffer, RECORD_BYTES, have)
}

/// As [`record`], for a ClientHello in several records. The buffer then holds the message behind
/// the first record's header, without those of the others: what arrives later must not be added to
/// it.
#[inline(always)]
pub fn joined<S: Steps>(steps: &S, buffer: &mut Buffer, have: u32) -> Parsed {
    let (joined, outcome) = join_records(steps, buffer, have);
    let parsed = message(steps, buffer, RECORD_BYTES, joined);
    if matches!(parsed.outcome, Outcome::More) {
        Parsed { outcome, ..parsed }
    } else {
        parsed
    }
}

/// Searches a ClientHello that begins at `start`, as in the CRYPTO frames of QUIC (RFC 9001 section
/// 4), where that is 0. `have` bytes of the buffer are at hand.
#[inline(always)]
pub fn message<S: Steps>(steps: &S, buffer: &Buffer, start: u32, have: u32) -> Parsed {
    if have > start && buffer.u8(start) != CLIENT_HELLO {
        return Parsed::nameless(Outcome::Other);
    }
    if have < start + MESSAGE_BYTES {
        return Parsed::nameless(Outcome::More);
    }
    let start = start + buffer.zero();
    let end = start + MESSAGE_BYTES + message_bytes(buffer, start);
    let (at, end) = match extensions(buffer, start, end, have) {
        Ok(extensions) => extensions,
        Err(outcome) => return Parsed::nameless(outcome),
    };
    let mut walk = Extensions {
        buffer,
        at,
        end,
        have,
        name: 0,
        name_bytes: 0,
        ech: 0,
        outcome: Outcome::TooLong,
    };
    steps.each(&mut walk);
    let parsed = if walk.name_bytes != 0 {
        Parsed::named(walk.name, walk.name_bytes)
    } else {
        Parsed::nameless(walk.outcome)
    };
    Parsed {
        ech: walk.ech,
        ..parsed
    }
}

/// Bytes of a message behind its header.
#[inline(always)]
fn message_bytes(buffer: &Buffer, start: u32) -> u32 {
    buffer.u8(start + 1) << 16 | buffer.u16(start + 2)
}

/// Where the extensions of a message begin and end.
#[inline(always)]
fn extensions(buffer: &Buffer, start: u32, end: u32, have: u32) -> Result<(u32, u32), Outcome> {
    let session_id = start + FIXED_BYTES;
    reach(session_id + 1, end, have)?;
    let cipher_suites = session_id + 1 + buffer.u8(session_id);
    reach(cipher_suites + 2, end, have)?;
    let compression = cipher_suites + 2 + buffer.u16(cipher_suites);
    reach(compression + 1, end, have)?;
    let extensions = compression + 1 + buffer.u8(compression);
    reach(extensions + 2, end, have)?;
    let begin = extensions + 2;
    let behind = begin + buffer.u16(extensions);
    if behind > end {
        return Err(Outcome::NoName);
    }
    Ok((begin, behind))
}

/// Whether what ends at `to` can be read: it must lie before `end`, and have arrived.
#[inline(always)]
const fn reach(to: u32, end: u32, have: u32) -> Result<(), Outcome> {
    if to > end {
        Err(Outcome::NoName)
    } else if to <= have {
        Ok(())
    } else if to > STREAM_BYTES {
        Err(Outcome::TooLong)
    } else {
        Err(Outcome::More)
    }
}

/// The walk along the extensions. It goes on behind the name, for [`Parsed::ech`].
struct Extensions<'a> {
    buffer: &'a Buffer,
    at: u32,
    end: u32,
    have: u32,
    name: u32,
    /// 0 until there is a name.
    name_bytes: u32,
    ech: u8,
    outcome: Outcome,
}

impl Step for Extensions<'_> {
    const MOST: u32 = EXTENSIONS_MAX;
    const AT_ONCE: u32 = 4;

    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        match self.extension() {
            Ok(()) => ControlFlow::Continue(()),
            Err(outcome) => {
                self.outcome = outcome;
                ControlFlow::Break(())
            }
        }
    }
}

impl Extensions<'_> {
    #[inline(always)]
    fn extension(&mut self) -> Result<(), Outcome> {
        let content = self.at + EXTENSION_BYTES;
        reach(content, self.end, self.have)?;
        let kind = self.buffer.u16(self.at);
        let bytes = self.buffer.u16(self.at + 2);
        if kind == ECH {
            self.ech = 1;
        }
        // the first one counts; a server rejects a second one (RFC 8446 section 4.2)
        if kind == SERVER_NAME && self.name_bytes == 0 {
            self.server_name(content, bytes)?;
        }
        self.at = content + bytes;
        Ok(())
    }

    /// The first entry of the list, which has one (RFC 6066 section 3). The length of the list is
    /// not compared with the rest, since not every server does so.
    #[inline(always)]
    fn server_name(&mut self, at: u32, bytes: u32) -> Result<(), Outcome> {
        if bytes < LIST_BYTES {
            return Err(Outcome::NoName);
        }
        let name = at + LIST_BYTES;
        reach(name, self.end, self.have)?;
        let name_bytes = self.buffer.u16(at + 3);
        let is_host = self.buffer.u8(at + 2) == HOST_NAME;
        let is_sound = name_bytes.wrapping_sub(1) < NAME_MAX_BYTES;
        if !is_host || !is_sound || LIST_BYTES + name_bytes > bytes {
            return Err(Outcome::NoName);
        }
        reach(name + name_bytes, self.end, self.have)?;
        (self.name, self.name_bytes) = (name, name_bytes);
        Ok(())
    }
}

/// Takes out the headers of all records but the first one, as far as they are at hand and the
/// message goes. Returns how many bytes are left, the first header included, and the outcome if the
/// message cannot be read with these: another protocol, too long, or more to come.
#[inline(always)]
pub fn join_records<S: Steps>(steps: &S, buffer: &mut Buffer, have: u32) -> (u32, Outcome) {
    let content = buffer.u16(3);
    // the first record lies where it is to be
    let next = buffer.zero() + RECORD_BYTES + content;
    // the message's header may go on in the second one
    let end = if content < MESSAGE_BYTES {
        STREAM_BYTES
    } else {
        RECORD_BYTES + MESSAGE_BYTES + message_bytes(buffer, RECORD_BYTES)
    };
    let mut join = Join {
        from: next as u16,
        to: next as u16,
        next: next as u16,
        end: end.min(u16::MAX.into()) as u16,
        buffer,
        have: have as u16,
        outcome: Outcome::TooLong,
    };
    steps.each(&mut join);
    let (from, to) = (u32::from(join.from), u32::from(join.to));
    if from < have {
        return (to, join.outcome.within(have));
    }
    // bytes that have not arrived yet were moved, too
    let joined = to - (from - have);
    (joined, Outcome::More.within(have))
}

/// The message, while it is moved together.
struct Join<'a> {
    buffer: &'a mut Buffer,
    /// The next byte to move, and where it goes: never behind it.
    from: u16,
    to: u16,
    /// Where the next record begins.
    next: u16,
    /// Where the message ends once it is whole, or behind that.
    end: u16,
    have: u16,
    outcome: Outcome,
}

impl Step for Join<'_> {
    const MOST: u32 = JOIN_STEPS;
    const AT_ONCE: u32 = 2;

    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        let (from, to, next) = (
            u32::from(self.from),
            u32::from(self.to),
            u32::from(self.next),
        );
        if to >= self.end.into() || from >= self.have.into() {
            return ControlFlow::Break(());
        }
        if from == next {
            return self.header(from);
        }
        let bytes = (next - from).min(8);
        // the place of the bytes behind is not free yet
        let mask = u64::MAX >> (64 - 8 * bytes);
        let moved = self.buffer.eight(from) & mask | self.buffer.eight(to) & !mask;
        self.buffer.set_eight(to, moved);
        self.from = (from + bytes) as u16;
        self.to = (to + bytes) as u16;
        ControlFlow::Continue(())
    }
}

impl Join<'_> {
    #[inline(always)]
    fn stop(&mut self, outcome: Outcome) -> ControlFlow<()> {
        self.outcome = outcome;
        ControlFlow::Break(())
    }

    /// Reads a record's header.
    #[inline(always)]
    fn header(&mut self, from: u32) -> ControlFlow<()> {
        let behind = from + RECORD_BYTES;
        if behind > self.have.into() {
            return self.stop(Outcome::More);
        }
        let content = self.buffer.u16(from + 3);
        let is_record = self.buffer.u8(from) == HANDSHAKE
            && self.buffer.u8(from + 1) == MAJOR
            && content.wrapping_sub(1) < RECORD_MAX_BYTES;
        if !is_record {
            return self.stop(Outcome::Other);
        }
        self.from = behind as u16;
        self.next = (behind + content) as u16;
        ControlFlow::Continue(())
    }
}
