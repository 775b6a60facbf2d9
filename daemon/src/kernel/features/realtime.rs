//! Whether one packet at a time has what belongs to a CPU. With PREEMPT_RT a softirq can be
//! preempted. Kernels before 6.18 have a lock for each CPU that keeps a second one out
//! (`softirq_ctrl` in kernel/softirq.c); later ones only with `CONFIG_PREEMPT_RT_NEEDS_BH_LOCK`.
//! Without it two packets would share the elements of per-CPU maps: a copy could leave with the
//! header of another, or be counted for another.

use std::fs;

use crate::kernel::error::KernelError;

/// From this version on the lock is a choice.
const CHOICE: (u32, u32) = (6, 18);
const LOCK: &str = "CONFIG_PREEMPT_RT_NEEDS_BH_LOCK";

/// Requires that the softirqs of a CPU run one after the other. Not required to remove programs.
///
/// # Errors
/// Two packets may share per-CPU data, or it is unknown whether they may.
pub fn require() -> Result<(), KernelError> {
    let name = nix::sys::utsname::uname().ok();
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let (release, version) = name
        .map(|name| (text(name.release()), text(name.version())))
        .unwrap_or_default();
    let is_realtime =
        fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1");
    if !(is_realtime || is_realtime_version(&version)) {
        return Ok(());
    }
    // the unit sees only the first
    let places = [
        format!("/boot/config-{release}"),
        format!("/usr/lib/modules/{release}/config"),
    ];
    let config = places
        .iter()
        .find_map(|place| fs::read_to_string(place).ok());
    judge(&release, config.as_deref())
}

/// The text of `uname -v`: `#1 SMP PREEMPT_RT Debian ...`.
fn is_realtime_version(version: &str) -> bool {
    version.split_whitespace().any(|word| word == "PREEMPT_RT")
}

/// `config` is that of a kernel with PREEMPT_RT, if it can be read.
fn judge(release: &str, config: Option<&str>) -> Result<(), KernelError> {
    let says = |line: &str| config.is_some_and(|config| config.lines().any(|there| there == line));
    let is_choice = config.map_or_else(
        || numbers(release) >= CHOICE,
        |config| config.contains(LOCK),
    );
    if !is_choice || says(&format!("{LOCK}=y")) {
        return Ok(());
    }
    let what = if config.is_some() {
        format!(
            "this kernel has PREEMPT_RT without {LOCK}, so two packets could share per-CPU data"
        )
    } else {
        format!(
            "this kernel has PREEMPT_RT, and no /boot/config-{release} says whether with \
             {LOCK}: two packets could share per-CPU data"
        )
    };
    Err(KernelError::Unsupported {
        what,
        remedy: "boot a kernel with that option, or one without PREEMPT_RT",
    })
}

/// The first two numbers of a release.
fn numbers(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH: &str = "CONFIG_PREEMPT_RT=y\nCONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y\n";
    const WITHOUT: &str = "CONFIG_PREEMPT_RT=y\n# CONFIG_PREEMPT_RT_NEEDS_BH_LOCK is not set\n";
    const BEFORE: &str = "CONFIG_PREEMPT_RT=y\nCONFIG_HZ=250\n";

    #[test]
    fn a_kernel_is_known_by_its_configuration() {
        for release in ["6.1.0-18-rt-amd64", "6.18.3", "7.0.1-rt"] {
            assert!(
                judge(release, Some(WITH)).is_ok() && judge(release, Some(BEFORE)).is_ok(),
                "{release}"
            );
            let refused = judge(release, Some(WITHOUT))
                .expect_err(release)
                .to_string();
            assert!(
                refused.contains("PREEMPT_RT without CONFIG_PREEMPT_RT_NEEDS_BH_LOCK"),
                "{refused}"
            );
        }
    }

    #[test]
    fn without_one_only_older_kernels_are_known() {
        assert!(
            judge("6.17.9-rt", None).is_ok() && judge("5.14.0-503.el9.x86_64+rt", None).is_ok()
        );
        for release in ["6.18.0-rt3", "7.1.0"] {
            let refused = judge(release, None).expect_err(release).to_string();
            assert!(
                refused.contains(&format!("no /boot/config-{release} says")),
                "{refused}"
            );
        }
    }

    #[test]
    fn the_kernel_names_itself() {
        assert!(is_realtime_version(
            "#1 SMP PREEMPT_RT Debian 6.1.76-1 (2024-02-01)"
        ));
        assert!(!is_realtime_version(
            "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)"
        ));
        assert!(!is_realtime_version(""));
    }
}
