//! Parts of configuration files, as text: a test's file is what stands in it.

use std::fmt::Write as _;

/// An interface, both ways.
pub fn interface(name: &str) -> String {
    format!("[[interface]]\nname = \"{name}\"\n")
}

/// An endpoint; `lines` are more keys of it, each with its line end.
pub fn endpoint(name: &str, address: &str, lines: &str) -> String {
    format!("[endpoint.{name}]\naddress = \"{address}\"\n{lines}")
}

/// A filter that mirrors to endpoints such as `"a", "b"`; `fields` say what it matches.
pub fn filter(name: &str, fields: &str, to: &str) -> String {
    format!("[[filter]]\nname = \"{name}\"\n{fields}\nto = [{to}]\n")
}

/// A filter that excludes.
pub fn exclude(name: &str, fields: &str) -> String {
    format!("[[filter]]\nname = \"{name}\"\naction = \"exclude\"\n{fields}\n")
}

/// The same file with these lines in each endpoint.
pub fn in_each_endpoint(file: &str, lines: &str) -> String {
    let mut parts = file.split("[endpoint.");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('\n').unwrap_or((part, ""));
        let _ = write!(text, "[endpoint.{name}\n{lines}\n{rest}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_in_each_endpoint() {
        let endpoints = endpoint("a", "192.0.2.1", "") + &endpoint("b", "192.0.2.2", "port = 7\n");
        let file = interface("eth0") + &endpoints + &filter("f", "protocol = [1]", "\"a\"");
        let with = in_each_endpoint(&file, "snap = 100");
        let expected = "[[interface]]\nname = \"eth0\"\n\
            [endpoint.a]\nsnap = 100\naddress = \"192.0.2.1\"\n\
            [endpoint.b]\nsnap = 100\naddress = \"192.0.2.2\"\nport = 7\n\
            [[filter]]\nname = \"f\"\nprotocol = [1]\nto = [\"a\"]\n";
        assert_eq!(with, expected);
    }
}
