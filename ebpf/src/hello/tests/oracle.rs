//! The same search, written to be read: over slices, without a buffer, masks or steps.

use std::vec::Vec;

use super::Outcome;

/// What a stream names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What was found.
    pub outcome: Outcome,
    /// The name as it stands there.
    pub name: Option<Vec<u8>>,
    /// Whether an extension for Encrypted ClientHello was seen.
    pub ech: bool,
}

impl Reading {
    fn nameless(outcome: Outcome) -> Self {
        Self {
            outcome,
            name: None,
            ech: false,
        }
    }
}

/// Bytes that are searched.
const MOST: usize = 4096;

/// Reads the bytes of a stream that have arrived.
pub fn read(stream: &[u8]) -> Reading {
    let stream = &stream[..stream.len().min(MOST)];
    let mut reading = read_tls(stream).unwrap_or_else(|| read_http(stream));
    if reading.outcome == Outcome::More && stream.len() == MOST {
        reading.outcome = Outcome::TooLong;
    }
    reading
}

/// `None` if it is not TLS.
fn read_tls(stream: &[u8]) -> Option<Reading> {
    let begin = [Some(22), Some(3), None, None, None, Some(1)];
    let differs = |(byte, want): (&u8, Option<u8>)| want.is_some_and(|want| want != *byte);
    if stream.iter().zip(begin).any(differs) {
        return None;
    }
    if stream.len() < 9 {
        return Some(Reading::nameless(Outcome::More));
    }
    let number = |at: usize| usize::from(stream[at]) << 8 | usize::from(stream[at + 1]);
    let content = number(3);
    if content == 0 || content > 16384 {
        return None;
    }
    if content >= 4 && 4 + (usize::from(stream[6]) << 16) + number(7) <= content {
        return Some(read_message(&stream[5..], 5));
    }
    let (joined, state) = join(stream, content);
    let reading = read_message(&joined, 5);
    Some(match (reading.outcome, state) {
        (Outcome::More, Joined::Wrong) => Reading {
            outcome: Outcome::Other,
            ..reading
        },
        (Outcome::More, Joined::TooMany) => Reading {
            outcome: Outcome::TooLong,
            ..reading
        },
        _ => reading,
    })
}

enum Joined {
    AsFarAsItGoes,
    /// A record that is no record of a handshake.
    Wrong,
    /// Records that take too many steps: one for each header behind the first, one for each eight
    /// bytes that are moved.
    TooMany,
}

fn join(stream: &[u8], first: usize) -> (Vec<u8>, Joined) {
    let is_whole = |joined: &[u8]| match joined {
        [_, high, middle, low, body @ ..] => {
            body.len() >= u32::from_be_bytes([0, *high, *middle, *low]) as usize
        }
        _ => false,
    };
    let mut rest = &stream[5..];
    let mut joined: Vec<u8> = rest[..first.min(rest.len())].to_vec();
    rest = &rest[joined.len()..];
    let mut steps = 640;
    loop {
        if is_whole(&joined) || rest.is_empty() {
            return (joined, Joined::AsFarAsItGoes);
        }
        if steps == 0 {
            return (joined, Joined::TooMany);
        }
        let [kind, major, _, high, low, content @ ..] = rest else {
            return (joined, Joined::AsFarAsItGoes);
        };
        let bytes = usize::from(*high) << 8 | usize::from(*low);
        if *kind != 22 || *major != 3 || bytes == 0 || bytes > 16384 {
            return (joined, Joined::Wrong);
        }
        steps -= 1;
        let content = &content[..bytes.min(content.len())];
        rest = &rest[5 + content.len()..];
        for chunk in content.chunks(8) {
            if is_whole(&joined) {
                return (joined, Joined::AsFarAsItGoes);
            }
            if steps == 0 {
                return (joined, Joined::TooMany);
            }
            steps -= 1;
            joined.extend_from_slice(chunk);
        }
    }
}

/// Reads a handshake message, of which a part may be missing, and which begins at `offset` of what
/// is searched.
pub fn read_message(bytes: &[u8], offset: usize) -> Reading {
    if bytes.first().is_some_and(|kind| *kind != 1) {
        return Reading::nameless(Outcome::Other);
    }
    let [_, high, middle, low, ..] = bytes else {
        return Reading::nameless(Outcome::More);
    };
    let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
    let mut cursor = Cursor {
        bytes,
        offset,
        at: 4,
        end: 4 + length,
    };
    let mut ech = false;
    let (outcome, name) = match names(&mut cursor, &mut ech) {
        Ok(name) => (Outcome::Found, Some(name)),
        Err(outcome) => (outcome, None),
    };
    Reading { outcome, name, ech }
}

fn names(cursor: &mut Cursor<'_>, ech: &mut bool) -> Result<Vec<u8>, Outcome> {
    // a message that ends before the session id has no name, whatever of it is at hand
    cursor.take(2 + 32 + 1)?;
    cursor.at -= 1;
    for width in [1, 2, 1] {
        let bytes = cursor.number(width)?;
        cursor.skip(bytes);
    }
    let bytes = cursor.number(2)?;
    if cursor.at + bytes > cursor.end {
        return Err(Outcome::NoName);
    }
    cursor.end = cursor.at + bytes;
    let mut name: Option<Vec<u8>> = None;
    for _ in 0..128 {
        let next = extension(cursor, ech, name.is_some());
        match (next, name.take()) {
            (Ok(found), before) => name = before.or(found),
            (Err(_), Some(name)) => return Ok(name),
            (Err(outcome), None) => return Err(outcome),
        }
    }
    name.ok_or(Outcome::TooLong)
}

/// The name, if this is the extension that has it.
fn extension(
    cursor: &mut Cursor<'_>,
    ech: &mut bool,
    is_named: bool,
) -> Result<Option<Vec<u8>>, Outcome> {
    let header = cursor.take(4)?;
    let kind = u16::from_be_bytes([header[0], header[1]]);
    let bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    *ech |= kind == 0xfe0d;
    if kind != 0 || is_named {
        cursor.skip(bytes);
        return Ok(None);
    }
    if bytes < 5 {
        return Err(Outcome::NoName);
    }
    let behind = cursor.at + bytes;
    let list = cursor.take(5)?;
    let length = usize::from(u16::from_be_bytes([list[3], list[4]]));
    if list[2] != 0 || length == 0 || length > 255 || length + 5 > bytes {
        return Err(Outcome::NoName);
    }
    let name = cursor.take(length)?.to_vec();
    cursor.at = behind;
    Ok(Some(name))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Outcome> {
        let to = self.at + count;
        if to > self.end {
            return Err(Outcome::NoName);
        }
        let taken = self.bytes.get(self.at..to);
        self.at = to;
        taken.ok_or(if self.offset + to > MOST {
            Outcome::TooLong
        } else {
            Outcome::More
        })
    }

    fn number(&mut self, width: usize) -> Result<usize, Outcome> {
        let bytes = self.take(width)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn skip(&mut self, count: usize) {
        self.at += count;
    }
}

/// Reads the head of a request.
fn read_http(stream: &[u8]) -> Reading {
    match host(stream) {
        Ok(host) => Reading {
            name: Some(host),
            ..Reading::nameless(Outcome::Found)
        },
        Err(outcome) => Reading::nameless(outcome),
    }
}

fn host(stream: &[u8]) -> Result<Vec<u8>, Outcome> {
    let empty = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    let begin = stream.iter().take_while(empty).count();
    let request = &stream[begin..];
    let letters = request
        .iter()
        .enumerate()
        .take_while(|(at, byte)| byte.is_ascii_uppercase() || **byte == b'-' && *at != 0)
        .count();
    if begin + letters >= 32 {
        return Err(Outcome::Other);
    }
    match request.get(letters) {
        None => return Err(Outcome::More),
        Some(b' ') if letters != 0 => (),
        Some(_) => return Err(Outcome::Other),
    }
    let (method, target) = (&request[..letters], &request[letters + 1..]);
    let Some(length) = target.iter().position(|byte| *byte < b' ') else {
        return Err(Outcome::More);
    };
    match &target[length..] {
        [b'\n', ..] | [b'\r', b'\n', ..] => (),
        [b'\r'] => return Err(Outcome::More),
        _ => return Err(Outcome::Other),
    }
    let (line, rest) = target.split_at(length);
    match line {
        [
            _,
            ..,
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            b'0'..=b'9',
        ] => (),
        [
            _,
            ..,
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'2',
            b'.',
            b'0'..=b'9',
        ] => {
            return Err(Outcome::Http2);
        }
        _ => return Err(Outcome::Other),
    }
    let lower = line.to_ascii_lowercase();
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| lower.starts_with(scheme));
    let authority = match scheme {
        Some(scheme) => &target[scheme.len()..],
        None if method == b"CONNECT" && line[0] != b'/' => target,
        None => {
            let offset = stream.len() - rest.len();
            let value = field(rest, offset)?;
            return uri_host(value, true);
        }
    };
    uri_host(authority, false)
}

/// What stands behind `Host:`. `lines` begins with the end of the request line, at `offset` of the
/// stream.
fn field(lines: &[u8], offset: usize) -> Result<&[u8], Outcome> {
    let (mut lines, mut offset, mut steps) = (lines, offset, 0);
    loop {
        let feed = lines.iter().position(|byte| *byte == b'\n');
        // each step is a word of eight bytes, and none goes beyond what has arrived
        let last = offset + feed.unwrap_or(lines.len().max(1) - 1);
        steps += last / 8 - offset / 8 + 1;
        if steps > 640 {
            return Err(Outcome::TooLong);
        }
        let Some(feed) = feed else {
            return Err(Outcome::More);
        };
        lines = &lines[feed + 1..];
        offset += feed + 1;
        match lines {
            [] => return Err(Outcome::More),
            [b'\r' | b'\n', ..] => return Err(Outcome::NoName),
            _ if lines.len() < 5 => return Err(Outcome::More),
            [h, o, s, t, b':', value @ ..] if [*h, *o, *s, *t].eq_ignore_ascii_case(b"host") => {
                return Ok(value);
            }
            _ => (),
        }
    }
}

/// The host at the begin of a value or a target, of at most 320 bytes.
fn uri_host(text: &[u8], may_be_blank: bool) -> Result<Vec<u8>, Outcome> {
    let is_blank = |byte: &&u8| may_be_blank && matches!(byte, b' ' | b'\t');
    let blanks = text.iter().take_while(is_blank).count();
    let is_end = |byte: &u8| *byte <= b' ' || b"/?#".contains(byte);
    let length = text[blanks..].iter().position(is_end);
    let read = blanks + length.unwrap_or(text.len() - blanks);
    if read >= 320 {
        return Err(Outcome::NoName);
    }
    let Some(length) = length else {
        return Err(Outcome::More);
    };
    let text = &text[blanks..][..length];
    let text = text.rsplit(|byte| *byte == b'@').next().unwrap_or(text);
    let host = match text {
        [b'[', inside @ ..] => {
            let end = inside.iter().position(|byte| *byte == b']');
            &inside[..end.ok_or(Outcome::NoName)?]
        }
        _ => text.split(|byte| *byte == b':').next().unwrap_or(text),
    };
    if host.is_empty() || host.len() > 255 {
        return Err(Outcome::NoName);
    }
    Ok(host.to_vec())
}
