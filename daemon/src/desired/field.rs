//! What fields of all objects have in common: they may be left out or not, name one of few choices,
//! or repeat a name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use toml::Spanned;

use super::problem::Problem;
use super::{Action, Directions, Undecided};
use crate::config::Field;
use crate::diagnostic::{Checked, Code, Diagnostic, Diagnostics, Remedy, Reported, did_you_mean};

/// Each name that was there before, with the place where it was first.
pub(super) fn repeated<'a>(
    names: impl Iterator<Item = &'a Spanned<String>>,
) -> Vec<(&'a Spanned<String>, Range<usize>)> {
    let mut first: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    let mut repeated = Vec::new();
    // empty names are an error of their own
    for name in names.filter(|name| !name.get_ref().is_empty()) {
        match first.entry(name.get_ref()) {
            Entry::Occupied(first) => repeated.push((name, first.get().clone())),
            Entry::Vacant(entry) => {
                entry.insert(name.span());
            }
        }
    }
    repeated
}

/// A boolean that may be left out.
pub(super) fn flag(field: &Field<bool>, default: bool) -> Checked<bool> {
    match field {
        None => Ok(default),
        Some(Ok(flag)) => Ok(*flag.get_ref()),
        Some(Err(reported)) => Err(*reported),
    }
}

/// A field that the object cannot do without.
pub(super) fn required<'a, T>(
    field: &'a Field<T>,
    diagnostics: &mut Diagnostics,
    missing: impl FnOnce() -> Diagnostic,
) -> Checked<&'a Spanned<T>> {
    match field {
        Some(Ok(value)) => Ok(value),
        Some(Err(reported)) => Err(*reported),
        None => Err(diagnostics.report(missing())),
    }
}

/// The value of a field that may be left out.
pub(super) fn optional<T>(field: &Field<T>) -> Checked<Option<&Spanned<T>>> {
    field
        .as_ref()
        .map(Checked::as_ref)
        .transpose()
        .map_err(|reported: &Reported| *reported)
}

pub(super) fn direction(text: &str) -> Result<Directions, Problem> {
    match text {
        "ingress" => Ok(Directions::Ingress),
        "egress" => Ok(Directions::Egress),
        "both" => Ok(Directions::Both),
        _ if is_any(text) => Err(Problem::new(
            Code::BadDirection,
            "which is not a direction",
            Remedy::write_string("both"),
        )),
        _ => Err(bad_choice(
            Code::BadDirection,
            "which is not a direction",
            text,
            &["ingress", "egress", "both"],
        )),
    }
}

/// Whether a text means any value in other tools.
pub(super) fn is_any(text: &str) -> bool {
    matches!(&*text.trim().to_ascii_lowercase(), "any" | "all" | "*")
}

pub(super) fn action(text: &str) -> Result<Action, Problem> {
    match text {
        "mirror" => Ok(Action::Mirror),
        "exclude" => Ok(Action::Exclude),
        _ => Err(bad_choice(
            Code::BadAction,
            "which is not an action",
            text,
            &["mirror", "exclude"],
        )),
    }
}

pub(super) fn undecided(text: &str) -> Result<Undecided, Problem> {
    match text {
        "mirror" => Ok(Undecided::Mirror),
        "skip" => Ok(Undecided::Skip),
        _ => Err(bad_choice(
            Code::BadUndecided,
            "which is not a treatment of flows without a known name",
            text,
            &["mirror", "skip"],
        )),
    }
}

pub(super) fn bad_choice(code: Code, cause: &str, text: &str, choices: &[&str]) -> Problem {
    let quoted: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
    let help = match (
        did_you_mean(text, choices.iter().copied()),
        quoted.split_last(),
    ) {
        (Some(guess), _) => guess,
        (None, Some((last, others))) => format!("write {} or {last}", others.join(", ")),
        (None, None) => String::new(),
    };
    Problem::new(code, cause, help)
}
