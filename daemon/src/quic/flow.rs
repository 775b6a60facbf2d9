//! Input: the UDP payloads of one flow, in the order in which they come. Output: the server name, or
//! why there is none yet. Must not know the clock or other flows.
//!
//! A client's Initials have one pair of keys: that of the Destination Connection ID of its first
//! one. It stays when the server has chosen another ID, for which the client sends from then on
//! (RFC 9001, section 5.2). Only after a Retry packet, or in another connection, the keys follow
//! from the ID of the packet itself. So an Initial is opened with the keys at hand, or else with its
//! own, and the AEAD tag tells which. Keys that have opened nothing are not kept.

use super::frames;
use super::hello::{Parsed, server_name};
use super::keys::{Keys, Opened};
use super::packet::{Initial, Malformed, Packet, Packets, Version};
use super::stream::{HELLO_MAX_BYTES, Stream};

/// What a datagram says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The client asks for this server. Decides.
    Name {
        /// As it was sent: letters of any case, all of it ASCII without blanks.
        name: String,
        /// Whether Encrypted ClientHello was seen beside it. The name is then that of a provider,
        /// unless the extension is GREASE, which browsers send to any server: nobody on the path
        /// can tell.
        has_ech: bool,
    },
    /// The ClientHello has no name, or none that a server accepts. Decides.
    NoName,
    /// As [`Outcome::NoName`], and the ClientHello has an encrypted one in it. Decides.
    Ech,
    /// The name is not in the first [`HELLO_MAX_BYTES`] of the handshake. Decides.
    TooLong,
    /// A QUIC packet without what is missing.
    More,
    /// A server asks the client to begin again. The next Initial repeats the whole hello.
    Retry,
    /// A server does not have the client's version. A client that has another one begins again.
    VersionNegotiation,
    /// A version that is not known, by its number.
    Version(u32),
    /// An Initial that no keys at hand open: it is damaged, a server's, or its connection began
    /// before.
    Unopened,
    /// A server drops it, or closes the connection.
    Malformed(Malformed),
    /// No QUIC packet with which a connection begins.
    NotQuic,
}

impl Outcome {
    /// Whether no later datagram of the connection can change it.
    pub fn is_decided(&self) -> bool {
        matches!(
            self,
            Self::Name { .. } | Self::NoName | Self::Ech | Self::TooLong
        )
    }
}

/// A connection of which an Initial was opened.
struct Connection {
    /// Destination Connection ID of its first Initial.
    destination: Vec<u8>,
    /// Source Connection ID: where a server sends its answers (RFC 9000, section 7.2).
    source: Vec<u8>,
    version: Version,
    keys: Keys,
    /// The largest packet number that was opened.
    largest: u64,
    stream: Stream,
}

/// What is known of a flow.
#[derive(Default)]
pub struct Flow {
    /// The newest is the last.
    connections: Vec<Connection>,
}

/// Bytes of a datagram with an Initial: a server drops shorter ones (RFC 9000, section 14.1), and
/// does not answer a version that it does not have in shorter ones (section 5.2.2).
const DATAGRAM_MIN_BYTES: usize = 1200;
/// Bytes of the ID that a client makes up for its first Initial (RFC 9000, section 7.2). The one
/// that a server chooses, also by a Retry packet, may be shorter.
const ID_MIN_BYTES: usize = 8;
/// Connections of one flow whose hello may be incomplete at a time: one before and one after a Retry
/// packet, or two of a client that uses one port for several.
const CONNECTIONS_MAX: usize = 2;
/// Initials of one datagram that are opened. A client has a use for one.
const INITIALS_MAX: usize = 4;

impl Flow {
    /// Takes a whole UDP payload. Payloads of the server may be among them.
    pub fn datagram(&mut self, payload: &[u8]) -> Outcome {
        let mut initials = 0;
        let mut outcome = None;
        for packet in Packets::of(payload) {
            let next = match packet {
                Ok(Packet::Initial(_)) if initials == INITIALS_MAX => {
                    Outcome::Malformed(Malformed::Crowded)
                }
                Ok(Packet::Initial(initial)) => {
                    initials += 1;
                    self.initial(&initial, payload.len())
                        .unwrap_or_else(Outcome::Malformed)
                }
                Ok(Packet::ZeroRtt | Packet::Handshake) => Outcome::More,
                Ok(Packet::Retry) => Outcome::Retry,
                Ok(Packet::VersionNegotiation) => Outcome::VersionNegotiation,
                Ok(Packet::Unknown(version)) if payload.len() >= DATAGRAM_MIN_BYTES => {
                    Outcome::Version(version)
                }
                Ok(Packet::Short) if outcome.is_some() || self.has_begun() => Outcome::More,
                Ok(Packet::Short | Packet::Unknown(_) | Packet::Foreign) => Outcome::NotQuic,
                Err(reason) => Outcome::Malformed(reason),
            };
            if next.is_decided() {
                return next;
            }
            if matches!(outcome, None | Some(Outcome::More)) {
                outcome = Some(next);
            }
        }
        outcome.unwrap_or(Outcome::NotQuic)
    }

    /// Whether anything is known.
    pub fn has_begun(&self) -> bool {
        !self.connections.is_empty()
    }

    fn initial(
        &mut self,
        initial: &Initial<'_>,
        datagram_bytes: usize,
    ) -> Result<Outcome, Malformed> {
        let is_small = datagram_bytes < DATAGRAM_MIN_BYTES;
        let opened = if is_small { None } else { self.open(initial) };
        let Some((connection, opened)) = opened else {
            // what a server sends goes to the ID that its client has chosen
            let is_answer = |connection: &Connection| connection.source == initial.destination;
            return if self.connections.iter().any(is_answer) {
                Ok(Outcome::More)
            } else if is_small {
                Err(Malformed::Small)
            } else {
                Ok(Outcome::Unopened)
            };
        };
        connection.largest = connection.largest.max(opened.number);
        if opened.is_reserved {
            return Err(Malformed::Reserved);
        }
        for piece in frames::pieces(opened.frames())? {
            connection.stream.insert(piece)?;
        }
        let front = connection.stream.front()?;
        match server_name(front) {
            Parsed::Name { name, has_ech } => Ok(Outcome::Name { name, has_ech }),
            Parsed::NoName { has_ech: true } => Ok(Outcome::Ech),
            Parsed::NoName { has_ech: false } => Ok(Outcome::NoName),
            Parsed::Partial if front.len() < HELLO_MAX_BYTES => Ok(Outcome::More),
            Parsed::Partial => Ok(Outcome::TooLong),
            Parsed::Other => Err(Malformed::Hello),
        }
    }

    /// The connection whose keys open it, a new one included.
    fn open(&mut self, initial: &Initial<'_>) -> Option<(&mut Connection, Opened)> {
        let mut newest_first = self.connections.iter_mut().enumerate().rev();
        let found = newest_first.find_map(|(index, connection)| {
            let opened = connection.open(initial)?;
            Some((index, opened))
        });
        let (index, opened) = match found {
            Some(found) => found,
            None => {
                let (connection, opened) = self.begin(initial)?;
                if self.connections.len() == CONNECTIONS_MAX {
                    self.connections.remove(0);
                }
                self.connections.push(connection);
                (self.connections.len() - 1, opened)
            }
        };
        Some((self.connections.get_mut(index)?, opened))
    }

    /// A new connection, if its Initial is opened by its own keys.
    fn begin(&self, initial: &Initial<'_>) -> Option<(Connection, Opened)> {
        // those keys were tried
        let is_known = |connection: &Connection| connection.destination == initial.destination;
        let is_short = initial.destination.len() < ID_MIN_BYTES && initial.token.is_empty();
        if is_short || self.connections.iter().any(is_known) {
            return None;
        }
        let keys = Keys::of_client(initial.version, initial.destination)?;
        let opened = keys.open(initial, None)?;
        let connection = Connection {
            destination: initial.destination.to_vec(),
            source: initial.source.to_vec(),
            version: initial.version,
            keys,
            largest: opened.number,
            stream: Stream::default(),
        };
        Some((connection, opened))
    }
}

impl Connection {
    fn open(&mut self, initial: &Initial<'_>) -> Option<Opened> {
        if self.version == initial.version {
            return self.keys.open(initial, Some(self.largest));
        }
        // RFC 9369, section 4.1: the version may change in the handshake, the ID stays
        let keys = Keys::of_client(initial.version, &self.destination)?;
        let opened = keys.open(initial, Some(self.largest))?;
        (self.version, self.keys) = (initial.version, keys);
        Some(opened)
    }
}
