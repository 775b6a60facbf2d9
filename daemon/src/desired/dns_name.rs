//! Input: a text that is no address. Output: the DNS name that it is, or what to write in place of
//! it.

use std::net::IpAddr;

use traffic_mirror_resolver::{Name, NameError};

use super::problem::Problem;
use crate::diagnostic::{Code, Remedy};

/// Where the name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `source` of a filter.
    Source,
    /// `destination` of a filter.
    Destination,
    /// `address` of an endpoint.
    Endpoint,
}

impl Place {
    fn code(self) -> Code {
        match self {
            Self::Source | Self::Destination => Code::BadNetwork,
            Self::Endpoint => Code::BadAddress,
        }
    }

    /// What a port beside a name is in the file.
    fn port(self, port: &str) -> String {
        match self {
            Self::Source => format!("the port goes into source_port = [{port}]"),
            Self::Destination => format!("the port goes into destination_port = [{port}]"),
            Self::Endpoint => format!("the port goes into port = {port}"),
        }
    }
}

/// The name that a text is. `None` if it does not look like one, so that an address was meant.
pub(super) fn read(text: &str, place: Place) -> Option<Result<Name, Problem>> {
    let problem = |cause: &str, help: Remedy| Problem::new(place.code(), cause, help);
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let help = match written(host) {
            Some(host) => Remedy::write_string(host),
            None => "write the name or the address of the host alone".into(),
        };
        return Some(Err(problem("which is a URL", help)));
    }
    if let Some((host, port)) = text.split_once(':')
        && port.parse::<u16>().is_ok()
        && let Ok(name) = Name::parse(host)
    {
        let problem = problem("which has a port", Remedy::write_string(name));
        let note = Some(place.port(port));
        return Some(Err(Problem { note, ..problem }));
    }
    match Name::parse(text) {
        Ok(name) => Some(Ok(name)),
        Err(NameError::Wildcard) => Some(Err(problem(
            "but DNS cannot list the names below another one",
            wildcard(text, place),
        ))),
        Err(NameError::NotAscii) if text.chars().all(is_international) => {
            let help = "write it as DNS has it, with labels that begin with \"xn--\" (\"idn2 NAME\" prints that)";
            Some(Err(problem("which is not ASCII", help.into())))
        }
        Err(error @ (NameError::TooLong | NameError::LongLabel | NameError::EmptyLabel))
            if is_meant_as_name(text) =>
        {
            let cause = format!("which {error}");
            let help = "write a name such as \"www.example.com\"";
            Some(Err(problem(&cause, help.into())))
        }
        Err(_) => None,
    }
}

/// A name or an address, as it is written alone.
fn written(host: &str) -> Option<String> {
    let name = Name::parse(host).map(|name| name.to_string());
    let address = || host.parse::<IpAddr>().map(|address| address.to_string());
    name.ok().or_else(|| address().ok())
}

fn wildcard(text: &str, place: Place) -> Remedy {
    let below = text
        .strip_prefix("*.")
        .filter(|rest| Name::parse(rest).is_ok());
    match (place, below) {
        (Place::Endpoint, _) => "write the name of the collector".into(),
        (_, Some(_)) => format!(
            "write each name, or give the filter server_name = [{:?}], which clients of TLS and \
             HTTP send",
            text.to_ascii_lowercase()
        )
        .into(),
        (_, None) => "write each name, or use server_name".into(),
    }
}

fn is_international(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn is_meant_as_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    text.chars().all(is_part) && text.contains(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(text: &str, place: Place) -> (String, Option<String>) {
        let problem = read(text, place).unwrap().unwrap_err();
        assert_eq!(problem.code, place.code());
        (problem.help.to_string(), problem.note)
    }

    #[test]
    fn names_have_one_spelling() {
        for (text, name) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.com.", "api.example.com"),
            ("collector", "collector"),
            ("_x.xn--bcher-kva.example", "_x.xn--bcher-kva.example"),
        ] {
            let read = read(text, Place::Source).unwrap().unwrap();
            assert_eq!(read.as_str(), name);
        }
    }

    #[test]
    fn the_remedy_is_right_at_once() {
        for (text, remedy) in [
            ("https://api.example.com/v1?x", "write \"api.example.com\""),
            (
                "http://me@api.example.com:8080",
                "write \"api.example.com\"",
            ),
            ("https://192.0.2.1/", "write \"192.0.2.1\""),
            ("api.example.com:443", "write \"api.example.com\""),
        ] {
            for place in [Place::Source, Place::Destination, Place::Endpoint] {
                assert_eq!(help(text, place).0, remedy, "{text}");
            }
        }
        let note = |place| help("api.example.com:443", place).1.unwrap();
        assert!(note(Place::Source).ends_with("source_port = [443]"));
        assert!(note(Place::Destination).ends_with("destination_port = [443]"));
        assert!(note(Place::Endpoint).ends_with("port = 443"));
        let of_wildcard = |place| help("*.Example.com", place).0;
        assert!(of_wildcard(Place::Source).contains("server_name = [\"*.example.com\"]"));
        assert!(!of_wildcard(Place::Endpoint).contains("server_name"));
        assert!(help("bücher.example", Place::Source).0.contains("xn--"));
        for wrong in ["a..example", &format!("{}.example", "a".repeat(64))] {
            assert!(help(wrong, Place::Source).0.contains("www.example.com"));
        }
    }

    #[test]
    fn what_is_meant_as_an_address_is_none() {
        for text in [
            "198.51.100.300",
            "",
            "1.2.3",
            "10.0.0.1-10.0.0.4",
            "a b",
            "10.0.0.0/8",
        ] {
            assert!(read(text, Place::Source).is_none(), "{text}");
        }
    }
}
