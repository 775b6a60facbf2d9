//! That nothing but what happens to the file wakes the daemon.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::{TempDir, deadline};

use crate::site::{Site, config, shell};
use crate::system::traced;

/// Less than the slow timer, more than any other period.
const REST: Duration = Duration::from_secs(5);
/// Enough for what follows from an event.
const SOON: Duration = Duration::from_secs(1);

/// System calls in a trace, each as thread and text.
fn calls(trace: &Path) -> Result<Vec<(u32, String)>> {
    let text = fs::read_to_string(trace)?;
    // the last line may not be whole
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    // strace may tear a line; what follows then has no number
    let is_begin = |line: &&str| line.trim_start().starts_with(|first: char| first.is_ascii_digit());
    lines
        .filter(is_begin)
        .map(|line| {
            let (thread, call) = line.trim_start().split_once(' ').with_context(|| line.to_owned())?;
            Ok((thread.parse().with_context(|| line.to_owned())?, call.trim_start().to_owned()))
        })
        .collect()
}

/// Waits until the trace has not grown for that long; how many calls it has then.
fn at_rest(daemon: &Daemon, trace: &Path, rest: Duration) -> Result<usize> {
    let deadline = deadline() + REST;
    loop {
        let before = calls(trace)?;
        let pause = Instant::now() + rest;
        ensure!(daemon.wait_line(|line| line.contains("ERROR"), pause).is_err(), "{:?}", daemon.output());
        let after = calls(trace)?;
        if before.len() == after.len() {
            return Ok(after.len());
        }
        ensure!(Instant::now() < deadline, "it does not rest: {:?}", &after[before.len()..]);
    }
}

#[test]
fn only_the_file_wakes_the_daemon() -> Result<()> {
    let site = Site::new()?;
    // the collector's neighbour entry, which ages, would be a reason to wake
    let mac = site.host.mac("eth0")?.map(|byte| format!("{byte:02x}")).join(":");
    site.edge.run(&format!("ip neighbour replace 192.0.2.10 lladdr {mac} dev eth1 nud permanent"))?;
    // where nobody else makes files, in its parent neither
    let (directory, place) = (TempDir::new()?, TempDir::below(Path::new("/srv"))?);
    let launch = Launch { config: Some(place.path().join("mirror.toml")), ..Launch::default() };
    let (launch, trace) = traced(&directory, "all", launch)?;
    let mut daemon = site.launch(&[53], launch)?;
    let mut begin = at_rest(&daemon, &trace, REST)?;

    let main = daemon.pid().context("it does not run")?;
    let threads = fs::read_dir(format!("/proc/{main}/task"))?.map(|entry| Ok(entry?.path()));
    let mut watchers = BTreeSet::new();
    for thread in threads.collect::<std::io::Result<Vec<_>>>()? {
        if fs::read_to_string(thread.join("comm"))?.starts_with("notify-rs") {
            watchers.insert(thread.file_name().and_then(|name| name.to_str()).unwrap_or_default().parse::<u32>()?);
        }
    }
    ensure!(watchers.len() == 1 && !watchers.contains(&main), "{watchers:?}");

    // who only reads wakes nobody
    let beside = |name: &str| place.path().join(name);
    fs::read(daemon.config_path())?;
    shell(&format!("ls {}", place.path().display()))?;
    let read = at_rest(&daemon, &trace, SOON)?;
    ensure!(read == begin, "{:#?}", &calls(&trace)?[begin..]);

    // other files of the same directory, each way
    for name in ["another.toml", "mirror.toml.bak", ".mirror.toml.swp"] {
        fs::write(beside(name), config(&[54]))?;
        fs::rename(beside(name), beside("renamed"))?;
        fs::remove_file(beside("renamed"))?;
    }
    fs::create_dir(beside("directory"))?;
    let end = at_rest(&daemon, &trace, SOON)?;
    let woken = calls(&trace)?[begin..end].to_vec();
    ensure!(!woken.is_empty(), "the watcher must have read");
    let reads =
        |call: &str| ["read(", "epoll_wait(", "<... epoll_wait resumed>"].iter().any(|name| call.starts_with(name));
    let others: Vec<_> = woken.iter().filter(|(thread, call)| !watchers.contains(thread) || !reads(call)).collect();
    ensure!(others.is_empty(), "{others:#?}");
    println!("{} calls of the watcher", woken.len());

    // the trace does show who looks at the file
    begin = end;
    shell(&format!("touch {}", daemon.config_path().display()))?;
    at_rest(&daemon, &trace, SOON)?;
    let seen = calls(&trace)?[begin..].iter().any(|(thread, call)| *thread == main && call.contains("mirror.toml"));
    ensure!(seen, "{:#?}", &calls(&trace)?[begin..]);
    daemon.write_config(&config(&[54]))?;
    daemon.reload_done(deadline()).map(drop)
}
