//! Input: the meaning of a file with DNS names, and the addresses of these names. Output: the same
//! with addresses. Must not know where the addresses come from, nor the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use traffic_mirror_resolver::{Name, Names};

use super::{Desired, Endpoint, Filter, address, cidr};

/// Addresses of endpoints by their names: what an endpoint has, it keeps as long as its DNS name
/// has it.
pub type Addresses = BTreeMap<String, IpAddr>;

impl Desired {
    /// The DNS names that the file has.
    pub fn dns_names(&self) -> BTreeSet<Name> {
        let of_filters = self
            .filters
            .iter()
            .flat_map(|filter| filter.source_name.iter().chain(&filter.destination_name));
        let of_endpoints = self
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.address_name.as_ref());
        of_filters.chain(of_endpoints).cloned().collect()
    }

    /// Whether it has any.
    pub fn has_dns_names(&self) -> bool {
        self.endpoints.iter().any(|one| one.address_name.is_some())
            || self.filters.iter().any(|filter| filter.has_dns_names())
    }

    /// The same with the addresses that the names have. `before` is what was resolved last: filters
    /// with the same addresses are shared with it.
    #[must_use]
    pub fn resolved(&self, names: &Names, before: Option<&Self>, kept: &Addresses) -> Self {
        if !self.has_dns_names() {
            return self.clone();
        }
        let filters = self.filters.iter();
        let endpoints = self.endpoints.iter();
        Self {
            filters: filters
                .map(|filter| match filter.has_dns_names() {
                    true => shared(filter.resolved(names), before),
                    false => Arc::clone(filter),
                })
                .collect(),
            endpoints: endpoints
                .map(|endpoint| endpoint.resolved(names, kept.get(&endpoint.name).copied()))
                .collect(),
            ..self.clone()
        }
    }

    /// The addresses that its endpoints have.
    pub fn addresses(&self) -> Addresses {
        let address = |endpoint: &Endpoint| Some((endpoint.name.clone(), endpoint.address?));
        self.endpoints.iter().filter_map(address).collect()
    }
}

/// The filter of before, if it is the same.
fn shared(filter: Filter, before: Option<&Desired>) -> Arc<Filter> {
    let same = before.and_then(|before| {
        let by_name = |one: &Arc<Filter>| one.name.cmp(&filter.name);
        let place = before.filters.binary_search_by(by_name).ok()?;
        Some(&before.filters[place])
    });
    match same.filter(|same| ***same == filter) {
        Some(same) => Arc::clone(same),
        None => Arc::new(filter),
    }
}

impl Filter {
    /// Whether sources or destinations are DNS names.
    pub fn has_dns_names(&self) -> bool {
        !self.source_name.is_empty() || !self.destination_name.is_empty()
    }

    /// Whether sources or destinations are DNS names alone, and none of them has an address: then
    /// no packet matches.
    pub fn lacks_address(&self) -> bool {
        self.source.is_empty() && !self.source_name.is_empty()
            || self.destination.is_empty() && !self.destination_name.is_empty()
    }

    fn resolved(&self, names: &Names) -> Self {
        Self {
            source: with_addresses(&self.source, &self.source_name, names),
            destination: with_addresses(&self.destination, &self.destination_name, names),
            ..self.clone()
        }
    }
}

fn with_addresses(networks: &[IpNet], of: &[Name], names: &Names) -> Vec<IpNet> {
    let addresses = of.iter().flat_map(|name| names.addresses_of(name));
    let addresses = addresses.map(|(address, _)| IpNet::from(address));
    address::normalized(networks.iter().copied().chain(addresses).collect())
}

impl Endpoint {
    /// Its address or DNS name, as the file has it.
    pub fn host(&self) -> String {
        match (&self.address_name, self.address) {
            (Some(name), Some(address)) => format!("{name}, {address}"),
            (Some(name), None) => name.to_string(),
            (None, Some(address)) => address.to_string(),
            // the file gives one of the two
            (None, None) => String::new(),
        }
    }

    fn resolved(&self, names: &Names, kept: Option<IpAddr>) -> Self {
        let Some(name) = &self.address_name else {
            return self.clone();
        };
        let has_interface = self.interface.is_some();
        // as in the file, a loopback address is none that copies can be sent to
        let usable = |address: &IpAddr| {
            !address.is_loopback() && (has_interface || !cidr::is_link_local(*address))
        };
        let known = names.addresses_of(name).map(|(address, _)| address);
        Self {
            address: choose(known.filter(usable), kept),
            ..self.clone()
        }
    }
}

/// Of the addresses of a name that of an endpoint: the one that it has, else the first, IPv4 before
/// IPv6.
pub fn choose(known: impl Iterator<Item = IpAddr>, kept: Option<IpAddr>) -> Option<IpAddr> {
    let known: BTreeSet<IpAddr> = known.collect();
    let stays = kept.filter(|address| known.contains(address));
    stays.or_else(|| known.first().copied())
}

#[cfg(test)]
mod tests {
    use traffic_mirror_resolver::{Known, Times};

    use super::*;
    use crate::desired::load;

    const FILE: &str = "[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"ids.example\"\n\
        [[filter]]\nname = \"web\"\ndestination = [\"10.0.0.0/8\", \"a.example\"]\n\
        source = [\"b.example\"]\nto = [\"ids\"]\n[[filter]]\nname = \"all\"\nto = [\"ids\"]\n";

    fn names(all: &[(&str, &[&str])]) -> Names {
        let times = Times {
            answered: 0,
            until: 3600,
        };
        let known = |addresses: &[&str]| Known {
            addresses: (addresses.iter())
                .map(|text| (text.parse().unwrap(), times))
                .collect(),
            ..Known::default()
        };
        let all = all.iter();
        Names(
            all.map(|(name, addresses)| (Name::parse(name).unwrap(), known(addresses)))
                .collect(),
        )
    }

    fn file() -> Desired {
        load(FILE).unwrap().0
    }

    #[test]
    fn names_become_addresses() {
        let file = file();
        assert_eq!(file.dns_names().len(), 3);
        let resolved = file.resolved(&Names::default(), None, &Addresses::new());
        assert_eq!(resolved, file);
        assert!(resolved.filters[1].lacks_address() && !resolved.filters[0].lacks_address());
        let known = names(&[
            ("a.example", &["198.51.100.7", "2001:db8::7", "10.1.2.3"]),
            ("b.example", &["192.0.2.1"]),
            ("ids.example", &["192.0.2.11", "192.0.2.10"]),
        ]);
        let resolved = file.resolved(&known, None, &Addresses::new());
        let web = &resolved.filters[1];
        let shown: Vec<String> = web.destination.iter().map(IpNet::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "198.51.100.7/32", "2001:db8::7/128"]);
        assert!(!web.lacks_address());
        assert_eq!(resolved.endpoints[0].host(), "ids.example, 192.0.2.10");
    }

    #[test]
    fn what_stays_is_shared() {
        let (file, known) = (file(), names(&[("a.example", &["198.51.100.7"])]));
        let first = file.resolved(&known, None, &Addresses::new());
        let second = file.resolved(&known, Some(&first), &Addresses::new());
        for (before, now) in first.filters.iter().zip(&second.filters) {
            assert!(Arc::ptr_eq(before, now));
        }
    }

    #[test]
    fn an_endpoint_keeps_its_address() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = ["2001:db8::1", "192.0.2.9", "192.0.2.10"].map(address);
        let choose = |kept: Option<&str>| choose(all.into_iter(), kept.map(address));
        assert_eq!(choose(None), Some(address("192.0.2.9")));
        assert_eq!(choose(Some("2001:db8::1")), Some(address("2001:db8::1")));
        assert_eq!(choose(Some("192.0.2.99")), Some(address("192.0.2.9")));
        let local = names(&[("ids.example", &["127.0.0.1", "fe80::1"])]);
        let resolved = file().resolved(&local, None, &Addresses::new());
        assert_eq!(resolved.endpoints[0].address, None);
    }
}
