//! Input: diagnostics and the text they are about. Output: lines for a terminal or journal, data
//! for `--json`.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::secrets::hidden;
use super::{Diagnostic, Severity};
use crate::printable::{printable, printable_lines};

/// Prints the diagnostics for people, a blank line between two, in the order given.
///
/// `text` is what the diagnostics were made from; for bytes that are not UTF-8,
/// [`String::from_utf8_lossy`] of them. `color` adds ANSI escapes.
pub fn render(diagnostics: &[Diagnostic], path: &str, text: &str, color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let text = hidden(&without_c1(text));
    let (lines, path) = (Lines::new(&text), printable(path));
    let mut out = String::new();
    for diagnostic in diagnostics {
        if !out.is_empty() {
            out.push('\n');
        }
        let rendered = renderer.render(&[group(diagnostic, &path, &lines)]);
        for line in rendered.lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

/// The text with a dot for each C1 control character, which some terminals obey and the renderer
/// leaves as it is. The dot has as many bytes.
fn without_c1(text: &str) -> Cow<'_, str> {
    let is_c1 = |c: char| matches!(c, '\u{80}'..='\u{9f}');
    if text.contains(is_c1) {
        text.replace(is_c1, "\u{b7}").into()
    } else {
        text.into()
    }
}

fn group<'a>(diagnostic: &'a Diagnostic, path: &'a str, lines: &Lines<'a>) -> Group<'a> {
    let level = match diagnostic.code.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let spans = diagnostic.related.iter().map(|related| &related.span);
    let excerpt = lines.excerpt(std::iter::once(&diagnostic.span).chain(spans));
    let beside = diagnostic.help.as_deref().filter(|help| fits_beside(help));
    let below = diagnostic.help.as_deref().filter(|help| !fits_beside(help));

    let snippet = Snippet::source(excerpt.text)
        .line_start(excerpt.line)
        .path(path)
        .annotation(
            AnnotationKind::Primary
                .span(excerpt.relative(&diagnostic.span))
                .label(beside.map(printable)),
        )
        .annotations(diagnostic.related.iter().map(|related| {
            AnnotationKind::Context
                .span(excerpt.relative(&related.span))
                .label(printable(&related.message))
        }));
    let mut group = level
        .primary_title(printable(&diagnostic.message))
        .id(diagnostic.code.as_str())
        .element(snippet);
    if let Some(help) = below {
        group = group.element(Level::HELP.message(said(help)));
    }
    if let Some(note) = &diagnostic.note {
        group = group.element(Level::NOTE.message(said(note)));
    }
    group
}

/// Lines that may have a text of the file in them.
fn said(text: &str) -> String {
    printable_lines(text).replace('\t', " ")
}

/// Whether a help stands beside the underlined text; a longer one gets a line of its own.
fn fits_beside(help: &str) -> bool {
    const MAX_CHARS: usize = 60;
    help.chars().count() <= MAX_CHARS
}

/// A diagnostic as data, for `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Located<'a> {
    /// `error` or `warning`.
    pub severity: &'static str,
    /// The stable name of the problem.
    pub code: &'static str,
    /// Line of the offending place, from 1.
    pub line: usize,
    /// Column of the offending place in characters, from 1.
    pub column: usize,
    /// Line of the first character behind the place.
    pub end_line: usize,
    /// Column of the first character behind the place.
    pub end_column: usize,
    /// Object, value and cause.
    pub message: &'a str,
    /// What to do about it.
    pub help: Option<&'a str>,
    /// The same as an edit, if it is one.
    pub fix: Option<Edit<'a>>,
    /// Background.
    pub note: Option<&'a str>,
    /// Other places that take part.
    pub related: Vec<Note<'a>>,
}

/// What to replace, and by what: the help of a [`Located`] diagnostic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edit<'a> {
    /// Where to begin, as in [`Located`].
    pub line: usize,
    /// Its column.
    pub column: usize,
    /// The line of the first character to keep.
    pub end_line: usize,
    /// Its column.
    pub end_column: usize,
    /// What to write there.
    pub text: &'a str,
}

/// A second place of a [`Located`] diagnostic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note<'a> {
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What is there.
    pub message: &'a str,
}

/// The diagnostics as data; `text` as for [`render`].
pub fn locate<'a>(diagnostics: &'a [Diagnostic], text: &str) -> Vec<Located<'a>> {
    let lines = Lines::new(text);
    diagnostics
        .iter()
        .map(|diagnostic| {
            let (line, column) = lines.position(diagnostic.span.start);
            let (end_line, end_column) = lines.position(diagnostic.span.end);
            let fix = diagnostic.fix.as_ref().map(|fix| {
                let (line, column) = lines.position(fix.span.start);
                let (end_line, end_column) = lines.position(fix.span.end);
                Edit {
                    line,
                    column,
                    end_line,
                    end_column,
                    text: &fix.text,
                }
            });
            let related = diagnostic.related.iter().map(|related| {
                let (line, column) = lines.position(related.span.start);
                Note {
                    line,
                    column,
                    message: &related.message,
                }
            });
            Located {
                severity: diagnostic.code.severity().as_str(),
                code: diagnostic.code.as_str(),
                line,
                column,
                end_line,
                end_column,
                message: &diagnostic.message,
                help: diagnostic.help.as_deref(),
                fix,
                note: diagnostic.note.as_deref(),
                related: related.collect(),
            }
        })
        .collect()
}

/// Offsets of the lines of a text: a diagnostic is located by a look-up, not by a walk from the
/// top.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

/// Whole lines of the text.
struct Excerpt<'a> {
    text: &'a str,
    start: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        // a byte order mark is no character of the first line
        let first = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        let others = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(first).chain(others.map(|(index, _)| index + 1));
        Self {
            text,
            starts: starts.collect(),
        }
    }

    /// Index of the line that holds the byte.
    fn line_of(&self, offset: usize) -> usize {
        self.starts
            .partition_point(|start| *start <= offset)
            .saturating_sub(1)
    }

    /// Line and column in characters, both from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.line_of(offset);
        let before = self.text.get(self.starts[line]..offset).unwrap_or_default();
        let before = before.strip_suffix('\r').unwrap_or(before);
        (line + 1, before.chars().count() + 1)
    }

    /// The lines from the first to the last of the spans.
    fn excerpt<'s>(&self, spans: impl Iterator<Item = &'s Range<usize>>) -> Excerpt<'a> {
        let (start, end) = spans.fold((usize::MAX, 0), |(start, end), span| {
            (
                start.min(span.start),
                end.max(span.end.saturating_sub(1)).max(span.start),
            )
        });
        let (first, last) = (self.line_of(start.min(self.text.len())), self.line_of(end));
        let start = self.starts[first];
        let end = match self.starts.get(last + 1) {
            Some(next) => next - 1,
            None => self.text.len(),
        };
        let text = self.text.get(start..end).unwrap_or_default();
        Excerpt {
            text: text.strip_suffix('\r').unwrap_or(text),
            start,
            line: first + 1,
        }
    }
}

impl Excerpt<'_> {
    /// The requested span, limited to the excerpt.
    fn relative(&self, span: &Range<usize>) -> Range<usize> {
        let bound = |offset: usize| offset.saturating_sub(self.start).min(self.text.len());
        let start = self.text.floor_char_boundary(bound(span.start));
        let end = self.text.ceil_char_boundary(bound(span.end));
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Code, Remedy};

    fn at(span: Range<usize>) -> Diagnostic {
        Diagnostic::new(Code::Syntax, span, "message")
    }

    #[test]
    fn positions_count_characters_from_one() {
        let text = "\u{feff}äb\nc\r\nd";
        let lines = Lines::new(text);
        let of = |needle| lines.position(text.find(needle).unwrap());
        assert_eq!(of("ä"), (1, 1));
        assert_eq!(of("b"), (1, 2));
        assert_eq!(of("c"), (2, 1));
        assert_eq!(of("d"), (3, 1));
        assert_eq!(lines.position(text.len()), (3, 2));
    }

    #[test]
    fn text_and_data_name_the_same_place() {
        let text = "\u{feff}one\n\täö = two\r\nthree";
        for (offset, _) in text.char_indices().skip(1) {
            let diagnostic = at(offset..offset + 1);
            let located = locate(std::slice::from_ref(&diagnostic), text);
            let place = format!("--> f:{}:{}\n", located[0].line, located[0].column);
            let rendered = render(&[diagnostic], "f", text, false);
            assert!(
                rendered.contains(&place),
                "{offset}: no {place:?} in {rendered}"
            );
        }
    }

    #[test]
    fn any_span_renders() {
        for text in ["", "\u{feff}", "\n", "ä", "a\nb\n", "a\r\nb"] {
            for start in 0..8 {
                for end in 0..8 {
                    let diagnostic = at(start..end).related(end..start, "there");
                    assert!(render(&[diagnostic], "f", text, true).contains("syntax"));
                }
            }
        }
    }

    #[test]
    fn color_only_when_asked() {
        let diagnostic = [at(0..1)];
        assert!(!render(&diagnostic, "f", "text", false).contains('\u{1b}'));
        assert!(render(&diagnostic, "f", "text", true).contains('\u{1b}'));
    }

    #[test]
    fn no_control_character_gets_to_the_terminal() {
        for code in (0..0x20).chain(0x7f..0xa0).filter(|code| *code != 0x0a) {
            let text = format!("a = \"{}\"", char::from_u32(code).unwrap());
            let name = format!("f{}", char::from_u32(code).unwrap());
            // a text of the file may stand in all that is said
            let long = format!("{name} {}", "x".repeat(200));
            let said = [
                at(5..6).help(name.clone()).related(0..1, &name).note(&name),
                Diagnostic::new(Code::Syntax, 5..6, &name).help(long),
            ];
            let rendered = render(&said, &name, &text, false);
            assert!(
                rendered.chars().all(|c| c == '\n' || !c.is_control()),
                "{rendered:?}"
            );
        }
    }

    #[test]
    fn data_is_json() {
        let diagnostic = [at(5..6).help(Remedy::write("h")).related(0..1, "first")];
        let json = serde_json::to_string(&locate(&diagnostic, "one\ntwo")).unwrap();
        assert_eq!(
            json,
            r#"[{"severity":"error","code":"syntax","line":2,"column":2,"end_line":2,"end_column":3,"message":"message","help":"write h","fix":{"line":2,"column":2,"end_line":2,"end_column":3,"text":"h"},"note":null,"related":[{"line":1,"column":1,"message":"first"}]}]"#
        );
    }
}
