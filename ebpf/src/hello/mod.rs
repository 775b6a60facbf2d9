//! Input: the first bytes that a client sends in a stream. Output: where the name of the server
//! lies that the client asks for, in TLS ([`tls`]) or HTTP/1 ([`http`]), or why there is none; the
//! keyed hash of a name ([`name`]); how much of a stream has arrived ([`coverage`]). Must not
//! know: maps, packets, flows, the clock.
//!
//! The bytes lie in a [`Buffer`]. What is found is final: more bytes of the same stream never turn
//! it into something else.

mod buffer;
pub mod coverage;
pub mod http;
pub mod name;
mod steps;
pub mod tls;
mod word;

pub use buffer::Buffer;
pub use steps::{Plain, Step, Steps};

/// Bytes of a stream that are searched. A name that ends behind them is not found.
pub const STREAM_BYTES: u32 = 4096;
/// The longest name, bytes: that of DNS (RFC 1035 section 2.3.4).
pub const NAME_MAX_BYTES: u32 = 255;

/// What the first bytes of a stream are.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// They name a server.
    Found = 1,
    /// They may do so once more of them have arrived.
    More = 2,
    /// A ClientHello or a request without a name, or with one that no server accepts.
    NoName = 3,
    /// Another protocol.
    Other = 4,
    /// The name may lie behind what is searched: [`STREAM_BYTES`], or the limits of [`tls`] and
    /// [`http`] for the number of extensions, records and lines.
    TooLong = 5,
    /// A ClientHello in several records: [`tls::joined`] reads it.
    Records = 6,
    /// HTTP/2 without TLS (RFC 9113 section 3.3): names are compressed, and differ from request to
    /// request.
    Http2 = 7,
}

impl Outcome {
    /// With a buffer that is full, waiting is of no use.
    #[inline(always)]
    const fn within(self, have: u32) -> Self {
        if matches!(self, Self::More) && have >= STREAM_BYTES {
            Self::TooLong
        } else {
            self
        }
    }
}

/// The result of a search. Small integers, and no padding, as in
/// [`Packet`](crate::packet::Packet).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Where the name begins in the buffer; 0 without one.
    pub at: u16,
    /// Bytes of the name, 1 to [`NAME_MAX_BYTES`]; 0 without one.
    pub bytes: u16,
    /// What was found.
    pub outcome: Outcome,
    /// 1 if an extension for Encrypted ClientHello (RFC 9849) is among the bytes at hand, else 0.
    /// The name is then that of a provider, unless the extension is GREASE: browsers send it to
    /// any server.
    pub ech: u8,
}

const _: () = assert!(size_of::<Parsed>() == 6);

impl Parsed {
    /// A result without a name.
    #[must_use]
    #[inline(always)]
    pub const fn nameless(outcome: Outcome) -> Self {
        Self {
            at: 0,
            bytes: 0,
            outcome,
            ech: 0,
        }
    }

    /// A name of any length, be it none that a server accepts.
    #[inline(always)]
    const fn named(at: u32, bytes: u32) -> Self {
        if bytes.wrapping_sub(1) >= NAME_MAX_BYTES {
            return Self::nameless(Outcome::NoName);
        }
        Self {
            at: at as u16,
            bytes: bytes as u16,
            outcome: Outcome::Found,
            ech: 0,
        }
    }
}

/// The parsers of one stream's first bytes. In a program each is a function that the verifier
/// checks separately.
pub trait Parsers {
    /// [`tls::record`].
    fn record(&mut self, have: u32) -> Parsed;
    /// [`tls::joined`].
    fn joined(&mut self, have: u32) -> Parsed;
    /// [`http::head`].
    fn head(&mut self, have: u32) -> Parsed;
}

/// Searches the first `have` bytes of a stream, at most [`STREAM_BYTES`]. The bytes may be changed
/// ([`tls::joined`]).
#[inline(always)]
pub fn parse<P: Parsers>(parsers: &mut P, have: u32) -> Parsed {
    let parsed = parsers.record(have);
    match parsed.outcome {
        Outcome::Records => parsers.joined(have),
        Outcome::Other => parsers.head(have),
        _ => parsed,
    }
}

/// A buffer on the host.
impl Parsers for Buffer {
    fn record(&mut self, have: u32) -> Parsed {
        tls::record(&Plain, self, have)
    }

    fn joined(&mut self, have: u32) -> Parsed {
        tls::joined(&Plain, self, have)
    }

    fn head(&mut self, have: u32) -> Parsed {
        http::head(&Plain, self, have)
    }
}

#[cfg(test)]
mod tests;
