//! Input: a TCP segment or a datagram of a flow whose server name matters, and what is remembered of
//! the flow. Output: what is to be done, and what to remember. Must not know: maps, payload, the
//! clock.
//!
//! A forger can send anything but an answer to what he has sent. So what the first side says is
//! tentative, and is known once the other side has acknowledged it.

pub mod datagram;
mod key;
mod value;

use crate::hello::STREAM_BYTES;

pub use datagram::{Datagram, Read};
pub(crate) use key::key_of_end;
pub use key::{Key, key};
pub use value::{Found, IDLE_LIFE, Known, Stamp, Tentative, Undecided, Verdict, age, clock};

/// A TCP segment, as far as it matters.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    /// Sequence number, host byte order.
    pub sequence: u32,
    /// Acknowledgment number, host byte order.
    pub acknowledgment: u32,
    /// Bytes of payload; of a superpacket the payload of all its packets.
    pub payload: u32,
    /// The flags of the header: [`Segment::FIN`] and others.
    pub flags: u32,
    /// 1 if it is sent by the side whose address and port are the higher ones.
    pub side: u32,
}

impl Segment {
    /// The last of its side.
    pub const FIN: u32 = 1;
    /// The first of its side.
    pub const SYN: u32 = 2;
    /// The connection is no more.
    pub const RST: u32 = 4;
    /// [`Segment::acknowledgment`] counts.
    pub const ACK: u32 = 16;

    const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether it acknowledges all before a sequence number. A reset answers anybody, also where
    /// nobody listens.
    const fn acknowledges(&self, end: u32) -> bool {
        self.has(Self::ACK)
            && !self.has(Self::RST)
            && self.acknowledgment.wrapping_sub(end) < 1 << 31
    }

    /// The sequence number of its first byte of payload.
    #[must_use]
    #[inline(always)]
    pub const fn first(&self) -> u32 {
        self.sequence.wrapping_add(self.has(Self::SYN) as u32)
    }
}

/// What is to be done about a segment.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What is known is to be remembered, if it has changed.
    Known,
    /// What is known was tentative until now.
    Confirm,
    /// What is known stays tentative.
    Decided,
    /// The same, and it is to be remembered as tentative.
    Conclude,
    /// Nothing is known yet.
    Unknown,
    /// Nothing is known yet; what is tentative is to be remembered.
    Remember,
    /// The payload may tell.
    Read,
    /// The payload may tell the daemon; what is tentative begins.
    Begin,
    /// The same, and it has begun before.
    Ask,
    /// The name cannot be known, and nothing is to be remembered.
    Skip,
}

/// A segment's flow, and what is to be remembered of it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Visit {
    /// What is known of the flow; 0 if nothing is.
    pub known: Known,
    /// What is tentative; 0 if nothing is.
    pub tentative: Tentative,
    /// The segment, for [`step`].
    pub segment: Segment,
    /// The datagram, for [`datagram::step`].
    pub datagram: Datagram,
    /// What has come of the datagrams before.
    pub read: Read,
    /// Where the payload begins in what its side says, bytes, for [`Step::Read`].
    pub offset: u32,
    /// A [`clock`].
    pub now: u32,
    /// 1 if a flow that was known begins anew.
    pub forget: u32,
}

impl Visit {
    /// Whether the segment neither begins nor ends anything: then nothing that is tentative matters
    /// to a flow that is known.
    #[must_use]
    #[inline(always)]
    pub const fn is_plain(&self) -> bool {
        self.known.0 != 0 && !self.segment.has(Segment::SYN)
    }
}

/// Decides about a segment, and changes what is known and tentative to what is to be remembered.
#[inline(always)]
pub fn step(visit: &mut Visit) -> Step {
    let (segment, now) = (visit.segment, visit.now);
    let is_first = segment.has(Segment::SYN) && !segment.has(Segment::ACK);
    let is_answer = segment.has(Segment::SYN) && segment.has(Segment::ACK);
    let is_tentative = visit.tentative.value != 0;
    let is_begun = is_tentative && visit.tentative.is_begun();
    let is_decided = is_tentative && !visit.tentative.is_begun();
    let is_other = segment.side != visit.tentative.side();
    let is_exact = visit.tentative.sequence == segment.acknowledgment;
    let is_answered = is_answer && is_tentative && is_other && is_exact;
    let is_over = is_answer && visit.known.is_over(now);
    if visit.known.0 != 0 && !is_first && !is_answered && !is_over {
        visit.known = visit.known.seen(now, ended(&segment), segment.side);
        return Step::Known;
    }
    // a connection begins anew when the other side says so, too
    visit.forget = (visit.known.0 != 0 && (is_answered || is_over)) as u32;
    if is_answer {
        if is_answered && is_begun {
            return Step::Unknown;
        }
        // it acknowledges payload of the first segment, or comes late
        if is_answered || is_decided && visit.tentative.age(now) < value::ENDED_LIFE {
            visit.known = visit.tentative.known(now);
            return if is_answered {
                Step::Confirm
            } else {
                Step::Decided
            };
        }
        visit.tentative = Tentative::begun(segment.acknowledgment, segment.side ^ 1, now);
        return Step::Remember;
    }
    if is_first && segment.payload == 0 {
        // one who has just said something may not take it back so
        if is_decided && visit.tentative.age(now) < value::ENDED_LIFE {
            return Step::Unknown;
        }
        visit.tentative = Tentative::begun(segment.first(), segment.side, now);
        return Step::Remember;
    }
    if is_decided {
        visit.known = visit.tentative.known(now);
        return if is_other && segment.acknowledges(visit.tentative.sequence) {
            Step::Confirm
        } else {
            Step::Decided
        };
    }
    if segment.payload == 0 {
        return Step::Unknown;
    }
    if !is_tentative {
        let begun = Tentative::begun(segment.first(), segment.side, now);
        // a first segment may have payload (RFC 7413)
        visit.tentative = if is_first {
            begun
        } else {
            begun.without_handshake()
        };
        visit.offset = 0;
        return Step::Read;
    }
    if is_other {
        // not one who does not even know where the client is
        let said = segment
            .acknowledgment
            .wrapping_sub(visit.tentative.sequence);
        if !segment.has(Segment::ACK) || said > STREAM_BYTES {
            return Step::Unknown;
        }
        visit.tentative = Tentative::undecided(Undecided::ServerFirst, &segment, now);
        visit.known = visit.tentative.known(now);
        return Step::Conclude;
    }
    visit.offset = segment.first().wrapping_sub(visit.tentative.sequence);
    Step::Read
}

/// Which sides have ended: bits 0 and 1; the side of the segment is bit 0.
const fn ended(segment: &Segment) -> u32 {
    if segment.has(Segment::RST) {
        3
    } else {
        segment.has(Segment::FIN) as u32
    }
}

#[cfg(test)]
mod tests;
