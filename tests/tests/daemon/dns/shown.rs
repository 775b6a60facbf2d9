//! What `status`, `explain`, `check`, `plan`, `wait` and the metrics say of names.

use anyhow::Result;
use serde_json::Value;
use std::fs;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::{deadline, pause, process};

use super::{UNTIL, config, names, resolve, start, write};
use crate::site::{Site, status_until};

const TO_EDGE: &str = "--interface eth0 --direction ingress --protocol udp --source 10.0.0.1 \
    --source-port 999 --destination 10.0.0.254 --destination-port 4000";

/// Exit code, standard output, standard error.
fn run(daemon: &Daemon, args: &str) -> Result<(i32, String, String)> {
    let args: Vec<&str> = args.split_whitespace().collect();
    let output = daemon.run(&args)?;
    let text = |bytes| String::from_utf8(bytes);
    Ok((
        process::code(output.status),
        text(output.stdout)?,
        text(output.stderr)?,
    ))
}

#[test]
fn a_filter_without_addresses_is_told() -> Result<()> {
    let site = Site::new()?;
    let daemon = start(&site, &config("destination", "\"edge.example\""))?;
    let status = status_until(&daemon, |_, status| {
        status["filters"][0]["state"] == "no-address"
    })?;
    assert_eq!(status["filters"][0]["active"], false);
    assert_eq!(
        status["idle"],
        "no DNS name of an enabled filter has an address"
    );
    let reasons = status["reasons"].to_string();
    let matches_nothing = "filter web matches nothing: none of the DNS names that it gives";
    assert!(reasons.contains(matches_nothing), "{reasons}");
    assert!(reasons.contains("names.toml is missing"), "{reasons}");
    assert_eq!(status["dns_names"][0]["addresses"], 0);
    let (_, said, _) = run(&daemon, &format!("explain {TO_EDGE}"))?;
    let miss = "misses   web: destination is 10.0.0.254, the filter wants (no address) \
                (DNS name edge.example)\n";
    assert!(said.contains(miss), "{said}");
    let (code, said, warned) = run(&daemon, "check")?;
    assert_eq!(code, 0);
    assert!(said.contains("1 endpoint, 1 DNS name\n"), "{said}");
    assert!(
        warned.contains("no address of a DNS name is known"),
        "{warned}"
    );
    resolve(&daemon, &[("edge.example", &["10.0.0.254"])])?;
    status_until(&daemon, |code, status| {
        code == 0 && status["filters"][0]["state"] == "active"
    })?;
    let (code, _, warned) = run(&daemon, "check")?;
    assert_eq!((code, &*warned), (0, ""));
    Ok(())
}

#[test]
fn the_origin_of_an_address_is_told() -> Result<()> {
    let site = Site::new()?;
    let hosts = "\"edge.example\", \"gone.example\"";
    let daemon = start(&site, &config("destination", hosts))?;
    let failing = "[names.\"gone.example\"]\n\
        failing = { since = 1800000000, reason = \"no-such-name\" }\n";
    let all = names(&[("edge.example", &["10.0.0.254", "2001:db8::1"])]) + failing;
    write(&daemon, &all)?;
    let line = daemon.wait_line(|line| line.contains("DNS name edge.example"), deadline())?;
    let change = "added 10.0.0.254, 2001:db8::1; it has 2 addresses now";
    assert!(line.contains(change), "{line}");
    daemon.wait_line(|line| line.ends_with("~ filter web"), deadline())?;
    daemon.wait_line(|line| line.contains("loaded the addresses"), deadline())?;

    let (code, said, _) = run(&daemon, &format!("explain {TO_EDGE}"))?;
    let origin = "destination is of DNS name edge.example until 2030-03-17T";
    assert!(code == 0 && said.contains(origin), "{said}");
    let (_, said, _) = run(&daemon, &format!("explain {TO_EDGE} --json"))?;
    let said: Value = serde_json::from_str(&said)?;
    let origin = &said["matches"][0]["dns_names"][0];
    assert_eq!(origin["field"], "destination");
    assert_eq!(
        (&origin["name"], &origin["until"]),
        (&"edge.example".into(), &UNTIL.into())
    );

    let (_, said, _) = run(&daemon, "status")?;
    assert!(
        said.contains("edge.example    2 addresses until 2030-"),
        "{said}"
    );
    assert!(
        said.contains("gone.example    no address, not resolved since"),
        "{said}"
    );
    let (_, said, _) = run(&daemon, "status gone.example")?;
    assert!(
        said.contains("(NXDOMAIN)") && !said.contains("edge.example"),
        "{said}"
    );

    let (code, _, warned) = run(&daemon, "check")?;
    assert_eq!(code, 0);
    assert!(
        warned.contains("warning[unresolved-name]: filter \"web\""),
        "{warned}"
    );
    assert!(!warned.contains("edge.example\", of which"), "{warned}");
    let (_, _, warned) = run(&daemon, "check --any-host")?;
    assert_eq!(warned, "");
    Ok(())
}

#[test]
fn plan_and_wait_know_addresses() -> Result<()> {
    let site = Site::new()?;
    let daemon = start(&site, &config("destination", "\"edge.example\""))?;
    resolve(&daemon, &[("edge.example", &["10.0.0.254"])])?;
    let (code, said, _) = run(&daemon, "plan")?;
    assert_eq!(code, 0, "{said}");
    write(&daemon, "broken")?;
    daemon.wait_line(|line| line.contains("keep the addresses"), deadline())?;
    // the daemon has addresses that nobody else knows
    let (code, _, said) = run(&daemon, "wait --timeout 10")?;
    assert_eq!(code, 0, "{said}");
    let (_, said, _) = run(&daemon, "plan")?;
    assert!(said.contains("no address of a DNS name is known"), "{said}");
    Ok(())
}

#[test]
fn metrics_count_names() -> Result<()> {
    let site = Site::new()?;
    let hosts = "\"edge.example\", \"gone.example\"";
    let daemon = start(&site, &config("destination", hosts))?;
    let until = |lines: &[&str]| -> Result<()> {
        let deadline = deadline();
        loop {
            let text = fs::read_to_string(daemon.metrics_path()).unwrap_or_default();
            if lines
                .iter()
                .all(|line| text.contains(&format!("\n{line}\n")))
            {
                return Ok(());
            }
            anyhow::ensure!(std::time::Instant::now() < deadline, "{lines:?} in {text}");
            pause();
        }
    };
    until(&[
        "traffic_mirror_dns_names{state=\"no-address\"} 2",
        "traffic_mirror_dns_last_reload_successful 0",
        "traffic_mirror_filters{state=\"no-address\"} 1",
    ])?;
    resolve(&daemon, &[("edge.example", &["10.0.0.254", "10.0.0.253"])])?;
    until(&[
        "traffic_mirror_dns_names{state=\"no-address\"} 1",
        "traffic_mirror_dns_names{state=\"resolved\"} 1",
        "traffic_mirror_dns_addresses 2",
        "traffic_mirror_dns_last_reload_successful 1",
        "traffic_mirror_dns_reload_failures_total 0",
    ])?;
    write(&daemon, "broken")?;
    until(&[
        "traffic_mirror_dns_addresses 2",
        "traffic_mirror_dns_last_reload_successful 0",
        "traffic_mirror_dns_reload_failures_total 1",
    ])
}
