//! IP protocols by name and number, and what the other conditions of a filter mean to them.

use super::problem::Problem;
use crate::config::Item;
use crate::diagnostic::{Code, alternatives, did_you_mean};

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// The protocol names of the file format, and their numbers (IANA "Protocol Numbers").
const NAMES: [(&str, u8); 22] = [
    ("tcp", TCP),
    ("udp", UDP),
    ("icmp", ICMP),
    ("icmpv6", ICMPV6),
    ("sctp", SCTP),
    ("dccp", DCCP),
    ("udplite", UDPLITE),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipip", 4),
    ("ipv6", 41),
    ("igmp", IGMP),
    ("ospf", 89),
    ("vrrp", 112),
    ("l2tp", 115),
    ("pim", 103),
    ("eigrp", 88),
    ("rsvp", 46),
    ("hip", 139),
    ("mpls-in-ip", 137),
    ("ipcomp", 108),
];

/// One element of `protocol`: a name or a number.
pub(super) fn protocol(item: &Item) -> Result<u8, Problem> {
    let text = match item {
        Item::Number(number) => return in_range(*number),
        Item::Text(text) => text,
    };
    if let Some((_, number)) = NAMES.iter().find(|(name, _)| name == text) {
        return Ok(*number);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return in_range(text.parse().unwrap_or(i128::MAX));
    }
    let names = NAMES.iter().map(|(name, _)| *name);
    let known = format!("protocol names: {}", alternatives(names.clone()));
    let guess = did_you_mean(text, names);
    Err(Problem {
        code: Code::UnknownProtocol,
        cause: "which is not a protocol".to_owned(),
        note: guess.is_none().then_some(known),
        help: guess.unwrap_or("write a name or a number from 0 to 255".to_owned()),
    })
}

/// The name of a protocol, or its number if it has none.
pub(crate) fn name(number: u8) -> String {
    let known = NAMES.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// A protocol that is given on the command line.
///
/// # Errors
/// The remedy for a name or number that is no protocol.
pub fn parse(text: &str) -> Result<u8, String> {
    protocol(&Item::Text(text.to_owned())).map_err(|problem| problem.help)
}

fn in_range(number: i128) -> Result<u8, Problem> {
    u8::try_from(number).map_err(|_| {
        Problem::new(
            Code::ProtocolOutOfRange,
            "but protocols go from 0 to 255",
            "write a number from 0 to 255",
        )
    })
}

/// Sorted, without duplicates.
pub(super) fn normalized(mut protocols: Vec<u8>) -> Vec<u8> {
    protocols.sort_unstable();
    protocols.dedup();
    protocols
}

/// Whether packets of the protocol have ports.
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | DCCP | SCTP | UDPLITE)
}

/// The versions of IP that one of the protocols exists in.
pub(super) fn families(protocols: &[u8]) -> Families {
    let each = protocols.iter().map(|protocol| match *protocol {
        ICMP | IGMP => Families::V4,
        ICMPV6 => Families::V6,
        _ => Families::V4.or(Families::V6),
    });
    each.fold(Families::NONE, Families::or)
}

/// Which versions of IP can fulfil a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    pub(super) const NONE: Self = Self {
        v4: false,
        v6: false,
    };
    pub(super) const V4: Self = Self {
        v4: true,
        v6: false,
    };
    pub(super) const V6: Self = Self {
        v4: false,
        v6: true,
    };

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            v4: self.v4 || other.v4,
            v6: self.v6 || other.v6,
        }
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.v4 && other.v4 || self.v6 && other.v6
    }

    /// `IPv4 only`, for a message.
    pub(super) fn name(self) -> &'static str {
        match (self.v4, self.v6) {
            (true, true) => "IPv4 and IPv6",
            (true, false) => "IPv4 only",
            (false, true) => "IPv6 only",
            (false, false) => "nothing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let text =
            |text: &str| protocol(&Item::Text(text.to_owned())).map_err(|problem| problem.code);
        assert_eq!(text("tcp"), Ok(6));
        assert_eq!(text("icmpv6"), Ok(58));
        assert_eq!(text("255"), Ok(255));
        assert_eq!(text("256"), Err(Code::ProtocolOutOfRange));
        assert_eq!(text(&"9".repeat(99)), Err(Code::ProtocolOutOfRange));
        for unknown in ["TCP", "", "-1", "+6", "tcp udp"] {
            assert_eq!(text(unknown), Err(Code::UnknownProtocol), "{unknown}");
        }
        let number = |number| protocol(&Item::Number(number)).map_err(|problem| problem.code);
        assert_eq!(number(0), Ok(0));
        assert_eq!(number(-1), Err(Code::ProtocolOutOfRange));
    }

    #[test]
    fn names_and_numbers_are_unique() {
        for (index, (name, number)) in NAMES.iter().enumerate() {
            let others = &NAMES[index + 1..];
            assert!(
                others
                    .iter()
                    .all(|other| other.0 != *name && other.1 != *number),
                "{name}"
            );
            assert_eq!(super::name(*number), *name);
        }
    }
}
