//! Input: a datagram of a flow whose server name matters, and what is remembered of the flow.
//! Output: as for a segment. Must not know: what is encrypted, which the daemon reads.
//!
//! A server answers an Initial to the address that it bears, forged or not. Only who gets the answer
//! knows the connection ID that the server has chosen (RFC 9000, section 7.2), and sends to it. So
//! what an Initial says is tentative until its sender has done that.

use super::value::ENDED_LIFE;
use super::{Known, Step, Tentative, Visit};

/// Packets of a flow that count as those of a handshake while the daemon has not told its name.
pub const HANDSHAKE_PACKETS: u32 = 20;

/// A datagram, as far as it matters.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Datagram {
    /// The first four bytes of the connection ID that it is sent to; 0 if it has fewer.
    pub destination: u32,
    /// The same of the one that its sender wants to be sent to; 0 with a short header.
    pub source: u32,
    /// Packets on the wire, of a superpacket all of them.
    pub packets: u32,
    /// 1 if it is an Initial of version 1 or 2 that a server would not drop for its length.
    pub is_initial: u32,
    /// 1 if it is sent by the side whose address and port are the higher ones.
    pub side: u32,
    /// Bytes of its first packet's payload; those of a superpacket have as many, but for the last.
    pub bytes: u32,
}

/// What has come of the datagrams before.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Read {
    /// What the daemon has read in them; 0 if nothing.
    pub known: Known,
    /// How many packets they were.
    pub packets: u32,
    /// [`Datagram::source`] of the side that has not begun; 0 before it has answered.
    pub peer: u32,
    /// 1 if the client offers Encrypted ClientHello.
    pub has_ech: u32,
    /// Zero.
    pub reserved: u32,
}

/// Bytes of a payload for [`header`].
pub const HEADER_BYTES: usize = 12;
/// Bytes of a source ID that count, with the byte before them that is its length.
pub const SOURCE_BYTES: usize = 5;

/// The beginning of a QUIC packet, as far as it is not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// [`Datagram::destination`].
    pub destination: u32,
    /// 1 if it is an Initial of version 1 or 2.
    pub is_initial: u32,
    /// Where the length of the source ID stands in the payload, bytes, and the ID behind it; 0 if
    /// there is none.
    pub source_at: u32,
}

/// Reads the beginning of a payload (RFC 8999; RFC 9000, section 17.2; RFC 9369, section 3.2).
#[must_use]
#[inline(always)]
pub const fn header(bytes: &[u8; HEADER_BYTES]) -> Header {
    const LONG: u8 = 0x80;
    const ID_MAX_BYTES: u8 = 20;
    const NOTHING: Header = Header {
        destination: 0,
        is_initial: 0,
        source_at: 0,
    };
    if bytes[0] & LONG == 0 {
        return Header {
            destination: u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]),
            ..NOTHING
        };
    }
    // the fixed bit may be clear (RFC 9287)
    let initial = match u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) {
        1 => LONG,
        0x6b33_43cf => LONG | 0x10,
        _ => return NOTHING,
    };
    let length = bytes[5];
    if length > ID_MAX_BYTES {
        return NOTHING;
    }
    Header {
        destination: if length < 4 {
            0
        } else {
            u32::from_be_bytes([bytes[6], bytes[7], bytes[8], bytes[9]])
        },
        is_initial: (bytes[0] & 0xb0 == initial) as u32,
        source_at: 6 + length as u32,
    }
}

/// [`Datagram::source`] from its length and first bytes.
#[must_use]
#[inline(always)]
pub const fn source(bytes: &[u8; SOURCE_BYTES]) -> u32 {
    if bytes[0] < 4 {
        0
    } else {
        u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]])
    }
}

/// Whether nothing that is tentative matters to a datagram: its flow is known, and no other
/// connection begins.
#[must_use]
#[inline(always)]
pub const fn is_plain(visit: &Visit) -> bool {
    visit.known.0 != 0 && visit.datagram.is_initial == 0 && !visit.known.has_successor()
}

/// Decides about a datagram, and changes what is known, tentative and read to what is to be
/// remembered. What is known of a flow holds until another connection of the same addresses and
/// ports is confirmed.
#[inline(always)]
pub fn step(visit: &mut Visit) -> Step {
    let (datagram, now) = (visit.datagram, visit.now);
    let is_initial = datagram.is_initial != 0;
    visit.forget = (visit.known.0 != 0 && is_initial && visit.known.is_silent(now)) as u32;
    if visit.forget != 0 {
        visit.known = Known(0);
    }
    let is_known = visit.known.0 != 0;
    if is_known {
        let is_plain = is_plain(visit);
        visit.known = visit.known.seen(now, 0, datagram.side);
        if is_plain {
            return Step::Known;
        }
    }
    let is_other = datagram.side != visit.tentative.side();
    // a client that was not answered tries again; one who has just said something may not take it
    // back so. Without a name the other side may be the client.
    let is_old = visit.tentative.age(now) >= ENDED_LIFE;
    let is_late = is_old && (!is_other || visit.read.known.0 == 0);
    if visit.tentative.value == 0 || is_initial && is_late {
        if is_initial {
            visit.tentative = Tentative::begun(0, datagram.side, now);
            visit.read = Read {
                known: Known(0),
                packets: datagram.packets,
                peer: 0,
                has_ech: 0,
                reserved: 0,
            };
            visit.known = visit.known.succeeded(is_known);
            return Step::Begin;
        }
        visit.known = visit.known.succeeded(false);
        return if is_known { Step::Known } else { Step::Skip };
    }
    visit.read.packets = visit.read.packets.saturating_add(datagram.packets);
    if is_other && datagram.source != 0 {
        visit.read.peer = datagram.source;
    }
    if visit.read.known.0 != 0 {
        let is_peer = datagram.destination == visit.read.peer && visit.read.peer != 0;
        let is_confirmed = !is_other && is_peer;
        if is_confirmed || !is_known {
            visit.known = visit.read.known.seen(now, 0, 0);
        }
        return if is_confirmed {
            Step::Confirm
        } else {
            Step::Decided
        };
    }
    if is_initial && !is_other {
        Step::Ask
    } else {
        Step::Unknown
    }
}

#[cfg(test)]
mod tests;
