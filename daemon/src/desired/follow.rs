//! Input: errors of a file, some with an edit as remedy. Output: the same with remedies that are
//! right at once: an edit that leads to a second error has the remedy of that error, too. `limit =
//! 500M` needs quotes first, and then another unit.

use std::ops::Range;

use super::Desired;
use crate::config::Config;
use crate::diagnostic::{Diagnostic, Fix, Remedy};

/// Errors that follow each other in one place.
const MOST_ROUNDS: usize = 4;
/// A longer file is not read again for each round.
const MOST_BYTES: usize = 1 << 20;
/// Edits that are followed up; nobody reads the others before the file has changed.
const MOST_EDITS: usize = 200;

/// Follows the edits up.
pub(super) fn up(text: &str, mut errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if text.len() > MOST_BYTES {
        return errors;
    }
    for _ in 0..MOST_ROUNDS {
        let edits = edits(&errors);
        if edits.is_empty() {
            break;
        }
        let (edited, places) = applied(text, &errors, &edits);
        let Err(next) = Desired::resolve(&Config::parse(&edited)) else {
            break;
        };
        let mut is_settled = true;
        for (nth, index) in edits.into_iter().enumerate() {
            let place = &places[nth];
            if let Some(second) = next.iter().find(|next| is_about(next, place)) {
                merge(&mut errors[index], second, &edited, place, &places);
                is_settled = false;
            }
        }
        if is_settled {
            break;
        }
    }
    errors
}

/// The edits that can be applied together, by place.
fn edits(errors: &[Diagnostic]) -> Vec<usize> {
    let start = |index: &usize| errors[*index].fix.as_ref().map(|fix| fix.span.start);
    let mut order: Vec<usize> = (0..errors.len())
        .filter(|index| errors[*index].fix.is_some())
        .collect();
    order.sort_by_key(start);
    let mut end = 0;
    order.retain(|index| {
        let span = errors[*index].fix.as_ref().map(|fix| fix.span.clone());
        let is_free = span.as_ref().is_some_and(|span| span.start >= end);
        if let (true, Some(span)) = (is_free, span) {
            end = span.end.max(span.start + 1);
        }
        is_free
    });
    order.truncate(MOST_EDITS);
    order
}

/// The edited text, and where each edit is in it.
fn applied(text: &str, errors: &[Diagnostic], edits: &[usize]) -> (String, Vec<Range<usize>>) {
    let (mut edited, mut places, mut end) = (String::with_capacity(text.len()), Vec::new(), 0);
    for fix in edits.iter().filter_map(|index| errors[*index].fix.as_ref()) {
        edited += text.get(end..fix.span.start).unwrap_or_default();
        let start = edited.len();
        edited += &fix.text;
        places.push(start..edited.len());
        end = fix.span.end;
    }
    edited += text.get(end..).unwrap_or_default();
    (edited, places)
}

fn touches(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end.max(one.start + 1)
}

/// Whether an error, or its remedy, is about what was written there, and not about a table that
/// contains it.
fn is_about(error: &Diagnostic, place: &Range<usize>) -> bool {
    let is_inside = place.start <= error.span.start && error.span.end <= place.end;
    let fix = error.fix.as_ref();
    error.help.is_some() && (is_inside || fix.is_some_and(|fix| touches(&fix.span, place)))
}

/// Puts the remedy of the second error, which an edit has led to, in the place of that of the
/// first. `place` is the edit's in the edited text.
fn merge(
    first: &mut Diagnostic,
    second: &Diagnostic,
    edited: &str,
    place: &Range<usize>,
    others: &[Range<usize>],
) {
    let combined = first.fix.as_ref().and_then(|fix| {
        let next = second.fix.as_ref()?;
        let (start, end) = (
            place.start.min(next.span.start),
            place.end.max(next.span.end),
        );
        let is_alone = others
            .iter()
            .all(|other| other == place || !touches(&(start..end), other));
        let before = edited.get(start..next.span.start)?;
        let text = [before, &next.text, edited.get(next.span.end..end)?].concat();
        // the same, in the text as it was
        let span = fix.span.start - (place.start - start)..fix.span.end + (end - place.end);
        is_alone.then_some(Fix { span, text })
    });
    first.help = match &combined {
        Some(fix) => Some(Remedy::write(&*fix.text).to_string()),
        None => second.help.clone(),
    };
    first.fix = combined;
    first.note = second.note.clone().or(first.note.take());
}

#[cfg(test)]
mod tests {
    use crate::desired::load;

    const REST: &str = "[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"192.0.2.1\"\n";

    fn helps(line: &str) -> Vec<String> {
        let errors = load(&format!("{REST}{line}\n")).unwrap_err();
        errors.into_iter().filter_map(|error| error.help).collect()
    }

    #[test]
    fn a_remedy_needs_no_second_one() {
        assert_eq!(helps("limit = 500M"), ["write \"500Mbit\""]);
        assert_eq!(helps("sample = 0.1"), ["write \"1/10\""]);
        assert_eq!(helps("checksum = yes"), ["write true"]);
        assert_eq!(helps("checksm = yes"), ["write checksum = true"]);
        // what else is wrong with the table around it is another error
        let inline = load("endpoint = { a = { port = yes } }").unwrap_err();
        let help = inline[0].help.as_deref();
        assert_eq!(help, Some("write one whole number, without quotes"));
        let filter = "[[filter]]\nname = \"a\"\nto = [\"ids\"]\n";
        for (line, wanted) in [
            ("protocol = tcp", "write [\"tcp\"]"),
            ("protocol = TCP", "write [\"tcp\"]"),
            ("dport = https", "write destination_port = [443]"),
            ("dport = \"https\"", "write destination_port = [443]"),
            ("source = any", "leave the line out to match any"),
        ] {
            let found = helps(&format!("{filter}{line}"));
            assert!(found.contains(&wanted.to_owned()), "{line}: {found:?}");
        }
        assert_eq!(helps("limit = 500M\nmtu = \"1500\"\nsample = 5%").len(), 2);
    }
}
