//! The status for people.

use std::collections::BTreeMap;
use std::fmt;

use traffic_mirror_ebpf::abi::Skipped;

use super::listed::grouped;
use super::{ChainPosition, FilterStatus, InterfaceStatus, Output, Rate, Status};
use crate::report::plural;

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = |reasons: &BTreeMap<&str, u64>| -> String {
            reasons
                .iter()
                .map(|(reason, count)| format!("  {reason} {count}"))
                .collect()
        };
        self.fmt_state(f)?;
        writeln!(f, "daemon     {}", self.daemon.line())?;
        if let Some(file) = &self.file {
            writeln!(f, "file       {}", file.line())?;
        }
        if let (Some(at), Some(reloads), Some(repairs)) =
            (self.last_reload, self.reloads, self.repairs)
        {
            let times = plural(reloads as usize, "time");
            let repairs = plural(repairs as usize, "repair");
            writeln!(
                f,
                "file       last loaded {}, {times} in all; {repairs}",
                utc(at)
            )?;
        }
        for interface in &self.interfaces {
            let InterfaceStatus {
                name,
                altname,
                index,
                direction,
                attached,
                place,
                order,
                in_order,
                pending,
                note,
                skipped,
            } = interface;
            let name = name.clone().unwrap_or_else(|| format!("(index {index})"));
            let listed = altname
                .as_ref()
                .map_or_else(String::new, |altname| format!(", listed as {altname}"));
            let how = attached.unwrap_or("not attached");
            let place = place
                .as_ref()
                .map(ChainPosition::to_string)
                .unwrap_or_default();
            let order = match (pending, in_order) {
                (Some(program), _) => {
                    format!(", order \"{order}\" is pending: last until {program} is attached")
                }
                (None, Some(false)) => format!(", NOT {order}"),
                _ => String::new(),
            };
            writeln!(
                f,
                "interface  {name:<15} {direction:<7}  {how}{listed}{place}{order}{}",
                reasons(skipped)
            )?;
            note.iter()
                .try_for_each(|note| writeln!(f, "{:27}{note}", ""))?;
            if skipped.contains_key(Skipped::Nested.label()) {
                writeln!(
                    f,
                    "{:27}nested counts GUE in GUE: if another mirror sends it, add its address to \"peers\"",
                    ""
                )?;
            }
        }
        grouped(&self.not_mirrored)
            .iter()
            .try_for_each(|line| writeln!(f, "interface  {line}"))?;
        for filter in &self.filters {
            let FilterStatus {
                name,
                packets,
                bytes,
                rate,
                ..
            } = filter;
            let state = filter.words();
            writeln!(
                f,
                "filter     {name:<15} {state:<8} {packets} packets {bytes} bytes{}",
                shown(*rate)
            )?;
        }
        for endpoint in &self.endpoints {
            let super::EndpointStatus {
                name,
                state,
                packets,
                bytes,
                truncated,
                fragmented,
                drops,
                rate,
                ..
            } = endpoint;
            let (rate, drops) = (shown(*rate), reasons(drops));
            let count = |count: u64, what: &str| {
                if count == 0 {
                    String::new()
                } else {
                    format!(", {count} {what}")
                }
            };
            let (cut, split) = (
                count(*truncated, "truncated"),
                count(*fragmented, "fragmented"),
            );
            writeln!(
                f,
                "endpoint   {name:<15} {state:<8} {packets} packets {bytes} bytes{cut}{split}{rate}{drops}"
            )?;
            if let (Some(address), Some(port)) = (endpoint.address, endpoint.port) {
                let interface = endpoint.interface.as_deref().unwrap_or("?");
                let next_hop = endpoint.next_hop.as_deref().unwrap_or("unknown");
                writeln!(
                    f,
                    "{:27}to {address} port {port} by {interface}, next hop {next_hop}",
                    ""
                )?;
            }
            if !endpoint.errors.is_empty() {
                writeln!(
                    f,
                    "{:27}ICMP errors about copies:{}",
                    "",
                    reasons(&endpoint.errors)
                )?;
            }
        }
        for Output {
            interface,
            carrier,
            queue,
            queue_drops,
            device_drops,
            hears_errors,
        } in &self.outputs
        {
            let carrier = if *carrier { "carrier" } else { "NO CARRIER" };
            let queue = queue.as_deref().unwrap_or("no queue");
            let drops = format!(
                "drops of all packets: {queue_drops} by {queue}, {device_drops} by the device"
            );
            let errors = if *hears_errors {
                ""
            } else {
                ", ICMP errors NOT COUNTED"
            };
            writeln!(f, "output     {interface:<15} {carrier}, {drops}{errors}")?;
        }
        Ok(())
    }
}

impl Status {
    /// The first line, and one more for each further reason.
    fn fmt_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, more)) = self.reasons.split_first() else {
            return writeln!(f, "ok");
        };
        let since = self
            .since
            .map(|at| format!("since {}: ", utc(at)))
            .unwrap_or_default();
        writeln!(f, "degraded   {since}{first}")?;
        more.iter()
            .try_for_each(|reason| writeln!(f, "{:11}{reason}", ""))
    }
}

impl fmt::Display for ChainPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            after,
            before,
            priority,
        } = self;
        write!(f, ", {position} of {}", after.len() + before.len() + 1)?;
        for (word, names) in [("after", after), ("before", before)] {
            if !names.is_empty() {
                write!(f, " {word} {}", names.join(", "))?;
            }
        }
        priority.map_or(Ok(()), |priority| write!(f, ", priority {priority}"))
    }
}

fn shown(rate: Option<Rate>) -> String {
    rate.map_or_else(String::new, |rate| {
        format!("  {:.0} packets/s {}", rate.packets, bits(rate.bits))
    })
}

/// Bits per second with a unit.
pub(super) fn bits(bits: f64) -> String {
    let units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
    let (mut value, mut unit) = (bits, 0);
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{value:.0} {}", units[0])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A time in UTC, from seconds since 1970 (days to date: Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms"). 2026-11-30: no crate in the tree does it; tracing-subscriber has
/// such code for the time of a log line only, not public.
pub(super) fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn rates_have_a_unit_that_fits() {
        let shown = [0.0, 999.0, 1000.0, 12_345.0, 999_960.0, 2.5e9, 7e15].map(bits);
        assert_eq!(
            shown,
            [
                "0 bit/s",
                "999 bit/s",
                "1.0 kbit/s",
                "12.3 kbit/s",
                "1.0 Mbit/s",
                "2.5 Gbit/s",
                "7000.0 Tbit/s"
            ]
        );
    }

    #[test]
    fn a_place_names_its_neighbours() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let place = ChainPosition {
            position: 2,
            after: names(&["policy"]),
            before: names(&["a", "b"]),
            priority: None,
        };
        assert_eq!(place.to_string(), ", 2 of 4 after policy before a, b");
        let alone = ChainPosition {
            position: 1,
            after: Vec::new(),
            before: Vec::new(),
            priority: Some(49_000),
        };
        assert_eq!(alone.to_string(), ", 1 of 1, priority 49000");
    }
}
