//! The place of our programs among those of others on a hook: `order` of an interface.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::foreign::{Foreign, Side, Verdict, chain};
use traffic_mirror_tests::lab::packet::eth_between;
use traffic_mirror_tests::lab::socket::PacketType::{self, Incoming, Outgoing};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};

use crate::crash::Crash;
use crate::site::{AHEAD, Site, attach, config, mechanisms, shell, status_of, status_until};

const WAYS: [PacketType; 2] = [Incoming, Outgoing];

/// The file with an order for `eth0`.
pub(crate) fn ordered(ports: &[u16], order: &str) -> String {
    config(ports).replace(
        "name = \"eth0\"\n",
        &format!("name = \"eth0\"\norder = \"{order}\"\n"),
    )
}

/// A site with foreign programs on both hooks of `eth0`, in that order, that let everything pass.
fn with_strangers(mechanism: &str, names: &[&str]) -> Result<(Site, Vec<Foreign>)> {
    let site = Site::new()?;
    if mechanism == "clsact" {
        site.edge.run("tc qdisc add dev eth0 clsact")?;
    }
    let mut strangers = Vec::new();
    for (number, name) in (0..).zip(names) {
        let mut stranger = Foreign::load(name, Verdict::Next)?;
        for way in WAYS {
            if mechanism == "clsact" {
                stranger.attach_filter(&site.edge, "eth0", way, 100 * (number + 1))?;
            } else {
                stranger.attach(&site.edge, mechanism, "eth0", way, Side::Last)?;
            }
        }
        strangers.push(stranger);
    }
    Ok((site, strangers))
}

/// What is on a hook of `eth0`; our program is "mirror".
fn there(site: &Site, mechanism: &str, way: PacketType) -> Result<Vec<String>> {
    let names = chain(&site.edge, mechanism, "eth0", way)?;
    Ok(names
        .into_iter()
        .map(|name| {
            if name.starts_with("mirror_") {
                "mirror".to_owned()
            } else {
                name
            }
        })
        .collect())
}

/// Has the daemon look, and waits until it has.
fn look(daemon: &mut Daemon) -> Result<()> {
    daemon.signal(Signal::SIGHUP)?;
    daemon.reload_done(deadline()).map(drop)
}

/// Waits until both hooks are as wanted.
fn wait_for(site: &Site, mechanism: &str, wanted: &[&str]) -> Result<()> {
    for way in WAYS {
        let deadline = deadline();
        loop {
            let names = there(site, mechanism, way)?;
            if names == wanted {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "{mechanism} {way:?}: {names:?}, not {wanted:?}"
            );
        }
    }
    Ok(())
}

/// Each order, and where it leads among `a` and `b`.
const ORDERS: [(&str, [&str; 3]); 6] = [
    ("first", ["mirror", "a", "b"]),
    ("after a", ["a", "mirror", "b"]),
    ("before a", ["mirror", "a", "b"]),
    ("last", ["a", "b", "mirror"]),
    ("before b", ["a", "mirror", "b"]),
    ("after b", ["a", "b", "mirror"]),
];

#[test]
fn a_program_goes_where_the_file_wants_it() -> Result<()> {
    for mechanism in mechanisms()? {
        let (mut site, _strangers) = with_strangers(mechanism, &["a", "b"])?;
        for (order, wanted) in ORDERS {
            let mut daemon = Daemon::spawn(&site.edge, &ordered(&[53], order), attach(mechanism))?;
            daemon.ready(deadline())?;
            wait_for(&site, mechanism, &wanted)?;
            let status = status_until(&daemon, |_, status| {
                status["endpoints"][0]["next_hop"].is_string()
            })?;
            assert_eq!(
                (&status["interfaces"][0]["order"], &status["repairs"]),
                (&json!(order), &json!(0))
            );
            assert_eq!(status["interfaces"][1]["in_order"], json!(true));
            site.expect(53, 1)?;
            daemon.signal(Signal::SIGTERM)?;
            assert_eq!(daemon.wait_exit(deadline())?, 0);
            ensure!(
                !daemon.pin_path().exists(),
                "{} is left",
                daemon.pin_path().display()
            );
            assert_eq!(there(&site, mechanism, Incoming)?, ["a", "b"]);
        }
    }
    Ok(())
}

#[test]
fn a_reload_moves_a_program_and_no_packet_notices() -> Result<()> {
    for mechanism in mechanisms()? {
        let (mut site, _strangers) = with_strangers(mechanism, &["a", "b"])?;
        let mut daemon = site.launch(&[4000, 4001], attach(mechanism))?;
        let mut moves = 0;
        for round in 0..3 {
            // one as fast as can be, and those that leave the daemon some time
            let pause = if round == 0 {
                Duration::ZERO
            } else {
                Duration::from_micros(200)
            };
            let poured = site.pour(AHEAD, pause, || {
                for (order, wanted) in ORDERS {
                    daemon.write_config(&ordered(&[4000, 4001], order))?;
                    daemon.reload_done(deadline())?;
                    wait_for(&site, mechanism, &wanted)?;
                    moves += 1;
                }
                Ok(())
            })?;
            let flooded = site.each_once(poured)?;
            println!(
                "{mechanism}: {} packets while the order changed",
                flooded.sent
            );
        }
        let (code, status) = status_of(&daemon)?;
        assert_eq!(
            (code, moves, &status["repairs"]),
            (0, 18, &json!(0)),
            "{status:#}"
        );
        let output = daemon.output();
        let told = output
            .iter()
            .filter(|line| line.ends_with("INFO ~ interface eth0"))
            .count();
        assert_eq!(told, moves, "{output:?}");
    }
    Ok(())
}

/// Sends a datagram to a port by the client's `eth0`, whatever becomes of it.
fn send(site: &Site, port: u16) -> Result<()> {
    let macs = (site.client.mac("eth0")?, site.edge.mac("eth0")?);
    let frame = eth_between(macs.0, macs.1)
        .ip("10.0.0.1", "10.0.0.254")
        .udp(999, port)
        .payload("dropped")
        .build();
    PacketSocket::open(&site.client, "eth0", Capture::Nothing)?.send(&frame)
}

#[test]
fn what_a_program_before_ours_drops_is_not_copied() -> Result<()> {
    for mechanism in mechanisms()? {
        let (mut site, _) = with_strangers(mechanism, &[])?;
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        let mut guard = Foreign::load("guard", Verdict::Drop)?;
        guard.attach(&site.edge, mechanism, "eth0", Incoming, Side::First)?;
        for (order, copies) in [
            ("last", 0),
            ("first", 1),
            ("after guard", 0),
            ("before guard", 1),
        ] {
            daemon.write_config(&ordered(&[53], order))?;
            daemon.reload_done(deadline())?;
            site.drain()?;
            send(&site, 53)?;
            site.collector.copies(copies, deadline())?;
            let surplus = site.surplus()?;
            assert!(surplus.is_empty(), "{mechanism} {order}: {surplus:?}");
        }
    }
    Ok(())
}

#[test]
fn a_place_is_held_against_those_who_come_later() -> Result<()> {
    for mechanism in mechanisms()? {
        for (order, side, wanted) in [
            ("first", Side::First, ["mirror", "late", "a"]),
            ("last", Side::Last, ["a", "late", "mirror"]),
            ("before late", Side::First, ["mirror", "late", "a"]),
            ("after late", Side::Last, ["a", "late", "mirror"]),
        ] {
            println!("{mechanism} {order}");
            let (mut site, _strangers) = with_strangers(mechanism, &["a"])?;
            let mut daemon = Daemon::spawn(
                &site.edge,
                &ordered(&[53, 4000, 4001], order),
                attach(mechanism),
            )?;
            daemon.ready(deadline())?;
            if order.ends_with("late") {
                let awaited = format!(
                    "order \"{order}\" is pending, no program \"late\" is attached; it runs last until then"
                );
                daemon.wait_line(|line| line.ends_with(&awaited), deadline())?;
                wait_for(&site, mechanism, &["a", "mirror"])?;
                let (code, status) = status_of(&daemon)?;
                let interface = &status["interfaces"][0];
                assert_eq!(
                    (code, &interface["in_order"]),
                    (0, &json!(false)),
                    "{status:#}"
                );
                let said = String::from_utf8(daemon.run(&["status"])?.stdout)?;
                assert!(
                    said.contains(&format!(
                        ", order \"{order}\" is pending: last until late is attached\n"
                    )),
                    "{said}"
                );
                let plan = daemon.run(&["plan"])?;
                let said = String::from_utf8_lossy(&plan.stdout).into_owned();
                assert!(
                    said.contains(&awaited) && said.contains("no changes"),
                    "{said}"
                );
                assert!(daemon.run(&["wait", "--timeout", "5"])?.status.success());
            }
            status_until(&daemon, |_, status| {
                status["endpoints"][0]["next_hop"].is_string()
            })?;
            let mut late = Foreign::load("late", Verdict::Next)?;
            let poured = site.pour(AHEAD, Duration::from_micros(200), || {
                for way in WAYS {
                    late.attach(&site.edge, mechanism, "eth0", way, side)?;
                }
                if mechanism == "tcx" {
                    // the kernel tells nobody, but anything that happens to an interface is a
                    // reason to look
                    site.edge.run("ip link set dev lo alias nudge")?;
                }
                wait_for(&site, mechanism, &wanted)
            })?;
            site.each_once(poured)?;
            status_until(&daemon, |code, status| code == 0 && status["repairs"] == 2)?;
            for way in ["ingress", "egress"] {
                let line = format!(
                    "WARN mirror on the {way} of eth0 was no longer {order}: moved it back"
                );
                daemon.wait_line(|said| said.ends_with(&line), deadline())?;
            }
            site.expect(53, 1)?;
        }
    }
    Ok(())
}

#[test]
fn a_daemon_may_die_while_it_moves_a_program() -> Result<()> {
    for mechanism in mechanisms()? {
        let (mut site, _strangers) = with_strangers(mechanism, &["a"])?;
        let files = ["first", "last"].map(|order| ordered(&[4000, 4001], order));
        let (daemon, crash) = Crash::by(&site, files.to_vec(), attach(mechanism))?;
        let mut deaths = 0;
        let poured = site.pour(AHEAD, Duration::from_micros(200), || {
            let mut steps = 0;
            loop {
                steps += 1;
                // each begins where the other has died
                let [first, last] = [crash.die(0, steps)?, crash.die(1, steps)?];
                deaths += u32::from(first) + u32::from(last);
                if !first && !last {
                    return Ok(());
                }
            }
        })?;
        let flooded = site.each_once(poured)?;
        println!("{mechanism}: {deaths} deaths, {} packets", flooded.sent);
        ensure!(deaths >= 10, "{deaths} deaths");
        wait_for(&site, mechanism, &["a", "mirror"])?;
        assert!(!daemon.pin_path().join("turns").exists());
        drop(daemon);
    }
    Ok(())
}

/// Who ends what the output receives hides no error about copies.
#[test]
fn what_counts_errors_is_first_on_the_output() -> Result<()> {
    for mechanism in mechanisms()? {
        let site = Site::new()?;
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        let inputs = |site: &Site| chain(&site.edge, mechanism, "eth1", Incoming);
        assert_eq!(inputs(&site)?, ["icmp_errors"]);
        let mut late = Foreign::load("late", Verdict::Pass)?;
        if mechanism == "clsact" {
            late.attach_filter(&site.edge, "eth1", Incoming, 3)?;
        } else {
            late.attach(&site.edge, mechanism, "eth1", Incoming, Side::First)?;
        }
        look(&mut daemon)?;
        assert_eq!(inputs(&site)?, ["icmp_errors", "late"]);
        let status = status_until(&daemon, |code, status| code == 0 && status["repairs"] == 1)?;
        assert_eq!(
            status["endpoints"][0]["drops"],
            json!({}),
            "no copy has been in danger: {status:#}"
        );
        let said = "icmp_errors on the ingress of eth1 was no longer first: moved it back";
        daemon.wait_line(|line| line.ends_with(said), deadline())?;
    }
    Ok(())
}

/// Stranger programs see copies only once they are wrapped.
#[test]
fn what_wraps_copies_is_first_on_the_output() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        if mechanism == "clsact" {
            site.edge.run("tc qdisc add dev eth1 clsact")?;
        }
        let mut ender = Foreign::load("ender", Verdict::Pass)?;
        ender.attach(&site.edge, mechanism, "eth1", Outgoing, Side::First)?;
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        let outputs = |site: &Site| chain(&site.edge, mechanism, "eth1", Outgoing);
        assert_eq!(outputs(&site)?, ["encap", "ender"]);
        site.expect(53, 1)?;
        // whose copies go no further than to the first of these
        let mut late = Foreign::load("late", Verdict::Pass)?;
        daemon.signal(Signal::SIGSTOP)?;
        if mechanism == "clsact" {
            late.attach_filter(&site.edge, "eth1", Outgoing, 3)?;
        } else {
            late.attach(&site.edge, mechanism, "eth1", Outgoing, Side::First)?;
        }
        assert_eq!(outputs(&site)?, ["late", "encap", "ender"]);
        for _ in 0..4 {
            send(&site, 53)?;
        }
        daemon.signal(Signal::SIGCONT)?;
        look(&mut daemon)?;
        assert_eq!(outputs(&site)?, ["encap", "late", "ender"]);
        let status = status_until(&daemon, |code, status| code == 0 && status["repairs"] == 1)?;
        assert!(
            status["endpoints"][0]["drops"]["unwrapped"].as_u64() > Some(0),
            "{status:#}"
        );
        daemon.wait_line(
            |line| line.ends_with("encap on the egress of eth1 was no longer first: moved it back"),
            deadline(),
        )?;
        site.drain()?;
        for _ in 0..4 {
            site.expect(53, 1)?;
        }
        daemon.signal(Signal::SIGTERM)?;
        assert_eq!(daemon.wait_exit(deadline())?, 0);
        assert_eq!(outputs(&site)?, ["late", "ender"]);
    }
    Ok(())
}

#[test]
fn mirror_and_what_wraps_its_copies_share_a_hook_in_any_order() -> Result<()> {
    for mechanism in mechanisms()? {
        let (mut site, _strangers) = with_strangers(mechanism, &[])?;
        // what eth1 sends is mirrored by eth1
        let file = ordered(&[53], "last") + "\n[[interface]]\nname = \"eth1\"\norder = \"last\"\n";
        let mut daemon = Daemon::spawn(&site.edge, &file, attach(mechanism))?;
        daemon.ready(deadline())?;
        status_until(&daemon, |_, status| {
            status["endpoints"][0]["next_hop"].is_string()
        })?;
        for (order, wanted) in [
            // as it is
            ("last", ["encap", "mirror_egress"]),
            ("before encap", ["mirror_egress", "encap"]),
            ("first", ["mirror_egress", "encap"]),
            ("after encap", ["encap", "mirror_egress"]),
        ] {
            if order != "last" {
                daemon.write_config(&file.replacen(
                    "order = \"last\"\n",
                    &format!("order = \"{order}\"\n"),
                    2,
                ))?;
                daemon.reload_done(deadline())?;
            }
            assert_eq!(
                chain(&site.edge, mechanism, "eth1", Outgoing)?,
                wanted,
                "{mechanism} {order}"
            );
            site.expect(53, 1)?;
            site.drain()?;
            let datagram = eth_between(site.edge.mac("eth1")?, site.host.mac("eth0")?);
            let datagram = datagram
                .ip("192.0.2.1", "192.0.2.10")
                .udp(999, 53)
                .payload("by the output")
                .build();
            PacketSocket::open(&site.edge, "eth1", Capture::Nothing)?.send(&datagram)?;
            site.collector.copies(1, deadline())?;
            assert!(site.surplus()?.is_empty(), "{mechanism} {order}");
            let (code, status) = status_of(&daemon)?;
            assert_eq!(
                (code, &status["repairs"]),
                (0, &json!(0)),
                "{order}: {status:#}"
            );
        }
    }
    Ok(())
}

/// Takes `mirror` off the egress of `eth0`, and waits until the daemon has put it on again: so it
/// has looked.
fn have_it_look(site: &Site, daemon: &Daemon, mechanism: &str, repairs: u64) -> Result<()> {
    if mechanism == "tcx" {
        let index = site.edge.index("eth0")?;
        let link = daemon
            .pin_path()
            .join(format!("links/mirror-{index}-egress"));
        shell(&format!("bpftool link detach pinned {}", link.display()))?;
        site.edge
            .run(&format!("ip link set dev lo alias nudge-{repairs}"))?;
    } else {
        site.edge.run("tc filter del dev eth0 egress")?;
    }
    status_until(daemon, |_, status| status["repairs"] == repairs).map(drop)
}

#[test]
fn nobody_is_fought_more_often_than_by_the_slow_timer() -> Result<()> {
    for mechanism in mechanisms()? {
        let (mut site, _) = with_strangers(mechanism, &[])?;
        let mut daemon = Daemon::spawn(&site.edge, &ordered(&[53], "first"), attach(mechanism))?;
        daemon.ready(deadline())?;
        status_until(&daemon, |_, status| {
            status["endpoints"][0]["next_hop"].is_string()
        })?;
        let [mut one, mut two] = [
            Foreign::load("one", Verdict::Next)?,
            Foreign::load("two", Verdict::Next)?,
        ];
        let at = |stranger: &mut Foreign, site: &Site, priority: u16| match mechanism {
            "tcx" => stranger.attach(&site.edge, mechanism, "eth0", Incoming, Side::First),
            _ => stranger.attach_filter(&site.edge, "eth0", Incoming, priority),
        };
        at(&mut one, &site, 100)?;
        have_it_look(&site, &daemon, mechanism, 2)?;
        assert_eq!(there(&site, mechanism, Incoming)?, ["mirror", "one"]);
        at(&mut two, &site, 5)?;
        have_it_look(&site, &daemon, mechanism, 3)?;
        assert_eq!(there(&site, mechanism, Incoming)?, ["two", "mirror", "one"]);
        look(&mut daemon)?;
        assert_eq!(there(&site, mechanism, Incoming)?, ["mirror", "two", "one"]);
        assert_eq!(status_of(&daemon)?.1["repairs"], 4);
        site.expect(53, 1)?;
    }
    Ok(())
}

#[test]
fn two_daemons_may_both_be_first_or_last() -> Result<()> {
    for mechanism in mechanisms()? {
        for order in ["first", "last"] {
            let (mut site, _strangers) = with_strangers(mechanism, &["a"])?;
            let start = |port: u16| -> Result<Daemon> {
                let mut daemon =
                    Daemon::spawn(&site.edge, &ordered(&[port], order), attach(mechanism))?;
                daemon.ready(deadline())?;
                status_until(&daemon, |_, status| {
                    status["endpoints"][0]["next_hop"].is_string()
                })?;
                Ok(daemon)
            };
            let mut daemons = [start(53)?, start(54)?];
            for daemon in &mut daemons {
                look(daemon)?;
                let (code, status) = status_of(daemon)?;
                assert_eq!(
                    (code, &status["repairs"]),
                    (0, &json!(0)),
                    "{mechanism} {order}: {status:#}"
                );
                assert_eq!(
                    status["interfaces"][0]["in_order"],
                    json!(true),
                    "{mechanism} {order}: {status:#}"
                );
            }
            let wanted = if order == "first" {
                ["mirror", "mirror", "a"]
            } else {
                ["a", "mirror", "mirror"]
            };
            wait_for(&site, mechanism, &wanted)?;
            site.expect(53, 1)?;
            site.expect(54, 1)?;
        }
    }
    Ok(())
}

#[test]
fn without_a_free_priority_the_rest_works_all_the_same() -> Result<()> {
    let (mut site, _) = with_strangers("clsact", &[])?;
    let guard = Foreign::load("guard", Verdict::Next)?;
    guard.attach_filter(&site.edge, "eth0", Incoming, 1)?;
    for order in ["first", "before guard"] {
        let mut daemon = Daemon::spawn(&site.edge, &ordered(&[53], order), attach("clsact"))?;
        daemon.ready(deadline())?;
        status_until(&daemon, |_, status| {
            status["endpoints"][0]["next_hop"].is_string()
        })?;
        let said = "WARN mirror on the ingress of eth0: order \"";
        daemon.wait_line(
            |line| line.contains(said) && line.contains("leave no priority free"),
            deadline(),
        )?;
        assert_eq!(there(&site, "clsact", Incoming)?, ["guard", "mirror"]);
        let (code, status) = status_of(&daemon)?;
        assert_eq!(
            (code, &status["interfaces"][0]["in_order"]),
            (1, &json!(false)),
            "{status:#}"
        );
        let why = format!(
            "the program on the ingress of eth0 does not run {order}, as the file asks: it is 2 of 2 after "
        );
        assert!(
            status["reasons"][0]
                .as_str()
                .is_some_and(|said| said.starts_with(&why)),
            "{status:#}"
        );
        assert!(daemon.run(&["wait", "--timeout", "5"])?.status.success());
        look(&mut daemon)?;
        assert_eq!(
            daemon
                .output()
                .iter()
                .filter(|line| line.contains(said))
                .count(),
            1,
            "{:?}",
            daemon.output()
        );
        site.expect(53, 1)?;
    }
    Ok(())
}
