//! Why a single value is rejected, before it is known which object has it.

use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;

use crate::config::Item;
use crate::diagnostic::{Checked, Code, Diagnostic, Diagnostics, Quoted, Remedy};

/// Why a value is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: Code,
    /// Continues "filter "web" has source "10.0.0.0/33", ".
    pub(super) cause: String,
    /// What to do about it.
    pub(super) help: Remedy,
    /// Background.
    pub(super) note: Option<String>,
}

impl Problem {
    pub(super) fn new(code: Code, cause: impl Into<String>, help: impl Into<Remedy>) -> Self {
        Self {
            code,
            cause: cause.into(),
            help: help.into(),
            note: None,
        }
    }

    fn about(self, label: &str, key: &str, value: impl Display, span: Range<usize>) -> Diagnostic {
        let message = format!("{label} has {key} {value}, {}", self.cause);
        let mut diagnostic = Diagnostic::new(self.code, span, message).help(self.help);
        diagnostic.note = self.note;
        diagnostic
    }
}

/// A value as messages show it.
pub(super) trait Shown {
    fn shown(&self) -> String;

    /// The text, if the value is one.
    fn text(&self) -> Option<&str> {
        None
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        Quoted(self).to_string()
    }

    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl Shown for i128 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for Item {
    fn shown(&self) -> String {
        match self {
            Item::Number(number) => number.shown(),
            Item::Text(text) => text.shown(),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Item::Number(_) => None,
            Item::Text(text) => Some(text),
        }
    }
}

/// Parses the value of `key`; a problem is reported as one of the object that messages call
/// `label`.
pub(super) fn value<R: Shown, T>(
    diagnostics: &mut Diagnostics,
    label: &str,
    key: &str,
    raw: &Spanned<R>,
    parse: impl Fn(&R) -> Result<T, Problem>,
) -> Checked<T> {
    parse(raw.get_ref()).map_err(|problem| {
        diagnostics.report(problem.about(label, key, raw.get_ref().shown(), raw.span()))
    })
}
