//! Input: an endpoint of the file and the network's path to it. Output: its element of `ENDPOINTS`.

use std::net::IpAddr;

use bytemuck::Zeroable;
use traffic_mirror_ebpf::abi::{self, Drop, EndpointPair};
use traffic_mirror_ebpf::{gue, packet};

use crate::desired::{Endpoint, Ipsec, Limit, Oversize};
use crate::ipsec::Copies;
use crate::network::{Link, LinkKind, Network, Path, Route, RouteKind};

/// How to reach the endpoint, or the reason why it cannot be. `live` is its breaker so far, 0 if it
/// is new.
pub(super) fn endpoint(endpoint: &Endpoint, network: &Network, live: u32) -> abi::Endpoint {
    let reached = reach(endpoint, network).unwrap_or_else(|reason| abi::Endpoint {
        state: reason as u32,
        ..abi::Endpoint::zeroed()
    });
    let next = live.wrapping_add(1).max(1);
    // other than the tripped, which is 0 in fresh counters
    let was_unwrapped = |index: &u32| {
        // copies of what passes an interface without link headers meet its `encap` first, wherever
        // they go
        let is_source = network
            .links
            .get(index)
            .is_some_and(|link| link.kind.is_headerless());
        is_source || *index == reached.interface
    };
    let breaker = if live == 0 || network.rewired.iter().any(was_unwrapped) {
        next
    } else {
        live
    };
    abi::Endpoint { breaker, ..reached }
}

fn reach(endpoint: &Endpoint, network: &Network) -> Result<abi::Endpoint, Drop> {
    let address = endpoint.address.ok_or(Drop::NoAddress)?;
    let path = network.paths.get(&endpoint.name).ok_or(Drop::NoRoute)?;
    if path.own {
        return Err(Drop::OwnAddress);
    }
    if let Some(name) = &endpoint.interface {
        let link = network.link(name).ok_or(Drop::NoInterface)?;
        can_send(link)?;
    }
    let route = path
        .route
        .as_ref()
        .filter(|route| is_usable(route))
        .ok_or(Drop::NoRoute)?;
    let link = network
        .links
        .get(&route.interface)
        .ok_or(Drop::NoInterface)?;
    can_send(link)?;
    if network.refused.contains(&link.index) {
        return Err(Drop::Unwrapped);
    }
    let source = route
        .source
        .filter(|source| !source.is_unspecified())
        .ok_or(Drop::NoSource)?;
    let (outer, outer_bytes) =
        gue::template(source, address, endpoint.port).ok_or(Drop::NoSource)?;
    let copies = Copies {
        source,
        destination: address,
        port: endpoint.port,
        interface: link.index,
    };
    if endpoint.ipsec == Ipsec::Obey && network.ipsec.guard(&copies) {
        return Err(Drop::IpsecPolicy);
    }
    let reached = abi::Endpoint {
        state: Drop::None as u32,
        interface: link.index,
        mtu: [route.mtu, path.path_mtu, endpoint.mtu]
            .into_iter()
            .flatten()
            .fold(link.mtu, u32::min),
        checksum: gue::checksum_base(&outer),
        summed: endpoint.checksum.into(),
        outer_bytes: outer_bytes as u32,
        outer,
        oversize: match endpoint.oversize {
            Oversize::Fragment => abi::Oversize::Fragment,
            Oversize::Truncate => abi::Oversize::Truncate,
            Oversize::Drop => abi::Oversize::Drop,
        } as u32,
        snap: endpoint.snap.unwrap_or_default().into(),
        sample: endpoint.sample,
        limit_bits: if let Some(Limit::Bits(bits)) = endpoint.limit {
            bits
        } else {
            0
        },
        backlog: endpoint.backlog,
        limit_packets: if let Some(Limit::Packets(packets)) = endpoint.limit {
            packets
        } else {
            0
        },
        ..abi::Endpoint::zeroed()
    };
    let own_route = is_over_tunnel(link, network, DEPTH).into();
    with_link(
        abi::Endpoint {
            own_route,
            ..reached
        },
        address,
        link,
        path,
    )
}

/// Kinds of interfaces that write into the route with which a packet comes how long packets may be
/// (`tnl_update_pmtu`, `skb_tunnel_check_pmtu`, `ip6_tnl_xmit`, `xfrmi_xmit2`, `vti_xmit`), or go
/// by that route themselves. The route of a copy is that of the original.
const TUNNELS: [&str; 17] = [
    "amt",
    "bareudp",
    "erspan",
    "geneve",
    "gre",
    "gretap",
    "gtp",
    "ip6erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "sit",
    "vti",
    "vti6",
    "vxlan",
    "xfrm",
];

/// Interfaces on each other, at most.
const DEPTH: usize = 8;

/// Whether what an interface sends may go through a tunnel of this host: its own, that of a port,
/// or of the one that it is built on.
fn is_over_tunnel(link: &Link, network: &Network, depth: usize) -> bool {
    let is_tunnel = link
        .info_kind
        .as_deref()
        .is_some_and(|kind| TUNNELS.contains(&kind));
    let is_below =
        |other: &&Link| other.master == Some(link.index) || link.parent == Some(other.index);
    is_tunnel
        || depth > 0
            && network
                .links
                .values()
                .filter(is_below)
                .any(|one| is_over_tunnel(one, network, depth - 1))
}

fn can_send(link: &Link) -> Result<(), Drop> {
    match (link.up, link.running) {
        (false, _) => Err(Drop::InterfaceDown),
        (true, false) => Err(Drop::NoCarrier),
        (true, true) => Ok(()),
    }
}

fn is_usable(route: &Route) -> bool {
    matches!(route.kind, RouteKind::Unicast) && !route.assumed
}

fn with_link(
    reached: abi::Endpoint,
    address: IpAddr,
    link: &Link,
    &Path { mac, silent, .. }: &Path,
) -> Result<abi::Endpoint, Drop> {
    match link.kind {
        LinkKind::Loopback => Err(Drop::Unsupported),
        kind @ LinkKind::Other(_) => kind
            .is_headerless()
            .then_some(reached)
            .ok_or(Drop::Unsupported),
        LinkKind::Ethernet => {
            let own = link.mac.ok_or(Drop::Unsupported)?;
            let ethertype = match address {
                IpAddr::V4(_) => packet::ETHERTYPE_IPV4,
                IpAddr::V6(_) => packet::ETHERTYPE_IPV6,
            };
            let mut header = [0; 16];
            // The kernel fills in the header until the next hop's address is known. It drops a
            // header that begins with a multicast address, so this one is zero.
            header[..6].copy_from_slice(&mac.unwrap_or_default());
            header[6..12].copy_from_slice(&own);
            header[12..14].copy_from_slice(&ethertype.to_be_bytes());
            let state = if mac.is_none() && silent {
                Drop::NoNeighbour
            } else {
                Drop::None
            };
            Ok(abi::Endpoint {
                state: state as u32,
                link_bytes: packet::ETHER_BYTES,
                link_known: mac.is_some().into(),
                link: header,
                ..reached
            })
        }
    }
}

/// Interfaces that copies leave by.
pub(super) fn outputs(endpoints: &[EndpointPair]) -> Vec<u32> {
    let usable = endpoints
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.has_way());
    let mut outputs: Vec<u32> = usable.map(|endpoint| endpoint.interface).collect();
    outputs.sort_unstable();
    outputs.dedup();
    outputs
}

#[cfg(test)]
mod tests;
