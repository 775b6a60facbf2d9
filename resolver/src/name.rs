//! Input: the text of a DNS name. Output: the same name in one spelling, or why it is none.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

/// Characters of a name without its last dot: 255 octets in a message, of which each label takes
/// one for its length, and the root another (RFC 1035 section 2.3.4).
const MOST_CHARACTERS: usize = 253;
/// Characters of a label (RFC 1035 section 2.3.4).
const MOST_LABEL_CHARACTERS: usize = 63;

/// An absolute DNS name in small letters, without the dot at its end.
///
/// Letters, digits, hyphens and underscores, the first of which DNS does not restrict to letters
/// (RFC 2181 section 11): services in containers and in Active Directory have underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Arc<str>);

/// Why a text is no DNS name: a sentence without its subject, with the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing, or a dot alone.
    #[error("is empty")]
    Empty,
    /// More than 253 characters.
    #[error("has more than {MOST_CHARACTERS} characters")]
    TooLong,
    /// Two dots in a row, or a dot at the beginning.
    #[error("has an empty label: write one dot between two labels")]
    EmptyLabel,
    /// More than 63 characters between two dots.
    #[error("has a label of more than {MOST_LABEL_CHARACTERS} characters")]
    LongLabel,
    /// An asterisk.
    #[error(
        "has an asterisk: DNS cannot list the names below another one; write each name, or use \
         server_name"
    )]
    Wildcard,
    /// A character that is not ASCII.
    #[error("is not ASCII: write it as DNS has it, with xn-- (idn2 NAME prints that)")]
    NotAscii,
    /// Another character that no host name has.
    #[error("has the character {0:?}: letters, digits, hyphens, underscores and dots are possible")]
    Character(char),
    /// The last label is a number, as in an IPv4 address.
    #[error("ends with a number, as an address does")]
    Address,
}

impl Name {
    /// Reads a name. Capital letters become small ones (RFC 4343), and a dot at the end is dropped:
    /// each name is absolute, whatever search list the host has.
    ///
    /// # Errors
    /// It is no name of a host.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if !text.is_ascii() {
            return Err(NameError::NotAscii);
        }
        if text.len() > MOST_CHARACTERS {
            return Err(NameError::TooLong);
        }
        text.split('.').try_for_each(check_label)?;
        let last = text.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NameError::Address);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name in small letters, without a dot at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_label(label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > MOST_LABEL_CHARACTERS {
        return Err(NameError::LongLabel);
    }
    let is_wrong = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match label.chars().find(is_wrong) {
        None => Ok(()),
        Some('*') => Err(NameError::Wildcard),
        Some(wrong) => Err(NameError::Character(wrong)),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_each_name() {
        for (text, expected) in [
            ("API.Example.com", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("localhost", "localhost"),
            ("my_service.internal", "my_service.internal"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("r3---sn-ab.example", "r3---sn-ab.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
        ] {
            assert_eq!(Name::parse(text).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn what_is_no_name_has_its_reason() {
        let label = "a".repeat(64);
        let long = "abc.".repeat(63) + "de";
        assert_eq!(long.len(), 254);
        for (text, expected) in [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..", NameError::EmptyLabel),
            ("*.example.com", NameError::Wildcard),
            ("bücher.example", NameError::NotAscii),
            ("a b", NameError::Character(' ')),
            ("a/b", NameError::Character('/')),
            ("a\nb", NameError::Character('\n')),
            ("fe80::1", NameError::Character(':')),
            ("192.0.2.1", NameError::Address),
            ("7", NameError::Address),
            (&label, NameError::LongLabel),
            (&long, NameError::TooLong),
        ] {
            assert_eq!(Name::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn the_longest_names_are_names() {
        assert!(Name::parse(&("abc.".repeat(63) + "d")).is_ok());
        assert!(Name::parse(&"a".repeat(63)).is_ok());
    }
}
