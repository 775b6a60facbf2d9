//! Input: a UDP payload. Output: the QUIC packets in it, as far as their headers are not encrypted
//! (RFC 8999; RFC 9000, sections 12.2 and 17.2; RFC 9369, section 3.2). Must not know any key.

use super::reader::Reader;

/// A version whose Initials can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 9000.
    One,
    /// RFC 9369.
    Two,
}

/// What stands in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Carries the beginning of the handshake.
    Initial(Initial<'a>),
    /// Early data, behind the client's Initials or in front of them.
    ZeroRtt,
    /// Later parts of the handshake.
    Handshake,
    /// A server asks the client to begin again, with a token.
    Retry,
    /// A server lists the versions that it has.
    VersionNegotiation,
    /// Of a version that is not known here, by its number.
    Unknown(u32),
    /// Data: a packet with a short header, which has no version.
    Short,
    /// No QUIC packet.
    Foreign,
}

/// A packet that is protected with keys which follow from its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initial<'a> {
    /// Salt and labels of the keys follow from it.
    pub version: Version,
    /// Destination Connection ID: 0 to 20 bytes.
    pub destination: &'a [u8],
    /// Source Connection ID: 0 to 20 bytes.
    pub source: &'a [u8],
    /// What a server gave the client before, in a Retry packet or in an earlier connection.
    pub token: &'a [u8],
    /// The whole packet, from its first byte to the end of the AEAD tag.
    pub bytes: &'a [u8],
    /// Where the packet number begins in `bytes`; at least 20 bytes follow.
    pub number_at: usize,
}

/// Why a packet is not what the RFCs allow. A server drops it, or closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// A header of version 1 or 2 that is cut short, has a connection ID of more than 20 bytes or no
    /// fixed bit (RFC 9000, section 17.2).
    Header,
    /// An Initial in a datagram of fewer than 1,200 bytes (RFC 9000, section 14.1).
    Small,
    /// More Initials in one datagram, or more pieces of a handshake with gaps between them, than a
    /// client has a use for.
    Crowded,
    /// Reserved bits of an Initial are set (RFC 9000, section 17.2).
    Reserved,
    /// An Initial without a frame, with one that it must not carry (RFC 9000, section 12.4), or with
    /// one that is cut short.
    Frame,
    /// CRYPTO frames that say different things about the same bytes (RFC 9000, section 2.2).
    Conflict,
    /// The handshake does not begin with a ClientHello (RFC 9001, section 4).
    Hello,
}

impl Version {
    fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::One),
            0x6b33_43cf => Some(Self::Two),
            _ => None,
        }
    }

    /// The type of a packet as version 1 numbers it: Initial, 0-RTT, Handshake, Retry.
    fn kind(self, first: u8) -> u8 {
        let kind = first >> 4 & 3;
        match self {
            Self::One => kind,
            Self::Two => kind.wrapping_sub(1) & 3,
        }
    }
}

/// "Header Form" of RFC 8999.
const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;
const ID_MAX_BYTES: usize = 20;
/// The longest packet number, and the sample behind it, which header protection needs (RFC 9001,
/// section 5.4.2).
const NUMBER_AND_SAMPLE_BYTES: usize = 4 + 16;
/// The integrity tag of a Retry packet.
const TAG_BYTES: usize = 16;

/// A packet, the connection ID that it is sent to, and what follows it.
type Parsed<'a> = (Packet<'a>, Option<&'a [u8]>, &'a [u8]);

fn parse(datagram: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let mut reader = Reader::new(datagram);
    let whole = |packet| Ok((packet, None, &[][..]));
    match datagram.first() {
        None => return whole(Packet::Foreign),
        Some(first) if first & LONG == 0 => return whole(Packet::Short),
        Some(_) => {}
    }
    let mut invariant = || {
        let (first, number) = (reader.number(1)? as u8, reader.number(4)? as u32);
        Some((first, number, reader.vector(1), reader.vector(1)))
    };
    let (first, number, destination, source) = match invariant() {
        Some((first, number, Some(destination), Some(source))) => {
            (first, number, destination, source)
        }
        Some((_, number, ..)) if Version::of(number).is_some() => return Err(Malformed::Header),
        _ => return whole(Packet::Foreign),
    };
    let Some(version) = Version::of(number) else {
        return whole(match number {
            0 if is_list_of_versions(reader.rest()) => Packet::VersionNegotiation,
            0 => Packet::Foreign,
            _ => Packet::Unknown(number),
        });
    };
    if destination.len().max(source.len()) > ID_MAX_BYTES {
        return Err(Malformed::Header);
    }
    let body = body(datagram, reader, (version, first), (destination, source));
    let (packet, rest) = body.ok_or(Malformed::Header)?;
    Ok((packet, Some(destination), rest))
}

/// RFC 9000, section 17.2.1.
fn is_list_of_versions(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len().is_multiple_of(4)
}

/// What follows the connection IDs in versions 1 and 2.
fn body<'a>(
    datagram: &'a [u8],
    mut reader: Reader<'a>,
    (version, first): (Version, u8),
    (destination, source): (&'a [u8], &'a [u8]),
) -> Option<(Packet<'a>, &'a [u8])> {
    let kind = version.kind(first);
    if kind == 3 {
        // RFC 9000, section 17.2.5.2: a token must be there
        let is_whole = first & FIXED != 0 && reader.rest().len() > TAG_BYTES;
        return is_whole.then_some((Packet::Retry, &[]));
    }
    let token = if kind == 0 {
        reader.varint_vector()?
    } else {
        &[]
    };
    let length = usize::try_from(reader.varint()?).ok()?;
    let number_at = datagram.len() - reader.rest().len();
    reader.take(length)?;
    let packet = match kind {
        0 => {
            // RFC 9287, section 3.1: with a token of an earlier connection it may be clear
            let is_fixed = first & FIXED != 0 || !token.is_empty();
            if !is_fixed || length < NUMBER_AND_SAMPLE_BYTES {
                return None;
            }
            Packet::Initial(Initial {
                version,
                destination,
                source,
                token,
                bytes: datagram.get(..number_at + length)?,
                number_at,
            })
        }
        1 => Packet::ZeroRtt,
        _ => Packet::Handshake,
    };
    Some((packet, reader.rest()))
}

/// The packets of one datagram, front to back.
///
/// Behind the first one only those count that are sent to the same connection ID (RFC 9000, section
/// 12.2). Whatever else follows it, such as padding, is left out.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
    is_first: bool,
    destination: Option<&'a [u8]>,
}

impl<'a> Packets<'a> {
    /// Those of a whole UDP payload, of any length.
    pub fn of(datagram: &'a [u8]) -> Self {
        Self {
            rest: datagram,
            is_first: true,
            destination: None,
        }
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let is_first = std::mem::replace(&mut self.is_first, false);
            if self.rest.is_empty() && !is_first {
                return None;
            }
            let parsed = parse(std::mem::take(&mut self.rest));
            if is_first {
                return Some(parsed.map(|(packet, destination, rest)| {
                    (self.destination, self.rest) = (destination, rest);
                    packet
                }));
            }
            let (packet, destination, rest) = parsed.ok()?;
            self.rest = rest;
            match packet {
                Packet::Short => return Some(Ok(packet)),
                Packet::Initial(_) | Packet::ZeroRtt | Packet::Handshake => {
                    if destination == self.destination {
                        return Some(Ok(packet));
                    }
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quic::samples;

    fn of(datagram: &[u8]) -> Vec<Result<Packet<'_>, Malformed>> {
        Packets::of(datagram).collect()
    }

    /// A long header with no token, and `length` bytes behind it.
    fn long(first: u8, version: u32, destination: &[u8], length: u8) -> Vec<u8> {
        let mut bytes = vec![first];
        bytes.extend(version.to_be_bytes());
        bytes.push(destination.len() as u8);
        bytes.extend(destination);
        bytes.extend([2, 0xa, 0xb]);
        let kind = Version::of(version).map_or(4, |version| version.kind(first));
        bytes.extend((kind == 0).then_some(0));
        bytes.push(length);
        bytes.extend(std::iter::repeat_n(0x55, length.into()));
        bytes
    }

    #[test]
    fn the_samples_of_the_rfcs_are_initials() {
        let id = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
        for (sample, version) in [
            (samples::client_one(), Version::One),
            (samples::client_two(), Version::Two),
        ] {
            let initial = Initial {
                version,
                destination: &id,
                source: &[],
                token: &[],
                bytes: &sample,
                number_at: 18,
            };
            assert_eq!(of(&sample), [Ok(Packet::Initial(initial))]);
        }
        for sample in [samples::SERVER_ONE, samples::SERVER_TWO] {
            let sample = samples::bytes(sample);
            let [Ok(Packet::Initial(initial))] = of(&sample)[..] else {
                panic!("{:?}", of(&sample));
            };
            assert_eq!(
                (initial.destination, initial.source.len()),
                (&[][..], 8),
                "{initial:?}"
            );
        }
        for sample in [samples::RETRY_ONE, samples::RETRY_TWO] {
            assert_eq!(of(&samples::bytes(sample)), [Ok(Packet::Retry)]);
        }
    }

    #[test]
    fn each_type_is_told_apart_in_both_versions() {
        const TWO: u32 = 0x6b33_43cf;
        for (version, first, expected) in [
            (1, 0xd0, Packet::ZeroRtt),
            (1, 0xe0, Packet::Handshake),
            (1, 0xf0, Packet::Retry),
            (TWO, 0xe0, Packet::ZeroRtt),
            (TWO, 0xf0, Packet::Handshake),
            (TWO, 0xc0, Packet::Retry),
            (0x0a1a_2a3a, 0xc0, Packet::Unknown(0x0a1a_2a3a)),
            (0xff00_001d, 0xc0, Packet::Unknown(0xff00_001d)),
        ] {
            assert_eq!(
                of(&long(first, version, &[7; 8], 40)),
                [Ok(expected)],
                "{version:x} {first:x}"
            );
        }
        for (version, first) in [(1, 0xc0), (TWO, 0xd0)] {
            let initial = long(first, version, &[7; 8], 40);
            assert!(matches!(of(&initial)[..], [Ok(Packet::Initial(_))]));
        }
        assert_eq!(of(&[0x40; 30]), [Ok(Packet::Short)]);
        assert_eq!(of(&[]), [Ok(Packet::Foreign)]);
        assert_eq!(of(&[0x80, 0, 1]), [Ok(Packet::Foreign)]);
    }

    /// RFC 9000, section 17.2.1: as a server answers, with any bits in its first byte.
    #[test]
    fn version_negotiation() {
        let mut bytes = vec![0xaa, 0, 0, 0, 0, 1, 7, 2, 8, 9];
        assert_eq!(of(&bytes), [Ok(Packet::Foreign)], "no version is listed");
        bytes.extend(1_u32.to_be_bytes());
        bytes.extend(0x6b33_43cf_u32.to_be_bytes());
        assert_eq!(of(&bytes), [Ok(Packet::VersionNegotiation)]);
        bytes.push(0);
        assert_eq!(of(&bytes), [Ok(Packet::Foreign)]);
    }

    #[test]
    fn what_the_rfcs_forbid_is_malformed() {
        let good = long(0xc0, 1, &[7; 8], 40);
        for length in 6..good.len() {
            assert_eq!(
                of(&good[..length]),
                [Err(Malformed::Header)],
                "{length} bytes of it"
            );
        }
        for bad in [
            long(0x80, 1, &[7; 8], 40),
            long(0xc0, 1, &[7; 21], 40),
            long(0xc0, 1, &[7; 8], 19),
            samples::bytes(samples::RETRY_ONE)[..31].to_vec(),
        ] {
            assert_eq!(of(&bad), [Err(Malformed::Header)], "{bad:x?}");
        }
        // RFC 8999 allows it to other versions
        assert_eq!(of(&long(0xc0, 9, &[7; 21], 40)), [Ok(Packet::Unknown(9))]);
    }

    #[test]
    fn several_packets_in_one_datagram() {
        let mut all = long(0xc0, 1, &[7; 8], 40);
        all.extend(long(0xd0, 1, &[7; 8], 30));
        // to another connection: not of this client
        all.extend(long(0xc0, 1, &[8; 8], 30));
        all.extend(long(0xe0, 1, &[7; 8], 20));
        let padded = [&all[..], &[0; 9]].concat();
        all.extend([0x41; 25]);
        for all in [all, padded] {
            let found = of(&all);
            assert!(
                matches!(
                    found[..],
                    [
                        Ok(Packet::Initial(_)),
                        Ok(Packet::ZeroRtt),
                        Ok(Packet::Handshake),
                        Ok(Packet::Short)
                    ]
                ),
                "{found:?}"
            );
        }
        // a list of versions, another version, or garbage do not follow anything
        for behind in [
            &long(0xc0, 9, &[7; 8], 30)[..],
            &[0xc0; 3],
            &[0xc0, 0, 0, 0, 1, 99],
        ] {
            let both = [&long(0xd0, 1, &[7; 8], 30)[..], behind].concat();
            assert_eq!(of(&both), [Ok(Packet::ZeroRtt)]);
        }
    }
}
