//! A line for people.

use crate::report::Line;
use crate::sample::Spread;

/// `10000 filters  outside, IPv4 TCP   12.1 ns (11.8 to 12.6)  x0.31 of look-ups (0.30 to 0.33)
/// OK`
pub(crate) fn line(line: &Line) -> String {
    let mut text = match line.filters {
        0 => String::new(),
        1 => "     1 filter   ".to_owned(),
        filters => format!("{filters:>6} filters  "),
    };
    text += &format!(
        "{:<78} {} {}",
        line.what,
        spread(line.value),
        line.unit.symbol()
    );
    for against in &line.against {
        text += &format!("  x{} of {}", spread(against.ratio), against.what);
    }
    if let Some(limit) = line.limit {
        let verdict = if line.value.median <= limit {
            "OK"
        } else {
            "OVER"
        };
        text += &format!("  {verdict}, at most {limit}");
    }
    text
}

fn spread(Spread { low, median, high }: Spread) -> String {
    format!("{} ({} to {})", number(median), number(low), number(high))
}

/// Three digits, or all those before the point.
pub(crate) fn number(value: f64) -> String {
    let places = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Group, Unit};
    use crate::sample::Samples;

    #[test]
    fn a_line_says_the_ratio_its_spread_and_the_verdict() {
        let (ours, other) = (
            Samples(vec![10.0, 12.0, 11.0]),
            Samples(vec![40.0, 40.0, 40.0]),
        );
        let measured = Line::new(
            Group::Unmatched,
            "outside",
            10_000,
            Unit::Nanoseconds,
            &ours,
        );
        let text = line(
            &measured
                .against("look-ups", &ours, &other)
                .limit(Some(10.5)),
        );
        let words: Vec<&str> = text.split_whitespace().collect();
        let expected = "10000 filters outside 11.0 (10.5 to 11.5) ns x0.28 (0.26 to 0.29) of look-ups OVER, at most 10.5";
        assert_eq!(words.join(" "), expected);
    }
}
