//! Input: an endpoint of the file and what the network says of the way to it. Output: its element of `ENDPOINTS`.

use std::net::IpAddr;

use bytemuck::Zeroable;
use traffic_mirror_ebpf::abi::{self, Drop, EndpointPair};
use traffic_mirror_ebpf::{gue, packet};

use crate::desired::Endpoint;
use crate::network::{Link, LinkKind, Network, Route, RouteKind};

/// How to reach the endpoint, or the reason why it cannot be.
pub(super) fn endpoint(endpoint: &Endpoint, network: &Network) -> abi::Endpoint {
    // other than the fuse of fresh counters
    const FIRST_GENERATION: u32 = 1;
    let reached = reach(endpoint, network)
        .unwrap_or_else(|reason| abi::Endpoint { state: reason as u32, ..abi::Endpoint::zeroed() });
    abi::Endpoint { generation: FIRST_GENERATION, ..reached }
}

fn reach(endpoint: &Endpoint, network: &Network) -> Result<abi::Endpoint, Drop> {
    let path = network.paths.get(&endpoint.name).ok_or(Drop::NoRoute)?;
    if path.own {
        return Err(Drop::OwnAddress);
    }
    if let Some(name) = &endpoint.interface {
        let link = network.link(name).ok_or(Drop::NoInterface)?;
        if !link.up {
            return Err(Drop::InterfaceDown);
        }
    }
    let route = path.route.as_ref().filter(|route| is_usable(route)).ok_or(Drop::NoRoute)?;
    let link = network.links.get(&route.interface).ok_or(Drop::NoInterface)?;
    if !link.up {
        return Err(Drop::InterfaceDown);
    }
    let source = route.source.filter(|source| !source.is_unspecified()).ok_or(Drop::NoSource)?;
    let (outer, outer_bytes) = gue::template(source, endpoint.address, endpoint.port).ok_or(Drop::NoSource)?;
    let reached = abi::Endpoint {
        state: Drop::None as u32,
        interface: link.index,
        mtu: route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
        outer_bytes: outer_bytes as u32,
        outer,
        ..abi::Endpoint::zeroed()
    };
    with_link(reached, endpoint.address, link, path.mac)
}

fn is_usable(route: &Route) -> bool {
    matches!(route.kind, RouteKind::Unicast) && !route.assumed
}

fn with_link(
    reached: abi::Endpoint,
    address: IpAddr,
    link: &Link,
    mac: Option<[u8; 6]>,
) -> Result<abi::Endpoint, Drop> {
    match link.kind {
        LinkKind::Loopback => Err(Drop::Unsupported),
        LinkKind::Other(_) => Ok(reached),
        LinkKind::Ethernet => {
            let own = link.mac.ok_or(Drop::Unsupported)?;
            let ethertype = match address {
                IpAddr::V4(_) => packet::ETHERTYPE_IPV4,
                IpAddr::V6(_) => packet::ETHERTYPE_IPV6,
            };
            let mut header = [0; 16];
            // Until the next hop's address is known the kernel fills in the header; it drops one that begins with a
            // multicast address, so zeros.
            header[..6].copy_from_slice(&mac.unwrap_or_default());
            header[6..12].copy_from_slice(&own);
            header[12..14].copy_from_slice(&ethertype.to_be_bytes());
            Ok(abi::Endpoint {
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
    let usable = endpoints.iter().flatten().filter(|endpoint| endpoint.state == Drop::None as u32);
    let mut outputs: Vec<u32> = usable.map(|endpoint| endpoint.interface).collect();
    outputs.sort_unstable();
    outputs.dedup();
    outputs
}
