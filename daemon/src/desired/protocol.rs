//! IP protocols by name and number, and what the other conditions of a filter mean to them.

use super::problem::Problem;
use crate::config::Item;
use crate::diagnostic::{Code, Remedy, alternatives, did_you_mean};

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

/// Other names, which /etc/protocols has. A file means the same on all hosts, so nothing is read
/// there. Left out are names that most users take for something else: `ip` (0), `ipip` (94), `rdp`
/// (27).
const ALIASES: [(&str, u8); 35] = [
    ("hopopt", 0),
    ("ggp", 3),
    ("ipencap", 4),
    ("st", 5),
    ("egp", 8),
    ("igp", 9),
    ("pup", 12),
    ("hmp", 20),
    ("xns-idp", 22),
    ("iso-tp4", 29),
    ("xtp", 36),
    ("ddp", 37),
    ("idpr-cmtp", 38),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("idrp", 45),
    ("ipsec-esp", 50),
    ("ipsec-ah", 51),
    ("skip", 57),
    ("ipv6-icmp", ICMPV6),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("rspf", 73),
    ("vmtp", 81),
    ("ospfigp", 89),
    ("ax.25", 93),
    ("etherip", 97),
    ("encap", 98),
    ("isis", 124),
    ("fc", 133),
    ("mobility-header", 135),
    ("manet", 138),
    ("shim6", 140),
    ("wesp", 141),
    ("rohc", 142),
];

/// All names, the usual ones first.
fn names() -> impl Iterator<Item = &'static (&'static str, u8)> + Clone {
    NAMES.iter().chain(&ALIASES)
}

/// One element of `protocol`: a name or a number.
pub(super) fn protocol(item: &Item) -> Result<u8, Problem> {
    let text = match item {
        Item::Number(number) => return in_range(*number),
        Item::Text(text) => text,
    };
    if let Some((_, number)) = names().find(|(name, _)| name == text) {
        return Ok(*number);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return in_range(text.parse().unwrap_or(i128::MAX));
    }
    let known = alternatives(NAMES.iter().map(|(name, _)| *name));
    let lower = text.trim().to_lowercase();
    let help = match names().find(|(name, _)| *name == lower) {
        Some((name, _)) => Some(Remedy::write_string(name)),
        None => did_you_mean(text, names().map(|(name, _)| *name)).map(Remedy::from),
    };
    Err(Problem {
        code: Code::UnknownProtocol,
        cause: "which is not a protocol".to_owned(),
        note: help.is_none().then_some(format!("protocol names: {known}")),
        help: help.unwrap_or("write a name or a number from 0 to 255".into()),
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
    protocol(&Item::Text(text.to_owned())).map_err(|problem| problem.help.to_string())
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
        assert_eq!((text("ipv6-icmp"), text("ipv6-route")), (Ok(58), Ok(43)));
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
        for (name, _) in names() {
            let named = names().filter(|(other, _)| other == name);
            assert_eq!(named.count(), 1, "{name}");
        }
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
