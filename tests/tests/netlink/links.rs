//! Links and their addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use traffic_mirror::kernel::netlink::Netlink;
use traffic_mirror::network::LinkKind;

use crate::lab::{Lab, Netns, format_mac};

#[test]
fn links_are_those_of_ip_link() -> Result<()> {
    let lab = Lab::new()?;
    lab.near.ip("link set va mtu 1400")?;
    lab.near.ip("link add vc type veth peer name vd")?;
    lab.near.ip("link add bridge0 type bridge")?;
    lab.near.ip("link set vd master bridge0")?;
    lab.near.ip("link add link vc name child type macvlan")?;
    lab.near.ip("link add link va name mover type macvlan")?;
    lab.near
        .ip(&format!("link set mover netns {}", lab.far.name()))?;
    lab.near.ip("tuntap add dev tun0 mode tun")?;
    lab.near
        .ip("link property add dev va altname enp3s0 altname the-uplink-of-this-host")?;

    for namespace in [&lab.near, &lab.far] {
        let live = namespace.inside(|| Ok(Netlink::open()?.links()?))?;
        let expected = namespace.json("-d link show")?;
        let expected = expected.as_array().context("no array")?;
        ensure!(
            live.len() == expected.len(),
            "{live:?} against {expected:?}"
        );
        for want in expected {
            let index = u32::try_from(want["ifindex"].as_u64().context("no ifindex")?)?;
            let link = live
                .get(&index)
                .with_context(|| format!("{want} is missing"))?;
            let flag = |name: &str| {
                want["flags"]
                    .as_array()
                    .is_some_and(|flags| flags.iter().any(|flag| flag == name))
            };
            assert_eq!(link.index, index);
            assert_eq!(link.name, want["ifname"]);
            assert_eq!(u64::from(link.mtu), want["mtu"]);
            assert_eq!(link.up, flag("UP"), "{want}");
            assert_eq!(link.running, flag("UP") && !flag("NO-CARRIER"), "{want}");
            assert_eq!(
                link.mac.map(format_mac).as_deref(),
                want["address"].as_str(),
                "{want}"
            );
            assert_eq!(
                link.info_kind.as_deref(),
                want["linkinfo"]["info_kind"].as_str(),
                "{want}"
            );
            let master = link.master.map(|index| live[&index].name.as_str());
            assert_eq!(master, want["master"].as_str(), "{want}");
        }
    }

    let near = lab.near.inside(|| Ok(Netlink::open()?.links()?))?;
    let link = |name: &str| {
        near.values()
            .find(|link| link.name == name)
            .context("missing")
    };
    assert_eq!(link("lo")?.kind, LinkKind::Loopback);
    assert_eq!(link("va")?.kind, LinkKind::Ethernet);
    assert_eq!(link("tun0")?.kind, LinkKind::Other(libc::ARPHRD_NONE));
    assert_eq!(link("va")?.altnames, ["enp3s0", "the-uplink-of-this-host"]);
    assert_eq!(link("vc")?.altnames, [""; 0]);
    assert_eq!(link("va")?.parent, None, "the peer is in another namespace");
    assert_eq!(link("vc")?.parent, None, "a peer is no parent");
    assert_eq!(link("child")?.parent, Some(link("vc")?.index));
    let far = lab.far.inside(|| Ok(Netlink::open()?.links()?))?;
    let mover = far
        .values()
        .find(|link| link.name == "mover")
        .context("missing")?;
    assert_eq!(mover.parent, None, "the parent is in another namespace");
    Ok(())
}

#[test]
fn a_long_list_of_links_is_whole() -> Result<()> {
    let namespace = Netns::new()?;
    let pairs: String = (0..300)
        .map(|n| format!("link add a{n} type veth peer name b{n}\n"))
        .collect();
    namespace.batch(&pairs)?;
    let links = namespace.inside(|| Ok(Netlink::open()?.links()?))?;
    assert_eq!(links.len(), 601);
    Ok(())
}

#[test]
fn addresses_are_those_of_ip_address() -> Result<()> {
    let lab = Lab::new()?;
    lab.near
        .ip("address add 10.3.0.1 peer 10.3.0.2/32 dev va")?;
    lab.near
        .ip("address add fd03::1 peer fd03::2/128 dev va nodad")?;
    let live = lab.near.inside(|| Ok(Netlink::open()?.addresses()?))?;
    let interfaces = lab.near.json("address show")?;
    let expected = interfaces
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|interface| {
            interface["addr_info"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|info| info["local"].as_str())
        });
    let expected: BTreeSet<IpAddr> = expected.map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(live, expected);
    for address in [
        "127.0.0.1",
        "::1",
        "10.9.0.1",
        "fd09::1",
        "10.3.0.1",
        "fd03::1",
    ] {
        ensure!(
            live.contains(&address.parse()?),
            "{address} is missing in {live:?}"
        );
    }
    Ok(())
}
