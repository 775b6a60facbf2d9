//! Input: a text that is no address or network. Output: what was probably meant by it.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

use super::cidr::{self, EXAMPLES};
use crate::diagnostic::{Remedy, quoted};

/// What to write in place of a text that is not a network.
pub(super) fn network(text: &str) -> Remedy {
    meant(text)
        .or_else(|| resolved(text))
        .unwrap_or(EXAMPLES.into())
}

/// The networks that a text was meant as.
pub(super) fn meant(text: &str) -> Option<Remedy> {
    if let Some(address) = text.trim().strip_prefix('!').map(str::trim) {
        let meant = one(address).or_else(|| valid(address))?;
        return Some(format!("put {meant:?} in a filter with action = \"exclude\"").into());
    }
    if let Some(meant) = one(text) {
        return Some(Remedy::write_string(meant));
    }
    match range(text) {
        Some(networks) if networks.len() <= MOST_NETWORKS => Some(Remedy::write(listed(&networks))),
        Some(_) => Some("write networks that cover the range, such as \"2001:db8::/32\"".into()),
        None => several(text).map(Remedy::write),
    }
}

/// Whether a text was meant as one address.
pub(super) fn is_address(text: &str) -> bool {
    let bare = text.split('/').next().unwrap_or(text);
    text.parse::<SocketAddr>().is_ok() || one(bare).or_else(|| valid(bare)).is_some()
}

/// What to write in place of a text that is not the address of an endpoint.
pub(super) fn endpoint(text: &str, has_interface: bool) -> Remedy {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        let (address, port) = (socket.ip(), socket.port());
        return format!("write address = \"{address}\" and port = {port}").into();
    }
    let bare = text.split('/').next().unwrap_or(text);
    let Some(address) = one(bare).or_else(|| valid(bare)) else {
        return "write an address such as \"192.0.2.10\", or a name such as \"ids.example.com\""
            .into();
    };
    let needs_interface = |address: &IpAddr| !has_interface && cidr::is_link_local(*address);
    let zone = text.split_once('%').map(|(_, zone)| zone);
    match (zone, address.parse().as_ref().is_ok_and(needs_interface)) {
        // a number is an index, which may be another interface's after a reboot
        (Some(zone), true) if !zone.is_empty() && zone.parse::<u32>().is_err() => {
            format!("write address = {address:?} and interface = {zone:?}").into()
        }
        _ => Remedy::write_string(address),
    }
}

/// Networks that a range is made of at most, for which they are listed.
const MOST_NETWORKS: usize = 64;

/// A network that is written as it must be.
fn exact(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| address()).ok()?;
    (network == network.trunc()).then_some(network)
}

/// Itself, if it is right.
fn valid(text: &str) -> Option<String> {
    exact(text).as_ref().map(shown)
}

/// The network that was probably meant, if it is another text.
fn one(text: &str) -> Option<String> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let without_zone = address.split('%').next().unwrap_or(address);
    let bare = without_zone
        .trim()
        .trim_start_matches('[')
        .trim_end_matches(']');
    if bare.is_empty() {
        return None;
    }
    if let Some(network) = wildcard(bare).filter(|_| prefix.is_empty()) {
        return Some(network);
    }
    let bare = without_zeros(bare);
    let mut padded = (0..3).map(|zeros| format!("{bare}{}", ".0".repeat(zeros)));
    let address = padded.find_map(|text| text.parse::<IpAddr>().ok())?;
    let repaired = match prefix.trim().trim_start_matches('0') {
        "" if prefix.trim().is_empty() => address.to_string(),
        prefix => cidr::with_prefix(address, prefix).ok()?.trunc().to_string(),
    };
    (repaired != text).then_some(repaired)
}

/// An IPv4 address whose numbers begin with zeros: those are decimal wherever addresses have them.
fn without_zeros(text: &str) -> String {
    let is_decimal = |c: char| c.is_ascii_digit() || c == '.';
    if !text.chars().all(is_decimal) {
        return text.to_owned();
    }
    let numbers = text
        .split('.')
        .map(|number| match number.trim_start_matches('0') {
            "" if !number.is_empty() => "0",
            number => number,
        });
    numbers.collect::<Vec<_>>().join(".")
}

/// A network whose last bytes are stars: 10.1.*.*.
fn wildcard(text: &str) -> Option<String> {
    const BYTES: usize = 4;
    let fixed = text.trim_end_matches(".*");
    let bytes: Vec<u8> = fixed
        .split('.')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let is_wildcard = fixed.len() < text.len() && bytes.len() < BYTES;
    let zeros = ".0".repeat(BYTES.checked_sub(bytes.len())?);
    is_wildcard.then(|| format!("{fixed}{zeros}/{}", 8 * bytes.len()))
}

/// The networks that a range of addresses is made of: 10.0.0.1-10.0.0.9, or 10.0.0.1-9.
fn range(text: &str) -> Option<Vec<IpNet>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    let begin: IpAddr = without_zeros(first).parse().ok()?;
    let end: IpAddr = match (begin, last.parse::<u8>()) {
        (IpAddr::V4(begin), Ok(last)) => {
            let [a, b, c, _] = begin.octets();
            IpAddr::from([a, b, c, last])
        }
        _ => without_zeros(last).parse().ok()?,
    };
    let subnets = match (begin, end) {
        (IpAddr::V4(begin), IpAddr::V4(end)) if begin <= end => {
            IpSubnets::V4(Ipv4Subnets::new(begin, end, 0))
        }
        (IpAddr::V6(begin), IpAddr::V6(end)) if begin <= end => {
            IpSubnets::V6(Ipv6Subnets::new(begin, end, 0))
        }
        _ => return None,
    };
    Some(subnets.collect())
}

/// Several networks in one string.
fn several(text: &str) -> Option<String> {
    let parts = text.split([',', ' ', ';']).filter(|part| !part.is_empty());
    let networks: Vec<IpNet> = parts.map(exact).collect::<Option<_>>()?;
    (networks.len() > 1).then(|| listed(&networks))
}

/// The remedy for the name of a host where there can be none.
fn resolved(text: &str) -> Option<Remedy> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_name = text.contains(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 253
        && !text.starts_with('-')
        && text.chars().all(is_part);
    is_name.then(|| {
        let help = "prints; names cannot stand here";
        format!("write the address that \"getent hosts {text}\" {help}").into()
    })
}

fn listed(networks: &[IpNet]) -> String {
    let each = networks.iter().map(|network| quoted(&shown(network)));
    each.collect::<Vec<_>>().join(", ")
}

/// One host without its prefix length.
fn shown(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}
