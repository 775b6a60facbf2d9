//! The largest files that are accepted: what the daemon and the maps take.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use traffic_mirror::kernel::Generation;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::process;
use traffic_mirror_tests::oracle::large;
use traffic_mirror_tests::oracle::random::Random;

use crate::load::memory_kib;
use crate::site::{Site, config, filter};

const FILTERS: usize = 16_384;
/// What the daemon may take at most, KiB.
const MOST_KIB: u64 = 512 << 10;
/// What the maps may take, bytes: half as much again as a file may ask for, and the rest.
const MOST_MAPS_BYTES: u64 = 320 << 20;

fn patience() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

/// Sizes of maps that a generation has.
fn maps_bytes(daemon: &Daemon) -> Result<u64> {
    let number = Generation::list(daemon.pin_path())?
        .pop()
        .context("nothing is live")?;
    Ok(Generation::open(daemon.pin_path(), number)
        .memory()?
        .iter()
        .map(|(_, _, bytes)| bytes)
        .sum())
}

/// Saves a file, whatever the daemon has counted for the one before.
fn save(daemon: &Daemon, text: &str) -> Result<()> {
    let next = daemon.config_path().with_extension("next");
    fs::write(&next, text)?;
    Ok(fs::rename(next, daemon.config_path())?)
}

/// Starts, takes an edit, is killed, starts again, and takes other filters in place of all of
/// these.
#[test]
fn the_worst_files_that_are_accepted_keep_within_bounds() -> Result<()> {
    let site = Site::new()?;
    let random = || Random::new(7);
    let mut before = large::wide_above_hosts(&mut random(), 3_000);
    for (kind, text) in [
        (
            "ranges of both ports, one by one",
            large::ranges_of_both(&mut random(), FILTERS, 1),
        ),
        (
            "ranges of both ports, twelve each",
            large::ranges_of_both(&mut random(), FILTERS, 12),
        ),
        (
            "wide networks above hosts",
            large::wide_above_hosts(&mut random(), 6_000),
        ),
        (
            "IPv6 hosts far apart",
            large::hosts6(&mut random(), 12_000, 20),
        ),
    ] {
        let mut daemon = Daemon::spawn(&site.edge, &text, Launch::default())?;
        daemon.ready(patience())?;
        daemon.write_config(&text.replacen("[[filter]]\n", "[[filter]]\nenabled = false\n", 1))?;
        daemon.reload_done(patience())?;
        let (_, cold) = memory_kib(&daemon)?;
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(patience())?;
        daemon.restart()?;
        daemon.ready(patience())?;
        let (_, again) = memory_kib(&daemon)?;
        let maps = maps_bytes(&daemon)?;
        daemon.write_config(&before)?;
        daemon.reload_done(patience())?;
        let (_, other) = memory_kib(&daemon)?;
        println!(
            "{kind}: at most {cold} KiB, {again} started again, {other} with others; maps {} KiB",
            maps >> 10
        );
        assert!(
            cold.max(again).max(other) <= MOST_KIB,
            "{kind}: {cold}, {again}, {other} KiB"
        );
        assert!(maps <= MOST_MAPS_BYTES, "{kind}: maps of {maps} bytes");
        daemon.signal(Signal::SIGTERM)?;
        assert_eq!(daemon.wait_exit(patience())?, 0);
        before = text;
    }
    Ok(())
}

#[test]
fn what_is_too_large_is_refused_with_the_filter_that_is() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    let large = large::wide_above_hosts(&mut Random::new(7), FILTERS - 1) + &filter("last", 99);
    let list = |count: u32| -> String {
        let networks = (0..count)
            .map(|number| format!("\"{}\", ", std::net::Ipv4Addr::from_bits(number << 1)));
        networks.collect()
    };
    let huge = large::wide_above_hosts(&mut Random::new(7), 10)
        + &filter("heavy", 98).replace(
            "protocol",
            &format!("source = [{}]\nprotocol", list(1_300_000)),
        );
    for (text, wanted) in [
        (
            &large,
            &[
                "302759 networks, port ranges, server names and applications",
                "more than 160 MiB",
                "gives the most of them",
            ][..],
        ),
        (&huge, &["the file is larger than 16 MiB"][..]),
    ] {
        save(&daemon, text)?;
        let said = daemon.wait_line(|line| line.contains("limit-exceeded"), patience())?;
        daemon.reload_done(patience())?;
        assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{said}");
        site.expect(53, 1)?;
        let output = process::output(&mut daemon.command("check")?, patience())?;
        let said = String::from_utf8(output.stderr)?;
        assert!(
            process::code(output.status) == 1 && wanted.iter().all(|wanted| said.contains(wanted)),
            "{said}"
        );
    }
    let (_, most) = memory_kib(&daemon)?;
    assert!(most <= MOST_KIB, "{most} KiB");
    save(&daemon, &config(&[53]))?;
    daemon.reload_done(patience()).map(drop)
}
