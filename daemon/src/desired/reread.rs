//! Input: a file again and again. Output: what it means, each time; `[[filter]]` sections that were
//! right the last time are not read again, so that one edit among 10,000 filters is read in the
//! time of one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use traffic_mirror_ebpf::abi::MAX_FILTERS;
use traffic_mirror_resolver::names::MOST_NAMES;

use super::{Action, Desired, Filter, Loaded, follow, load_bytes};
use crate::config::Config;

/// Remembers the last file that was right and had no warnings.
#[derive(Default)]
pub struct Rereader {
    hasher: RandomState,
    last: Option<Last>,
}

struct Last {
    text: String,
    /// The text without the filters.
    head: String,
    /// Where each filter stands in the text, by the hash of what stands there.
    filters: HashMap<u64, (Range<usize>, Arc<Filter>)>,
}

impl Rereader {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// As [`load_bytes`].
    pub fn load(&mut self, bytes: &[u8]) -> Loaded {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        if let Some(desired) = self.again(text) {
            return Ok((desired, Vec::new()));
        }
        if text.len() < bytes.len() {
            return load_bytes(bytes);
        }
        let config = Config::parse(text);
        let loaded = Desired::resolve(&config).map_err(|errors| follow::up(text, errors));
        if let Ok((desired, warnings)) = &loaded
            && warnings.is_empty()
        {
            self.remember(text, &names(&config), desired);
        }
        loaded
    }

    /// `None` if the whole file must be read: there is no earlier version, more than filters has
    /// changed, or the text is unusual.
    ///
    /// A section that was valid alone stays valid: no valid value holds a line that looks like a
    /// header, so a value that is not closed in one section cannot make the next one valid.
    fn again(&mut self, text: &str) -> Option<Desired> {
        let last = self.last.as_ref()?;
        let (head, sections) = split(text);
        if head != last.head || sections.len() > MAX_FILTERS {
            return None;
        }
        let mut filters = Vec::with_capacity(sections.len());
        let mut unknown = head.clone();
        let mut places = Vec::new();
        for (place, section) in sections.iter().enumerate() {
            let known = last
                .filters
                .get(&self.hasher.hash_one(&text[section.clone()]));
            let known =
                known.filter(|(there, _)| last.text[there.clone()] == text[section.clone()]);
            if known.is_none() {
                unknown += &text[section.clone()];
                places.push(place);
            }
            filters.push(known.map(|(_, filter)| filter.clone()));
        }
        let (desired, names) = in_order(&unknown)?;
        if names.len() != places.len() {
            return None;
        }
        for (place, name) in places.into_iter().zip(&names) {
            filters[place] = named(&desired.filters, name).cloned();
        }
        let in_file = filters.into_iter().collect::<Option<Vec<_>>>()?;
        let mut filters = in_file.clone();
        filters.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let desired = Desired { filters, ..desired };
        (is_unsuspicious(&desired))
            .then(|| self.keep(text, head, sections.into_iter().zip(in_file)))?;
        Some(desired)
    }

    fn remember(&mut self, text: &str, names: &[String], desired: &Desired) {
        self.last = None;
        let (head, sections) = split(text);
        let filters: Option<Vec<_>> = names
            .iter()
            .map(|name| named(&desired.filters, name).cloned())
            .collect();
        if let Some(filters) = filters.filter(|filters| filters.len() == sections.len()) {
            self.keep(text, head, sections.into_iter().zip(filters));
        }
    }

    fn keep(
        &mut self,
        text: &str,
        head: String,
        filters: impl Iterator<Item = (Range<usize>, Arc<Filter>)>,
    ) {
        let filters = filters
            .map(|(place, filter)| (self.hasher.hash_one(&text[place.clone()]), (place, filter)));
        let filters = filters.collect();
        self.last = Some(Last {
            text: text.to_owned(),
            head,
            filters,
        });
    }
}

/// The text without its `[[filter]]` sections, and where those are.
fn split(text: &str) -> (String, Vec<Range<usize>>) {
    let (mut head, mut sections) = (String::new(), Vec::new());
    let (mut begin, mut in_filter) = (0, false);
    let mut end_section = |section: Range<usize>, in_filter: bool| {
        if in_filter {
            sections.push(section)
        } else {
            head += &text[section]
        }
    };
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_start();
        if content.starts_with('[') {
            end_section(begin..at, in_filter);
            begin = at;
            in_filter = content.starts_with("[[filter]]");
        }
        at += line.len();
    }
    end_section(begin..at, in_filter);
    // so that what is put behind it begins a line
    head.push('\n');
    (head, sections)
}

/// What a text means, if it is right, and the names of its filters in the order of the text.
fn in_order(text: &str) -> Option<(Desired, Vec<String>)> {
    let config = Config::parse(text);
    let (desired, _) = Desired::resolve(&config).ok()?;
    Some((desired, names(&config)))
}

fn names(config: &Config) -> Vec<String> {
    let name = |filter: &crate::config::Filter| {
        Some(filter.name.as_ref()?.as_ref().ok()?.get_ref().clone())
    };
    config.filters.iter().filter_map(name).collect()
}

fn named<'f>(filters: &'f [Arc<Filter>], name: &str) -> Option<&'f Arc<Filter>> {
    filters
        .binary_search_by(|filter| filter.name.as_str().cmp(name))
        .ok()
        .map(|at| &filters[at])
}

/// Whether a file of these filters has no error and no warning that shows only in all of them
/// together.
fn is_unsuspicious(desired: &Desired) -> bool {
    let mut used = vec![false; desired.endpoints.len()];
    let mirrors = desired
        .filters
        .iter()
        .filter(|filter| filter.action == Action::Mirror);
    mirrors
        .flat_map(|filter| &filter.to)
        .for_each(|&endpoint| used[endpoint] = true);
    let unique = desired
        .filters
        .windows(2)
        .all(|pair| pair[0].name != pair[1].name);
    unique
        && desired.dns_names().len() <= MOST_NAMES
        && desired.published.is_known(desired)
        && !desired.interfaces.is_empty()
        && used.into_iter().all(|used| used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::load;

    const HEAD: &str =
        "# head\n[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"192.0.2.1\"\n";

    fn filter(name: &str, rest: &str) -> String {
        format!("[[filter]]\nname = \"{name}\"\nto = [\"ids\"]\n{rest}\n")
    }

    /// Reads both files, and returns whether the second was read in part only. Both ways must give
    /// the same result.
    fn reads_in_part(first: &str, second: &str) -> bool {
        let mut rereader = Rereader::default();
        assert_eq!(rereader.load(first.as_bytes()), load(first));
        let in_part = rereader.again(second);
        if let Some(desired) = &in_part {
            assert_eq!(Ok((desired.clone(), Vec::new())), load(second), "{second}");
        }
        assert_eq!(rereader.load(second.as_bytes()), load(second));
        assert_eq!(rereader.load(first.as_bytes()), load(first));
        in_part.is_some()
    }

    #[test]
    fn what_changes_in_filters_is_read_in_part() {
        let (a, b, c) = (
            filter("a", "protocol = [6]"),
            filter("b", "source_port = [1]"),
            filter("c", ""),
        );
        let first = format!("{HEAD}{a}{b}{c}");
        let changed = filter("b", "source_port = [2]");
        let by_name = filter("b", "source = [\"b.example\"]");
        for second in [
            format!("{HEAD}{a}{by_name}{c}"),
            format!("{HEAD}{a}{b}{c}"),
            format!("{HEAD}{c}{a}{b}"),
            format!("{HEAD}{a}{changed}{c}"),
            format!("{HEAD}{c}{}", filter("d", "")),
            format!("{HEAD}{a}  {b}# [[filter]] of nothing\n"),
        ] {
            assert!(reads_in_part(&first, &second), "{second}");
        }
    }

    #[test]
    fn a_name_in_metrics_that_no_filter_has_any_more_is_noticed() {
        let metrics = "[metrics]\nfilters = [\"a\", \"b*\"]\n";
        let (a, b, c) = (filter("a", ""), filter("b1", ""), filter("b2", ""));
        let first = format!("{HEAD}{metrics}{a}{b}");
        assert!(reads_in_part(&first, &format!("{HEAD}{metrics}{a}{c}")));
        assert!(!reads_in_part(&first, &format!("{HEAD}{metrics}{b}{c}")));
        assert!(!reads_in_part(&first, &format!("{HEAD}{metrics}{a}")));
        let warnings = load(&format!("{HEAD}{metrics}{a}")).unwrap().1;
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn anything_else_is_read_as_a_whole() {
        let (a, b) = (filter("a", ""), filter("b", ""));
        let first = format!("{HEAD}{a}{b}");
        for second in [
            HEAD.to_owned(),
            format!("{HEAD}{a}{a}"),
            format!("{HEAD}{a}{}", filter("a", "protocol = [6]")),
            format!("{HEAD}{a}{}", filter("c", "protocol = 6")),
            format!("{HEAD}{a}[filter.b]\nname = \"b\"\n"),
            format!("enabled = false\n{HEAD}{a}{b}"),
            format!("{HEAD}{a}[endpoint.log]\naddress = \"192.0.2.2\"\n{b}"),
            format!(
                "{HEAD}{}",
                filter("x", "source = [\"\"\"10.0.0.0/8") + &b + "\"\"\"]\n"
            ),
            format!(
                "{HEAD}{}{b}{}",
                filter("x", "interface = [\"\"\"\\"),
                filter("y", "\"\"\"]")
            ),
        ] {
            assert!(!reads_in_part(&first, &second), "{second}");
        }
        assert!(!reads_in_part(&format!("{HEAD}{a}"), "not toml"));
        assert!(!reads_in_part("not toml", &first));
    }
}
