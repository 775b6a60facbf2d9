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
        address: Some("192.0.2.10".parse().unwrap()),
        address_name: None,
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
