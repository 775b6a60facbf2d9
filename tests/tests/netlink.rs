//! Route netlink against the real kernel, with `ip` and `tc` as the second opinion. Needs root.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use traffic_mirror::kernel::netlink::{Event, Monitor, Netlink};
use traffic_mirror::network::{Hook, LinkKind, NeighbourState, Route, RouteKind};

const DEADLINE: Duration = Duration::from_secs(10);

const ABSENT: u32 = 4_000_000;

#[test]
fn links_are_those_of_ip_link() -> Result<()> {
    let lab = Lab::new()?;
    lab.near.ip("link set va mtu 1400")?;
    lab.near.ip("link add vc type veth peer name vd")?;
    lab.near.ip("link add bridge0 type bridge")?;
    lab.near.ip("link set vd master bridge0")?;
    lab.near.ip("link add link vc name child type macvlan")?;
    lab.near.ip("link add link va name mover type macvlan")?;
    lab.near.ip(&format!("link set mover netns {}", lab.far.name))?;
    lab.near.ip("tuntap add dev tun0 mode tun")?;

    for namespace in [&lab.near, &lab.far] {
        let live = namespace.inside(|| Ok(Netlink::open()?.links()?))?;
        let expected = namespace.json("-d link show")?;
        let expected = expected.as_array().context("no array")?;
        ensure!(live.len() == expected.len(), "{live:?} against {expected:?}");
        for want in expected {
            let index = u32::try_from(want["ifindex"].as_u64().context("no ifindex")?)?;
            let link = live.get(&index).with_context(|| format!("{want} is missing"))?;
            let flag = |name: &str| want["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == name));
            assert_eq!(link.index, index);
            assert_eq!(link.name, want["ifname"]);
            assert_eq!(u64::from(link.mtu), want["mtu"]);
            assert_eq!(link.up, flag("UP"), "{want}");
            assert_eq!(link.running, flag("UP") && !flag("NO-CARRIER"), "{want}");
            assert_eq!(link.mac.map(format_mac).as_deref(), want["address"].as_str(), "{want}");
            assert_eq!(link.info_kind.as_deref(), want["linkinfo"]["info_kind"].as_str(), "{want}");
            let master = link.master.map(|index| live[&index].name.as_str());
            assert_eq!(master, want["master"].as_str(), "{want}");
        }
    }

    let near = lab.near.inside(|| Ok(Netlink::open()?.links()?))?;
    let link = |name: &str| near.values().find(|link| link.name == name).context("missing");
    assert_eq!(link("lo")?.kind, LinkKind::Loopback);
    assert_eq!(link("va")?.kind, LinkKind::Ethernet);
    assert_eq!(link("tun0")?.kind, LinkKind::Other(libc::ARPHRD_NONE));
    assert_eq!(link("va")?.parent, None, "the peer is in another namespace");
    assert_eq!(link("vc")?.parent, None, "a peer is no parent");
    assert_eq!(link("child")?.parent, Some(link("vc")?.index));
    let far = lab.far.inside(|| Ok(Netlink::open()?.links()?))?;
    let mover = far.values().find(|link| link.name == "mover").context("missing")?;
    assert_eq!(mover.parent, None, "the parent is in another namespace");
    Ok(())
}

#[test]
fn a_long_list_of_links_is_whole() -> Result<()> {
    let namespace = Netns::new()?;
    let pairs: String = (0..300).map(|n| format!("link add a{n} type veth peer name b{n}\n")).collect();
    namespace.batch(&pairs)?;
    let links = namespace.inside(|| Ok(Netlink::open()?.links()?))?;
    assert_eq!(links.len(), 601);
    Ok(())
}

#[test]
fn addresses_are_those_of_ip_address() -> Result<()> {
    let lab = Lab::new()?;
    lab.near.ip("address add 10.3.0.1 peer 10.3.0.2/32 dev va")?;
    lab.near.ip("address add fd03::1 peer fd03::2/128 dev va nodad")?;
    let live = lab.near.inside(|| Ok(Netlink::open()?.addresses()?))?;
    let interfaces = lab.near.json("address show")?;
    let expected = interfaces.as_array().into_iter().flatten().flat_map(|interface| {
        interface["addr_info"].as_array().into_iter().flatten().filter_map(|info| info["local"].as_str())
    });
    let expected: BTreeSet<IpAddr> = expected.map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(live, expected);
    for address in ["127.0.0.1", "::1", "10.9.0.1", "fd09::1", "10.3.0.1", "fd03::1"] {
        ensure!(live.contains(&address.parse()?), "{address} is missing in {live:?}");
    }
    Ok(())
}

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
            let address = destination.parse()?;
            let live = lab.near.inside(|| Ok(Netlink::open()?.route(address, oif)?))?;
            let what = format!("{destination} by {interface:?}");
            let expected = expected_route(&lab.near, destination, interface).context(what.clone())?;
            let live = live.map(|route| Route { assumed: false, ..route });
            assert_eq!(live, expected, "{what}");
        }
    }
    Ok(())
}

#[test]
fn a_route_is_found_assumed_or_missing() -> Result<()> {
    let lab = Lab::new()?;
    lab.near.ip("route add 10.10.0.0/24 via 10.9.0.2")?;
    lab.near.ip("route add 10.11.0.0/24 via inet6 fd09::2 dev va")?;
    lab.near.ip("route add blackhole 10.15.0.0/24")?;
    let (va, vy) = (lab.near.index("va")?, lab.near.index("vy")?);
    let (lo, gateway) = (1, Some("10.9.0.2".parse()?));
    let source = Some("10.9.0.1".parse()?);
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        let mut route =
            |destination: &str, interface| -> Result<_> { Ok(netlink.route(destination.parse()?, interface)?) };
        let on_link = |assumed| {
            Some(Route { interface: va, gateway: None, source, mtu: None, kind: RouteKind::Unicast, assumed })
        };
        assert_eq!(route("10.9.0.2", None)?, on_link(false));
        assert_eq!(route("10.9.0.2", Some(va))?, on_link(false));
        assert_eq!(route("10.10.0.1", None)?, on_link(false).map(|on_link| Route { gateway, ..on_link }));
        assert_eq!(route("10.11.0.1", None)?.and_then(|route| route.gateway), Some("fd09::2".parse()?));

        assert_eq!(route("192.0.2.1", None)?, None);
        assert_eq!(route("192.0.2.1", Some(va))?, on_link(true));
        assert_eq!(route("10.15.0.1", None)?, None);
        assert_eq!(route("10.15.0.1", Some(va))?, on_link(true));
        let elsewhere = route("10.10.0.1", Some(vy))?.context("no route")?;
        assert_eq!((elsewhere.interface, elsewhere.gateway, elsewhere.assumed), (vy, None, true));
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

#[test]
fn neighbours_are_read() -> Result<()> {
    let lab = Lab::new()?;
    lab.near.ip("neigh add 10.9.0.5 dev va lladdr 02:00:00:00:00:05 nud permanent")?;
    lab.near.ip("neigh add fd09::5 dev va lladdr 02:00:00:00:00:05 nud stale")?;
    lab.near.ip("neigh add 10.9.0.6 dev va nud failed")?;
    let va = lab.near.index("va")?;
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        let mac = [2, 0, 0, 0, 0, 5];
        for (address, state) in [("10.9.0.5", NeighbourState::Permanent), ("fd09::5", NeighbourState::Stale)] {
            let live = netlink.neighbour(va, address.parse()?)?.context("no entry")?;
            assert_eq!((live.interface, live.address.to_string().as_str(), live.state), (va, address, state));
            assert_eq!(live.usable_mac(), Some(mac));
        }
        let failed = netlink.neighbour(va, "10.9.0.6".parse()?)?.context("no entry")?;
        assert_eq!((failed.state, failed.usable_mac()), (NeighbourState::Failed, None));
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
    let mac = far.values().find(|link| link.name == "vb").context("no vb")?.mac;
    // one that had failed before
    lab.near.ip("neigh add 10.9.0.2 dev va nud failed")?;
    lab.near.inside(|| {
        let mut monitor = Monitor::open()?;
        let mut netlink = Netlink::open()?;
        for address in ["10.9.0.2", "fd09::2"] {
            let address = address.parse()?;
            netlink.resolve(va, address)?;
            while netlink.neighbour(va, address)?.and_then(|live| live.usable_mac()) != mac {
                wait_for(&mut monitor, Event::Neighbour { interface: va, address })?;
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
            wait_for(&mut monitor, Event::Neighbour { interface: va, address: nobody })?;
        }
        Ok(())
    })
}

#[test]
fn resolve_leaves_usable_and_managed_neighbours_alone() -> Result<()> {
    let lab = Lab::new()?;
    lab.near.ip("neigh add 10.9.0.5 dev va lladdr 02:00:00:00:00:05 nud permanent")?;
    lab.near.ip("neigh add 10.9.0.6 dev va lladdr 02:00:00:00:00:06 nud stale extern_learn")?;
    lab.near.ip("neigh add 10.9.0.7 dev va managed")?;
    let va = lab.near.index("va")?;
    let entries = || -> Result<Vec<Value>> {
        let mut entries = lab.near.json("neigh show dev va")?.as_array().cloned().context("no array")?;
        entries.sort_by_key(|entry| entry["dst"].to_string());
        // nobody answers for this one: the kernel tries and fails by turns
        entries[2]["state"].take();
        Ok(entries)
    };
    let before = entries()?;
    ensure!(before.len() == 3 && before[2].get("managed").is_some(), "{before:?}");
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

#[test]
fn filters_are_those_of_tc() -> Result<()> {
    let lab = Lab::new()?;
    let va = lab.near.index("va")?;
    let filters = |hook| lab.near.inside(|| Ok(Netlink::open()?.filters(va, hook)?));

    assert_eq!(filters(Hook::Ingress)?, [], "no clsact");
    lab.near.tc("qdisc add dev va clsact")?;
    assert_eq!(filters(Hook::Ingress)?, [], "an empty clsact");
    assert_eq!(filters(Hook::Egress)?, []);

    lab.near.tc("filter add dev va ingress prio 7 protocol ip u32 match ip dst 10.0.0.1/32 flowid :1")?;
    lab.near.inside(|| attach_bpf("va", "ingress prio 9 handle 0x2a"))?;
    let ingress = filters(Hook::Ingress)?;
    let seen: Vec<_> = ingress.iter().map(|filter| (filter.priority, filter.kind.as_str())).collect();
    assert_eq!(seen, [(7, "u32"), (7, "u32"), (9, "bpf")], "a table, its filter, and ours");
    let expected: Value = serde_json::from_str(&lab.near.tc("-j filter show dev va ingress")?)?;
    let expected = &expected.as_array().and_then(|filters| filters.last()).context("no filter")?["options"];
    let bpf = &ingress[2];
    assert_eq!(bpf.handle, 0x2a);
    assert_eq!(bpf.name.as_deref(), expected["bpf_name"].as_str());
    assert_eq!(bpf.program_id.map(u64::from), expected["prog"]["id"].as_u64());
    ensure!(bpf.name.is_some() && bpf.program_id.is_some(), "{bpf:?}");
    assert_eq!(filters(Hook::Egress)?, []);
    lab.near.inside(|| {
        assert_eq!(Netlink::open()?.filters(ABSENT, Hook::Egress)?, []);
        Ok(())
    })
}

#[test]
fn clsact_is_seen_and_deleted() -> Result<()> {
    let lab = Lab::new()?;
    lab.near.ip("link add vc type veth peer name vd")?;
    let (va, vc, vd) = (lab.near.index("va")?, lab.near.index("vc")?, lab.near.index("vd")?);
    lab.near.tc("qdisc add dev va clsact")?;
    lab.near.tc("filter add dev va egress prio 7 protocol ip u32 match ip dst 10.0.0.1/32 flowid :1")?;
    lab.near.tc("qdisc add dev vc ingress")?;
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        assert!(netlink.clsact(va)?);
        assert!(!netlink.clsact(vc)?, "ingress is another discipline");
        assert!(!netlink.clsact(vd)? && !netlink.clsact(ABSENT)?);

        netlink.delete_clsact(va)?;
        assert!(!netlink.clsact(va)?);
        for absent in [va, vc, vd, ABSENT, u32::MAX] {
            netlink.delete_clsact(absent)?;
        }
        Ok(())
    })?;
    ensure!(lab.near.tc("qdisc show dev vc")?.contains("ingress"), "the foreign discipline stays");
    Ok(())
}

#[test]
fn an_error_names_request_object_and_cause() -> Result<()> {
    let namespace = Netns::new()?;
    namespace.inside(|| {
        let mut netlink = Netlink::open()?;
        let refused = netlink.neighbour(0, "10.9.0.5".parse()?).expect_err("no device");
        assert_eq!(
            refused.to_string(),
            "cannot read neighbour 10.9.0.5 on interface 0: Invalid argument (EINVAL): No device specified"
        );
        let refused = netlink.resolve(ABSENT, "10.9.0.5".parse()?).expect_err("no such device");
        assert_eq!(
            refused.to_string(),
            format!("cannot resolve neighbour 10.9.0.5 on interface {ABSENT}: No such device (ENODEV)")
        );
        Ok(())
    })
}

#[test]
fn changes_are_seen() -> Result<()> {
    let lab = Lab::new()?;
    let va = lab.near.index("va")?;
    let address = "10.9.0.5".parse()?;
    let mut monitor = lab.near.inside(|| Ok(Monitor::open()?))?;
    let neighbour = Event::Neighbour { interface: va, address };
    for (command, event) in [
        ("ip link set va mtu 1400", Event::Link { index: va }),
        ("ip address add 10.20.0.1/24 dev va", Event::Address),
        ("ip address add fd20::1/64 dev va nodad", Event::Address),
        ("ip route add 10.21.0.0/24 via 10.9.0.2", Event::Route),
        ("ip route add fd21::/64 via fd09::2", Event::Route),
        ("ip rule add to 10.22.0.0/24 table 100", Event::Route),
        ("ip -6 rule add to fd22::/64 table 100", Event::Route),
        ("ip nexthop add id 1 via 10.9.0.2 dev va", Event::Route),
        ("ip neigh add 10.9.0.5 dev va lladdr 02:00:00:00:00:05 nud permanent", neighbour),
        ("ip neigh replace 10.9.0.5 dev va lladdr 02:00:00:00:00:06 nud permanent", neighbour),
        ("ip neigh del 10.9.0.5 dev va", neighbour),
        ("tc qdisc add dev va clsact", Event::Tc { interface: va }),
        (
            "tc filter add dev va egress prio 7 protocol ip u32 match ip dst 10.0.0.1 flowid :1",
            Event::Tc { interface: va },
        ),
        ("tc filter del dev va egress prio 7", Event::Tc { interface: va }),
        ("tc qdisc del dev va clsact", Event::Tc { interface: va }),
        ("ip link set va down", Event::Link { index: va }),
        ("ip link del va", Event::Link { index: va }),
    ] {
        monitor.drain()?;
        match command.split_once(' ') {
            Some(("tc", arguments)) => lab.near.tc(arguments)?,
            Some((_, arguments)) => lab.near.ip(arguments)?,
            None => bail!("no arguments"),
        };
        wait_for(&mut monitor, event).context(command)?;
    }
    lab.near.ip("link add vc type veth peer name vd")?;
    wait_for(&mut monitor, Event::Link { index: lab.near.index("vc")? })?;
    // reading makes no events, or a reader would wake itself
    let vc = lab.near.index("vc")?;
    lab.near.tc("qdisc add dev vc clsact")?;
    wait_for(&mut monitor, Event::Tc { interface: vc })?;
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        monitor.drain()?;
        netlink.links()?;
        netlink.addresses()?;
        netlink.route(address, None)?;
        netlink.neighbour(vc, address)?;
        netlink.filters(vc, Hook::Ingress)?;
        netlink.clsact(vc)?;
        assert_eq!(monitor.drain()?, BTreeSet::new());
        assert!(!monitor.wait(Some(Duration::from_millis(1)))?);
        Ok(())
    })
}

#[test]
fn an_overrun_is_told_and_survived() -> Result<()> {
    let lab = Lab::new()?;
    let va = lab.near.index("va")?;
    let mut monitor = lab.near.inside(|| Ok(Monitor::open()?))?;
    setsockopt(&monitor, sockopt::RcvBuf, &4096)?;
    let entries: String =
        (1..200).map(|n| format!("neigh add 10.100.0.{n} dev va lladdr 02:00:00:00:00:05 nud permanent\n")).collect();
    lab.near.batch(&entries)?;
    ensure!(monitor.drain()?.contains(&Event::Overrun), "no overrun");
    assert_eq!(monitor.drain()?, BTreeSet::new());
    lab.near.ip("link set va mtu 1400")?;
    wait_for(&mut monitor, Event::Link { index: va })
}

/// What `ip route get` says, in our terms.
fn expected_route(namespace: &Netns, destination: &str, interface: Option<&str>) -> Result<Option<Route>> {
    let oif = interface.map_or(String::new(), |name| format!(" oif {name}"));
    let Ok(answer) = namespace.json(&format!("route get {destination}{oif}")) else {
        return Ok(None);
    };
    let answer = &answer[0];
    let address = |value: &Value| value.as_str().map(str::parse).transpose();
    Ok(Some(Route {
        interface: namespace.index(answer["dev"].as_str().context("no dev")?)?,
        gateway: address(&answer["gateway"])?.or(address(&answer["via"]["host"])?),
        source: address(&answer["prefsrc"])?,
        mtu: answer["metrics"][0]["mtu"].as_u64().map(u32::try_from).transpose()?,
        kind: match answer["type"].as_str() {
            None | Some("unicast") => RouteKind::Unicast,
            Some("local") => RouteKind::Local,
            Some("broadcast") => RouteKind::Broadcast,
            Some("multicast") => RouteKind::Multicast,
            other => bail!("type {other:?}"),
        },
        assumed: false,
    }))
}

fn wait_for(monitor: &mut Monitor, event: Event) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let mut seen = BTreeSet::new();
    while !seen.contains(&event) {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "{event:?} did not come, but {seen:?}");
        monitor.wait(Some(left))?;
        seen.extend(monitor.drain()?);
    }
    Ok(())
}

fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Two namespaces with a veth between them: `va` in `near`, `vb` in `far`, 10.9.0.{1,2} and fd09::{1,2}. A second
/// veth, `vy` with 10.8.0.1, leads nowhere.
struct Lab {
    near: Netns,
    far: Netns,
}

impl Lab {
    fn new() -> Result<Self> {
        let lab = Self { near: Netns::new()?, far: Netns::new()? };
        lab.near.ip(&format!("link add va type veth peer name vb netns {}", lab.far.name))?;
        for (namespace, interface, host) in [(&lab.near, "va", 1), (&lab.far, "vb", 2)] {
            namespace.ip(&format!("link set {interface} addrgenmode none up"))?;
            namespace.ip(&format!("address add 10.9.0.{host}/24 dev {interface}"))?;
            namespace.ip(&format!("address add fd09::{host}/64 dev {interface} nodad"))?;
            namespace.ip(&format!("address add fe80::{host}/64 dev {interface} nodad"))?;
        }
        lab.near.ip("link add vy type veth peer name vz")?;
        lab.near.ip("link set vz addrgenmode none up")?;
        lab.near.ip("link set vy addrgenmode none up")?;
        lab.near.ip("address add 10.8.0.1/24 dev vy")?;
        lab.near.ip("address add 10.9.0.9/24 dev va")?;
        lab.near.ip("address add fd09::9/64 dev va nodad preferred_lft 0")?;
        Ok(lab)
    }
}

/// A network namespace with `lo` up, deleted on drop.
struct Netns {
    name: String,
}

impl Netns {
    fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("netlink-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Runs `f` on a thread of this namespace.
    fn inside<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter = || -> Result<T> {
            setns(File::open(format!("/run/netns/{}", self.name))?, CloneFlags::CLONE_NEWNET)?;
            f()
        };
        thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn ip(&self, arguments: &str) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    fn tc(&self, arguments: &str) -> Result<String> {
        run(Command::new("tc").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    fn json(&self, arguments: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.ip(&format!("-j {arguments}"))?)?)
    }

    fn index(&self, interface: &str) -> Result<u32> {
        let index = self.json(&format!("link show dev {interface}"))?[0]["ifindex"].as_u64();
        Ok(u32::try_from(index.context("no ifindex")?)?)
    }

    /// Runs one `ip` command per line.
    fn batch(&self, commands: &str) -> Result<()> {
        let mut child = Command::new("ip").args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("no stdin")?.write_all(commands.as_bytes())?;
        ensure!(child.wait()?.success(), "ip -batch failed");
        Ok(())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Attaches a tc program that does nothing, by way of a bpffs that only this thread sees.
fn attach_bpf(interface: &str, arguments: &str) -> Result<()> {
    const BPF_PROG_LOAD: i32 = 5;
    const BPF_OBJ_PIN: i32 = 6;
    const BPF_PROG_TYPE_SCHED_CLS: u64 = 3;
    const PATH: &str = "/sys/fs/bpf/nothing";

    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(None::<&str>, "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>)?;

    // r0 = -1 (TC_ACT_UNSPEC); exit
    let program: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
    let length = (program.len() as u64) << 32;
    let load = [BPF_PROG_TYPE_SCHED_CLS | length, program.as_ptr() as u64, c"MIT".as_ptr() as u64];
    let program = bpf(BPF_PROG_LOAD, &load).context("load")?;
    let path = CString::new(PATH)?;
    bpf(BPF_OBJ_PIN, &[path.as_ptr() as u64, u64::from(program.cast_unsigned())]).context("pin")?;
    nix::unistd::close(program)?;
    let filter = format!("filter add dev {interface} {arguments} bpf direct-action object-pinned {PATH}");
    run(Command::new("tc").args(filter.split_whitespace())).map(drop)
}

fn bpf(command: i32, attributes: &[u64]) -> Result<i32> {
    // SAFETY: `attributes` holds the fields of `union bpf_attr` for `command`; its pointers outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    nix::errno::Errno::result(result)?;
    Ok(i32::try_from(result)?)
}
