//! That nothing but what happens to the file, the timer of the metrics and the pulse wakes the
//! daemon.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::{TempDir, deadline};

use crate::site::{Site, config, shell};
use crate::system::traced;

/// Less than the slow timer and that of the metrics, more than any other period.
const REST: Duration = Duration::from_secs(5);
/// That of the metrics.
const PERIOD: Duration = Duration::from_secs(15);
/// Enough for what follows from an event.
const SOON: Duration = Duration::from_secs(1);

/// System calls in a trace, each as thread and text.
fn calls(trace: &Path) -> Result<Vec<(u32, String)>> {
    let text = fs::read_to_string(trace)?;
    // the last line may not be whole
    let lines = text
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'));
    // `status`, which is traced into the same file, may tear a line; what follows then has no
    // number
    let call = |line: &str| {
        let (thread, call) = line.trim_start().split_once(' ')?;
        Some((thread.parse().ok()?, call.trim_start().to_owned()))
    };
    // who begins to wait does not wake: a wait that strace tells of in two lines counts by the
    // second, when it ends
    let begins = |(_, call): &(u32, String)| is_wait(call) && call.ends_with("<unfinished ...>");
    Ok(lines
        .filter_map(call)
        .filter(|call| !begins(call))
        .collect())
}

fn is_wait(call: &str) -> bool {
    call.starts_with("futex(") && call.contains("FUTEX_WAIT")
        || call.starts_with("<... futex resumed>")
}

/// What a trace tells.
struct Seen {
    /// Without what follows.
    calls: Vec<(u32, String)>,
    /// How often the main thread has woken for the metrics, and then done nothing else.
    metrics: usize,
}

fn seen(daemon: &Daemon, trace: &Path) -> Result<Seen> {
    let main = daemon.pid().context("it does not run")?;
    let metrics = daemon.metrics_path().display().to_string();
    let calls = calls(trace)?;
    let of_main: Vec<usize> = (0..calls.len())
        .filter(|&index| calls[index].0 == main)
        .collect();
    // from one wait to the next; strace tells of a wait once it ends
    let is_wait = |index: &usize| is_wait(&calls[*index].1);
    let is_for_metrics = |woken: &&[usize]| {
        let has = |words: &[&str]| {
            woken
                .iter()
                .any(|&index| words.iter().all(|word| calls[index].1.contains(word)))
        };
        has(&["rename(", &metrics]) && !has(&["F_SETLEASE"])
    };
    // each second a sign of life, and a look at endpoints, but none at the file
    let is_pulse = |woken: &&[usize]| {
        let has = |word: &str| woken.iter().any(|&index| calls[index].1.contains(word));
        has("BPF_MAP_UPDATE_ELEM") && !has("F_SETLEASE")
    };
    let pulses = of_main
        .split_inclusive(is_wait)
        .filter(is_pulse)
        .flatten()
        .copied();
    let woken: Vec<&[usize]> = of_main
        .split_inclusive(is_wait)
        .filter(is_for_metrics)
        .collect();
    let left_out: BTreeSet<usize> = woken
        .iter()
        .copied()
        .flatten()
        .copied()
        .chain(pulses)
        .collect();
    let left = (0..calls.len())
        .filter(|index| !left_out.contains(index))
        .map(|index| calls[index].clone());
    Ok(Seen {
        metrics: woken.len(),
        calls: left.collect(),
    })
}

/// Waits until nothing but the metrics has made the trace grow for that long; how many calls it has
/// then without them.
fn at_rest(daemon: &Daemon, trace: &Path, rest: Duration) -> Result<usize> {
    let deadline = deadline() + REST;
    loop {
        let before = seen(daemon, trace)?.calls;
        let pause = Instant::now() + rest;
        ensure!(
            daemon
                .wait_line(|line| line.contains("ERROR"), pause)
                .is_err(),
            "{:?}",
            daemon.output()
        );
        let after = seen(daemon, trace)?.calls;
        if before.len() == after.len() {
            return Ok(after.len());
        }
        ensure!(
            Instant::now() < deadline,
            "it does not rest: {:?}",
            &after[before.len()..]
        );
    }
}

#[test]
fn only_the_file_wakes_the_daemon() -> Result<()> {
    let (site, start) = (Site::new()?, Instant::now());
    site.keep_neighbour()?;
    // where nobody else makes files, in its parent neither
    let (directory, place) = (TempDir::new()?, TempDir::below(Path::new("/srv"))?);
    let launch = Launch {
        config: Some(place.path().join("mirror.toml")),
        ..Launch::default()
    };
    let (launch, trace) = traced(&directory, "all", launch)?;
    let mut daemon = site.launch(&[53], launch)?;
    let mut begin = at_rest(&daemon, &trace, REST)?;

    let main = daemon.pid().context("it does not run")?;
    let threads = fs::read_dir(format!("/proc/{main}/task"))?.map(|entry| Ok(entry?.path()));
    let mut watchers = BTreeSet::new();
    for thread in threads.collect::<std::io::Result<Vec<_>>>()? {
        if fs::read_to_string(thread.join("comm"))?.starts_with("notify-rs") {
            watchers.insert(
                thread
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default()
                    .parse::<u32>()?,
            );
        }
    }
    ensure!(
        watchers.len() == 1 && !watchers.contains(&main),
        "{watchers:?}"
    );

    // who only reads wakes nobody
    let beside = |name: &str| place.path().join(name);
    fs::read(daemon.config_path())?;
    shell(&format!("ls {}", place.path().display()))?;
    let read = at_rest(&daemon, &trace, SOON)?;
    ensure!(
        read == begin,
        "{:#?}",
        &seen(&daemon, &trace)?.calls[begin..]
    );

    // other files of the same directory, each way
    for name in ["another.toml", "mirror.toml.bak", ".mirror.toml.swp"] {
        fs::write(beside(name), config(&[54]))?;
        fs::rename(beside(name), beside("renamed"))?;
        fs::remove_file(beside("renamed"))?;
    }
    fs::create_dir(beside("directory"))?;
    let end = at_rest(&daemon, &trace, SOON)?;
    let woken = seen(&daemon, &trace)?.calls[begin..end].to_vec();
    ensure!(!woken.is_empty(), "the watcher must have read");
    let reads = |call: &str| {
        [
            "read(",
            "<... read resumed>",
            "epoll_wait(",
            "<... epoll_wait resumed>",
        ]
        .iter()
        .any(|name| call.starts_with(name))
    };
    let others: Vec<_> = woken
        .iter()
        .filter(|(thread, call)| !watchers.contains(thread) || !reads(call))
        .collect();
    ensure!(others.is_empty(), "{others:#?}");
    println!("{} calls of the watcher", woken.len());

    // the trace does show who looks at the file
    begin = end;
    shell(&format!("touch {}", daemon.config_path().display()))?;
    at_rest(&daemon, &trace, SOON)?;
    let is_seen = seen(&daemon, &trace)?.calls[begin..]
        .iter()
        .any(|(thread, call)| *thread == main && call.contains("mirror.toml"));
    ensure!(is_seen, "{:#?}", &seen(&daemon, &trace)?.calls[begin..]);
    daemon.write_config(&config(&[54]))?;
    daemon.reload_done(deadline())?;

    // and who writes the metrics, no more often than the timer says
    let deadline = deadline() + PERIOD;
    let writes = loop {
        let writes = seen(&daemon, &trace)?.metrics;
        if writes > 0 {
            break writes;
        }
        ensure!(Instant::now() < deadline, "no metrics are written");
        ensure!(
            daemon
                .wait_line(|line| line.contains("ERROR"), Instant::now() + SOON / 10)
                .is_err()
        );
    };
    // the one behind the reload may have had to wait for something
    ensure!(
        writes as f64 <= start.elapsed().div_duration_f64(PERIOD) + 1.0,
        "{writes} in {:?}",
        start.elapsed()
    );
    Ok(())
}
