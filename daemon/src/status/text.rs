//! The status for people.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use traffic_mirror_ebpf::abi::Skipped;

use super::listed::grouped;
use super::paint::{Tone, paint};
use super::{
    ChainPosition, DnsName, EndpointStatus, FilterStatus, InterfaceStatus, Output, Rate, Status,
    local,
};
use crate::report::plural;

/// How the status is printed.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// With colours of a terminal.
    pub color: bool,
    /// The objects alone, and all of them: the user has chosen them.
    pub is_chosen: bool,
}

/// Objects of one kind, and reasons, that are printed at most. The others are counted.
const SHOWN: usize = 20;

impl Status {
    /// All lines.
    pub fn text(&self, view: View) -> String {
        let mut page = Page {
            color: view.color,
            limit: if view.is_chosen { usize::MAX } else { SHOWN },
            text: self.brief(view.color) + "\n",
        };
        if !view.is_chosen {
            self.reasons(&mut page);
            self.origin(&mut page);
        }
        page.objects(
            &self.interfaces,
            "interface",
            "",
            is_worth_a_look,
            interface,
        );
        let not_mirrored = grouped(&self.not_mirrored);
        page.objects(
            &not_mirrored,
            "interface",
            "",
            |group| group.is_fault,
            |group| (Tone::bad(group.is_fault), format!("{group}\n")),
        );
        let packets = |filter: &FilterStatus| filter.packets;
        page.objects(
            &self.filters,
            "filter",
            ", with fewer packets",
            packets,
            filter,
        );
        page.objects(
            &self.endpoints,
            "endpoint",
            "",
            |one| !one.is_ready(),
            endpoint,
        );
        page.objects(&self.outputs, "output", "", |one| !one.carrier, output);
        page.objects(&self.dns_names, "DNS name", "", DnsName::is_wrong, |one| {
            (Tone::bad(one.is_wrong()), one.line() + "\n")
        });
        page.text
    }

    /// The first line has the first reason; each further one has a line.
    fn reasons(&self, page: &mut Page) {
        let further = self.reasons.get(1..).unwrap_or_default();
        let shown = &further[..further.len().min(page.limit)];
        for reason in shown {
            page.add("", Tone::Bad, &format!("{reason}\n"));
        }
        if further.len() > shown.len() {
            let more = further.len() - shown.len();
            page.add("", Tone::Bad, &format!("{more} more: status --json\n"));
        }
    }

    /// The daemon and its file.
    fn origin(&self, page: &mut Page) {
        page.add("daemon", Tone::Plain, &format!("{}\n", self.daemon.line()));
        if let Some(file) = &self.file {
            page.add("file", Tone::Plain, &format!("{}\n", file.line()));
        }
        if let (Some(at), Some(reloads), Some(repairs)) =
            (self.last_reload, self.reloads, self.repairs)
        {
            let times = plural(reloads as usize, "time");
            let repairs = plural(repairs as usize, "repair");
            let loaded = format!("last loaded {}, {times} in all; {repairs}\n", local(at));
            page.add("file", Tone::Plain, &loaded);
        }
    }
}

impl Tone {
    fn bad(is_bad: bool) -> Self {
        if is_bad { Self::Bad } else { Self::Plain }
    }
}

/// The lines so far.
struct Page {
    color: bool,
    limit: usize,
    text: String,
}

impl Page {
    /// Adds the lines of one object, the first behind a label.
    fn add(&mut self, label: &str, tone: Tone, lines: &str) {
        for (nth, line) in lines.lines().enumerate() {
            let (label, gap) = if nth == 0 { (label, 11) } else { ("", 27) };
            let text = paint(self.color, tone, line);
            self.text.push_str(&format!("{label:<gap$}{text}\n"));
        }
    }

    /// Adds objects in their order, at most as many as there is room for: those of the highest
    /// rank. `others` says what the remaining ones have in common.
    fn objects<T, R: Ord>(
        &mut self,
        all: &[T],
        label: &str,
        others: &str,
        rank: impl Fn(&T) -> R,
        lines: impl Fn(&T) -> (Tone, String),
    ) {
        for one in most(all, self.limit, rank) {
            let (tone, lines) = lines(one);
            self.add(label, tone, &lines);
        }
        let more = all.len().saturating_sub(self.limit);
        if more > 0 {
            let hint = format!("{more} more{others}: traffic-mirror status 'PATTERN'");
            self.add(label, Tone::Quiet, &hint);
        }
    }
}

/// At most `limit` of them: those of the highest rank, in the order in which they stand there.
fn most<T, R: Ord>(all: &[T], limit: usize, rank: impl Fn(&T) -> R) -> Vec<&T> {
    let mut places: Vec<usize> = (0..all.len()).collect();
    if all.len() > limit {
        places.sort_by_key(|&place| std::cmp::Reverse(rank(&all[place])));
        places.truncate(limit);
        places.sort_unstable();
    }
    places.into_iter().map(|place| &all[place]).collect()
}

fn reasons(reasons: &BTreeMap<&str, u64>) -> String {
    reasons
        .iter()
        .map(|(reason, count)| format!("  {reason} {count}"))
        .collect()
}

/// The program is not where it should be, or there is something to say about it.
fn is_worth_a_look(interface: &InterfaceStatus) -> bool {
    is_wrong(interface) || interface.pending.is_some() || interface.note.is_some()
}

fn is_wrong(interface: &InterfaceStatus) -> bool {
    let is_elsewhere = interface.in_order == Some(false) && interface.pending.is_none();
    interface.attached.is_none() || is_elsewhere
}

fn interface(interface: &InterfaceStatus) -> (Tone, String) {
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
        connections,
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
    let mut lines = format!(
        "{name:<15} {direction:<7}  {how}{listed}{place}{order}{}\n",
        reasons(skipped)
    );
    lines.extend(note.iter().map(|note| format!("{note}\n")));
    if let Some(connections) = connections.as_ref().filter(|counts| !counts.is_empty()) {
        let _ = writeln!(lines, "connections by server name:{}", reasons(connections));
    }
    if skipped.contains_key(Skipped::Nested.label()) {
        lines.push_str(
            "nested counts GUE in GUE: if another mirror sends it, add its address to \"peers\"\n",
        );
    }
    (Tone::bad(is_wrong(interface)), lines)
}

fn filter(filter: &FilterStatus) -> (Tone, String) {
    let FilterStatus {
        name,
        active,
        packets,
        bytes,
        rate,
        ..
    } = filter;
    let (state, rate) = (filter.words(), shown(*rate));
    let line = format!("{name:<15} {state:<8} {packets} packets {bytes} bytes{rate}\n");
    (if *active { Tone::Plain } else { Tone::Quiet }, line)
}

fn endpoint(endpoint: &EndpointStatus) -> (Tone, String) {
    let EndpointStatus {
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
    let mut lines =
        format!("{name:<15} {state:<8} {packets} packets {bytes} bytes{cut}{split}{rate}{drops}\n");
    if let (Some(address), Some(port)) = (endpoint.address, endpoint.port) {
        let interface = endpoint.interface.as_deref().unwrap_or("?");
        let next_hop = endpoint.next_hop.as_deref().unwrap_or("unknown");
        lines.push_str(&format!(
            "to {address} port {port} by {interface}, next hop {next_hop}\n"
        ));
    }
    if let Some(origin) = &endpoint.dns_name {
        lines.push_str(&format!("address of DNS name {}\n", origin.words()));
    }
    if !endpoint.errors.is_empty() {
        let errors = reasons(&endpoint.errors);
        lines.push_str(&format!("ICMP errors about copies:{errors}\n"));
    }
    (Tone::bad(!endpoint.is_ready()), lines)
}

fn output(output: &Output) -> (Tone, String) {
    let Output {
        interface,
        carrier,
        queue,
        queue_drops,
        device_drops,
        hears_errors,
    } = output;
    let is_wrong = !carrier || !hears_errors;
    let carrier = if *carrier { "carrier" } else { "NO CARRIER" };
    let queue = queue.as_deref().unwrap_or("no queue");
    let drops =
        format!("drops of all packets: {queue_drops} by {queue}, {device_drops} by the device");
    let errors = if *hears_errors {
        ""
    } else {
        ", ICMP errors NOT COUNTED"
    };
    let line = format!("{interface:<15} {carrier}, {drops}{errors}\n");
    (Tone::bad(is_wrong), line)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_important_stay_in_their_order() {
        let all = [3, 9, 1, 7, 9];
        assert_eq!(most(&all, 3, |one| *one), [&9, &7, &9]);
        assert_eq!(most(&all, 2, |_| 0), [&3, &9]);
        assert_eq!(most(&all, 5, |one| *one), [&3, &9, &1, &7, &9]);
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
