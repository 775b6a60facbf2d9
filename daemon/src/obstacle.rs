//! Input: the obstacles before and now. Output: log lines, one when an obstacle begins and one when
//! it ends. Pure.

use std::fmt;

use crate::about::About;

/// Something that is wanted and cannot be, or that may come as a surprise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What it is, a sentence that is either true or over.
    pub what: String,
    /// Its reason or consequence; empty if `what` is complete. An obstacle with another reason is
    /// logged again.
    pub why: String,
    /// Details, which may change all the time: they are logged with the rest, but a change of them
    /// alone is not.
    pub detail: String,
    /// Whether an operator must act.
    pub is_fault: bool,
    /// The objects of the file that it is about.
    pub about: About,
}

impl Obstacle {
    /// An obstacle that an operator must remove.
    pub fn fault(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            detail: String::new(),
            is_fault: true,
            about: About::default(),
        }
    }

    /// Something that is as it may be.
    pub fn notice(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            is_fault: false,
            ..Self::fault(what, why)
        }
    }

    /// Names the objects of the file that it is about.
    pub fn about(self, about: About) -> Self {
        Self { about, ..self }
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.what, &self.why) == (&other.what, &other.why)
    }
}

impl From<String> for Obstacle {
    fn from(what: String) -> Self {
        Self::fault(what, "")
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let rest = [&self.why, &self.detail]
            .into_iter()
            .filter(|text| !text.is_empty());
        rest.enumerate()
            .try_for_each(|(nth, text)| write!(f, "{}{text}", if nth == 0 { ": " } else { "; " }))
    }
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// A warning; otherwise information.
    pub is_warning: bool,
    /// What happened, as the log calls it.
    pub event: &'static str,
    /// The objects of the file that it is about.
    pub about: About,
    /// For people.
    pub text: String,
}

/// Obstacles that begin and that end. One with a new reason begins again and does not end.
pub fn lines(before: &[Obstacle], now: &[Obstacle]) -> Vec<Line> {
    let begun = now
        .iter()
        .filter(|one| !before.iter().any(|other| other.is_same(one)));
    let over = before
        .iter()
        .filter(|one| !now.iter().any(|other| other.what == one.what));
    let begun = begun.map(|one| Line {
        is_warning: one.is_fault,
        event: if one.is_fault { "problem" } else { "notice" },
        about: one.about.clone(),
        text: one.to_string(),
    });
    let over = over.map(|one| Line {
        is_warning: false,
        event: "resolved",
        about: one.about.clone(),
        text: format!("resolved: {}", one.what),
    });
    begun.chain(over).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(before: &[Obstacle], now: &[Obstacle]) -> Vec<String> {
        let level = |line: &Line| if line.is_warning { "WARN" } else { "INFO" };
        lines(before, now)
            .iter()
            .map(|line| format!("{} {}", level(line), line.text))
            .collect()
    }

    #[test]
    fn each_thing_is_told_when_it_begins_and_when_it_is_over() {
        let down = [Obstacle::fault("ids gets no copies", "interface-down")];
        let unreached = [Obstacle::fault("ids gets no copies", "no-route")];
        assert_eq!(
            said(&[], &down),
            ["WARN ids gets no copies: interface-down"]
        );
        assert_eq!(said(&down, &down), [""; 0]);
        assert_eq!(
            said(&down, &unreached),
            ["WARN ids gets no copies: no-route"],
            "another reason is no end"
        );
        assert_eq!(said(&unreached, &[]), ["INFO resolved: ids gets no copies"]);
        assert_eq!(
            said(&[], &["it is late".to_owned().into()]),
            ["WARN it is late"]
        );
    }

    #[test]
    fn what_needs_nobody_is_for_information() {
        let pending = [Obstacle::notice("nothing matches veth*", "")];
        assert_eq!(said(&[], &pending), ["INFO nothing matches veth*"]);
        assert_eq!(
            said(&pending, &[]),
            ["INFO resolved: nothing matches veth*"]
        );
    }

    #[test]
    fn a_detail_that_changes_is_told_with_the_rest_only() {
        let full = |detail: &str| {
            [Obstacle {
                detail: detail.to_owned(),
                ..Obstacle::fault("it is full", "list fewer")
            }]
        };
        assert_eq!(
            said(&[], &full("a, b")),
            ["WARN it is full: list fewer; a, b"]
        );
        assert_eq!(said(&full("a, b"), &full("a")), [""; 0]);
    }
}
