//! Ports and ranges of ports.

use std::ops::RangeInclusive;

use super::problem::Problem;
use crate::config::Item;
use crate::diagnostic::Code;

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
            format!("write \"{last}-{first}\""),
        ));
    }
    Ok(first..=last)
}

/// The UDP port of an endpoint.
pub(super) fn endpoint(number: &i128) -> Result<u16, Problem> {
    match port(*number)? {
        0 => Err(Problem::new(
            Code::PortOutOfRange,
            "which nothing can be sent to",
            "write 6080, the port of GUE, or a number up to 65535",
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

fn malformed(text: &str) -> Problem {
    let numbers: Vec<u16> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    let punctuation = !text.contains(char::is_alphabetic);
    let help = match numbers[..] {
        [one] if punctuation && !text.contains('-') => format!("write {one}"),
        [first, last] if punctuation && text.contains(',') => format!("write {first}, {last}"),
        [first, last] if punctuation && first <= last => format!("write \"{first}-{last}\""),
        _ => "write a port such as 443 or a range such as \"8000-8100\"".to_owned(),
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
                .map_err(|problem| (problem.code, problem.help))
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
