//! `[endpoint.a.b]`: a name with a dot that has no quotes.

use std::ops::Range;

use toml::de::DeTable;

use super::fields::entries;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Quoted, Reported, quoted};

/// Reports each table with a header of its own below the table of an endpoint, since a dot
/// separates names. `path` is the name of the table; none if there is no such table.
pub(super) fn report(
    path: &[&str],
    table: &DeTable<'_>,
    text: &str,
    diagnostics: &mut Diagnostics,
) -> Option<Reported> {
    let mut reported = None;
    for (key, value) in entries(table) {
        let is_inline = || text.get(value.span()).is_some_and(|it| it.starts_with('{'));
        let Some(below) = value.get_ref().as_table().filter(|_| !is_inline()) else {
            continue;
        };
        let path = [path, &[key.get_ref()]].concat();
        let deeper = report(&path, below, text, diagnostics);
        reported = deeper.or_else(|| Some(diagnostics.report(found(&path, key.span(), text))));
    }
    reported
}

fn found(path: &[&str], key: Range<usize>, text: &str) -> Diagnostic {
    let name = path.join(".");
    let (parent, last) = (path[..path.len() - 1].join("."), path[path.len() - 1]);
    let message = format!(
        "endpoint {} has a table {}, since a dot separates names",
        Quoted(&parent),
        Quoted(last)
    );
    let help = format!("write [endpoint.{}]", quoted(&name));
    // the whole name, if the header has it in the usual form
    let before = text.get(..key.end).unwrap_or_default();
    match before.strip_suffix(&*name) {
        Some(start) if start.ends_with("endpoint.") => {
            let span = start.len()..key.end;
            Diagnostic::new(Code::UnknownTable, span.clone(), message)
                .help(help)
                .fix(span, quoted(&name))
        }
        _ => Diagnostic::new(Code::UnknownTable, key, message).help(help),
    }
}
