//! The file with metrics: its numbers, how it is replaced, when it is there, where it goes.

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::{Daemon, Launch, binary};
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use crate::site::{Site, config, install, reload_unchanged, status_of};

/// The daemon's.
const PERIOD: Duration = Duration::from_secs(15);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Values by series, without the prefix: `sent_packets_total{endpoint="ids"}`.
type Values = BTreeMap<String, f64>;

const FAMILIES: [&str; 29] = [
    "build_info",
    "config_file_is_live",
    "config_info",
    "config_last_reload_duration_seconds",
    "config_last_reload_success_timestamp_seconds",
    "config_last_reload_successful",
    "config_reload_failures_total",
    "config_reloads_total",
    "degraded",
    "dropped_packets_total",
    "endpoint_ready",
    "endpoint_state",
    "filter_active",
    "filters",
    "fragmented_packets_total",
    "icmp_errors_total",
    "interface_attached",
    "interface_state",
    "interfaces_left_out",
    "interfaces_wanted",
    "map_writes_total",
    "matched_bytes_total",
    "matched_packets_total",
    "process_start_time_seconds",
    "repairs_total",
    "sent_bytes_total",
    "sent_packets_total",
    "skipped_packets_total",
    "truncated_packets_total",
];

/// Those that are there while an endpoint is reached by an output.
const REACHED: [&str; 5] = [
    "endpoint_info",
    "endpoint_mtu_bytes",
    "endpoint_overhead_bytes",
    "output_carrier",
    "output_dropped_packets_total",
];

/// A whole text: it ends with a newline, has all families, each with its help and type, and no
/// series twice.
fn parse(text: &str) -> Result<Values> {
    ensure!(
        text.ends_with('\n'),
        "it does not end with a newline: {text}"
    );
    let (mut values, mut described) = (Values::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (kind, rest) = comment.split_once(' ').context("a comment of one word")?;
            let (family, _) = rest.split_once(' ').with_context(|| line.to_owned())?;
            ensure!(described.insert((kind, family)), "{line}: twice");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
        let name = series
            .strip_prefix("traffic_mirror_")
            .with_context(|| line.to_owned())?;
        let last = values.insert(
            name.to_owned(),
            value.parse().with_context(|| line.to_owned())?,
        );
        ensure!(last.is_none(), "{line}: twice");
    }
    let families: BTreeSet<_> = values
        .keys()
        .filter_map(|name| name.split('{').next())
        .collect();
    ensure!(
        families
            .iter()
            .copied()
            .filter(|family| !REACHED.contains(family))
            .eq(FAMILIES),
        "{families:?}"
    );
    for family in families
        .iter()
        .map(|family| format!("traffic_mirror_{family}"))
    {
        ensure!(
            ["HELP", "TYPE"]
                .iter()
                .all(|kind| described.contains(&(*kind, &*family))),
            "{family} is not described"
        );
    }
    Ok(values)
}

/// Reads the file until its values are as wanted.
fn metrics_until(
    path: &Path,
    deadline: Instant,
    wanted: impl Fn(&Values) -> bool,
) -> Result<Values> {
    loop {
        let values = match fs::read_to_string(path) {
            Ok(text) => parse(&text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Values::new(),
            Err(error) => bail!(error),
        };
        if wanted(&values) {
            return Ok(values);
        }
        ensure!(
            Instant::now() < deadline,
            "the metrics are still {values:#?}"
        );
        std::thread::sleep(PAUSE);
    }
}

/// How often the file was read, how often in vain, and whether the last one is live.
fn reloads(values: &Values) -> [Option<&f64>; 3] {
    [
        "config_reloads_total",
        "config_reload_failures_total",
        "config_last_reload_successful",
    ]
    .map(|name| values.get(name))
}

/// That the daemon has said of as many elements that it has written them; what it says takes its
/// time to come here.
fn as_reported(daemon: &Daemon, values: &Values) -> Result<()> {
    let (told, deadline) = (values["map_writes_total"], deadline());
    loop {
        let output = daemon.output();
        let reports = output
            .iter()
            .filter_map(|line| line.split_once(" map write"))
            .filter_map(|(before, _)| before.rsplit(' ').next());
        let writes = reports.map(|number| Ok(number.parse::<f64>()?));
        let writes = writes.sum::<Result<f64>>()?;
        if writes == told {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{told} writes, but reported are {writes}: {output:#?}"
        );
        std::thread::sleep(PAUSE);
    }
}

/// That the file says of each object what `status` says.
fn as_in_status(daemon: &Daemon, values: &Values) -> Result<()> {
    let (_, status) = status_of(daemon)?;
    let mut expected = Values::new();
    let list = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    let (counters, names) = (
        [
            ("filters", "filter", "matched"),
            ("endpoints", "endpoint", "sent"),
        ],
        ["packets", "bytes"],
    );
    for (objects, label, verb) in counters {
        for object in list(objects) {
            let name = object["name"].as_str().context("a name")?;
            for unit in names {
                let series = format!("{verb}_{unit}_total{{{label}=\"{name}\"}}");
                expected.insert(series, object[unit].as_f64().context("a number")?);
            }
        }
    }
    for interface in list("interfaces") {
        let (name, direction) = (&interface["name"], &interface["direction"]);
        let attached = f64::from(u8::from(interface["attached"].is_string()));
        expected.insert(
            format!("interface_attached{{interface={name},direction={direction}}}"),
            attached,
        );
    }
    for missing in list("not_mirrored")
        .iter()
        .filter(|one| one["reason"] != "pending")
    {
        for direction in missing["directions"].as_array().into_iter().flatten() {
            let name = &missing["name"];
            expected.insert(
                format!("interface_attached{{interface={name},direction={direction}}}"),
                0.0,
            );
            let state = &missing["reason"];
            expected.insert(
                format!("interface_state{{interface={name},direction={direction},state={state}}}"),
                1.0,
            );
        }
    }
    for filter in list("filters") {
        let active = f64::from(u8::from(filter["active"] == true));
        expected.insert(
            format!("filter_active{{filter={}}}", filter["name"]),
            active,
        );
    }
    expected.insert(
        "repairs_total".to_owned(),
        status["repairs"].as_f64().context("no repairs")?,
    );
    let at = status["last_reload"].as_f64().context("no time")?;
    expected.insert(
        "config_last_reload_success_timestamp_seconds".to_owned(),
        at,
    );
    for (series, value) in expected {
        ensure!(
            values.get(&series) == Some(&value),
            "{series} should be {value}: {values:#?}"
        );
    }
    Ok(())
}

/// That Prometheus' own tool finds nothing to blame.
pub(crate) fn judged(path: &Path) -> Result<()> {
    let mut promtool = Command::new("promtool");
    promtool
        .args(["check", "metrics"])
        .stdin(fs::File::open(path)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = promtool
        .output()
        .context("promtool is missing; run `make setup`")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(
        output.status.success() && said.is_empty(),
        "promtool: {}: {said}",
        output.status
    );
    Ok(())
}

#[test]
fn the_numbers_are_those_of_the_kernel_and_what_is_gone_has_none() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53, 54])?;
    let path = daemon.metrics_path();
    let start = metrics_until(&path, deadline(), |values| !values.is_empty())?;
    assert_eq!(reloads(&start), [Some(&1.0), Some(&0.0), Some(&1.0)]);
    let revision = crate::version::revision()?;
    let build = format!(
        "build_info{{version=\"{}\",revision=\"{revision}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(start.get(&build), Some(&1.0), "{build}: {start:?}");
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o7777, 0o644);

    // no reload, only the timer
    for port in [53, 53, 53, 54] {
        site.expect(port, 1)?;
    }
    let matched = |port: u16| format!("matched_packets_total{{filter=\"port-{port}\"}}");
    let is_counted = |values: &Values| {
        values.get(&matched(53)) == Some(&3.0) && values.get(&matched(54)) == Some(&1.0)
    };
    let counted = metrics_until(&path, deadline() + PERIOD, is_counted)?;
    as_in_status(&daemon, &counted)?;
    assert_eq!(counted.get("endpoint_ready{endpoint=\"ids\"}"), Some(&1.0));
    assert_eq!(
        counted.get("dropped_packets_total{endpoint=\"ids\",reason=\"no-route\"}"),
        Some(&0.0)
    );
    assert_eq!(counted.get("degraded"), Some(&0.0));
    let info =
        "endpoint_info{endpoint=\"ids\",address=\"192.0.2.10\",port=\"6080\",interface=\"eth1\"}";
    assert_eq!(counted.get(info), Some(&1.0));
    let since = status_of(&daemon)?.1["daemon"]["since"].as_f64();
    assert_eq!(counted.get("process_start_time_seconds").copied(), since);
    as_reported(&daemon, &counted)?;
    judged(&path)?;

    daemon.write_config(&config(&[53]))?;
    daemon.reload_done(deadline())?;
    let reloaded = metrics_until(&path, deadline(), |values| reloads(values)[0] == Some(&2.0))?;
    assert!(
        !reloaded.keys().any(|series| series.contains("port-54")),
        "{reloaded:#?}"
    );
    assert_eq!(reloaded.get(&matched(53)), Some(&3.0));
    as_in_status(&daemon, &reloaded)?;
    as_reported(&daemon, &reloaded)?;
    assert!(
        reloaded["map_writes_total"] > counted["map_writes_total"],
        "{reloaded:#?}"
    );

    daemon.write_config("wrong")?;
    daemon.reload_done(deadline())?;
    let wrong = metrics_until(&path, deadline(), |values| reloads(values)[0] == Some(&3.0))?;
    assert_eq!(reloads(&wrong), [Some(&3.0), Some(&1.0), Some(&0.0)]);
    // nobody has taken it
    as_in_status(&daemon, &wrong)?;
    assert_eq!(
        wrong.get("map_writes_total"),
        reloaded.get("map_writes_total")
    );
    daemon.write_config(&config(&[53, 55]))?;
    daemon.reload_done(deadline())?;
    let right = metrics_until(&path, deadline(), |values| reloads(values)[0] == Some(&4.0))?;
    assert_eq!(reloads(&right), [Some(&4.0), Some(&1.0), Some(&1.0)]);
    assert_eq!(
        (right.get(&matched(53)), right.get(&matched(55))),
        (Some(&3.0), Some(&0.0))
    );

    // copies that cannot be sent
    site.edge.run("ip link set eth1 down")?;
    daemon.wait_line(
        |line| line.contains("endpoint ids (192.0.2.10) gets no copies"),
        deadline(),
    )?;
    site.expect(53, 0)
        .expect_err("the sentinel has no way either");
    daemon.signal(Signal::SIGHUP)?;
    daemon.reload_done(deadline())?;
    let down = metrics_until(&path, deadline(), |values| reloads(values)[0] == Some(&5.0))?;
    assert_eq!(
        (
            down.get("endpoint_ready{endpoint=\"ids\"}"),
            down.get("degraded")
        ),
        (Some(&0.0), Some(&1.0))
    );
    let drops = down
        .iter()
        .filter(|(series, _)| series.starts_with("dropped_packets_total"));
    assert!(
        drops.map(|(_, count)| *count).sum::<f64>() >= 1.0,
        "{down:#?}"
    );

    let beside: Vec<_> = fs::read_dir(path.parent().context("no directory")?)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains("metrics"))
        .collect();
    assert_eq!(beside, ["metrics.prom"]);
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);
    assert!(!path.exists(), "who has stopped tells nothing");
    Ok(())
}

#[test]
fn who_reads_never_sees_a_part() -> Result<()> {
    const FILES: u64 = 8;
    let site = Site::new()?;
    let daemon = site.daemon(&(1000..1300).collect::<Vec<u16>>())?;
    let (path, stop, last) = (
        daemon.metrics_path(),
        AtomicBool::new(false),
        AtomicU64::new(0),
    );
    metrics_until(&path, deadline(), |values| !values.is_empty())?;
    let read = || {
        let mut reads = 0;
        while !stop.load(Ordering::Relaxed) {
            let text = fs::read_to_string(&path).context("it must be there at any time")?;
            let values = parse(&text)?;
            ensure!(values.len() > 600, "{} series", values.len());
            last.store(values["config_reloads_total"] as u64, Ordering::Relaxed);
            reads += 1;
        }
        anyhow::Ok(reads)
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(read);
        // each reload has a file of its own, which the reader is to see: those within a second
        // would share one
        let written = (2..=FILES).try_for_each(|n| {
            daemon.signal(Signal::SIGHUP)?;
            let until = deadline();
            while last.load(Ordering::Relaxed) != n {
                ensure!(
                    !reader.is_finished() && Instant::now() < until,
                    "the reader has not seen file {n}"
                );
                std::thread::yield_now();
            }
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let reads = reader.join().expect("the reader does not panic")?;
        println!("{reads} reads of {FILES} files");
        written
    })
}

#[test]
fn after_a_crash_it_is_left_and_written_again() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    let path = daemon.metrics_path();
    site.expect(53, 1)?;
    daemon.signal(Signal::SIGHUP)?;
    let counted =
        |values: &Values| values.get("matched_packets_total{filter=\"port-53\"}") == Some(&1.0);
    metrics_until(&path, deadline() + PERIOD, |values| {
        counted(values) && reloads(values)[0] == Some(&2.0)
    })?;
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    let left = parse(&fs::read_to_string(&path)?)?;
    assert!(counted(&left));

    // what a crash may leave beside it is in nobody's way, and no way to another file
    let (beside, other) = (
        path.with_file_name(".metrics.prom.new"),
        path.with_file_name("other"),
    );
    fs::write(&other, "untouched")?;
    symlink(&other, &beside)?;
    daemon.restart()?;
    daemon.ready(deadline())?;
    let again = metrics_until(&path, deadline(), |values| reloads(values)[0] == Some(&1.0))?;
    assert!(counted(&again), "the kernel's numbers go on: {again:#?}");
    assert_eq!(
        (fs::read_to_string(&other)?, beside.exists()),
        ("untouched".to_owned(), false)
    );
    daemon.signal(Signal::SIGINT)?;
    daemon.wait_exit(deadline())?;
    assert!(!path.exists());
    Ok(())
}

/// A launch by a script, which has the daemon's arguments in `$@`, and a directory for what it
/// needs.
pub(crate) fn by_script(directory: &TempDir, script: &str) -> Result<Launch> {
    let path = directory.path().join("script");
    install(
        &path,
        &script.replace("BINARY", &binary()?.display().to_string()),
    )?;
    Ok(Launch {
        binary: Some(path),
        ..Launch::default()
    })
}

/// A script that starts a daemon without `--metrics` and with directories of its own in place of
/// this machine's: `lib` for /var/lib, `run` for /run.
pub(crate) fn in_directories_of(directory: &TempDir) -> String {
    let mount = "mount --bind $0/lib /var/lib && mount --bind $0/run /run && exec \"$@\"";
    // `--metrics` and its file are the last arguments
    format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exec BINARY \"$@\"\n\
         exec unshare --mount sh -c '{mount}' {} BINARY \"$1\" \"$2\" \"$3\" \"$4\" \"$5\"\n",
        directory.path().display()
    )
}

#[test]
fn where_it_cannot_be_written_mirroring_goes_on_and_one_line_tells() -> Result<()> {
    let mut site = Site::new()?;
    let directory = TempDir::new()?;
    // with the capabilities of the unit, root may not write where nobody may
    let script = "#!/bin/sh\n[ \"$1\" = run ] || exec BINARY \"$@\"\n\
                  exec setpriv --bounding-set=-all,+net_admin,+perfmon,+bpf --inh-caps=-all BINARY \"$@\"\n";
    let (missing, closed) = (
        directory.path().join("missing"),
        directory.path().join("closed"),
    );
    fs::create_dir(&closed)?;
    fs::set_permissions(&closed, Permissions::from_mode(0o555))?;
    for (there, why) in [
        (&missing, "No such file or directory"),
        (&closed, "Permission denied"),
    ] {
        let path = there.join("metrics.prom");
        let launch = Launch {
            metrics: Some(path.clone()),
            ..by_script(&directory, script)?
        };
        let mut daemon = site.launch(&[53], launch)?;
        // a write is tried before each reload but the first
        for _ in 0..3 {
            reload_unchanged(&mut daemon)?;
        }
        let output = daemon.output();
        let told: Vec<_> = output.iter().filter(|line| line.contains("WARN")).collect();
        let [told] = told[..] else {
            bail!("{output:#?}")
        };
        let expected = format!("WARN cannot write metrics to {}: {why}", path.display());
        assert!(
            told.contains(&expected) && told.ends_with("; mirroring continues"),
            "{told}"
        );
        site.expect(53, 1)?;

        // as soon as it can be written it is
        fs::create_dir_all(there)?;
        fs::set_permissions(there, Permissions::from_mode(0o755))?;
        daemon.signal(Signal::SIGHUP)?;
        let again = format!("INFO the daemon writes metrics to {} again", path.display());
        daemon.wait_line(|line| line.ends_with(&again), deadline())?;
        let values = metrics_until(&path, deadline(), |values| !values.is_empty())?;
        assert_eq!(
            values.get("matched_packets_total{filter=\"port-53\"}"),
            Some(&1.0)
        );
        daemon.signal(Signal::SIGTERM)?;
        assert_eq!(daemon.wait_exit(deadline())?, 0);
        assert!(!path.exists());
    }
    Ok(())
}

#[test]
fn by_itself_it_goes_where_node_exporter_looks_or_below_run() -> Result<()> {
    let site = Site::new()?;
    let directory = TempDir::new()?;
    let at = |name: &str| directory.path().join(name);
    let (collector, elsewhere) = (at("lib/prometheus/node-exporter"), at("run/traffic-mirror"));
    let script = in_directories_of(&directory);
    fs::create_dir_all(&collector)?;
    fs::create_dir(at("run"))?;
    for (expected, other) in [
        (collector.join("traffic-mirror.prom"), &elsewhere),
        (elsewhere.join("metrics.prom"), &collector),
    ] {
        let mut daemon = site.launch(&[53], by_script(&directory, &script)?)?;
        let values = metrics_until(&expected, deadline(), |values| !values.is_empty())?;
        assert_eq!(reloads(&values), [Some(&1.0), Some(&0.0), Some(&1.0)]);
        assert!(!other.exists() && !daemon.metrics_path().exists());
        daemon.signal(Signal::SIGTERM)?;
        assert_eq!(daemon.wait_exit(deadline())?, 0);
        assert!(!expected.exists() && !elsewhere.exists());
        // nobody has node_exporter
        let _ = fs::remove_dir(&collector);
    }
    // neither can be made
    let script = script.replace("mount --bind $0/run /run", "mount -t tmpfs -o ro none /run");
    let daemon = site.launch(&[53], by_script(&directory, &script)?)?;
    daemon.wait_line(
        |line| line.contains("WARN cannot write metrics to /run/traffic-mirror/metrics.prom: "),
        deadline(),
    )?;
    let output = process::succeed(&mut daemon.command("status")?, deadline())?;
    assert!(output.starts_with("ok  "), "{output}");
    Ok(())
}
