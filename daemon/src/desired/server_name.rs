//! Names of servers, as clients give them in TLS and HTTP.

use std::net::IpAddr;

use traffic_mirror_ebpf::abi::SERVER_NAME_BYTES;

use super::problem::Problem;
use crate::diagnostic::{Code, Remedy};

/// Longest name in the DNS, bytes (RFC 1035 section 2.3.4), and longest label of it.
const MAX_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;
/// What begins a wildcard: all names below one.
const BELOW: &str = "*.";

/// One element of `server_name`: a name, or `*.` and a name for all below it. Letters become small,
/// and a dot at the end goes.
pub(super) fn server_name(text: &str) -> Result<String, Problem> {
    if let Some(remedy) = other(text) {
        return Err(remedy);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let bare = name.strip_prefix(BELOW).unwrap_or(&name);
    let bad = |cause: String, help: Remedy| Err(Problem::new(Code::BadServerName, cause, help));
    if bare.contains('*') {
        return bad(
            "but a star stands for whole labels at the beginning alone".to_owned(),
            match bare.rsplit_once('*') {
                Some((_, rest)) if is_name(rest.trim_start_matches('.')) => {
                    Remedy::write_string(format!("{BELOW}{}", rest.trim_start_matches('.')))
                }
                _ => Remedy::from(
                    "write a name such as \"www.example.com\", or \"*.example.com\" for all below example.com",
                ),
            },
        );
    }
    if let Some(character) = bare.chars().find(|c| !is_allowed(*c)) {
        let help = if character.is_ascii() {
            Remedy::from(
                "write a name such as \"www.example.com\", or \"*.example.com\" for all below example.com",
            )
        } else {
            Remedy::from(
                "write the name as it is on the wire, with labels that begin with \"xn--\" (RFC 5891)",
            )
        };
        return bad(format!("but no name has {character:?}"), help);
    }
    if bare.len() > MAX_BYTES {
        return bad(
            format!(
                "but a name has at most {MAX_BYTES} bytes, and this has {}",
                bare.len()
            ),
            Remedy::from("write a name that the DNS can have"),
        );
    }
    if !is_name(bare) {
        return bad(
            format!("but a label of a name has 1 to {MAX_LABEL_BYTES} bytes"),
            Remedy::from(
                "write a name such as \"www.example.com\", or \"*.example.com\" for all below example.com",
            ),
        );
    }
    Ok(name)
}

const _: () = assert!(MAX_BYTES + BELOW.len() <= SERVER_NAME_BYTES);

/// What is meant by something that is no name.
fn other(text: &str) -> Option<Problem> {
    let problem = |cause: &str, help: Remedy| Some(Problem::new(Code::BadServerName, cause, help));
    if text == "*" {
        return problem(
            "which is every name",
            Remedy::from("leave the line out to match any"),
        );
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let help = match is_name(host) {
            true => Remedy::write_string(host.to_ascii_lowercase()),
            false => Remedy::from("write the name of the server alone"),
        };
        return problem("which is a URL, but must be the name of a server", help);
    }
    let bare = text
        .trim_start_matches('[')
        .split_once(']')
        .map_or(text, |(address, _)| address);
    if bare.trim_start_matches('[').parse::<IpAddr>().is_ok() {
        return problem(
            "which is an address, and clients give no name for it",
            Remedy::from("write it as destination"),
        );
    }
    if let Some((host, port)) = text.split_once(':')
        && is_name(host)
        && port.parse::<u16>().is_ok()
    {
        return Some(Problem {
            note: Some(format!("the port goes into destination_port = [{port}]")),
            ..Problem::new(
                Code::BadServerName,
                "which has a port",
                Remedy::write_string(host.to_ascii_lowercase()),
            )
        });
    }
    if let Some(rest) = text.strip_prefix('.').filter(|rest| is_name(rest)) {
        return problem(
            "which begins with a dot",
            Remedy::write_string(format!("{BELOW}{}", rest.to_ascii_lowercase())),
        );
    }
    None
}

/// Host names, and what is found in their place: underscores are common.
fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn is_name(text: &str) -> bool {
    text.chars().all(is_allowed)
        && text
            .split('.')
            .all(|label| (1..=MAX_LABEL_BYTES).contains(&label.len()))
}

/// Sorted, without duplicates.
pub(super) fn normalized(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(text: &str) -> String {
        let problem = server_name(text).unwrap_err();
        assert_eq!(problem.code, Code::BadServerName, "{text}");
        problem.help.to_string()
    }

    #[test]
    fn names_and_wildcards() {
        for (text, name) in [
            ("example.com", "example.com"),
            ("WWW.Example.COM.", "www.example.com"),
            ("*.example.com", "*.example.com"),
            ("localhost", "localhost"),
            (
                "_dmarc.xn--bcher-kva.example",
                "_dmarc.xn--bcher-kva.example",
            ),
        ] {
            assert_eq!(server_name(text).unwrap(), name);
        }
        let longest = format!(
            "*.{}.{}",
            "a".repeat(63),
            ["b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".")
        );
        assert_eq!(server_name(&longest).unwrap(), longest);
        assert!(server_name(&format!("{longest}e")).is_err());
    }

    #[test]
    fn the_remedy_is_right_at_once() {
        for (text, remedy) in [
            ("https://Example.com:8443/a?b", "write \"example.com\""),
            ("example.com:443", "write \"example.com\""),
            (".example.com", "write \"*.example.com\""),
            ("www.*.example.com", "write \"*.example.com\""),
            ("*example.com", "write \"*.example.com\""),
            ("*", "leave the line out to match any"),
            ("192.0.2.1", "write it as destination"),
            ("[2001:db8::1]", "write it as destination"),
        ] {
            assert_eq!(help(text), remedy, "{text}");
        }
        assert!(help("bücher.example").contains("xn--"));
        for wrong in ["", ".", "a..b", "a b", "*.", "*.*.a", &"a".repeat(64)] {
            assert!(!help(wrong).is_empty());
        }
    }
}
