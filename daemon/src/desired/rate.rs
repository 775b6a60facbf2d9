//! How much an endpoint takes of what matches: `limit`, `sample`.

use super::Limit;
use super::problem::Problem;
use super::quantity::{Quantity, Units, quantity};
use crate::diagnostic::{Code, Remedy};

/// The units of `limit`: bits per second, or none for packets.
const UNITS: Units<Option<u64>> = Units {
    names: &[
        ("pps", None),
        ("Kbit", Some(1_000)),
        ("Mbit", Some(1_000_000)),
        ("Gbit", Some(1_000_000_000)),
    ],
    smallest: 1,
    step: 1_000,
    aliases: &[
        ("packets/s", (1, "pps")),
        ("p/s", (1, "pps")),
        ("kpps", (1_000, "pps")),
        ("Mpps", (1_000_000, "pps")),
        ("K", (1, "Kbit")),
        ("Kb", (1, "Kbit")),
        ("Kbps", (1, "Kbit")),
        ("Kb/s", (1, "Kbit")),
        ("Kbit/s", (1, "Kbit")),
        ("M", (1, "Mbit")),
        ("Mb", (1, "Mbit")),
        ("Mbps", (1, "Mbit")),
        ("Mb/s", (1, "Mbit")),
        ("Mbit/s", (1, "Mbit")),
        ("G", (1, "Gbit")),
        ("Gb", (1, "Gbit")),
        ("Gbps", (1, "Gbit")),
        ("Gb/s", (1, "Gbit")),
        ("Gbit/s", (1, "Gbit")),
        ("T", (1_000, "Gbit")),
        ("Tbit", (1_000, "Gbit")),
        ("MB", (8, "Mbit")),
        ("MB/s", (8, "Mbit")),
        ("GB", (8, "Gbit")),
        ("GB/s", (8, "Gbit")),
    ],
};
/// Most bits per second.
const MAX_BITS: u64 = 1_000_000_000_000;
/// Most packets per second.
const MAX_PACKETS: u64 = 1_000_000_000;

/// `limit`.
pub(super) fn limit(text: &str) -> Result<Limit, Problem> {
    let Quantity {
        number,
        unit,
        value: bits,
    } = quantity(text, &UNITS).map_err(malformed)?;
    let (limit, most) = match bits {
        Some(unit) => (number.checked_mul(unit).map(Limit::Bits), MAX_BITS / unit),
        None => (Some(Limit::Packets(number)), MAX_PACKETS),
    };
    limit
        .filter(|_| (1..=most).contains(&number))
        .ok_or_else(|| {
            let help = format!(
                "write a number from 1 to {most} before {unit}, or leave it out for no limit"
            );
            Problem::new(Code::BadLimit, "which is out of range", help)
        })
}

fn malformed(meant: Option<Remedy>) -> Problem {
    let usual = "write a whole number and Kbit, Mbit, Gbit or pps, such as \"500Mbit\"";
    Problem::new(
        Code::BadLimit,
        "which is not a rate",
        meant.unwrap_or(usual.into()),
    )
}

/// Largest divisor of `sample`.
const MAX_FLOWS: u32 = 1_000_000;

/// `sample`: the divisor of the flows.
pub(super) fn sample(text: &str) -> Result<u32, Problem> {
    let flows = text
        .strip_prefix("1/")
        .filter(|flows| flows.bytes().all(|byte| byte.is_ascii_digit()));
    let flows = flows
        .and_then(|flows| flows.parse().ok())
        .filter(|flows| (1..=MAX_FLOWS).contains(flows));
    flows.ok_or_else(|| {
        let usual = || format!("write \"1/10\" for one flow of ten, up to \"1/{MAX_FLOWS}\"");
        let meant = share(text).map(|flows| Remedy::write_string(format!("1/{flows}")));
        Problem::new(
            Code::BadSample,
            "which is not a share of the flows",
            meant.unwrap_or_else(|| usual().into()),
        )
    })
}

/// One of how many flows a share is that is written as a decimal fraction, percentage or ratio.
fn share(text: &str) -> Option<u32> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let share = match (text.trim().strip_suffix('%'), text.split_once(['/', ':'])) {
        (Some(percent), _) => number(percent)? / 100.0,
        (None, Some((part, all))) => number(part)? / number(all)?,
        (None, None) => number(text)?,
    };
    let flows = (1.0 / share).round();
    (share <= 1.0 && (1.0..=f64::from(MAX_FLOWS)).contains(&flows)).then_some(flows as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(limit("500Mbit"), Ok(Limit::Bits(500_000_000)));
        assert_eq!(limit("1Kbit"), Ok(Limit::Bits(1_000)));
        assert_eq!(limit("1000Gbit"), Ok(Limit::Bits(MAX_BITS)));
        assert_eq!(limit("250000pps"), Ok(Limit::Packets(250_000)));
        for wrong in [
            "",
            "500",
            "Mbit",
            "0.5Gbit",
            "-1Mbit",
            "5 Mbit",
            "5MB",
            "5Mbit/s",
            "99999999999999999999Kbit",
        ] {
            assert_eq!(limit(wrong).unwrap_err().code, Code::BadLimit, "{wrong}");
        }
        assert_eq!(limit("500mbit").unwrap_err().help, "write \"500Mbit\"");
        assert_eq!(limit("500 Mbit").unwrap_err().help, "write \"500Mbit\"");
        for (given, meant) in [
            ("500M", "500Mbit"),
            ("500Mbps", "500Mbit"),
            ("0.5Gbit", "500Mbit"),
            ("1.1 gbit/s", "1100Mbit"),
            ("5MB/s", "40Mbit"),
            ("5Mb/s", "5Mbit"),
            ("1T", "1000Gbit"),
            ("10kpps", "10000pps"),
        ] {
            let help = limit(given).unwrap_err().help;
            assert_eq!(help, Remedy::write_string(meant), "{given}");
        }
        for unclear in [
            "",
            "500",
            "M",
            "0.5pps",
            "0.0001Kbit",
            "0M",
            "1..5M",
            "-1Mbit",
        ] {
            let help = limit(unclear).unwrap_err().help;
            assert!(matches!(help, Remedy::Advice(_)), "{unclear}: {help}");
        }
        for beyond in [
            "0Mbit",
            "1001Gbit",
            "0pps",
            "1000000001pps",
            "18446744073709551615Gbit",
        ] {
            assert_eq!(
                limit(beyond).unwrap_err().cause,
                "which is out of range",
                "{beyond}"
            );
        }
    }

    #[test]
    fn shares() {
        assert_eq!((sample("1/1"), sample("1/1000000")), (Ok(1), Ok(1_000_000)));
        for wrong in [
            "",
            "1",
            "10",
            "2/10",
            "1/0",
            "1/1000001",
            "1/+5",
            "1/ 5",
            "0.1",
            "1/",
        ] {
            assert_eq!(sample(wrong).unwrap_err().code, Code::BadSample, "{wrong}");
        }
        for (given, meant) in [
            ("0.1", "1/10"),
            ("0.33", "1/3"),
            ("1", "1/1"),
            ("10%", "1/10"),
            ("1:10", "1/10"),
            ("1 / 10", "1/10"),
            ("2/10", "1/5"),
        ] {
            let help = sample(given).unwrap_err().help;
            assert_eq!(help, Remedy::write_string(meant), "{given}");
        }
        for unclear in [
            "",
            "10",
            "1/0",
            "0",
            "-0.1",
            "1/1000001",
            "inf",
            "nan",
            "0/0",
        ] {
            let help = sample(unclear).unwrap_err().help;
            assert!(matches!(help, Remedy::Advice(_)), "{unclear}: {help}");
        }
    }
}
