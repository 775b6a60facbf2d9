//! Interfaces that come, go, and change their names.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::Instant;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::objects::tc_filters;
use traffic_mirror_tests::lab::veth::veth;

use crate::site::{Site, attach, config, mechanisms, status_until};

/// Waits until exactly these interfaces are attached, both ways, and nothing is wrong but that
/// others are absent.
pub(crate) fn attached(daemon: &Daemon, names: &[&str]) -> Result<()> {
    let wanted: Vec<&str> = names.iter().flat_map(|name| [*name; 2]).collect();
    let is_as_wanted = |code: i32, status: &Value| {
        let hooks = status["interfaces"].as_array().into_iter().flatten();
        let names: Vec<_> = hooks
            .filter(|hook| hook["attached"].is_string())
            .map(|hook| hook["name"].as_str())
            .collect();
        let missing = status["not_mirrored"].as_array().into_iter().flatten();
        let absent = missing
            .filter(|one| one["is_fault"] == true)
            .all(|one| one["state"] == "absent");
        let is_ready = status["endpoints"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|one| one["state"] == "ready");
        let is_well = code == 0 || absent && is_ready && status["last_rejected"].is_null();
        is_well && names.iter().flatten().copied().eq(wanted.iter().copied())
    };
    status_until(daemon, is_as_wanted).map(drop)
}

pub(crate) fn rename(netns: &Netns, from: &str, to: &str) -> Result<()> {
    // before kernel 6.2 an interface must be down for that
    netns.run(&format!("ip link set {from} down"))?;
    netns.run(&format!("ip link set {from} name {to}"))?;
    netns.run(&format!("ip link set {to} up"))?;
    netns
        .run_until(
            &format!("ip link show {to}"),
            |link| link.contains("state UP"),
            deadline(),
        )
        .map(drop)
}

/// Connects an interface of the edge that has a certain index with one of the client.
pub(crate) fn make(site: &Site, name: &str, index: u32, peer: &str) -> Result<()> {
    let client = site.client.name();
    site.edge.run(&format!(
        "ip link add {name} index {index} type veth peer name {peer} netns {client}"
    ))?;
    site.client.run(&format!("ip link set {peer} up"))?;
    site.edge.run(&format!("ip link set {name} up"))?;
    site.edge.run_until(
        &format!("ip link show {name}"),
        |link| link.contains("state UP"),
        deadline(),
    )?;
    Ok(())
}

/// Waits until nothing of ours is on an interface of the edge.
fn wait_bare(site: &Site, interface: &str) -> Result<()> {
    let deadline = deadline();
    while !site.programs(interface)?.is_empty()
        || tc_filters(&site.edge, interface)?.contains("bpf")
    {
        ensure!(
            Instant::now() < deadline,
            "something is left on {interface}"
        );
    }
    Ok(())
}

#[test]
fn interfaces_are_attached_as_they_come_and_detached_as_they_go() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        // addresses come and go with interfaces; those must suffice
        site.edge
            .sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        let file =
            config(&[53]) + "\n[[interface]]\nname = \"lan0\"\n\n[[interface]]\nname = \"wan*\"\n";
        let mut daemon = Daemon::spawn(&site.edge, &file, attach(mechanism))?;
        daemon.ready(deadline())?;
        daemon.wait_line(
            |line| line.contains("WARN interface lan0 is absent: "),
            deadline(),
        )?;
        daemon.wait_line(
            |line| line.contains("INFO interface wan* is pending: "),
            deadline(),
        )?;
        attached(&daemon, &["eth0"])?;
        veth(&site.edge, "lan0", &site.client, "c0")?;
        attached(&daemon, &["eth0", "lan0"])?;
        site.expect_by("c0", "lan0", 53, 1)?;
        veth(&site.edge, "wan7", &site.client, "c7")?;
        attached(&daemon, &["eth0", "lan0", "wan7"])?;
        site.expect_by("c7", "wan7", 53, 1)?;
        site.expect(53, 1)?;

        // gone, and another one of the same name
        let index = site.edge.index("lan0")?;
        site.edge.run("ip link del lan0")?;
        attached(&daemon, &["eth0", "wan7"])?;
        veth(&site.edge, "lan0", &site.client, "c0")?;
        assert_ne!(site.edge.index("lan0")?, index);
        attached(&daemon, &["eth0", "lan0", "wan7"])?;
        site.expect_by("c0", "lan0", 53, 1)?;

        // renamed out of the list and into it
        rename(&site.edge, "lan0", "dmz0")?;
        attached(&daemon, &["eth0", "wan7"])?;
        wait_bare(&site, "dmz0")?;
        rename(&site.edge, "wan7", "wan8")?;
        attached(&daemon, &["eth0", "wan8"])?;
        rename(&site.edge, "dmz0", "wan9")?;
        attached(&daemon, &["eth0", "wan8", "wan9"])?;
        site.expect_by("c0", "wan9", 53, 1)?;
        site.expect_by("c7", "wan8", 53, 1)?;
        rename(&site.edge, "wan9", "dmz0")?;
        wait_bare(&site, "dmz0")?;
        attached(&daemon, &["eth0", "wan8"])?;
        site.expect_by("c0", "dmz0", 53, 0)?;

        // the output interface goes and comes
        site.edge.run("ip link set eth1 down")?;
        status_until(&daemon, |code, status| {
            code == 1 && status["endpoints"][0]["state"] != "ready"
        })?;
        site.edge.run("ip link set eth1 up")?;
        attached(&daemon, &["eth0", "wan8"])?;
        site.expect(53, 1)?;

        site.stops(&mut daemon)?;
    }
    Ok(())
}

#[test]
fn an_interface_that_is_gone_while_no_daemon_runs_is_no_obstacle() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        veth(&site.edge, "lan0", &site.client, "c0")?;
        let file = config(&[53]) + "\n[[interface]]\nname = \"lan0\"\n";
        let mut daemon = Daemon::spawn(
            &site.edge,
            &file,
            Launch {
                ..attach(mechanism)
            },
        )?;
        daemon.ready(deadline())?;
        attached(&daemon, &["eth0", "lan0"])?;
        daemon.signal(nix::sys::signal::Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        site.edge.run("ip link del lan0")?;
        daemon.restart()?;
        daemon.ready(deadline())?;
        attached(&daemon, &["eth0"])?;
        site.expect(53, 1)?;
        daemon.signal(nix::sys::signal::Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        veth(&site.edge, "lan0", &site.client, "c0")?;
        daemon.restart()?;
        daemon.ready(deadline())?;
        attached(&daemon, &["eth0", "lan0"])?;
        site.expect_by("c0", "lan0", 53, 1)?;
    }
    Ok(())
}
