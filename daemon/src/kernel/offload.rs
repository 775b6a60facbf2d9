//! Interfaces with TX checksum offload. The kernel takes `rtnl_lock` for each query (`dev_ioctl`),
//! so no interface is queried again without a sign of a change.

use std::collections::{BTreeMap, BTreeSet};

use super::netlink::{Event, Netlink};
use crate::network::Link;

/// What was answered, by the interface's index.
#[derive(Debug, Default)]
pub(super) struct Offloads {
    answers: BTreeMap<u32, TxChecksums>,
}

#[derive(Debug)]
struct TxChecksums {
    /// The interface as it was then.
    link: Link,
    /// As [`Netlink::has_tx_checksums`].
    has_checksums: Option<bool>,
}

impl Offloads {
    /// Those of the interfaces that leave no checksums to hardware. What was answered about others
    /// is forgotten.
    pub(super) fn unsummed<'l>(
        &mut self,
        netlink: &Netlink,
        links: impl Iterator<Item = &'l Link>,
    ) -> BTreeSet<u32> {
        self.look(links, |name| netlink.has_tx_checksums(name))
    }

    fn look<'l>(
        &mut self,
        links: impl Iterator<Item = &'l Link>,
        mut ask: impl FnMut(&str) -> Option<bool>,
    ) -> BTreeSet<u32> {
        let mut before = std::mem::take(&mut self.answers);
        let answer = |link: &'l Link| {
            let known = before
                .remove(&link.index)
                .filter(|answer| answer.link == *link);
            let answer = known.unwrap_or_else(|| TxChecksums {
                link: link.clone(),
                has_checksums: ask(&link.name),
            });
            (link.index, answer)
        };
        self.answers = links.map(answer).collect();
        let unsummed = self
            .answers
            .iter()
            .filter(|(_, answer)| answer.has_checksums == Some(false));
        unsummed.map(|(&index, _)| index).collect()
    }

    /// Forgets what may be otherwise after these events: that of `ethtool -K` is one of the
    /// interface.
    pub(super) fn hear(&mut self, events: &BTreeSet<Event>) {
        for event in events {
            match event {
                Event::Link { index } => drop(self.answers.remove(index)),
                Event::Overrun => self.forget(),
                _ => {}
            }
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        self.answers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Visits interfaces, and returns which were queried.
    fn asked(offloads: &mut Offloads, links: &[Link]) -> Vec<String> {
        let mut asked = Vec::new();
        let unsummed = offloads.look(links.iter(), |name| {
            asked.push(name.to_owned());
            Some(name != "eth1")
        });
        assert_eq!(
            unsummed,
            links
                .iter()
                .filter(|link| link.name == "eth1")
                .map(|link| link.index)
                .collect()
        );
        asked
    }

    #[test]
    fn each_interface_is_asked_for_once_until_something_happens_to_it() {
        let mut links = [Link::ethernet(1, "eth0"), Link::ethernet(2, "eth1")];
        let mut offloads = Offloads::default();
        assert_eq!(asked(&mut offloads, &links), ["eth0", "eth1"]);
        assert_eq!(asked(&mut offloads, &links), [""; 0]);
        offloads.hear(&[Event::Route, Event::Link { index: 2 }].into());
        assert_eq!(asked(&mut offloads, &links), ["eth1"]);
        offloads.hear(&[Event::Overrun].into());
        assert_eq!(asked(&mut offloads, &links), ["eth0", "eth1"]);
        links[0].gso_max = [1, 65_536];
        assert_eq!(
            asked(&mut offloads, &links),
            ["eth0"],
            "it is another one now"
        );
        assert_eq!(asked(&mut offloads, &links[1..]), [""; 0]);
        assert_eq!(asked(&mut offloads, &links), ["eth0"], "it has been away");
        offloads.forget();
        assert_eq!(asked(&mut offloads, &links), ["eth0", "eth1"]);
    }
}
