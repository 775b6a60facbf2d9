//! Verdicts for people.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::{Flow, Match, Miss, SERVER_NAME, SKIP, Target, Verdict};
use crate::report::list;

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |address: IpAddr, port: Option<u16>| match (address, port) {
            (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
            (address, Some(port)) => format!("{address}:{port}"),
            (address, None) => address.to_string(),
        };
        let (source, destination) = (
            end(self.source, self.source_port),
            end(self.destination, self.destination_port),
        );
        write!(f, "{} {source} -> {destination}", self.protocol)?;
        self.vlan
            .map_or(Ok(()), |vlan| write!(f, " in VLAN {vlan}"))?;
        self.unknown
            .map_or(Ok(()), |unknown| write!(f, " ({unknown} unknown)"))
    }
}

/// Near misses that are shown.
const SHOWN: usize = 10;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = self.skipped {
            return writeln!(f, "skipped: {reason}");
        }
        if let (Some(unknown), Some(unparsed)) = (
            self.packet.as_ref().and_then(|flow| flow.unknown),
            self.unparsed,
        ) {
            let how = if unparsed == SKIP {
                "none"
            } else {
                "mirror filters match any value, exclude filters that give it do not match"
            };
            writeln!(f, "unknown  {unknown}: {how} (unparsed = {unparsed:?})")?;
        }
        if self.packet.as_ref().and_then(|flow| flow.unknown) == Some(SERVER_NAME) {
            writeln!(
                f,
                "unknown  {SERVER_NAME}: before the client has given one, mirror filters match any, \
                 exclude filters that give one do not match; --server-name says what then"
            )?;
        }
        for Match {
            filter,
            action,
            to,
            dns_names,
        } in &self.matches
        {
            let preposition = if *action == "mirror" { "to" } else { "from" };
            writeln!(f, "matches  {filter}: {action} {preposition} {}", list(to))?;
            for one in dns_names {
                writeln!(f, "         {} is of DNS name {}", one.field, one.words())?;
            }
        }
        for Miss {
            filter,
            field,
            has,
            wants,
            dns_names,
        } in self.near_misses.iter().take(SHOWN)
        {
            match wants[..] {
                [] => writeln!(f, "misses   {filter}: it is inactive on every interface")?,
                _ => writeln!(
                    f,
                    "misses   {filter}: {field} is {has}, the filter wants {}{}",
                    list(wants),
                    in_names(dns_names)
                )?,
            }
        }
        if self.near_misses.len() > SHOWN {
            writeln!(
                f,
                "misses   {} more filters, by one field",
                self.near_misses.len() - SHOWN
            )?;
        }
        self.excluded
            .iter()
            .try_for_each(|endpoint| writeln!(f, "excluded {endpoint}"))?;
        for Target {
            endpoint,
            state,
            address,
            port,
            interface,
            dns_name,
        } in &self.goes_to
        {
            match (address, port, interface) {
                (Some(address), Some(port), Some(by)) => {
                    writeln!(f, "goes to  {endpoint}: {address} port {port} by {by}")?
                }
                _ => writeln!(f, "goes to  {endpoint}: dropped, {state}")?,
            }
            if let Some(name) = dns_name {
                writeln!(f, "         address of DNS name {}", name.words())?;
            }
        }
        if self.goes_to.is_empty() {
            writeln!(f, "goes nowhere")?;
        }
        Ok(())
    }
}

/// The DNS names of a filter, behind the addresses that it wants.
fn in_names(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [name] => format!(" (DNS name {name})"),
        _ => format!(" (DNS names {})", list(names)),
    }
}

/// What happens to the packets of a capture, by their number.
pub struct Capture<'a>(pub &'a [Verdict]);

impl fmt::Display for Capture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, verdict) in (1..).zip(self.0) {
            let names = |names: Vec<&str>| names.join(", ");
            write!(f, "{number:>6}  ")?;
            match (&verdict.packet, verdict.skipped) {
                (_, Some(reason)) => writeln!(f, "skipped: {reason}")?,
                (None, None) => writeln!(f, "skipped")?,
                (Some(packet), None) if verdict.matches.is_empty() => {
                    writeln!(f, "{packet}: no filter")?
                }
                (Some(packet), None) => {
                    let filters = names(verdict.matches.iter().map(|one| &*one.filter).collect());
                    let to = names(verdict.goes_to.iter().map(|one| &*one.endpoint).collect());
                    let to = if to.is_empty() { "nowhere" } else { &to };
                    writeln!(f, "{packet}: {filters}, goes to {to}")?;
                }
            }
            for target in &verdict.goes_to {
                *counts.entry(&target.endpoint).or_default() += 1;
            }
        }
        let to = counts
            .iter()
            .map(|(endpoint, count)| format!(", {count} to {endpoint}"))
            .collect::<String>();
        writeln!(f, "{}{to}", crate::report::plural(self.0.len(), "packet"))
    }
}
