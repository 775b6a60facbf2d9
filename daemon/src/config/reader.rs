//! Walks the TOML tree.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::fields::{Fields, TableSpec, entries, found};
use super::{Config, Endpoint, Filter, Interface, Metrics, nested};
use crate::diagnostic::{Checked, Code, Diagnostic, Diagnostics, Quoted, Reported};

const TOP: TableSpec = TableSpec {
    noun: "the file",
    keys: &[
        "enabled",
        "unparsed",
        "budget",
        "peers",
        "seed",
        "metrics",
        "interface",
        "endpoint",
        "filter",
    ],
    tables: &[
        ("metrics", "[metrics]"),
        ("interface", "[[interface]]"),
        ("endpoint", "[endpoint.NAME]"),
        ("filter", "[[filter]]"),
    ],
};

const METRICS: TableSpec = TableSpec {
    noun: "[metrics]",
    keys: &["filters"],
    tables: &[],
};

const INTERFACE: TableSpec = TableSpec {
    noun: "an interface",
    keys: &["name", "direction", "order", "learn"],
    tables: &[],
};

const ENDPOINT: TableSpec = TableSpec {
    noun: "an endpoint",
    keys: &[
        "address",
        "port",
        "interface",
        "oversize",
        "snap",
        "limit",
        "sample",
        "mtu",
        "checksum",
        "ipsec",
        "backlog",
    ],
    tables: &[],
};

const FILTER: TableSpec = TableSpec {
    noun: "a filter",
    keys: &[
        "name",
        "enabled",
        "action",
        "protocol",
        "source",
        "source_port",
        "destination",
        "destination_port",
        "vlan",
        "server_name",
        "application",
        "undecided",
        "bidirectional",
        "interface",
        "direction",
        "to",
    ],
    tables: &[],
};

/// What stands under a top-level key, if it is there.
type Value<'t, 'i> = Option<&'t Spanned<DeValue<'i>>>;

/// Walks the TOML tree.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    pub(super) fn config(mut self, root: &DeTable<'_>) -> Config {
        let mut top = self.fields("the file", &TOP, root);
        let (enabled, unparsed) = (top.boolean("enabled"), top.text("unparsed"));
        let budget = top.text("budget");
        let (peers, seed) = (top.texts("peers"), top.secret("seed"));
        let tables = ["metrics", "interface", "endpoint", "filter"];
        let [metrics, interfaces, endpoints, filters] = tables.map(|key| top.get(key).transpose());
        Config {
            enabled,
            unparsed,
            budget,
            peers,
            seed,
            metrics: metrics.and_then(|value| self.metrics(value)),
            interfaces: interfaces.and_then(|value| self.interfaces(value)),
            endpoints: endpoints.and_then(|value| self.endpoints(value)),
            filters: filters
                .and_then(|value| self.filters(value))
                .unwrap_or_default(),
            diagnostics: Diagnostics::default(),
        }
    }

    fn metrics(&mut self, value: Value<'_, '_>) -> Checked<Metrics> {
        let Some(value) = value else {
            return Ok(Metrics::default());
        };
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("\"metrics\" is {}, but must be one table", found(value));
            return Err(self.diagnostics.report(
                Diagnostic::new(Code::WrongType, value.span(), message)
                    .help("write [metrics], and its keys below"),
            ));
        };
        let filters = self
            .fields("[metrics]", &METRICS, table)
            .selection("filters");
        Ok(Metrics { filters })
    }

    fn interfaces(&mut self, value: Value<'_, '_>) -> Checked<Vec<Interface>> {
        let tables = self.array_of_tables("interface", value)?;
        let read = tables
            .into_iter()
            .enumerate()
            .map(|(index, (span, table))| {
                let label = label("interface", table, index);
                let mut fields = self.fields(&label, &INTERFACE, table);
                let name = fields.text("name");
                let (direction, order) = (fields.text("direction"), fields.text("order"));
                let learn = fields.boolean("learn");
                Interface {
                    label,
                    span,
                    name,
                    direction,
                    order,
                    learn,
                }
            });
        Ok(read.collect())
    }

    fn endpoints(&mut self, value: Value<'_, '_>) -> Checked<Vec<Endpoint>> {
        let Some(value) = value else {
            return Ok(Vec::new());
        };
        let DeValue::Table(tables) = value.get_ref() else {
            return Err(self.diagnostics.report(
                Diagnostic::new(
                    Code::WrongType,
                    value.span(),
                    format!(
                        "\"endpoint\" is {}, but must be one table for each endpoint",
                        found(value)
                    ),
                )
                .help("write [endpoint.NAME], with the name of the endpoint"),
            ));
        };
        let read: Vec<Checked<Endpoint>> = entries(tables)
            .into_iter()
            .map(|(name, value)| self.endpoint(name, value))
            .collect();
        read.into_iter().collect()
    }

    fn endpoint(
        &mut self,
        name: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Checked<Endpoint> {
        let label = format!("endpoint {}", Quoted(name.get_ref()));
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("{label} is {}, but must be a table", found(value));
            let diagnostic = Diagnostic::new(Code::WrongType, name.span(), message);
            let help = match ENDPOINT.keys.contains(&name.get_ref().as_ref()) {
                true => "write it under [endpoint.NAME], with the name of the endpoint".to_owned(),
                false => format!("write [endpoint.{}], and its keys below", name.get_ref()),
            };
            return Err(self.diagnostics.report(diagnostic.help(help)));
        };
        if let Some(reported) =
            nested::report(&[name.get_ref()], table, self.text, self.diagnostics)
        {
            return Err(reported);
        }
        let mut fields = self.fields(&label, &ENDPOINT, table);
        let address = fields.text("address");
        let port = fields.number("port");
        let interface = fields.text("interface");
        let (oversize, snap) = (fields.text("oversize"), fields.number("snap"));
        let (limit, sample) = (fields.text("limit"), fields.text("sample"));
        let (mtu, checksum, ipsec) = (
            fields.number("mtu"),
            fields.boolean("checksum"),
            fields.text("ipsec"),
        );
        let backlog = fields.text("backlog");
        Ok(Endpoint {
            label,
            span: value.span(),
            name: Spanned::new(name.span(), name.get_ref().to_string()),
            address,
            port,
            interface,
            oversize,
            snap,
            limit,
            sample,
            mtu,
            checksum,
            ipsec,
            backlog,
        })
    }

    fn filters(&mut self, value: Value<'_, '_>) -> Checked<Vec<Filter>> {
        let tables = self.array_of_tables("filter", value)?;
        let read = tables
            .into_iter()
            .enumerate()
            .map(|(index, (span, table))| {
                let label = label("filter", table, index);
                let mut fields = self.fields(&label, &FILTER, table);
                let filter = Filter {
                    span,
                    name: fields.text("name"),
                    enabled: fields.boolean("enabled"),
                    action: fields.text("action"),
                    protocol: fields.items("protocol"),
                    source: fields.texts("source"),
                    source_port: fields.items("source_port"),
                    destination: fields.texts("destination"),
                    destination_port: fields.items("destination_port"),
                    vlan: fields.items("vlan"),
                    server_name: fields.texts("server_name"),
                    application: fields.texts("application"),
                    undecided: fields.text("undecided"),
                    bidirectional: fields.boolean("bidirectional"),
                    interface: fields.texts("interface"),
                    direction: fields.text("direction"),
                    to: fields.texts("to"),
                    label: String::new(),
                };
                Filter { label, ..filter }
            });
        Ok(read.collect())
    }

    /// The tables of `[[key]]`, each with the place of its header.
    fn array_of_tables<'t, 'i>(
        &mut self,
        key: &str,
        value: Value<'t, 'i>,
    ) -> Checked<Vec<(Range<usize>, &'t DeTable<'i>)>> {
        let Some(value) = value else {
            return Ok(Vec::new());
        };
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.not_an_array(key, value));
        };
        let tables: Vec<Checked<_>> = array
            .iter()
            .map(|element| match element.get_ref() {
                DeValue::Table(table) => Ok((element.span(), table)),
                _ => Err(self.not_an_array(key, element)),
            })
            .collect();
        tables.into_iter().collect()
    }

    fn not_an_array(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Reported {
        let named = match value.get_ref() {
            DeValue::Table(table) => entries(table)
                .into_iter()
                .find(|(_, value)| value.get_ref().is_table())
                .map(|(name, _)| format!(" and below it name = {}", Quoted(name.get_ref()))),
            _ => None,
        };
        let message = format!(
            "\"{key}\" is {}, but must be one [[{key}]] for each {key}",
            found(value)
        );
        let help = format!("write [[{key}]]{}", named.unwrap_or_default());
        self.diagnostics
            .report(Diagnostic::new(Code::WrongType, value.span(), message).help(help))
    }

    fn fields<'f, 't>(
        &'f mut self,
        label: &'f str,
        kind: &'static TableSpec,
        table: &'t DeTable<'t>,
    ) -> Fields<'f, 't> {
        Fields::new(label, kind, table, self.text, self.diagnostics)
    }
}

/// How messages call the `index`th object of a kind, by its name if it has one.
fn label(kind: &str, table: &DeTable<'_>, index: usize) -> String {
    match table.get("name").and_then(|name| name.get_ref().as_str()) {
        Some(name) if !name.is_empty() => format!("{kind} {}", Quoted(name)),
        _ => format!("{kind} #{}", index + 1),
    }
}
