//! Where the hierarchy of cgroups of version 2 is mounted.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::CgroupError;

/// The mounts that this process sees (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// The id of the topmost cgroup, the first that the kernel makes (`kernfs_create_root`). Another
/// directory that is mounted, as in a cgroup namespace of a container, has a greater one, and the
/// levels below it are not those that the kernel counts.
const ROOT_ID: u64 = 1;

/// The usual places: of version 2 alone, and beside version 1 (systemd calls that hybrid).
const USUAL: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Where the root of the host's cgroups is.
///
/// # Errors
/// [`CgroupError::Unmounted`], [`CgroupError::Legacy`], [`CgroupError::Namespace`], or the mounts
/// cannot be read.
pub fn find() -> Result<PathBuf, CgroupError> {
    let mounts = fs::read_to_string(MOUNTS)
        .map_err(|error| CgroupError::failed("read", Path::new(MOUNTS), &error))?;
    choose(&mounts, |point| {
        fs::metadata(point).is_ok_and(|root| root.ino() == ROOT_ID)
    })
}

/// The mount point to use. `is_root` says whether the topmost cgroup is there.
fn choose(mounts: &str, is_root: impl Fn(&Path) -> bool) -> Result<PathBuf, CgroupError> {
    let mut points: Vec<PathBuf> = mounted(mounts, "cgroup2").collect();
    points.sort_by_key(|point| {
        USUAL
            .iter()
            .position(|usual| Path::new(usual) == point)
            .unwrap_or(USUAL.len())
    });
    match points.iter().find(|point| is_root(point)) {
        Some(point) => Ok(point.clone()),
        None => Err(match points.into_iter().next() {
            Some(other) => CgroupError::Namespace(other),
            None if mounted(mounts, "cgroup").next().is_some() => CgroupError::Legacy,
            None => CgroupError::Unmounted,
        }),
    }
}

/// The mount points of a type of file system. A line is `ID PARENT DEVICE ROOT POINT OPTIONS
/// [TAGS] - TYPE SOURCE OPTIONS`.
fn mounted<'a>(mounts: &'a str, kind: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    mounts.lines().filter_map(move |line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let is_it = file_system.split(' ').next() == Some(kind);
        let point = mount.split(' ').nth(4)?;
        is_it.then(|| PathBuf::from(unescaped(point)))
    })
}

/// The kernel writes blanks and backslashes as three octal digits (`seq_path`).
fn unescaped(point: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(point.to_owned(), |text, (code, sign)| {
        text.replace(code, sign)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 1 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn it_is_found_alone_beside_version_1_and_elsewhere() {
        let anywhere = |mounts: &str| choose(mounts, |_| true);
        assert_eq!(anywhere(HYBRID), Ok("/sys/fs/cgroup/unified".into()));
        let two = "\
41 31 0:38 / /srv/my\\040groups rw - cgroup2 none rw
42 31 0:38 / /sys/fs/cgroup rw,nosuid shared:9 master:3 - cgroup2 cgroup2 rw,nsdelegate
";
        assert_eq!(anywhere(two), Ok("/sys/fs/cgroup".into()));
        let one = two.lines().next().unwrap();
        assert_eq!(anywhere(one), Ok("/srv/my groups".into()));
    }

    #[test]
    fn the_root_of_the_host_is_taken_where_several_are_mounted() {
        let container = "\
41 31 0:38 / /sys/fs/cgroup ro - cgroup2 cgroup rw
42 31 0:38 /../../.. /host/cgroup ro - cgroup2 cgroup rw
";
        let host = Path::new("/host/cgroup");
        assert_eq!(choose(container, |point| point == host), Ok(host.into()));
        assert_eq!(
            choose(container, |_| false),
            Err(CgroupError::Namespace("/sys/fs/cgroup".into()))
        );
    }

    #[test]
    fn a_host_without_version_2_is_told_what_to_do() {
        let legacy = HYBRID.replace("cgroup2", "cgroupX");
        assert_eq!(choose(&legacy, |_| true), Err(CgroupError::Legacy));
        assert_eq!(choose("", |_| true), Err(CgroupError::Unmounted));
        assert!(CgroupError::Legacy.to_string().contains("systemd.unified"));
    }
}
