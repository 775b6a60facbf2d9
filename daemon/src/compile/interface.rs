//! An interface and the entries of the file that list it: which is the one that counts, and whether
//! it can be mirrored.

use std::collections::BTreeSet;

use glob::Pattern;

use crate::desired::{Directions, Interface};
use crate::network;
use crate::network::{Link, LinkKind};

/// Whether packets of the interface can be read: they must begin with an Ethernet header or an IP
/// header.
pub(crate) fn is_supported(link: &network::Link) -> bool {
    matches!(link.kind, LinkKind::Ethernet | LinkKind::Loopback) || link.kind.is_headerless()
}

/// Whether clones of its packets would leave by the interface itself, as they are.
pub(super) fn is_refused(link: &network::Link, refused: &BTreeSet<u32>) -> bool {
    link.kind.is_headerless() && refused.contains(&link.index)
}

/// Whether a filter or an entry for these directions is for a hook.
pub(super) const fn covers(wanted: Directions, hook: network::Direction) -> bool {
    match wanted {
        Directions::Both => true,
        Directions::Ingress => matches!(hook, network::Direction::Ingress),
        Directions::Egress => matches!(hook, network::Direction::Egress),
    }
}

/// The first of an interface's names that a pattern matches.
pub fn called<'l>(pattern: &Pattern, link: &'l Link) -> Option<&'l str> {
    link.names().find(|name| pattern.matches(name))
}

/// The most specific of some entries for an interface: its own name before an alternative one, a
/// name before a glob, a long glob before a short one. `None` if none of them matches it.
/// Whether the server names of all connections of an interface are remembered.
pub fn learns(entries: &[Interface], link: &Link) -> bool {
    best(entries.iter(), link).is_some_and(|entry| entry.learn)
}

pub(super) fn best<'i>(
    entries: impl Iterator<Item = &'i Interface>,
    link: &Link,
) -> Option<&'i Interface> {
    let rank = |entry: &Interface| {
        let text = entry.name.as_str();
        (
            text == link.name,
            link.names().any(|name| name == text),
            text.len(),
        )
    };
    entries
        .filter(|entry| called(&entry.name, link).is_some())
        .max_by_key(|entry| rank(entry))
}
