//! Whether a daemon is there, does its work, and follows the file that is live: `status`, `wait`
//! and metrics say so.

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};
use traffic_mirror::kernel::hash;
use traffic_mirror_ebpf::abi;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch, is_of_network};
use traffic_mirror_tests::lab::{TempDir, deadline, pause, process};

use crate::log::in_the_journal;
use crate::site::{Site, config, maps_of, status_of, status_until};

/// Longer than a daemon may give no sign of life.
const SILENCE: Duration = Duration::from_secs(10);

fn said(daemon: &Daemon, args: &[&str]) -> Result<(i32, String, String)> {
    let output = daemon.run(args)?;
    Ok((
        process::code(output.status),
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}

/// The daemon's record.
fn record(daemon: &Daemon, generation: u32) -> Result<Array<MapData, abi::Daemon>> {
    Ok(Array::try_from(Map::Array(MapData::from_pin(
        maps_of(daemon, generation)?.join("DAEMON"),
    )?))?)
}

#[test]
fn no_daemon_and_one_that_hangs_are_degraded() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    let (code, status) = status_of(&daemon)?;
    assert_eq!(
        (code, &status["reasons"], &status["daemon"]["state"]),
        (0, &json!([]), &json!("running"))
    );
    assert_eq!(status["daemon"]["pid"], json!(daemon.pid()));
    assert_eq!(status["daemon"]["version"], env!("CARGO_PKG_VERSION"));
    let (_, text, _) = said(&daemon, &["status"])?;
    let lines: Vec<&str> = text.lines().collect();
    let pid = daemon.pid().context("it runs")?;
    let path = daemon.config_path();
    let (daemon_of, live) = (
        format!("ok         daemon pid {pid}, version "),
        format!("; {}, sha256 ", path.display()),
    );
    assert!(
        lines[0].starts_with(&daemon_of)
            && lines[0].contains(&live)
            && lines[0].contains(", live since 2"),
        "{text}"
    );
    assert!(
        lines[1].starts_with(&format!("daemon     pid {pid}, version ")),
        "{text}"
    );
    assert!(
        lines[2].starts_with(&format!(
            "file       {}, sha256 ",
            daemon.config_path().display()
        )),
        "{text}"
    );
    assert!(lines[2].ends_with(", live"), "{text}");

    daemon.signal(Signal::SIGSTOP)?;
    let hangs = format!("(pid {pid})");
    let begin = Instant::now();
    let status = loop {
        let (code, status) = status_of(&daemon)?;
        if code == 1 {
            break status;
        }
        ensure!(
            begin.elapsed() < SILENCE + Duration::from_secs(20),
            "{status:#}"
        );
        pause();
    };
    ensure!(
        begin.elapsed() >= SILENCE - Duration::from_secs(2),
        "it hangs after {:?}",
        begin.elapsed()
    );
    assert_eq!(status["daemon"]["state"], "hangs");
    let reasons = status["reasons"].as_array().context("reasons")?;
    let reason = reasons[0].as_str().context("a sentence")?;
    assert!(
        reason.starts_with("the daemon hangs: no heartbeat for ") && reason.ends_with(&hangs),
        "{reason}"
    );
    let (code, text, _) = said(&daemon, &["status"])?;
    assert!(
        code == 1 && text.starts_with("degraded   since 2"),
        "{text}"
    );
    assert!(
        text.contains("\ndaemon     HANGS: no heartbeat for "),
        "{text}"
    );
    // nothing has changed: what is in the kernel counts
    assert_eq!(said(&daemon, &["wait"])?.0, 0);
    daemon.write_config(&config(&[54]))?;
    let (code, _, error) = said(&daemon, &["wait"])?;
    assert!(
        code == 1 && error.contains(" will not become live: the daemon hangs: "),
        "{error}"
    );
    daemon.signal(Signal::SIGCONT)?;
    status_until(&daemon, |code, status| {
        code == 0 && status["daemon"]["state"] == "running"
    })?;
    site.expect(54, 1)?;

    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    let (code, status) = status_of(&daemon)?;
    assert_eq!(
        (code, &status["reasons"]),
        (1, &json!(["the daemon is not running"])),
        "{status:#}"
    );
    assert!(
        status["since"].is_u64() && status["daemon"]["pid"].is_null(),
        "{status:#}"
    );
    let (_, text, _) = said(&daemon, &["status"])?;
    assert!(
        text.contains(
            "\ndaemon     NOT RUNNING: no process follows routes, interfaces or the file\n"
        ),
        "{text}"
    );
    site.expect(54, 1)?;
    assert_eq!(said(&daemon, &["wait"])?.0, 0);
    daemon.write_config(&config(&[55]))?;
    let (code, _, error) = said(&daemon, &["wait"])?;
    assert!(
        code == 1 && error.contains(" will not become live: the daemon is not running; start it"),
        "{error}"
    );
    let (_, status) = status_of(&daemon)?;
    assert_eq!(
        (
            &status["file"]["state"],
            status["reasons"].as_array().map(Vec::len)
        ),
        (&json!("changed"), Some(2))
    );

    daemon.restart()?;
    daemon.ready(deadline())?;
    status_until(&daemon, |code, status| {
        code == 0 && status["file"]["state"] == "live"
    })?;
    site.expect(55, 1)
}

#[test]
fn a_file_that_is_not_the_live_one_is_degraded() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    let sha256 = |text: &str| {
        hash(text.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let (good, bad) = (config(&[53]), "bad".to_owned());
    let file = |status: &Value| status["file"].clone();
    assert_eq!(file(&status_of(&daemon)?.1)["live_sha256"], sha256(&good));

    daemon.write_config(&bad)?;
    let status = status_until(&daemon, |code, status| {
        code == 1 && status["file"]["state"] == "rejected"
    })?;
    assert_eq!(file(&status)["sha256"], sha256(&bad));
    assert_eq!(
        (
            &file(&status)["rejected_sha256"],
            &file(&status)["live_sha256"]
        ),
        (&sha256(&bad).into(), &sha256(&good).into())
    );
    assert_eq!(
        status["reasons"].as_array().map(Vec::len),
        Some(1),
        "{status:#}"
    );
    assert!(said(&daemon, &["status"])?.1.contains(", REJECTED 2"));
    let told = fs::read_to_string(daemon.metrics_path());
    let series = format!(
        "traffic_mirror_config_info{{sha256=\"{}\"}} 1\n",
        sha256(&good)
    );
    let deadline = deadline();
    let mut told = told.unwrap_or_default();
    while !(told.contains(&series) && told.contains("traffic_mirror_config_file_is_live 0\n")) {
        ensure!(Instant::now() < deadline, "{told}");
        told = fs::read_to_string(daemon.metrics_path())?;
    }

    fs::remove_file(daemon.config_path())?;
    status_until(&daemon, |code, status| {
        code == 1 && status["file"]["state"] == "missing"
    })?;
    daemon.write_config(&good)?;
    status_until(&daemon, |code, status| {
        code == 0 && status["file"]["state"] == "live"
    })?;

    // nobody is there to load it
    daemon.signal(Signal::SIGSTOP)?;
    daemon.write_config(&config(&[54]))?;
    let (code, status) = status_of(&daemon)?;
    assert_eq!(
        (code, &status["file"]["state"]),
        (1, &json!("changed")),
        "{status:#}"
    );
    // as if the kernel had refused it
    let mut map = record(&daemon, 1)?;
    let mut told = map.get(&0, 0)?;
    (told.rejected, told.rejected_at) = (hash(config(&[54]).as_bytes()), 1_735_689_599);
    map.set(0, &told, 0)?;
    let (code, _, error) = said(&daemon, &["wait"])?;
    assert!(
        code == 1 && error.contains("the daemon rejected it"),
        "{error}"
    );
    assert_eq!(status_of(&daemon)?.1["file"]["state"], "rejected");
    daemon.signal(Signal::SIGCONT)?;
    status_until(&daemon, |code, status| {
        code == 0 && status["file"]["state"] == "live"
    })?;
    Ok(())
}

#[test]
fn commands_without_a_file_look_at_that_of_the_daemon() -> Result<()> {
    let mut site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    let binary = traffic_mirror_tests::lab::daemon::binary()?;
    let run = |args: &[&str]| -> Result<(i32, String)> {
        let mut command = site.edge.command(&binary)?;
        let output = process::output(
            command.args(args).arg("--pin-path").arg(daemon.pin_path()),
            deadline(),
        )?;
        let all = [output.stdout, output.stderr].concat();
        Ok((process::code(output.status), String::from_utf8(all)?))
    };
    let path = daemon.config_path().display().to_string();
    let (code, text) = run(&["check"])?;
    assert!(
        code == 0 && text.starts_with(&format!("{path}: ok")),
        "{text}"
    );
    assert_eq!(run(&["plan"])?.0, 0);
    assert_eq!(run(&["wait"])?.0, 0);
    // one that is given wins
    let (code, text) = run(&["check", "--config", "/nonexistent.toml"])?;
    assert!(code == 1 && text.contains("/nonexistent.toml"), "{text}");
    daemon.write_config("bad")?;
    for command in ["check", "plan", "wait"] {
        let (code, text) = run(&[command])?;
        assert!(code == 1 && text.contains(&path), "{command}: {text}");
    }
    site.expect(53, 1)?;
    // without a record, the usual one
    let mut command = crate::site::command(&[
        "check",
        "--pin-path",
        "/sys/fs/bpf/traffic-mirror-test-none",
    ])?;
    let output = process::output(&mut command, deadline())?;
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    assert!(text.contains("/etc/mirror.toml"), "{text}");
    Ok(())
}

#[test]
fn the_record_is_kept_in_new_maps_and_in_those_of_a_successor() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    // more than the maps have room for
    daemon.write_config(&config(&(1000..1200).collect::<Vec<u16>>()))?;
    daemon.reload_done(deadline())?;
    let told = record(&daemon, 2)?.get(&0, 0)?;
    assert_eq!(Some(told.pid), daemon.pid());
    let status = status_until(&daemon, |code, status| {
        code == 0 && status["file"]["state"] == "live"
    })?;
    assert_eq!(status["daemon"]["pid"], json!(daemon.pid()));
    daemon.signal(Signal::SIGUSR2)?;
    daemon.wait_exit(deadline())?;
    let (code, status) = status_of(&daemon)?;
    assert_eq!(
        (code, &status["file"]["state"], &status["reasons"]),
        (1, &json!("live"), &json!(["the daemon is not running"]))
    );
    daemon.write_config("bad")?;
    daemon.restart()?;
    daemon.ready(deadline())?;
    let (code, status) = status_of(&daemon)?;
    assert_eq!(
        (code, &status["file"]["state"]),
        (1, &json!("rejected")),
        "{status:#}"
    );
    assert!(
        status["file"]["live_sha256"].is_string() && status["daemon"]["pid"] == json!(daemon.pid()),
        "{status:#}"
    );
    Ok(())
}

#[test]
fn the_watchdog_is_fed_by_the_loop_that_does_the_work() -> Result<()> {
    let site = Site::new()?;
    let fed = |daemon: &Daemon| {
        daemon
            .notifications()
            .iter()
            .filter(|line| *line == "WATCHDOG=1")
            .count()
    };
    let env = vec![("WATCHDOG_USEC".into(), "30000000".into())];
    let daemon = site.launch(
        &[53],
        Launch {
            env,
            ..Launch::default()
        },
    )?;
    let unwatched = site.launch(&[54], Launch::default())?;
    let until = |count: usize| -> Result<()> {
        let deadline = deadline();
        while fed(&daemon) < count {
            ensure!(Instant::now() < deadline, "{:?}", daemon.notifications());
        }
        Ok(())
    };
    until(3)?;
    // busy, but it works
    let before = fed(&daemon);
    let mut port = 60;
    while fed(&daemon) < before + 2 {
        daemon.write_config(&config(&[port]))?;
        port += 1;
        ensure!(port < 20_000, "{:?}", daemon.notifications());
    }
    daemon.signal(Signal::SIGSTOP)?;
    let before = fed(&daemon);
    assert!(
        daemon
            .wait_line(|_| false, Instant::now() + Duration::from_secs(3))
            .is_err()
    );
    // one may have been on its way
    assert!(fed(&daemon) <= before + 1);
    daemon.signal(Signal::SIGCONT)?;
    until(before + 2)?;
    assert_eq!(fed(&unwatched), 0);
    Ok(())
}

#[test]
fn the_journal_gets_priorities_and_a_loss_is_told_once_and_so_is_its_end() -> Result<()> {
    let site = Site::new()?;
    // wrapped packets do not fit: worth knowing, and no warning
    site.edge.run("ip link set eth1 mtu 1500")?;
    let directory = TempDir::new()?;
    let daemon = site.launch(&[53], in_the_journal(&directory, None)?)?;
    let output = daemon.output();
    let advice = output
        .iter()
        .find(|line| line.contains(" after encapsulation, "))
        .context("no advice")?;
    assert!(advice.starts_with("<6>"), "{advice}");
    assert!(
        output.iter().all(|line| line.starts_with("<6>")),
        "{output:?}"
    );
    for _ in 0..2 {
        site.edge.run("ip address flush dev eth1")?;
        let line = daemon.wait_line(|line| line.contains("gets no copies"), deadline())?;
        assert!(
            line.starts_with("<4>") && line.contains("WARN endpoint ids "),
            "{line}"
        );
        site.edge.address("eth1", "192.0.2.1/24")?;
        let line = daemon.wait_line(|line| line.contains("gets no copies"), deadline())?;
        assert!(
            line.starts_with("<6>") && line.contains("INFO resolved: endpoint ids "),
            "{line}"
        );
    }
    daemon.write_config("bad")?;
    daemon.wait_line(
        |line| line.starts_with("<4>") && line.contains("rejected the file: "),
        deadline(),
    )?;
    let output = daemon.output();
    let error = output
        .iter()
        .find(|line| line.contains("error[syntax]"))
        .context("no error")?;
    assert!(
        error.starts_with("<3>") && output.iter().all(|line| line.starts_with('<')),
        "{output:?}"
    );
    assert_eq!(
        output
            .iter()
            .filter(|line| line.contains(" after encapsulation, "))
            .count(),
        1,
        "{output:?}"
    );
    Ok(())
}

/// An update that the network causes is one line, which names its cause.
#[test]
fn the_log_names_what_changed_in_the_network() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    let said = |cause: &str| {
        let is_it = |line: &str| line.contains(&format!("INFO {cause}; ")) && is_of_network(line);
        daemon.wait_line(is_it, deadline())
    };
    for mac in ["02:00:00:00:00:77", "02:00:00:00:00:78"] {
        site.edge.run(&format!(
            "ip neighbour replace 192.0.2.10 lladdr {mac} dev eth1 nud permanent"
        ))?;
        said(&format!("endpoint ids: its next hop has address {mac}"))?;
    }
    site.edge.run("ip link set eth1 mtu 1400")?;
    said("interface eth1: its MTU is 1400")?;
    let output = daemon.output();
    assert!(
        !output.iter().any(|line| line.contains("updated the maps")),
        "{output:?}"
    );
    Ok(())
}
