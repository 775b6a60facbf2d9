//! Flags, exit codes, output of the subcommands.

use anyhow::{Context as _, Result};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::netns::ensure_bpffs;
use traffic_mirror_tests::lab::{TempDir, deadline, process, schema};

use crate::site::{
    SITE, Site, attach, command, config, install, mechanisms, status_of, status_until,
};

const BAD: &str =
    "[[interface]]\nname = \"eth0\"\n\n[endpoint.ids]\naddress = \"192.0.2.10\"\nprot = 1\n";

/// Exit code, standard output, standard error.
fn run(command: &mut Command) -> Result<(i32, String, String)> {
    let Output {
        status,
        stdout,
        stderr,
    } = process::output(command, deadline())?;
    Ok((
        process::code(status),
        String::from_utf8(stdout)?,
        String::from_utf8(stderr)?,
    ))
}

#[test]
fn flags_stand_before_and_after_the_subcommand() -> Result<()> {
    ensure_bpffs()?;
    let directory = TempDir::new()?;
    let (good, bad) = (
        directory.path().join("good.toml"),
        directory.path().join("bad.toml"),
    );
    fs::write(&good, config(&[53]))?;
    fs::write(&bad, BAD)?;
    let (good, bad) = (
        good.to_str().context("path")?,
        bad.to_str().context("path")?,
    );
    let pins = "/sys/fs/bpf/traffic-mirror-test-none";
    for (file, code) in [(good, 0), (bad, 1)] {
        for args in [["--config", file, "check"], ["check", "--config", file]] {
            assert_eq!(run(&mut command(&args)?)?.0, code, "{args:?}");
        }
        // the argument of `check` goes before --config
        for args in [
            ["--config", bad, "check", file],
            ["check", file, "--config", bad],
            ["check", "--config", bad, file],
        ] {
            assert_eq!(run(&mut command(&args)?)?.0, code, "{args:?}");
        }
    }
    for args in [
        ["--config", bad, "--pin-path", pins, "run"],
        ["run", "--config", bad, "--pin-path", pins],
        ["--pin-path", pins, "run", "--config", bad],
    ] {
        assert_eq!(run(&mut command(&args)?)?.0, 78, "{args:?}");
    }
    for (subcommand, code) in [("status", 3), ("top", 3), ("detach", 0)] {
        for args in [
            ["--pin-path", pins, subcommand],
            [subcommand, "--pin-path", pins],
        ] {
            assert_eq!(run(&mut command(&args)?)?.0, code, "{args:?}");
        }
    }
    for args in [
        ["--config", good, "--pin-path", pins, "plan"],
        ["plan", "--pin-path", pins, "--config", good],
    ] {
        assert_eq!(run(&mut command(&args)?)?.0, 2, "{args:?}");
    }
    for args in [
        [
            "--config",
            good,
            "--pin-path",
            pins,
            "wait",
            "--timeout",
            "0",
        ],
        [
            "wait",
            "--timeout",
            "0",
            "--pin-path",
            pins,
            "--config",
            good,
        ],
    ] {
        assert_eq!(run(&mut command(&args)?)?.0, 1, "{args:?}");
    }
    assert!(!std::path::Path::new(pins).exists(), "something was made");
    Ok(())
}

#[test]
fn wrong_usage_is_64_and_help_is_not_wrong() -> Result<()> {
    for args in [
        &[][..],
        &["mirror"],
        &["run", "--verbose"],
        &["run", "--attach", "xdp"],
        &["check", "--yaml"],
        &["run", "--log-level", "loud"],
        &["wait", "--timeout", "-1"],
        &["status", "--brief", "--json"],
        &["report", "--json"],
    ] {
        let (code, stdout, stderr) = run(&mut command(args)?)?;
        assert_eq!((code, stdout.as_str()), (64, ""), "{args:?}: {stderr}");
        assert!(stderr.contains("--help"), "{args:?}: {stderr}");
    }
    for args in [
        &["--help"][..],
        &["help", "run"],
        &["check", "--help"],
        &["--version"],
    ] {
        let (code, stdout, stderr) = run(&mut command(args)?)?;
        assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
        assert!(stdout.contains("traffic-mirror"), "{args:?}: {stdout}");
    }
    Ok(())
}

#[test]
fn check_needs_the_file_and_nothing_else() -> Result<()> {
    let directory = TempDir::new()?;
    // by nobody, in a directory that nobody can see
    let file = |name: &str, text: &str| -> Result<String> {
        let path = directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    // Ansible and Puppet give a temporary name of any kind
    let (good, bad) = (
        file(".ansible_tmp1f3", &config(&[53, 443]))?,
        file("bad 1.conf", BAD)?,
    );
    let (code, stdout, stderr) = run(&mut command(&["check", "--any-host", &good])?)?;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(
        stdout,
        format!("{good}: ok, 1 interface, 2 filters, 1 endpoint\n")
    );

    let (code, stdout, stderr) = run(&mut command(&["check", &bad])?)?;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.contains(&format!("--> {bad}:6:1\n"))
            && stderr.ends_with(&format!("{bad}: 1 error\n")),
        "{stderr}"
    );
    assert!(!stderr.contains('\x1b'), "colour in a file: {stderr}");

    let missing = directory.path().join("missing.toml").display().to_string();
    for (path, reason) in [
        (&missing, "No such file"),
        (&directory.path().display().to_string(), "Is a directory"),
    ] {
        let (code, stdout, stderr) = run(&mut command(&["check", path])?)?;
        assert_eq!(
            (code, stdout.as_str(), stderr.lines().count()),
            (1, "", 1),
            "{stderr}"
        );
        assert!(
            stderr.starts_with(&format!("error: cannot read {path}: {reason}")),
            "{stderr}"
        );
    }
    for (text, wanted) in [(&*config(&[53]), 0), (BAD, 1)] {
        let mut child = command(&["check", "-"])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("no standard input")?
            .write_all(text.as_bytes())?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        assert_eq!(process::code(output.status), wanted, "{said}");
        assert!(said.contains("<stdin>:"), "{said}");
    }
    Ok(())
}

#[test]
fn check_needs_no_permission() -> Result<()> {
    let directory = TempDir::new()?;
    let (binary, file) = (
        directory.path().join("traffic-mirror"),
        directory.path().join("mirror.toml"),
    );
    // a copy where anybody may look
    let installed = traffic_mirror_tests::lab::daemon::binary()?;
    process::succeed(
        Command::new("install")
            .arg("-m755")
            .arg(installed)
            .arg(&binary),
        deadline(),
    )?;
    fs::write(&file, config(&[53]))?;
    let mut nobody = Command::new("setpriv");
    nobody.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--no-new-privs",
    ]);
    let (code, _, stderr) = run(nobody.arg(&binary).arg("check").arg(&file))?;
    assert_eq!(code, 0, "{stderr}");
    Ok(())
}

#[test]
fn run_refuses_a_wrong_file_and_leaves_no_trace() -> Result<()> {
    let site = Site::new()?;
    let port_99999 = config(&[53]) + "destination_port = [99999]\n";
    for text in [BAD, "\u{0}", &port_99999] {
        let mut daemon = Daemon::spawn(&site.edge, text, Launch::default())?;
        assert_eq!(daemon.wait_exit(deadline())?, 78, "{text}");
        assert!(
            daemon.output().iter().any(|line| line.contains("--> ")),
            "{:?}",
            daemon.output()
        );
        assert!(daemon.notifications().is_empty());
        site.bare(daemon.pin_path())?;
    }
    let missing = |config| Launch {
        config: Some(config),
        ..Launch::default()
    };
    let directory = TempDir::new()?;
    let mut daemon = Daemon::spawn(&site.edge, SITE, missing(directory.path().join("a.toml")))?;
    daemon.ready(deadline())?;
    daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);
    for gone in [false, true] {
        if gone {
            fs::remove_dir_all(directory.path())?;
        } else {
            fs::remove_file(directory.path().join("a.toml"))?;
        }
        let said = daemon.output().len();
        daemon.restart()?;
        assert_eq!(daemon.wait_exit(deadline())?, 78);
        let said = &daemon.output()[said..];
        assert!(
            said.len() == 1 && said[0].contains("cannot read ") && said[0].contains("No such file"),
            "{said:?}"
        );
        site.bare(daemon.pin_path())?;
    }
    fs::create_dir(directory.path())?;
    Ok(())
}

#[test]
fn status_tells_by_its_exit_code() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    site.expect(53, 1)?;
    let (code, status) = status_of(&daemon)?;
    assert_eq!(
        (code, &status["schema"], &status["degraded"]),
        (0, &1.into(), &false.into()),
        "{status:#}"
    );
    let interfaces = status["interfaces"].as_array().context("no interfaces")?;
    let hooks: Vec<_> = interfaces
        .iter()
        .map(|hook| (hook["name"].as_str(), hook["direction"].as_str()))
        .collect();
    assert_eq!(
        hooks,
        [
            (Some("eth0"), Some("ingress")),
            (Some("eth0"), Some("egress"))
        ]
    );
    assert!(
        interfaces
            .iter()
            .all(|hook| hook["index"] == site.edge.index("eth0").unwrap_or(0)),
        "{status:#}"
    );
    let filter = &status["filters"][0];
    assert_eq!(
        (&filter["name"], &filter["active"], &filter["packets"]),
        (&"port-53".into(), &true.into(), &1.into())
    );
    let endpoint = &status["endpoints"][0];
    assert_eq!(
        (&endpoint["name"], &endpoint["state"]),
        (&"ids".into(), &"ready".into())
    );
    assert_eq!(
        (&endpoint["address"], &endpoint["port"]),
        (&"192.0.2.10".into(), &6080.into())
    );
    assert_eq!(
        (&endpoint["interface"], &endpoint["packets"]),
        (&"eth1".into(), &1.into())
    );
    let text = String::from_utf8(daemon.run(&["status"])?.stdout)?;
    assert!(
        text.starts_with("ok         daemon pid ") && text.contains("port-53"),
        "{text}"
    );

    // no way to the collector
    site.edge.run("ip address flush dev eth1")?;
    daemon.wait_line(
        |line| line.contains("endpoint ids (192.0.2.10) gets no copies"),
        deadline(),
    )?;
    let (code, status) = status_of(&daemon)?;
    assert_eq!((code, &status["degraded"]), (1, &true.into()), "{status:#}");
    assert_eq!(status["endpoints"][0]["state"], "no-route", "{status:#}");
    let text = String::from_utf8(daemon.run(&["status"])?.stdout)?;
    // once the daemon has noted since when, the status tells it
    let mut lines = text.lines();
    let state = lines.next().unwrap_or_default();
    assert!(
        state.starts_with("degraded   ")
            && state.contains("endpoint ids gets no copies: no-route; daemon pid ")
            && lines.next().is_some_and(|line| line.starts_with("daemon ")),
        "{text}"
    );
    assert_eq!(
        status["reasons"],
        serde_json::json!(["endpoint ids gets no copies: no-route"])
    );
    site.edge.address("eth1", "192.0.2.1/24")?;
    status_until(&daemon, |code, _| code == 0)?;
    site.expect(53, 1)?;

    daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
    daemon.wait_exit(deadline())?;
    let (code, status) = status_of(&daemon)?;
    let why = format!(
        "nothing is mirrored: no maps are pinned below {}",
        daemon.pin_path().display()
    );
    assert_eq!(
        (code, &status["state"], &status["reasons"]),
        (3, &"inactive".into(), &serde_json::json!([why]))
    );
    assert_eq!(status["daemon"]["state"], "not-running");
    let output = daemon.run(&["status", "--brief"])?;
    assert_eq!(process::code(output.status), 3);
    assert_eq!(
        String::from_utf8(output.stdout)?,
        format!("inactive   {why}; daemon not running\n")
    );
    Ok(())
}

#[test]
fn detach_may_be_repeated_but_not_under_a_running_daemon() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    let detach = |daemon: &Daemon| run(&mut daemon.command("detach")?);
    let (code, _, stderr) = detach(&daemon)?;
    let pid = daemon.pid().context("it runs")?;
    let refused = format!(
        "error: another traffic-mirror, process {pid}, uses {}; ",
        daemon.pin_path().display()
    );
    assert!(code == 1 && stderr.starts_with(&refused), "{code} {stderr}");
    site.expect(53, 1)?;
    daemon.signal(nix::sys::signal::Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    for _ in 0..2 {
        assert_eq!(detach(&daemon)?, (0, String::new(), String::new()));
        site.bare(daemon.pin_path())?;
    }
    site.expect(53, 0)
}

#[test]
fn what_belongs_to_another_network_namespace_is_left_alone() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        daemon.signal(nix::sys::signal::Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        let binary = traffic_mirror_tests::lab::daemon::binary()?;
        let elsewhere = |verb: &[&str]| {
            let mut command = site.client.command(&binary)?;
            run(command.args(verb).arg("--pin-path").arg(daemon.pin_path()))
        };
        let file = daemon.config_path().to_string_lossy().into_owned();
        for verb in [
            &["detach"][..],
            &["run", "--config", &file],
            &["status"],
            &["plan", "--config", &file],
        ] {
            let (code, _, stderr) = elsewhere(verb)?;
            assert!(
                code == 1 && stderr.contains("belong to network namespace"),
                "{verb:?}: {code} {stderr}"
            );
        }
        // a program that reads JSON gets some
        let (_, stdout, _) = elsewhere(&["status", "--json"])?;
        schema::check("status", stdout.as_bytes())?;
        let status: serde_json::Value = serde_json::from_str(&stdout)?;
        assert_eq!(
            (&status["state"], &status["degraded"]),
            (&"unknown".into(), &true.into())
        );
        site.expect(53, 1)?;
        // one that nobody is in any more has nothing to lose
        let mut entries =
            fs::read_dir(daemon.pin_path())?.filter_map(|entry| Some(entry.ok()?.path()));
        let marker = entries
            .find(|path| path.to_string_lossy().contains("/namespace-"))
            .context("a marker")?;
        fs::rename(marker, daemon.pin_path().join("namespace-1"))?;
        daemon.restart()?;
        daemon.ready(deadline())?;
        site.expect(53, 1)?;
        site.stops(&mut daemon)?;
    }
    Ok(())
}

#[test]
fn what_the_daemon_lacks_is_one_clear_line() -> Result<()> {
    let site = Site::new()?;
    let directory = TempDir::new()?;
    let file = directory.path().join("mirror.toml");
    fs::write(&file, config(&[53]))?;
    let binary = traffic_mirror_tests::lab::daemon::binary()?;
    let pins = directory.path().with_file_name("none");
    let pins = std::path::Path::new("/sys/fs/bpf").join(pins.file_name().context("name")?);
    let drop_all = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let hidden = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /sys/fs/bpf && exec \"$@\"",
        "sh",
    ];
    let no_caps = "this process lacks CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF; run it as root";
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
    ];
    let realtime = "mkdir -p /boot && mount -t tmpfs none /boot && mount -t tmpfs none /sys/kernel \
                    && echo '# CONFIG_PREEMPT_RT_NEEDS_BH_LOCK is not set' >/boot/config-$(uname -r) \
                    && echo 1 >/sys/kernel/realtime && exec \"$@\"";
    let realtime = ["unshare", "--mount", "sh", "-c", realtime, "sh"];
    let cases = [
        (
            &realtime[..],
            "this kernel has PREEMPT_RT without CONFIG_PREEMPT_RT_NEEDS_BH_LOCK",
        ),
        (
            &hidden[..],
            "/sys/fs/bpf is not a bpf file system; mount it: mount -t bpf bpf /sys/fs/bpf",
        ),
        (&drop_all[..], no_caps),
        (&nobody[..], no_caps),
    ];
    for (wrapper, reason) in cases {
        let mut command = site.edge.command(wrapper[0])?;
        command
            .args(&wrapper[1..])
            .arg(&binary)
            .args(["run", "--config"])
            .arg(&file)
            .arg("--pin-path")
            .arg(&pins);
        let (code, stdout, stderr) = run(&mut command)?;
        assert_eq!(
            (code, stdout.as_str(), stderr.lines().count()),
            (1, "", 1),
            "{wrapper:?}: {stderr}"
        );
        assert!(
            stderr.starts_with("error: ") && stderr.contains(reason),
            "{wrapper:?}: {stderr}"
        );
        site.bare(&pins)?;
    }
    Ok(())
}

#[test]
fn a_kernel_is_asked_what_it_can_do_whatever_its_version_says() -> Result<()> {
    let mut site = Site::new()?;
    let directory = TempDir::new()?;
    let (script, binary) = (
        directory.path().join("older"),
        traffic_mirror_tests::lab::daemon::binary()?,
    );
    // the same kernel, which says that it is 2.6
    install(
        &script,
        &format!(
            "#!/bin/sh\nexec setarch --uname-2.6 {} \"$@\"\n",
            binary.display()
        ),
    )?;
    let daemon = site.launch(
        &[53],
        Launch {
            binary: Some(script),
            ..Launch::default()
        },
    )?;
    let (_, status) = status_of(&daemon)?;
    assert_eq!(
        status["interfaces"][0]["attached"],
        mechanisms()?[0],
        "{status:#}"
    );
    site.expect(53, 1)
}
