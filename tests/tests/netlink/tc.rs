//! Filters and queueing disciplines.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use traffic_mirror::kernel::netlink::Netlink;
use traffic_mirror::network::Direction;

use crate::lab::{ABSENT, Lab, attach_bpf};

#[test]
fn filters_are_those_of_tc() -> Result<()> {
    let lab = Lab::new()?;
    let va = lab.near.index("va")?;
    let filters = |hook| lab.near.inside(|| Ok(Netlink::open()?.filters(va, hook)?));

    assert_eq!(filters(Direction::Ingress)?, [], "no clsact");
    lab.near.tc("qdisc add dev va clsact")?;
    assert_eq!(filters(Direction::Ingress)?, [], "an empty clsact");
    assert_eq!(filters(Direction::Egress)?, []);

    lab.near.tc(
        "filter add dev va ingress prio 7 protocol ip u32 match ip dst 10.0.0.1/32 flowid :1",
    )?;
    lab.near
        .inside(|| attach_bpf("va", "ingress prio 9 handle 0x2a"))?;
    let ingress = filters(Direction::Ingress)?;
    let seen: Vec<_> = ingress
        .iter()
        .map(|filter| (filter.priority, filter.kind.as_str()))
        .collect();
    assert_eq!(
        seen,
        [(7, "u32"), (7, "u32"), (9, "bpf")],
        "a table, its filter, and ours"
    );
    let expected: Value = serde_json::from_str(&lab.near.tc("-j filter show dev va ingress")?)?;
    let expected = &expected
        .as_array()
        .and_then(|filters| filters.last())
        .context("no filter")?["options"];
    let bpf = &ingress[2];
    assert_eq!(bpf.handle, 0x2a);
    assert_eq!(bpf.name.as_deref(), expected["bpf_name"].as_str());
    assert_eq!(
        bpf.program_id.map(u64::from),
        expected["prog"]["id"].as_u64()
    );
    ensure!(bpf.name.is_some() && bpf.program_id.is_some(), "{bpf:?}");
    assert_eq!(filters(Direction::Egress)?, []);
    lab.near.inside(|| {
        assert_eq!(Netlink::open()?.filters(ABSENT, Direction::Egress)?, []);
        Ok(())
    })
}

#[test]
fn clsact_is_seen() -> Result<()> {
    let lab = Lab::new()?;
    lab.near.ip("link add vc type veth peer name vd")?;
    let (va, vc, vd) = (
        lab.near.index("va")?,
        lab.near.index("vc")?,
        lab.near.index("vd")?,
    );
    lab.near.tc("qdisc add dev va clsact")?;
    lab.near
        .tc("filter add dev va egress prio 7 protocol ip u32 match ip dst 10.0.0.1/32 flowid :1")?;
    lab.near.tc("qdisc add dev vc ingress")?;
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        assert!(netlink.clsact(va)?);
        assert!(!netlink.clsact(vc)?, "ingress is another discipline");
        assert!(!netlink.clsact(vd)? && !netlink.clsact(ABSENT)?);
        Ok(())
    })
}
