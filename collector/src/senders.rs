//! Whose datagrams are unwrapped: anybody can send one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The networks of hosts that mirror.
#[derive(Debug, Clone, Default)]
pub(crate) struct Senders(Vec<IpNet>);

impl Senders {
    /// Those that the arguments name; none for an empty list.
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether datagrams from an address are unwrapped.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        // an IPv4 sender at a socket for both
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// All addresses of both families.
const ANY: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// IPv4 networks that are written as IPv6: senders are compared in their own family.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else {
        return network;
    };
    let four = six.prefix_len().checked_sub(96).and_then(|length| {
        let address = six.addr().to_ipv4_mapped()?;
        Ipv4Net::new(address, length).ok()
    });
    four.map_or(network, IpNet::V4)
}

/// Networks and addresses, or `any`.
///
/// # Errors
/// It is none of them: a sentence.
pub(crate) fn parse(text: &str) -> Result<Vec<IpNet>, String> {
    if text == "any" {
        return Ok(ANY.to_vec());
    }
    let parsed = text.split(',').map(|one| {
        let network = one.parse::<IpNet>();
        network
            .or_else(|_| one.parse::<IpAddr>().map(IpNet::from))
            .map(canonical)
    });
    let networks: Result<Vec<_>, _> = parsed.collect();
    networks.map_err(|_| {
        "write addresses and networks such as 192.0.2.1,192.0.2.64/26, or any".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allow_list_lets_pass_what_it_has() {
        let senders = Senders::new(parse("192.0.2.1,2001:db8::/32").unwrap());
        for (address, is_in) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(senders.has(address.parse().unwrap()), is_in, "{address}");
        }
    }

    #[test]
    fn any_is_all_of_both_families_whatever_else_is_named() {
        let senders = Senders::new([parse("any").unwrap(), parse("192.0.2.1").unwrap()].concat());
        for address in ["203.0.113.9", "2001:db8::1", "::ffff:203.0.113.9"] {
            assert!(senders.has(address.parse().unwrap()), "{address}");
        }
        assert!(!Senders::new(Vec::new()).has("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn ipv4_that_is_written_as_ipv6_is_ipv4() {
        for (text, address, is_in) in [
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.3.9", false),
            ("::ffff:192.0.2.0/120", "::ffff:192.0.2.9", true),
        ] {
            let senders = Senders::new(parse(text).unwrap());
            assert_eq!(senders.has(address.parse().unwrap()), is_in, "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_an_error() {
        for wrong in ["", "host", "192.0.2.1/33", "192.0.2.1,", "any,192.0.2.1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
