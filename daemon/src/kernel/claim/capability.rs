//! The capabilities of this process, checked before anything is changed.

use std::fs;

/// Numbers of include/uapi/linux/capability.h.
const SYS_ADMIN: u32 = 21;
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// Capabilities that this process lacks to change what is attached.
pub(in crate::kernel) fn missing() -> Vec<&'static str> {
    // without a readable status the kernel decides
    effective().map(lacking).unwrap_or_default()
}

fn lacking(effective: u64) -> Vec<&'static str> {
    let has = |number: u32| effective >> number & 1 != 0;
    // CAP_SYS_ADMIN stands for what was once a part of it (`bpf_capable`, `perfmon_capable`)
    let stands_for = |number: u32| number != 12 && has(SYS_ADMIN);
    NEEDED
        .into_iter()
        .filter(|&(number, _)| !has(number) && !stands_for(number))
        .map(|(_, name)| name)
        .collect()
}

/// `CapEff` of proc_pid_status(5).
fn effective() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(lacking(0), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(lacking(1 << SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(lacking(1 << 12 | 1 << 38), ["CAP_BPF"]);
        assert!(lacking(1 << 12 | 1 << 38 | 1 << 39).is_empty());
        assert!(effective().is_some());
    }
}
