//! Ports and ranges of ports.

use std::ops::RangeInclusive;

use super::problem::Problem;
use crate::config::Item;
use crate::diagnostic::{Code, Remedy};

/// One element of `source_port` or `destination_port`: a port, or a range such as `"8000-8100"`.
pub(super) fn ports(item: &Item) -> Result<RangeInclusive<u16>, Problem> {
    let text = match item {
        Item::Number(number) => return port(*number).map(|port| port..=port),
        Item::Text(text) => text,
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first), number(last)),
        None => (number(text), number(text)),
    };
    let (Some(first), Some(last)) = (first, last) else {
        return Err(malformed(text));
    };
    range(port(first)?, port(last)?)
}

/// From the first to the last.
pub(super) fn range(first: u16, last: u16) -> Result<RangeInclusive<u16>, Problem> {
    if first > last {
        return Err(Problem::new(
            Code::ReversedRange,
            "which ends before it begins",
            Remedy::write_string(format!("{last}-{first}")),
        ));
    }
    Ok(first..=last)
}

/// The UDP port of an endpoint.
pub(super) fn endpoint(number: &i128) -> Result<u16, Problem> {
    match u16::try_from(*number).unwrap_or(0) {
        0 => Err(Problem::new(
            Code::PortOutOfRange,
            "but ports of endpoints go from 1 to 65535",
            "write 6080, the port of GUE, or another number from 1 to 65535",
        )),
        port @ (319 | 320) => Err(Problem::new(
            Code::PortOutOfRange,
            "which belongs to PTP: network cards would timestamp copies as time messages",
            format!("write 6080, the port of GUE, or a number other than {port}"),
        )),
        port => Ok(port),
    }
}

/// Sorted by start; ranges that overlap or touch are one.
pub(super) fn normalized(mut ranges: Vec<RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    ranges.sort_unstable_by_key(|range| (*range.start(), *range.end()));
    ranges.dedup_by(|next, kept| {
        let touches = u32::from(*next.start()) <= u32::from(*kept.end()) + 1;
        if touches {
            *kept = *kept.start()..=*kept.end().max(next.end());
        }
        touches
    });
    ranges
}

fn port(number: i128) -> Result<u16, Problem> {
    u16::try_from(number).map_err(|_| {
        Problem::new(
            Code::PortOutOfRange,
            "but ports go from 0 to 65535",
            "write a number from 0 to 65535",
        )
    })
}

/// A decimal number without sign or leading zero.
fn number(text: &str) -> Option<i128> {
    let number = text.parse().ok()?;
    let canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then_some(number)
}

/// Well-known ports (IANA "Service Name and Transport Protocol Port Number Registry"), by the names
/// that are in use. They are for remedies: the file takes numbers.
const SERVICES: [(&str, u16); 45] = [
    ("amqp", 5672),
    ("bgp", 179),
    ("bootpc", 68),
    ("bootps", 67),
    ("dhcp", 67),
    ("dns", 53),
    ("domain", 53),
    ("elasticsearch", 9200),
    ("ftp", 21),
    ("ftp-data", 20),
    ("git", 9418),
    ("gue", 6080),
    ("http", 80),
    ("http-alt", 8080),
    ("https", 443),
    ("imap", 143),
    ("imaps", 993),
    ("ipsec-nat-t", 4500),
    ("isakmp", 500),
    ("kafka", 9092),
    ("kerberos", 88),
    ("ldap", 389),
    ("ldaps", 636),
    ("mdns", 5353),
    ("microsoft-ds", 445),
    ("mqtt", 1883),
    ("ms-sql-s", 1433),
    ("mysql", 3306),
    ("nfs", 2049),
    ("ntp", 123),
    ("pop3", 110),
    ("pop3s", 995),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("rdp", 3389),
    ("redis", 6379),
    ("sip", 5060),
    ("smb", 445),
    ("smtp", 25),
    ("snmp", 161),
    ("ssh", 22),
    ("submission", 587),
    ("syslog", 514),
    ("telnet", 23),
    ("tftp", 69),
];

/// The port of a service, with or without its protocol.
fn service(text: &str) -> Option<u16> {
    let text = text.trim().to_ascii_lowercase();
    let name = text.split('/').next().unwrap_or_default();
    let known = SERVICES.iter().find(|(known, _)| *known == name);
    known.map(|(_, port)| *port)
}

fn malformed(text: &str) -> Problem {
    let numbers: Vec<u16> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    let punctuation = !text.contains(char::is_alphabetic);
    let help = match (&numbers[..], service(text)) {
        (_, Some(number)) => Remedy::write(number.to_string()),
        ([one], _) if punctuation && !text.contains('-') => Remedy::write(one.to_string()),
        ([first, last], _) if punctuation && text.contains(',') => {
            Remedy::write(format!("{first}, {last}"))
        }
        ([first, last], _) if punctuation && first <= last => {
            Remedy::write_string(format!("{first}-{last}"))
        }
        ([], _) if !punctuation => {
            "write the number of the port, as \"getent services\" prints it".into()
        }
        _ => "write a port such as 443 or a range such as \"8000-8100\"".into(),
    };
    Problem::new(
        Code::BadPort,
        "which is not a port or a range of ports",
        help,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<RangeInclusive<u16>, Problem> {
        ports(&Item::Text(text.to_owned()))
    }

    #[test]
    fn ports_and_ranges() {
        assert_eq!(ports(&Item::Number(0)), Ok(0..=0));
        assert_eq!(ports(&Item::Number(65535)), Ok(65535..=65535));
        assert_eq!(text("443"), Ok(443..=443));
        assert_eq!(text("8000-8100"), Ok(8000..=8100));
        assert_eq!(text("0-65535"), Ok(0..=65535));
        assert_eq!(text("1-1"), Ok(1..=1));
    }

    #[test]
    fn an_endpoint_has_no_port_of_zero_or_of_ptp() {
        assert_eq!(
            [1, 318, 321, 65535].map(|port| endpoint(&port).is_ok()),
            [true; 4]
        );
        assert_eq!(
            [0, 319, 320, 65536].map(|port| endpoint(&port).is_ok()),
            [false; 4]
        );
    }

    #[test]
    fn a_wrong_port_is_told_what_to_write() {
        let refused = |given: &str| {
            text(given)
                .map_err(|problem| (problem.code, problem.help.to_string()))
                .unwrap_err()
        };
        let fix = |code, fix: &str| (code, format!("write {fix}"));
        assert_eq!(
            refused("8100-8000"),
            fix(Code::ReversedRange, "\"8000-8100\"")
        );
        assert_eq!(refused("8000:8100"), fix(Code::BadPort, "\"8000-8100\""));
        assert_eq!(refused("8000 - 8100"), fix(Code::BadPort, "\"8000-8100\""));
        assert_eq!(refused("80,443"), fix(Code::BadPort, "80, 443"));
        assert_eq!(refused("0443"), fix(Code::BadPort, "443"));
        assert_eq!(refused("+443"), fix(Code::BadPort, "443"));
        for malformed in ["", "-", "80-", "-80", "http", "1-2-3", "tcp/80"] {
            assert_eq!(refused(malformed).0, Code::BadPort, "{malformed}");
        }
        assert_eq!(refused("70000").0, Code::PortOutOfRange);
        assert_eq!(refused("1-99999999999999999999").0, Code::PortOutOfRange);
        assert_eq!(
            ports(&Item::Number(-1)).unwrap_err().code,
            Code::PortOutOfRange
        );
        assert_eq!(
            ports(&Item::Number(i128::MAX)).unwrap_err().code,
            Code::PortOutOfRange
        );
        assert_eq!(endpoint(&0).unwrap_err().code, Code::PortOutOfRange);
        assert_eq!(endpoint(&6080), Ok(6080));
    }

    #[test]
    fn normalized_ranges() {
        assert_eq!(
            normalized(vec![443..=443, 80..=81, 82..=82, 80..=80]),
            [80..=82, 443..=443]
        );
        assert_eq!(
            normalized(vec![10..=20, 12..=13, 15..=30]),
            std::slice::from_ref(&(10..=30))
        );
        assert_eq!(
            normalized(vec![0..=65535, 65535..=65535, 7..=7]),
            std::slice::from_ref(&(0..=65535))
        );
    }
}
