//! The host: kernel, distribution, settings, unit and log.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::Part;

/// Seconds that another program may take.
const PATIENCE: &str = "10";
/// Lines of the log.
const LOG_LINES: &str = "300";

/// What a program prints, to standard error, too.
pub(super) fn output(program: &str, arguments: &[&str]) -> Part {
    let output = Command::new("timeout")
        .args(["--kill-after=1", PATIENCE, program])
        .args(arguments)
        .env("LC_ALL", "C")
        .env("SYSTEMD_COLORS", "0")
        .output()
        .context("cannot start timeout")?;
    if output.status.code() == Some(127) {
        bail!("{program} is not installed");
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok(if said.trim().is_empty() {
        format!("{program} printed nothing ({})", output.status)
    } else {
        said
    })
}

/// Kernel, distribution, processors, memory, rights of this process.
pub(super) fn host() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let virtualisation = output("systemd-detect-virt", &[]);
    [
        read("/proc/version"),
        keyed("/etc/os-release", "PRETTY_NAME="),
        format!("{} processors, {}", processors, std::env::consts::ARCH),
        keyed("/proc/meminfo", "MemTotal:"),
        keyed("/proc/meminfo", "MemAvailable:"),
        format!(
            "virtualisation: {}",
            virtualisation.unwrap_or_default().trim()
        ),
        format!("uptime and idle seconds: {}", read("/proc/uptime")),
        format!("lockdown: {}", read("/sys/kernel/security/lockdown")),
        format!("BTF: {}", Path::new("/sys/kernel/btf/vmlinux").exists()),
        keyed("/proc/self/status", "CapEff:"),
    ]
    .join("\n")
}

/// Settings that change what the programs meet or may do.
pub(super) fn settings() -> String {
    const NAMES: [&str; 19] = [
        "kernel/bpf_stats_enabled",
        "kernel/unprivileged_bpf_disabled",
        "net/core/bpf_jit_enable",
        "net/core/bpf_jit_harden",
        "net/core/netdev_budget",
        "net/core/netdev_max_backlog",
        "net/core/default_qdisc",
        "net/ipv4/conf/all/forwarding",
        "net/ipv4/conf/all/rp_filter",
        "net/ipv4/conf/all/accept_local",
        "net/ipv4/icmp_ratelimit",
        "net/ipv4/icmp_msgs_per_sec",
        "net/ipv4/ip_no_pmtu_disc",
        "net/ipv4/neigh/default/gc_thresh3",
        "net/ipv6/conf/all/disable_ipv6",
        "net/ipv6/conf/all/forwarding",
        "net/ipv6/neigh/default/gc_thresh3",
        "fs/inotify/max_user_instances",
        "fs/inotify/max_user_watches",
    ];
    let line = |name: &str| {
        let value = read(&format!("/proc/sys/{name}"));
        format!("{} = {value}\n", name.replace('/', "."))
    };
    NAMES.iter().map(|name| line(name)).collect()
}

/// Where a bpf file system is mounted.
pub(super) fn mounts() -> Part {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let bpf: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains(" - bpf "))
        .collect();
    Ok(if bpf.is_empty() {
        "none is mounted".to_owned()
    } else {
        bpf.join("\n")
    })
}

/// What systemd says of the unit.
pub(super) fn unit() -> Part {
    output(
        "systemctl",
        &[
            "status",
            "--no-pager",
            "--full",
            "--lines=0",
            "traffic-mirror",
        ],
    )
}

/// The end of the unit's log, and what the kernel has said of BPF.
pub(super) fn log() -> Part {
    output(
        "journalctl",
        &[
            "--unit=traffic-mirror",
            "--no-pager",
            "--no-hostname",
            "--output=short-iso",
            "--lines",
            LOG_LINES,
        ],
    )
}

/// The content of a small file.
fn read(path: &str) -> String {
    let text = fs::read_to_string(path).map(|text| text.trim().to_owned());
    text.unwrap_or_else(|error| format!("({error})"))
}

/// The line of a file that begins so.
fn keyed(path: &str, key: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(key));
    line.map_or_else(|| format!("{key} ({path} has none)"), str::to_owned)
}
