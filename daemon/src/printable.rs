//! Names of files, interfaces and programs come from others, and a terminal obeys what it is told.

use std::borrow::Cow;

/// One line of text with an escape such as `\u{1b}` in place of each control character.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let shown = text.chars().map(|c| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    shown.collect::<String>().into()
}

/// The same of several lines, which may have tabs.
pub fn printable_lines(text: &str) -> String {
    let part = |part: &str| printable(part).into_owned();
    let lines = text.split('\n').map(|line| {
        let parts: Vec<String> = line.split('\t').map(part).collect();
        parts.join("\t")
    });
    lines.collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_controls_the_terminal() {
        let hostile = "a\x1b[2Jb\u{9b}c\nd\te\r\u{7f}é";
        assert_eq!(printable(hostile), r"a\u{1b}[2Jb\u{9b}c\nd\te\r\u{7f}é");
        assert_eq!(
            printable_lines(hostile),
            "a\\u{1b}[2Jb\\u{9b}c\nd\te\\r\\u{7f}é"
        );
        assert_eq!(printable("plain"), "plain");
    }
}
