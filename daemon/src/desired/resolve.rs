//! The whole file: its parts in their order, its limits, its warnings.

use std::collections::BTreeSet;
use std::ops::Range;

use traffic_mirror_ebpf::abi::{MAX_ENDPOINTS, MAX_FILTERS, MAX_INTERFACES};
use traffic_mirror_resolver::names::MOST_NAMES;

use super::field::{bad_choice, flag, optional};
use super::problem::value;
use super::{
    Action, Budget, Desired, Loaded, Unparsed, endpoint, filter, interface, mirrors, policy,
    published,
};
use crate::config::Config;
use crate::diagnostic::{Checked, Code, Diagnostic, Diagnostics};

pub(super) fn resolve(config: &Config) -> Loaded {
    let mut diagnostics = config.diagnostics.clone();
    let enabled = flag(&config.enabled, true);
    let unparsed = unparsed(config, &mut diagnostics);
    let budget = budget(config, &mut diagnostics);
    let (peers, seed) = (
        mirrors::peers(config, &mut diagnostics),
        mirrors::seed(config, &mut diagnostics),
    );
    let published = published::resolve(config, &mut diagnostics);
    let interfaces = interface::resolve(config, &mut diagnostics);
    let endpoints = endpoint::resolve(config, &mut diagnostics);
    let filters = filter::resolve(config, interfaces.as_deref(), &mut diagnostics);
    limits(config, &mut diagnostics);

    match (
        enabled, unparsed, budget, peers, seed, published, interfaces, endpoints, filters,
    ) {
        (
            Ok(enabled),
            Ok(unparsed),
            Ok(budget),
            Ok(peers),
            Ok(seed),
            Ok(published),
            Ok(interfaces),
            Ok(endpoints),
            Ok(filters),
        ) if diagnostics.is_empty() => {
            let desired = sorted(Desired {
                enabled,
                unparsed,
                budget,
                peers,
                seed,
                published,
                interfaces,
                endpoints,
                filters,
            });
            if let Some(error) = too_many_names(&desired) {
                return Err(vec![error]);
            }
            let warnings = warnings(config, &desired);
            Ok((desired, warnings))
        }
        _ => Err(diagnostics.into_sorted()),
    }
}

fn unparsed(config: &Config, diagnostics: &mut Diagnostics) -> Checked<Unparsed> {
    let Some(given) = optional(&config.unparsed)? else {
        return Ok(Unparsed::Mirror);
    };
    value(
        diagnostics,
        "the file",
        "unparsed",
        given,
        |text| match text.as_str() {
            "mirror" => Ok(Unparsed::Mirror),
            "skip" => Ok(Unparsed::Skip),
            _ => {
                let cause = "which is not a way to treat packets whose ports cannot be read";
                Err(bad_choice(
                    Code::BadUnparsed,
                    cause,
                    text,
                    &["mirror", "skip"],
                ))
            }
        },
    )
}

fn budget(config: &Config, diagnostics: &mut Diagnostics) -> Checked<Budget> {
    let Some(given) = optional(&config.budget)? else {
        return Ok(Budget::default());
    };
    value(diagnostics, "the file", "budget", given, |text| {
        policy::budget(text)
    })
}

fn sorted(mut desired: Desired) -> Desired {
    desired
        .interfaces
        .sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    desired.endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    desired.filters.sort_by(|a, b| a.name.cmp(&b.name));
    desired
}

fn limits(config: &Config, diagnostics: &mut Diagnostics) {
    let interfaces = config
        .interfaces
        .iter()
        .flatten()
        .map(|interface| &interface.span);
    let endpoints = config
        .endpoints
        .iter()
        .flatten()
        .map(|endpoint| &endpoint.span);
    let filters = config.filters.iter().map(|filter| &filter.span);
    limit("interfaces", MAX_INTERFACES, interfaces, diagnostics);
    limit("endpoints", MAX_ENDPOINTS, endpoints, diagnostics);
    limit("filters", MAX_FILTERS, filters, diagnostics);
}

fn limit<'a>(
    noun: &str,
    max: usize,
    objects: impl Iterator<Item = &'a Range<usize>> + Clone,
    diagnostics: &mut Diagnostics,
) {
    let count = objects.clone().count();
    if let Some(first_beyond) = objects.clone().nth(max) {
        let message = format!("the file has {count} {noun}, but the limit is {max}");
        let help = format!("remove {} of them", count - max);
        diagnostics
            .report(Diagnostic::new(Code::LimitExceeded, first_beyond.clone(), message).help(help));
    }
}

/// More DNS names than the resolver takes.
fn too_many_names(desired: &Desired) -> Option<Diagnostic> {
    let count = desired.dns_names().len();
    let message = format!("the file has {count} DNS names, but the limit is {MOST_NAMES}");
    let help = "write networks or server_name in place of some of them";
    (count > MOST_NAMES).then(|| Diagnostic::new(Code::LimitExceeded, 0..0, message).help(help))
}

/// What is odd about a file that is right.
fn warnings(config: &Config, desired: &Desired) -> Vec<Diagnostic> {
    let mut warnings = Diagnostics::default();
    if let (true, Some(filter)) = (desired.interfaces.is_empty(), config.filters.first()) {
        let message = "the file has filters but no interface, so that nothing is mirrored";
        warnings.report(
            Diagnostic::new(Code::NoInterface, filter.span.clone(), message)
                .help("add [[interface]] with the name of the interface whose packets to mirror"),
        );
    }
    let mirrors = desired
        .filters
        .iter()
        .filter(|filter| filter.action == Action::Mirror);
    let used: BTreeSet<&str> = mirrors
        .flat_map(|filter| &filter.to)
        .map(|index| desired.endpoints[*index].name.as_str())
        .collect();
    for endpoint in config.endpoints.iter().flatten() {
        if !used.contains(endpoint.name.get_ref().as_str()) {
            let message = format!("no filter sends to {}", endpoint.label);
            let help = "name it in the \"to\" of a filter, or remove it";
            warnings.report(
                Diagnostic::new(Code::UnusedEndpoint, endpoint.name.span(), message).help(help),
            );
        }
    }
    published::warn(config, desired, &mut warnings);
    warnings.into_sorted()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::desired::load;

    fn file(interfaces: usize, endpoints: usize, filters: usize) -> String {
        let mut text = String::new();
        for n in 0..interfaces {
            writeln!(text, "[[interface]]\nname = \"eth{n}\"").unwrap();
        }
        for n in 0..endpoints {
            writeln!(
                text,
                "[endpoint.e{n}]\naddress = \"192.0.2.10\"\nport = {}",
                n + 1
            )
            .unwrap();
        }
        for n in 0..filters {
            writeln!(
                text,
                "[[filter]]\nname = \"f{n}\"\nto = [\"e{}\"]",
                n % endpoints
            )
            .unwrap();
        }
        text
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        let (desired, warnings) = load(&file(MAX_INTERFACES, MAX_ENDPOINTS, MAX_FILTERS)).unwrap();
        assert_eq!(desired.filters.len(), MAX_FILTERS);
        assert_eq!(warnings, []);
    }

    #[test]
    fn there_are_not_more_dns_names_than_the_resolver_takes() {
        let with = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("\"n{n}.example\"")).collect();
            file(1, 1, 1) + &format!("source = [{}]\n", names.join(", "))
        };
        assert!(load(&with(MOST_NAMES)).is_ok());
        let errors = load(&with(MOST_NAMES + 1)).unwrap_err();
        assert_eq!(errors[0].code, Code::LimitExceeded);
    }

    #[test]
    fn beyond_each_limit_is_an_error() {
        let beyond = file(MAX_INTERFACES + 1, MAX_ENDPOINTS + 1, MAX_FILTERS + 2);
        let errors = load(&beyond).unwrap_err();
        assert!(errors.iter().all(|error| error.code == Code::LimitExceeded));
        let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        let expected = [
            ("interfaces", MAX_INTERFACES + 1, MAX_INTERFACES),
            ("endpoints", MAX_ENDPOINTS + 1, MAX_ENDPOINTS),
            ("filters", MAX_FILTERS + 2, MAX_FILTERS),
        ]
        .map(|(noun, count, max)| format!("the file has {count} {noun}, but the limit is {max}"));
        assert_eq!(messages, expected);
    }
}
