//! What an operator is told to do about a diagnostic, for people and for editors.

use std::fmt;
use std::ops::Range;

/// An edit that removes the cause of a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// What to replace, in bytes of the text.
    pub span: Range<usize>,
    /// What to write there.
    pub text: String,
}

/// What to do about a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// A sentence, if the operator has to choose or to look something up.
    Advice(String),
    /// What to write in place of what is underlined.
    Write(String),
}

impl Remedy {
    /// To write this text in place of what is underlined.
    pub(crate) fn write(text: impl Into<String>) -> Self {
        Self::Write(text.into())
    }

    /// To write this text, in quotes.
    pub(crate) fn write_string(text: impl fmt::Display) -> Self {
        Self::Write(quoted(&text.to_string()))
    }
}

/// A string as TOML has it.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Advice(sentence) => f.write_str(sentence),
            Self::Write(text) => write!(f, "write {text}"),
        }
    }
}

impl From<String> for Remedy {
    fn from(sentence: String) -> Self {
        Self::Advice(sentence)
    }
}

impl From<&str> for Remedy {
    fn from(sentence: &str) -> Self {
        Self::Advice(sentence.to_owned())
    }
}

impl PartialEq<&str> for Remedy {
    fn eq(&self, shown: &&str) -> bool {
        match self {
            Self::Advice(sentence) => sentence == shown,
            Self::Write(text) => shown.strip_prefix("write ") == Some(text),
        }
    }
}
