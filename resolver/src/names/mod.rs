//! Input and output: the text of names.toml, which the resolver writes and the daemon reads. The
//! writer is a user without privileges that talks to the network: everything that is read has its
//! bounds, and a file beyond them is rejected as a whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Deserialize;

use crate::name::Name;

/// Version of the format.
const VERSION: u32 = 1;

/// Names that are resolved at most.
pub const MOST_NAMES: usize = 10_000;
/// Addresses that a name has at most.
pub const MOST_ADDRESSES: usize = 1_000;
/// Addresses that all names together have at most.
pub const MOST_IN_ALL: usize = 100_000;
/// Bytes that the file has at most.
pub const MOST_BYTES: usize = 16 << 20;

/// Names, and what is known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub BTreeMap<Name, Known>);

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// When it was last answered with an address, seconds since 1970; `None`: never.
    pub answered: Option<u64>,
    /// Why the last question was not answered; the addresses stay nevertheless.
    pub failing: Option<Failing>,
    /// Addresses of the last answer that found no room.
    pub omitted: u32,
    /// Its addresses.
    pub addresses: BTreeMap<IpAddr, Times>,
}

/// Since when an address is known, and how long it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it was last answered, seconds since 1970.
    pub answered: u64,
    /// Until when it stays if it is not answered again, seconds since 1970. The resolver removes it
    /// at the first answer after this time, so that a DNS server that is down removes nothing: the
    /// time may have passed.
    pub until: u64,
}

/// A name that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Failing {
    /// Since when, seconds since 1970.
    pub since: u64,
    /// Why the last question was not answered.
    pub reason: Failure,
}

/// Why a question was not answered with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// There is no such name (NXDOMAIN).
    NoSuchName,
    /// The name has no address.
    NoAddress,
    /// No server has answered in time.
    Timeout,
    /// No server can be reached, or none is configured.
    Unreachable,
    /// The servers failed (SERVFAIL and others).
    ServerFailure,
    /// The servers refuse to answer (REFUSED).
    Refused,
    /// The answer is malformed.
    Malformed,
    /// An alias (CNAME) leads to itself, or over too many others.
    AliasLoop,
    /// systemd-resolved rejects the signature (DNSSEC).
    Dnssec,
}

impl Failure {
    /// Whether the owner of the domain has said so; the others say nothing about the name.
    pub fn is_authoritative(self) -> bool {
        matches!(self, Self::NoSuchName | Self::NoAddress)
    }

    /// What has happened, as in "the name was not resolved: ...".
    pub fn text(self) -> &'static str {
        match self {
            Self::NoSuchName => "there is no such name (NXDOMAIN)",
            Self::NoAddress => "the name has no address",
            Self::Timeout => "no DNS server answered in time",
            Self::Unreachable => "no DNS server can be reached",
            Self::ServerFailure => "the DNS servers failed (SERVFAIL)",
            Self::Refused => "the DNS servers refused to answer (REFUSED)",
            Self::Malformed => "the answer of the DNS server is malformed",
            Self::AliasLoop => "aliases (CNAME) lead in a circle, or over too many names",
            Self::Dnssec => "systemd-resolved rejected the signature of the answer (DNSSEC)",
        }
    }
}

/// Why the file is rejected: a sentence without its subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// It is no TOML, or of another shape.
    #[error("cannot be read: {0}")]
    Syntax(String),
    /// It was written by another version.
    #[error("has version {0} of its format, and this program reads version {VERSION}")]
    Version(u32),
    /// More than there may be.
    #[error("has more than {1} {0}")]
    TooMany(&'static str, usize),
    /// An address that no host has.
    #[error("has the address {0}, which no host has")]
    Address(IpAddr),
}

#[derive(Deserialize)]
struct File {
    version: u32,
    #[serde(default)]
    names: BTreeMap<Name, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    answered: Option<u64>,
    failing: Option<Failing>,
    #[serde(default)]
    omitted: u32,
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    address: IpAddr,
    answered: u64,
    until: u64,
}

impl Names {
    /// Reads the file.
    ///
    /// # Errors
    /// It is malformed, of another version or beyond the bounds.
    pub fn parse(text: &str) -> Result<Self, NamesError> {
        if text.len() > MOST_BYTES {
            return Err(NamesError::TooMany("bytes", MOST_BYTES));
        }
        let file: File =
            toml::from_str(text).map_err(|error| NamesError::Syntax(error.message().to_owned()))?;
        if file.version != VERSION {
            return Err(NamesError::Version(file.version));
        }
        if file.names.len() > MOST_NAMES {
            return Err(NamesError::TooMany("names", MOST_NAMES));
        }
        let names = file.names.into_iter();
        let names = names
            .map(|(name, entry)| Ok((name, entry.known()?)))
            .collect::<Result<_, NamesError>>()?;
        let names = Self(names);
        if names.count() > MOST_IN_ALL {
            return Err(NamesError::TooMany("addresses", MOST_IN_ALL));
        }
        Ok(names)
    }

    /// Writes the file.
    pub fn render(&self) -> String {
        let mut text = format!(
            "# Written by traffic-mirror-resolver. Times are seconds since 1970.\nversion = {VERSION}\n"
        );
        for (name, known) in &self.0 {
            // a String takes all that is written
            let _ = known.render(name, &mut text);
        }
        text
    }

    /// Addresses of all names; an address of two names counts twice.
    pub fn count(&self) -> usize {
        self.0.values().map(|known| known.addresses.len()).sum()
    }

    /// Addresses of a name in order, with their times; none if it is not known.
    pub fn addresses_of(&self, name: &Name) -> impl Iterator<Item = (IpAddr, Times)> {
        let known = self.0.get(name).into_iter();
        known.flat_map(|known| {
            known
                .addresses
                .iter()
                .map(|(&address, &times)| (address, times))
        })
    }

    /// The names that have an address, in order, each with the times of the address.
    pub fn names_of(&self, address: IpAddr) -> impl Iterator<Item = (&Name, Times)> {
        let times = move |known: &Known| known.addresses.get(&address).copied();
        self.0
            .iter()
            .filter_map(move |(name, known)| Some((name, times(known)?)))
    }
}

impl Known {
    fn render(&self, name: &Name, text: &mut String) -> std::fmt::Result {
        // a name has no character that TOML escapes
        writeln!(text, "\n[names.\"{name}\"]")?;
        if let Some(answered) = self.answered {
            writeln!(text, "answered = {answered}")?;
        }
        if let Some(Failing { since, reason }) = self.failing {
            let reason = reason.word();
            writeln!(
                text,
                "failing = {{ since = {since}, reason = \"{reason}\" }}"
            )?;
        }
        if self.omitted > 0 {
            writeln!(text, "omitted = {}", self.omitted)?;
        }
        writeln!(text, "addresses = [")?;
        for (address, Times { answered, until }) in &self.addresses {
            writeln!(
                text,
                "  {{ address = \"{address}\", answered = {answered}, until = {until} }},"
            )?;
        }
        writeln!(text, "]")
    }
}

impl Failure {
    /// Its word in the file, as serde has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoSuchName => "no-such-name",
            Self::NoAddress => "no-address",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::ServerFailure => "server-failure",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::AliasLoop => "alias-loop",
            Self::Dnssec => "dnssec",
        }
    }
}

impl Entry {
    fn known(self) -> Result<Known, NamesError> {
        if self.addresses.len() > MOST_ADDRESSES {
            return Err(NamesError::TooMany("addresses of a name", MOST_ADDRESSES));
        }
        let checked = |line: Address| {
            let (answered, until) = (line.answered, line.until);
            match is_host(line.address) {
                true => Ok((line.address, Times { answered, until })),
                false => Err(NamesError::Address(line.address)),
            }
        };
        let addresses = self.addresses.into_iter().map(checked);
        Ok(Known {
            answered: self.answered,
            failing: self.failing,
            omitted: self.omitted,
            addresses: addresses.collect::<Result<_, _>>()?,
        })
    }
}

/// Whether a host can have an address: servers that block names answer 0.0.0.0 or ::, and an IPv4
/// address in an AAAA record belongs to no packet.
pub fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => !four.is_unspecified() && !four.is_broadcast() && !four.is_multicast(),
        IpAddr::V6(six) => {
            !six.is_unspecified() && !six.is_multicast() && six.to_ipv4_mapped().is_none()
        }
    }
}

#[cfg(test)]
mod tests;
