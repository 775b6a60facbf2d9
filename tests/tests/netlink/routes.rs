//! Routes and neighbours.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use traffic_mirror::kernel::netlink::{Event, Monitor, Netlink};
use traffic_mirror::network::{NeighbourState, Route, RouteKind};

use crate::lab::{ABSENT, Lab, PORT, expected_route, wait_for};

#[test]
fn routes_are_those_of_ip_route_get() -> Result<()> {
    let lab = Lab::new()?;
    for route in [
        "add 10.10.0.0/24 via 10.9.0.2",
        "add 10.11.0.0/24 via inet6 fd09::2 dev va",
        "add 10.12.0.0/24 via 10.9.0.2 mtu 1300",
        "add 10.13.0.0/24 dev va src 10.9.0.9",
        "add 10.14.0.0/24 nexthop via 10.9.0.2 nexthop via 10.9.0.3",
        "add blackhole 10.15.0.0/24",
        "add unreachable 10.16.0.0/24",
        "add prohibit 10.17.0.0/24",
        "add throw 10.18.0.0/24",
        "add local 10.19.0.0/24 dev lo",
        "add fd10::/64 via fd09::2",
        "add fd12::/64 via fd09::2 mtu 1300",
        "add fd13::/64 dev va src fd09::9",
        "add fd14::/64 nexthop via fd09::2 nexthop via fd09::3",
        "add blackhole fd15::/64",
        "add unreachable fd16::/64",
        "add prohibit fd17::/64",
        "add 198.51.100.0/24 nhid 1",
    ] {
        if route.contains("nhid") {
            lab.near.ip("nexthop add id 1 via 10.9.0.4 dev va")?;
        }
        lab.near.ip(&format!("route {route}"))?;
    }
    let destinations = [
        "10.9.0.2",
        "10.9.0.1",
        "10.9.0.255",
        "10.10.0.1",
        "10.11.0.1",
        "10.12.0.1",
        "10.13.0.1",
        "10.14.0.1",
        "10.14.0.2",
        "10.14.0.3",
        "10.15.0.1",
        "10.16.0.1",
        "10.17.0.1",
        "10.18.0.1",
        "10.19.0.1",
        "127.0.0.5",
        "192.0.2.1",
        "198.51.100.1",
        "224.0.0.5",
        "255.255.255.255",
        "fd09::2",
        "fd09::1",
        "fd10::1",
        "fd12::1",
        "fd13::1",
        "fd14::1",
        "fd14::2",
        "fd15::1",
        "fd16::1",
        "fd17::1",
        "2001:db8::1",
        "ff02::5",
        "::1",
    ];
    for interface in [None, Some("va"), Some("vy"), Some("lo")] {
        for destination in destinations {
            let oif = interface.map(|name| lab.near.index(name)).transpose()?;
            let address = SocketAddr::new(destination.parse()?, PORT);
            let live = lab
                .near
                .inside(|| Ok(Netlink::open()?.route(address, oif)?))?;
            let what = format!("{destination} by {interface:?}");
            let expected =
                expected_route(&lab.near, destination, interface).context(what.clone())?;
            let live = live.map(|route| Route {
                assumed: false,
                ..route
            });
            assert_eq!(live, expected, "{what}");
        }
    }
    Ok(())
}

#[test]
fn a_route_is_found_assumed_or_missing() -> Result<()> {
    let lab = Lab::new()?;
    lab.near.ip("route add 10.10.0.0/24 via 10.9.0.2")?;
    lab.near
        .ip("route add 10.11.0.0/24 via inet6 fd09::2 dev va")?;
    lab.near.ip("route add blackhole 10.15.0.0/24")?;
    let (va, vy) = (lab.near.index("va")?, lab.near.index("vy")?);
    let (lo, gateway) = (1, Some("10.9.0.2".parse()?));
    let source = Some("10.9.0.1".parse()?);
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        let mut route = |destination: &str, interface| -> Result<_> {
            Ok(netlink.route(SocketAddr::new(destination.parse()?, PORT), interface)?)
        };
        let on_link = |assumed| {
            Some(Route {
                interface: va,
                gateway: None,
                source,
                mtu: None,
                kind: RouteKind::Unicast,
                assumed,
            })
        };
        assert_eq!(route("10.9.0.2", None)?, on_link(false));
        assert_eq!(route("10.9.0.2", Some(va))?, on_link(false));
        assert_eq!(
            route("10.10.0.1", None)?,
            on_link(false).map(|on_link| Route { gateway, ..on_link })
        );
        assert_eq!(
            route("10.11.0.1", None)?.and_then(|route| route.gateway),
            Some("fd09::2".parse()?)
        );

        assert_eq!(route("192.0.2.1", None)?, None);
        assert_eq!(route("192.0.2.1", Some(va))?, on_link(true));
        assert_eq!(route("10.15.0.1", None)?, None);
        assert_eq!(route("10.15.0.1", Some(va))?, on_link(true));
        let elsewhere = route("10.10.0.1", Some(vy))?.context("no route")?;
        assert_eq!(
            (elsewhere.interface, elsewhere.gateway, elsewhere.assumed),
            (vy, None, true)
        );
        assert_eq!(elsewhere.source, Some("10.8.0.1".parse()?));
        assert_eq!(route("192.0.2.1", Some(ABSENT))?, None);
        assert_eq!(route("2001:db8::1", None)?, None);
        assert_eq!(route("2001:db8::1", Some(va))?, None);
        assert_eq!(route("2001:db8::1", Some(ABSENT))?, None);

        for local in ["10.9.0.1", "fd09::1"] {
            let found = route(local, None)?.context("no route")?;
            assert_eq!((found.kind, found.interface), (RouteKind::Local, lo));
        }
        Ok(())
    })
}

/// A rule may ask for protocol and ports; also for the look-up that tells an assumed route.
#[test]
fn rules_with_protocol_and_ports_are_followed() -> Result<()> {
    let lab = Lab::new()?;
    for rule in [
        "rule add ipproto udp dport 6080 table 77",
        "rule add ipproto tcp dport 6080 table 78",
    ] {
        lab.near.ip(rule)?;
        lab.near.ip(&format!("-6 {rule}"))?;
    }
    lab.near
        .ip("route add 10.50.0.0/24 via 10.9.0.2 table 77")?;
    lab.near.ip("route add fd50::/64 via fd09::2 table 77")?;
    lab.near
        .ip("route add 10.50.0.0/24 via 10.9.0.3 table 78")?;
    let va = lab.near.index("va")?;
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        for (destination, gateway) in [("10.50.0.1", "10.9.0.2"), ("fd50::1", "fd09::2")] {
            for interface in [None, Some(va)] {
                let mut route = |port| -> Result<_> {
                    Ok(netlink
                        .route(SocketAddr::new(destination.parse()?, port), interface)?
                        .filter(|route| !route.assumed))
                };
                assert_eq!(
                    route(PORT)?.and_then(|route| route.gateway),
                    Some(gateway.parse()?),
                    "{destination}"
                );
                assert_eq!(route(PORT + 1)?, None, "{destination}");
            }
        }
        Ok(())
    })
}

#[test]
fn neighbours_are_read() -> Result<()> {
    let lab = Lab::new()?;
    lab.near
        .ip("neigh add 10.9.0.5 dev va lladdr 02:00:00:00:00:05 nud permanent")?;
    lab.near
        .ip("neigh add fd09::5 dev va lladdr 02:00:00:00:00:05 nud stale")?;
    lab.near.ip("neigh add 10.9.0.6 dev va nud failed")?;
    let va = lab.near.index("va")?;
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        let mac = [2, 0, 0, 0, 0, 5];
        for (address, state) in [
            ("10.9.0.5", NeighbourState::Permanent),
            ("fd09::5", NeighbourState::Stale),
        ] {
            let live = netlink
                .neighbour(va, address.parse()?)?
                .context("no entry")?;
            assert_eq!(
                (
                    live.interface,
                    live.address.to_string().as_str(),
                    live.state
                ),
                (va, address, state)
            );
            assert_eq!(live.usable_mac(), Some(mac));
        }
        let failed = netlink
            .neighbour(va, "10.9.0.6".parse()?)?
            .context("no entry")?;
        assert_eq!(
            (failed.state, failed.usable_mac()),
            (NeighbourState::Failed, None)
        );
        assert_eq!(netlink.neighbour(va, "10.9.0.7".parse()?)?, None);
        assert_eq!(netlink.neighbour(ABSENT, "10.9.0.5".parse()?)?, None);
        Ok(())
    })
}

#[test]
fn resolve_finds_a_live_neighbour() -> Result<()> {
    let lab = Lab::new()?;
    let va = lab.near.index("va")?;
    let far = lab.far.inside(|| Ok(Netlink::open()?.links()?))?;
    let mac = far
        .values()
        .find(|link| link.name == "vb")
        .context("no vb")?
        .mac;
    // one that had failed before
    lab.near.ip("neigh add 10.9.0.2 dev va nud failed")?;
    lab.near.inside(|| {
        let mut monitor = Monitor::open()?;
        let mut netlink = Netlink::open()?;
        for address in ["10.9.0.2", "fd09::2"] {
            let address = address.parse()?;
            netlink.resolve(va, address)?;
            while netlink
                .neighbour(va, address)?
                .and_then(|live| live.usable_mac())
                != mac
            {
                wait_for(
                    &mut monitor,
                    Event::Neighbour {
                        interface: va,
                        address,
                    },
                )?;
            }
        }
        // nobody there: the kernel asks three times in three seconds
        let nobody = "10.9.0.7".parse()?;
        netlink.resolve(va, nobody)?;
        let mut entry = || -> Result<_> {
            let live = netlink.neighbour(va, nobody)?.context("no entry")?;
            Ok((live.state, live.usable_mac()))
        };
        assert_eq!(entry()?, (NeighbourState::Incomplete, None));
        while entry()? != (NeighbourState::Failed, None) {
            wait_for(
                &mut monitor,
                Event::Neighbour {
                    interface: va,
                    address: nobody,
                },
            )?;
        }
        Ok(())
    })
}

#[test]
fn resolve_leaves_usable_and_managed_neighbours_alone() -> Result<()> {
    let lab = Lab::new()?;
    lab.near
        .ip("neigh add 10.9.0.5 dev va lladdr 02:00:00:00:00:05 nud permanent")?;
    lab.near
        .ip("neigh add 10.9.0.6 dev va lladdr 02:00:00:00:00:06 nud stale extern_learn")?;
    lab.near.ip("neigh add 10.9.0.7 dev va managed")?;
    let va = lab.near.index("va")?;
    let entries = || -> Result<Vec<Value>> {
        let mut entries = lab
            .near
            .json("neigh show dev va")?
            .as_array()
            .cloned()
            .context("no array")?;
        entries.sort_by_key(|entry| entry["dst"].to_string());
        // nobody answers for this one: the kernel tries and fails by turns
        entries[2]["state"].take();
        Ok(entries)
    };
    let before = entries()?;
    ensure!(
        before.len() == 3 && before[2].get("managed").is_some(),
        "{before:?}"
    );
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        for address in ["10.9.0.5", "10.9.0.6", "10.9.0.7"] {
            netlink.resolve(va, address.parse()?)?;
        }
        Ok(())
    })?;
    assert_eq!(entries()?, before);
    Ok(())
}
