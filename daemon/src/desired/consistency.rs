//! Whether the conditions of a filter can hold together, and whether any interface shows it
//! packets.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::field::is_any;
use super::protocol::{self, Families};
use super::{Action, Directions, Hosts, Interface, Undecided, address, name};
use crate::config;
use crate::config::{Config, List};
use crate::diagnostic::{
    Checked, Code, Diagnostic, Diagnostics, Quoted, Reported, alternatives, did_you_mean,
};
use glob::Pattern;
use traffic_mirror_ebpf::packet;

/// A filter in which single values may have been reported as wrong.
pub(super) struct Parts {
    pub(super) name: Checked<String>,
    pub(super) enabled: Checked<bool>,
    pub(super) action: Checked<Action>,
    pub(super) to: Checked<Vec<usize>>,
    pub(super) protocol: Checked<Vec<u8>>,
    pub(super) source: Checked<Hosts>,
    pub(super) source_port: Checked<Vec<RangeInclusive<u16>>>,
    pub(super) destination: Checked<Hosts>,
    pub(super) destination_port: Checked<Vec<RangeInclusive<u16>>>,
    pub(super) vlan: Checked<Vec<RangeInclusive<u16>>>,
    pub(super) server_name: Checked<Vec<String>>,
    pub(super) application: Checked<Vec<crate::cgroup::Pattern>>,
    pub(super) undecided: Checked<Undecided>,
    pub(super) bidirectional: Checked<bool>,
    pub(super) interface: Checked<Vec<Pattern>>,
    pub(super) direction: Checked<Directions>,
}

/// Reports conditions that no packet fulfils. A value that is wrong by itself takes part in
/// nothing.
pub(super) fn check(
    raw: &config::Filter,
    filter: &Parts,
    config: &Config,
    interfaces: Result<&[Interface], &Reported>,
    diagnostics: &mut Diagnostics,
) {
    ports(raw, filter, diagnostics);
    families(raw, filter, diagnostics);
    names(raw, filter, diagnostics);
    if let (Ok(raw_interfaces), Ok(interfaces)) = (&config.interfaces, interfaces) {
        coverage(raw, filter, interfaces, diagnostics);
        direction(raw, filter, raw_interfaces, interfaces, diagnostics);
    }
}

/// A list as the file has it, if it has one.
fn given<T>(list: &List<T>) -> Option<&Spanned<Vec<Checked<Spanned<T>>>>> {
    list.as_ref()?.as_ref().ok()
}

fn ports(raw: &config::Filter, filter: &Parts, diagnostics: &mut Diagnostics) {
    let (Ok(protocols), Some(protocol)) = (&filter.protocol, given(&raw.protocol)) else {
        return;
    };
    if protocols
        .iter()
        .any(|protocol| protocol::has_ports(*protocol))
    {
        return;
    }
    for (key, list, ports) in [
        ("source_port", &raw.source_port, &filter.source_port),
        (
            "destination_port",
            &raw.destination_port,
            &filter.destination_port,
        ),
    ] {
        let (Some(list), Ok(_)) = (given(list), ports) else {
            continue;
        };
        let message = format!(
            "{} has {key}, but none of its protocols has ports",
            raw.label
        );
        diagnostics.report(
            Diagnostic::new(Code::PortWithoutPorts, list.span(), message)
                .help(format!("remove {key}, or add a protocol such as \"tcp\""))
                .related(protocol.span(), "no ports here"),
        );
    }
}

/// The name of a server is in the client's first payload, and it counts once the server has
/// answered.
fn names(raw: &config::Filter, filter: &Parts, diagnostics: &mut Diagnostics) {
    let is_of_flows = raw.server_name.is_some() || raw.application.is_some();
    if let (Some(Ok(undecided)), false) = (&raw.undecided, is_of_flows) {
        let message = format!(
            "{} has undecided, but neither server_name nor application",
            raw.label
        );
        diagnostics.report(
            Diagnostic::new(Code::UndecidedWithoutNames, undecided.span(), message)
                .help("remove undecided, or add server_name or application"),
        );
    }
    let Some(list) = given(&raw.server_name) else {
        return;
    };
    if let (Some(Ok(given)), Ok(false)) = (&raw.bidirectional, filter.bidirectional) {
        let message = format!(
            "{} has server_name, but sees one direction of a flow alone",
            raw.label
        );
        diagnostics.report(
            Diagnostic::new(Code::OneWayNames, given.span(), message)
                .help("remove the line: a filter with server_name is bidirectional")
                .related(list.span(), "the names"),
        );
    }
    if let (Some(Ok(given)), Ok(Directions::Ingress | Directions::Egress)) =
        (&raw.direction, filter.direction)
    {
        let message = format!(
            "{} has server_name, but sees one direction of a flow alone",
            raw.label
        );
        diagnostics.report(
            Diagnostic::new(Code::OneWayNames, given.span(), message)
                .help("remove the line: the answers of a server go the other way")
                .related(list.span(), "the names"),
        );
    }
    let (Ok(protocols), Some(protocol)) = (&filter.protocol, given(&raw.protocol)) else {
        return;
    };
    let has_names = |number: &u8| matches!(*number, packet::protocol::TCP | packet::protocol::UDP);
    if !protocols.is_empty() && !protocols.iter().any(has_names) {
        let message = format!(
            "{} never matches: none of its protocols has server names",
            raw.label
        );
        diagnostics.report(
            Diagnostic::new(Code::NeverMatches, list.span(), message)
                .help("remove server_name, or add the protocol \"tcp\"")
                .related(protocol.span(), "no server names here"),
        );
    }
}

fn families(raw: &config::Filter, filter: &Parts, diagnostics: &mut Diagnostics) {
    let protocol = filter.protocol.as_deref().map(protocol::families);
    let source = filter.source.as_ref().map(address::families);
    let destination = filter.destination.as_ref().map(address::families);
    let given: Vec<Condition> = [
        Condition::of("protocol", &raw.protocol, protocol),
        Condition::of("source", &raw.source, source),
        Condition::of("destination", &raw.destination, destination),
    ]
    .into_iter()
    .flatten()
    .collect();
    let pairs = given
        .iter()
        .enumerate()
        .flat_map(|(index, later)| given[..index].iter().map(move |earlier| (earlier, later)));
    for (earlier, later) in pairs {
        if !earlier.families.meets(later.families) {
            diagnostics.report(contradiction(&raw.label, earlier, later));
            return;
        }
    }
}

/// A condition that is given, and the versions of IP that can fulfil it.
struct Condition {
    key: &'static str,
    place: Range<usize>,
    families: Families,
}

impl Condition {
    fn of<T>(
        key: &'static str,
        list: &List<T>,
        families: Result<Families, &Reported>,
    ) -> Option<Self> {
        let place = given(list)?.span();
        let families = families.ok()?;
        Some(Self {
            key,
            place,
            families,
        })
    }
}

fn contradiction(label: &str, earlier: &Condition, later: &Condition) -> Diagnostic {
    let (key, is) = (later.key, later.families.name());
    let (other, other_is) = (earlier.key, earlier.families.name());
    let message = format!("{label} never matches: {key} is {is}, but {other} is {other_is}");
    let help = match other {
        "protocol" => format!("make {key} fit the protocol, or leave one of them out"),
        _ => "use the same version of IP in both, or leave one of them out".to_owned(),
    };
    Diagnostic::new(Code::NeverMatches, later.place.clone(), message)
        .help(help)
        .related(earlier.place.clone(), other_is)
}

/// Each interface that the filter names must be one that the file lists.
fn coverage(
    raw: &config::Filter,
    filter: &Parts,
    interfaces: &[Interface],
    diagnostics: &mut Diagnostics,
) {
    let (Ok(wanted), Some(list)) = (&filter.interface, given(&raw.interface)) else {
        return;
    };
    for (pattern, place) in wanted.iter().zip(list.get_ref().iter().flatten()) {
        if interfaces
            .iter()
            .any(|listed| name::overlap(pattern, &listed.name))
        {
            continue;
        }
        let text = place.get_ref().as_str();
        let listed = interfaces.iter().map(|listed| listed.name.as_str());
        let message = format!(
            "{} is limited to interface {}, which is not listed",
            raw.label,
            Quoted(text)
        );
        let add = format!("add [[interface]] with name = {}", Quoted(text));
        let help = match did_you_mean(text, listed.clone()) {
            _ if is_any(text) => "leave the line out to match any".to_owned(),
            Some(guess) => format!("{guess} otherwise {add}"),
            None => add,
        };
        let mut diagnostic =
            Diagnostic::new(Code::UnknownInterface, place.span(), message).help(help);
        if !interfaces.is_empty() {
            diagnostic = diagnostic.note(format!("interfaces: {}", alternatives(listed)));
        }
        diagnostics.report(diagnostic);
    }
}

/// At least one of the filter's interfaces must be listed for the filter's direction.
fn direction(
    raw: &config::Filter,
    filter: &Parts,
    raw_interfaces: &[config::Interface],
    interfaces: &[Interface],
    diagnostics: &mut Diagnostics,
) {
    let (Ok(direction), Some(Ok(place)), Ok(wanted)) =
        (filter.direction, &raw.direction, &filter.interface)
    else {
        return;
    };
    let covering = raw_interfaces.iter().zip(interfaces).filter(|(_, listed)| {
        wanted.is_empty()
            || wanted
                .iter()
                .any(|pattern| name::overlap(pattern, &listed.name))
    });
    let mut blind = Vec::new();
    for (raw, listed) in covering {
        if direction == Directions::Both
            || listed.direction == Directions::Both
            || listed.direction == direction
        {
            return;
        }
        blind.extend(raw.direction.iter().flatten());
    }
    let Some(first) = blind.first() else {
        return;
    };
    let (way, other) = (place.get_ref(), first.get_ref());
    let message = format!(
        "{} never matches: it is for {way}, but its interfaces are listed for {other} only",
        raw.label
    );
    diagnostics.report(
        Diagnostic::new(Code::NeverMatches, place.span(), message)
            .help(format!(
                "write {other:?} here, or \"both\" at the interface"
            ))
            .related(first.span(), format!("{other} only")),
    );
}
