//! The interfaces of this network namespace, and what stands on them.

use traffic_mirror::kernel::netlink::Netlink;
use traffic_mirror::kernel::{Mechanism, OnHook, programs_on, word};
use traffic_mirror::network::{Direction, Link, LinkKind};

use super::Part;

/// The programs and filters on both hooks of each interface, whoever attached them.
pub(super) fn programs() -> Part {
    let mut netlink = Netlink::open()?;
    let mut lines = String::new();
    for link in netlink.links()?.into_values() {
        for direction in [Direction::Ingress, Direction::Egress] {
            let found = programs_on(&mut netlink, link.index, direction)?;
            for (nth, one) in found.iter().enumerate() {
                let (name, direction, place) = (&link.name, word(direction), nth + 1);
                lines.push_str(&format!("{name} {direction} {place}: {}\n", named(one)));
            }
        }
        if link.has_xdp {
            lines.push_str(&format!("{} XDP: a program\n", link.name));
        }
    }
    Ok(if lines.is_empty() {
        "none".to_owned()
    } else {
        lines
    })
}

fn named(one: &OnHook) -> String {
    let how = match one.mechanism {
        Mechanism::Tcx => "tcx".to_owned(),
        Mechanism::Clsact => {
            let priority = one.priority.unwrap_or_default();
            format!("filter of priority {priority}")
        }
    };
    let program = one
        .program
        .map_or_else(String::new, |number| format!(", program {number}"));
    format!("{how}, {}{program}", one.names.join(" "))
}

/// The interfaces as the daemon sees them.
pub(super) fn links() -> Part {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    Ok(links.values().map(|link| line(link, &netlink)).collect())
}

fn line(link: &Link, netlink: &Netlink) -> String {
    let Link {
        index,
        name,
        mtu,
        up,
        running,
        mac: _,
        kind,
        master,
        parent,
        info_kind,
        altnames,
        is_l3s,
        no_arp,
        qdisc,
        gso_max: [segments, bytes],
        has_xdp,
    } = link;
    let kind = match kind {
        LinkKind::Ethernet => "Ethernet".to_owned(),
        LinkKind::Loopback => "loopback".to_owned(),
        LinkKind::Other(number) => format!("ARPHRD {number}"),
    };
    let kind_of_driver = info_kind.as_deref().unwrap_or("hardware");
    let flags = [
        (*up, "up"),
        (*running, "running"),
        (*no_arp, "noarp"),
        (*is_l3s, "l3s"),
        (*has_xdp, "xdp"),
    ];
    let flags: Vec<&str> = flags
        .into_iter()
        .filter_map(|(is, flag)| is.then_some(flag))
        .collect();
    let of = |what: &str, index: &Option<u32>| {
        index.map_or_else(String::new, |index| format!(", {what} {index}"))
    };
    let (master, parent) = (of("master", master), of("parent", parent));
    let sums = match netlink.has_tx_checksums(name) {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    };
    let altnames = if altnames.is_empty() {
        String::new()
    } else {
        format!(", also {}", altnames.join(" "))
    };
    format!(
        "{index}: {name}{altnames}, {kind} ({kind_of_driver}), mtu {mtu}, {}{master}{parent}, \
         qdisc {qdisc}, gso {segments} segments {bytes} bytes, tx-checksumming {sums}\n",
        flags.join(" ")
    )
}
