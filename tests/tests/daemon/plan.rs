//! `plan`: what taking the file would change, without touching anything.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::objects::Objects;
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use crate::site::{SITE, Site, attach, config, filter, maps_of, mechanisms, shell};

/// Exit code, standard output, standard error.
fn plan(daemon: &Daemon, args: &[&str]) -> Result<(i32, String, String)> {
    let output = daemon.run(&[&["plan"], args].concat())?;
    Ok((
        process::code(output.status),
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}

fn plan_json(daemon: &Daemon) -> Result<(i32, Value)> {
    let (code, stdout, _) = plan(daemon, &["--json"])?;
    Ok((code, serde_json::from_str(&stdout)?))
}

/// Number of map writes in the last line that says so.
fn writes(text: &str) -> Result<usize> {
    let (before, _) = text.rsplit_once(" map write").context("no map writes")?;
    let number = before.rsplit(' ').next().context("no number")?;
    number
        .parse()
        .with_context(|| format!("{number} is no number"))
}

const CHANGED: &str = r#"
[endpoint.nowhere]
address = "192.0.2.77"

[[filter]]
name = "port-53"
protocol = ["udp", "tcp"]
destination_port = [53]
to = ["ids"]

[[filter]]
name = "web"
protocol = ["tcp"]
source = ["198.51.100.0/24", "2001:db8::/32"]
destination_port = [80, "8000-8010"]
bidirectional = true
interface = ["eth0"]
direction = "egress"
to = ["ids", "nowhere"]
"#;

#[test]
fn a_change_is_foreseen_to_the_element_and_nothing_is_touched() -> Result<()> {
    let mut site = Site::new()?;
    // what the kernel finds out while a file is applied would be written, too
    site.edge
        .run("ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth1 nud permanent")?;
    for mechanism in mechanisms()? {
        let mut daemon = site.launch(&[53, 54], attach(mechanism))?;
        assert_eq!(
            plan(&daemon, &[])?,
            (
                0,
                "no changes: the file is live\n".to_owned(),
                String::new()
            )
        );
        let directory = TempDir::new()?;
        let file = directory.path().join("next.toml");
        let want = SITE.to_owned() + CHANGED;
        fs::write(&file, &want)?;

        let before = (
            Objects::below(daemon.pin_path())?,
            maps(&daemon)?,
            site.edge.run("ip neigh")?,
        );
        let (code, text, stderr) = plan(&daemon, &[file.to_str().context("path")?])?;
        assert_eq!((code, stderr.as_str()), (2, ""), "{text}");
        let foreseen = writes(&text)?;
        let expected = format!(
            "+ endpoint nowhere\n    state: ready\n    address: 192.0.2.77\n    port: 6080\n    interface: eth1\n    \
             source: 192.0.2.1\n    mtu: 1600\n    next_hop: 02:00:00:00:00:77\n\
             ~ filter port-53\n    protocol: udp -> tcp, udp\n- filter port-54\n\
             + filter web\n    protocol: tcp\n    source: 198.51.100.0/24, 2001:db8::/32\n    \
             destination_port: 80, 8000-8010\n    bidirectional: yes\n    to: ids, nowhere\n    on: eth0 egress\n\
             2 to add, 1 to change, 1 to remove; {foreseen} map writes\n"
        );
        assert_eq!(text, expected);
        let after = (
            Objects::below(daemon.pin_path())?,
            maps(&daemon)?,
            site.edge.run("ip neigh")?,
        );
        ensure!(after == before, "something was touched: {after:?}");
        assert_eq!(plan(&daemon, &[])?.0, 0);
        site.expect(54, 1)?;

        daemon.write_config(&want)?;
        daemon.wait_line(|line| line.ends_with("- filter port-54"), deadline())?;
        let report = daemon.wait_line(
            |line| line.contains("INFO loaded the file: 4 changes, "),
            deadline(),
        )?;
        assert_eq!(writes(&report)?, foreseen, "{report}");
        daemon.reload_done(deadline())?;
        assert_eq!(plan(&daemon, &[])?.0, 0);
        site.expect(54, 0)?;
        daemon.signal(Signal::SIGTERM)?;
        daemon.wait_exit(deadline())?;
    }
    Ok(())
}

/// The content of all maps that the daemon writes.
fn maps(daemon: &Daemon) -> Result<Vec<String>> {
    let live = maps_of(daemon, 1)?;
    let dump = |name| {
        shell(&format!(
            "bpftool map dump pinned {}/{name}",
            live.display()
        ))
    };
    [
        "SLOTS",
        "FILTERS",
        "ENDPOINTS",
        "ENDPOINT_NAMES",
        "HOOKS",
        "SKIPS",
    ]
    .into_iter()
    .map(dump)
    .collect()
}

#[test]
fn without_a_daemon_it_compares_with_what_is_left() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    assert_eq!(plan_json(&daemon)?.0, 0);
    daemon.write_config(&config(&[53, 54]))?;
    let (code, changes) = plan_json(&daemon)?;
    assert_eq!(
        (code, &changes["schema"], &changes["new_maps"]),
        (2, &1.into(), &false.into()),
        "{changes:#}"
    );
    let change = &changes["changes"][0];
    assert_eq!(
        (&change["change"], &change["name"]),
        (&"added".into(), &"port-54".into()),
        "{changes:#}"
    );
    assert_eq!(changes["changes"].as_array().map(Vec::len), Some(1));

    // somebody takes a program off
    daemon.write_config(&config(&[53]))?;
    if mechanisms()?.contains(&"tcx") {
        for link in fs::read_dir(daemon.pin_path().join("links"))? {
            shell(&format!(
                "bpftool link detach pinned {}",
                link?.path().display()
            ))?;
        }
        let (code, text, _) = plan(&daemon, &[])?;
        let expected = "~ interface eth0\n    attached: no -> yes\n~ endpoint ids\n    attached: no -> yes\n\
                        0 to add, 2 to change, 0 to remove; 0 map writes\n";
        assert_eq!((code, text.as_str()), (2, expected));
    }

    process::succeed(&mut daemon.command("detach")?, deadline())?;
    let (code, text, _) = plan(&daemon, &[])?;
    assert!(
        code == 2
            && text
                .starts_with("+ interface eth0\n    direction: ingress, egress\n+ endpoint ids\n"),
        "{text}"
    );
    assert!(text.ends_with(" map writes into new maps\n"), "{text}");
    site.bare(daemon.pin_path())
}

#[test]
fn the_master_switch_is_one_change() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53, 54])?;
    let directory = TempDir::new()?;
    let file = directory.path().join("off.toml");
    fs::write(&file, format!("enabled = false\n{}", config(&[53, 54])))?;
    let (code, text, _) = plan(&daemon, &[file.to_str().context("path")?])?;
    assert_eq!(code, 2);
    assert!(
        text.starts_with("~ mirroring\n    state: enabled -> disabled\n0 to add, 1 to change, "),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_wrong_file_is_an_error() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    daemon.write_config(&(SITE.to_owned() + &filter("a", 1).replace("ids", "idz")))?;
    let (code, stdout, stderr) = plan(&daemon, &[])?;
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(
        stderr.contains("error[unknown-endpoint]") && stderr.ends_with(": 1 error\n"),
        "{stderr}"
    );
    let (code, _, stderr) = plan(&daemon, &["/nowhere.toml"])?;
    assert!(
        code == 1 && stderr.starts_with("error: cannot read /nowhere.toml"),
        "{stderr}"
    );
    Ok(())
}
