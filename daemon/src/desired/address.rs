//! Networks of filters and addresses of endpoints.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use traffic_mirror_resolver::Name;

use super::cidr::with_prefix;
use super::dns_name::{self, Place};
use super::field::is_any;
use super::problem::Problem;
use super::protocol::Families;
use super::{Hosts, repair};
use crate::diagnostic::{Code, Remedy};

/// Why a text is rejected.
const NO_NETWORK: &str = "which is not an address or network";

/// An address, or a network in CIDR notation.
pub(super) fn network(text: &str) -> Result<IpNet, Problem> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(Problem::new(
            Code::BadNetwork,
            NO_NETWORK,
            repair::network(text),
        ));
    };
    let network = match prefix {
        Some(prefix) => with_prefix(address, prefix)?,
        None => IpNet::from(address),
    };
    if network != network.trunc() {
        return Err(Problem::new(
            Code::HostBitsSet,
            format!(
                "which has bits set beyond its prefix of /{}",
                network.prefix_len()
            ),
            format!(
                "write \"{}\", or \"{address}\" for the one host",
                network.trunc()
            ),
        ));
    }
    match mapped(network) {
        Some(mapped) => Err(Problem::new(
            Code::BadNetwork,
            "which is IPv4 in IPv6 notation and appears in no packet",
            Remedy::write_string(mapped),
        )),
        None => Ok(network),
    }
}

/// An element of `source` or `destination`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Network(IpNet),
    Name(Name),
}

/// An address, a network in CIDR notation, or a DNS name.
pub(super) fn host(text: &str, place: Place) -> Result<Host, Problem> {
    match named(text, place, repair::meant(text).is_some()) {
        Some(name) => name.map(Host::Name),
        None => network(text).map(Host::Network).map_err(no_host),
    }
}

/// Says that a name could stand there, too.
fn no_host(problem: Problem) -> Problem {
    match &*problem.cause {
        NO_NETWORK => Problem {
            cause: "which is not an address, network or DNS name".into(),
            ..problem
        },
        _ => problem,
    }
}

/// The name that a text is, unless it is an address or was meant as one.
fn named(text: &str, place: Place, is_repaired: bool) -> Option<Result<Name, Problem>> {
    let is_url = text.contains("://");
    let is_address = text.contains('/') || text.parse::<IpAddr>().is_ok() || is_repaired;
    (is_url || !is_address && !is_any(text))
        .then(|| dns_name::read(text, place))
        .flatten()
}

/// Sorted, each once, without the networks that lie in another one.
pub(super) fn hosts(all: Vec<Host>) -> Hosts {
    let (mut networks, mut names) = (Vec::new(), Vec::new());
    for one in all {
        match one {
            Host::Network(network) => networks.push(network),
            Host::Name(name) => names.push(name),
        }
    }
    names.sort_unstable();
    names.dedup();
    Hosts {
        networks: normalized(networks),
        names,
    }
}

/// The IPv4 network inside `::ffff:0:0/96`.
fn mapped(network: IpNet) -> Option<Ipv4Net> {
    const MAPPED_PREFIX_BITS: u8 = 96;
    let IpNet::V6(network) = network else {
        return None;
    };
    let length = network.prefix_len().checked_sub(MAPPED_PREFIX_BITS)?;
    Ipv4Net::new(network.addr().to_ipv4_mapped()?, length).ok()
}

/// The address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Address(IpAddr),
    Name(Name),
}

/// The address of an endpoint, or its DNS name. `has_interface`: the endpoint has an `interface`.
pub(super) fn target(text: &str, has_interface: bool) -> Result<Target, Problem> {
    match named(text, Place::Endpoint, repair::is_address(text)) {
        Some(name) => name.map(Target::Name),
        None => endpoint(text, has_interface).map(Target::Address),
    }
}

/// The address of an endpoint, if clones can be sent there.
fn endpoint(text: &str, has_interface: bool) -> Result<IpAddr, Problem> {
    let bad = |cause: &str, help: Remedy| Err(Problem::new(Code::BadAddress, cause, help));
    let Ok(address) = text.parse::<IpAddr>() else {
        return bad(
            "which is neither an IP address nor a DNS name",
            repair::endpoint(text, has_interface),
        );
    };
    let collector = Remedy::from("write the address of the collector");
    if address.is_unspecified() {
        return bad("which is the address of no host", collector);
    }
    if address.is_loopback() {
        return bad("which is this host, but clones must leave it", collector);
    }
    if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return bad("which is not the address of one host", collector);
    }
    match mapped(IpNet::from(address)) {
        Some(mapped) => bad(
            "which is IPv4 in IPv6 notation",
            Remedy::write_string(mapped.addr()),
        ),
        None => Ok(address),
    }
}

/// The versions of IP that the hosts have; addresses of a name may be of both.
pub(super) fn families(Hosts { networks, names }: &Hosts) -> Families {
    if !names.is_empty() {
        return Families::V4.or(Families::V6);
    }
    let each = networks.iter().map(|network| match network {
        IpNet::V4(_) => Families::V4,
        IpNet::V6(_) => Families::V6,
    });
    each.fold(Families::NONE, Families::or)
}

/// Sorted, without the networks that lie in another one.
pub(super) fn normalized(mut networks: Vec<IpNet>) -> Vec<IpNet> {
    // a network sorts before those that it contains
    networks.sort_unstable();
    networks.dedup_by(|next, kept| kept.contains(&*next));
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(text: &str) -> (Code, String) {
        let problem = network(text).unwrap_err();
        (problem.code, problem.help.to_string())
    }

    #[test]
    fn networks() {
        for good in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "::/0",
            "2001:db8::/32",
            "::ffff:0:0/95",
        ] {
            let expected = good != "::ffff:0:0/95";
            assert_eq!(network(good).is_ok(), expected, "{good}");
        }
        assert_eq!(
            network("198.51.100.7").unwrap().to_string(),
            "198.51.100.7/32"
        );
        assert_eq!(network("2001:db8::7").unwrap().prefix_len(), 128);
    }

    use crate::desired::cidr::EXAMPLES;

    #[test]
    fn a_wrong_network_is_told_what_to_write() {
        let write = |text: &str| format!("write \"{text}\"");
        assert_eq!(help("10.0.0/8"), (Code::BadNetwork, write("10.0.0.0/8")));
        assert_eq!(help(" 10.0.0.0/8"), (Code::BadNetwork, write("10.0.0.0/8")));
        assert_eq!(
            help("[2001:db8::1]"),
            (Code::BadNetwork, write("2001:db8::1"))
        );
        assert_eq!(help("fe80::1%eth0"), (Code::BadNetwork, write("fe80::1")));
        assert_eq!(
            help("::ffff:10.0.0.0/104"),
            (Code::BadNetwork, write("10.0.0.0/8"))
        );
        assert!(
            help("example.com")
                .1
                .contains("\"getent hosts example.com\" prints")
        );
        for (given, wanted) in [
            ("198.51.100.007", "\"198.51.100.7\""),
            ("010.0.0.0/08", "\"10.0.0.0/8\""),
            ("10.1.*.*", "\"10.1.0.0/16\""),
            (
                "10.0.0.1-10.0.0.4",
                "\"10.0.0.1\", \"10.0.0.2/31\", \"10.0.0.4\"",
            ),
            ("10.0.0.4 - 10.0.0.7", "\"10.0.0.4/30\""),
            ("10.0.0.4-7", "\"10.0.0.4/30\""),
            ("2001:db8::-2001:db8::1", "\"2001:db8::/127\""),
            ("10.0.0.1, 10.1.0.0/16", "\"10.0.0.1\", \"10.1.0.0/16\""),
        ] {
            assert_eq!(help(given).1, format!("write {wanted}"), "{given}");
        }
        assert_eq!(
            help("!198.51.100.7").1,
            "put \"198.51.100.7\" in a filter with action = \"exclude\""
        );
        assert_eq!(help("10.0.0.9-10.0.0.1").1, EXAMPLES);
        assert_eq!(help("10.0.0.1-2001:db8::").1, EXAMPLES);
        assert!(help("::1-ffff::").1.starts_with("write networks "));
        assert_eq!(help(""), (Code::BadNetwork, EXAMPLES.to_owned()));
        assert_eq!(
            help("10.0.0.0/255.0.0.0"),
            (Code::BadPrefix, write("10.0.0.0/8"))
        );
        assert_eq!(help("10.0.0.0/08"), (Code::BadPrefix, write("10.0.0.0/8")));
        assert_eq!(help("10.0.0.0/").0, Code::BadPrefix);
        assert_eq!(help("10.0.0.0/33").0, Code::BadPrefix);
        assert_eq!(help("::/129").0, Code::BadPrefix);
        assert_eq!(
            help("10.1.2.3/8"),
            (
                Code::HostBitsSet,
                "write \"10.0.0.0/8\", or \"10.1.2.3\" for the one host".to_owned()
            )
        );
    }

    #[test]
    fn endpoint_addresses() {
        assert!(endpoint("192.0.2.10", false).is_ok());
        assert!(endpoint("2001:db8::10", false).is_ok());
        for bad in [
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:192.0.2.1",
            "",
        ] {
            assert_eq!(
                endpoint(bad, false).unwrap_err().code,
                Code::BadAddress,
                "{bad}"
            );
        }
        let help = |text| endpoint(text, false).unwrap_err().help;
        assert_eq!(
            help("192.0.2.10:6080"),
            "write address = \"192.0.2.10\" and port = 6080"
        );
        assert_eq!(help("192.0.2.10/32"), "write \"192.0.2.10\"");
        assert_eq!(help("192.0.2.10 "), "write \"192.0.2.10\"");
        assert_eq!(help("192.0.2.010"), "write \"192.0.2.10\"");
        assert_eq!(
            help("fe80::1%eth0"),
            "write address = \"fe80::1\" and interface = \"eth0\""
        );
        let with_interface = endpoint("fe80::1%eth0", true).unwrap_err().help;
        assert_eq!(with_interface, "write \"fe80::1\"");
        assert_eq!(help("2001:db8::1%eth0"), "write \"2001:db8::1\"");
    }

    #[test]
    fn names_stand_where_addresses_do() {
        let is_name = |text: &str| matches!(host(text, Place::Source), Ok(Host::Name(_)));
        for name in ["api.example.com.", "db", "1.example.com"] {
            assert!(is_name(name), "{name}");
            assert!(matches!(target(name, false), Ok(Target::Name(_))), "{name}");
        }
        // what was meant as an address is not resolved
        for wrong in [
            "any",
            "10.0.0.4-7",
            "198.51.100.007",
            "10.1.*.*",
            "10.1/16",
            "1.2.3.400",
        ] {
            assert!(host(wrong, Place::Source).is_err(), "{wrong}");
        }
        for wrong in [
            "192.0.2.010",
            "192.0.2.10/32",
            "192.0.2.10:6080",
            "1.2.3.400",
        ] {
            assert!(target(wrong, false).is_err(), "{wrong}");
        }
        let all = ["b.example", "10.0.0.1", "B.example", "a.example"];
        let all = hosts(all.map(|text| host(text, Place::Source).unwrap()).to_vec());
        assert_eq!(all.names.len(), 2);
        assert!(families(&all).meets(Families::V6));
    }

    #[test]
    fn normalized_networks() {
        let networks = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| network(text).unwrap())
                .collect::<Vec<_>>()
        };
        let given = networks(&[
            "2001:db8::/32",
            "10.1.0.0/16",
            "10.0.0.0/8",
            "10.0.0.0/8",
            "9.0.0.0/8",
            "2001:db8::1",
        ]);
        assert_eq!(
            normalized(given),
            networks(&["9.0.0.0/8", "10.0.0.0/8", "2001:db8::/32"])
        );
        assert_eq!(
            normalized(networks(&["10.0.0.1", "::/0", "0.0.0.0/0"])),
            networks(&["0.0.0.0/0", "::/0"])
        );
    }
}
