//! Input: the text of the file. Output: the TOML tree, or what keeps it from being TOML.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::duplicate;
use crate::diagnostic::{
    Checked, Code, Diagnostic, Diagnostics, Quoted, Remedy, is_secret, quoted,
};

/// The message of `toml` about a key or table that exists already.
const DUPLICATE: &str = "duplicate key";

/// Parses the text. Duplicates leave a tree in which further errors can be found, other errors do
/// not. Each value without its quotes is reported. Of the structural errors only the first one is
/// reported, since the others may follow from it.
pub(super) fn parse<'i>(text: &'i str, diagnostics: &mut Diagnostics) -> Checked<DeTable<'i>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let start = |error: &Error| error.span().map_or(text.len(), |span| span.start);
    let is_duplicate = |error: &&Error| error.message() == DUPLICATE;
    let is_structural = |error: &&Error| !is_duplicate(error) && !is_value(error);

    let structural = errors
        .iter()
        .filter(is_structural)
        .min_by_key(|error| start(error));
    let end = structural.map_or(usize::MAX, start);
    let before = || errors.iter().filter(|error| start(error) < end);

    let duplicates = before().filter(is_duplicate).filter_map(Error::span);
    duplicate::report(duplicates, text, root.get_ref(), diagnostics);
    let mut broken = None;
    for error in before().filter(|error| is_value(error)) {
        broken = Some(diagnostics.report(value(error, text)));
    }
    if let Some(error) = structural {
        broken = Some(diagnostics.report(structure(error, text)));
    }
    broken.map_or(Ok(root.into_inner()), Err)
}

fn span(error: &Error, text: &str) -> Range<usize> {
    error.span().unwrap_or(text.len()..text.len())
}

fn syntax(span: Range<usize>, message: &str) -> Diagnostic {
    Diagnostic::new(
        Code::Syntax,
        span,
        format!("the file is not valid TOML: {message}"),
    )
}

/// Whether the error is about one scalar that is written without quotes, by the message of
/// `toml_parser`.
fn is_value(error: &Error) -> bool {
    const BEGINNINGS: [&str; 8] = [
        "string values must be quoted",
        "unexpected leading zero",
        "invalid boolean",
        "invalid date",
        "invalid float",
        "invalid integer",
        "invalid number",
        "invalid time",
    ];
    BEGINNINGS
        .iter()
        .any(|beginning| error.message().starts_with(beginning))
}

fn value(error: &Error, text: &str) -> Diagnostic {
    /// A longer word is not repeated.
    const MAX_BYTES: usize = 64;
    const CURLY: [char; 4] = ['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];
    let span = word(span(error, text), text);
    let word = text.get(span.clone()).unwrap_or_default();
    let digits = word.trim_start_matches('0');
    if word.is_empty() {
        syntax(span, "a value is missing").help("write a value after the =")
    } else if word.len() > MAX_BYTES || is_secret(text, span.start) {
        syntax(span, "a value has no quotes").help("write it in quotes")
    } else if word.starts_with(CURLY) {
        let bare = word.trim_matches(CURLY);
        syntax(span, &format!("{word} has curly quotes")).help(Remedy::write(quoted(bare)))
    } else if word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false") {
        let lower = word.to_ascii_lowercase();
        syntax(span, &format!("{word} is not lower case")).help(Remedy::write(lower))
    } else if word.starts_with('0') && digits.parse::<u64>().is_ok() {
        syntax(span, &format!("number {word} begins with 0")).help(Remedy::write(digits))
    } else {
        let message = format!("{} has no quotes", Quoted(word));
        syntax(span, &message).help(Remedy::write(quoted(word)))
    }
}

/// The whole word, of which an error may cover a part.
fn word(span: Range<usize>, text: &str) -> Range<usize> {
    let ends = |c: char| {
        c.is_whitespace() || matches!(c, '=' | ',' | '[' | ']' | '{' | '}' | '#' | '"' | '\'')
    };
    let (Some(before), Some(after)) = (text.get(..span.start), text.get(span.end..)) else {
        return span;
    };
    let start = before.rfind(ends).map_or(0, |at| {
        at + before[at..].chars().next().map_or(0, char::len_utf8)
    });
    let end = after.find(ends).map_or(text.len(), |at| span.end + at);
    start..end
}

fn structure(error: &Error, text: &str) -> Diagnostic {
    const DEFAULT: &str = "look for a missing quote, bracket or =, here or in the line above";
    const BACKSLASH: &str = "write \\\\ for a backslash, or put the string in single quotes";
    const HELPS: [(&str, &str); 16] = [
        (
            "unclosed array table",
            "write two closing brackets, as in [[filter]]",
        ),
        ("unclosed table", "close the name of the table with ]"),
        ("unclosed array", "close the list with ]"),
        ("unclosed inline table", "close the table with }"),
        (
            "missing comma between array",
            "write a comma here, or close the list with ]",
        ),
        (
            "missing comma between key",
            "write a comma here, or close the table with }",
        ),
        ("key with no value", "write = and a value after the key"),
        ("missing value", "write a value after the ="),
        ("extra `=`", "write a single ="),
        (
            "unexpected key or value",
            "one value ends here; put several in [ and ]",
        ),
        (
            "invalid basic string",
            "close the string with \" on the same line",
        ),
        (
            "invalid literal string",
            "close the string with ' on the same line",
        ),
        (
            "invalid unquoted key",
            "write the key with letters, digits and _, then =",
        ),
        ("missing escaped value", BACKSLASH),
        ("too few unicode value digits", BACKSLASH),
        ("cannot extend", "rename one of the two"),
    ];
    let message = error.message();
    let help = HELPS
        .iter()
        .find(|(beginning, _)| message.starts_with(beginning));
    let span = match message.starts_with("missing comma") {
        true => end_of_previous_line(span(error, text), text),
        false => span(error, text),
    };
    let Some((_, help)) = help else {
        return syntax(span, message).help(DEFAULT);
    };
    let colon = text
        .get(span.clone())
        .is_some_and(|found| found.starts_with(':'));
    let (problem, _) = message.split_once(", expected").unwrap_or((message, ""));
    syntax(span, problem).help(if colon { "write = in place of :" } else { help })
}

/// Where something is missing before the first word of a line, it is missing at the end of the line
/// above.
fn end_of_previous_line(span: Range<usize>, text: &str) -> Range<usize> {
    let before = text.get(..span.start).unwrap_or_default();
    let above = before.trim_end();
    match before[above.len()..].contains('\n') {
        true => above.len()..above.len(),
        false => span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helps(text: &str) -> Vec<String> {
        let mut diagnostics = Diagnostics::default();
        let parsed = parse(text, &mut diagnostics);
        assert!(parsed.is_err(), "{text}");
        diagnostics
            .into_sorted()
            .into_iter()
            .filter_map(|diagnostic| diagnostic.help)
            .collect()
    }

    #[test]
    fn a_value_without_quotes_is_shown_with_quotes() {
        for bare in [
            "192.0.2.10",
            "10.0.0.0/8",
            "2001:db8::1",
            "fe80::1",
            "::1",
            "eth0",
            "eth*",
            "tcp",
            "500Mbit",
            "8000-8100",
        ] {
            assert_eq!(
                helps(&format!("k = {bare}\n")),
                [format!("write \"{bare}\"")]
            );
            assert_eq!(
                helps(&format!("k = [{bare}, 1]")),
                [format!("write \"{bare}\"")]
            );
        }
        assert_eq!(helps("k = [tcp, udp]"), ["write \"tcp\"", "write \"udp\""]);
        assert_eq!(helps("k = \u{201c}tcp\u{201d}"), ["write \"tcp\""]);
        assert_eq!(helps("k = True"), ["write true"]);
        assert_eq!(helps("k = 06080"), ["write 6080"]);
        assert_eq!(helps("k =\n"), ["write a value after the ="]);
    }

    #[test]
    fn only_the_first_structural_error_counts() {
        assert_eq!(helps("a = eth0\nk = [1\nz = eth1\n").len(), 2);
    }
}
