//! The server names of a filter, in a canonical form.
//!
//! A name is written from its last character to its first here: `moc.elpmaxe` is `example.com`, and
//! `moc.elpmaxe.` is `*.example.com`. So a wildcard is the beginning of all that it matches, and
//! what a wildcard matches stands behind it in ascending order.

/// The server names of a filter; `undecided` is whether flows match whose name cannot be known.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::compile) struct ServerNames {
    /// Reversed and sorted; none is matched by another.
    pub reversed: Vec<String>,
    pub undecided: bool,
}

impl ServerNames {
    /// Of names as the file has them, in lower case.
    pub(in crate::compile) fn new(names: &[String], undecided: bool) -> Self {
        let reversed = names.iter().map(|name| reversed(name)).collect();
        Self {
            reversed: canonical(reversed),
            undecided,
        }
    }

    /// Whether a name, as a client may write it, is one of them.
    pub(in crate::compile) fn has(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let asked = reversed(&name);
        self.reversed.iter().any(|one| is_included(one, &asked))
    }

    /// The names as the file has them.
    pub(in crate::compile) fn texts(&self) -> impl Iterator<Item = String> {
        self.reversed.iter().map(|name| text(name))
    }
}

pub(in crate::compile) fn reversed(name: &str) -> String {
    name.strip_prefix('*')
        .unwrap_or(name)
        .chars()
        .rev()
        .collect()
}

pub(in crate::compile) fn text(reversed: &str) -> String {
    let name: String = reversed.chars().rev().collect();
    if is_wildcard(reversed) {
        format!("*{name}")
    } else {
        name
    }
}

/// Whether what matches `other` matches `one`, too.
pub(in crate::compile) fn is_included(one: &str, other: &str) -> bool {
    one == other || is_wildcard(one) && other.starts_with(one)
}

pub(in crate::compile) fn is_wildcard(reversed: &str) -> bool {
    reversed.ends_with('.')
}

/// Sorts names, and drops those that another one matches.
fn canonical(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    let mut kept: Vec<String> = Vec::with_capacity(names.len());
    // what a wildcard matches stands right behind it, so the last one is enough
    let mut wildcard = None;
    for name in names {
        let last: Option<&String> = wildcard.map(|at: usize| &kept[at]);
        let is_matched = last.is_some_and(|wildcard| name.starts_with(wildcard.as_str()));
        if !is_matched && kept.last() != Some(&name) {
            if is_wildcard(&name) {
                wildcard = Some(kept.len());
            }
            kept.push(name);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_another_matches_is_left_out() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let texts: Vec<String> = ServerNames::new(&names, false).texts().collect();
            texts
        };
        assert_eq!(
            names(&[
                "*.b.example",
                "a.b.example",
                "*.a.b.example",
                "b.example",
                "b.example"
            ]),
            ["b.example", "*.b.example"]
        );
        assert_eq!(
            names(&["ab.example", "*.b.example"]),
            ["*.b.example", "ab.example"]
        );
        assert_eq!(names(&["*.a.example", "*.example"]), ["*.example"]);
    }
}
