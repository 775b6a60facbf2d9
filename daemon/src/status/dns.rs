//! Input: the status, the file that the daemon follows and the addresses of its DNS names. Output:
//! the status with these names: from which one an address came, and until when it stays. Pure.

use std::net::IpAddr;

use serde::Serialize;
use traffic_mirror_resolver::{Known, Name, Names};

use super::filter::NO_ADDRESS;
use super::{Reason, Status, local};
use crate::desired::{Desired, Filter};

/// A DNS name of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsName {
    /// The name.
    pub name: String,
    /// How many addresses it has.
    pub addresses: usize,
    /// When it was last answered with an address, seconds since 1970; absent: never.
    pub answered: Option<u64>,
    /// Until when the address stays that stays longest if it is not answered again, seconds since
    /// 1970; absent without an address.
    pub until: Option<u64>,
    /// Why the last question was not answered; absent if it was.
    pub failing: Option<DnsFailure>,
    /// Addresses of the last answer beyond the limit.
    pub omitted: u32,
}

/// A name that is not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsFailure {
    /// Since when, seconds since 1970.
    pub since: u64,
    /// Why, in one word, as in names.toml.
    pub reason: &'static str,
    #[serde(skip)]
    text: &'static str,
}

/// The DNS name that an address came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Where the file has it: "source", "destination" or "address".
    pub field: &'static str,
    /// The name.
    pub name: String,
    /// Until when the address stays if it is not answered again, seconds since 1970; absent if the
    /// name does not have the address any more.
    pub until: Option<u64>,
}

impl Origin {
    /// That of an address, if the name has it.
    fn of(field: &'static str, name: &Name, address: IpAddr, names: &Names) -> Option<Self> {
        let times = names.0.get(name)?.addresses.get(&address)?;
        Some(Self {
            field,
            name: name.to_string(),
            until: Some(times.until),
        })
    }

    /// For people, as in "a.example until 2030-01-01T00:00:00+00:00".
    pub fn words(&self) -> String {
        let until = self.until.map(|until| format!(" until {}", local(until)));
        self.name.clone() + &until.unwrap_or_default()
    }
}

/// The DNS names of a filter that a packet matched by, as the file has them; of a bidirectional one
/// those of either direction.
pub fn origins(
    filter: &Filter,
    (source, destination): (IpAddr, IpAddr),
    names: &Names,
) -> Vec<Origin> {
    let mut origins = Vec::new();
    let mut ways = vec![(source, destination)];
    ways.extend(filter.bidirectional.then_some((destination, source)));
    for (from, to) in ways {
        let sides = [
            ("source", &filter.source_name, from),
            ("destination", &filter.destination_name, to),
        ];
        for (field, given, address) in sides {
            let of = |name| Origin::of(field, name, address, names);
            origins.extend(given.iter().filter_map(of));
        }
    }
    origins
}

/// The DNS name that the address of an endpoint came from.
pub fn origin_of(
    desired: &Desired,
    endpoint: &str,
    address: Option<IpAddr>,
    names: &Names,
) -> Option<Origin> {
    let by_name = |one: &crate::desired::Endpoint| one.name.as_str().cmp(endpoint);
    let place = desired.endpoints.binary_search_by(by_name).ok()?;
    let name = desired.endpoints[place].address_name.as_ref()?;
    let found = address.and_then(|address| Origin::of("address", name, address, names));
    Some(found.unwrap_or_else(|| Origin {
        field: "address",
        name: name.to_string(),
        until: None,
    }))
}

impl Status {
    /// Whether something lacks the address of a DNS name.
    pub fn lacks_address(&self) -> bool {
        let filters = self.filters.iter().map(|one| one.state);
        let endpoints = self.endpoints.iter().map(|one| one.state);
        filters.chain(endpoints).any(|state| state == NO_ADDRESS)
    }

    /// Adds the DNS names of the file that the daemon follows. `found` is what is known of them, or
    /// why nothing is.
    pub fn add_dns_names(&mut self, desired: &Desired, found: &Result<Names, String>) {
        let wanted = desired.dns_names();
        if wanted.is_empty() {
            return;
        }
        let nothing = Names::default();
        let names = found.as_ref().unwrap_or(&nothing);
        if let Err(why) = found {
            self.worsen(Reason::new(why.clone()));
        }
        self.dns_names = wanted.iter().map(|name| DnsName::of(name, names)).collect();
        for endpoint in &mut self.endpoints {
            endpoint.dns_name = origin_of(desired, &endpoint.name, endpoint.address, names);
        }
    }
}

impl DnsName {
    fn of(name: &Name, names: &Names) -> Self {
        let nothing = Known::default();
        let known = names.0.get(name).unwrap_or(&nothing);
        Self {
            name: name.to_string(),
            addresses: known.addresses.len(),
            answered: known.answered,
            until: known.addresses.values().map(|times| times.until).max(),
            failing: known.failing.map(|failing| DnsFailure {
                since: failing.since,
                reason: failing.reason.word(),
                text: failing.reason.text(),
            }),
            omitted: known.omitted,
        }
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.addresses == 0 || self.failing.is_some() || self.omitted > 0
    }

    /// A line for people.
    pub(super) fn line(&self) -> String {
        let count = match self.addresses {
            0 => "no address".to_owned(),
            1 => "1 address".to_owned(),
            count => format!("{count} addresses"),
        };
        let until = self.until.map(|until| format!(" until {}", local(until)));
        let failing = self.failing.as_ref().map(|failing| {
            let since = local(failing.since);
            format!(", not resolved since {since}: {}", failing.text)
        });
        let omitted =
            (self.omitted > 0).then(|| format!(", {} more beyond the limit", self.omitted));
        [
            format!("{:<15} {count}", self.name),
            until.unwrap_or_default(),
            failing.unwrap_or_default(),
            omitted.unwrap_or_default(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use traffic_mirror_resolver::{Failing, Failure, Times};

    use super::*;
    use crate::desired::load;

    const FILE: &str = "[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"ids.example\"\n\
        [[filter]]\nname = \"web\"\nbidirectional = true\nsource = [\"a.example\"]\n\
        destination = [\"10.0.0.1\", \"b.example\"]\nto = [\"ids\"]\n";

    fn names() -> Names {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let times = |until| Times { answered: 1, until };
        let known = |text, until| Known {
            addresses: [(address(text), times(until))].into(),
            ..Known::default()
        };
        let names = [
            ("a.example", known("192.0.2.1", 100)),
            ("b.example", known("192.0.2.2", 200)),
        ];
        Names(
            names
                .map(|(name, known)| (Name::parse(name).unwrap(), known))
                .into(),
        )
    }

    #[test]
    fn a_match_says_by_which_names() {
        let (desired, _) = load(FILE).unwrap();
        let said = |from: &str, to: &str| {
            let way = (from.parse().unwrap(), to.parse().unwrap());
            let origins = origins(&desired.filters[0], way, &names());
            let word = |one: Origin| format!("{} {} {:?}", one.field, one.name, one.until);
            origins.into_iter().map(word).collect::<Vec<_>>()
        };
        let both = [
            "source a.example Some(100)",
            "destination b.example Some(200)",
        ];
        assert_eq!(said("192.0.2.1", "192.0.2.2"), both);
        assert_eq!(said("192.0.2.2", "192.0.2.1"), both, "the way back");
        assert_eq!(said("192.0.2.1", "10.0.0.1"), both[..1]);
    }

    #[test]
    fn an_endpoint_says_of_which_name_it_is() {
        let (desired, _) = load(FILE).unwrap();
        let origin = |address: Option<&str>| {
            let address = address.map(|text| text.parse().unwrap());
            origin_of(&desired, "ids", address, &names())
        };
        assert_eq!(origin(None).unwrap().words(), "ids.example");
        assert_eq!(origin(Some("192.0.2.1")).unwrap().until, None);
        assert_eq!(origin_of(&desired, "log", None, &names()), None);
    }

    #[test]
    fn a_name_has_a_line() {
        let mut names = names();
        let name = Name::parse("a.example").unwrap();
        let line = |names: &Names| DnsName::of(&name, names).line();
        let until = local(100);
        assert_eq!(
            line(&names),
            format!("a.example       1 address until {until}")
        );
        let known = names.0.get_mut(&name).unwrap();
        let reason = Failure::Timeout;
        known.failing = Some(Failing { since: 7, reason });
        assert!(line(&names).ends_with(": no DNS server answered in time"));
        assert!(DnsName::of(&name, &names).is_wrong());
        assert_eq!(line(&Names::default()), "a.example       no address");
    }
}
