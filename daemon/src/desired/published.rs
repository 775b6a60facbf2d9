//! `[metrics]`: which filters have metrics of their own.

use glob::Pattern;
use toml::Spanned;
use traffic_mirror_ebpf::abi::MAX_PATTERNS;

use super::field::{bad_choice, optional};
use super::problem::{Problem, value};
use super::{Desired, name};
use crate::config::{Config, Selection};
use crate::diagnostic::{
    Checked, Code, Diagnostic, Diagnostics, Quoted, Remedy, did_you_mean, quoted,
};

/// `filters` of `[metrics]` in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Published {
    /// Each filter has metrics of its own.
    #[default]
    All,
    /// No filter has.
    None,
    /// Those have whose name is one of these, or fits one of these globs: sorted, no duplicates, at
    /// most [`MAX_PATTERNS`].
    Matching(Vec<Pattern>),
}

impl Published {
    /// Whether a filter has metrics of its own.
    pub fn has(&self, filter: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Matching(patterns) => patterns.iter().any(|pattern| pattern.matches(filter)),
        }
    }

    /// As the file has it.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::All => vec!["all".to_owned()],
            Self::None => vec!["none".to_owned()],
            Self::Matching(patterns) => patterns.iter().map(ToString::to_string).collect(),
        }
    }

    /// Names and globs that no filter fits.
    fn unknown<'a>(&'a self, desired: &'a Desired) -> impl Iterator<Item = &'a str> {
        let patterns = match self {
            Self::All | Self::None => &[][..],
            Self::Matching(patterns) => patterns,
        };
        let is_known = |pattern: &Pattern| {
            (desired.filters.iter()).any(|filter| pattern.matches(&filter.name))
        };
        patterns
            .iter()
            .filter(move |pattern| !is_known(pattern))
            .map(Pattern::as_str)
    }

    /// Whether each name and glob fits a filter.
    pub(super) fn is_known(&self, desired: &Desired) -> bool {
        self.unknown(desired).next().is_none()
    }
}

const TABLE: &str = "[metrics]";
const KEY: &str = "filters";

pub(super) fn resolve(config: &Config, diagnostics: &mut Diagnostics) -> Checked<Published> {
    let metrics = config.metrics.as_ref().map_err(|reported| *reported)?;
    let Some(given) = optional(&metrics.filters)? else {
        return Ok(Published::default());
    };
    match given.get_ref() {
        Selection::Word(text) => {
            let word = Spanned::new(given.span(), text.clone());
            value(diagnostics, TABLE, KEY, &word, |text| choice(text))
        }
        Selection::List(list) => {
            let patterns = patterns(list, given, diagnostics)?;
            Ok(Published::Matching(patterns))
        }
    }
}

fn choice(text: &str) -> Result<Published, Problem> {
    match text {
        "all" => Ok(Published::All),
        "none" => Ok(Published::None),
        _ => {
            let cause = "which is neither \"all\" nor \"none\" nor a list";
            let mut problem = bad_choice(Code::BadMetrics, cause, text, &["all", "none"]);
            if did_you_mean(text, ["all", "none"]).is_none() {
                problem.help = Remedy::write(format!("[{}]", quoted(text)));
            }
            Err(problem)
        }
    }
}

fn patterns(
    list: &[Checked<Spanned<String>>],
    given: &Spanned<Selection>,
    diagnostics: &mut Diagnostics,
) -> Checked<Vec<Pattern>> {
    let mut reject = |code, message: String, help| {
        Err(diagnostics.report(Diagnostic::new(code, given.span(), message).help(help)))
    };
    if list.is_empty() {
        let message = format!("{TABLE} has an empty list as {KEY}, which matches nothing");
        return reject(Code::EmptyList, message, Remedy::write_string("none"));
    }
    if list.len() > MAX_PATTERNS {
        let count = list.len();
        let message = format!(
            "{TABLE} has {count} names and globs as {KEY}, but the limit is {MAX_PATTERNS}"
        );
        return reject(
            Code::LimitExceeded,
            message,
            "write globs in place of names".into(),
        );
    }
    let read: Vec<Checked<Pattern>> = list
        .iter()
        .map(|element| {
            let element = element.as_ref().map_err(|reported| *reported)?;
            value(diagnostics, TABLE, KEY, element, |text| {
                name::filter_pattern(text)
            })
        })
        .collect();
    Ok(name::normalized(read.into_iter().collect::<Checked<_>>()?))
}

/// Warns of names and globs that no filter fits.
pub(super) fn warn(config: &Config, desired: &Desired, warnings: &mut Diagnostics) {
    let given = config.metrics.as_ref().ok();
    let given = given.and_then(|metrics| metrics.filters.as_ref()?.as_ref().ok());
    let Some(Selection::List(list)) = given.map(Spanned::get_ref) else {
        return;
    };
    let places = |text: &str| {
        let mut places = list.iter().filter_map(|element| element.as_ref().ok());
        places.find(|element| element.get_ref() == text)
    };
    for element in desired.published.unknown(desired).filter_map(places) {
        let text = element.get_ref();
        let message = format!("{TABLE} has {KEY} {}, which no filter fits", Quoted(text));
        let names = desired.filters.iter().map(|filter| filter.name.as_str());
        let guess = did_you_mean(text, names).filter(|_| !name::is_glob(text));
        let help = guess.unwrap_or_else(|| "write the name of a filter, or remove it".to_owned());
        warnings.report(Diagnostic::new(Code::UnknownFilter, element.span(), message).help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::load;

    fn published(metrics: &str) -> Published {
        let file = format!(
            "{metrics}\n[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"192.0.2.1\"\n\
             [[filter]]\nname = \"web-1\"\nto = [\"ids\"]\n"
        );
        let (desired, warnings) = load(&file).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(warnings, []);
        desired.published
    }

    #[test]
    fn filters_are_published_by_choice_by_name_and_by_glob() {
        for (metrics, has) in [
            ("", true),
            ("[metrics]", true),
            ("metrics.filters = \"all\"", true),
            ("[metrics]\nfilters = \"none\"", false),
            ("[metrics]\nfilters = [\"web-1\"]", true),
            ("[metrics]\nfilters = [\"web-[0-3]\", \"w*\"]", true),
        ] {
            assert_eq!(published(metrics).has("web-1"), has, "{metrics}");
        }
        let some = published("[metrics]\nfilters = [\"web-?\"]");
        assert!(some.has("web-2") && !some.has("web-10") && !some.has("dns"));
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let list = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("\"*{n}-x*\"")).collect();
            format!("[metrics]\nfilters = [{}]", names.join(", "))
        };
        let (desired, _) = load(&list(MAX_PATTERNS)).unwrap();
        assert!(matches!(desired.published, Published::Matching(all) if all.len() == MAX_PATTERNS));
        let errors = load(&list(MAX_PATTERNS + 1)).unwrap_err();
        assert_eq!(errors[0].code, Code::LimitExceeded);
    }
}
