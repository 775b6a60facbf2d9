//! `[[interface]]`.

use super::field::{direction, flag, optional, repeated, required};
use super::problem::value;
use super::{Directions, Interface, Order, name, order};
use crate::config;
use crate::config::Config;
use crate::diagnostic::{Checked, Code, Diagnostic, Diagnostics, Quoted};

/// The interfaces in the order of the file.
pub(super) fn resolve(config: &Config, diagnostics: &mut Diagnostics) -> Checked<Vec<Interface>> {
    let raw = config.interfaces.as_ref().map_err(|reported| *reported)?;
    let read: Vec<Checked<Interface>> = raw.iter().map(|raw| interface(raw, diagnostics)).collect();

    let names = raw
        .iter()
        .filter_map(|raw| raw.name.as_ref()?.as_ref().ok());
    for (name, first) in repeated(names) {
        let message = format!("interface {} is listed twice", Quoted(name.get_ref()));
        diagnostics.report(
            Diagnostic::new(Code::DuplicateInterface, name.span(), message)
                .help("keep one of the two; direction = \"both\" covers both ways")
                .related(first, "first here"),
        );
    }
    read.into_iter().collect()
}

fn interface(raw: &config::Interface, diagnostics: &mut Diagnostics) -> Checked<Interface> {
    let given = required(&raw.name, diagnostics, || {
        let message = format!("{} has no name", raw.label);
        Diagnostic::new(Code::MissingField, raw.span.clone(), message)
            .help("add a name, such as name = \"eth0\" or name = \"eth*\"")
    });
    let name = given.and_then(|given| {
        value(diagnostics, "an interface", "name", given, |text| {
            name::interface_pattern(text)
        })
    });
    let direction = optional(&raw.direction).and_then(|given| match given {
        Some(given) => value(diagnostics, &raw.label, "direction", given, |text| {
            direction(text)
        }),
        None => Ok(Directions::default()),
    });
    let order = optional(&raw.order).and_then(|given| match given {
        Some(given) => value(diagnostics, &raw.label, "order", given, |text| {
            order::parse(text)
        }),
        None => Ok(Order::default()),
    });
    Ok(Interface {
        name: name?,
        direction: direction?,
        order: order?,
        learn: flag(&raw.learn, false)?,
    })
}
