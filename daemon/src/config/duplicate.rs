//! Input: a duplicate that `toml` rejects. Output: a diagnostic that shows both places.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Code, Diagnostic, Diagnostics, Quoted};

/// Each duplicate costs a search for its first place: a file with more of them shows the rest in a
/// second round.
const MAX_DUPLICATES: usize = 100;

/// Reports keys and tables that are defined twice; `places` are those of the second definitions, in
/// order.
pub(super) fn report(
    places: impl Iterator<Item = Range<usize>>,
    text: &str,
    root: &DeTable<'_>,
    diagnostics: &mut Diagnostics,
) {
    let mut reopened = 0;
    for place in places.take(MAX_DUPLICATES) {
        let line = line_at(text, place.start);
        match header(&text[line.clone()]) {
            Some(path) => {
                // one header as [name] and another as [[name]]: the type of the value is the error
                let is_mixed = matches!(path.join(".").as_str(), "interface" | "filter");
                if !is_mixed {
                    let first = earlier_table(text, &path, line.start);
                    diagnostics.report(table(place.clone(), &path, first));
                }
                reopened = place.start;
            }
            None => {
                let name = text.get(place.clone()).unwrap_or_default();
                let first = earlier_key(root, text, name, place.start);
                // a table that is defined twice is one mistake, not one for each of its keys
                if first.as_ref().is_none_or(|first| first.start >= reopened) {
                    diagnostics.report(key(place, name, first));
                }
            }
        }
    }
}

fn table(place: Range<usize>, path: &[String], first: Option<Range<usize>>) -> Diagnostic {
    let message = format!("table {} is defined twice", Quoted(&path.join(".")));
    with_first(
        Diagnostic::new(Code::DuplicateKey, place, message).help("rename or remove one of the two"),
        first,
    )
}

fn key(place: Range<usize>, name: &str, first: Option<Range<usize>>) -> Diagnostic {
    let message = format!("key {} is set twice in the same table", Quoted(name));
    with_first(
        Diagnostic::new(Code::DuplicateKey, place, message).help("keep one of the two"),
        first,
    )
}

fn with_first(diagnostic: Diagnostic, first: Option<Range<usize>>) -> Diagnostic {
    match first {
        Some(first) => diagnostic.related(first, "first here"),
        None => diagnostic,
    }
}

/// The line that holds the byte.
fn line_at(text: &str, offset: usize) -> Range<usize> {
    let (before, after) = text.split_at_checked(offset).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = after
        .find('\n')
        .map_or(text.len(), |newline| before.len() + newline);
    start..end
}

/// The keys of a table header; none if the line is no header.
fn header(line: &str) -> Option<Vec<String>> {
    if !line.trim_start().starts_with('[') {
        return None;
    }
    let (root, _) = DeTable::parse_recoverable(line);
    let mut path = Vec::new();
    let mut table = root.get_ref();
    while let Some((key, value)) = table.iter().next() {
        path.push(key.get_ref().to_string());
        table = last_table(value)?;
    }
    Some(path)
}

/// The header that defines the same table further up.
fn earlier_table(text: &str, path: &[String], before: usize) -> Option<Range<usize>> {
    let (root, _) = DeTable::parse_recoverable(text.get(..before)?);
    let mut table = root.get_ref();
    let (last, parents) = path.split_last()?;
    for key in parents {
        table = last_table(table.get(key.as_str())?)?;
    }
    table
        .get_key_value(last.as_str())
        .map(|(key, _)| key.span())
}

/// The nearest key of that text further up: between two keys of one table there is no other table.
fn earlier_key(table: &DeTable<'_>, text: &str, key: &str, before: usize) -> Option<Range<usize>> {
    let here = table.iter().map(|(key, _)| key.span());
    let here = here.filter(|span| span.end <= before && text.get(span.clone()) == Some(key));
    let below = table.iter().flat_map(|(_, value)| tables(value));
    let below = below.filter_map(|table| earlier_key(table, text, key, before));
    here.chain(below).max_by_key(|span| span.start)
}

/// The table that a header refers to where the value is an array of tables.
fn last_table<'t, 'i>(value: &'t Spanned<DeValue<'i>>) -> Option<&'t DeTable<'i>> {
    tables(value).last()
}

fn tables<'t, 'i>(value: &'t Spanned<DeValue<'i>>) -> impl Iterator<Item = &'t DeTable<'i>> {
    let (table, array) = (value.get_ref().as_table(), value.get_ref().as_array());
    let elements = array.into_iter().flat_map(|array| array.iter());
    table
        .into_iter()
        .chain(elements.filter_map(|element| element.get_ref().as_table()))
}
