//! `status` and `top`: the place among other programs, rates, what happened so far, a tripped
//! tripped.

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};
use traffic_mirror_ebpf::abi::EndpointStats;
use traffic_mirror_tests::lab::daemon::{Daemon, binary};
use traffic_mirror_tests::lab::{deadline, process};

use crate::site::{Site, attach, config, maps_of, mechanisms, shell, status_of, status_until};

fn text(daemon: &Daemon, args: &[&str]) -> Result<(i32, String)> {
    let output = daemon.run(args)?;
    Ok((
        process::code(output.status),
        String::from_utf8(output.stdout)?,
    ))
}

#[test]
fn the_place_among_other_programs_is_told() -> Result<()> {
    let site = Site::new()?;
    for mechanism in mechanisms()? {
        if mechanism == "tcx" {
            let (first, second) = (
                site.launch(&[53], attach(mechanism))?,
                site.launch(&[54], attach(mechanism))?,
            );
            let place = |daemon: &Daemon| {
                Ok::<_, anyhow::Error>(status_of(daemon)?.1["interfaces"][0]["place"].clone())
            };
            assert_eq!(
                place(&first)?,
                json!({ "position": 1, "after": [], "before": ["mirror_ingress"] })
            );
            assert_eq!(
                place(&second)?,
                json!({ "position": 2, "after": ["mirror_ingress"], "before": [] })
            );
            let (_, said) = text(&second, &["status"])?;
            assert!(
                said.contains(
                    "interface  eth0            ingress  tcx, 2 of 2 after mirror_ingress\n"
                ),
                "{said}"
            );
        } else {
            site.edge.run("tc qdisc add dev eth0 clsact")?;
            site.edge
                .run("tc filter add dev eth0 ingress protocol ip prio 7 u32 match ip dst 203.0.113.9/32 flowid 1:1")?;
            let daemon = site.launch(&[53], attach(mechanism))?;
            let place = &status_of(&daemon)?.1["interfaces"][0]["place"];
            assert_eq!(
                (&place["before"], &place["priority"]),
                (&json!([]), &json!(49_000))
            );
            let after = place["after"].as_array().context("no place")?;
            assert!(
                !after.is_empty() && after.iter().all(|name| name == "u32"),
                "{place}"
            );
        }
    }
    Ok(())
}

#[test]
fn reloads_and_repairs_are_counted_across_daemons_and_maps() -> Result<()> {
    let site = Site::new()?;
    for mechanism in mechanisms()? {
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        let history = |daemon: &Daemon| -> Result<(Value, Value)> {
            let (_, status) = status_of(daemon)?;
            let at = status["last_reload"].as_u64().context("no time")?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            ensure!((now - 60..=now).contains(&at), "{at} is not now");
            Ok((status["reloads"].clone(), status["repairs"].clone()))
        };
        assert_eq!(history(&daemon)?, (json!(1), json!(0)));
        daemon.write_config(&config(&[54]))?;
        daemon.reload_done(deadline())?;
        status_until(&daemon, |_, status| status["reloads"] == 2)?;

        // more than the maps have room for
        daemon.write_config(&config(&(1000..1200).collect::<Vec<u16>>()))?;
        daemon.reload_done(deadline())?;
        maps_of(&daemon, 2).context("there should be new maps")?;
        status_until(&daemon, |_, status| status["reloads"] == 3)?;

        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        if mechanism == "tcx" {
            for link in fs::read_dir(daemon.pin_path().join("links"))? {
                shell(&format!(
                    "bpftool link detach pinned {}",
                    link?.path().display()
                ))?;
            }
        } else {
            site.edge.run("tc qdisc del dev eth0 clsact")?;
        }
        daemon.restart()?;
        daemon.ready(deadline())?;
        // all links, with that of what counts errors; what is on eth0
        let repairs = if mechanism == "tcx" { 4 } else { 2 };
        assert_eq!(
            history(&daemon)?,
            (json!(4), json!(repairs)),
            "{:#?}",
            daemon.output()
        );
        let (_, said) = text(&daemon, &["status"])?;
        assert!(
            said.lines()
                .any(|line| line.starts_with("file       last loaded 2")),
            "{said}"
        );
        assert!(said.contains(", 4 times in all; "), "{said}");
        assert!(said.contains(&format!("; {repairs} repairs\n")), "{said}");
    }
    Ok(())
}

#[test]
fn rates_are_those_of_the_traffic() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[4000, 9])?;
    let (mut status, mut picture) = (Value::Null, String::new());
    site.pour(64, std::time::Duration::ZERO, || {
        status = serde_json::from_str(&text(&daemon, &["status", "--rates", "--json"])?.1)?;
        picture = text(&daemon, &["top"])?.1;
        Ok(())
    })?;
    let rate = |list: &str, index: usize, unit: &str| status[list][index]["rate"][unit].as_f64();
    // 46 bytes of Ethernet's least hold an IP packet of 32
    let (packets, bits) = (
        rate("filters", 0, "packets").context("no rate")?,
        rate("filters", 0, "bits").context("no rate")?,
    );
    assert!(
        packets > 100.0 && (bits / packets - 256.0).abs() < 1.0,
        "{status:#}"
    );
    assert!(
        rate("endpoints", 0, "packets").is_some_and(|packets| packets > 100.0),
        "{status:#}"
    );
    assert_eq!(
        (&status["filters"][1]["name"], rate("filters", 1, "packets")),
        (&json!("port-9"), Some(0.0))
    );
    assert!(
        status_of(&daemon)?.1["filters"][0].get("rate").is_none(),
        "only if it was asked for"
    );

    let lines: Vec<&str> = picture.lines().collect();
    assert!(lines[0].starts_with("ok         daemon pid "), "{picture}");
    let starts: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        starts,
        ["ok", "ENDPOINT", "ids", "FILTER", "port-4000", "port-9"],
        "{picture}"
    );
    assert!(
        !picture.contains('\x1b') && !lines[4].contains(" 0 bit/s"),
        "{picture}"
    );
    Ok(())
}

#[test]
fn on_a_terminal_the_picture_is_drawn_again_and_again() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    for colors in [true, false] {
        let mut script = site.edge.command("script")?;
        let top = format!(
            "{} top --pin-path {}",
            binary()?.display(),
            daemon.pin_path().display()
        );
        script
            .args(["-qec", &top, "/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if !colors {
            script.env("NO_COLOR", "1");
        }
        let mut child = script.spawn()?;
        let mut said = Vec::new();
        let mut stdout = child.stdout.take().context("no standard output")?;
        let pictures = |said: &[u8]| said.windows(3).filter(|bytes| bytes == b"\x1b[H").count();
        while pictures(&said) < 3 {
            let mut buffer = [0; 4096];
            let read = stdout.read(&mut buffer)?;
            ensure!(read > 0, "it ended: {}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&buffer[..read]);
        }
        child.kill()?;
        child.wait()?;
        let said = String::from_utf8(said)?;
        let ok = if colors { "\x1b[32mok\x1b[0m" } else { "ok" };
        let first = format!("\x1b[H{ok}         daemon pid ");
        assert!(said.starts_with(&first), "{said:?}");
        assert_eq!(said.contains("\x1b[1m"), colors, "{said:?}");
        assert!(said.matches("port-53 ").count() >= 2, "{said:?}");
    }
    Ok(())
}

/// Whoever watches many hosts reads one line of each.
#[test]
fn the_first_line_says_it_all() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    // India is half an hour off, and needs no database here
    let brief = |args: &[&str]| -> Result<(i32, String)> {
        let mut command = daemon.command("status")?;
        let output = process::output(command.args(args).env("TZ", "IST-5:30"), deadline())?;
        assert!(output.stderr.is_empty());
        Ok((
            process::code(output.status),
            String::from_utf8(output.stdout)?,
        ))
    };
    let pid = daemon.pid().context("it runs")?;
    let begins = format!(
        "ok         daemon pid {pid}, version {}; {}, sha256 ",
        env!("CARGO_PKG_VERSION"),
        daemon.config_path().display()
    );
    let (code, line) = brief(&["--brief"])?;
    let rest = line.strip_prefix(&begins).context(line.clone())?;
    let (hash, time) = rest.split_once(", live since ").context(line.clone())?;
    let (_, status) = status_of(&daemon)?;
    let whole = status["file"]["sha256"].as_str().context("a hash")?;
    assert_eq!((code, hash), (0, &whole[..12]));
    assert!(
        time.starts_with('2') && time.ends_with("+05:30\n"),
        "{time}"
    );
    // the same as the first line of all of it
    assert!(brief(&[])?.1.starts_with(&line));

    daemon.signal(Signal::SIGSTOP)?;
    daemon.write_config(&config(&[54]))?;
    let (code, line) = brief(&["--brief"])?;
    assert!(
        code == 1
            && line.starts_with("degraded   since 2")
            && line.contains(" has changed and is not loaded yet; daemon pid ")
            && line.ends_with(", changed since, not loaded\n"),
        "{line}"
    );
    daemon.signal(Signal::SIGCONT)?;
    status_until(&daemon, |code, status| code == 0 && status["state"] == "ok")?;
    Ok(())
}

#[test]
fn of_many_filters_the_busiest_are_shown_and_others_are_chosen_by_name() -> Result<()> {
    let mut site = Site::new()?;
    let daemon = site.daemon(&(1000..1300).collect::<Vec<u16>>())?;
    site.expect(1299, 1)?;
    let filters = |said: &str| -> Vec<String> {
        let lines = said.lines().filter_map(|line| line.strip_prefix("filter "));
        lines.map(|line| line.trim().to_owned()).collect()
    };
    let (code, said) = text(&daemon, &["status"])?;
    let shown = filters(&said);
    assert_eq!((code, shown.len()), (0, 21), "{said}");
    assert!(
        shown[19].starts_with("port-1299 ") && shown[19].contains(" 1 packets "),
        "{said}"
    );
    assert_eq!(
        shown[20],
        "280 more, with fewer packets: traffic-mirror status 'PATTERN'"
    );

    let (_, said) = text(&daemon, &["status", "port-1298", "port-100*"])?;
    assert_eq!(filters(&said).len(), 11, "{said}");
    assert_eq!(said.lines().count(), 12, "the first line, and these");
    assert_eq!(filters(&text(&daemon, &["status", "*"])?.1).len(), 300);
    let (_, said) = text(&daemon, &["status", "ids", "eth[0-9]", "--json"])?;
    let status: Value = serde_json::from_str(&said)?;
    let count = |list: &str| status[list].as_array().map(Vec::len);
    assert_eq!(
        ["interfaces", "filters", "endpoints", "outputs"].map(count),
        [Some(2), Some(0), Some(1), Some(1)],
        "{status:#}"
    );
    let (_, said) = text(&daemon, &["top", "--once", "port-1001"])?;
    assert_eq!(said.matches("port-").count(), 1, "{said}");
    for verb in [&["status"][..], &["top", "--once"]] {
        let output = daemon.run(&[verb, &["port-13000"]].concat())?;
        let said = String::from_utf8(output.stderr)?;
        assert!(
            process::code(output.status) == 1
                && said.contains(
                    "no interface, filter or endpoint is called \"port-13000\"; did you mean"
                ),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn a_terminal_gets_colours_unless_it_wants_none() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    for colors in [true, false] {
        let mut script = site.edge.command("script")?;
        let status = format!(
            "{} status --pin-path {}",
            binary()?.display(),
            daemon.pin_path().display()
        );
        script.args(["-qec", &status, "/dev/null"]);
        script.stdin(Stdio::null());
        if !colors {
            script.env("NO_COLOR", "1");
        }
        let said = process::succeed(&mut script, deadline())?;
        assert_eq!(said.starts_with("\x1b[32mok\x1b[0m   "), colors, "{said:?}");
        assert_eq!(said.contains('\x1b'), colors, "{said:?}");
    }
    assert!(!text(&daemon, &["status"])?.1.contains('\x1b'));
    Ok(())
}

#[test]
fn a_tripped_circuit_breaker_is_degraded() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    site.expect(53, 1)?;
    assert_eq!(status_of(&daemon)?.0, 0);
    // as `mirror` does when a copy has met no `encap`
    let pin = maps_of(&daemon, 1)?.join("ENDPOINT_STATS");
    let mut stats: PerCpuArray<_, EndpointStats> =
        PerCpuArray::try_from(Map::PerCpuArray(MapData::from_pin(pin)?))?;
    let breaker = 1;
    let tripped = stats
        .get(&0, 0)?
        .iter()
        .map(|cpu| EndpointStats {
            tripped: breaker,
            ..*cpu
        })
        .collect::<Vec<_>>();
    stats.set(0, PerCpuValues::try_from(tripped)?, 0)?;
    let (code, status) = status_of(&daemon)?;
    assert_eq!((code, &status["degraded"]), (1, &json!(true)), "{status:#}");
    assert_eq!(status["endpoints"][0]["state"], "tripped");
    let (code, said) = text(&daemon, &["top", "--once"])?;
    assert!(
        code == 1
            && said.starts_with("degraded   endpoint ids gets no copies: tripped; daemon ")
            && said.contains("  tripped\n"),
        "{said}"
    );
    site.expect(53, 0)?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait_exit(deadline())?;
    assert_eq!(text(&daemon, &["top"])?.0, 3);
    Ok(())
}

/// What counts errors about copies is taken off while nobody is there to put it on again.
#[test]
fn errors_that_are_not_counted_degrade() -> Result<()> {
    let site = Site::new()?;
    for mechanism in mechanisms()? {
        let daemon = site.launch(&[53], attach(mechanism))?;
        let (code, status) = status_of(&daemon)?;
        assert_eq!(
            (code, &status["outputs"][0]["hears_errors"]),
            (0, &json!(true)),
            "{status:#}"
        );
        daemon.signal(Signal::SIGSTOP)?;
        if mechanism == "tcx" {
            let links = daemon.pin_path().join("links");
            let is_it = |name: &str| name.starts_with("icmp_errors");
            let names = fs::read_dir(&links)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let names: Vec<String> = names.collect::<Result<_>>()?;
            let name = names
                .iter()
                .find(|name| is_it(name))
                .context("no link of icmp_errors")?;
            fs::remove_file(links.join(name))?;
        } else {
            site.edge.run("tc filter delete dev eth1 ingress")?;
        }
        let (code, status) = status_of(&daemon)?;
        let why = "ICMP errors about copies are not counted on eth1: icmp_errors is not attached to its ingress";
        assert!(
            status["reasons"]
                .as_array()
                .is_some_and(|all| all.contains(&json!(why))),
            "{status:#}"
        );
        assert_eq!(
            (code, &status["outputs"][0]["hears_errors"]),
            (1, &json!(false))
        );
        daemon.signal(Signal::SIGCONT)?;
        daemon.signal(Signal::SIGHUP)?;
        status_until(&daemon, |code, status| {
            code == 0 && status["outputs"][0]["hears_errors"] == true
        })?;
    }
    Ok(())
}
