//! Input: what the programs remember of connections, read twice. Output: the names of servers that
//! clients ask for, and how often.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::brief::cut;
use super::paint::{Tone, paint};
use super::{Names, Style};
use crate::kernel::{Generation, KernelError, Learned};
use crate::printable::printable;

/// A name that clients ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerName {
    /// As a client wrote it, in printable characters.
    pub name: String,
    /// Connections that have asked for it since it is remembered.
    pub connections: u32,
    /// The same in a second; absent before the second reading.
    pub rate: Option<f64>,
    /// Seconds since a packet of such a connection came, with an error of two.
    pub idle: u64,
    /// Whether a filter has it, as of that packet.
    pub is_wanted: bool,
}

/// The names that the live tables remember; `None` if no filter gives names, or nothing is mirrored.
///
/// # Errors
/// A map cannot be read.
pub fn server_names(pin_path: &Path) -> Result<Option<Vec<ServerName>>, KernelError> {
    loop {
        let Some(number) = Generation::list(pin_path)?.pop() else {
            return Ok(None);
        };
        match Generation::open(pin_path, number).learned() {
            // a reload has put another in its place
            Err(_) if Generation::list(pin_path)?.last() != Some(&number) => {}
            names => return names.map(|names| names.map(|names| merged(&names))),
        }
    }
}

/// A name may be remembered at several places: once for each time that it moved.
fn merged(learned: &[Learned]) -> Vec<ServerName> {
    let mut names: HashMap<String, ServerName> = HashMap::new();
    for one in learned {
        let name = printable(&one.name.to_ascii_lowercase()).into_owned();
        let there = names.entry(name.clone()).or_insert(ServerName {
            name,
            connections: 0,
            rate: None,
            idle: u64::MAX,
            is_wanted: false,
        });
        there.connections = there.connections.saturating_add(one.connections);
        if one.idle < there.idle {
            (there.idle, there.is_wanted) = (one.idle, one.is_wanted);
        }
    }
    names.into_values().collect()
}

/// With the rates between two readings, the highest first; `chosen` are exact names or glob patterns,
/// and all if there is none.
pub fn rated(
    names: Vec<ServerName>,
    before: &[ServerName],
    between: Duration,
    chosen: &[Names],
) -> Vec<ServerName> {
    let counts: HashMap<&str, u32> = before
        .iter()
        .map(|one| (&*one.name, one.connections))
        .collect();
    let is_chosen =
        |name: &ServerName| chosen.is_empty() || chosen.iter().any(|one| one.is(&name.name));
    let mut found: Vec<ServerName> = names
        .into_iter()
        .filter(is_chosen)
        .map(|one| {
            let before = counts.get(&*one.name).copied().unwrap_or(0);
            let more = one.connections.saturating_sub(before);
            ServerName {
                rate: Some(f64::from(more) / between.as_secs_f64().max(f64::EPSILON)),
                ..one
            }
        })
        .collect();
    found.sort_by(|a, b| {
        let rate = |one: &ServerName| one.rate.unwrap_or(0.0);
        rate(b)
            .total_cmp(&rate(a))
            .then_with(|| b.connections.cmp(&a.connections))
            .then_with(|| a.name.cmp(&b.name))
    });
    found
}

/// One picture of `top --names`.
pub fn names_frame(names: &[ServerName], style: Style) -> String {
    let head = format!(
        "{:>14} {:>12} {:>10}  {:<8}  NAME",
        "CONNECTIONS/S", "CONNECTIONS", "IDLE", "FILTER"
    );
    let mut lines = vec![paint(style.color, Tone::Heading, cut(&head, style.columns))];
    for one in names {
        let filter = if one.is_wanted { "yes" } else { "none" };
        let line = format!(
            "{:>14.0} {:>12} {:>8} s  {filter:<8}  {}",
            one.rate.unwrap_or_default(),
            one.connections,
            one.idle,
            one.name
        );
        let tone = if one.rate.unwrap_or_default() > 0.0 {
            Tone::Plain
        } else {
            Tone::Quiet
        };
        lines.push(paint(style.color, tone, cut(&line, style.columns)));
    }
    lines.truncate(style.rows.unwrap_or(usize::MAX));
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(name: &str, connections: u32, idle: u64, is_wanted: bool) -> Learned {
        Learned {
            name: name.to_owned(),
            connections,
            idle,
            is_wanted,
        }
    }

    #[test]
    fn the_busiest_is_on_top_and_nothing_controls_the_terminal() {
        let before = merged(&[
            learned("quiet.example", 900, 3, false),
            learned("busy.example", 5, 1, true),
        ]);
        let names = merged(&[
            learned("quiet.example", 900, 4, false),
            learned("Busy.example", 5, 9, false),
            learned("busy.example", 20, 1, true),
            learned("bad\u{1b}[2J", 1, 2, false),
        ]);
        let found = rated(names, &before, Duration::from_secs(2), &[]);
        let style = Style {
            rows: None,
            columns: None,
            color: false,
        };
        assert_eq!(
            names_frame(&found, style),
            " CONNECTIONS/S  CONNECTIONS       IDLE  FILTER    NAME\n\
             \x20           10           25        1 s  yes       busy.example\n\
             \x20            0            1        2 s  none      bad\\u{1b}[2j\n\
             \x20            0          900        4 s  none      quiet.example\n"
        );
        let chosen = ["*.example".parse().unwrap()];
        let chosen_ones = rated(found, &before, Duration::from_secs(2), &chosen);
        assert_eq!(chosen_ones.len(), 2);
    }
}
