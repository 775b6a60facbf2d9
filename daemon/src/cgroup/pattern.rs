//! Input: the globs of a pattern, and the names of cgroups from the root down. Output: whether a
//! cgroup fits. Must not know: the file, the file system.

use std::cmp::Ordering;
use std::fmt;

/// What makes a unit a slice: the only units that have others below them.
const SLICE: &str = ".slice";

/// Which cgroups an application is: some, and all below them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Two patterns with the same text select the same cgroups.
    text: String,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// A unit of the host's service manager, in whatever slice.
    Unit(glob::Pattern),
    /// A glob for each directory from the root of the hierarchy on; none for the root itself.
    Path(Vec<glob::Pattern>),
}

/// How far the names from the root down to a cgroup fit a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The pattern selects the cgroup.
    Complete,
    /// It may select one below; of a path, so many components have fitted.
    Partial(usize),
    /// It selects neither the cgroup nor one below.
    Failed,
}

impl Pattern {
    /// A unit of the host's service manager by its name, such as `nginx.service`.
    ///
    /// Everything above it is a slice, and slices are made by that manager alone. So a user who may
    /// make cgroups below `user@1000.service`, or a container, cannot take the name of a unit of
    /// the host to have its packets mirrored, or excluded.
    pub fn unit(name: glob::Pattern) -> Self {
        Self {
            text: name.as_str().to_owned(),
            shape: Shape::Unit(name),
        }
    }

    /// The cgroup at a path; no component stands for the root of the hierarchy.
    pub fn path(components: Vec<glob::Pattern>) -> Self {
        let texts: Vec<&str> = components.iter().map(glob::Pattern::as_str).collect();
        let text = format!("/{}", texts.join("/"));
        Self {
            text,
            shape: Shape::Path(components),
        }
    }

    /// The pattern as the file may have it: paths begin with a slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names one cgroup exactly, or one unit.
    pub fn is_literal(&self) -> bool {
        !self.text.contains(['*', '?', '['])
    }

    /// Whether it is the name of a unit, not a path.
    pub fn is_unit(&self) -> bool {
        matches!(self.shape, Shape::Unit(_))
    }

    /// At the root of the hierarchy.
    pub(super) fn begin(&self) -> Progress {
        match &self.shape {
            Shape::Path(components) if components.is_empty() => Progress::Complete,
            _ => Progress::Partial(0),
        }
    }

    /// At the child `name` of a cgroup where it was [`Progress::Partial`] with `fitted`.
    pub(super) fn advance(&self, fitted: usize, name: &str) -> Progress {
        match &self.shape {
            Shape::Unit(unit) if unit.matches(unescaped(name)) => Progress::Complete,
            Shape::Unit(_) if name.ends_with(SLICE) => Progress::Partial(0),
            Shape::Unit(_) => Progress::Failed,
            Shape::Path(components) => match components.get(fitted) {
                Some(component) if component.matches(name) => {
                    if fitted + 1 == components.len() {
                        Progress::Complete
                    } else {
                        Progress::Partial(fitted + 1)
                    }
                }
                _ => Progress::Failed,
            },
        }
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of the unit whose cgroup is called so: systemd puts `_` before a name that looks like a
/// file of the kernel's, such as `memory.service` (`cg_escape`).
pub(super) fn unescaped(name: &str) -> &str {
    name.strip_prefix('_').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        let glob = |part: &str| glob::Pattern::new(part).unwrap();
        match text.strip_prefix('/') {
            None => Pattern::unit(glob(text)),
            Some("") => Pattern::path(Vec::new()),
            Some(path) => Pattern::path(path.split('/').map(glob).collect()),
        }
    }

    /// Whether it selects the cgroup at a path or one above.
    fn selects(text: &str, path: &str) -> bool {
        let pattern = pattern(text);
        let mut progress = pattern.begin();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if let Progress::Partial(fitted) = progress {
                progress = pattern.advance(fitted, name);
            }
        }
        progress == Progress::Complete
    }

    #[test]
    fn a_unit_is_found_in_any_slice_with_all_below_it() {
        for path in [
            "/nginx.service",
            "/system.slice/nginx.service",
            "/a.slice/a-b.slice/nginx.service",
            "/system.slice/nginx.service/workers/1",
        ] {
            assert!(selects("nginx.service", path), "{path}");
        }
        for path in ["/", "/system.slice", "/system.slice/nginx.service2"] {
            assert!(!selects("nginx.service", path), "{path}");
        }
    }

    #[test]
    fn a_user_or_a_container_cannot_take_the_name_of_a_unit_of_the_host() {
        for path in [
            "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
            "/system.slice/docker-0123.scope/system.slice/nginx.service",
            "/docker/0123/nginx.service",
        ] {
            assert!(!selects("nginx.service", path), "{path}");
            assert!(selects(path, path), "{path}");
        }
    }

    #[test]
    fn nested_slices_instances_and_containers() {
        let slice = "/a.slice/a-b.slice";
        assert!(selects("a-b.slice", slice) && selects("a.slice", slice));
        assert!(!selects("b.slice", slice) && !selects("a-b.slice", "/a.slice"));
        let instance = "/system.slice/system-postgresql.slice/postgresql@14-main.service";
        assert!(selects("postgresql@*.service", instance));
        assert!(!selects("postgresql.service", instance));
        let getty = r"/system.slice/system-serial\x2dgetty.slice/serial-getty@ttyS0.service";
        assert!(selects("serial-getty@*.service", getty));
        assert!(selects(r"system-serial\x2dgetty.slice", getty));
        assert!(selects(
            "docker-*.scope",
            "/system.slice/docker-9f86d081884c.scope"
        ));
        let pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/\
                   cri-containerd-9f86.scope";
        assert!(selects("/kubepods.slice/*/*/cri-containerd-*.scope", pod));
        assert!(selects("cri-containerd-*.scope", pod));
        assert!(selects("*-pod1_2.slice", pod));
    }

    #[test]
    fn names_that_look_like_files_of_the_kernel_are_unescaped() {
        assert!(selects("memory.service", "/system.slice/_memory.service"));
        assert!(selects("_x.service", "/system.slice/__x.service"));
        assert!(!selects(
            "/system.slice/memory.service",
            "/system.slice/_memory.service"
        ));
    }

    #[test]
    fn a_path_is_matched_directory_by_directory() {
        assert!(selects("/system.slice/*", "/system.slice/a.service"));
        assert!(selects("/system.slice/*", "/system.slice/a.service/deep"));
        assert!(!selects("/system.slice/*", "/system.slice"));
        assert!(!selects("/system.slice/a*", "/system.slice/b/a"));
        assert!(!selects("/a/b", "/x/a/b"));
        assert!(selects("/", "/") && selects("/", "/anything/at/all"));
        assert!(selects("/*/x", "/.hidden/x"));
    }

    #[test]
    fn the_text_is_the_identity() {
        assert_eq!(pattern("/a/b*").as_str(), "/a/b*");
        assert_eq!(pattern("/").as_str(), "/");
        assert!(pattern("/a").is_literal() && !pattern("a?.service").is_literal());
        let mut sorted = ["b.service", "/z", "a.service"].map(pattern);
        sorted.sort();
        assert_eq!(
            sorted.each_ref().map(Pattern::as_str),
            ["/z", "a.service", "b.service"]
        );
    }
}
