//! What was probably meant by a text that is no application: paths as tools print them, names of
//! programs, ids of containers and pods, users. A proposal may be wrong itself; the caller checks.

use super::unit_name::{IDLE_KINDS, KINDS, may_be_in_unit, parent_slice};
use crate::desired::name::{is_glob, one_star};
use crate::diagnostic::closest;

/// Where cgroups are mounted, the longest first; `systemd` is a hierarchy of version 1 with the
/// same names.
const MOUNTS: [&str; 3] = [
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup",
];

/// How container runtimes begin the name of a container's scope.
const SCOPES: [&str; 5] = ["docker", "cri-containerd", "crio", "libpod", "nerdctl"];

/// How Kubernetes begins the id of a container (`kubectl get pod -o yaml`, `containerID`), and the
/// name of its scope.
const SCHEMES: [(&str, &str); 3] = [
    ("docker://", "docker"),
    ("containerd://", "cri-containerd"),
    ("cri-o://", "crio"),
];

/// Programs whose unit has another name.
const PROGRAMS: [(&str, &str); 4] = [
    ("dockerd", "docker.service"),
    ("mariadbd", "mariadb.service"),
    ("postgres", "postgresql@*.service"),
    ("root", "user-0.slice"),
];

/// Units that systemd always has.
const BUILT_IN: [(&str, &str); 5] = [
    ("init", "init.scope"),
    ("kubepods", "kubepods.slice"),
    ("machine", "machine.slice"),
    ("system", "system.slice"),
    ("user", "user.slice"),
];

/// They run in many units.
const INTERPRETERS: [&str; 9] = [
    "bash", "java", "node", "perl", "php", "python", "python3", "ruby", "sh",
];

/// What to write in place of a text that is no application.
pub(super) fn proposal(text: &str) -> Option<String> {
    let text = text.trim();
    container(text).or_else(|| {
        if text.contains('/') {
            path(text)
        } else {
            unit(text)
        }
    })
}

/// The applications that a text lists, if it lists several and each is one or can be proposed.
pub(super) fn several(text: &str, is_right: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"');
    let parts: Vec<&str> = text
        .split(is_between)
        .filter(|part| !part.is_empty())
        .collect();
    let right = parts.iter().filter(|part| is_right(part)).count();
    // "my app.service" is one name
    let is_list = text.contains([',', ';']) || right == 0 || right == parts.len();
    if parts.len() < 2 || !is_list {
        return None;
    }
    let each = parts.iter().map(|part| {
        if is_right(part) {
            return Some((*part).to_owned());
        }
        proposal(part).filter(|proposed| is_right(proposed))
    });
    each.collect()
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

/// Whether it is an id of a container, whole or as `docker ps` shortens it.
fn is_container_id(text: &str) -> bool {
    matches!(text.len(), 12 | 64) && is_hex(text) && !text.bytes().all(|b| b.is_ascii_digit())
}

fn container(text: &str) -> Option<String> {
    let of_pod = SCHEMES
        .iter()
        .find_map(|(scheme, scope)| Some((scope, text.strip_prefix(scheme)?)));
    if let Some((scope, id)) = of_pod {
        return Some(format!("{scope}-{id}.scope"));
    }
    // "docker-proxy" is a program
    let is_scope = |scope: &str| {
        let rest = text.strip_prefix(scope);
        let id = rest.and_then(|rest| rest.strip_prefix('-'));
        id.is_some_and(|id| id.contains('*') || is_container_id(id))
    };
    if !text.contains(['.', '/']) && SCOPES.iter().any(|scope| is_scope(scope)) {
        return Some(format!("{text}.scope"));
    }
    match text.len() {
        _ if !is_container_id(text) => pod(text),
        64 => Some(format!("*-{text}.scope")),
        _ => Some(format!("*-{text}*.scope")),
    }
}

/// The UID of a pod, which kubelet writes with `_` in the name of its slice.
fn pod(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = parts.iter().map(|part| part.len());
    let is_uuid = lengths.eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| is_hex(part));
    is_uuid.then(|| format!("*-pod{}.slice", parts.join("_")))
}

fn path(text: &str) -> Option<String> {
    // a line of /proc/PID/cgroup
    let path = match text.split_once(":/") {
        Some((hierarchy, path)) if hierarchy.split(':').next().is_some_and(is_number) => {
            format!("/{path}")
        }
        _ => text.to_owned(),
    };
    let mount = MOUNTS.iter().find_map(|mount| {
        let rest = path.strip_prefix(mount)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    });
    let path = mount.unwrap_or(&path);
    let mut components: Vec<String> = path
        .split('/')
        .filter(|one| !one.is_empty())
        .map(one_star)
        .collect();
    // "/**" at the end, and a file of the kernel's
    components.pop_if(|last| *last == "*" && path.ends_with("**"));
    components.pop_if(|last| last.starts_with("cgroup."));
    if path.contains("/**/") {
        return None;
    }
    Some(format!("/{}", nested(components).join("/")))
}

/// With the slices that systemd puts above each slice.
fn nested(components: Vec<String>) -> Vec<String> {
    let mut nested: Vec<String> = Vec::new();
    for component in components {
        let above = std::iter::successors(parent_slice(&component), |one| parent_slice(one));
        let mut above: Vec<String> = above.collect();
        match nested.last() {
            Some(last) if is_glob(last) => above.clear(),
            Some(last) => match above.iter().position(|one| one == last) {
                Some(known) => above.truncate(known),
                // below a slice of another name it cannot be
                None if last.ends_with(".slice") => above.clear(),
                None => {}
            },
            None => {}
        }
        nested.extend(above.into_iter().rev());
        nested.push(component);
    }
    nested
}

fn unit(text: &str) -> Option<String> {
    if text.contains([',', ';', '"']) {
        return None;
    }
    if text == "-.slice" {
        return Some("/".to_owned());
    }
    let mut known = PROGRAMS.iter().chain(&BUILT_IN);
    if let Some((_, unit)) = known.find(|(name, _)| *name == text) {
        return Some((*unit).to_owned());
    }
    let user = ["uid:", "uid=", "user:", "user="]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    if let Some(number) = user.filter(|user| is_number(user)) {
        return Some(format!("user-{number}.slice"));
    }
    let (stem, kind) = kind_of(text)?;
    // a blank is part of a name only if its type shows where the name ends
    if stem.len() == text.len() && text.contains(char::is_whitespace) {
        return None;
    }
    let stem = one_star(&stem.replace("%i", "*").replace("%I", "*"));
    let star = if stem.ends_with('@') { "*" } else { "" };
    Some(format!("{}{star}.{kind}", escaped(&stem)))
}

/// The name without its type, and the type that is meant.
fn kind_of(text: &str) -> Option<(&str, &str)> {
    if let Some((stem, kind)) = text.rsplit_once('.') {
        let meant = match kind {
            "timer" | "path" => Some("service"),
            "automount" => Some("mount"),
            kind if IDLE_KINDS.contains(&kind) => return None,
            kind => closest(kind, KINDS),
        };
        if let Some(meant) = meant {
            return Some((stem, meant));
        }
    }
    let numbered = |prefix: &str| text.strip_prefix(prefix).is_some_and(is_number);
    let kind = if numbered("user-") {
        "slice"
    } else if numbered("session-") {
        "scope"
    } else {
        "service"
    };
    let is_name = text.contains(|c: char| c.is_ascii_alphabetic());
    (is_name && !INTERPRETERS.contains(&text) && text.is_ascii()).then_some((text, kind))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// As systemd escapes the name of a unit (systemd-escape(1)): bytes that are not allowed become
/// `\xNN`.
fn escaped(stem: &str) -> String {
    let escape = |c: char| {
        if may_be_in_unit(c) {
            return c.to_string();
        }
        let mut bytes = [0; 4];
        let bytes = c.encode_utf8(&mut bytes).bytes();
        bytes.map(|byte| format!("\\x{byte:02x}")).collect()
    };
    stem.chars().map(escape).collect()
}
