//! Input: the interface entries of the file, the interfaces of the host, and which of those are
//! mirrored. Output: the state of the others, and why. `compile`, `status`, `explain` and the log
//! all use it, so that they agree.

use std::collections::{BTreeMap, BTreeSet};

use bytemuck::Zeroable;
use glob::Pattern;
use traffic_mirror_ebpf::abi::{self, MAX_INTERFACES};

use super::interface::{best, called, covers, is_refused, is_supported};
use crate::desired::{Directions, Interface, Order};
use crate::network::{Direction, Link, LinkKind};
use crate::tables::Pages;

/// An interface that the file lists, or an entry without an interface, whose packets are not
/// mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMirrored {
    /// The interface's own name; that of the entry if there is no interface.
    pub name: String,
    /// `name` of the entry of the file; of several the most specific one.
    pub entry: String,
    /// The entry is no glob.
    pub is_exact: bool,
    /// The listed directions that are not mirrored.
    pub directions: Vec<Direction>,
    /// `order` of the entry.
    pub order: Order,
    /// Why not.
    pub why: Why,
}

/// Why an interface or an entry is not mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// There is no interface of that exact name.
    Absent,
    /// There is no interface that the glob matches.
    Pending,
    /// There are more interfaces than can be mirrored.
    Limit,
    /// A kind of interface whose packets cannot be read: its `ARPHRD_*` number.
    Kind(u16),
    /// A VRF device.
    Vrf,
    /// What an ipvlan in mode l3s receives.
    L3s,
    /// Its packets have no link header, and `encap` could not be attached to its egress, where
    /// copies pass.
    AttachFailed,
    /// It could be, but is not so far: it has only just come, or the daemon is not running.
    Waiting,
}

impl Why {
    /// Each label.
    pub const LABELS: [&'static str; 8] = [
        "absent",
        "attach-failed",
        "kind",
        "l3s",
        "limit",
        "pending",
        "vrf",
        "waiting",
    ];

    /// In one word, for programs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Pending => "pending",
            Self::Limit => "limit",
            Self::Kind(_) => "kind",
            Self::AttachFailed => "attach-failed",
            Self::Vrf => "vrf",
            Self::L3s => "l3s",
            Self::Waiting => "waiting",
        }
    }

    /// What became of the interface or entry: "absent", "pending", "left out", "waiting".
    pub const fn state(self) -> &'static str {
        match self {
            Self::Limit | Self::Kind(_) | Self::Vrf | Self::L3s | Self::AttachFailed => "left out",
            other => other.label(),
        }
    }

    /// The same for people, with what to do about it.
    pub fn text(self) -> String {
        match self {
            Self::Absent => {
                "no interface has this name; the daemon mirrors it when it appears".to_owned()
            }
            Self::Pending => {
                "no interface matches; the daemon mirrors each one that appears".to_owned()
            }
            Self::Limit => format!("at most {MAX_INTERFACES} interfaces are mirrored; list fewer"),
            Self::Kind(arphrd) => {
                format!(
                    "the daemon cannot mirror this kind of interface (ARPHRD {arphrd}); list another one"
                )
            }
            // `vrf_l3_rcv` hands packets on without another round of `__netif_receive_skb_core`,
            // and `vrf_ip_out_direct` goes around `dev_queue_xmit`. What the host sends to itself
            // does pass, and with a queue what it sends to others.
            Self::Vrf => "tc does not see the packets of a VRF device; list its ports".to_owned(),
            // `ipvlan_nf_input` sets the device behind tc
            Self::L3s => {
                "tc does not see what an ipvlan in mode l3s receives; list the interface below it"
                    .to_owned()
            }
            Self::AttachFailed => {
                "the kernel rejected encap on its egress; the log has the reason".to_owned()
            }
            Self::Waiting => "not attached yet; a running daemon attaches it at once".to_owned(),
        }
    }
}

impl NotMirrored {
    /// Whether something that the file asks for is missing. A glob lists all interfaces that can be
    /// mirrored; an exact name lists that interface.
    pub const fn is_fault(&self) -> bool {
        match self.why {
            Why::Absent | Why::Limit | Why::AttachFailed | Why::Waiting => true,
            Why::Kind(_) | Why::Vrf | Why::L3s => self.is_exact,
            Why::Pending => false,
        }
    }

    /// The alternative name by which the file lists it.
    pub fn altname(&self) -> Option<&str> {
        (self.is_exact && self.name != self.entry).then_some(&*self.entry)
    }
}

/// The entry by which one direction of an interface is mirrored.
pub fn entry_of<'i>(
    entries: &'i [Interface],
    link: &Link,
    direction: Direction,
) -> Option<&'i Interface> {
    best(
        entries
            .iter()
            .filter(|entry| covers(entry.direction, direction)),
        link,
    )
}

/// Why a direction of an interface cannot be mirrored, whatever the file lists; `None` if it can.
pub(super) fn refusal(link: &Link, direction: Direction) -> Option<Why> {
    match link.kind {
        _ if link.is_l3s && direction == Direction::Ingress => Some(Why::L3s),
        _ if link.info_kind.as_deref() == Some("vrf") => Some(Why::Vrf),
        LinkKind::Other(arphrd) if !is_supported(link) => Some(Why::Kind(arphrd)),
        _ => None,
    }
}

/// The listed interfaces that are not mirrored, by name. `links` are without those of the
/// segmenter. `mirrored` are the indices of interfaces with hooks, `refused` those on which the
/// kernel rejected `encap`. A mirrored interface appears only with a direction that cannot be
/// mirrored.
pub fn not_mirrored(
    entries: &[Interface],
    links: &BTreeMap<u32, Link>,
    mirrored: &BTreeSet<u32>,
    refused: &BTreeSet<u32>,
) -> Vec<NotMirrored> {
    let is_empty = |entry: &&Interface| {
        !links
            .values()
            .any(|link| called(&entry.name, link).is_some())
    };
    let empty = entries.iter().filter(is_empty).map(|entry| {
        let why = if entry.is_glob() {
            Why::Pending
        } else {
            Why::Absent
        };
        of(entry.name.as_str(), entry, asked(&[entry]), why)
    });
    let left_out = links.values().filter_map(|link| {
        let matching: Vec<_> = entries
            .iter()
            .filter(|entry| called(&entry.name, link).is_some())
            .collect();
        let best = best(matching.iter().copied(), link)?;
        let (asked, is_mirrored) = (asked(&matching), mirrored.contains(&link.index));
        let skipped: Vec<Direction> = asked
            .iter()
            .copied()
            .filter(|way| refusal(link, *way).is_some())
            .collect();
        let why = skipped.iter().find_map(|way| refusal(link, *way));
        match why {
            Some(why) if is_mirrored || skipped == asked => {
                Some(of(&link.name, best, skipped, why))
            }
            _ if is_mirrored => None,
            _ if is_refused(link, refused) => Some(of(&link.name, best, asked, Why::AttachFailed)),
            _ if mirrored.len() >= MAX_INTERFACES => Some(of(&link.name, best, asked, Why::Limit)),
            _ => Some(of(&link.name, best, asked, Why::Waiting)),
        }
    });
    let mut all: Vec<NotMirrored> = empty.chain(left_out).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The directions that entries list.
fn asked(entries: &[&Interface]) -> Vec<Direction> {
    let is_asked = |way: &Direction| entries.iter().any(|entry| covers(entry.direction, *way));
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .filter(is_asked)
        .collect()
}

fn of(name: &str, best: &Interface, directions: Vec<Direction>, why: Why) -> NotMirrored {
    NotMirrored {
        name: name.to_owned(),
        entry: best.name.as_str().to_owned(),
        is_exact: !best.is_glob(),
        directions,
        order: best.order.clone(),
        why,
    }
}

/// The element of `LISTED`; `Desired` has none that does not fit.
pub(super) fn element(entry: &Interface) -> abi::Listed {
    let directions = match entry.direction {
        Directions::Ingress => abi::Listed::INGRESS,
        Directions::Egress => abi::Listed::EGRESS,
        Directions::Both => abi::Listed::INGRESS | abi::Listed::EGRESS,
    };
    let learn = if entry.learn { abi::Listed::LEARN } else { 0 };
    let (name, order) = (entry.name.as_str(), entry.order.to_string());
    let listed = abi::Listed::new(name, &order, directions | learn);
    listed.unwrap_or_else(abi::Listed::zeroed)
}

/// The entries that `LISTED` holds, by name. Elements that another process has written are left
/// out.
pub fn entries(table: &Pages<abi::Listed>) -> Vec<Interface> {
    let entry = |listed: &abi::Listed| {
        let direction = match listed.directions & !abi::Listed::LEARN {
            abi::Listed::INGRESS => Directions::Ingress,
            abi::Listed::EGRESS => Directions::Egress,
            _ => Directions::Both,
        };
        let name = Pattern::new(listed.pattern()?).ok()?;
        Some(Interface {
            name,
            direction,
            order: Order::read(listed.order()?)?,
            learn: listed.directions & abi::Listed::LEARN != 0,
        })
    };
    let mut entries: Vec<Interface> = table.iter().filter_map(entry).collect();
    entries.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    entries
}

/// Indices of the interfaces that `LISTED` marks as rejected.
pub fn refused(table: &Pages<abi::Listed>) -> BTreeSet<u32> {
    table
        .iter()
        .map(|listed| listed.refused)
        .filter(|&index| index != 0)
        .collect()
}

#[cfg(test)]
mod tests;
