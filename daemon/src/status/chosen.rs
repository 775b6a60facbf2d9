//! Input: names or glob patterns. Output: the status of the objects that they name.

use std::convert::Infallible;
use std::str::FromStr;

use glob::Pattern;

use super::Status;
use crate::diagnostic::did_you_mean;

/// Names objects: an exact name, or a glob pattern.
#[derive(Debug, Clone)]
pub struct Names {
    text: String,
    pattern: Option<Pattern>,
}

impl FromStr for Names {
    type Err = Infallible;

    /// What is no pattern is a name.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self {
            text: text.to_owned(),
            pattern: Pattern::new(text).ok(),
        })
    }
}

impl Names {
    /// Whether a name is one of them.
    pub(super) fn is(&self, name: &str) -> bool {
        let matches = |pattern: &Pattern| pattern.matches(name);
        self.text == name || self.pattern.as_ref().is_some_and(matches)
    }
}

impl Status {
    /// A sentence for people, if nothing has one of the names.
    pub fn lacks(&self, chosen: &[Names]) -> Option<String> {
        let unknown = chosen.iter().find(|one| !self.has(one))?;
        let text = &unknown.text;
        let hint =
            did_you_mean(text, self.names()).map_or_else(String::new, |hint| format!("; {hint}"));
        Some(format!(
            "no interface, filter or endpoint is called {text:?}{hint}"
        ))
    }

    /// Keeps the interfaces, filters, endpoints and outputs that one of these names. Everything
    /// stays without any.
    pub fn choose(&mut self, chosen: &[Names]) {
        if chosen.is_empty() {
            return;
        }
        let is_any = |name: &str| chosen.iter().any(|one| one.is(name));
        self.interfaces.retain(|one| {
            let mut names = one.name.iter().chain(&one.altname);
            names.any(|name| is_any(name))
        });
        self.not_mirrored.retain(|one| {
            is_any(&one.name) || is_any(&one.entry) || one.altname.as_deref().is_some_and(is_any)
        });
        self.filters.retain(|one| is_any(&one.name));
        self.endpoints.retain(|one| is_any(&one.name));
        self.outputs.retain(|one| is_any(&one.interface));
        self.dns_names.retain(|one| is_any(&one.name));
    }

    fn has(&self, one: &Names) -> bool {
        self.names().any(|name| one.is(name))
    }

    /// The names of all objects.
    fn names(&self) -> impl Iterator<Item = &str> {
        let interfaces = self
            .interfaces
            .iter()
            .flat_map(|one| one.name.iter().chain(&one.altname));
        let others = self
            .not_mirrored
            .iter()
            .flat_map(|one| [&one.name, &one.entry].into_iter().chain(&one.altname));
        let filters = self.filters.iter().map(|one| &one.name);
        let endpoints = self.endpoints.iter().map(|one| &one.name);
        let outputs = self.outputs.iter().map(|one| &one.interface);
        let dns_names = self.dns_names.iter().map(|one| &one.name);
        interfaces
            .chain(others)
            .chain(filters)
            .chain(endpoints)
            .chain(outputs)
            .chain(dns_names)
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_exact_and_a_pattern_is_a_glob() {
        let is = |text: &str, name: &str| text.parse::<Names>().unwrap().is(name);
        assert!(is("web", "web") && !is("web", "web-2") && is("web*", "web-2"));
        assert!(is("eth[01]", "eth1") && !is("eth[01]", "eth2"));
        assert!(
            is("a[1", "a[1") && !is("a[1", "a1"),
            "what is no pattern is a name"
        );
    }
}
