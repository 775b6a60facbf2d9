//! Input: what was wanted before and what is wanted by now. Output: the lines that an operator
//! reads. Pure.

mod changes;
mod network;
mod obstacles;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::about::About;
pub use changes::changes;
pub use network::network;
pub use obstacles::{advice, obstacles};

/// What a reload has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// One line each, such as `+ filter web`.
    pub changes: Vec<Change>,
    /// What another process had undone, one line each.
    pub repaired: Vec<String>,
    /// Elements of maps that were written.
    pub writes: usize,
    /// How long it took.
    pub duration: Duration,
    /// Programs that are still to be attached or detached.
    pub left: usize,
}

/// One object that has come, gone or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened to it.
    pub sign: Sign,
    /// "filter", "endpoint", "interface", "metrics" or "mirroring".
    pub object: &'static str,
    /// Its name.
    pub name: String,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// It is new.
    Added,
    /// It differs.
    Changed,
    /// It is gone.
    Removed,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "+",
            Self::Changed => "~",
            Self::Removed => "-",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.sign, self.object, self.name)
    }
}

impl Sign {
    /// What happened, as the log calls it.
    pub fn event(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

impl Change {
    /// The object, if it is one of the file's.
    pub fn about(&self) -> About {
        match self.object {
            "filter" => About::filter(&self.name),
            "endpoint" => About::endpoint(&self.name),
            "interface" => About::interface(&self.name),
            _ => About::default(),
        }
    }
}

impl Report {
    /// Adds what came of going on.
    pub fn extend(&mut self, next: Self) {
        self.changes.extend(next.changes);
        self.repaired.extend(next.repaired);
        self.writes += next.writes;
        self.duration += next.duration;
        self.left = next.left;
    }

    /// The last line about what was loaded, such as "the file": how much that changed, and how long
    /// it took.
    pub fn summary(&self, what: &str) -> String {
        let changes = plural(self.changes.len(), "change");
        format!("loaded {what}: {changes}, {}", self.cost())
    }

    /// The line about an update that the network caused. `causes` say what changed there.
    pub fn update(&self, causes: &[String]) -> String {
        const MOST: usize = 4;
        let more = causes.len().saturating_sub(MOST);
        let shown = causes[..causes.len() - more].join("; ");
        let causes = match (causes.len(), more) {
            (0, _) => "updated the maps".to_owned(),
            (_, 0) => shown,
            _ => format!("{shown}; {}", plural(more, "more change")),
        };
        format!("{causes}; {}", self.cost())
    }

    fn cost(&self) -> String {
        let ms = self.duration.as_millis();
        format!("{}, {ms} ms", plural(self.writes, "map write"))
    }
}

/// Lines of the log about one thing, such as a reload, at most: the journal drops what comes by the
/// thousand.
const MOST_LINES: usize = 100;

/// The first of many, which have a line of the log each, and a line about the others.
pub fn bounded<'a, T>(all: &'a [T], noun: &str) -> (&'a [T], Option<String>) {
    let (shown, more) = all.split_at(all.len().min(MOST_LINES));
    let line = || format!("and {}", plural(more.len(), &format!("more {noun}")));
    (shown, (!more.is_empty()).then(line))
}

/// "1 filter", "2 filters".
pub fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Values of a list that are shown; of longer ones the differences.
pub const SHOWN: usize = 8;

/// Values with commas, the first of many.
pub fn list(values: &[String]) -> String {
    let more = values.len().saturating_sub(SHOWN);
    let shown = values[..values.len() - more].join(", ");
    match (values.len(), more) {
        (0, _) => "any".to_owned(),
        (_, 0) => shown,
        _ => format!("{shown} and {more} more"),
    }
}
