//! Names in `source` and `destination`.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use std::fs;
use std::time::Duration;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;

use super::{config, names, resolve, start, write};
use crate::site::Site;

#[test]
fn a_name_matches_by_its_addresses() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = start(&site, &config("destination", "\"edge.example\""))?;
    let wanted = fs::read_to_string(daemon.wanted_names_path())?;
    assert!(wanted.ends_with("\nedge.example\n"), "{wanted:?}");
    site.expect(4000, 0)?;
    resolve(&daemon, &[("edge.example", &["10.0.0.254"])])?;
    site.expect(4000, 1)?;
    resolve(&daemon, &[("edge.example", &["10.0.0.253"])])?;
    site.expect(4000, 0)?;
    site.stops(&mut daemon)?;
    assert!(!daemon.wanted_names_path().exists());
    Ok(())
}

#[test]
fn names_stand_beside_networks_and_each_other() -> Result<()> {
    let mut site = Site::new()?;
    let hosts = "\"10.9.0.0/16\", \"a.example\", \"B.example.\"";
    let daemon = start(&site, &config("source", hosts))?;
    site.expect(4000, 0)?;
    let other = ("a.example", &["192.0.2.7", "2001:db8::7"][..]);
    resolve(&daemon, &[other, ("b.example", &["10.0.0.1"])])?;
    site.expect(4000, 1)?;
    // what another name has stays
    let both = ["a.example", "b.example"].map(|name| (name, &["10.0.0.1"][..]));
    resolve(&daemon, &both)?;
    write(&daemon, &names(&both[..1]))?;
    let is_gone = |line: &str| line.contains("DNS name b.example: removed 10.0.0.1; it has no");
    daemon.wait_line(is_gone, deadline())?;
    site.expect(4000, 1)?;
    resolve(&daemon, &[other])?;
    site.expect(4000, 0)
}

#[test]
fn an_excluded_name_is_not_copied() -> Result<()> {
    let mut site = Site::new()?;
    let exclude = "\n[[filter]]\nname = \"quiet\"\naction = \"exclude\"\n\
        destination = [\"quiet.example\"]\n";
    let daemon = start(&site, &(crate::site::config(&[4000]) + exclude))?;
    site.expect(4000, 1)?;
    resolve(&daemon, &[("quiet.example", &["10.0.0.254"])])?;
    site.expect(4000, 0)
}

#[test]
fn what_is_known_stays_when_the_file_breaks_or_goes() -> Result<()> {
    let mut site = Site::new()?;
    let daemon = start(&site, &config("destination", "\"edge.example\""))?;
    let known = ("edge.example", &["10.0.0.254"][..]);
    resolve(&daemon, &[known])?;
    let line = |what: &'static str| daemon.wait_line(move |line| line.contains(what), deadline());
    write(
        &daemon,
        "version = 1\n[names.\"edge.example\"]\naddresses = [",
    )?;
    line("DNS names keep the addresses of its last valid version")?;
    site.expect(4000, 1)?;
    write(&daemon, &names(&[known]))?;
    line("resolved: the addresses of DNS names can be read")?;
    fs::remove_file(daemon.names_path())?;
    line("names.toml is gone; DNS names keep their addresses")?;
    site.expect(4000, 1)?;
    // too many addresses for one name
    let many: Vec<String> = (0..1001)
        .map(|n| format!("10.1.{}.{}", n / 256, n % 256))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    write(&daemon, &names(&[("edge.example", &many)]))?;
    line("has more than 1000 addresses of a name; DNS names keep the addresses")?;
    site.expect(4000, 1)?;
    resolve(
        &daemon,
        &[("edge.example", &[&["10.0.0.254"], &many[..999]].concat())],
    )?;
    site.expect(4000, 1)?;
    // a broken version is told once, however often the daemon reads it
    let errors = daemon.output();
    let errors = errors
        .iter()
        .filter(|line| line.contains("1000 addresses of a name"));
    assert_eq!(errors.count(), 1);
    Ok(())
}

#[test]
fn addresses_survive_a_restart_and_a_crash() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = start(&site, &config("destination", "\"edge.example\""))?;
    resolve(&daemon, &[("edge.example", &["10.0.0.254"])])?;
    for signal in [Signal::SIGUSR2, Signal::SIGKILL] {
        daemon.signal(signal)?;
        daemon.wait_exit(deadline())?;
        assert!(daemon.wanted_names_path().exists());
        site.expect(4000, 1)?;
        daemon.restart()?;
        daemon.ready(deadline())?;
        site.expect(4000, 1)?;
        let changed = daemon.output();
        let changed = changed.iter().filter(|line| line.contains("restored"));
        assert_eq!(changed.count(), 0);
    }
    Ok(())
}

#[test]
fn names_come_and_go_with_the_file() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = start(&site, &crate::site::config(&[4000]))?;
    assert!(!daemon.wanted_names_path().exists());
    assert_eq!(watches(&daemon)?, 1, "the file alone is watched");
    write(&daemon, &names(&[("edge.example", &["10.0.0.254"])]))?;
    daemon.write_config(&config("destination", "\"edge.example\""))?;
    daemon.reload_done(deadline())?;
    assert!(daemon.wanted_names_path().exists());
    assert_eq!(watches(&daemon)?, 2);
    site.expect(4001, 1)?;
    daemon.write_config(&crate::site::config(&[4000]))?;
    daemon.reload_done(deadline())?;
    assert!(!daemon.wanted_names_path().exists());
    assert_eq!(watches(&daemon)?, 1);
    site.expect(4001, 0)?;
    let dns = fs::read_to_string(daemon.metrics_path())?;
    assert!(!dns.contains("traffic_mirror_dns_names"));
    Ok(())
}

/// The inotify instances of the daemon.
fn watches(daemon: &Daemon) -> Result<usize> {
    let pid = daemon.pid().context("the daemon does not run")?;
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?.filter_map(Result::ok);
    let targets = open.filter_map(|file| fs::read_link(file.path()).ok());
    Ok(targets
        .filter(|target| target.to_string_lossy().contains("inotify"))
        .count())
}

#[test]
fn changes_under_traffic_lose_nothing_of_what_stays() -> Result<()> {
    const CHANGES: u32 = 300;
    let mut site = Site::new()?;
    let hosts = "\"edge.example\", \"client.example\"";
    // not what the hosts answer
    let udp = "protocol = [\"udp\"]\ndestination";
    let daemon = start(&site, &config(udp, hosts))?;
    let stays = [
        ("edge.example", &["10.0.0.254"][..]),
        ("client.example", &["10.0.0.1"][..]),
    ];
    resolve(&daemon, &stays)?;
    let flooded = site.trickle(|| {
        for n in 0..CHANGES {
            let other = format!("198.51.{}.{}", n / 250, n % 250);
            let mut all = stays;
            let with = [all[0].1, &[&other]].concat();
            all[0].1 = &with;
            resolve(&daemon, &all)?;
        }
        Ok(())
    })?;
    assert!(flooded.sent > 1000, "{} datagrams", flooded.sent);
    let changed = daemon.output();
    let changed = changed
        .iter()
        .filter(|line| line.contains("loaded the addresses"));
    assert!(changed.count() >= CHANGES as usize);
    Ok(())
}

#[test]
fn quick_changes_are_gathered() -> Result<()> {
    let mut site = Site::new()?;
    let daemon = start(&site, &config("destination", "\"edge.example\""))?;
    let last = "edge.example";
    for n in 0..1000 {
        write(
            &daemon,
            &names(&[(last, &[&format!("10.3.{}.{}", n / 250, n % 250)])]),
        )?;
    }
    write(&daemon, &names(&[(last, &["10.0.0.254"])]))?;
    let is_last = |line: &str| line.contains("added 10.0.0.254");
    daemon.wait_line(is_last, deadline() + Duration::from_secs(10))?;
    daemon.wait_line(|line| line.contains("loaded the addresses"), deadline())?;
    site.expect(4000, 1)?;
    let loaded = daemon.output();
    let loaded = loaded
        .iter()
        .filter(|line| line.contains("loaded the addresses"));
    assert!(loaded.count() < 500, "each version was loaded");
    Ok(())
}
