//! Input: the text of the file. Output: [`Config`], its shape with the place of every value, and
//! every error of shape. Must not know: what the values mean.

mod duplicate;
mod fields;
mod nested;
mod reader;
mod secret;
mod synonyms;
mod syntax;
mod value_type;

use std::ops::Range;

use reader::Reader;
use toml::Spanned;

use crate::diagnostic::{Checked, Diagnostics, Reported};

pub use secret::Secret;

/// A value that may be left out, and that may have been reported as wrong.
pub type Field<T> = Option<Checked<Spanned<T>>>;

/// A list in which single elements may have been reported as wrong.
pub type List<T> = Field<Vec<Checked<Spanned<T>>>>;

/// The file as written: nothing is defaulted, looked up or compared.
#[derive(Debug, Clone)]
pub struct Config {
    /// `enabled`.
    pub enabled: Field<bool>,
    /// `unparsed`.
    pub unparsed: Field<String>,
    /// `budget`.
    pub budget: Field<String>,
    /// `peers`.
    pub peers: List<String>,
    /// `seed`.
    pub seed: Field<Secret>,
    /// `[metrics]`.
    pub metrics: Checked<Metrics>,
    /// Each `[[interface]]`, in the order of the file.
    pub interfaces: Checked<Vec<Interface>>,
    /// Each `[endpoint.NAME]`, in the order of the file.
    pub endpoints: Checked<Vec<Endpoint>>,
    /// Each `[[filter]]` that could be read, in the order of the file.
    pub filters: Vec<Filter>,
    /// Every error of shape; what they are about is marked [`Reported`] above.
    pub(crate) diagnostics: Diagnostics,
}

/// `[metrics]`.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// `filters`.
    pub filters: Field<Selection>,
}

/// One word that stands for a choice, or a list of names.
#[derive(Debug, Clone)]
pub enum Selection {
    /// The word.
    Word(String),
    /// The list, in which single elements may have been reported as wrong.
    List(Vec<Checked<Spanned<String>>>),
}

/// One `[[interface]]`.
#[derive(Debug, Clone)]
pub struct Interface {
    /// How messages call it: `interface "eth0"`.
    pub label: String,
    /// Where it begins.
    pub span: Range<usize>,
    /// `name`.
    pub name: Field<String>,
    /// `direction`.
    pub direction: Field<String>,
    /// `order`.
    pub order: Field<String>,
    /// `learn`.
    pub learn: Field<bool>,
}

/// One `[endpoint.NAME]`.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// How messages call it: `endpoint "ids"`.
    pub label: String,
    /// Where it begins.
    pub span: Range<usize>,
    /// `NAME`.
    pub name: Spanned<String>,
    /// `address`.
    pub address: Field<String>,
    /// `port`.
    pub port: Field<i128>,
    /// `interface`.
    pub interface: Field<String>,
    /// `oversize`.
    pub oversize: Field<String>,
    /// `snap`.
    pub snap: Field<i128>,
    /// `limit`.
    pub limit: Field<String>,
    /// `sample`.
    pub sample: Field<String>,
    /// `mtu`.
    pub mtu: Field<i128>,
    /// `checksum`.
    pub checksum: Field<bool>,
    /// `ipsec`.
    pub ipsec: Field<String>,
    /// `backlog`.
    pub backlog: Field<String>,
}

/// One `[[filter]]`.
#[derive(Debug, Clone)]
pub struct Filter {
    /// How messages call it: `filter "web"`.
    pub label: String,
    /// Where it begins.
    pub span: Range<usize>,
    /// `name`.
    pub name: Field<String>,
    /// `enabled`.
    pub enabled: Field<bool>,
    /// `action`.
    pub action: Field<String>,
    /// `protocol`.
    pub protocol: List<Item>,
    /// `source`.
    pub source: List<String>,
    /// `source_port`.
    pub source_port: List<Item>,
    /// `destination`.
    pub destination: List<String>,
    /// `destination_port`.
    pub destination_port: List<Item>,
    /// `vlan`.
    pub vlan: List<Item>,
    /// `server_name`.
    pub server_name: List<String>,
    /// `application`.
    pub application: List<String>,
    /// `undecided`.
    pub undecided: Field<String>,
    /// `bidirectional`.
    pub bidirectional: Field<bool>,
    /// `interface`.
    pub interface: List<String>,
    /// `direction`.
    pub direction: Field<String>,
    /// `to`.
    pub to: List<String>,
}

/// An element of a list that takes numbers and names, such as `[6, "udp"]` or `[443, "8000-8100"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An integer; one that is too large is held at the end of the type.
    Number(i128),
    /// A string.
    Text(String),
}

impl Config {
    /// Reads the shape of the file. Never fails: what is wrong is kept for
    /// [`Desired::resolve`](crate::desired::Desired::resolve) to report together with its own
    /// findings.
    pub fn parse(text: &str) -> Self {
        let mut diagnostics = Diagnostics::default();
        let root = syntax::parse(text, &mut diagnostics);
        let mut config = match &root {
            Ok(root) => Reader {
                text,
                diagnostics: &mut diagnostics,
            }
            .config(root),
            Err(reported) => Config::incomplete(*reported),
        };
        config.diagnostics = diagnostics;
        config
    }

    fn incomplete(reported: Reported) -> Self {
        Self {
            enabled: Some(Err(reported)),
            unparsed: Some(Err(reported)),
            budget: Some(Err(reported)),
            peers: Some(Err(reported)),
            seed: Some(Err(reported)),
            metrics: Err(reported),
            interfaces: Err(reported),
            endpoints: Err(reported),
            filters: Vec::new(),
            diagnostics: Diagnostics::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_is_always_an_error() {
        for text in [
            "[interface]\n[interface]",
            "[[interface]]\n[interface]",
            "[filter]\n[[filter]]",
            "[endpoint]\n[endpoint]",
            "[endpoint.a]\n[endpoint.a]",
            "[endpoint.a]\n[[endpoint.a]]",
            "enabled = true\nenabled = true",
            "endpoint.a.port = 1\nendpoint.a.port = 1",
            "endpoint = { a = { port = 1, port = 1 } }",
        ] {
            assert!(!Config::parse(text).diagnostics.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_misspelt_key_is_not_missing() {
        let config = Config::parse("[endpoints.a]\n[[filter]]\nacton = \"exclude\"");
        assert!(config.endpoints.is_err());
        assert!(matches!(config.filters[0].action, Some(Err(_))));
        assert!(config.filters[0].name.is_none());
    }
}
