//! What is wrong with the file, and what is no reason to take it again.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use std::fs;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::{Daemon, is_of_network};
use traffic_mirror_tests::lab::deadline;

use crate::site::{Site, config, shell, status_until};

const KEPT: &str = "rejected the file: mirroring continues with the last valid version";

#[test]
fn the_same_content_again_is_no_reload() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    let said = daemon.output().len();
    shell(&format!("touch {}", daemon.config_path().display()))?;
    fs::write(daemon.config_path(), config(&[53]))?;
    fs::write(
        daemon.config_path().with_file_name("another.toml"),
        "nonsense",
    )?;
    daemon.write_config(&config(&[53]))?;
    // what follows is taken, and what went before was not
    daemon.write_config(&config(&[54]))?;
    daemon.reload_done(deadline())?;
    daemon.wait_line(
        |line| line.contains("INFO loaded the file: 2 changes, "),
        deadline(),
    )?;
    let output = daemon.output();
    let new: Vec<_> = output[said..]
        .iter()
        .filter_map(|line| line.split_once("INFO "))
        .map(|(_, text)| text)
        .collect();
    // a line about a neighbour that was found may still have been on its way
    let new: Vec<_> = new
        .into_iter()
        .filter(|line| !is_of_network(line))
        .collect();
    assert_eq!(
        new[..2],
        ["- filter port-53", "+ filter port-54"],
        "{output:?}"
    );
    assert_eq!(
        daemon
            .notifications()
            .iter()
            .filter(|line| *line == "RELOADING=1")
            .count(),
        1
    );
    Ok(())
}

#[test]
fn a_wrong_file_changes_nothing_and_says_why_once() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    // lines 13 and 17 are wrong, the ports in line 12 are not
    let wrong = config(&[54])
        + "destination = [\"10.0.0.0/33\"]\n\n[[filter]]\nname = \"x\"\nto = [\"idz\"]\n";
    let line = |text: &str| {
        wrong
            .lines()
            .position(|line| line.contains(text))
            .map_or(0, |index| index + 1)
    };
    let (network, endpoint) = (line("/33"), line("idz"));
    daemon.write_config(&wrong)?;
    daemon.wait_line(|line| line.contains(KEPT), deadline())?;
    daemon.reload_done(deadline())?;
    let output = daemon.output();
    for (code, place) in [
        ("bad-prefix", format!("{network}:16")),
        ("unknown-endpoint", format!("{endpoint}:7")),
    ] {
        let at = output
            .iter()
            .position(|line| line.starts_with(&format!("error[{code}]: ")));
        let next = at
            .and_then(|at| output.get(at + 1))
            .with_context(|| format!("no {code}: {output:#?}"))?;
        let place = format!("--> {}:{place}", daemon.config_path().display());
        assert!(next.trim() == place, "{next} instead of {place}");
    }
    site.expect(53, 1)?;
    site.expect(54, 0)?;
    let status = status_until(&daemon, |code, status| {
        code == 1 && status["last_rejected"].is_u64()
    })?;
    assert_eq!(
        (&status["degraded"], &status["reloads"]),
        (&true.into(), &1.into()),
        "{status:#}"
    );

    // other files in the directory are no reason to say it again; SIGHUP is
    let complaints = |daemon: &Daemon| {
        daemon
            .output()
            .iter()
            .filter(|line| line.contains(KEPT))
            .count()
    };
    fs::write(daemon.config_path().with_file_name("passwd"), "")?;
    let soon = Instant::now() + Duration::from_millis(500);
    assert!(
        daemon.wait_line(|line| line.contains(KEPT), soon).is_err(),
        "{:?}",
        daemon.output()
    );
    daemon.signal(Signal::SIGHUP)?;
    daemon.wait_line(|line| line.contains(KEPT), deadline())?;
    assert_eq!(complaints(&daemon), 2);

    daemon.write_config(&config(&[54]))?;
    daemon.wait_line(
        |line| line.contains("INFO loaded the file: 2 changes, "),
        deadline(),
    )?;
    status_until(&daemon, |code, status| {
        code == 0 && status["last_rejected"].is_null()
    })?;
    site.expect(53, 0)?;
    site.expect(54, 1)?;
    // what was live before is right again after a mistake
    daemon.write_config("oops")?;
    daemon.wait_line(|line| line.contains(KEPT), deadline())?;
    daemon.write_config(&config(&[54]))?;
    daemon.wait_line(
        |line| line.contains("INFO loaded the file: 0 changes, 0 map writes, "),
        deadline(),
    )?;
    site.expect(54, 1)
}

#[test]
fn a_file_that_vanishes_changes_nothing() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    fs::remove_file(daemon.config_path())?;
    daemon.wait_line(
        |line| line.contains("ERROR cannot read ") && line.contains("No such file"),
        deadline(),
    )?;
    daemon.wait_line(|line| line.contains(KEPT), deadline())?;
    daemon.reload_done(deadline())?;
    site.expect(53, 1)?;
    daemon.write_config(&config(&[54]))?;
    daemon.wait_line(
        |line| line.contains("INFO loaded the file: 2 changes, "),
        deadline(),
    )?;
    site.expect(53, 0)?;
    site.expect(54, 1)
}
