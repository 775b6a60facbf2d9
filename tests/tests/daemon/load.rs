//! Much traffic, many filters.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::collector::{Collector, describe};
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::netns::command_in;
use traffic_mirror_tests::lab::packet::{FiveTuple, ip_part};
use traffic_mirror_tests::lab::veth::veth;
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use crate::site::{SITE, Site, attach, config, filter, mechanisms, status_until};

/// Both sets of rules match all that a flood sends, each by other fields, and send it to another
/// port.
const RULES: [&str; 2] = [
    r#"
[[interface]]
name = "eth0"

[endpoint.first]
address = "192.0.2.10"
port = 6081

[[filter]]
name = "by-port"
protocol = ["udp"]
destination_port = [4000, 4001]
to = ["first"]
"#,
    r#"
[[interface]]
name = "eth0"

[endpoint.second]
address = "192.0.2.10"
port = 6082

[[filter]]
name = "by-address"
protocol = ["udp"]
source = ["10.0.0.0/24"]
destination = ["10.0.0.0/24"]
to = ["second"]
"#,
];

#[test]
fn each_packet_sees_the_rules_before_or_after_a_reload() -> Result<()> {
    /// In all.
    const RELOADS: usize = 1000;
    /// For each mechanism, so that the packets of one have room in memory.
    const FLOODS: usize = 5;
    /// Of each flood by the daemon itself, which begins and ends with the first rules; the rest in
    /// one process, which takes less time.
    const BY_DAEMON: usize = 20;
    let mut site = Site::new()?;
    let directory = TempDir::new()?;
    let paths = ["first.toml", "second.toml"].map(|name| directory.path().join(name));
    paths
        .iter()
        .zip(RULES)
        .try_for_each(|(path, rules)| fs::write(path, rules))?;
    let mechanisms = mechanisms()?;
    let by_swap = RELOADS / mechanisms.len() / FLOODS - BY_DAEMON;
    let begin = Instant::now();
    for &mechanism in &mechanisms {
        let mut daemon = Daemon::spawn(&site.edge, RULES[0], attach(mechanism))?;
        daemon.ready(deadline())?;
        for _ in 0..FLOODS {
            let namespace = site.edge.as_fd().try_clone_to_owned()?;
            let mut swap = command_in(&namespace, env!("CARGO_BIN_EXE_crash"))?;
            swap.arg("swap")
                .arg(daemon.pin_path())
                .args(&paths)
                .arg(by_swap.to_string());
            let flooded = site.flood(|| {
                for reload in 1..=BY_DAEMON {
                    daemon.write_config(RULES[reload % 2])?;
                    daemon.reload_done(deadline())?;
                }
                daemon.signal(Signal::SIGKILL)?;
                daemon.wait_exit(deadline())?;
                process::succeed(&mut swap, Instant::now() + Duration::from_secs(60))?;
                daemon.restart()?;
                daemon.ready(deadline())
            })?;
            let ports: Vec<u16> = flooded.by_port.keys().copied().collect();
            println!(
                "{mechanism}: {} packets, {:?} copies, {:?}",
                flooded.sent,
                flooded.by_port,
                begin.elapsed()
            );
            assert_eq!(ports, [6081, 6082]);
        }
        let reports = daemon
            .output()
            .iter()
            .filter(|line| line.contains("INFO loaded the file: 4 changes, "))
            .count();
        // each start, too, has all to report
        assert!(reports >= FLOODS * BY_DAEMON, "{:?}", daemon.output());
    }
    Ok(())
}

#[test]
fn at_rest_it_takes_little_memory() -> Result<()> {
    // two thirds are the program and the libraries
    const MOST_KIB: u64 = 20 << 10;
    let site = Site::new()?;
    for mechanism in mechanisms()? {
        let mut daemon = site.launch(&(1000..1010).collect::<Vec<_>>(), attach(mechanism))?;
        for from in [1010, 1100, 2005, 1003] {
            daemon.write_config(&config(&(from..from + 10).collect::<Vec<_>>()))?;
            daemon.reload_done(deadline())?;
        }
        // and after more filters than the maps had room for
        daemon.write_config(&many(1000))?;
        daemon.reload_done(deadline())?;
        daemon.write_config(&config(&(1000..1010).collect::<Vec<_>>()))?;
        daemon.reload_done(deadline())?;
        let end = deadline();
        // what it does behind the notification takes a moment
        let (now, most) = loop {
            let (now, most) = memory_kib(&daemon)?;
            if now <= MOST_KIB || Instant::now() >= end {
                break (now, most);
            }
        };
        println!("{mechanism}: {now} KiB with 10 filters, at most {most} KiB");
        assert!(now <= MOST_KIB, "{now} KiB");
    }
    Ok(())
}

#[test]
fn nothing_bare_leaves_while_it_starts_and_stops() -> Result<()> {
    const ROUNDS: usize = 4;
    let mut site = Site::new()?;
    let bare = |frame: &[u8]| {
        let flow = ip_part(frame).and_then(FiveTuple::parse);
        flow.is_ok_and(|flow| {
            flow.ports
                .is_some_and(|(_, port)| matches!(port, 4000 | 4001))
        })
    };
    let mut bare = Collector::start_filtered(&site.host, "eth0", bare)?;
    for mechanism in mechanisms()? {
        let mut daemon = site.launch(&[4000, 4001], attach(mechanism))?;
        let sent = site.pour(u32::MAX as usize, Duration::ZERO, || {
            for _ in 0..ROUNDS {
                daemon.signal(Signal::SIGTERM)?;
                assert_eq!(daemon.wait_exit(deadline())?, 0);
                daemon.restart()?;
                daemon.ready(deadline())?;
            }
            Ok(())
        })?;
        let copies = site.collector.take()?.len();
        println!(
            "{mechanism}: {copies} copies of {} packets",
            sent.iter().map(|(_, sent)| sent).sum::<u32>()
        );
        assert!(copies > 0);
        let status = status_until(&daemon, |_, _| true)?;
        assert!(
            status["endpoints"][0]["drops"]
                .as_object()
                .is_some_and(|drops| drops.is_empty()),
            "{status:#}"
        );
    }
    let frames: Vec<_> = bare.take()?.iter().map(|frame| describe(frame)).collect();
    assert!(
        frames.is_empty(),
        "{} clones without a tunnel, such as {}",
        frames.len(),
        frames[0]
    );
    Ok(())
}

/// What is attached, by the names of the pins.
fn pins(daemon: &Daemon) -> Result<BTreeSet<OsString>> {
    let directories = ["links", "filters"].map(|name| daemon.pin_path().join(name));
    let entries = directories
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten();
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

#[test]
fn a_crash_while_new_maps_take_over_is_repaired() -> Result<()> {
    /// Each half as many again as the one before, and more: the maps have no room for them.
    const FILTERS: [usize; 8] = [100, 220, 480, 1000, 2200, 4800, 10_000, 16_000];
    const WIRES: u32 = 5;
    let mut site = Site::new()?;
    // more hooks, more to be caught in the middle of
    for wire in 0..WIRES {
        veth(
            &site.edge,
            &format!("lan{wire}"),
            &site.client,
            &format!("c{wire}"),
        )?;
    }
    let config = |port, filters| {
        let filler = (0..filters).map(|n| filter(&format!("filler-{n}"), 20_000 + n as u16));
        config(&[4000, port]) + &filler.collect::<String>() + "\n[[interface]]\nname = \"lan*\"\n"
    };
    for mechanism in mechanisms()? {
        let mut daemon = Daemon::spawn(&site.edge, &config(5000, 0), attach(mechanism))?;
        daemon.ready(deadline())?;
        for (crash, filters) in FILTERS.into_iter().enumerate() {
            let ports = [[5001, 5000], [5000, 5001]][crash % 2];
            let before = pins(&daemon)?;
            daemon.write_config(&config(ports[0], filters))?;
            daemon.signal(Signal::SIGHUP)?;
            // the first of the new programs is attached; the others follow within a millisecond
            let deadline = deadline();
            while pins(&daemon)?.is_subset(&before) {
                ensure!(Instant::now() < deadline, "nothing is attached");
            }
            let moment = Instant::now() + Duration::from_micros(crash as u64 * 200);
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
            daemon.signal(Signal::SIGKILL)?;
            daemon.wait_exit(deadline)?;
            site.expect(4000, 1)?;
            // the old maps would do for the old file, but not every program uses them any more
            if let Some(before) = crash.checked_sub(1) {
                daemon.write_config(&config(ports[1], FILTERS[before]))?;
                daemon.restart()?;
                daemon.ready(deadline)?;
                site.expect(ports[0], 0)?;
                site.expect(ports[1], 1)?;
                site.expect_by("c4", "lan4", ports[1], 1)?;
                daemon.signal(Signal::SIGKILL)?;
                daemon.wait_exit(deadline)?;
                daemon.write_config(&config(ports[0], filters))?;
            }
            daemon.restart()?;
            daemon.ready(deadline)?;
            for (client, edge) in [("eth0", "eth0"), ("c0", "lan0"), ("c4", "lan4")] {
                site.expect_by(client, edge, ports[0], 1)?;
                site.expect_by(client, edge, ports[1], 0)?;
            }
            assert_eq!(pins(&daemon)?.len(), before.len(), "{:?}", pins(&daemon)?);
        }
        site.stops(&mut daemon)?;
    }
    Ok(())
}

fn many(filters: usize) -> String {
    let kind = |n: usize| match n % 4 {
        0 => String::new(),
        1 => format!(
            "source = [\"10.{}.{}.0/24\", \"10.0.0.0/24\"]\n",
            n / 256 % 256,
            n % 256
        ),
        2 => format!("destination = [\"10.0.0.254\", \"2001:db8:{n:x}::/48\"]\n"),
        _ => format!("source_port = [999, \"{}-{}\"]\n", 1000 + n, 1010 + n),
    };
    let filters = (0..filters).map(|n| filter(&format!("f{n}"), 1000 + n as u16) + &kind(n));
    SITE.to_owned() + &filters.collect::<String>()
}

/// Resident memory of the daemon in KiB, at the moment and at most.
pub(crate) fn memory_kib(daemon: &Daemon) -> Result<(u64, u64)> {
    let pid = daemon.pid().context("it does not run")?;
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .context("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

#[test]
fn filters_up_to_the_limit_are_taken_and_one_more_is_refused() -> Result<()> {
    const LIMIT: usize = 16_384;
    let until = || Instant::now() + Duration::from_secs(60);
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    let (small, _) = memory_kib(&daemon)?;
    println!("memory with 1 filter: {small} KiB");
    assert!(small < 32 << 10, "{small} KiB");

    daemon.write_config(&many(LIMIT))?;
    let report = daemon.wait_line(
        |line| line.contains("INFO loaded the file: 16385 changes, "),
        until(),
    )?;
    daemon.reload_done(until())?;
    let (large, most) = memory_kib(&daemon)?;
    println!("{LIMIT} filters: {report}; memory {large} KiB, at most {most} KiB");
    // each kind, the first and the last
    for n in [
        0,
        1,
        2,
        3,
        LIMIT / 2,
        LIMIT - 4,
        LIMIT - 3,
        LIMIT - 2,
        LIMIT - 1,
    ] {
        site.expect(1000 + n as u16, 1)?;
    }
    site.expect(999, 0)?;
    site.expect(1000 + LIMIT as u16, 0)?;

    daemon.write_config(&many(LIMIT + 1))?;
    let refused = |line: &str| {
        line.contains("limit-exceeded") && line.contains("16384") && line.contains("16385")
    };
    let error = daemon.wait_line(refused, until())?;
    println!("{error}");
    daemon.reload_done(until())?;
    site.expect(1000, 1)?;
    site.expect(1000 + LIMIT as u16, 0)?;
    let output = process::output(&mut daemon.command("check")?, until())?;
    let said = String::from_utf8(output.stderr)?;
    assert!(
        process::code(output.status) == 1 && said.lines().any(refused),
        "{said}"
    );
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(until())?, 0);
    site.bare(daemon.pin_path())?;

    let mut refusing = Daemon::spawn(&site.edge, &many(LIMIT + 1), Launch::default())?;
    assert_eq!(refusing.wait_exit(until())?, 78);
    site.bare(refusing.pin_path())
}
