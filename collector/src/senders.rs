//! Whose datagrams are unwrapped: anybody can send one.

use std::net::IpAddr;

use ipnet::IpNet;

/// The networks of hosts that mirror.
#[derive(Debug, Clone, Default)]
pub(crate) struct Senders(Vec<IpNet>);

impl Senders {
    /// Those that the arguments name; all of them for an empty list.
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether datagrams from an address are unwrapped.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        // an IPv4 sender at a socket for both
        let address = address.to_canonical();
        self.0.is_empty() || self.0.iter().any(|network| network.contains(&address))
    }
}

/// A network, an address, or `any`.
///
/// # Errors
/// It is none of them: a sentence.
pub(crate) fn parse(text: &str) -> Result<Vec<IpNet>, String> {
    if text == "any" {
        return Ok(Vec::new());
    }
    let parsed = text.split(',').map(|one| {
        let network = one.parse::<IpNet>();
        network.or_else(|_| one.parse::<IpAddr>().map(IpNet::from))
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
        assert!(Senders::new(parse("any").unwrap()).has("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_an_error() {
        for wrong in ["", "host", "192.0.2.1/33", "192.0.2.1,", "any,192.0.2.1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
