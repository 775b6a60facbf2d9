//! Input: the names that the file has, and their addresses before and now. Output: what changed, a
//! line each name. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use traffic_mirror_resolver::{Name, Names};

use crate::report::list;

/// The names of which addresses came or went.
pub(super) fn changes(wanted: &BTreeSet<Name>, before: &Names, now: &Names) -> Vec<String> {
    let addresses = |names: &Names, name: &Name| -> BTreeSet<IpAddr> {
        names
            .addresses_of(name)
            .map(|(address, _)| address)
            .collect()
    };
    let change = |name: &Name| {
        let (before, now) = (addresses(before, name), addresses(now, name));
        let texts = |some: &mut dyn Iterator<Item = &IpAddr>| -> Vec<String> {
            some.map(ToString::to_string).collect()
        };
        let came = texts(&mut now.difference(&before));
        let went = texts(&mut before.difference(&now));
        let parts = [("added", came), ("removed", went)]
            .map(|(what, some)| (!some.is_empty()).then(|| format!("{what} {}", list(&some))));
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let count = match now.len() {
            0 => "it has no address now".to_owned(),
            1 => "it has 1 address now".to_owned(),
            count => format!("it has {count} addresses now"),
        };
        (!parts.is_empty()).then(|| format!("DNS name {name}: {}; {count}", parts.join(", ")))
    };
    wanted.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use traffic_mirror_resolver::{Known, Times};

    use super::*;

    fn names(addresses: &[&str]) -> Names {
        let times = Times {
            answered: 0,
            until: 3600,
        };
        let addresses = addresses.iter();
        let known = Known {
            addresses: addresses
                .map(|text| (text.parse().unwrap(), times))
                .collect(),
            ..Known::default()
        };
        Names([(Name::parse("a.example").unwrap(), known)].into())
    }

    #[test]
    fn each_name_that_changed_has_a_line() {
        let wanted = ["a.example", "b.example"].map(|name| Name::parse(name).unwrap());
        let wanted = BTreeSet::from(wanted);
        let before = names(&["198.51.100.7", "198.51.100.8"]);
        let lines = changes(&wanted, &before, &names(&["198.51.100.7", "2001:db8::1"]));
        assert_eq!(
            lines,
            ["DNS name a.example: added 2001:db8::1, removed 198.51.100.8; it has 2 addresses now"]
        );
        assert_eq!(changes(&wanted, &before, &before), [""; 0]);
        let lines = changes(&wanted, &before, &Names::default());
        assert!(lines[0].ends_with("; it has no address now"), "{lines:?}");
    }
}
