//! Commands of somebody who may not look or change anything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::daemon::{Daemon, binary};
use traffic_mirror_tests::lab::objects::Objects;
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use crate::site::Site;

/// Each subcommand that needs privileges.
const COMMANDS: [&[&str]; 6] = [
    &["detach"],
    &["status"],
    &["top", "--once"],
    &["plan"],
    &["wait", "--timeout", "10"],
    &[
        "explain",
        "--interface",
        "eth0",
        "--direction",
        "ingress",
        "--protocol",
        "icmp",
        "--source",
        "10.0.0.1",
        "--destination",
        "10.0.0.254",
    ],
];

fn refused(daemon: &Daemon, directory: &TempDir) -> Result<()> {
    for command in COMMANDS {
        let mut nobody = Command::new("setpriv");
        nobody.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
        ]);
        nobody
            .arg(directory.path().join("traffic-mirror"))
            .args(command);
        nobody.arg("--pin-path").arg(daemon.pin_path());
        nobody
            .arg("--config")
            .arg(directory.path().join("mirror.toml"));
        let output = daemon.enter(|| process::output(&mut nobody, deadline()))?;
        let (code, said) = (
            process::code(output.status),
            String::from_utf8(output.stderr)?,
        );
        ensure!(code == 1, "{command:?}: {code}, {said}");
        ensure!(
            said.lines().count() == 1 && said.contains("; run it as root"),
            "{command:?}: {said}"
        );
    }
    Ok(())
}

#[test]
fn whoever_may_not_look_is_told_so_by_every_command() -> Result<()> {
    let mut site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    let directory = TempDir::new()?;
    // of all that leads there
    fs::copy(binary()?, directory.path().join("traffic-mirror"))?;
    fs::copy(daemon.config_path(), directory.path().join("mirror.toml"))?;
    let before = Objects::below(daemon.pin_path())?;
    for mode in [0o755, 0o700] {
        fs::set_permissions(daemon.pin_path(), fs::Permissions::from_mode(mode))?;
        refused(&daemon, &directory)?;
    }
    ensure!(
        Objects::below(daemon.pin_path())? == before,
        "something was removed"
    );
    site.expect(53, 1)
}

#[test]
fn a_pin_path_that_somebody_else_has_made_stays() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
    ensure!(daemon.wait_exit(deadline())? == 0, "it fails");
    ensure!(!daemon.pin_path().exists(), "what it made itself is left");
    fs::create_dir(daemon.pin_path())?;
    for command in ["stop", "detach"] {
        daemon.restart()?;
        daemon.ready(deadline())?;
        site.drain()?;
        let signal = if command == "stop" {
            nix::sys::signal::Signal::SIGTERM
        } else {
            nix::sys::signal::Signal::SIGKILL
        };
        daemon.signal(signal)?;
        daemon.wait_exit(deadline())?;
        if command == "detach" {
            process::succeed(&mut daemon.command("detach")?, deadline())?;
        }
        ensure!(
            daemon.pin_path().exists(),
            "{command}: the directory of somebody else is gone"
        );
        ensure!(
            fs::read_dir(daemon.pin_path())?.next().is_none(),
            "{command}: something is left in it"
        );
    }
    fs::remove_dir(daemon.pin_path())?;
    site.bare(daemon.pin_path())
}
