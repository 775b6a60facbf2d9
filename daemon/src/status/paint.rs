//! Colours of a terminal (ECMA-48 SGR).

use crate::printable::printable;

/// What a text is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Good,
    Bad,
    /// Of no interest at the moment.
    Quiet,
}

/// A line in the colour of its tone; nothing else in it controls the terminal.
pub(super) fn paint(has_color: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Plain => return printable(text).into_owned(),
        Tone::Heading => "1",
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Quiet => "2",
    };
    let text = printable(text);
    if has_color {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.into_owned()
    }
}
