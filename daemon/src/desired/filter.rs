//! `[[filter]]`: its values one by one. Whether they fit together is the business of `consistency`.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;

use super::consistency::{self, Parts};
use super::dns_name::Place;
use super::field::{action, direction, flag, is_any, optional, repeated, required, undecided};
use super::problem::{Problem, Shown, value};
use super::{
    Action, Directions, Filter, Interface, Undecided, address, application, name, port, protocol,
    server_name, vlan,
};
use crate::config;
use crate::config::{Config, List};
use crate::diagnostic::{
    Checked, Code, Diagnostic, Diagnostics, Quoted, Reported, alternatives, did_you_mean,
};

/// The filters in the order of the file; their `to` counts the endpoints by name.
pub(super) fn resolve(
    config: &Config,
    interfaces: Result<&[Interface], &Reported>,
    diagnostics: &mut Diagnostics,
) -> Checked<Vec<Arc<Filter>>> {
    duplicate_names(config, diagnostics);
    let endpoints = config.endpoints.as_ref().map(|endpoints| {
        let mut names: Vec<&str> = endpoints
            .iter()
            .map(|endpoint| endpoint.name.get_ref().as_str())
            .collect();
        names.sort_unstable();
        names
    });
    let mut reader = Reader {
        endpoints: endpoints.map_err(|reported| *reported),
        diagnostics,
    };
    let mut read = Vec::with_capacity(config.filters.len());
    for raw in &config.filters {
        let filter = reader.filter(raw);
        consistency::check(raw, &filter, config, interfaces, reader.diagnostics);
        read.push(filter.complete().map(Arc::new));
    }
    read.into_iter().collect()
}

fn duplicate_names(config: &Config, diagnostics: &mut Diagnostics) {
    let names = config
        .filters
        .iter()
        .filter_map(|raw| raw.name.as_ref()?.as_ref().ok());
    for (name, first) in repeated(names) {
        let message = format!("{} is the name of two filters", Quoted(name.get_ref()));
        diagnostics.report(
            Diagnostic::new(Code::DuplicateFilter, name.span(), message)
                .help("rename one of the two")
                .related(first, "first here"),
        );
    }
}

impl Parts {
    fn complete(self) -> Checked<Filter> {
        let (source, destination) = (self.source?, self.destination?);
        Ok(Filter {
            name: self.name?,
            enabled: self.enabled?,
            action: self.action?,
            to: self.to?,
            protocol: self.protocol?,
            source: source.networks,
            source_name: source.names,
            source_port: self.source_port?,
            destination: destination.networks,
            destination_name: destination.names,
            destination_port: self.destination_port?,
            vlan: self.vlan?,
            server_name: self.server_name?,
            application: self.application?,
            undecided: self.undecided?,
            bidirectional: self.bidirectional?,
            interface: name::normalized(self.interface?),
            direction: self.direction?,
        })
    }
}

/// Reads the values of one filter after the other.
struct Reader<'a> {
    /// The names of all endpoints, sorted; unknown if not even the shape of the file is right.
    endpoints: Checked<Vec<&'a str>>,
    diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn filter(&mut self, raw: &config::Filter) -> Parts {
        let label = raw.label.as_str();
        let name = self.name(raw);
        let action = optional(&raw.action).and_then(|given| match given {
            Some(given) => value(self.diagnostics, label, "action", given, |text| {
                action(text)
            }),
            None => Ok(Action::Mirror),
        });
        let direction = optional(&raw.direction).and_then(|given| match given {
            Some(given) => value(self.diagnostics, label, "direction", given, |text| {
                direction(text)
            }),
            None => Ok(Directions::Both),
        });
        let to = self.to(raw, action);
        let protocol = self.list(label, "protocol", &raw.protocol, protocol::protocol);
        let source = self.list(label, "source", &raw.source, |text| {
            address::host(text, Place::Source)
        });
        let source_port = self.list(label, "source_port", &raw.source_port, port::ports);
        let destination = self.list(label, "destination", &raw.destination, |text| {
            address::host(text, Place::Destination)
        });
        let destination_port = self.list(
            label,
            "destination_port",
            &raw.destination_port,
            port::ports,
        );
        let vlan = self.list(label, "vlan", &raw.vlan, vlan::vlans);
        let server_name = self.list(label, "server_name", &raw.server_name, |text| {
            server_name::server_name(text)
        });
        let application = self.list(label, "application", &raw.application, |text| {
            application::application(text)
        });
        let undecided = optional(&raw.undecided).and_then(|given| match given {
            Some(given) => value(self.diagnostics, label, "undecided", given, |text| {
                undecided(text)
            }),
            None => Ok(Undecided::default()),
        });
        // a flow has a name, and an application, in both directions
        let is_of_flows = raw.server_name.is_some() || raw.application.is_some();
        let interface = self.list(label, "interface", &raw.interface, |text| {
            name::interface_pattern(text)
        });
        Parts {
            name,
            enabled: flag(&raw.enabled, true),
            action,
            to,
            protocol: protocol.map(protocol::normalized),
            source: source.map(address::hosts),
            source_port: source_port.map(port::normalized),
            destination: destination.map(address::hosts),
            destination_port: destination_port.map(port::normalized),
            vlan: vlan.map(port::normalized),
            server_name: server_name.map(server_name::normalized),
            application: application.map(application::normalized),
            undecided,
            bidirectional: flag(&raw.bidirectional, is_of_flows),
            interface,
            direction,
        }
    }

    fn name(&mut self, raw: &config::Filter) -> Checked<String> {
        let given = required(&raw.name, self.diagnostics, || {
            let message = format!("{} has no name", raw.label);
            Diagnostic::new(Code::MissingField, raw.span.clone(), message)
                .help("add a name of its own, such as name = \"web\"")
        })?;
        value(self.diagnostics, "a filter", "name", given, |text| {
            name::object(text)
        })?;
        Ok(given.get_ref().clone())
    }

    /// A list of values. One that is left out is empty and means any, so an empty one must not be
    /// written.
    fn list<R: Shown, T>(
        &mut self,
        label: &str,
        key: &str,
        raw: &List<R>,
        parse: impl Fn(&R) -> Result<T, Problem>,
    ) -> Checked<Vec<T>> {
        let Some(list) = optional(raw)? else {
            return Ok(Vec::new());
        };
        if list.get_ref().is_empty() {
            let message = format!("{label} has an empty list as {key}, which matches nothing");
            return Err(self.diagnostics.report(
                Diagnostic::new(Code::EmptyList, list.span(), message)
                    .help("leave the line out to match any"),
            ));
        }
        let read: Vec<Checked<T>> = list
            .get_ref()
            .iter()
            .map(|element| {
                let element = element.as_ref().map_err(|reported| *reported)?;
                value(self.diagnostics, label, key, element, |one| {
                    parse(one).map_err(|problem| match one.text() {
                        Some(text) if is_any(text) => Problem {
                            help: "leave the line out to match any".into(),
                            note: None,
                            ..problem
                        },
                        _ => problem,
                    })
                })
            })
            .collect();
        read.into_iter().collect()
    }

    fn to(&mut self, raw: &config::Filter, action: Checked<Action>) -> Checked<Vec<usize>> {
        let Some(list) = optional(&raw.to)? else {
            return match action? {
                Action::Exclude => self
                    .endpoints
                    .as_ref()
                    .map(|all| (0..all.len()).collect())
                    .map_err(|reported| *reported),
                Action::Mirror => Err(self.sends_nowhere(raw)),
            };
        };
        if list.get_ref().is_empty() {
            let message = format!(
                "{} has an empty list as to, which is no endpoint",
                raw.label
            );
            let help = match action {
                Ok(Action::Exclude) => "leave the line out to exclude from all endpoints",
                _ => "name an endpoint to send to",
            };
            return Err(self
                .diagnostics
                .report(Diagnostic::new(Code::EmptyList, list.span(), message).help(help)));
        }
        let mut seen: BTreeMap<&str, &Spanned<String>> = BTreeMap::new();
        let mut indices = Vec::new();
        for element in list.get_ref() {
            let index = element
                .as_ref()
                .map_err(|reported| *reported)
                .and_then(|name| {
                    if let Some(first) = seen.insert(name.get_ref(), name) {
                        let message =
                            format!("{} sends to {} twice", raw.label, Quoted(name.get_ref()));
                        return Err(self.diagnostics.report(
                            Diagnostic::new(Code::DuplicateEndpoint, name.span(), message)
                                .help("remove one of the two")
                                .related(first.span(), "first here"),
                        ));
                    }
                    self.endpoint(raw, name)
                });
            indices.push(index);
        }
        let mut indices = indices.into_iter().collect::<Checked<Vec<usize>>>()?;
        indices.sort_unstable();
        Ok(indices)
    }

    fn sends_nowhere(&mut self, raw: &config::Filter) -> Reported {
        let message = format!(
            "{} has no \"to\", so that its packets go nowhere",
            raw.label
        );
        let example = match &self.endpoints {
            Ok(names) => names.first().copied().unwrap_or("ids"),
            Err(_) => "ids",
        };
        let help = format!("add the endpoints to send to, such as to = [{example:?}]");
        self.diagnostics
            .report(Diagnostic::new(Code::MissingField, raw.span.clone(), message).help(help))
    }

    fn endpoint(&mut self, raw: &config::Filter, name: &Spanned<String>) -> Checked<usize> {
        let names = self.endpoints.as_ref().map_err(|reported| *reported)?;
        let text = name.get_ref().as_str();
        names.binary_search(&text).map_err(|_| {
            let message = format!(
                "{} sends to {}, which is not defined",
                raw.label,
                Quoted(text)
            );
            let guess = did_you_mean(text, names.iter().copied());
            let mut diagnostic = Diagnostic::new(Code::UnknownEndpoint, name.span(), message);
            if guess.is_none() && !names.is_empty() {
                let known = alternatives(names.iter().copied());
                diagnostic = diagnostic.note(format!("endpoints: {known}"));
            }
            let add = || format!("define [endpoint.{text}], or name another endpoint");
            let diagnostic = diagnostic.help(guess.unwrap_or_else(add));
            self.diagnostics.report(diagnostic)
        })
    }
}
