//! Which metrics are published, and where, while the file and the host change.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::{TempDir, deadline, pause};

use crate::metrics::{by_script, in_directories_of, judged};
use crate::site::{SITE, Site, config, filter};

/// The daemon's period, and a second for the reload.
const PERIOD: Duration = Duration::from_secs(16);

/// Reads the file until it is as wanted.
fn text_until(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let deadline = deadline() + PERIOD;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if wanted(&text) {
            return Ok(text);
        }
        ensure!(
            Instant::now() < deadline,
            "{} is still {text}",
            path.display()
        );
        pause();
    }
}

/// The filters that have a series in a family.
fn filters_in<'t>(text: &'t str, family: &str) -> Vec<&'t str> {
    let start = format!("traffic_mirror_{family}{{filter=\"");
    let series = text.lines().filter_map(|line| line.strip_prefix(&start));
    series.filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn the_file_says_which_filters_have_metrics_even_after_a_restart_with_a_bad_one() -> Result<()> {
    let mut site = Site::new()?;
    let file = |metrics: &str| {
        let filters = [("web-1", 53), ("web-2", 54), ("dns", 55)];
        let filters: String = filters.map(|(name, port)| filter(name, port)).concat();
        format!("{metrics}{SITE}{filters}")
    };
    let mut daemon = site.daemon(&[53])?;
    let path = daemon.metrics_path();
    let mut expect = |metrics: &str, names: &[&str]| -> Result<()> {
        daemon.write_config(&file(metrics))?;
        daemon.reload_done(deadline())?;
        let text = text_until(&path, |text| {
            text.contains("traffic_mirror_filters{state=\"active\"} 3\n")
                && filters_in(text, "matched_packets_total") == names
        })?;
        for family in ["filter_active", "matched_bytes_total"] {
            ensure!(filters_in(&text, family) == names, "{family}: {text}");
        }
        judged(&path)
    };
    expect("", &["dns", "web-1", "web-2"])?;
    expect("[metrics]\nfilters = [\"web-*\"]\n", &["web-1", "web-2"])?;
    expect("[metrics]\nfilters = \"none\"\n", &[])?;
    let one = "[metrics]\nfilters = [\"web-2\"]\n";
    expect(one, &["web-2"])?;
    let lines = daemon.output();
    assert!(
        lines.iter().any(|line| line.ends_with("~ metrics filters")),
        "the log says so: {lines:#?}"
    );
    // `plan` tells of it, and of nothing else
    let other = daemon.config_path().with_file_name("other.toml");
    fs::write(&other, file(""))?;
    let plan = daemon.run(&["plan", &other.display().to_string()])?;
    assert_eq!(
        String::from_utf8_lossy(&plan.stdout),
        "~ metrics\n    filters: web-2 -> all\n0 to add, 1 to change, 0 to remove; 0 map writes\n"
    );

    // what counts goes on: it is counted all the same
    site.expect(54, 1)?;
    site.expect(55, 1)?;
    daemon.write_config("wrong")?;
    daemon.reload_done(deadline())?;
    daemon.signal(Signal::SIGUSR2)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);
    fs::remove_file(&path)?;
    daemon.restart()?;
    daemon.ready(deadline())?;
    let text = text_until(&path, |text| !text.is_empty())?;
    assert_eq!(filters_in(&text, "filter_active"), ["web-2"], "{text}");
    assert!(text.contains("traffic_mirror_matched_packets_total{filter=\"web-2\"} 1\n"));
    daemon.write_config(&file(""))?;
    daemon.reload_done(deadline())?;
    let all = text_until(&path, |text| filters_in(text, "filter_active").len() == 3)?;
    assert!(all.contains("traffic_mirror_matched_packets_total{filter=\"dns\"} 1\n"));
    Ok(())
}

#[test]
fn node_exporter_may_be_installed_and_removed_while_the_daemon_runs() -> Result<()> {
    let site = Site::new()?;
    let directory = TempDir::new()?;
    let at = |name: &str| directory.path().join(name);
    let (collector, elsewhere) = (
        at("lib/prometheus/node-exporter"),
        at("run/traffic-mirror/metrics.prom"),
    );
    fs::create_dir(at("lib"))?;
    fs::create_dir(at("run"))?;
    let mut daemon = site.launch(
        &[53],
        by_script(&directory, &in_directories_of(&directory))?,
    )?;
    let is_written = |text: &str| text.contains("traffic_mirror_build_info");
    text_until(&elsewhere, is_written)?;

    fs::create_dir_all(&collector)?;
    let there = collector.join("traffic-mirror.prom");
    text_until(&there, is_written)?;
    daemon.wait_line(
        |line| {
            line.ends_with(
                "INFO the daemon writes metrics to \
                 /var/lib/prometheus/node-exporter/traffic-mirror.prom from now on",
            )
        },
        deadline(),
    )?;
    assert!(!elsewhere.exists(), "no old one stays");
    assert!(!at("run/traffic-mirror").exists(), "nor its directory");

    // and a directory that cannot be written is no reason to have none
    fs::remove_dir_all(&collector)?;
    std::os::unix::fs::symlink("/proc/sys", &collector)?;
    daemon.write_config(&config(&[53, 54]))?;
    daemon.reload_done(deadline())?;
    let warning = daemon.wait_line(|line| line.contains("WARN cannot write"), deadline())?;
    assert!(
        warning.ends_with(
            "; metrics are in /run/traffic-mirror/metrics.prom meanwhile; mirroring continues"
        ),
        "{warning}"
    );
    text_until(&elsewhere, is_written)?;
    fs::remove_file(&collector)?;
    fs::create_dir(&collector)?;
    text_until(&there, is_written)?;
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);
    assert!(!there.exists() && !elsewhere.exists());
    Ok(())
}
