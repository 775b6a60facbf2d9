//! `[endpoint.NAME]`.

use super::address::Target;
use super::field::{flag, optional, required};
use super::problem::{Problem, Shown, value};
use super::{Endpoint, Ipsec, Oversize, address, cidr, name, policy, port, rate};
use crate::config;
use crate::config::{Config, Field};
use crate::diagnostic::{Checked, Code, Diagnostic, Diagnostics};

/// GUE (IANA "Service Name and Transport Protocol Port Number Registry").
const DEFAULT_PORT: u16 = 6080;

/// The endpoints in the order of the file.
pub(super) fn resolve(config: &Config, diagnostics: &mut Diagnostics) -> Checked<Vec<Endpoint>> {
    let raw = config.endpoints.as_ref().map_err(|reported| *reported)?;
    let read: Vec<Checked<Endpoint>> = raw.iter().map(|raw| endpoint(raw, diagnostics)).collect();
    read.into_iter().collect()
}

fn endpoint(raw: &config::Endpoint, diagnostics: &mut Diagnostics) -> Checked<Endpoint> {
    let name = value(diagnostics, "an endpoint", "name", &raw.name, |text| {
        name::object(text)
    });
    let given = required(&raw.address, diagnostics, || {
        let message = format!("{} has no address", raw.label);
        Diagnostic::new(Code::MissingField, raw.span.clone(), message)
            .help("add the address of the collector, such as address = \"192.0.2.10\"")
    });
    let address = given.and_then(|given| {
        let target = value(diagnostics, &raw.label, "address", given, |text| {
            address::target(text, raw.interface.is_some())
        })?;
        check_zone(raw, target, given.span(), diagnostics)
    });
    let port = optional(&raw.port).and_then(|given| match given {
        Some(given) => value(diagnostics, &raw.label, "port", given, port::endpoint),
        None => Ok(DEFAULT_PORT),
    });
    let interface = optional(&raw.interface).and_then(|given| {
        let Some(given) = given else {
            return Ok(None);
        };
        value(diagnostics, &raw.label, "interface", given, |text| {
            name::interface(text)
        })?;
        Ok(Some(given.get_ref().clone()))
    });
    let oversize = word(
        raw,
        "oversize",
        &raw.oversize,
        policy::oversize,
        diagnostics,
    );
    let snap = choice(raw, "snap", &raw.snap, policy::snap, diagnostics);
    let limit = word(raw, "limit", &raw.limit, rate::limit, diagnostics);
    let sample = word(raw, "sample", &raw.sample, rate::sample, diagnostics);
    // how small it may be depends on the family
    let mtu = address.as_ref().map_err(|reported| *reported);
    let mtu = mtu.and_then(|target| {
        choice(
            raw,
            "mtu",
            &raw.mtu,
            |number: &i128| policy::mtu(number, target),
            diagnostics,
        )
    });
    let checksum = flag(&raw.checksum, false);
    let ipsec = word(raw, "ipsec", &raw.ipsec, policy::ipsec, diagnostics);
    let backlog = word(raw, "backlog", &raw.backlog, policy::backlog, diagnostics);
    name?;
    let (address, address_name) = match address? {
        Target::Address(address) => (Some(address), None),
        Target::Name(name) => (None, Some(name)),
    };
    Ok(Endpoint {
        name: raw.name.get_ref().clone(),
        address,
        address_name,
        port: port?,
        interface: interface?,
        oversize: oversize?.unwrap_or(Oversize::Fragment),
        snap: snap?,
        limit: limit?,
        sample: sample?.unwrap_or(1),
        mtu: mtu?,
        checksum: checksum?,
        ipsec: ipsec?.unwrap_or(Ipsec::Obey),
        backlog: backlog?.unwrap_or(policy::DEFAULT_BACKLOG),
    })
}

/// What a string that may be left out means.
fn word<T>(
    raw: &config::Endpoint,
    key: &str,
    field: &Field<String>,
    read: fn(&str) -> Result<T, Problem>,
    diagnostics: &mut Diagnostics,
) -> Checked<Option<T>> {
    choice(raw, key, field, |text: &String| read(text), diagnostics)
}

/// What a field that may be left out means.
fn choice<R: Shown, T>(
    raw: &config::Endpoint,
    key: &str,
    field: &Field<R>,
    parse: impl Fn(&R) -> Result<T, Problem>,
    diagnostics: &mut Diagnostics,
) -> Checked<Option<T>> {
    optional(field)?
        .map(|given| value(diagnostics, &raw.label, key, given, parse))
        .transpose()
}

fn check_zone(
    raw: &config::Endpoint,
    target: Target,
    span: std::ops::Range<usize>,
    diagnostics: &mut Diagnostics,
) -> Checked<Target> {
    let address = match target {
        Target::Address(address) if cidr::is_link_local(address) => address,
        _ => return Ok(target),
    };
    if raw.interface.is_some() {
        return Ok(target);
    }
    let message = format!(
        "{} has address \"{address}\", which is link-local and means nothing without an interface",
        raw.label
    );
    Err(diagnostics.report(
        Diagnostic::new(Code::BadAddress, span, message)
            .help("add the interface that leads there, such as interface = \"eth1\""),
    ))
}
