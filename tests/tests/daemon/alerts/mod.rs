//! The alert rules of the package with the real Prometheus, node_exporter and Alertmanager: what
//! goes wrong on hosts with real daemons becomes an alert, and the end of it the end of the alert.

mod host;
mod stack;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use traffic_mirror_tests::dashboard::{Panel, panels};
use traffic_mirror_tests::lab::{deadline, patience, pause};

use host::{FILE, Host};
use stack::Stack;

/// For all that happens between two writes of the metrics, and for what is quiet for a while.
const LONG: Duration = Duration::from_secs(90);

/// Times of the rules, and what they are here: a cause is to become an alert in seconds.
const TIMES: [(&str, &str); 8] = [
    ("for: 1m\n", "for: 1s\n"),
    ("for: 5m\n", "for: 1s\n"),
    ("for: 10m\n", "for: 1s\n"),
    ("for: 15m\n", "for: 1s\n"),
    ("[5m]", "[10s]"),
    ("[10m]", "[10s]"),
    // longer than between two writes of the metrics
    ("[15m]", "[30s]"),
    ("> 120\n", "> 25\n"),
];

fn packaged(path: &str) -> Result<String> {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    Ok(fs::read_to_string(packaging.join(path))?)
}

fn quick_rules() -> Result<String> {
    let mut rules = packaged("prometheus/alerts.yml")?;
    for (time, quick) in TIMES {
        ensure!(rules.contains(time), "the rules have no {time:?} any more");
        rules = rules.replace(time, quick);
    }
    Ok(rules)
}

/// An alert: its name, labels that it must have, and what its description must contain.
struct Expected {
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    description: &'static str,
}

const fn expected(
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    description: &'static str,
) -> Expected {
    Expected {
        name,
        labels,
        description,
    }
}

impl Expected {
    fn is(&self, alert: &Value) -> bool {
        let labels = &alert["labels"];
        let description = alert["annotations"]["description"].as_str();
        labels["alertname"] == self.name
            && self
                .labels
                .iter()
                .all(|(name, value)| labels[name] == *value)
            && description.is_some_and(|text| text.contains(self.description))
    }
}

/// What becomes of the causes of [`harm`].
const EXPECTED: [Expected; 14] = [
    expected(
        "MirrorEndpointDown",
        &[("instance", "h1"), ("endpoint", "port")],
        "port-closed",
    ),
    expected(
        "MirrorEndpointDown",
        &[("instance", "h1"), ("endpoint", "next-hop")],
        "no-neighbour",
    ),
    expected(
        "MirrorDrops",
        &[("instance", "h1"), ("endpoint", "next-hop")],
        "",
    ),
    expected(
        "MirrorInterfaces",
        &[("instance", "h1"), ("reason", "absent")],
        "",
    ),
    expected(
        "MirrorDetached",
        &[("instance", "h1"), ("interface", "eth9")],
        "absent",
    ),
    expected("MirrorDegraded", &[("instance", "h1")], ""),
    expected(
        "MirrorEndpointDown",
        &[("instance", "h2"), ("endpoint", "ids")],
        "no-carrier",
    ),
    expected("MirrorRepairs", &[("instance", "h2")], ""),
    expected("MirrorFileRejected", &[("instance", "h2")], ""),
    expected("MirrorDegraded", &[("instance", "h2")], ""),
    expected("MirrorFileDrift", &[], ""),
    expected("MirrorStale", &[("instance", "h4")], ""),
    expected("MirrorStale", &[("instance", "h5")], ""),
    expected("MirrorSilent", &[("instance", "h2")], ""),
];

/// For messages.
fn labels_of(alerts: &[Value]) -> Vec<String> {
    alerts
        .iter()
        .map(|alert| alert["labels"].to_string())
        .collect()
}

/// Waits until each was there, be it at different times.
fn until_each_was_there(stack: &Stack, expected: &[Expected]) -> Result<()> {
    let deadline = Instant::now() + LONG * patience();
    let mut missing: Vec<&Expected> = expected.iter().collect();
    loop {
        let alerts = stack.alerts()?;
        missing.retain(|one| !alerts.iter().any(|alert| one.is(alert)));
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|one| (one.name, one.labels)).collect();
        ensure!(
            Instant::now() < deadline,
            "no alerts {names:?} but {:#?}",
            labels_of(&alerts)
        );
        pause();
    }
}

/// Waits until there is no alert, but for hosts without traffic.
fn until_all_is_well(stack: &Stack) -> Result<()> {
    let deadline = Instant::now() + LONG * patience();
    loop {
        let mut alerts = stack.alerts()?;
        let is_quiet = |alert: &Value| {
            let labels = &alert["labels"];
            labels["alertname"] == "MirrorSilent" && labels["instance"] != "h1"
        };
        alerts.retain(|alert| !is_quiet(alert));
        if alerts.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "still {:#?}", labels_of(&alerts));
        pause();
    }
}

/// Does harm in as many ways as there are alerts.
fn harm([h1, h2, h3, h4, h5]: &mut [Host; 5]) -> Result<()> {
    // the collector is gone: nobody listens on one port, and one address answers no ARP
    h1.listener = None;
    h1.site.host.run("ip address del 192.0.2.11/24 dev eth0")?;
    h1.site.edge.run("ip neighbour del 192.0.2.11 dev eth1")?;
    h1.site.edge.run("ip link del eth9")?;
    // a bad file, a program that another process detaches, and then the cable is out
    h2.daemon.write_config("wrong")?;
    h2.daemon.reload_done(deadline())?;
    h2.detach_by_hand()?;
    h2.site.host.run("ip link set eth0 down")?;
    // another file than the others
    h3.daemon.write_config(&format!("# of this host\n{FILE}"))?;
    h3.daemon.reload_done(deadline())?;
    // one daemon dies and one hangs
    h4.daemon.signal(Signal::SIGKILL)?;
    h4.daemon.wait_exit(deadline())?;
    h5.daemon.signal(Signal::SIGSTOP)
}

fn heal([h1, h2, h3, h4, h5]: &mut [Host; 5]) -> Result<()> {
    h5.daemon.signal(Signal::SIGCONT)?;
    h4.daemon.restart()?;
    h4.daemon.ready(deadline())?;
    h1.listen()?;
    h1.site.host.address("eth0", "192.0.2.11/24")?;
    h1.site.add_interface()?;
    h2.site.host.run("ip link set eth0 up")?;
    for host in [h2, h3] {
        host.daemon.write_config(FILE)?;
        host.daemon.reload_done(deadline())?;
    }
    Ok(())
}

/// Series that hosts have only if their file has names.
const OF_NAMES: [&str; 2] = ["traffic_mirror_dns_", "traffic_mirror_connections_total"];

/// That each panel of the dashboard shows something.
fn no_panel_is_empty(stack: &Stack) -> Result<()> {
    let dashboard = serde_json::from_str(&packaged("grafana/traffic-mirror.json")?)?;
    let panels = panels(&dashboard);
    let mut empty = Vec::new();
    for Panel { title, expression } in &panels {
        let is_of_names = OF_NAMES.iter().any(|series| expression.contains(series));
        if !is_of_names && stack.query(expression)?.is_empty() {
            empty.push((title, expression));
        }
    }
    ensure!(panels.len() > 30, "{} panels", panels.len());
    ensure!(empty.is_empty(), "empty panels: {empty:#?}");
    Ok(())
}

#[test]
fn each_alert_fires_and_resolves() -> Result<()> {
    let mut hosts = Host::start()?;
    let places = hosts
        .each_ref()
        .map(|host| (host.name, host.textfiles.path()));
    let stack = Stack::start(&places, &quick_rules()?)?;
    until_each_was_there(
        &stack,
        &[expected("MirrorSilent", &[("instance", "h1")], "")],
    )?;
    let _traffic = hosts[0].traffic()?;
    until_all_is_well(&stack)?;

    harm(&mut hosts)?;
    until_each_was_there(&stack, &EXPECTED)?;
    no_panel_is_empty(&stack)?;
    let alerts = stack.alerts()?;
    let of_h3 = alerts
        .iter()
        .filter(|alert| alert["labels"]["instance"] == "h3");
    let of_h3: Vec<_> = of_h3.map(|alert| &alert["labels"]["alertname"]).collect();
    assert!(
        of_h3.iter().all(|name| *name == "MirrorSilent"),
        "{of_h3:?}"
    );
    heal(&mut hosts)?;
    until_all_is_well(&stack)?;

    // a daemon that is stopped takes its metrics with it
    let h3 = &mut hosts[2];
    h3.daemon.signal(Signal::SIGTERM)?;
    assert_eq!(h3.daemon.wait_exit(deadline())?, 0);
    until_each_was_there(
        &stack,
        &[expected("MirrorAbsent", &[("instance", "h3")], "")],
    )?;
    h3.daemon.restart()?;
    h3.daemon.ready(deadline())?;
    until_all_is_well(&stack)
}
