//! What the daemon asks of the system, seen from outside: sockets, netlink requests.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::{Daemon, Launch, binary};
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use crate::site::{Site, attach, config, install, mechanisms, status_until};

/// A launch under strace, which records `calls` of all threads. The daemon keeps its process
/// number.
pub(crate) fn traced(
    directory: &TempDir,
    calls: &str,
    launch: Launch,
) -> Result<(Launch, PathBuf)> {
    let options = format!("trace={calls} -e signal=none --output-append-mode");
    under_strace(directory, "traced", &options, launch)
}

/// The same for what `strace -e` takes; the script that starts the daemon has the name given.
fn under_strace(
    directory: &TempDir,
    name: &str,
    options: &str,
    launch: Launch,
) -> Result<(Launch, PathBuf)> {
    let (script, trace) = (directory.path().join(name), directory.path().join("trace"));
    let strace = format!("strace -D -f -q -e {options} -o {}", trace.display());
    install(
        &script,
        &format!("#!/bin/sh\nexec {strace} {} \"$@\"\n", binary()?.display()),
    )?;
    Ok((
        Launch {
            binary: Some(script),
            ..launch
        },
        trace,
    ))
}

/// How often each address family was given to socket(2).
fn families(trace: &Path) -> Result<BTreeMap<String, usize>> {
    let mut families = BTreeMap::new();
    for line in fs::read_to_string(trace)?.lines() {
        let Some((_, arguments)) = line.split_once("socket(") else {
            continue;
        };
        let family = arguments.split(',').next().context("no family")?;
        *families.entry(family.to_owned()).or_default() += 1;
    }
    Ok(families)
}

#[test]
fn no_socket_but_netlink_and_unix_is_ever_opened() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        let directory = TempDir::new()?;
        let (launch, trace) = traced(
            &directory,
            "socket,socketpair,listen,accept,accept4,bpf",
            attach(mechanism),
        )?;
        let mut daemon = site.launch(&[53], launch)?;
        site.expect(53, 1)?;
        daemon.write_config(&config(&[54]))?;
        daemon.reload_done(deadline())?;
        daemon.write_config("wrong")?;
        daemon.wait_line(|line| line.contains("rejected the file: "), deadline())?;

        // as the kernel lists them: family, state, ... , users:(("name",pid=...,fd=...))
        let pid = format!("pid={},", daemon.pid().context("it does not run")?);
        let sockets = process::succeed(site.edge.command("ss")?.args(["-anp"]), deadline())?;
        let own: Vec<&str> = sockets.lines().filter(|line| line.contains(&pid)).collect();
        // ss names the owner of a netlink socket by its port: name/pid
        let kinds: Vec<_> = own
            .iter()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert!(
            kinds
                .iter()
                .all(|kind| *kind == "nl" || kind.starts_with("u_")),
            "{own:#?}"
        );

        for subcommand in ["status", "check"] {
            process::output(&mut daemon.command(subcommand)?, deadline())?;
        }
        daemon.signal(Signal::SIGTERM)?;
        assert_eq!(daemon.wait_exit(deadline())?, 0);
        process::succeed(&mut daemon.command("detach")?, deadline())?;
        let families = families(&trace)?;
        println!("{mechanism}: {families:?}");
        assert!(families.contains_key("AF_NETLINK"), "{families:?}");
        let others: Vec<_> = families
            .keys()
            .filter(|family| !matches!(&***family, "AF_NETLINK" | "AF_UNIX"))
            .collect();
        assert!(others.is_empty(), "{others:?}");
        let text = fs::read_to_string(&trace)?;
        assert!(text.contains("bpf(BPF_PROG_LOAD"), "strace saw nothing");
        let listening = text.lines().find(|line| {
            ["listen(", "accept(", "accept4("]
                .iter()
                .any(|call| line.contains(call))
        });
        assert_eq!(listening, None);
    }
    Ok(())
}

#[test]
fn a_dead_next_hop_does_not_keep_the_daemon_busy() -> Result<()> {
    const SECONDS: u64 = 7;
    let mut site = Site::new()?;
    let directory = TempDir::new()?;
    let (launch, trace) = traced(&directory, "sendto,sendmsg", Launch::default())?;
    let mut daemon = site.launch(&[53], launch)?;
    site.expect(53, 1)?;
    // nobody answers there; IPv4 and IPv6
    site.edge.address("eth1", "2001:db8::1/64")?;
    let dead = "\n[endpoint.dead4]\naddress = \"192.0.2.99\"\n\n[endpoint.dead6]\naddress = \"2001:db8::99\"\n";
    let file = config(&[53]) + dead;
    daemon.write_config(&file.replace("to = [\"ids\"]", "to = [\"ids\", \"dead4\", \"dead6\"]"))?;
    daemon.reload_done(deadline())?;
    let requests = || Ok::<_, anyhow::Error>(fs::read_to_string(&trace)?.lines().count());
    let (begin, before) = (Instant::now(), requests()?);
    // traffic, as each copy asks for the neighbour too
    while begin.elapsed() < Duration::from_secs(SECONDS) {
        site.expect(53, 1)?;
        let pause = Instant::now() + Duration::from_millis(100);
        ensure!(
            daemon
                .wait_line(|line| line.contains("ERROR"), pause)
                .is_err(),
            "{:?}",
            daemon.output()
        );
    }
    let rate = (requests()? - before) as f64 / begin.elapsed().as_secs_f64();
    println!("{rate:.1} netlink requests a second");
    // each second the daemon looks after three next hops and one output, by two requests each at
    // most; what comes of it is events
    assert!(rate < 20.0, "{rate} netlink requests a second");
    Ok(())
}

/// The network is waited for by `poll`, and by nobody else in the daemon.
fn without_poll(directory: &TempDir, fault: &str) -> Result<(Launch, PathBuf)> {
    let options = format!("trace=poll -e inject=poll:error=ENOMEM{fault}");
    under_strace(directory, "deaf", &options, Launch::default())
}

#[test]
fn a_network_that_cannot_be_heard_of_is_no_reason_to_be_busy() -> Result<()> {
    let mut site = Site::new()?;
    let directory = TempDir::new()?;
    let (launch, trace) = without_poll(&directory, "")?;
    let mut daemon = site.launch(&[53], launch)?;
    let said = |daemon: &Daemon, text: &str| {
        daemon
            .output()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    };
    const DEAF: &str = " WARN cannot receive network events: cannot wait for a netlink socket";
    daemon.wait_line(|line| line.contains(DEAF), deadline())?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        site.expect(53, 1)?;
    }
    let polls = fs::read_to_string(&trace)?
        .lines()
        .filter(|line| line.contains("ENOMEM"))
        .count();
    ensure!((2..10).contains(&polls), "{polls} attempts");
    daemon.write_config(&config(&[54]))?;
    daemon.reload_done(deadline())?;
    site.expect(54, 1)?;
    assert_eq!(said(&daemon, DEAF), 1);
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);

    // the first time only, for each thread
    let (launch, _) = without_poll(&directory, ":when=1")?;
    let daemon = site.launch(&[53], launch)?;
    daemon.wait_line(|line| line.contains(DEAF), deadline())?;
    daemon.wait_line(
        |line| line.contains(" INFO the daemon receives network events again"),
        deadline(),
    )?;
    assert_eq!(said(&daemon, DEAF), 1);
    site.edge.run("ip link set eth1 down")?;
    // by an event, long before the timer
    status_until(&daemon, |_, status| {
        status["endpoints"][0]["state"] != "ready"
    })
    .map(drop)
}

#[test]
fn a_log_that_cannot_be_written_is_no_reason_not_to_mirror() -> Result<()> {
    let mut site = Site::new()?;
    let directory = TempDir::new()?;
    let script = directory.path().join("unheard");
    install(
        &script,
        &format!(
            "#!/bin/sh\nexec {} \"$@\" 2>/dev/full\n",
            binary()?.display()
        ),
    )?;
    let mut daemon = site.launch(
        &[53],
        Launch {
            binary: Some(script),
            ..Launch::default()
        },
    )?;
    site.expect(53, 1)?;
    // a wrong file has more to tell
    daemon.write_config("wrong")?;
    daemon.reload_done(deadline())?;
    site.expect(53, 1)?;
    daemon.write_config(&config(&[54]))?;
    daemon.reload_done(deadline())?;
    site.expect(54, 1)?;
    site.stops(&mut daemon)
}
