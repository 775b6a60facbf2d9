//! Input and output: the names that the daemon wants addresses of, one a line. Empty lines and
//! lines that begin with `#` mean nothing.

use std::collections::BTreeSet;

use crate::name::{Name, NameError};
use crate::names::MOST_NAMES;

/// Bytes that the list may have: as many names as there may be, the longest, and some comments.
pub const MOST_BYTES: usize = 4 << 20;

/// Why the list is rejected as a whole: a sentence without its subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// More bytes than a list can have.
    #[error("has more than {MOST_BYTES} bytes")]
    TooLong,
    /// More names than are resolved.
    #[error("has more than {MOST_NAMES} names")]
    TooMany,
    /// A line is no name.
    #[error("line {line}: the name {error}")]
    Invalid {
        /// Which one, from 1 on.
        line: usize,
        /// What is wrong with it.
        error: NameError,
    },
}

/// Reads the list.
///
/// # Errors
/// It is too long, or a line is no name.
pub fn parse(text: &str) -> Result<BTreeSet<Name>, WantedError> {
    if text.len() > MOST_BYTES {
        return Err(WantedError::TooLong);
    }
    let mut names = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = Name::parse(line).map_err(|error| WantedError::Invalid {
            line: index + 1,
            error,
        })?;
        names.insert(name);
        if names.len() > MOST_NAMES {
            return Err(WantedError::TooMany);
        }
    }
    Ok(names)
}

/// Writes the list.
pub fn render(names: &BTreeSet<Name>) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let names = BTreeSet::from(["b.example", "a.example"].map(|n| Name::parse(n).unwrap()));
        assert_eq!(render(&names), "a.example\nb.example\n");
        assert_eq!(parse(&render(&names)), Ok(names));
        assert_eq!(parse(""), Ok(BTreeSet::new()));
    }

    #[test]
    fn comments_and_doubles_mean_nothing() {
        let names = parse("# names\n\n a.example \r\nA.EXAMPLE.\n").unwrap();
        assert_eq!(names, BTreeSet::from([Name::parse("a.example").unwrap()]));
    }

    #[test]
    fn a_wrong_line_rejects_all() {
        let error = NameError::Wildcard;
        assert_eq!(
            parse("a.example\n*.example\n"),
            Err(WantedError::Invalid { line: 2, error })
        );
    }

    #[test]
    fn the_list_ends_somewhere() {
        let names = |count| {
            (0..count)
                .map(|n| format!("n{n}.example\n"))
                .collect::<String>()
        };
        assert_eq!(parse(&names(MOST_NAMES)).unwrap().len(), MOST_NAMES);
        assert_eq!(parse(&names(MOST_NAMES + 1)), Err(WantedError::TooMany));
        assert_eq!(
            parse(&"\n".repeat(MOST_BYTES + 1)),
            Err(WantedError::TooLong)
        );
    }
}
