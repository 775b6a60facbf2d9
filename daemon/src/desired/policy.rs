//! What copies may cost, and how they get there: `oversize`, `snap`, `mtu`, `ipsec`, `backlog`,
//! `budget`.

use std::net::IpAddr;
use std::time::Duration;

use super::address::Target;
use super::field::bad_choice;
use super::problem::Problem;
use super::quantity::{Units, quantity};
use super::{Budget, Ipsec, Oversize};
use crate::diagnostic::{Code, Remedy};

/// `oversize`.
pub(super) fn oversize(text: &str) -> Result<Oversize, Problem> {
    match text {
        "fragment" => Ok(Oversize::Fragment),
        "truncate" => Ok(Oversize::Truncate),
        "drop" => Ok(Oversize::Drop),
        _ => {
            let choices = ["fragment", "truncate", "drop"];
            Err(bad_choice(
                Code::BadOversize,
                "which is not a way to treat long packets",
                text,
                &choices,
            ))
        }
    }
}

/// Smallest `snap`, bytes: the headers of nearly every packet. The kernel does not truncate a
/// packet before the end of a checksum that the output interface still has to fill in
/// (`__bpf_skb_min_len`).
const SNAP_MIN: u16 = 96;

/// `snap`.
pub(super) fn snap(number: &i128) -> Result<u16, Problem> {
    let snap = u16::try_from(*number).ok().filter(|&snap| snap >= SNAP_MIN);
    snap.ok_or_else(|| {
        Problem::new(
            Code::BadSnap,
            format!("but it is a number of bytes from {SNAP_MIN} to 65535"),
            "write 128 for the headers of nearly every packet, or leave it out for whole packets",
        )
    })
}

/// `mtu`: at least the length that every link of the path carries (RFC 8200 section 5), or for IPv4
/// every host accepts (RFC 791).
pub(super) fn mtu(number: &i128, target: &Target) -> Result<u32, Problem> {
    let (least, family) = match target {
        Target::Address(IpAddr::V4(_)) => (576, "IPv4"),
        // the address of a name may be of either
        Target::Address(IpAddr::V6(_)) | Target::Name(_) => (1280, "IPv6"),
    };
    let mtu = u32::try_from(*number)
        .ok()
        .filter(|mtu| (least..=65_535).contains(mtu));
    mtu.ok_or_else(|| {
        Problem::new(
            Code::BadMtu,
            format!("but over {family} it is a number of bytes from {least} to 65535"),
            "write the largest outer IP packet that the path to the collector carries, or leave \
             it out to use the MTU of route and interface",
        )
    })
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The units of `backlog`, in bytes.
const MEMORY: Units<u64> = Units {
    names: &[("KiB", KIB), ("MiB", MIB), ("GiB", GIB)],
    smallest: 0,
    step: 1_024,
    aliases: &[
        ("K", (1, "KiB")),
        ("KB", (1, "KiB")),
        ("M", (1, "MiB")),
        ("MB", (1, "MiB")),
        ("G", (1, "GiB")),
        ("GB", (1, "GiB")),
    ],
};
/// `backlog` where the file gives none.
pub(super) const DEFAULT_BACKLOG: u64 = 64 * MIB;
/// Smallest `backlog`: the bytes that may be sent between two readings of the queue.
const MIN_BACKLOG: u64 = MIB;
/// Most.
const MAX_BACKLOG: u64 = 64 * GIB;

/// `backlog`: an amount of memory.
pub(super) fn backlog(text: &str) -> Result<u64, Problem> {
    let wrong = |cause: &str, help: Remedy| Problem::new(Code::BadBacklog, cause, help);
    let found = quantity(text, &MEMORY).map_err(|meant| {
        let usual = "write a whole number and KiB, MiB or GiB, such as \"64MiB\"";
        wrong(
            "which is not an amount of memory",
            meant.unwrap_or(usual.into()),
        )
    })?;
    let bytes = found
        .number
        .checked_mul(found.value)
        .filter(|bytes| (MIN_BACKLOG..=MAX_BACKLOG).contains(bytes));
    bytes.ok_or_else(|| {
        wrong(
            "which is out of range",
            "write from \"1MiB\" to \"64GiB\", or leave it out for 64 MiB".into(),
        )
    })
}

/// The units of `budget`.
const TIMES: Units<Duration> = Units {
    names: &[
        ("us", Duration::from_micros(1)),
        ("ms", Duration::from_millis(1)),
    ],
    smallest: 0,
    step: 1_000,
    aliases: &[
        ("\u{b5}s", (1, "us")),
        ("\u{3bc}s", (1, "us")),
        ("usec", (1, "us")),
        ("msec", (1, "ms")),
        ("s", (1_000, "ms")),
        ("sec", (1_000, "ms")),
    ],
};
/// Smallest `budget`: the first copies are made before the clock is read, and take about as long.
const MIN_BUDGET: Duration = Duration::from_micros(100);
/// Largest: the kernel reports a softirq that takes longer.
const MAX_BUDGET: Duration = Duration::from_millis(1000);

/// `budget`: a time.
pub(super) fn budget(text: &str) -> Result<Budget, Problem> {
    let wrong = |cause: &str, help: Remedy| Problem::new(Code::BadBudget, cause, help);
    let found = quantity(text, &TIMES).map_err(|meant| {
        let usual = "write a whole number and us or ms, such as \"1ms\"";
        wrong("which is not a time", meant.unwrap_or(usual.into()))
    })?;
    let time = u32::try_from(found.number)
        .ok()
        .and_then(|number| found.value.checked_mul(number));
    let time = time.filter(|time| (MIN_BUDGET..=MAX_BUDGET).contains(time));
    time.map(Budget).ok_or_else(|| {
        wrong(
            "which is out of range",
            "write from \"100us\" to \"1000ms\", or leave it out for 1 ms".into(),
        )
    })
}

/// `ipsec`.
pub(super) fn ipsec(text: &str) -> Result<Ipsec, Problem> {
    match text {
        "obey" => Ok(Ipsec::Obey),
        "bypass" => Ok(Ipsec::Bypass),
        _ => Err(bad_choice(
            Code::BadIpsec,
            "which is not a way to treat IPsec policies",
            text,
            &["obey", "bypass"],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        assert_eq!((backlog("1MiB"), backlog("1024KiB")), (Ok(MIB), Ok(MIB)));
        assert_eq!(
            (backlog("64MiB"), backlog("64GiB")),
            (Ok(DEFAULT_BACKLOG), Ok(MAX_BACKLOG))
        );
        for wrong in [
            "",
            "64",
            "MiB",
            "64MB",
            "64 MiB",
            "-1MiB",
            "1.5GiB",
            "99999999999999999999KiB",
        ] {
            assert_eq!(
                backlog(wrong).unwrap_err().cause,
                "which is not an amount of memory",
                "{wrong}"
            );
        }
        assert_eq!(backlog("64mib").unwrap_err().help, "write \"64MiB\"");
        for beyond in ["0MiB", "1023KiB", "65GiB", "18446744073709551615GiB"] {
            assert_eq!(
                backlog(beyond).unwrap_err().cause,
                "which is out of range",
                "{beyond}"
            );
        }
    }

    #[test]
    fn times() {
        assert_eq!(
            (budget("1ms"), budget("1000us")),
            (Ok(Budget::default()), Ok(Budget::default()))
        );
        assert_eq!(
            (budget("100us"), budget("1000ms")),
            (Ok(Budget(MIN_BUDGET)), Ok(Budget(MAX_BUDGET)))
        );
        for wrong in [
            "",
            "1",
            "ms",
            "1s",
            "1 ms",
            "-1ms",
            "0.5ms",
            "99999999999999999999ms",
        ] {
            assert_eq!(
                budget(wrong).unwrap_err().cause,
                "which is not a time",
                "{wrong}"
            );
        }
        assert_eq!(budget("1 ms").unwrap_err().help, "write \"1ms\"");
        for beyond in ["0ms", "99us", "1001ms", "18446744073709551615us"] {
            assert_eq!(
                budget(beyond).unwrap_err().cause,
                "which is out of range",
                "{beyond}"
            );
        }
    }

    #[test]
    fn lengths() {
        assert_eq!((snap(&96), snap(&65535)), (Ok(96), Ok(65535)));
        for wrong in [-1, 0, 95, 65536] {
            assert_eq!(snap(&wrong).unwrap_err().code, Code::BadSnap, "{wrong}");
        }
    }

    #[test]
    fn the_least_mtu_is_that_of_the_family() {
        let (v4, v6) = (
            Target::Address("192.0.2.10".parse().unwrap()),
            Target::Address("2001:db8::1".parse().unwrap()),
        );
        let name = Target::Name("ids.example".parse().unwrap());
        assert_eq!(
            (mtu(&576, &v4), mtu(&1280, &v6), mtu(&65535, &v4)),
            (Ok(576), Ok(1280), Ok(65535))
        );
        for (wrong, target) in [
            (575, &v4),
            (1279, &v6),
            (1279, &name),
            (65536, &v4),
            (-1, &v6),
            (0, &v4),
        ] {
            assert_eq!(
                mtu(&wrong, target).unwrap_err().code,
                Code::BadMtu,
                "{wrong}"
            );
        }
    }

    #[test]
    fn ways_to_treat_policies() {
        assert_eq!(
            (ipsec("obey"), ipsec("bypass")),
            (Ok(Ipsec::Obey), Ok(Ipsec::Bypass))
        );
        assert_eq!(ipsec("ignore").unwrap_err().code, Code::BadIpsec);
    }

    #[test]
    fn ways_to_treat_what_is_too_long() {
        assert_eq!(oversize("truncate"), Ok(Oversize::Truncate));
        assert_eq!(oversize("fragments").unwrap_err().code, Code::BadOversize);
    }
}
