//! Which plots there are.

use super::plot::{Bars, Curves, Series};
use crate::control::KINDS;
use crate::copies::BARE;
use crate::packets::{INSIDE_MIXED, LISTED_MIXED, MATCHED_MIXED, OUTSIDE_MIXED, WORST, YARDSTICK};
use crate::report::{Group, Line, Report};
use crate::sample::Spread;
use crate::throughput::NONE;

/// The name of a file below `docs/bench/`, and what is in it.
pub(crate) type Picture = (&'static str, String);

/// All of them; those of which nothing was measured are left out.
pub(crate) fn pictures(report: &Report) -> Vec<Picture> {
    let all = [
        ("packets.svg", packets(report)),
        ("copies.svg", copies(report)),
        (
            "stream.svg",
            share(
                report,
                Group::Stream,
                "A TCP stream while all of it is mirrored",
            ),
        ),
        (
            "flood.svg",
            share(
                report,
                Group::Flood,
                "A flood of 64-byte UDP packets while all are mirrored",
            ),
        ),
        (
            "start.svg",
            files(report, Group::Start, "Cold start", "ms to READY=1"),
        ),
        (
            "edit.svg",
            files(
                report,
                Group::Edit,
                "One filter edited",
                "ms from the rename to a copy",
            ),
        ),
        (
            "restart.svg",
            files(
                report,
                Group::Restart,
                "Restart after kill -9",
                "ms to READY=1",
            ),
        ),
        (
            "daemon.svg",
            files(
                report,
                Group::DaemonPeak,
                "Memory of the daemon, at most",
                "MiB",
            ),
        ),
        (
            "maps.svg",
            files(report, Group::Maps, "Memory of the maps", "MiB"),
        ),
    ];
    all.into_iter()
        .filter_map(|(name, picture)| Some((name, picture?)))
        .collect()
}

/// Lines of one name as a curve.
fn series<'r>(
    name: &str,
    lines: impl Iterator<Item = &'r Line>,
    value: impl Fn(&Line) -> Option<Spread>,
) -> Option<Series> {
    let points = lines.filter(|line| line.filters > 0);
    let points: Vec<_> = points
        .filter_map(|line| Some((line.filters as f64, value(line)?)))
        .collect();
    (!points.is_empty()).then(|| Series {
        name: name.to_owned(),
        points,
    })
}

fn packets(report: &Report) -> Option<String> {
    let curves = [
        ("nothing matches, outside the networks", OUTSIDE_MIXED),
        ("nothing matches, inside overlapping networks", INSIDE_MIXED),
        ("every field is listed, in no one filter", LISTED_MIXED),
        ("worst file with its worst packets, ever different", WORST),
        ("a filter matches, without the copy", MATCHED_MIXED),
    ];
    let series: Vec<_> = curves
        .into_iter()
        .filter_map(|(name, what)| {
            let lines = report.lines.iter().filter(|line| line.what == what);
            series(name, lines, |line| line.ratio(YARDSTICK))
        })
        .collect();
    let title = "What an IPv4 packet costs, against look-ups in lists of 50".to_owned();
    (!series.is_empty()).then(|| {
        Curves {
            title,
            y: "times the look-ups".to_owned(),
            series,
        }
        .svg()
    })
}

fn files(report: &Report, group: Group, title: &str, y: &str) -> Option<String> {
    let of = |kind: &str| {
        let prefix = format!("{kind}: ");
        series(
            kind,
            report
                .group(group)
                .filter(|line| line.what.starts_with(&prefix)),
            |line| Some(line.value),
        )
    };
    let series: Vec<_> = KINDS.iter().filter_map(|(kind, ..)| of(kind)).collect();
    (!series.is_empty()).then(|| {
        Curves {
            title: title.to_owned(),
            y: y.to_owned(),
            series,
        }
        .svg()
    })
}

fn copies(report: &Report) -> Option<String> {
    let bars: Vec<_> = report
        .group(Group::Copied)
        .filter_map(|line| Some((line.what.clone(), line.ratio(BARE)?)))
        .collect();
    let title = "What a copy costs, against a bare clone to the same kind of NIC".to_owned();
    (!bars.is_empty()).then(|| {
        Bars {
            title,
            x: "times a bare clone".to_owned(),
            bars,
        }
        .svg()
    })
}

/// What is left of a rate.
fn share(report: &Report, group: Group, title: &str) -> Option<String> {
    let name = |line: &Line| {
        line.what
            .split_once(": ")
            .map_or(line.what.as_str(), |(_, mirror)| mirror)
            .to_owned()
    };
    let bars: Vec<_> = report
        .group(group)
        .filter_map(|line| Some((name(line), line.ratio(NONE)?)))
        .collect();
    let x = "share of the rate without a mirror".to_owned();
    (!bars.is_empty()).then(|| {
        Bars {
            title: title.to_owned(),
            x,
            bars,
        }
        .svg()
    })
}
