//! Input: the text of a file. Output: the same, as long, without the secrets in it, so that an
//! error near one does not show it, and a report can have the file.

use super::closest;

/// Keys whose values are secrets.
const SECRETS: [&str; 1] = ["seed"];
/// What begins and ends a string of several lines.
const LONG: [&str; 2] = ["\"\"\"", "'''"];

/// The text with a star for each byte of a secret. The values of similar keys are hidden, too,
/// since the key may be misspelt, and those in comments.
pub fn hidden(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let (shown, secret) = match open {
            Some(_) => line.split_at(0),
            None => line.split_at(value(line).unwrap_or(line.len())),
        };
        out.push_str(shown);
        secret.chars().for_each(|c| match c.is_whitespace() {
            true => out.push(c),
            false => out.extend(std::iter::repeat_n('*', c.len_utf8())),
        });
        open = match open {
            Some(end) => (!secret.contains(end)).then_some(end),
            None => LONG
                .into_iter()
                .find(|long| secret.matches(long).count() == 1),
        };
    }
    out
}

/// Whether a place of the text is in a line that gives a secret.
pub(crate) fn is_secret(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    value(line).is_some_and(|value| start + value <= at)
}

/// Where the value begins in a line that gives a secret, at whatever place: in a table of another
/// name, in an inline table, in a comment behind another value.
fn value(line: &str) -> Option<usize> {
    let mut ends = line.match_indices('=').map(|(at, _)| at);
    ends.find(|&at| is_key(&line[..at])).map(|at| at + 1)
}

/// Whether the last word of what stands before a `=` is the key of a secret.
fn is_key(before: &str) -> bool {
    let is_between =
        |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '#' | '.' | ',' | '{' | '"' | '\'');
    let mut words = before.rsplit(is_between);
    let word = words.find(|word| !word.is_empty()).unwrap_or_default();
    // a quoted key may be written in escapes
    SECRETS.contains(&word) || word.contains('\\') || closest(word, SECRETS).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_stars_of_the_same_length() {
        for (text, shown) in [
            (
                "seed = \"abc\"\nname = \"x\"\n",
                "seed = *****\nname = \"x\"\n",
            ),
            ("a = 1\n\"seed\"='é' # x\n", "a = 1\n\"seed\"=**** * *\n"),
            ("sed = \"abc\"", "sed = *****"),
            ("# seed = \"abc\"", "# seed = *****"),
            (
                "seed = \"\"\"\nabc\ndef\"\"\"\nx = 1",
                "seed = ***\n***\n******\nx = 1",
            ),
            ("endpoint.seed = \"abc\"", "endpoint.seed = *****"),
            (
                "limit = { rate = 1, seed = \"abc\" }",
                "limit = { rate = 1, seed = ***** *",
            ),
            ("a = 1 # seed=abc", "a = 1 # seed=***"),
            ("\"s\\u0065ed\" = \"abc\"", "\"s\\u0065ed\" = *****"),
            ("seed", "seed"),
            ("to = [\"seed\"]", "to = [\"seed\"]"),
        ] {
            assert_eq!(hidden(text), shown);
            assert_eq!(hidden(text).len(), text.len());
        }
    }
}
