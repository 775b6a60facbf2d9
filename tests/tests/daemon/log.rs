//! The log: levels, JSON lines, the fields of the journal.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Instant;
use traffic_mirror_tests::lab::daemon::{Launch, binary};
use traffic_mirror_tests::lab::{TempDir, deadline};

use crate::site::{Site, config, install};

/// A launch whose standard error is said to be the journal's, on a host whose journal has its socket
/// in this directory, or none.
pub(crate) fn in_the_journal(directory: &TempDir, journal: Option<&Path>) -> Result<Launch> {
    let script = directory.path().join("in-the-journal");
    let bind = journal.map_or(String::new(), |journal| {
        format!(
            "mkdir /run/systemd/journal\nmount --bind {} /run/systemd/journal\n",
            journal.display()
        )
    });
    // what a service manager would set for this standard error, in a mount namespace of its own
    install(
        &script,
        &format!(
            "#!/bin/sh\nset -e\n[ -n \"$INSIDE\" ] || INSIDE=1 exec unshare --mount \"$0\" \"$@\"\n\
             mkdir -p /run/systemd\nmount -t tmpfs none /run/systemd\n{bind}\
             JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec {} \"$@\"\n",
            binary()?.display()
        ),
    )?;
    Ok(Launch {
        binary: Some(script),
        ..Launch::default()
    })
}

/// The fields of an entry, as systemd's native protocol has them: `NAME=value`, or the name, and the
/// length before a value that may have several lines.
fn fields(entry: &[u8]) -> Result<BTreeMap<String, String>> {
    let (mut rest, mut fields) = (entry, BTreeMap::new());
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (std::str::from_utf8(&rest[..end])?, &rest[end + 1..]);
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => {
                rest = after;
                (name, value)
            }
            None => {
                let (length, after) = after.split_at_checked(8).context("no length")?;
                let length = u64::from_le_bytes(length.try_into()?).try_into()?;
                let (value, after) = after.split_at_checked(length).context("no value")?;
                rest = after.strip_prefix(b"\n").context("no end")?;
                (line, std::str::from_utf8(value)?)
            }
        };
        fields.insert(name.to_owned(), value.to_owned());
    }
    Ok(fields)
}

#[test]
fn the_journal_gets_entries_with_fields() -> Result<()> {
    let site = Site::new()?;
    let directory = TempDir::new()?;
    let journal = UnixDatagram::bind(directory.path().join("socket"))?;
    journal.set_read_timeout(Some(deadline() - Instant::now()))?;
    let next = |event: &str| -> Result<BTreeMap<String, String>> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = journal
                .recv(&mut buffer)
                .with_context(|| format!("no entry with EVENT={event}"))?;
            if length == 0 {
                // whether the socket is there
                continue;
            }
            let fields = fields(&buffer[..length])?;
            let is_wanted = fields.get("EVENT").is_some_and(|it| it == event);
            ensure!(fields.contains_key("EVENT"), "no event: {fields:?}");
            if is_wanted {
                return Ok(fields);
            }
        }
    };
    let scripts = TempDir::new()?;
    let launch = in_the_journal(&scripts, Some(directory.path()))?;
    let daemon = site.launch(&[53], launch)?;
    let has = |entry: &BTreeMap<String, String>, wanted: &[(&str, &str)]| -> Result<()> {
        for (name, value) in wanted {
            ensure!(
                entry.get(*name).is_some_and(|it| it == value),
                "{name}: {entry:?}"
            );
        }
        Ok(())
    };
    let common = [("PRIORITY", "6"), ("SYSLOG_IDENTIFIER", "traffic-mirror")];
    for (name, field, value) in [
        ("interface eth0", "INTERFACE", "eth0"),
        ("endpoint ids", "ENDPOINT", "ids"),
        ("filter port-53", "FILTER", "port-53"),
    ] {
        let entry = next("added")?;
        has(&entry, &common)?;
        has(&entry, &[("MESSAGE", &format!("+ {name}")), (field, value)])?;
    }
    let loaded = next("loaded")?;
    has(&loaded, &[("CHANGES", "3"), ("PRIORITY", "6")])?;
    ensure!(
        loaded["MESSAGE"].starts_with("loaded the file: 3 changes"),
        "{loaded:?}"
    );

    site.edge.run("ip address flush dev eth1")?;
    has(&next("problem")?, &[("PRIORITY", "4"), ("ENDPOINT", "ids")])?;
    site.edge.address("eth1", "192.0.2.1/24")?;
    has(
        &next("resolved")?,
        &[("PRIORITY", "6"), ("ENDPOINT", "ids")],
    )?;

    daemon.write_config("bad = true\n")?;
    let wrong = next("diagnostic")?;
    has(
        &wrong,
        &[
            ("PRIORITY", "3"),
            ("CODE", "unknown-key"),
            ("LINE", "1"),
            ("COLUMN", "1"),
        ],
    )?;
    // as `check` shows it
    ensure!(wrong["MESSAGE"].contains("\n1 | bad = true\n"), "{wrong:?}");
    has(&next("rejected")?, &[("PRIORITY", "4")])?;
    let output = daemon.output();
    ensure!(output.is_empty(), "told twice: {output:?}");
    Ok(())
}

fn with_args(args: &[&str]) -> Launch {
    Launch {
        args: args.iter().map(Into::into).collect(),
        ..Launch::default()
    }
}

#[test]
fn json_lines_are_objects_with_the_same_fields() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = site.launch(&[53], with_args(&["--log-format", "json"]))?;
    daemon.write_config("bad = true\n")?;
    daemon.wait_line(|line| line.contains("\"rejected\""), deadline())?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait_exit(deadline())?;
    let output = daemon.output();
    let lines: Vec<Value> = output
        .iter()
        .map(|line| serde_json::from_str(line).with_context(|| line.clone()))
        .collect::<Result<_>>()?;
    for line in &lines {
        for key in ["time", "level", "event", "message"] {
            ensure!(line[key].is_string(), "no {key}: {line}");
        }
        let time = line["time"].as_str().unwrap_or_default();
        ensure!(time.len() == 27 && time.ends_with('Z'), "{line}");
    }
    let find = |event: &str| {
        let found = lines.iter().find(|line| line["event"] == event);
        found.with_context(|| format!("no {event}: {output:#?}"))
    };
    assert_eq!(find("added")?["interface"], "eth0");
    assert_eq!(find("loaded")?["changes"], 3);
    assert_eq!(find("loaded")?["level"], "info");
    let wrong = find("diagnostic")?;
    assert_eq!(
        (&wrong["level"], &wrong["code"], &wrong["line"]),
        (&"error".into(), &"unknown-key".into(), &1.into())
    );
    assert_eq!(find("rejected")?["level"], "warn");
    find("stopped")?;
    Ok(())
}

#[test]
fn what_keeps_the_daemon_from_starting_is_json_too() -> Result<()> {
    let scratch = TempDir::new()?;
    let config = scratch.path().join("mirror.toml");
    std::fs::write(&config, "")?;
    let output = std::process::Command::new(binary()?)
        .arg("--config")
        .arg(&config)
        .arg("--pin-path")
        .arg(scratch.path())
        .args(["run", "--log-format", "json"])
        .output()?;
    let line: Value = serde_json::from_slice(&output.stderr)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    assert_eq!(
        (&line["event"], &line["level"]),
        (&"failed".into(), &"error".into())
    );
    let message = line["message"].as_str().unwrap_or_default();
    ensure!(message.contains("is not a bpf file system"), "{line}");
    assert_eq!(output.status.code(), Some(1));
    Ok(())
}

#[test]
fn a_level_hides_what_is_below_it() -> Result<()> {
    let site = Site::new()?;
    for (level, expected) in [
        ("error", &["ERROR"][..]),
        ("warn", &["ERROR", "WARN"]),
        ("debug", &["DEBUG", "ERROR", "INFO", "WARN"]),
    ] {
        let mut daemon = site.launch(&[53], with_args(&["--log-level", level]))?;
        daemon.write_config("bad = true\n")?;
        daemon.wait_line(|line| line.contains("unknown-key"), deadline())?;
        daemon.write_config(&config(&[54]))?;
        daemon.reload_done(deadline())?;
        daemon.signal(Signal::SIGTERM)?;
        daemon.wait_exit(deadline())?;
        let output = daemon.output();
        let mut found = vec!["ERROR"];
        for word in ["DEBUG", "INFO", "WARN"] {
            if output
                .iter()
                .any(|line| line.contains(&format!(" {word} ")))
            {
                found.push(word);
            }
        }
        found.sort_unstable();
        assert_eq!(found, expected, "{level}: {output:#?}");
    }
    Ok(())
}
