//! `wait`: until the file is the live one.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::{deadline, process};

use crate::site::{SITE, Site, config};

fn waiting(daemon: &Daemon) -> Result<Child> {
    waiting_with(daemon, &[])
}

fn waiting_with(daemon: &Daemon, args: &[&str]) -> Result<Child> {
    Ok(daemon
        .command("wait")?
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?)
}

fn code_of(child: &mut Child) -> Result<i32> {
    Ok(process::code(
        process::wait(child, deadline())?.context("it still waits")?,
    ))
}

/// Exit code and standard error.
fn wait(daemon: &Daemon, args: &[&str]) -> Result<(i32, String)> {
    let output = daemon.run(&[&["wait"], args].concat())?;
    assert!(output.stdout.is_empty());
    Ok((
        process::code(output.status),
        String::from_utf8(output.stderr)?,
    ))
}

#[test]
fn it_ends_when_the_file_is_live() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    assert_eq!(wait(&daemon, &[])?, (0, String::new()));
    for port in [54, 55] {
        daemon.write_config(&config(&[port]))?;
        assert_eq!(wait(&daemon, &["--timeout", "20"])?, (0, String::new()));
        site.expect(port, 1)?;
    }

    // the daemon takes its time
    daemon.signal(Signal::SIGSTOP)?;
    daemon.write_config(&config(&[56]))?;
    let begin = Instant::now();
    let (code, stderr) = wait(&daemon, &["--timeout", "0.3"])?;
    assert!(
        code == 1 && stderr.contains(" is not live yet; "),
        "{code} {stderr}"
    );
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let mut child = waiting(&daemon)?;
    site.expect(56, 0)?;
    assert!(child.try_wait()?.is_none(), "it ended too early");
    daemon.signal(Signal::SIGCONT)?;
    assert_eq!(code_of(&mut child)?, 0);
    site.expect(56, 1)?;

    // without a daemon what is in the kernel counts
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    assert_eq!(wait(&daemon, &[])?.0, 0);
    daemon.write_config(&config(&[57]))?;
    assert_eq!(wait(&daemon, &["--timeout", "0"])?.0, 1);
    let mut child = waiting(&daemon)?;
    daemon.restart()?;
    daemon.ready(deadline())?;
    assert_eq!(code_of(&mut child)?, 0);
    site.expect(57, 1)
}

#[test]
fn a_wrong_file_ends_it_at_once() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    let wrong = SITE.replace("192.0.2.10", "192.0.2");
    daemon.write_config(&wrong)?;
    let (code, stderr) = wait(&daemon, &[])?;
    assert!(
        code == 1 && stderr.contains("error[bad-address]"),
        "{code} {stderr}"
    );

    // one that becomes wrong while it waits
    daemon.signal(Signal::SIGSTOP)?;
    daemon.write_config(&config(&[54]))?;
    let mut child = waiting(&daemon)?;
    daemon.write_config(&wrong)?;
    assert_eq!(code_of(&mut child)?, 1);
    daemon.signal(Signal::SIGCONT)
}

#[test]
fn half_a_file_is_not_judged_and_a_missing_one_is_waited_for() -> Result<()> {
    let mut site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    let text = config(&[54]);
    // in the middle of a string: wrong, if it were all
    let (half, rest) = text.split_at(text.find("udp").context("a protocol")?);
    let not_live = |what: &str| -> Result<()> {
        let (code, stderr) = wait(&daemon, &["--timeout", "0.3"])?;
        assert!(
            code == 1 && stderr.contains(" is not live yet; ") && stderr.lines().count() == 1,
            "{what}: {stderr}"
        );
        Ok(())
    };
    let mut file = std::fs::File::create(daemon.config_path())?;
    file.write_all(half.as_bytes())?;
    not_live("half a file")?;
    let mut child = waiting(&daemon)?;
    file.write_all(rest.as_bytes())?;
    drop(file);
    assert_eq!(code_of(&mut child)?, 0);
    site.expect(54, 1)?;
    std::fs::remove_file(daemon.config_path())?;
    not_live("no file")?;
    let mut child = waiting(&daemon)?;
    daemon.write_config(&text)?;
    assert_eq!(code_of(&mut child)?, 0);
    Ok(())
}

/// Whoever rolls out a file wants to know whether copies arrive, not only whether it is loaded.
#[test]
fn healthy_is_live_and_nothing_degraded() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    assert_eq!(wait(&daemon, &["--healthy"])?, (0, String::new()));
    // no way to the collector
    site.edge.run("ip address flush dev eth1")?;
    daemon.wait_line(|line| line.contains("gets no copies"), deadline())?;
    let (code, said) = wait(&daemon, &["--healthy", "--timeout", "0.3"])?;
    let why = "is live, but the status is degraded: endpoint ids gets no copies: no-route\n";
    assert!(code == 1 && said.ends_with(why), "{code} {said}");
    assert_eq!(wait(&daemon, &[])?, (0, String::new()), "the file is live");
    let mut child = waiting_with(&daemon, &["--healthy"])?;
    site.edge.address("eth1", "192.0.2.1/24")?;
    assert_eq!(code_of(&mut child)?, 0);
    site.expect(53, 1)?;

    // the same meaning, but not this file
    daemon.signal(Signal::SIGSTOP)?;
    daemon.write_config(&(config(&[53]) + "# changed\n"))?;
    assert_eq!(wait(&daemon, &[])?.0, 0);
    let (code, said) = wait(&daemon, &["--healthy", "--timeout", "0.3"])?;
    assert!(
        code == 1 && said.contains(" has changed and is not loaded yet"),
        "{code} {said}"
    );
    daemon.signal(Signal::SIGCONT)?;
    assert_eq!(wait(&daemon, &["--healthy", "--timeout", "20"])?.0, 0);

    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    assert_eq!(wait(&daemon, &[])?.0, 0, "the kernel mirrors");
    let (code, said) = wait(&daemon, &["--healthy"])?;
    assert!(
        code == 1 && said.contains(" will not become healthy: the daemon is not running; start it"),
        "{code} {said}"
    );
    Ok(())
}

/// A template whose list of filters is empty mirrors nothing, as it asks.
#[test]
fn a_file_that_mirrors_nothing_is_healthy_and_said_to_be_so() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    for (file, why) in [
        (SITE.to_owned(), "the file has no filters"),
        (String::new(), "the file has no filters"),
        (
            config(&[53]).replace("[[filter]]\n", "[[filter]]\nenabled = false\n"),
            "`enabled` of each filter is false",
        ),
        (
            config(&[53]).replace("name = \"eth0\"", "name = \"gone*\""),
            "no interface of an enabled filter is mirrored",
        ),
        (
            format!("enabled = false\n{}", config(&[53])),
            "`enabled` of the file is false",
        ),
    ] {
        daemon.write_config(&file)?;
        let (code, said) = wait(&daemon, &["--healthy", "--timeout", "20"])?;
        assert!(
            code == 0 && said.ends_with(&format!(" is live, and mirrors nothing: {why}\n")),
            "{code} {said}"
        );
        let status = daemon.run(&["status", "--brief"])?;
        let line = String::from_utf8(status.stdout)?;
        assert!(
            status.status.success() && line.contains(&format!(" mirrors nothing: {why}; ")),
            "{line}"
        );
    }
    Ok(())
}
