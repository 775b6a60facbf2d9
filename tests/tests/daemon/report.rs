//! `report`: all that a bug report needs and no secret, whatever is broken.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch, binary};
use traffic_mirror_tests::lab::objects::Objects;
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use crate::site::{Site, config};

const SECRET: &str = "93d0-correct-horse-battery";
const OLD_SECRET: &str = "5ac1-staple-of-last-year";

const PARTS: [&str; 15] = [
    "version",
    "host",
    "file",
    "check",
    "plan",
    "status",
    "programs on interfaces",
    "interfaces",
    "routes to endpoints",
    "features of interfaces",
    "settings of the kernel",
    "bpf file systems",
    "pins",
    "unit",
    "log",
];

/// The report, which ends well and has each part and no secret.
fn report(daemon: &Daemon, args: &[&str]) -> Result<String> {
    let output = daemon.run(&[&["report"], args].concat())?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!((process::code(output.status), &*said), (0, ""));
    let text = String::from_utf8(output.stdout)?;
    complete(&text);
    Ok(text)
}

fn complete(text: &str) {
    let heads = text.lines().filter_map(|line| line.strip_prefix("== "));
    assert_eq!(heads.collect::<Vec<_>>(), PARTS, "{text}");
    for secret in [SECRET, OLD_SECRET] {
        assert!(!text.contains(secret), "{secret} stands in it: {text}");
    }
}

/// The lines of a part.
fn part<'t>(text: &'t str, name: &str) -> Result<&'t str> {
    let (_, rest) = text
        .split_once(&format!("\n== {name}\n"))
        .context("no such part")?;
    Ok(rest.split("\n== ").next().unwrap_or_default())
}

fn with_secrets() -> String {
    format!(
        "seed = \"{SECRET}\"\n# seed = \"{OLD_SECRET}\"\n{}",
        config(&[53])
    )
}

#[test]
fn a_report_has_each_part_and_no_secret_with_a_daemon_and_without() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = Daemon::spawn(&site.edge, &with_secrets(), Launch::default())?;
    daemon.ready(deadline())?;
    let before = Objects::below(daemon.pin_path())?;
    let text = report(&daemon, &[])?;
    assert!(
        Objects::below(daemon.pin_path())? == before,
        "something was changed"
    );
    let has = |text: &str, name: &str, wanted: &str| -> Result<()> {
        let part = part(text, name)?;
        assert!(part.contains(wanted), "{name} has no {wanted}: {part}");
        Ok(())
    };
    for (name, wanted) in [
        ("version", env!("CARGO_PKG_VERSION")),
        ("host", "Linux version "),
        ("file", "seed = ****"),
        ("file", "address = \"192.0.2.10\""),
        ("check", ": ok, 1 interface, 1 filter, 1 endpoint"),
        ("plan", "no changes"),
        ("status", "daemon pid "),
        ("status", "filter     port-53"),
        ("programs on interfaces", "eth0 ingress 1: "),
        ("programs on interfaces", "mirror_ingress"),
        ("programs on interfaces", "encap"),
        (
            "interfaces",
            ": eth1, Ethernet (veth), mtu 1600, up running",
        ),
        ("routes to endpoints", "endpoint ids: 192.0.2.10 dev eth1"),
        ("settings of the kernel", "net.core.bpf_jit_enable = "),
        ("bpf file systems", "/sys/fs/bpf"),
        ("pins", "/DAEMON\n"),
    ] {
        has(&text, name, wanted)?;
    }
    let mac = site.edge.mac("eth1")?.map(|byte| format!("{byte:02x}"));
    let next_hop = site.host.mac("eth0")?.map(|byte| format!("{byte:02x}"));
    let redacted = report(&daemon, &["--redact"])?;
    for hidden in ["192.0.2.1", &*mac.join(":"), &*next_hop.join(":")] {
        assert!(!redacted.contains(hidden), "{hidden} in {redacted}");
    }
    has(&redacted, "file", "address = \"ipv4-1\"")?;
    has(
        &redacted,
        "routes to endpoints",
        "endpoint ids: ipv4-1 dev eth1",
    )?;

    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    let text = report(&daemon, &[])?;
    has(&text, "status", ": the daemon is not running; ")?;
    has(&text, "programs on interfaces", "mirror_egress")?;
    // the quotes of the secret do not end
    daemon.write_config(&with_secrets().replacen("battery\"", "battery", 1))?;
    let text = report(&daemon, &[])?;
    has(&text, "check", ": invalid")?;
    has(&text, "plan", "cannot be read: there is no valid file")?;
    has(&text, "status", "filter     port-53")?;
    // nothing is left, not even the file
    process::succeed(&mut daemon.command("detach")?, deadline())?;
    fs::remove_file(daemon.config_path())?;
    let text = report(&daemon, &[])?;
    has(&text, "file", "cannot be read: ")?;
    has(&text, "status", "inactive   nothing is mirrored: ")?;
    has(&text, "programs on interfaces", "none")?;
    has(&text, "pins", "cannot be read: ")
}

#[test]
fn a_user_without_privileges_gets_what_may_be_read() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    let directory = TempDir::new()?;
    let (copy, file) = (
        directory.path().join("traffic-mirror"),
        directory.path().join("mirror.toml"),
    );
    fs::copy(binary()?, &copy)?;
    fs::write(&file, with_secrets())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let mut nobody = Command::new("setpriv");
    nobody.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
    ]);
    nobody.arg(copy).arg("report").arg("--config").arg(file);
    nobody.arg("--pin-path").arg(daemon.pin_path());
    let text = daemon.enter(|| process::succeed(&mut nobody, deadline()))?;
    complete(&text);
    for name in ["check", "status"] {
        let part = part(&text, name)?;
        assert!(part.contains("; run it as root"), "{name}: {part}");
    }
    assert!(part(&text, "interfaces")?.contains(": eth1, "), "{text}");
    Ok(())
}
