//! What is measured on.

use anyhow::{Context as _, Result};
use std::fs::read_to_string;
use std::process::Command;

use crate::report::Machine;

/// This one.
pub(crate) fn machine() -> Result<Machine> {
    let cpuinfo = read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| {
            line.split(':')
                .next()
                .is_some_and(|name| name.trim() == key)
        });
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let load = read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    Ok(Machine {
        kernel: read_to_string("/proc/sys/kernel/osrelease")
            .context("read the kernel's release")?
            .trim()
            .to_owned(),
        cpu: value("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cpus: std::thread::available_parallelism()?.get(),
        hypervisor: value("flags")
            .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        commit: commit(),
        load: load
            .split(' ')
            .next()
            .context("no load")?
            .parse()
            .context("load of the machine")?,
    })
}

/// Nothing where this is no repository.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    git(&[
        "describe",
        "--always",
        "--abbrev=12",
        "--exclude=*",
        "--dirty=+",
    ])
    .unwrap_or_default()
}
