//! Input: a status with rates. Output: one picture of `top`, what moves most on top.

use super::brief::cut;
use super::listed::grouped;
use super::paint::{Tone, paint};
use super::text::bits;
use super::{Rate, Status};

/// How it is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Lines at most; all if absent.
    pub rows: Option<usize>,
    /// Characters of a line at most; all if absent.
    pub columns: Option<usize>,
    /// With ANSI colours (ECMA-48 SGR).
    pub color: bool,
}

/// Draws it.
pub fn frame(status: &Status, style: Style) -> String {
    let mut lines = vec![status.brief_within(style.columns, style.color)];
    let paint = |tone: Tone, text: &str| paint(style.color, tone, cut(text, style.columns));
    let line = |name: &str, rate: Option<Rate>, state: &str, is_bad: bool| {
        let rate = rate.unwrap_or_default();
        let tone = match (is_bad || rate.drops > 0.0, rate.packets == 0.0) {
            (true, _) => Tone::Bad,
            (false, true) => Tone::Quiet,
            (false, false) => Tone::Plain,
        };
        paint(tone, &row(name, rate, state))
    };
    lines.push(paint(Tone::Heading, &head("ENDPOINT")));
    for endpoint in by_rate(&status.endpoints, |endpoint| {
        (endpoint.rate, &endpoint.name)
    }) {
        lines.push(line(
            &endpoint.name,
            endpoint.rate,
            endpoint.state,
            !endpoint.is_ready(),
        ));
    }
    let not_mirrored = grouped(&status.not_mirrored);
    if !not_mirrored.is_empty() {
        lines.push(paint(Tone::Heading, "NOT MIRRORED"));
    }
    for group in &not_mirrored {
        let tone = if group.is_fault {
            Tone::Bad
        } else {
            Tone::Quiet
        };
        lines.push(paint(tone, &group.to_string()));
    }
    lines.push(paint(Tone::Heading, &head("FILTER")));
    for filter in by_rate(&status.filters, |filter| (filter.rate, &filter.name)) {
        lines.push(line(&filter.name, filter.rate, &filter.words(), false));
    }
    lines.truncate(style.rows.unwrap_or(usize::MAX));
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

fn head(object: &str) -> String {
    format!(
        "{object:<32} {:>12} {:>14} {:>12}  STATE",
        "PACKETS/S", "BITS", "DROPS/S"
    )
}

fn row(name: &str, rate: Rate, state: &str) -> String {
    format!(
        "{name:<32} {:>12.0} {:>14} {:>12.0}  {state}",
        rate.packets,
        bits(rate.bits),
        rate.drops
    )
}

/// What has the most bits first, then by name.
fn by_rate<T>(objects: &[T], key: impl Fn(&T) -> (Option<Rate>, &String)) -> Vec<&T> {
    let mut sorted: Vec<&T> = objects.iter().collect();
    sorted.sort_by(|a, b| {
        let ((a, a_name), (b, b_name)) = (key(a), key(b));
        let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
        (b.bits + b.drops)
            .total_cmp(&(a.bits + a.drops))
            .then_with(|| a_name.cmp(b_name))
    });
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{EndpointStatus, FilterStatus, State};

    fn status() -> Status {
        let filter = |name: &str, bits: f64| FilterStatus {
            name: name.to_owned(),
            active: name != "off",
            state: if name == "off" { "disabled" } else { "active" },
            packets: 0,
            bytes: 0,
            rate: Some(Rate {
                packets: bits / 1000.0,
                bits,
                drops: 0.0,
            }),
        };
        let endpoint = EndpointStatus {
            name: "ids".to_owned(),
            state: "no-route",
            since: None,
            is_sent: true,
            address: None,
            dns_name: None,
            port: None,
            interface: None,
            next_hop: None,
            mtu: None,
            errors: Default::default(),
            packets: 0,
            bytes: 0,
            truncated: 0,
            fragmented: 0,
            drops: Default::default(),
            rate: Some(Rate {
                packets: 0.0,
                bits: 0.0,
                drops: 12.0,
            }),
        };
        Status {
            schema: 1,
            state: State::Degraded,
            degraded: true,
            reasons: vec!["endpoint ids possibly gets no copies: no-route".to_owned()],
            idle: None,
            since: None,
            daemon: Default::default(),
            file: None,
            last_reload: None,
            last_rejected: None,
            reloads: None,
            repairs: None,
            interfaces: Vec::new(),
            not_mirrored: Vec::new(),
            filters: vec![
                filter("a", 0.0),
                filter("busy", 5e6),
                filter("middle", 1e6),
                filter("off", 0.0),
            ],
            endpoints: vec![endpoint],
            outputs: Vec::new(),
            dns_names: Vec::new(),
        }
    }

    #[test]
    fn what_moves_most_is_on_top() {
        let frame = frame(
            &status(),
            Style {
                rows: None,
                columns: None,
                color: false,
            },
        );
        let expected = "\
            degraded   endpoint ids possibly gets no copies: no-route; daemon not running\n\
            ENDPOINT                            PACKETS/S           BITS      DROPS/S  STATE\n\
            ids                                         0        0 bit/s           12  no-route\n\
            FILTER                              PACKETS/S           BITS      DROPS/S  STATE\n\
            busy                                     5000     5.0 Mbit/s            0  active\n\
            middle                                   1000     1.0 Mbit/s            0  active\n\
            a                                           0        0 bit/s            0  active\n\
            off                                         0        0 bit/s            0  disabled\n";
        assert_eq!(frame, expected);
    }

    #[test]
    fn it_fits_the_terminal_and_drops_are_red() {
        let frame = frame(
            &status(),
            Style {
                rows: Some(3),
                columns: Some(78),
                color: true,
            },
        );
        let lines: Vec<&str> = frame.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines[0].starts_with("\x1b[31mdegraded\x1b[0m   endpoint ids"),
            "{frame:?}"
        );
        assert!(
            lines[2].starts_with("\x1b[31mids ") && lines[2].ends_with(" no-\x1b[0m"),
            "{frame:?}"
        );
    }
}
