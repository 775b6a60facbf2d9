//! Input: an endpoint of the file and what the network says of the way to it. Output: its element
//! of `ENDPOINTS`.

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
        gue::template(source, endpoint.address, endpoint.port).ok_or(Drop::NoSource)?;
    let copies = Copies {
        source,
        destination: endpoint.address,
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
        endpoint.address,
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
            // Until the next hop's address is known the kernel fills in the header; it drops one
            // that begins with a multicast address, so zeros.
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
mod tests {
    use super::*;
    use crate::ipsec::Policies;

    const ETH1: u32 = 7;
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const HOP: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn endpoint(endpoint: &Endpoint, network: &Network) -> abi::Endpoint {
        super::endpoint(endpoint, network, 0)
    }

    fn link(kind: LinkKind) -> Link {
        Link {
            mtu: 1600,
            mac: Some(OWN),
            kind,
            ..Link::ethernet(ETH1, "eth1")
        }
    }

    fn route() -> Route {
        Route {
            interface: ETH1,
            gateway: None,
            source: Some("192.0.2.1".parse().unwrap()),
            mtu: None,
            kind: RouteKind::Unicast,
            assumed: false,
        }
    }

    fn wanted() -> Endpoint {
        Endpoint {
            name: "ids".to_owned(),
            address: "192.0.2.10".parse().unwrap(),
            port: 6080,
            interface: Some("eth1".to_owned()),
            oversize: Oversize::Fragment,
            snap: None,
            limit: None,
            sample: 1,
            mtu: None,
            checksum: false,
            ipsec: Ipsec::Obey,
            backlog: 1 << 26,
        }
    }

    fn network(link: Option<Link>, path: Path) -> Network {
        Network {
            links: link.into_iter().map(|link| (link.index, link)).collect(),
            paths: [("ids".to_owned(), path)].into(),
            ..Network::default()
        }
    }

    fn state(link: Option<Link>, path: Path) -> Drop {
        Drop::ALL[endpoint(&wanted(), &network(link, path)).state as usize]
    }

    fn path() -> Path {
        Path {
            route: Some(route()),
            mac: Some(HOP),
            ..Path::default()
        }
    }

    #[test]
    fn copies_that_go_through_a_tunnel_have_a_route_of_their_own() {
        let of = |kind: &str| Link {
            info_kind: Some(kind.to_owned()),
            ..link(LinkKind::Ethernet)
        };
        let own_route = |links: &[Link]| {
            let links = links
                .iter()
                .map(|link| (link.index, link.clone()))
                .collect();
            endpoint(
                &wanted(),
                &Network {
                    links,
                    ..network(None, path())
                },
            )
            .own_route
        };
        assert_eq!(own_route(&[link(LinkKind::Ethernet)]), 0);
        assert_eq!(own_route(&[of("veth")]), 0);
        assert_eq!(own_route(&[of("vxlan")]), 1);
        let below = |kind: &str| Link {
            index: 8,
            name: "below".to_owned(),
            ..of(kind)
        };
        assert_eq!(
            own_route(&[
                of("bridge"),
                Link {
                    master: Some(ETH1),
                    ..below("vxlan")
                }
            ]),
            1
        );
        assert_eq!(
            own_route(&[
                of("bridge"),
                Link {
                    master: Some(ETH1),
                    ..below("veth")
                }
            ]),
            0
        );
        assert_eq!(
            own_route(&[
                Link {
                    parent: Some(8),
                    ..of("vlan")
                },
                below("gretap")
            ]),
            1
        );
        assert_eq!(
            own_route(&[
                Link {
                    parent: Some(8),
                    ..of("vlan")
                },
                Link {
                    parent: Some(ETH1),
                    ..below("vlan")
                }
            ]),
            0
        );
    }

    #[test]
    fn a_known_next_hop_gives_a_finished_header() {
        let reached = endpoint(&wanted(), &network(Some(link(LinkKind::Ethernet)), path()));
        assert_eq!(reached.state, 0);
        assert_eq!(
            (reached.interface, reached.mtu, reached.outer_bytes),
            (ETH1, 1600, 32)
        );
        assert_eq!((reached.link_bytes, reached.link_known), (14, 1));
        assert_eq!(
            reached.link,
            [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, 0, 0]
        );
    }

    #[test]
    fn an_unknown_next_hop_is_left_to_the_kernel() {
        let reached = endpoint(
            &wanted(),
            &network(
                Some(link(LinkKind::Ethernet)),
                Path {
                    mac: None,
                    ..path()
                },
            ),
        );
        assert_eq!((reached.state, reached.link_known), (0, 0));
        assert_eq!(reached.link[..6], [0; 6], "not a multicast address");
    }

    #[test]
    fn an_interface_without_ethernet_needs_no_header() {
        let reached = endpoint(
            &wanted(),
            &network(Some(link(LinkKind::Other(65_534))), path()),
        );
        assert_eq!((reached.state, reached.link_bytes), (0, 0));
    }

    #[test]
    fn an_encap_that_was_missing_gives_another_number() {
        const TUN: u32 = 9;
        let number = |kind, rewired| {
            let mut network = network(Some(link(LinkKind::Ethernet)), path());
            network.links.insert(
                TUN,
                Link {
                    index: TUN,
                    ..link(kind)
                },
            );
            network.rewired.insert(rewired);
            super::endpoint(&wanted(), &network, 3).breaker
        };
        assert_eq!(number(LinkKind::Ethernet, ETH1), 4);
        assert_eq!(number(LinkKind::Ethernet, TUN), 3, "on another output");
        assert_eq!(
            number(LinkKind::Other(0xfffe), TUN),
            4,
            "on a source that copies for any output pass"
        );
    }

    #[test]
    fn the_path_mtu_counts_if_it_is_smaller() {
        let route = Route {
            mtu: Some(1400),
            ..route()
        };
        let reached = endpoint(
            &wanted(),
            &network(
                Some(link(LinkKind::Ethernet)),
                Path {
                    route: Some(route),
                    ..path()
                },
            ),
        );
        assert_eq!(reached.mtu, 1400);
    }

    #[test]
    fn the_mtu_of_the_file_counts_if_it_is_the_smallest() {
        for (given, of_route, mtu) in [
            (1400, None, 1400),
            (1400, Some(1350), 1350),
            (9000, None, 1600),
            (9000, Some(1350), 1350),
        ] {
            let path = Path {
                route: Some(Route {
                    mtu: of_route,
                    ..route()
                }),
                ..path()
            };
            let wanted = Endpoint {
                mtu: Some(given),
                ..wanted()
            };
            assert_eq!(
                endpoint(&wanted, &network(Some(link(LinkKind::Ethernet)), path)).mtu,
                mtu,
                "{given}"
            );
        }
    }

    #[test]
    fn a_checksum_begins_with_what_does_not_vary() {
        let reached = |checksum| {
            endpoint(
                &Endpoint {
                    checksum,
                    ..wanted()
                },
                &network(Some(link(LinkKind::Ethernet)), path()),
            )
        };
        let base = gue::checksum_base(&reached(true).outer);
        assert_eq!(
            [false, true]
                .map(reached)
                .map(|one| (one.checksum, one.summed)),
            [(base, 0), (base, 1)]
        );
    }

    #[test]
    fn policies_are_obeyed_unless_the_file_says_otherwise() {
        let network = Network {
            ipsec: Policies {
                policies: Vec::new(),
                blocks_the_rest: true,
            },
            ..network(Some(link(LinkKind::Ethernet)), path())
        };
        assert_eq!(
            endpoint(&wanted(), &network).state,
            Drop::IpsecPolicy as u32
        );
        assert_eq!(
            endpoint(
                &Endpoint {
                    ipsec: Ipsec::Bypass,
                    ..wanted()
                },
                &network
            )
            .state,
            0
        );
    }

    #[test]
    fn each_obstacle_has_its_reason() {
        let ethernet = || Some(link(LinkKind::Ethernet));
        let with = |route: Route| Path {
            route: Some(route),
            ..path()
        };
        assert_eq!(
            state(
                ethernet(),
                Path {
                    own: true,
                    ..path()
                }
            ),
            Drop::OwnAddress
        );
        assert_eq!(state(None, path()), Drop::NoInterface);
        assert_eq!(
            state(
                Some(Link {
                    up: false,
                    ..link(LinkKind::Ethernet)
                }),
                path()
            ),
            Drop::InterfaceDown
        );
        assert_eq!(
            state(
                ethernet(),
                Path {
                    route: None,
                    ..path()
                }
            ),
            Drop::NoRoute
        );
        assert_eq!(
            state(
                ethernet(),
                with(Route {
                    assumed: true,
                    ..route()
                })
            ),
            Drop::NoRoute
        );
        assert_eq!(
            state(
                ethernet(),
                with(Route {
                    kind: RouteKind::Broadcast,
                    ..route()
                })
            ),
            Drop::NoRoute
        );
        assert_eq!(
            state(
                ethernet(),
                with(Route {
                    source: None,
                    ..route()
                })
            ),
            Drop::NoSource
        );
        assert_eq!(
            state(Some(link(LinkKind::Loopback)), path()),
            Drop::Unsupported
        );
    }
}
