//! Tables of Markdown, and their places: what stands between `<!-- bench:NAME -->` and `<!--
//! bench:end -->` is written here.

use anyhow::{Context as _, Result};

use crate::LIMITED_FILTERS;
use crate::control::{KINDS, ONE};
use crate::copies::BARE;
use crate::named::UNMATCHED;
use crate::packets::{EMPTY, HOSTS, INSIDE_MIXED, LISTS, SAME, WORST, YARDSTICK};
use crate::report::{Group, Line, Report};
use crate::sample::Spread;
use crate::stage::Mirror;
use crate::text::number;
use crate::throughput::{NONE, OURS};

/// Replaces each place in a text.
///
/// # Errors
/// A place has no end, or a name that is not known.
pub(crate) fn replace(text: &str, report: &Report) -> Result<String> {
    const BEGIN: &str = "<!-- bench:";
    const END: &str = "<!-- bench:end -->";
    let mut pieces = text.split(BEGIN);
    let mut replaced = pieces.next().unwrap_or_default().to_owned();
    while let Some(piece) = pieces.next() {
        let (name, _) = piece.split_once(" -->").context("a place without -->")?;
        let table = table(name, report).with_context(|| format!("no table is called {name:?}"))?;
        let end = pieces.next().and_then(|end| end.strip_prefix("end -->"));
        let rest = end.with_context(|| format!("the place {name:?} has no {END}"))?;
        replaced += &format!("{BEGIN}{name} -->\n{table}{END}{rest}");
    }
    Ok(replaced)
}

fn table(name: &str, report: &Report) -> Option<String> {
    Some(match name {
        "machine" => machine(report),
        "summary" => summary(report),
        "unmatched" => lines(
            report,
            &[Group::Unmatched, Group::Matched],
            &[SAME, YARDSTICK, EMPTY],
            is_large,
        ),
        "received" => lines(report, &[Group::Received], &[YARDSTICK], |_| true),
        "named" => lines(report, &[Group::Named], &[UNMATCHED], |_| true),
        "copied" => lines(report, &[Group::Copied], &[BARE], |_| true),
        "throughput" => throughput(report),
        "beside" => beside(report),
        "files" => files(report),
        "left-out" => left_out(report),
        _ => return None,
    })
}

fn spread(Spread { low, median, high }: Spread) -> String {
    format!("{} ({} to {})", number(median), number(low), number(high))
}

fn value(line: &Line) -> String {
    format!("{} {}", number(line.value.median), line.unit.symbol())
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let kind = if machine.hypervisor {
        "virtual machine"
    } else {
        "machine"
    };
    let (cpus, cpu, kernel) = (machine.cpus, &machine.cpu, &machine.kernel);
    let busy = match machine.load {
        load if load > 0.5 => format!("; others had work for it, too (load {load})"),
        _ => String::new(),
    };
    format!(
        "One run of `make bench` at commit {}: a {kind} with {cpus} CPUs ({cpu}), Linux {kernel}{busy}. Medians, with \
         quartiles in brackets.\n",
        machine.commit.trim_end_matches('+')
    )
}

/// What most want to know of packets.
fn summary(report: &Report) -> String {
    let at = |what: &str, filters: usize| {
        report
            .lines
            .iter()
            .find(move |line| line.what == what && (filters == 0 || line.filters == filters))
    };
    let many = LIMITED_FILTERS;
    let packets = [
        (
            "no filter matches: random packets, filters for hosts and ports",
            HOSTS,
            many,
            SAME,
        ),
        (
            "no filter matches: packets inside networks that overlap",
            INSIDE_MIXED,
            many,
            SAME,
        ),
        (
            "no filter matches: the worst file with its worst packets, ever different",
            WORST,
            many,
            YARDSTICK,
        ),
        ("copied: one flow, one filter in all", COPY_ONE, 1, BARE),
        (
            "copied: 1,024 flows, filters of all fields",
            COPY_MANY,
            many,
            BARE,
        ),
    ];
    let mut text =
        "| a packet of TCP over IPv4, beside 10,000 filters if not said otherwise | median | against | ratio |\n|---|---|---|---|\n".to_owned();
    for (label, what, filters, against) in packets {
        if let Some((line, ratio)) =
            at(what, filters).and_then(|line| Some((line, line.ratio(against)?)))
        {
            text += &format!(
                "| {label} | {} | {against} | **{}** |\n",
                value(line),
                spread(ratio)
            );
        }
    }
    text
}

/// Names that the summary knows.
const COPY_ONE: &str = "copied over IPv4, IPv4 TCP of 154 bytes";
const COPY_MANY: &str = "copied over IPv4, IPv4 TCP, 10,000 of all fields, mixed flows";

/// Packets have a table for the number of filters that most compare by, and plots for the others.
fn is_large(line: &Line) -> bool {
    line.filters == LIMITED_FILTERS || LISTS.starts_with(&line.what)
}

/// A row for each mirror.
fn throughput(report: &Report) -> String {
    let mut text = "| while all of it is mirrored | TCP stream | share of it | traffic-mirror to this | 64-byte UDP flood | share of it \
                    | traffic-mirror to this |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    // a share of 0.8 where ours is 0.9: 1.13
    let inverse = |ratio: Spread| Spread {
        low: 1.0 / ratio.high,
        median: 1.0 / ratio.median,
        high: 1.0 / ratio.low,
    };
    let cells = |line: Option<&Line>| -> [String; 3] {
        let ratio = |to| line.and_then(|line| line.ratio(to));
        [
            line.map(value),
            ratio(NONE).map(spread),
            ratio(OURS).map(inverse).map(spread),
        ]
        .map(Option::unwrap_or_default)
    };
    for mirror in Mirror::ALL {
        let of = |group| {
            let name = format!(": {}", mirror.name());
            report.group(group).find(|line| line.what.ends_with(&name))
        };
        let (stream, flood) = (of(Group::Stream), of(Group::Flood));
        if stream.is_some() || flood.is_some() {
            let cells = [cells(stream), cells(flood)].concat();
            text += &format!("| {} | {} |\n", mirror.name(), cells.join(" | "));
        }
    }
    text
}

/// A row for each list of filters that packets only pass.
fn beside(report: &Report) -> String {
    let mut text =
        "| 64-byte UDP flood beside filters for something else | packets | share of no mirror |\n|---|---|---|\n"
            .to_owned();
    for line in report.group(Group::Beside) {
        let name = line.what.split_once(": ").map_or("", |(_, name)| name);
        text += &format!(
            "| {name} | {} | {} |\n",
            value(line),
            line.ratio(NONE).map(spread).unwrap_or_default()
        );
    }
    text
}

fn lines(report: &Report, groups: &[Group], against: &[&str], wanted: fn(&Line) -> bool) -> String {
    let mut text = "| | filters | median |".to_owned();
    against
        .iter()
        .for_each(|against| text += &format!(" against {against} |"));
    text += &format!("\n|---|---|---|{}\n", "---|".repeat(against.len()));
    for line in report
        .lines
        .iter()
        .filter(|line| groups.contains(&line.group) && wanted(line))
    {
        let filters = if line.filters == 0 {
            String::new()
        } else {
            line.filters.to_string()
        };
        text += &format!("| {} | {filters} | {} |", line.what, value(line));
        for against in against {
            text += &format!(" {} |", line.ratio(against).map(spread).unwrap_or_default());
        }
        text += "\n";
    }
    text
}

/// A row for each kind of file, at its full size.
fn files(report: &Report) -> String {
    const COLUMNS: [(Group, &str); 5] = [
        (Group::Start, "cold start"),
        (Group::Edit, "one filter edited, to the first copy"),
        (Group::Restart, "restart after `kill -9`"),
        (Group::DaemonPeak, "most memory of the daemon"),
        (Group::Maps, "maps"),
    ];
    let mut text = "| filters | of this kind |".to_owned();
    COLUMNS
        .iter()
        .for_each(|(_, column)| text += &format!(" {column} |"));
    text += &format!("\n|---|---|{}\n", "---|".repeat(COLUMNS.len()));
    let cell = |group, prefix: &str, filters| {
        let mut lines = report
            .group(group)
            .filter(|line| line.filters == filters && line.what.starts_with(prefix));
        lines.next()
    };
    for (kind, _, filters) in KINDS {
        let prefix = format!("{kind}: ");
        let found: Vec<_> = COLUMNS
            .iter()
            .map(|(group, _)| cell(*group, &prefix, filters))
            .collect();
        if found.iter().all(Option::is_some) {
            text += &format!("| {filters} | {kind} |");
            found
                .into_iter()
                .flatten()
                .for_each(|line| text += &format!(" {} |", value(line)));
            text += "\n";
        }
    }
    let one = COLUMNS.map(|(group, _)| {
        report
            .group(group)
            .next()
            .and_then(|line| line.against.iter().find(|a| a.what == ONE))
    });
    if one.iter().all(Option::is_some) {
        text += "| 1 | |";
        let units = COLUMNS
            .iter()
            .filter_map(|(group, _)| report.group(*group).next())
            .map(|line| line.unit.symbol());
        for (against, unit) in one.into_iter().flatten().zip(units) {
            text += &format!(" {} {unit} |", number(against.value.median));
        }
        text += "\n";
    }
    text
}

fn left_out(report: &Report) -> String {
    if report.left_out.is_empty() {
        return "Nothing was left out: all references ran.\n".to_owned();
    }
    let mut text = "| not measured on this machine | because |\n|---|---|\n".to_owned();
    for left_out in &report.left_out {
        let why = left_out
            .why
            .lines()
            .collect::<Vec<_>>()
            .join(" ")
            .replace('|', "/");
        text += &format!("| {} | {why} |\n", left_out.what);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{LeftOut, Machine, Unit};
    use crate::sample::Samples;

    fn report() -> Report {
        let machine = Machine {
            kernel: "6.18".to_owned(),
            cpu: "a CPU".to_owned(),
            cpus: 2,
            hypervisor: true,
            commit: "abc+".to_owned(),
            load: 0.1,
        };
        let (ours, bare) = (Samples(vec![130.0]), Samples(vec![100.0]));
        let line = Line::new(Group::Copied, COPY_ONE, 1, Unit::Nanoseconds, &ours)
            .against(BARE, &ours, &bare);
        let left_out = vec![LeftOut {
            what: "nft dup".to_owned(),
            why: "no nft".to_owned(),
        }];
        Report {
            machine,
            lines: vec![line],
            left_out,
        }
    }

    #[test]
    fn only_what_is_between_the_marks_changes() -> Result<()> {
        let text = "before\n<!-- bench:copied -->\nold\n<!-- bench:end -->\nbetween\n<!-- bench:left-out --><!-- bench:end -->\n";
        let replaced = replace(text, &report())?;
        assert!(replaced.starts_with("before\n<!-- bench:copied -->\n| | filters |"));
        assert!(
            replaced
                .contains("| 1 | 130 ns | 1.30 (1.30 to 1.30) |\n<!-- bench:end -->\nbetween\n")
        );
        assert!(
            replaced.contains("| nft dup | no nft |\n<!-- bench:end -->\n")
                && !replaced.contains("old")
        );
        assert_eq!(replace(&replaced, &report())?, replaced);
        Ok(())
    }

    #[test]
    fn a_place_without_an_end_or_a_known_name_is_an_error() {
        assert!(replace("<!-- bench:copied -->\n", &report()).is_err());
        assert!(replace("<!-- bench:nonsense --><!-- bench:end -->", &report()).is_err());
    }

    #[test]
    fn the_machine_is_named_and_so_is_its_load() {
        let busy = Report {
            machine: Machine {
                load: 3.0,
                ..report().machine
            },
            ..report()
        };
        assert!(
            machine(&report())
                .contains("commit abc: a virtual machine with 2 CPUs (a CPU), Linux 6.18.")
        );
        assert!(machine(&busy).contains("load 3"));
    }
}
