//! A file beside the host that it is checked on.

use std::collections::BTreeSet;

use toml::Spanned;
use traffic_mirror_resolver::{Name, Names};

use super::application::application;
use super::name;
use crate::cgroup::{Pattern, Tree, absence, socket_units};
use crate::config::{Config, Field};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Quoted, did_you_mean};

/// Warns of each exact name of an interface in the file that the host does not have. The file may
/// be for another host.
pub fn absent(text: &str, host: &[&str]) -> Vec<Diagnostic> {
    let config = Config::parse(text);
    let listed = config
        .interfaces
        .iter()
        .flatten()
        .map(|raw| (raw.label.clone(), &raw.name));
    let outputs = config
        .endpoints
        .iter()
        .flatten()
        .map(|raw| (format!("the interface of {}", raw.label), &raw.interface));
    let mut diagnostics = Diagnostics::default();
    for (label, name) in listed.chain(outputs) {
        let Some(Ok(name)) = name else { continue };
        let text = name.get_ref().as_str();
        if name::is_glob(text) || host.contains(&text) {
            continue;
        }
        let what = if label.contains(text) {
            label
        } else {
            format!("{label}, {},", Quoted(text))
        };
        let message = format!("{what} does not exist on this host");
        let help = did_you_mean(text, host.iter().copied()).unwrap_or_else(|| {
            "write a name that \"ip link\" shows; for a file that is for another host, add --any-host".to_owned()
        });
        diagnostics.report(Diagnostic::new(Code::AbsentInterface, name.span(), message).help(help));
    }
    diagnostics.into_sorted()
}

/// Warns of each DNS name of the file without an address in `known`, once. The file is valid.
pub fn unresolved(text: &str, known: &Names) -> Vec<Diagnostic> {
    let config = Config::parse(text);
    let mut diagnostics = Diagnostics::default();
    let mut said = BTreeSet::new();
    let mut look = |label: &str, key: &str, given: &Spanned<String>| {
        let Ok(name) = Name::parse(given.get_ref()) else {
            return;
        };
        let entry = known.0.get(&name);
        if entry.is_some_and(|entry| !entry.addresses.is_empty()) || !said.insert(name) {
            return;
        }
        let given_text = Quoted(given.get_ref());
        let message = format!("{label} has {key} {given_text}, of which no address is known here");
        let failing = entry.and_then(|entry| entry.failing);
        let help = match failing {
            Some(failing) => format!("correct the name if it is wrong: {}", failing.reason.text()),
            None => "traffic-mirror-resolver asks for it once the daemon has loaded the file; \
                     for a file that is for another host, add --any-host"
                .to_owned(),
        };
        diagnostics.report(Diagnostic::new(Code::UnresolvedName, given.span(), message).help(help));
    };
    for raw in config.endpoints.iter().flatten() {
        look_at(&raw.address, |given| look(&raw.label, "address", given));
    }
    for raw in &config.filters {
        for (key, list) in [("source", &raw.source), ("destination", &raw.destination)] {
            let Some(Ok(list)) = list else { continue };
            for given in list.get_ref().iter().flatten() {
                look(&raw.label, key, given);
            }
        }
    }
    diagnostics.into_sorted()
}

fn look_at(field: &Field<String>, look: impl FnOnce(&Spanned<String>)) {
    if let Some(Ok(given)) = field {
        look(given);
    }
}

/// Warns of applications that the host does not run now, and of those whose sockets belong to
/// another unit. Units may start later, and the file may be for another host.
pub fn absent_applications(text: &str, tree: &Tree) -> Vec<Diagnostic> {
    let config = Config::parse(text);
    let mut diagnostics = Diagnostics::default();
    for raw in &config.filters {
        let Some(Ok(list)) = &raw.application else {
            continue;
        };
        let elements = list.get_ref().iter().flatten();
        let read = elements.filter_map(|one| Some((one, application(one.get_ref()).ok()?)));
        let (places, patterns): (Vec<_>, Vec<Pattern>) = read.unzip();
        for (place, pattern) in places.iter().zip(&patterns) {
            if let Some(absence) = absence(pattern, tree) {
                let shown = Quoted(place.get_ref());
                let message = format!("{} has application {shown}, {}", raw.label, absence.cause);
                diagnostics.report(
                    Diagnostic::new(Code::AbsentApplication, place.span(), message)
                        .help(absence.help),
                );
            }
        }
        for (nth, unit) in socket_units(&patterns, tree) {
            let place = places[nth];
            let message = format!(
                "{} has application {}, but what is accepted for it by {unit:?} belongs to that unit",
                raw.label,
                Quoted(place.get_ref())
            );
            diagnostics.report(
                Diagnostic::new(Code::SocketUnit, place.span(), message)
                    .help(format!("add {unit:?} if it listens on a port")),
            );
        }
    }
    diagnostics.into_sorted()
}
