//! Interfaces that come and go, and routes that concern nobody, all the time.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::deadline;

use crate::site::{SITE, Site, attach, config, filter, mechanisms, status_until};

#[test]
fn interfaces_that_go_are_no_repairs() -> Result<()> {
    const PAIRS: usize = 20;
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        let daemon = site.launch(&[53], attach(mechanism))?;
        daemon.write_config(&(config(&[53]) + "\n[[interface]]\nname = \"pod*\"\n"))?;
        let pods = |status: &serde_json::Value| {
            let listed = status["interfaces"].as_array().cloned().unwrap_or_default();
            let is_pod = |one: &serde_json::Value| {
                one["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with("pod"))
            };
            listed
                .iter()
                .filter(|one| is_pod(one) && one["attached"].is_string())
                .count()
        };
        for round in 0..3 {
            let add: String = (0..PAIRS)
                .map(|n| format!("link add pod{round}-{n} type veth peer peer{round}-{n}\n"))
                .collect();
            let delete: String = (0..PAIRS)
                .map(|n| format!("link del pod{round}-{n}\n"))
                .collect();
            let batch = site.edge.prefix().to_owned();
            let directory = traffic_mirror_tests::lab::TempDir::new()?;
            let file = directory.path().join(format!("{batch}-batch"));
            fs::write(&file, add)?;
            site.edge.run(&format!("ip -batch {}", file.display()))?;
            status_until(&daemon, |_, status| pods(status) == 2 * PAIRS)?;
            fs::write(&file, delete)?;
            site.edge.run(&format!("ip -batch {}", file.display()))?;
            status_until(&daemon, |_, status| pods(status) == 0)?;
        }
        let status = status_until(&daemon, |code, _| code == 0)?;
        assert_eq!(status["repairs"], 0, "{mechanism}: {:#?}", daemon.output());
        let detached = daemon
            .output()
            .into_iter()
            .filter(|line| line.contains("another process detached"))
            .count();
        assert_eq!(detached, 0, "{mechanism}");
        site.expect(53, 1)?;
    }
    Ok(())
}

/// What the thread that does the work has had of a CPU (`Documentation/scheduler/sched-stats.rst`).
fn worked(daemon: &Daemon) -> Result<Duration> {
    let pid = daemon.pid().context("it runs")?;
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat"))?;
    Ok(Duration::from_nanos(
        text.split(' ').next().context("empty")?.parse()?,
    ))
}

/// What the daemon takes for each of some changes, which come one by one.
fn price(
    site: &Site,
    daemon: &Daemon,
    pause: Duration,
    change: impl Fn(u32) -> String,
) -> Result<Duration> {
    const CHANGES: u32 = 50;
    let before = worked(daemon)?;
    for number in 0..CHANGES {
        site.edge.run(&change(number))?;
        ensure!(
            daemon
                .wait_line(|line| line.contains("ERROR"), Instant::now() + pause)
                .is_err()
        );
    }
    Ok((worked(daemon)? - before) / CHANGES)
}

#[test]
fn routes_that_concern_nobody_cost_no_look_at_the_tables() -> Result<()> {
    // longer than what comes in a burst
    const PAUSE: Duration = Duration::from_millis(25);
    // as long as the daemon may rest after a look at the tables of a slow machine
    const REST: Duration = Duration::from_millis(250);
    let site = Site::new()?;
    site.keep_neighbour()?;
    let mut daemon = site.launch(&[53], Launch::default())?;
    let filters =
        (0..10_000).map(|n| filter(&format!("f{n}"), n + 1).replace("[\"udp\"]", "[\"tcp\"]"));
    daemon.write_config(&(SITE.to_owned() + &filters.collect::<String>()))?;
    daemon.reload_done(deadline())?;
    // somebody may have taken our programs off
    let look = price(&site, &daemon, REST, |number| {
        format!("ip link set eth0 alias number-{number}")
    })?;
    let verb = |number: u32| {
        if number.is_multiple_of(2) {
            "add"
        } else {
            "del"
        }
    };
    let route = price(&site, &daemon, PAUSE, |number| {
        format!("ip route {} 203.0.113.1/32 via 10.0.0.1", verb(number))
    })?;
    println!("a look takes {look:?}, a change of a route {route:?}");
    ensure!(
        route * 3 < look,
        "a look takes {look:?}, a change of a route {route:?}"
    );

    // whatever happens, looks have their limit
    let busy = price(&site, &daemon, PAUSE, |number| {
        format!("ip link set eth0 alias number-{number}")
    })?;
    println!("one of many {busy:?}");
    ensure!(
        busy * 2 < look,
        "a look takes {look:?}, one of many {busy:?}"
    );
    Ok(())
}
