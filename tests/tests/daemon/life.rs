//! Readiness, signals, a crash and what comes after it, the log.

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::objects::{Objects, has_clsact, tc_filters};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use crate::log::in_the_journal;
use crate::site::{Site, attach, config, mechanisms, reload_unchanged, status_of};

#[test]
fn ready_means_live_and_reloads_are_notified() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = Daemon::start(&site.edge, &config(&[53]))?;
    site.expect(53, 1)?;
    assert_eq!(daemon.notifications(), ["READY=1"]);
    daemon.write_config(&config(&[54]))?;
    daemon.reload_done(deadline())?;
    site.expect(53, 0)?;
    site.expect(54, 1)?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait_exit(deadline())?;
    let notified = daemon.notifications();
    let words: Vec<_> = notified
        .iter()
        .map(|line| line.split('=').next().unwrap_or(line))
        .collect();
    assert_eq!(
        words,
        ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"],
        "{notified:?}"
    );
    Ok(())
}

#[test]
fn sigterm_and_sigint_leave_nothing_in_the_kernel() -> Result<()> {
    let mut site = Site::new()?;
    for mechanism in mechanisms()? {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut daemon = site.launch(&[53], attach(mechanism))?;
            let (_, status) = status_of(&daemon)?;
            assert_eq!(status["interfaces"][0]["attached"], mechanism);
            assert_eq!(has_clsact(&site.edge, "eth0")?, mechanism == "clsact");
            site.expect(53, 1)?;
            let objects = Objects::below(daemon.pin_path())?;
            let links = if mechanism == "tcx" { 4 } else { 0 };
            assert_eq!((objects.programs.len(), objects.links.len()), (5, links));
            daemon.signal(signal)?;
            assert_eq!(daemon.wait_exit(deadline())?, 0);
            site.bare(daemon.pin_path())?;
            objects.wait_gone(deadline())?;
            site.expect(53, 0)?;
            let last = daemon.output().pop().context("it said nothing")?;
            assert!(
                last.ends_with("INFO stopped: removed everything from the kernel"),
                "{last}"
            );
        }
    }
    Ok(())
}

#[test]
fn what_others_have_on_the_interface_stays() -> Result<()> {
    let mut site = Site::new()?;
    let add = |hook: &str| {
        format!(
            "tc filter add dev eth0 {hook} protocol ip prio 7 u32 match ip dst 203.0.113.99/32 flowid 1:1"
        )
    };
    // with a filter, and without
    site.edge.run("tc qdisc add dev eth0 clsact")?;
    site.edge.run(&add("ingress"))?;
    site.edge.run("tc qdisc add dev eth1 clsact")?;
    let before = tc_filters(&site.edge, "eth0")?;
    ensure!(before.contains("u32"), "{before}");
    for mechanism in mechanisms()? {
        for crash in [false, true] {
            let mut daemon = site.launch(&[53], attach(mechanism))?;
            site.expect(53, 1)?;
            daemon.signal(if crash {
                Signal::SIGKILL
            } else {
                Signal::SIGTERM
            })?;
            daemon.wait_exit(deadline())?;
            if crash {
                process::succeed(&mut daemon.command("detach")?, deadline())?;
            }
            assert_eq!(tc_filters(&site.edge, "eth0")?, before, "{mechanism}");
            assert!(
                has_clsact(&site.edge, "eth0")? && has_clsact(&site.edge, "eth1")?,
                "{mechanism}"
            );
            assert_eq!(tc_filters(&site.edge, "eth1")?, "", "{mechanism}");
            assert!(!daemon.pin_path().exists());
        }
    }
    // somebody comes to use a qdisc that the daemon has made
    site.edge.run("tc qdisc del dev eth0 clsact")?;
    let mut daemon = site.launch(&[53], attach("clsact"))?;
    site.edge.run(&add("egress"))?;
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);
    let left = tc_filters(&site.edge, "eth0")?;
    assert!(left.contains("u32") && !left.contains("bpf"), "{left}");
    Ok(())
}

#[test]
fn sighup_takes_the_file_again_changed_or_not() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    for _ in 0..2 {
        reload_unchanged(&mut daemon)?;
    }
    site.expect(53, 1)
}

#[test]
fn a_crash_or_a_restart_loses_no_copy_and_the_next_daemon_takes_over() -> Result<()> {
    let mut site = Site::new()?;
    for mechanism in mechanisms()? {
        let mut daemon = site.launch(&[4000, 4001], attach(mechanism))?;
        site.expect(4000, 1)?;
        let before = Objects::below(daemon.pin_path())?;
        let flooded = site.flood(|| {
            for (signal, code) in [(Signal::SIGKILL, 128 + 9), (Signal::SIGUSR2, 0)] {
                daemon.signal(signal)?;
                assert_eq!(daemon.wait_exit(deadline())?, code);
                daemon.restart()?;
                daemon.ready(deadline())?;
            }
            Ok(())
        })?;
        println!(
            "{mechanism}: {} packets during crash and restart, each copied once",
            flooded.sent
        );
        assert!(flooded.sent > 1000);
        assert_eq!(
            Objects::below(daemon.pin_path())?,
            before,
            "nothing was to be changed"
        );
        let output = daemon.output();
        assert!(
            output.iter().any(|line| line.contains(", 0 map writes, ")),
            "{output:?}"
        );

        // crash, and the file has changed before the next start
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        site.expect(4000, 1)?;
        daemon.write_config(&config(&[4000, 4002]))?;
        daemon.restart()?;
        daemon.ready(deadline())?;
        site.expect(4000, 1)?;
        site.expect(4001, 0)?;
        site.expect(4002, 1)?;

        let objects = Objects::below(daemon.pin_path())?;
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        process::succeed(&mut daemon.command("detach")?, deadline())?;
        site.bare(daemon.pin_path())?;
        objects.wait_gone(deadline())?;
    }
    Ok(())
}

/// The directory of the live maps, `maps-NUMBER-LAYOUT-PROGRAMS`.
fn maps(daemon: &Daemon) -> Result<String> {
    let names = fs::read_dir(daemon.pin_path())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let maps: Vec<String> = names.filter(|name| name.starts_with("maps-")).collect();
    ensure!(maps.len() == 1, "{maps:?}");
    Ok(maps[0].clone())
}

/// Frames that were no IP packets, such as ARP, on the first hook.
fn skipped(daemon: &Daemon) -> Result<u64> {
    let (_, status) = status_of(daemon)?;
    Ok(status["interfaces"][0]["skipped"]["not-ip"]
        .as_u64()
        .unwrap_or(0))
}

/// Both are there for a moment, so that a few packets are copied twice. None goes without, but for
/// those that the kernel drops from the queue of an interface that gets or loses a clsact qdisc
/// (`qdisc_graft`).
#[test]
fn another_mechanism_takes_over() -> Result<()> {
    if mechanisms()?.len() < 2 {
        println!("skipped: TCX needs Linux 6.6");
        return Ok(());
    }
    let mut site = Site::new()?;
    let mut daemon = site.launch(&[4000, 4001], attach("tcx"))?;
    for mechanism in ["clsact", "tcx"] {
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        let before = matched_and_dropped(&daemon)?;
        let sent = site.pour(1000, Duration::from_micros(50), || {
            daemon.restart_with(attach(mechanism))?;
            daemon.ready(deadline())
        })?;
        let sent: usize = sent.iter().map(|(_, sent)| *sent as usize).sum();
        let (_, status) = status_of(&daemon)?;
        ensure!(
            status["interfaces"][0]["attached"] == mechanism,
            "{status:#}"
        );
        let after = matched_and_dropped(&daemon)?;
        let (matched, dropped) = (after.0 - before.0, after.1 - before.1);
        let copies = site
            .collector
            .copies(matched - dropped, deadline())
            .context("copies that were counted as sent")?;
        let copied: BTreeSet<_> = copies.iter().map(|copy| &copy.inner).collect();
        println!(
            "{mechanism}: {sent} packets, {} copied, {} copies, {dropped} dropped",
            copied.len(),
            copies.len()
        );
        ensure!(
            copied.len() + dropped >= sent,
            "{} packets without a copy",
            sent - copied.len() - dropped
        );
        site.expect(4000, 1)?;
    }
    Ok(())
}

/// Packets that filters have matched, and copies that were dropped.
fn matched_and_dropped(daemon: &Daemon) -> Result<(usize, usize)> {
    let (_, status) = status_of(daemon)?;
    let filters = status["filters"].as_array().into_iter().flatten();
    let matched = filters
        .filter_map(|filter| filter["packets"].as_u64())
        .sum::<u64>();
    let drops = status["endpoints"][0]["drops"]
        .as_object()
        .into_iter()
        .flatten();
    let dropped = drops
        .filter_map(|(_, packets)| packets.as_u64())
        .sum::<u64>();
    Ok((matched as usize, dropped as usize))
}

#[test]
fn maps_of_another_version_are_replaced_without_a_gap() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[4000, 4001])?;
    let ours = maps(&daemon)?;
    let [_, number, layout, programs] = ours.split('-').collect::<Vec<_>>()[..] else {
        bail!("{ours}")
    };
    let count = |daemon: &Daemon| -> Result<u64> {
        let (_, status) = status_of(daemon)?;
        status["endpoints"][0]["packets"]
            .as_u64()
            .context("a counter")
    };
    // other programs with the same maps, as after an upgrade; maps that only a later version can
    // read, as after going back
    let mut number: u32 = number.parse()?;
    // something that no filter can be asked about
    let strange = [&[0xff; 12][..], &[0x88, 0xb5], &[0; 46]].concat();
    PacketSocket::open(&site.client, "eth0", Capture::Nothing)?.send(&strange)?;
    let later = format!("{}-{programs}", layout.parse::<u32>()? + 1);
    for (origin, keeps_counters) in [(format!("{layout}-00000001"), true), (later, false)] {
        let (before, skipped) = (count(&daemon)?, skipped(&daemon)?);
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        fs::rename(
            daemon.pin_path().join(maps(&daemon)?),
            daemon.pin_path().join(format!("maps-{number}-{origin}")),
        )?;
        let flooded = site.flood(|| {
            daemon.restart()?;
            daemon.ready(deadline())
        })?;
        number += 1;
        assert_eq!(maps(&daemon)?, format!("maps-{number}-{layout}-{programs}"));
        println!(
            "{origin}: {} packets while it is replaced, each copied once",
            flooded.sent
        );
        if keeps_counters {
            assert_eq!(count(&daemon)?, before + u64::from(flooded.sent));
            assert!(
                skipped > 0 && self::skipped(&daemon)? >= skipped,
                "{skipped}"
            );
        }
        site.expect(4000, 1)?;
    }
    Ok(())
}

#[test]
fn a_second_daemon_on_the_same_pins_refuses() -> Result<()> {
    let mut site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    let before = Objects::below(daemon.pin_path())?;
    let output = daemon.run(&["run"])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(process::code(output.status), 1, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let pid = daemon.pid().context("it runs")?;
    let refused = format!(
        "error: another traffic-mirror, process {pid}, uses {}; ",
        daemon.pin_path().display()
    );
    assert!(said.starts_with(&refused), "{said}");
    assert_eq!(Objects::below(daemon.pin_path())?, before);
    site.expect(53, 1)?;
    // with pins of its own it is welcome
    let other = site.daemon(&[54])?;
    site.expect(53, 1)?;
    site.expect(54, 1)?;
    drop(other);
    site.expect(53, 1)
}

#[test]
fn log_lines_have_a_time_unless_the_journal_adds_it() -> Result<()> {
    let site = Site::new()?;
    let directory = TempDir::new()?;
    let inherited = Launch {
        env: vec![("JOURNAL_STREAM".into(), "1:2".into())],
        ..Launch::default()
    };
    let journal = in_the_journal(&directory, None)?;
    for (launch, timed) in [
        (Launch::default(), true),
        (inherited, true),
        (journal, false),
    ] {
        let mut daemon = site.launch(&[53], launch)?;
        daemon.signal(Signal::SIGTERM)?;
        daemon.wait_exit(deadline())?;
        let output = daemon.output();
        assert!(output.len() >= 5, "{output:?}");
        for line in &output {
            let rest = if timed {
                line.split_once("Z ").map(|(time, rest)| (time.len(), rest))
            } else {
                Some((0, &**line))
            };
            let (time, rest) = rest.with_context(|| format!("no time: {line}"))?;
            // 2025-01-01T00:00:00.000000, in UTC
            assert!(
                !timed || time == 26 && line.as_bytes()[10] == b'T',
                "{line}"
            );
            let rest = if timed {
                rest
            } else {
                rest.strip_prefix("<6>").context("no priority")?
            };
            assert!(
                rest.trim_start().starts_with("INFO ") && !line.contains('\x1b'),
                "{line}"
            );
        }
        let messages: Vec<_> = output
            .iter()
            .filter_map(|line| line.split_once("INFO "))
            .map(|(_, text)| text)
            .collect();
        assert_eq!(
            messages[..3],
            ["+ interface eth0", "+ endpoint ids", "+ filter port-53"]
        );
    }
    Ok(())
}

#[test]
fn counters_of_unchanged_filters_survive_a_reload() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53, 54])?;
    let counts = |daemon: &Daemon| -> Result<Vec<(String, u64)>> {
        let (_, status) = status_of(daemon)?;
        let lists = [&status["filters"], &status["endpoints"]];
        let all = lists
            .into_iter()
            .filter_map(|list| list.as_array())
            .flatten();
        Ok(all
            .map(|one| {
                (
                    one["name"].as_str().unwrap_or("").to_owned(),
                    one["packets"].as_u64().unwrap_or(0),
                )
            })
            .collect())
    };
    let named = |list: &[(&str, u64)]| {
        list.iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect::<Vec<_>>()
    };
    for _ in 0..3 {
        site.expect(53, 1)?;
    }
    site.expect(54, 1)?;
    assert_eq!(
        counts(&daemon)?,
        named(&[("port-53", 3), ("port-54", 1), ("ids", 4)])
    );
    daemon.write_config(&config(&[1, 53, 60000]))?;
    daemon.reload_done(deadline())?;
    assert_eq!(
        counts(&daemon)?,
        named(&[("port-1", 0), ("port-53", 3), ("port-60000", 0), ("ids", 4)])
    );
    site.expect(53, 1)?;
    site.expect(1, 1)?;
    assert_eq!(
        counts(&daemon)?,
        named(&[("port-1", 1), ("port-53", 4), ("port-60000", 0), ("ids", 6)])
    );
    // one that was gone begins anew
    daemon.write_config(&config(&[53, 54]))?;
    daemon.reload_done(deadline())?;
    assert_eq!(
        counts(&daemon)?,
        named(&[("port-53", 4), ("port-54", 0), ("ids", 6)])
    );
    Ok(())
}
