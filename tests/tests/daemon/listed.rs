//! What became of all that the file lists: `status`, `top`, `explain`, metrics and the log say it
//! of what is not mirrored, too.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::time::Instant;
use traffic_mirror_ebpf::abi::MAX_INTERFACES;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::foreign::{Foreign, Verdict};
use traffic_mirror_tests::lab::socket::PacketType::Outgoing;
use traffic_mirror_tests::lab::tun::Tun;
use traffic_mirror_tests::lab::veth::veth;
use traffic_mirror_tests::lab::{deadline, pause, process};

use crate::interfaces::{attached, rename};
use crate::many::{batch, long};
use crate::site::{Site, attach, config, filter, mechanisms, status_of, status_until};

/// [`config`] for port 53 and more interface entries.
fn listing(entries: &[&str]) -> String {
    config(&[53])
        + &entries
            .iter()
            .map(|entry| format!("\n[[interface]]\nname = \"{entry}\"\n"))
            .collect::<String>()
}

/// The element of `not_mirrored` with that name.
fn missing(status: &Value, name: &str) -> Option<Value> {
    status["not_mirrored"]
        .as_array()?
        .iter()
        .find(|one| one["name"] == name)
        .cloned()
}

fn text(daemon: &Daemon, args: &[&str]) -> Result<String> {
    let output = daemon.run(args)?;
    Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
}

/// Code and error of `explain` for an interface.
fn explain(daemon: &Daemon, interface: &str) -> Result<(i32, String)> {
    let args = [
        "explain",
        "--interface",
        interface,
        "--direction",
        "ingress",
        "--protocol",
        "icmp",
    ];
    let output = daemon.run(
        &[
            &args[..],
            &["--source", "10.0.0.1", "--destination", "10.0.0.2"],
        ]
        .concat(),
    )?;
    Ok((
        process::code(output.status),
        String::from_utf8(output.stderr)?,
    ))
}

/// Waits until the metrics hold a line.
fn told(daemon: &Daemon, line: &str) -> Result<()> {
    let deadline = deadline();
    loop {
        let text = fs::read_to_string(daemon.metrics_path()).unwrap_or_default();
        if text.lines().any(|one| one == line) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no {line} in {text}");
        pause();
    }
}

fn count(daemon: &Daemon, what: &str) -> usize {
    daemon
        .output()
        .iter()
        .filter(|line| line.contains(what))
        .count()
}

#[test]
fn a_misspelt_name_is_told_everywhere_until_it_is_there() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = Daemon::start(
        &site.edge,
        &(listing(&["lan0"]) + "order = \"before policy\"\n"),
    )?;
    let attached_is = |value: u8| {
        format!(
            "traffic_mirror_interface_attached{{interface=\"lan0\",direction=\"egress\"}} {value}"
        )
    };
    for times in 1..=2 {
        let status = status_until(&daemon, |code, status| {
            code == 1 && missing(status, "lan0").is_some()
        })?;
        let absent = missing(&status, "lan0").context("it is there")?;
        let wanted = json!({
            "name": "lan0",
            "entry": "lan0",
            "directions": ["ingress", "egress"],
            "state": "absent",
            "reason": "absent",
            "why": "no interface has this name; the daemon mirrors it when it appears",
            "order": "before policy",
            "is_fault": true,
        });
        assert_eq!(absent, wanted);
        let line = "lan0            absent   no interface has this name; the daemon mirrors it when it appears; order before policy is \
                    pending, too\n";
        let said = text(&daemon, &["status"])?;
        assert!(said.contains(&format!("interface  {line}")), "{said}");
        let top = text(&daemon, &["top", "--once"])?;
        assert!(top.contains(&format!("NOT MIRRORED\n{line}")), "{top}");
        let (code, said) = explain(&daemon, "lan0")?;
        assert!(
            code == 1 && said.contains("lan0 is not monitored, it is absent: "),
            "{said}"
        );
        told(&daemon, &attached_is(0))?;
        told(
            &daemon,
            "traffic_mirror_interfaces_left_out{reason=\"absent\"} 1",
        )?;
        told(&daemon, "traffic_mirror_interfaces_wanted 2")?;
        told(&daemon, "traffic_mirror_degraded 1")?;
        daemon.wait_line(
            |line| line.contains("WARN interface lan0 is absent"),
            deadline(),
        )?;
        assert_eq!(count(&daemon, "WARN interface lan0 is absent"), times);

        veth(&site.edge, "lan0", &site.client, "c0")?;
        attached(&daemon, &["eth0", "lan0"])?;
        status_until(&daemon, |code, status| {
            code == 0 && missing(status, "lan0").is_none()
        })?;
        told(&daemon, &attached_is(1))?;
        told(
            &daemon,
            "traffic_mirror_interfaces_left_out{reason=\"absent\"} 0",
        )?;
        daemon.wait_line(
            |line| line.contains("INFO resolved: interface lan0 is absent"),
            deadline(),
        )?;
        // a look that finds nothing new says nothing
        daemon.signal(Signal::SIGHUP)?;
        daemon.reload_done(deadline())?;
        assert_eq!(count(&daemon, "interface lan0 is absent"), 2 * times);
        site.edge.run("ip link del lan0")?;
    }
    Ok(())
}

#[test]
fn a_glob_that_matches_nothing_is_pending_and_no_fault() -> Result<()> {
    let site = Site::new()?;
    let daemon = Daemon::start(&site.edge, &listing(&["lan*"]))?;
    let status = status_until(&daemon, |code, status| {
        code == 0 && missing(status, "lan*").is_some()
    })?;
    assert_eq!(
        missing(&status, "lan*").context("it matches")?["state"],
        "pending"
    );
    assert!(
        text(&daemon, &["status"])?
            .contains("interface  lan*            pending  no interface matches")
    );
    assert!(
        !fs::read_to_string(daemon.metrics_path())?.contains("lan*"),
        "a glob is no interface"
    );
    veth(&site.edge, "lan7", &site.client, "c0")?;
    attached(&daemon, &["eth0", "lan7"])?;
    status_until(&daemon, |code, status| {
        code == 0 && status["not_mirrored"] == json!([])
    })
    .map(drop)
}

#[test]
fn an_alternative_name_will_do_wherever_an_interface_is_named() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        site.edge
            .run("ip link property add dev eth0 altname enp3s0")?;
        site.edge
            .run("ip link property add dev eth1 altname uplink")?;
        let file = "[[interface]]\nname = \"enp3s0\"\n\n\
                    [endpoint.ids]\naddress = \"192.0.2.10\"\ninterface = \"uplink\"\n"
            .to_owned()
            + &filter("dns", 53)
            + "interface = [\"enp3s0\"]\n";
        let mut daemon = Daemon::spawn(&site.edge, &file, attach(mechanism))?;
        daemon.ready(deadline())?;
        attached(&daemon, &["eth0"])?;
        let status = status_until(&daemon, |code, status| {
            code == 0 && status["endpoints"][0]["interface"] == "eth1"
        })?;
        assert_eq!(status["interfaces"][0]["altname"], "enp3s0");
        assert!(text(&daemon, &["status"])?.contains(&format!("{mechanism}, listed as enp3s0")));
        status_until(&daemon, |_, status| {
            status["endpoints"][0]["next_hop"].is_string()
        })?;
        site.expect(53, 1)?;
        assert_eq!(explain(&daemon, "enp3s0")?, (0, String::new()));
        // without that name it is another interface
        site.edge
            .run("ip link property del dev eth0 altname enp3s0")?;
        let is_off = |status: &Value| {
            status["interfaces"] == json!([]) && missing(status, "enp3s0").is_some()
        };
        status_until(&daemon, |code, status| code == 1 && is_off(status))?;
        site.expect(53, 0)?;
        site.edge
            .run("ip link property add dev eth0 altname enp3s0")?;
        attached(&daemon, &["eth0"])?;
        site.expect(53, 1)?;
    }
    Ok(())
}

#[test]
fn what_is_beyond_the_limit_is_told_and_degrades() -> Result<()> {
    const BEYOND: usize = 5;
    let site = Site::new()?;
    let pairs = (MAX_INTERFACES + BEYOND) / 2;
    batch(
        &site,
        (0..pairs).map(|nth| format!("link add many{nth:03}a type veth peer name many{nth:03}b")),
    )?;
    let file = listing(&["many*"]) + "direction = \"ingress\"\n";
    let mut daemon = Daemon::spawn(&site.edge, &file, Launch::default())?;
    daemon.ready(long(MAX_INTERFACES))?;
    let beyond = 2 * pairs + 1 - MAX_INTERFACES;
    let left_out = |status: &Value| -> usize {
        let missing = status["not_mirrored"].as_array().into_iter().flatten();
        missing.filter(|one| one["reason"] == "limit").count()
    };
    let status = status_until(&daemon, |code, status| {
        code == 1 && left_out(status) == beyond
    })?;
    let one = status["not_mirrored"][0]["name"]
        .as_str()
        .context("a name")?
        .to_owned();
    assert_eq!(
        (
            &status["not_mirrored"][0]["state"],
            &status["not_mirrored"][0]["is_fault"]
        ),
        (&json!("left out"), &json!(true))
    );
    let why = format!("at most {MAX_INTERFACES} interfaces are mirrored; list fewer");
    let said = text(&daemon, &["status"])?;
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("interface  ") && line.contains(&why))
        .collect();
    assert!(
        said.starts_with(&format!("degraded   {beyond} interfaces left out: {why}")),
        "{said}"
    );
    assert!(
        lines.len() == 1 && lines[0].starts_with(&format!("interface  {beyond}: {one}, ")),
        "{lines:?}"
    );
    let (code, said) = explain(&daemon, &one)?;
    assert!(
        code == 1 && said.contains(&format!("{one} is not monitored, it is left out: {why}")),
        "{said}"
    );
    told(
        &daemon,
        &format!("traffic_mirror_interfaces_left_out{{reason=\"limit\"}} {beyond}"),
    )?;
    told(
        &daemon,
        &format!("traffic_mirror_interfaces_wanted {}", 2 * pairs + 1),
    )?;
    told(
        &daemon,
        &format!(
            "traffic_mirror_interface_attached{{interface=\"{one}\",direction=\"ingress\"}} 0"
        ),
    )?;
    let warning = "WARN the file lists more interfaces than the daemon can mirror";
    daemon.wait_line(|line| line.contains(warning), deadline())?;
    // who goes makes room; that another one waits is nothing new
    site.edge.run("ip link del many000a")?;
    status_until(&daemon, |code, status| {
        code == 1 && left_out(status) == beyond - 2
    })?;
    assert_eq!(count(&daemon, warning), 1);
    batch(
        &site,
        (1..beyond.div_ceil(2)).map(|nth| format!("link del many{nth:03}a")),
    )?;
    status_until(&daemon, |code, status| code == 0 && left_out(status) == 0)?;
    daemon
        .wait_line(
            |line| line.contains("INFO resolved: the file lists more interfaces"),
            deadline(),
        )
        .map(drop)
}

#[test]
fn a_tun_is_mirrored_or_left_out_with_a_reason() -> Result<()> {
    let site = Site::new()?;
    let _tun = Tun::create(&site.edge, "tun7")?;
    let daemon = Daemon::start(&site.edge, &listing(&["tun7"]))?;
    status_until(&daemon, |code, status| {
        let is_attached = |hook: &Value| hook["name"] == "tun7" && hook["attached"].is_string();
        let hooks = status["interfaces"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|hook| is_attached(hook))
            .count();
        match missing(status, "tun7") {
            None => (code, hooks) == (0, 2),
            Some(one) => {
                (code, hooks) == (1, 0) && one["reason"] == "kind" && one["is_fault"] == true
            }
        }
    })
    .map(drop)
}

/// Somebody has the first and the last priority on its egress.
#[test]
fn a_tun_that_takes_no_encap_is_left_out_and_nothing_is_left_to_do() -> Result<()> {
    let site = Site::new()?;
    let _tun = Tun::create(&site.edge, "tun7")?;
    site.edge.run("tc qdisc add dev tun7 clsact")?;
    let guard = Foreign::load("guard", Verdict::Next)?;
    guard.attach_filter(&site.edge, "tun7", Outgoing, 1)?;
    guard.attach_filter(&site.edge, "tun7", Outgoing, u16::MAX)?;
    let mut daemon = Daemon::spawn(&site.edge, &listing(&["tun7"]), attach("clsact"))?;
    daemon.ready(deadline())?;
    let is_refused = |status: &Value| {
        missing(status, "tun7")
            .is_some_and(|one| one["reason"] == "attach-failed" && one["is_fault"] == true)
    };
    status_until(&daemon, |code, status| code == 1 && is_refused(status))?;
    daemon.wait_line(
        |line| line.contains("cannot attach encap to the egress of tun7"),
        deadline(),
    )?;
    let plan = daemon.run(&["plan"])?;
    ensure!(
        plan.status.success(),
        "{}",
        String::from_utf8_lossy(&plan.stdout)
    );
    assert!(daemon.run(&["wait", "--timeout", "5"])?.status.success());
    site.edge.run("tc filter delete dev tun7 egress")?;
    daemon.signal(Signal::SIGHUP)?;
    status_until(&daemon, |code, status| {
        code == 0 && missing(status, "tun7").is_none()
    })?;
    Ok(())
}

/// What was compiled before an output refused was never written: nothing may be made of it.
#[test]
fn filters_that_come_with_an_interface_that_takes_no_encap_are_in_force_and_nobody_is_blamed()
-> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = Daemon::spawn(&site.edge, &listing(&[]), attach("clsact"))?;
    daemon.ready(deadline())?;
    site.expect(53, 1)?;
    let _tun = Tun::create(&site.edge, "tun7")?;
    site.edge.run("tc qdisc add dev tun7 clsact")?;
    let guard = Foreign::load("guard", Verdict::Next)?;
    guard.attach_filter(&site.edge, "tun7", Outgoing, 1)?;
    guard.attach_filter(&site.edge, "tun7", Outgoing, u16::MAX)?;
    for port in [54, 55, 56] {
        daemon.write_config(&(listing(&["tun7"]) + &filter("another", port)))?;
        daemon.reload_done(deadline())?;
        site.expect(53, 1)?;
        site.expect(port, 1)?;
    }
    let blamed: Vec<String> = daemon
        .output()
        .into_iter()
        .filter(|line| line.contains("another process"))
        .collect();
    ensure!(blamed.is_empty(), "{blamed:?}");
    Ok(())
}

#[test]
fn without_a_daemon_who_has_come_since_is_waiting() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = Daemon::start(&site.edge, &listing(&["lan*"]))?;
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    veth(&site.edge, "lan0", &site.client, "c0")?;
    let (code, status) = status_of(&daemon)?;
    assert_eq!(
        (
            code,
            missing(&status, "lan0").context("it is mirrored")?["state"].clone()
        ),
        (1, json!("waiting"))
    );
    daemon.restart()?;
    daemon.ready(deadline())?;
    attached(&daemon, &["eth0", "lan0"])
}

#[test]
fn a_filter_says_why_it_is_not_in_force() -> Result<()> {
    let site = Site::new()?;
    let file = listing(&["lan0"])
        + &filter("off", 54)
        + "enabled = false\n"
        + &filter("elsewhere", 55)
        + "interface = [\"lan0\"]\n";
    let mut daemon = Daemon::start(&site.edge, &file)?;
    let states = |status: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let filters = status["filters"].as_array().into_iter().flatten();
        filters
            .map(|filter| (text(&filter["name"]), text(&filter["state"])))
            .collect()
    };
    let is =
        |wanted: [(&str, &str); 3]| wanted.map(|(name, state)| (name.to_owned(), state.to_owned()));
    let wanted = is([
        ("elsewhere", "no-interface"),
        ("off", "disabled"),
        ("port-53", "active"),
    ]);
    status_until(&daemon, |_, status| states(status) == wanted)?;
    let said = text(&daemon, &["status"])?;
    assert!(
        said.contains("filter     elsewhere       inactive: no interface 0 packets"),
        "{said}"
    );
    assert!(
        said.contains("filter     off             disabled 0 packets"),
        "{said}"
    );
    told(
        &daemon,
        "traffic_mirror_filter_active{filter=\"elsewhere\"} 0",
    )?;
    told(
        &daemon,
        "traffic_mirror_filter_active{filter=\"port-53\"} 1",
    )?;
    veth(&site.edge, "lan0", &site.client, "c0")?;
    let wanted = is([
        ("elsewhere", "active"),
        ("off", "disabled"),
        ("port-53", "active"),
    ]);
    status_until(&daemon, |_, status| states(status) == wanted)?;

    daemon.write_config(&format!("enabled = false\n{file}"))?;
    daemon.reload_done(deadline())?;
    let wanted = is([
        ("elsewhere", "mirroring-off"),
        ("off", "disabled"),
        ("port-53", "mirroring-off"),
    ]);
    status_until(&daemon, |_, status| states(status) == wanted)?;
    assert!(text(&daemon, &["top", "--once"])?.contains("inactive: mirroring is off"));
    told(
        &daemon,
        "traffic_mirror_filter_active{filter=\"port-53\"} 0",
    )
}

#[test]
fn explain_does_not_answer_where_no_packet_is_looked_at() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = Daemon::start(&site.edge, &config(&[53]))?;
    assert_eq!(explain(&daemon, "eth0")?.0, 0);
    let (code, said) = explain(&daemon, "eth1")?;
    assert!(
        code == 1
            && said.contains("eth1 ingress is not monitored")
            && said.contains("the file does not list it"),
        "{said}"
    );
    let (code, said) = explain(&daemon, "eth9")?;
    assert!(
        code == 1 && said.contains("there is no interface eth9, and the file lists none"),
        "{said}"
    );
    daemon.write_config(&config(&[53]).replacen(
        "\"eth0\"\n",
        "\"eth0\"\ndirection = \"egress\"\n",
        1,
    ))?;
    daemon.reload_done(deadline())?;
    status_until(&daemon, |_, status| {
        status["interfaces"]
            .as_array()
            .is_some_and(|hooks| hooks.len() == 1)
    })?;
    let (code, said) = explain(&daemon, "eth0")?;
    assert!(
        code == 1 && said.contains("the file lists the other direction only"),
        "{said}"
    );
    daemon.write_config(&config(&[53]))?;
    daemon.reload_done(deadline())?;
    status_until(&daemon, |code, status| {
        code == 0
            && status["interfaces"]
                .as_array()
                .is_some_and(|hooks| hooks.len() == 2)
    })?;
    // nobody puts it on again
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    for link in fs::read_dir(daemon.pin_path().join("links"))
        .into_iter()
        .flatten()
    {
        let link = link?;
        if link.file_name().to_string_lossy().starts_with("mirror-") {
            crate::site::shell(&format!(
                "bpftool link detach pinned {}",
                link.path().display()
            ))?;
        }
    }
    if mechanisms()?[0] == "tcx" {
        let (code, said) = explain(&daemon, "eth0")?;
        assert!(
            code == 1 && said.contains("the program is not attached to eth0 ingress"),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn check_warns_of_interfaces_that_this_host_does_not_have() -> Result<()> {
    let site = Site::new()?;
    site.edge
        .run("ip link property add dev eth1 altname uplink")?;
    let daemon = Daemon::start(&site.edge, &config(&[53]))?;
    let check = |file: &str, arguments: &[&str]| -> Result<(i32, String)> {
        fs::write(daemon.config_path().with_extension("check"), file)?;
        let path = daemon
            .config_path()
            .with_extension("check")
            .display()
            .to_string();
        let output = daemon.run(&[&["check", &path], arguments].concat())?;
        Ok((
            process::code(output.status),
            String::from_utf8(output.stderr)?,
        ))
    };
    assert_eq!(
        check(&listing(&["uplink", "lan*"]), &[])?,
        (0, String::new())
    );
    let misspelt = listing(&["eht1", "wan0"]);
    let (code, said) = check(&misspelt, &[])?;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("warning[absent-interface]: interface \"eht1\" does not exist on this host"),
        "{said}"
    );
    assert!(
        said.contains("did you mean \"eth1\"?")
            && said.contains("interface \"wan0\" does not exist"),
        "{said}"
    );
    assert_eq!(check(&misspelt, &["--any-host"])?, (0, String::new()));
    let (code, said) = check(&(misspelt + "wrong = 1\n"), &[])?;
    assert!(
        code == 1 && !said.contains("absent-interface"),
        "the errors first: {said}"
    );
    Ok(())
}

#[test]
fn one_that_is_renamed_is_absent_by_its_former_name() -> Result<()> {
    let site = Site::new()?;
    let daemon = Daemon::start(&site.edge, &config(&[53]))?;
    attached(&daemon, &["eth0"])?;
    rename(&site.edge, "eth0", "dmz0")?;
    status_until(&daemon, |code, status| {
        code == 1 && missing(status, "eth0").is_some()
    })?;
    rename(&site.edge, "dmz0", "eth0")?;
    attached(&daemon, &["eth0"])
}
