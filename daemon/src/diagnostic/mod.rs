//! Input: the errors of the user's file, from all stages. Output: text for people, data for
//! `--json`. Must not know: the meaning of the file.

mod code;
mod remedy;
mod render;
mod secrets;
mod suggest;

use std::fmt::{self, Display};
use std::ops::Range;

pub use code::{Code, Severity};
pub use remedy::Fix;
pub(crate) use remedy::{Remedy, quoted};
pub use render::{Edit, Located, Note, locate, render};
pub use secrets::hidden;
pub(crate) use secrets::is_secret;
pub(crate) use suggest::{alternatives, closest, did_you_mean};

/// One error or warning about the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of problem it is; carries the severity.
    pub code: Code,
    /// Object, value and cause in one line: lower case, no full stop.
    pub message: String,
    /// The offending place, in bytes of the text.
    pub span: Range<usize>,
    /// What to do about it.
    pub help: Option<String>,
    /// The same as an edit, if it is one.
    pub fix: Option<Fix>,
    /// Background, such as the list of valid keys.
    pub note: Option<String>,
    /// Other places that take part, such as the first of two duplicates.
    pub related: Vec<Related>,
}

/// A second place that takes part in a [`Diagnostic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// The place, in bytes of the text.
    pub span: Range<usize>,
    /// What is there.
    pub message: String,
}

impl Diagnostic {
    /// A problem at `span` without help, note or second place.
    pub(crate) fn new(code: Code, span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            span,
            help: None,
            fix: None,
            note: None,
            related: Vec::new(),
        }
    }

    /// Adds what to do about it.
    pub(crate) fn help(mut self, help: impl Into<Remedy>) -> Self {
        let help = help.into();
        self.help = Some(help.to_string());
        let span = self.span.clone();
        match help {
            Remedy::Write(text) => self.fix(span, text),
            Remedy::Advice(_) => self,
        }
    }

    /// Adds an edit that does what the help says.
    pub(crate) fn fix(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        let text = text.into();
        self.fix = Some(Fix { span, text });
        self
    }

    /// Adds background.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Adds a second place.
    pub(crate) fn related(mut self, span: Range<usize>, message: impl Into<String>) -> Self {
        let message = message.into();
        self.related.push(Related { span, message });
        self
    }

    /// Whether the file is rejected because of it.
    pub fn is_error(&self) -> bool {
        self.code.severity() == Severity::Error
    }
}

/// Collects diagnostics, so that one pass finds all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Keeps the diagnostic. The value that it is about is replaced by the returned mark.
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) -> Reported {
        self.0.push(diagnostic);
        Reported(())
    }

    /// How many were reported.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The `index`th that was reported.
    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Diagnostic> {
        self.0.get_mut(index)
    }

    /// Whether nothing was reported.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that was reported, in the order of the file.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.0
            .sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
        self.0
    }
}

/// Stands for a value whose error is already reported. Only a report creates one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported(());

/// A value, or the mark that its error is already reported.
pub type Checked<T> = Result<T, Reported>;

/// A text of the user in quotes, as a message shows it: escaped, and shortened if it is long.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_CHARS: usize = 64;
        match self.0.char_indices().nth(MAX_CHARS) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_is_escaped_and_cut() {
        assert_eq!(Quoted("a\n\"b").to_string(), r#""a\n\"b""#);
        let long = "ä".repeat(65);
        assert_eq!(
            Quoted(&long).to_string(),
            format!("\"{}\"...", "ä".repeat(64))
        );
    }
}
