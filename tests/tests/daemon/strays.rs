//! Programs of an instance that its pins do not tell of, since another bpf file system is mounted
//! over them.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use std::process::Command;
use traffic_mirror_tests::lab::daemon::{Launch, binary};
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use crate::site::{Site, attach, install, mechanisms, status_until};

const COVER: &str = "mount -t bpf bpf /sys/fs/bpf";

/// A launch in a mount namespace of its own, after `before`.
fn apart(directory: &TempDir, before: &str, launch: Launch) -> Result<Launch> {
    let script = directory.path().join("apart");
    let daemon = binary()?;
    let text = format!(
        "#!/bin/sh\nexec unshare --mount sh -c '{before} exec \"$@\"' sh {} \"$@\"\n",
        daemon.display()
    );
    install(&script, &text)?;
    Ok(Launch {
        binary: Some(script),
        ..launch
    })
}

#[test]
fn nothing_is_attached_beside_what_a_second_bpf_file_system_hides() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        site.expect(53, 1)?;
        daemon.signal(Signal::SIGUSR2)?;
        daemon.wait_exit(deadline())?;
        let covered = |verb: &[&str]| -> Result<(i32, String)> {
            let script = format!("{COVER} && exec \"$@\"");
            let mut command = site.edge.command("unshare")?;
            command
                .args(["--mount", "sh", "-c", &script, "sh"])
                .arg(binary()?)
                .args(verb);
            command
                .arg("--config")
                .arg(daemon.config_path())
                .arg("--pin-path")
                .arg(daemon.pin_path());
            let output = process::output(&mut command, deadline())?;
            let all = [output.stdout, output.stderr].concat();
            Ok((process::code(output.status), String::from_utf8(all)?))
        };
        for verb in [&["run", "--attach", mechanism][..], &["status"]] {
            let (code, text) = covered(verb)?;
            assert_eq!(code, 1, "{mechanism} {verb:?}: {text}");
            assert!(
                text.contains(" on the ingress of eth0 has no pin below "),
                "{text}"
            );
            assert!(
                text.contains("another bpf file system is mounted over its pins"),
                "{text}"
            );
            assert!(
                verb != ["status"] || !text.contains("nothing is mirrored"),
                "{text}"
            );
        }
        site.expect(53, 1)?;
        // without it all is as before
        daemon.restart()?;
        daemon.ready(deadline())?;
        status_until(&daemon, |code, _| code == 0)?;
        site.expect(53, 1)?;
    }
    Ok(())
}

#[test]
fn who_may_not_ask_whose_a_program_is_trusts_the_mounts() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        daemon.signal(Signal::SIGUSR2)?;
        daemon.wait_exit(deadline())?;
        // the capabilities of the unit
        let caps = [
            "setpriv",
            "--bounding-set=-all,+bpf,+net_admin,+perfmon",
            "--inh-caps=-all",
        ];
        let script = format!("{COVER} && exec \"$@\"");
        let mut command = site.edge.command("unshare")?;
        command
            .args(["--mount", "sh", "-c", &script, "sh"])
            .args(caps)
            .arg(binary()?);
        command
            .args(["run", "--attach", mechanism, "--config"])
            .arg(daemon.config_path());
        command.arg("--pin-path").arg(daemon.pin_path());
        let output = process::output(&mut command, deadline())?;
        let text = String::from_utf8(output.stderr)?;
        assert_eq!(process::code(output.status), 1, "{mechanism}: {text}");
        assert!(
            text.contains("another bpf file system is mounted over its pins; unmount it"),
            "{mechanism}: {text}"
        );
        site.expect(53, 1)?;
        daemon.restart()?;
        daemon.ready(deadline())?;
    }
    Ok(())
}

#[test]
fn a_running_daemon_attaches_nothing_while_its_pins_are_hidden() -> Result<()> {
    let mut site = Site::new()?;
    let directory = TempDir::new()?;
    let daemon = site.launch(&[53], apart(&directory, "", Launch::default())?)?;
    site.expect(53, 1)?;
    let pid = daemon.pid().context("it runs")?.to_string();
    let inside = |line: &str| {
        let mut command = Command::new("nsenter");
        process::succeed(
            command.args(["--mount", "--target", &pid, "sh", "-c", line]),
            deadline(),
        )
    };
    inside(COVER)?;
    site.edge
        .run("ip link add name nudge type veth peer name nudge-peer")?;
    let said = daemon.wait_line(
        |line| line.contains("is mounted over the pins below "),
        deadline(),
    )?;
    assert!(
        said.contains("ERROR") && said.contains("unmount it"),
        "{said}"
    );
    site.expect(53, 1)?;
    inside("umount /sys/fs/bpf")?;
    site.edge.run("ip link del nudge")?;
    daemon.wait_line(
        |line| line.contains("INFO resolved: another file system is mounted over the pins below "),
        deadline(),
    )?;
    status_until(&daemon, |code, _| code == 0)?;
    site.expect(53, 1)
}
