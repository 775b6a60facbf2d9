//! Interfaces that leave for another namespace, whose index a stranger takes; programs and qdiscs
//! of others.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use std::time::Instant;
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::objects::{has_clsact, tc_filters, tcx_programs};
use traffic_mirror_tests::lab::packet::{FiveTuple, ip_part};
use traffic_mirror_tests::lab::socket::PacketType;
use traffic_mirror_tests::lab::veth::veth;

use crate::drift::links;
use crate::interfaces::{attached, make, rename};
use crate::site::{Site, attach, config, mechanisms, shell, status_of, status_until};

/// What the daemon does while the network changes behind its back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    /// It is stopped, and sees only what has come of it all.
    Asleep,
    /// It was killed, and another one is started.
    Dead,
}

const MEANWHILE: [Meanwhile; 2] = [Meanwhile::Asleep, Meanwhile::Dead];

impl Meanwhile {
    fn during(self, daemon: &mut Daemon, change: impl FnOnce() -> Result<()>) -> Result<()> {
        match self {
            Self::Asleep => {
                daemon.signal(Signal::SIGSTOP)?;
                let changed = change();
                daemon.signal(Signal::SIGCONT)?;
                changed
            }
            Self::Dead => {
                daemon.signal(Signal::SIGKILL)?;
                daemon.wait_exit(deadline())?;
                change()?;
                daemon.restart()?;
                daemon.ready(deadline())
            }
        }
    }
}

/// A daemon that looks at `eth0` and `lan0`.
fn start(site: &Site, mechanism: &str) -> Result<Daemon> {
    veth(&site.edge, "lan0", &site.client, "c0")?;
    let file = config(&[53]) + "\n[[interface]]\nname = \"lan0\"\n";
    let mut daemon = Daemon::spawn(&site.edge, &file, attach(mechanism))?;
    daemon.ready(deadline())?;
    attached(&daemon, &["eth0", "lan0"])?;
    Ok(daemon)
}

/// Waits until nothing of ours is on an interface.
fn wait_bare(netns: &Netns, interface: &str) -> Result<()> {
    let deadline = deadline();
    loop {
        let tcx = [PacketType::Incoming, PacketType::Outgoing]
            .map(|way| tcx_programs(netns, interface, way));
        let [ingress, egress] = tcx;
        let filters = tc_filters(netns, interface)?;
        if ingress?.is_empty() && egress?.is_empty() && !filters.contains("bpf") {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "something is left on {interface}: {filters}"
        );
    }
}

fn stop(site: &Site, daemon: &mut Daemon) -> Result<()> {
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);
    ensure!(
        !daemon.pin_path().exists(),
        "{} is left",
        daemon.pin_path().display()
    );
    wait_bare(&site.edge, "eth0")
}

#[test]
fn an_interface_that_goes_to_another_namespace_is_let_go_and_taken_when_it_is_back() -> Result<()> {
    for mechanism in mechanisms()? {
        for meanwhile in MEANWHILE {
            println!("{mechanism} {meanwhile:?}");
            let mut site = Site::new()?;
            let mut daemon = start(&site, mechanism)?;
            let away = Netns::new("away")?;
            let leave = |name: &str| {
                site.edge
                    .run(&format!("ip link set {name} netns {}", away.name()))
                    .map(drop)
            };
            meanwhile.during(&mut daemon, || leave("lan0"))?;
            attached(&daemon, &["eth0"])?;
            wait_bare(&away, "lan0")?;
            away.run(&format!("ip link set lan0 netns {}", site.edge.name()))?;
            site.edge.run("ip link set lan0 up")?;
            attached(&daemon, &["eth0", "lan0"])?;
            site.expect_by("c0", "lan0", 53, 1)?;

            // gone, and another one has its name and its index
            let index = site.edge.index("lan0")?;
            meanwhile.during(&mut daemon, || {
                site.edge
                    .run(&format!("ip link set lan0 netns {}", away.name()))?;
                make(&site, "lan0", index, "c1")
            })?;
            attached(&daemon, &["eth0", "lan0"])?;
            wait_bare(&away, "lan0")?;
            site.expect_by("c1", "lan0", 53, 1)?;
            site.expect(53, 1)?;

            meanwhile.during(&mut daemon, || {
                site.edge
                    .run(&format!("ip link set eth1 netns {}", away.name()))
                    .map(drop)
            })?;
            status_until(&daemon, |code, status| {
                code == 1 && status["endpoints"][0]["state"] != "ready"
            })?;
            wait_bare(&away, "eth1")?;
            site.send_by("eth0", "eth0", 53)?;
            away.run(&format!("ip link set eth1 netns {}", site.edge.name()))?;
            site.edge.run("ip link set eth1 up")?;
            site.edge.address("eth1", "192.0.2.1/24")?;
            status_until(&daemon, |code, status| {
                code == 0 && status["endpoints"][0]["next_hop"].is_string()
            })?;
            site.drain()?;
            site.expect(53, 1)?;
            stop(&site, &mut daemon)?;
        }
    }
    Ok(())
}

#[test]
fn a_stranger_with_the_index_of_an_interface_is_left_alone() -> Result<()> {
    let foreign = "tc filter add dev other0 egress protocol ip prio 7 u32 match ip dst 203.0.113.99/32 flowid 1:1";
    for mechanism in mechanisms()? {
        for meanwhile in MEANWHILE {
            println!("{mechanism} {meanwhile:?}");
            let mut site = Site::new()?;
            let mut daemon = start(&site, mechanism)?;
            let index = site.edge.index("lan0")?;
            // with a qdisc of its own, and a filter there
            for filter in [false, true] {
                meanwhile.during(&mut daemon, || {
                    site.edge.run("ip link del lan0")?;
                    make(&site, "other0", index, "c0")?;
                    site.edge.run("tc qdisc add dev other0 clsact")?;
                    if filter {
                        site.edge.run(foreign).map(drop)
                    } else {
                        Ok(())
                    }
                })?;
                attached(&daemon, &["eth0"])?;
                wait_bare(&site.edge, "other0")?;
                assert!(has_clsact(&site.edge, "other0")?, "the qdisc of a stranger");
                assert_eq!(tc_filters(&site.edge, "other0")?.contains("u32"), filter);
                site.expect_by("c0", "other0", 53, 0)?;
                site.edge.run("ip link del other0")?;
                make(&site, "lan0", index, "c0")?;
                attached(&daemon, &["eth0", "lan0"])?;
                site.expect_by("c0", "lan0", 53, 1)?;
            }
            // another one of the name that is listed, with a qdisc of somebody else
            meanwhile.during(&mut daemon, || {
                site.edge.run("ip link del lan0")?;
                make(&site, "lan0", index, "c0")?;
                site.edge.run("tc qdisc add dev lan0 clsact").map(drop)
            })?;
            attached(&daemon, &["eth0", "lan0"])?;
            site.expect_by("c0", "lan0", 53, 1)?;
            stop(&site, &mut daemon)?;
            wait_bare(&site.edge, "lan0")?;
            assert!(
                has_clsact(&site.edge, "lan0")?,
                "the qdisc of somebody else"
            );
            site.bare(daemon.pin_path())?;
        }
    }
    Ok(())
}

#[test]
fn a_stranger_with_the_index_of_the_output_gets_no_copies() -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    let to_port_53 = |frame: &[u8]| {
        let flow = ip_part(frame).and_then(FiveTuple::parse);
        flow.is_ok_and(|flow| flow.ports.is_some_and(|(_, port)| port == 53))
    };
    for mechanism in mechanisms()? {
        for meanwhile in MEANWHILE {
            println!("{mechanism} {meanwhile:?}");
            let mut site = Site::new()?;
            let mut daemon = site.launch(&[53], attach(mechanism))?;
            let index = site.edge.index("eth1")?;
            let mut leaked = None;
            meanwhile.during(&mut daemon, || {
                site.edge.run("ip link del eth1")?;
                make(&site, "other0", index, "c9")?;
                let mut stranger = Collector::start_filtered(&site.client, "c9", to_port_53)?;
                // nobody is there to notice, but a clone that nothing wrapped blows the tripped of
                // its CPU
                for _ in 0..20 {
                    site.send_by("eth0", "eth0", 53)?;
                }
                let frames = stranger.take()?.len();
                ensure!(
                    frames <= cpus,
                    "{frames} clones have left by the interface of a stranger"
                );
                leaked = Some(stranger);
                Ok(())
            })?;
            status_until(&daemon, |code, status| {
                code == 1 && status["endpoints"][0]["state"] != "ready"
            })?;
            wait_bare(&site.edge, "other0")?;
            let Some(mut stranger) = leaked else { continue };
            stranger.take()?;
            for _ in 0..20 {
                site.send_by("eth0", "eth0", 53)?;
            }
            assert_eq!(stranger.take()?.len(), 0);
            stop(&site, &mut daemon)?;
        }
    }
    Ok(())
}

/// Its link goes with it, and no program is on a hook twice.
#[test]
fn an_interface_that_is_back_with_another_index_is_served_at_once() -> Result<()> {
    for mechanism in mechanisms()? {
        for interface in ["eth0", "eth1"] {
            let mut site = Site::new()?;
            let mut daemon = site.launch(&[53], attach(mechanism))?;
            let index = site.edge.index(interface)?;
            let elsewhere = Netns::new("elsewhere")?;
            Meanwhile::Dead.during(&mut daemon, || {
                let (there, back) = (elsewhere.name(), site.edge.name());
                // an interface that moves keeps its index where that is free
                elsewhere.run(&format!(
                    "ip link add taken index {index} type veth peer name peer index 900"
                ))?;
                site.edge
                    .run(&format!("ip link set {interface} netns {there}"))?;
                site.edge.run(&format!(
                    "ip link add taken index {index} type veth peer name peer index 900"
                ))?;
                elsewhere.run(&format!("ip link set {interface} netns {back}"))?;
                ensure!(
                    site.edge.index(interface)? != index,
                    "{interface} has its index again"
                );
                let address = if interface == "eth0" {
                    "10.0.0.254/24"
                } else {
                    "192.0.2.1/24"
                };
                site.edge.address(interface, address)?;
                site.edge.run(&format!("ip link set {interface} up"))?;
                site.edge
                    .run_until(
                        &format!("ip link show {interface}"),
                        |link| link.contains("state UP"),
                        deadline(),
                    )
                    .map(drop)
            })?;
            status_until(&daemon, |code, status| {
                code == 0 && status["endpoints"][0]["next_hop"].is_string()
            })?;
            site.expect(53, 1)?;
            let output = daemon.output();
            assert!(
                !output.iter().any(|line| line.contains("cannot attach")),
                "{mechanism} {interface}: {output:?}"
            );
            stop(&site, &mut daemon)?;
        }
    }
    Ok(())
}

#[test]
fn an_output_that_is_wanted_by_name_is_found_by_name() -> Result<()> {
    let mut site = Site::new()?;
    let file = config(&[53]).replace(
        "address = \"192.0.2.10\"",
        "address = \"192.0.2.10\"\ninterface = \"eth1\"",
    );
    let daemon = Daemon::start(&site.edge, &file)?;
    status_until(&daemon, |code, status| {
        code == 0 && status["endpoints"][0]["next_hop"].is_string()
    })?;
    site.expect(53, 1)?;
    rename(&site.edge, "eth1", "up1")?;
    status_until(&daemon, |code, status| {
        code == 1 && status["endpoints"][0]["state"] == "no-interface"
    })?;
    wait_bare(&site.edge, "up1")?;
    site.send_by("eth0", "eth0", 53)?;
    rename(&site.edge, "up1", "eth1")?;
    status_until(&daemon, |code, status| {
        code == 0 && status["endpoints"][0]["next_hop"].is_string()
    })?;
    site.expect(53, 1)
}

#[test]
fn what_others_have_attached_stays_while_ours_is_repaired() -> Result<()> {
    let foreign = |hook: &str, priority: u16| {
        format!(
            "tc filter add dev eth0 {hook} protocol ip prio {priority} u32 match ip dst 203.0.113.99/32 flowid 1:1"
        )
    };
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        if mechanism == "tcx" {
            // it stands behind ours
            let other = site.launch(&[54], attach(mechanism))?;
            let theirs = |daemon: &Daemon| -> Result<Vec<_>> {
                Ok(
                    traffic_mirror_tests::lab::objects::Objects::below(daemon.pin_path())?
                        .programs
                        .into_iter()
                        .collect(),
                )
            };
            let (before, place) = (theirs(&other)?, |ids: &[u32], all: Vec<u32>| -> Vec<u32> {
                all.into_iter().filter(|id| ids.contains(id)).collect()
            });
            let order = place(&before, site.programs("eth0")?);
            assert_eq!(order.len(), 2, "{before:?}");
            for link in links(&daemon, "mirror")?
                .into_iter()
                .chain(links(&daemon, "encap")?)
            {
                shell(&format!("bpftool link detach pinned {}", link.display()))?;
            }
            site.edge.run("ip link set dev lo alias nudge")?;
            status_until(&daemon, |code, status| code == 0 && status["repairs"] == 3)?;
            assert_eq!(place(&before, site.programs("eth0")?), order);
            assert_eq!(theirs(&other)?, before);
            assert_eq!(status_of(&other)?.1["repairs"], 0);
            drop(other);
        } else {
            for (hook, priority) in [("ingress", 7), ("ingress", 48_000), ("egress", 7)] {
                site.edge.run(&foreign(hook, priority))?;
            }
            let theirs = || -> Result<Vec<String>> {
                let filters = tc_filters(&site.edge, "eth0")?;
                Ok(filters
                    .lines()
                    .filter(|line| line.contains("u32"))
                    .map(str::to_owned)
                    .collect())
            };
            let before = theirs()?;
            site.edge.run("tc filter del dev eth0 ingress prio 49000")?;
            status_until(&daemon, |code, status| code == 0 && status["repairs"] == 1)?;
            assert_eq!(theirs()?, before);
            // qdiscs of somebody else in place of ours, with a filter and without
            Meanwhile::Asleep.during(&mut daemon, || {
                for interface in ["eth0", "eth1"] {
                    site.edge
                        .run(&format!("tc qdisc del dev {interface} clsact"))?;
                    site.edge
                        .run(&format!("tc qdisc add dev {interface} clsact"))?;
                }
                site.edge.run(&foreign("ingress", 7)).map(drop)
            })?;
            status_until(&daemon, |code, status| code == 0 && status["repairs"] == 5)?;
        }
        site.expect(53, 1)?;
        stop(&site, &mut daemon)?;
        if mechanism == "clsact" {
            assert!(tc_filters(&site.edge, "eth0")?.contains("u32"));
            assert!(
                has_clsact(&site.edge, "eth0")? && has_clsact(&site.edge, "eth1")?,
                "qdiscs of somebody else"
            );
        }
    }
    Ok(())
}

/// A qdisc of somebody else's stands in the place of ours.
#[test]
fn an_interface_that_takes_no_clsact_is_taken_when_it_does() -> Result<()> {
    let mut site = Site::new()?;
    site.edge.run("tc qdisc add dev eth0 ingress")?;
    let mut daemon = Daemon::spawn(&site.edge, &config(&[53]), attach("clsact"))?;
    daemon.ready(deadline())?;
    status_until(&daemon, |code, status| {
        code == 1 && status["endpoints"][0]["next_hop"].is_string()
    })?;
    site.expect(53, 0)?;
    let said = daemon.wait_line(
        |line| line.contains("cannot attach mirror to the ingress of eth0"),
        deadline(),
    )?;
    assert!(said.contains("File exists"), "{said}");
    // what was begun there must not look like something of ours
    let pins = |dir: &str| -> Result<Vec<String>> {
        let entries = std::fs::read_dir(daemon.pin_path().join(dir))?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    };
    let eth1 = site.edge.index("eth1")?;
    assert_eq!(
        pins("filters")?,
        [
            format!("encap1-{eth1}-egress"),
            format!("icmp_errors1-{eth1}-ingress")
        ]
    );
    assert!(site.edge.run("tc qdisc show dev eth0")?.contains("ingress"));
    site.edge.run("tc qdisc del dev eth0 ingress")?;
    attached(&daemon, &["eth0"])?;
    site.expect(53, 1)?;
    stop(&site, &mut daemon)
}

#[test]
fn each_thing_is_said_once_however_often_the_daemon_looks() -> Result<()> {
    for mechanism in mechanisms()? {
        let site = Site::new()?;
        let mut daemon = start(&site, mechanism)?;
        let said = |daemon: &Daemon, what: &str| {
            daemon
                .output()
                .iter()
                .filter(|line| line.contains(what))
                .count()
        };
        let look = |daemon: &mut Daemon| -> Result<()> {
            for round in 0..3 {
                site.edge
                    .run(&format!("ip link set dev lo alias look-{round}"))?;
                // whatever came before has been seen to when this is done
                daemon.signal(Signal::SIGHUP)?;
                daemon.reload_done(deadline())?;
            }
            Ok(())
        };
        for times in 1..=2 {
            site.edge.run("ip link del lan0")?;
            daemon.wait_line(
                |line| line.contains("WARN interface lan0 is absent"),
                deadline(),
            )?;
            look(&mut daemon)?;
            assert_eq!(said(&daemon, "WARN interface lan0 is absent"), times);
            veth(&site.edge, "lan0", &site.client, "c0")?;
            attached(&daemon, &["eth0", "lan0"])?;
            look(&mut daemon)?;
        }
        let repairs = if mechanism == "tcx" {
            for link in links(&daemon, "mirror")? {
                shell(&format!("bpftool link detach pinned {}", link.display()))?;
            }
            4
        } else {
            site.edge.run("tc qdisc del dev eth0 clsact")?;
            2
        };
        look(&mut daemon)?;
        status_until(&daemon, |code, status| {
            code == 0 && status["repairs"] == repairs
        })?;
        assert_eq!(said(&daemon, ": attached it again"), repairs);
        site.edge.run("ip link set eth1 down")?;
        let silent = "endpoint ids (192.0.2.10) gets no copies: ";
        daemon.wait_line(|line| line.contains(silent), deadline())?;
        look(&mut daemon)?;
        // the route may go somewhat later, which is another reason
        let output = daemon.output();
        let mut reasons: Vec<_> = output
            .iter()
            .filter_map(|line| line.split_once(silent))
            .map(|(_, r)| r)
            .collect();
        let times = reasons.len();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), times, "{output:?}");
    }
    Ok(())
}
