//! Kernel bugs that cannot be probed, since they end in a panic: identified by the version.

use nix::sys::utsname::uname;

/// Whether the running kernel has the correction of CVE-2024-42281.
pub(in crate::kernel) fn can_shrink() -> bool {
    uname().is_ok_and(|names| {
        let [release, version] =
            [names.release(), names.version()].map(|text| text.to_string_lossy().into_owned());
        is_corrected(version_of(&release, &version))
    })
}

/// The upstream version of the kernel: `uname -r`, but for Debian, which has it elsewhere, `uname
/// -v`.
fn version_of(release: &str, version: &str) -> [u32; 3] {
    let text = version
        .split_once("Debian ")
        .map_or(release, |(_, debian)| debian);
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

/// "bpf: Fix a segment issue when downgrading gso_size" is in these, and in 6.11. Backports of
/// distributions are not known.
fn is_corrected(version: [u32; 3]) -> bool {
    const SINCE: [[u32; 3]; 3] = [[6, 1, 103], [6, 6, 44], [6, 10, 3]];
    version >= [6, 11, 0]
        || SINCE
            .iter()
            .any(|since| since[..2] == version[..2] && version >= *since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_known_by_their_version() {
        let of = |release, version| is_corrected(version_of(release, version));
        for (release, version, expected) in [
            (
                "6.1.0-57-cloud-amd64",
                "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-08-01)",
                true,
            ),
            (
                "6.1.0-22-amd64",
                "#1 SMP PREEMPT_DYNAMIC Debian 6.1.94-1 (2024-06-21)",
                false,
            ),
            (
                "6.12.117+deb12-cloud-amd64",
                "#1 SMP Debian 6.12.117-1~deb12u1 (2026-07-01)",
                true,
            ),
            ("6.1.103", "#1 SMP", true),
            ("6.1.102-generic", "#1 SMP", false),
            ("6.6.43", "", false),
            ("6.6.44", "", true),
            ("6.8.0-40-generic", "#40-Ubuntu SMP", false),
            ("6.10.2", "", false),
            ("6.11-rc7", "", true),
            ("7.0.1", "", true),
            ("5.17.0", "", false),
            ("", "", false),
        ] {
            assert_eq!(of(release, version), expected, "{release} {version}");
        }
    }
}
