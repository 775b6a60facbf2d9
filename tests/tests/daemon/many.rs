//! A host with as many interfaces as there may be, such as one with many pods.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror_ebpf::abi::MAX_INTERFACES;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::objects::Objects;
use traffic_mirror_tests::lab::{TempDir, deadline, patience, pause};

use crate::interfaces::make;
use crate::site::{Site, config, status_until};

/// Until so many programs have come or gone: the kernel takes some 15 ms for each.
pub(crate) fn long(programs: usize) -> Instant {
    deadline() + Duration::from_millis(30) * programs as u32 * patience()
}

/// Runs lines of `ip` in the edge, all in one process.
pub(crate) fn batch(site: &Site, lines: impl Iterator<Item = String>) -> Result<()> {
    let directory = TempDir::new()?;
    let file = directory.path().join("lines");
    fs::write(&file, lines.map(|line| line + "\n").collect::<String>())?;
    site.edge
        .run(&format!("ip -batch {}", file.display()))
        .map(drop)
}

/// The indices of the interfaces of the edge on which `mirror` has a pin.
fn served(daemon: &Daemon) -> Result<BTreeSet<u32>> {
    let names = |directory: &str| -> Result<Vec<String>> {
        let path = daemon.pin_path().join(directory);
        if !path.exists() {
            return Ok(Vec::new());
        }
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    let pins = [names("links")?, names("filters")?].concat();
    let indices = pins
        .iter()
        .filter_map(|pin| pin.strip_prefix("mirror-")?.split('-').next()?.parse().ok());
    Ok(indices.collect())
}

fn until(what: &str, deadline: Instant, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    while !is_so()? {
        ensure!(Instant::now() < deadline, "{what}: not in time");
        pause();
    }
    Ok(())
}

/// With one interface too many the last by name waits; a newcomer waits, too, whatever its name,
/// and who has gone makes room. While they are attached, a saved file is live at once, and the
/// daemon is ready when all are there.
#[test]
fn as_many_interfaces_as_there_may_be_are_looked_at_and_newcomers_wait() -> Result<()> {
    // one is the client's
    const MANY: u32 = MAX_INTERFACES as u32 - 1;
    let mut site = Site::new()?;
    // all differ by multiples of 64
    let index = |nth: u32| 64 * (nth + 100);
    make(&site, "many000", index(0), "c0")?;
    batch(
        &site,
        (1..=MANY).map(|nth| {
            format!(
                "link add many{nth:03} index {} type veth peer p{nth:03}",
                index(nth)
            )
        }),
    )?;
    let all = "\n[[interface]]\nname = \"many*\"\ndirection = \"ingress\"\n";
    let mut daemon = Daemon::spawn(&site.edge, &(config(&[53]) + all), Launch::default())?;
    let last = format!(
        "at most {MAX_INTERFACES} interfaces are mirrored; list fewer; left out: many{MANY:03}"
    );
    daemon.wait_line(|line| line.contains(&last), long(0))?;
    daemon.wait_line(|line| line.contains("still to attach or detach"), long(0))?;

    daemon.write_config(&(config(&[53, 54]) + all))?;
    daemon.wait_line(|line| line.ends_with("+ filter port-54"), long(0))?;
    assert!(
        daemon.notifications().iter().all(|line| line != "READY=1"),
        "ready before all programs are attached"
    );
    site.expect(54, 1)?;

    daemon.ready(long(MAX_INTERFACES))?;
    let before = served(&daemon)?;
    assert_eq!(before.len(), MAX_INTERFACES);
    assert_eq!(Objects::below(daemon.pin_path())?.programs.len(), 5);
    status_until(&daemon, |_, status| {
        status["endpoints"][0]["next_hop"].is_string()
    })?;
    site.expect_by("c0", "many000", 53, 1)?;
    site.expect(53, 1)?;

    // the first of all by name
    make(&site, "many-new", 7777, "c1")?;
    status_until(&daemon, |_, status| {
        let mut waiting = status["not_mirrored"].as_array().into_iter().flatten();
        waiting.any(|one| one["name"] == "many-new" && one["reason"] == "limit")
    })?;
    assert_eq!(served(&daemon)?, before);
    site.expect_by("c1", "many-new", 53, 0)?;
    site.expect_by("c0", "many000", 53, 1)?;

    site.edge.run("ip link del many001")?;
    let gone = index(1);
    let after: BTreeSet<u32> = before
        .iter()
        .copied()
        .filter(|&there| there != gone)
        .chain([7777])
        .collect();
    until("the newcomer's turn", long(0), || {
        Ok(served(&daemon)? == after)
    })?;
    site.expect_by("c1", "many-new", 53, 1)?;
    site.expect_by("c0", "many000", 53, 1)?;

    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(long(MAX_INTERFACES))?, 0);
    site.bare(daemon.pin_path())
}

/// One pod of many is replaced: few elements are written, and the others are left alone.
#[test]
fn a_pod_that_is_replaced_costs_a_few_writes() -> Result<()> {
    const PODS: u32 = 110;
    let mut site = Site::new()?;
    batch(
        &site,
        (0..PODS).map(|nth| format!("link add veth{nth:03} type veth peer p{nth:03}")),
    )?;
    let file = config(&[53]) + "\n[[interface]]\nname = \"veth*\"\n";
    let mut daemon = Daemon::spawn(&site.edge, &file, Launch::default())?;
    let programs = 2 * PODS as usize;
    daemon.ready(long(programs))?;
    status_until(&daemon, |_, status| {
        status["endpoints"][0]["next_hop"].is_string()
    })?;
    let (before, said) = (served(&daemon)?, daemon.output().len());
    let written = map_writes(&daemon.metrics_path())?;

    site.edge.run("ip link del veth007")?;
    // the first by name
    make(&site, "veth-new", 7777, "c1")?;
    let since = Instant::now();
    until("the new pod's turn", long(0), || {
        Ok(served(&daemon)?.contains(&7777))
    })?;
    let delay = since.elapsed();
    site.expect_by("c1", "veth-new", 53, 1)?;
    println!("the new pod is mirrored after {} ms", delay.as_millis());
    until("the old pod's end", long(0), || {
        Ok(served(&daemon)?.len() == before.len())
    })?;
    let gone: Vec<u32> = before.difference(&served(&daemon)?).copied().collect();
    assert_eq!(gone.len(), 1, "{gone:?}");

    // some ten writes for each look, of which there may be some; and no new maps
    until("the metrics", long(0) + Duration::from_secs(15), || {
        Ok(map_writes(&daemon.metrics_path())? > written)
    })?;
    let lines = daemon.output();
    let counts = lines[said..].iter().filter_map(|line| {
        line.split(" map write")
            .next()?
            .rsplit(' ')
            .next()?
            .parse::<usize>()
            .ok()
    });
    let count: usize = counts.sum::<usize>();
    assert!(
        (1..=40).contains(&count),
        "{count} writes: {:?}",
        &lines[said..]
    );
    assert_eq!(Objects::below(daemon.pin_path())?.programs.len(), 5);
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(long(programs))?, 0);
    site.bare(daemon.pin_path())
}

fn map_writes(metrics: &Path) -> Result<u64> {
    let text = fs::read_to_string(metrics).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("traffic_mirror_map_writes_total "));
    line.map_or(Ok(0), |value| value.parse().context("a count"))
}
