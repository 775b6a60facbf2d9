//! Somebody else takes off what the daemon has put on.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use traffic_mirror::tables::Table;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;

use crate::site::{Site, attach, mechanisms, shell, status_of, status_until};
use crate::tamper::{Deed, tamper};

/// Pins of links whose name begins with `role`.
pub(crate) fn links(daemon: &Daemon, role: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(daemon.pin_path().join("links"))?;
    let paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    let is_of = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(role))
    };
    Ok(paths.into_iter().filter(|path| is_of(path)).collect())
}

/// Takes off `mirror` from `eth0` or what is on `eth1`, by force.
fn take_off(site: &Site, daemon: &Daemon, mechanism: &str, role: &str) -> Result<()> {
    let interface = if role == "mirror" { "eth0" } else { "eth1" };
    if mechanism == "tcx" {
        let (links, before) = (links(daemon, role)?, site.programs(interface)?);
        for link in &links {
            shell(&format!("bpftool link detach pinned {}", link.display()))?;
        }
        assert_eq!(site.programs(interface)?.len(), before.len() - links.len());
        assert!(!links.is_empty());
    } else {
        site.edge
            .run(&format!("tc qdisc del dev {interface} clsact"))?;
    }
    Ok(())
}

/// Without what counts errors copies go on as before, and it is put on again.
fn heard_again(site: &mut Site, daemon: &Daemon, mechanism: &str, place: &str) -> Result<()> {
    if mechanism == "tcx" {
        take_off(site, daemon, mechanism, "icmp_errors")?;
        site.expect(53, 1)?;
        site.edge.run("ip link add icmp type veth peer peer-icmp")?;
    } else {
        site.edge.run("tc filter del dev eth1 ingress")?;
    }
    let line =
        format!("WARN another process detached icmp_errors from the {place}: attached it again");
    daemon.wait_line(|said| said.ends_with(&line), deadline())?;
    site.expect(53, 1)
}

#[test]
fn what_was_taken_off_is_noticed_and_put_on_again() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        site.expect(53, 1)?;
        for (role, places) in [
            ("mirror", &["ingress of eth0", "egress of eth0"][..]),
            ("encap", &["egress of eth1"]),
            ("icmp_errors", &["ingress of eth1"]),
        ] {
            if role == "icmp_errors" {
                heard_again(&mut site, &daemon, mechanism, places[0])?;
                continue;
            }
            // stopped, so that there is time to look
            daemon.signal(Signal::SIGSTOP)?;
            take_off(&site, &daemon, mechanism, role)?;
            let (code, status) = status_of(&daemon)?;
            let attached = &status["interfaces"][0]["attached"];
            let state = &status["endpoints"][0]["state"];
            let wanted = if role == "mirror" {
                (true, "ready")
            } else {
                (false, "not-attached")
            };
            assert_eq!(
                (code, attached.is_null(), state.as_str()),
                (1, wanted.0, Some(wanted.1)),
                "{status:#}"
            );
            // several, so that each CPU has had to do with it
            for _ in 0..4 {
                site.expect(53, 0)?;
            }
            daemon.signal(Signal::SIGCONT)?;
            if mechanism == "tcx" {
                // the kernel tells nobody, but anything that happens to an interface is a reason to
                // look
                site.edge
                    .run(&format!("ip link add {role} type veth peer peer-{role}"))?;
            }
            for place in places {
                let line = format!(
                    "WARN another process detached {role} from the {place}: attached it again"
                );
                daemon.wait_line(|said| said.ends_with(&line), deadline())?;
            }
            status_until(&daemon, |code, _| code == 0)?;
            for _ in 0..4 {
                site.expect(53, 1)?;
            }
        }
        let status = status_until(&daemon, |code, _| code == 0)?;
        assert!(
            status["endpoints"][0]["drops"]["unwrapped"].as_u64() > Some(0),
            "{status:#}"
        );
        daemon.signal(Signal::SIGTERM)?;
        assert_eq!(daemon.wait_exit(deadline())?, 0);
        site.edge.run("ip link del mirror").ok();
        site.bare(daemon.pin_path())?;
    }
    Ok(())
}

#[test]
fn one_filter_deleted_is_put_on_again_and_all_go_at_the_end() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.launch(&[53], attach("clsact"))?;
    site.edge.run("tc filter del dev eth0 ingress")?;
    daemon.wait_line(
        |line| line.contains("another process detached mirror from the ingress of eth0"),
        deadline(),
    )?;
    status_until(&daemon, |code, _| code == 0)?;
    site.expect(53, 1)?;
    assert!(
        !daemon
            .output()
            .iter()
            .any(|line| line.contains("egress of eth0")),
        "{:?}",
        daemon.output()
    );
    site.stops(&mut daemon)
}

#[test]
fn the_slow_timer_sees_what_no_event_tells_however_busy_the_network_is() -> Result<()> {
    let mut site = Site::new()?;
    let mechanism = *mechanisms()?.first().context("no mechanism")?;
    site.keep_neighbour()?;
    let daemon = site.launch(&[53], attach(mechanism))?;
    take_off(&site, &daemon, mechanism, "mirror")?;
    tamper(
        &daemon,
        (Table::Filters, 0, Table::Filters.element_bytes()),
        Deed::Clear,
    )?;
    let begin = Instant::now();
    for round in 0.. {
        let second = Instant::now() + Duration::from_secs(1);
        if daemon
            .wait_line(
                |line| line.contains("another process detached mirror"),
                second,
            )
            .is_ok()
        {
            break;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(40),
            "not noticed in 40 s"
        );
        // neighbours that nobody sends copies to
        site.edge.run(&format!(
            "ip neighbour replace 10.0.0.77 lladdr 02:00:00:00:00:{:02x} dev eth0",
            round % 256
        ))?;
    }
    let repairs = if mechanism == "tcx" { 3 } else { 2 };
    let status = status_until(&daemon, |code, status| {
        code == 0 && status["repairs"] == repairs
    })?;
    assert_eq!(status["filters"][0]["name"], "port-53");
    let output = daemon.output();
    assert_eq!(
        output
            .iter()
            .filter(|line| line.ends_with(": restored 1 element"))
            .count(),
        1,
        "{output:?}"
    );
    site.expect(53, 1)
}
