//! Input: patterns and all cgroups of this host. Output: what an operator should know of patterns
//! that select nothing now, and of sockets that belong to another unit than their service. All are
//! hints: a unit may start later, and the file may be for another host. Pure.

use super::hierarchy::{Cgroup, Tree};
use super::matcher::{select, selecting};
use super::pattern::{Pattern, unescaped};
use crate::diagnostic::did_you_mean;

/// Most paths that are proposed as what was meant.
const MOST_SHOWN: usize = 3;

/// A pattern that selects nothing now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Continues "filter "web" has application "nginx.service", ".
    pub cause: String,
    /// What to do about it.
    pub help: String,
}

/// Why a pattern selects nothing now, if that is so.
pub fn absence(pattern: &Pattern, tree: &Tree) -> Option<Absence> {
    let is_absent = select(std::slice::from_ref(pattern), tree)
        .cgroups
        .is_empty();
    if !is_absent {
        return None;
    }
    let cause = if tree.cgroups.len() < 2 {
        "but this host has no cgroup below the root: no service manager uses cgroup2"
    } else if pattern.is_unit() {
        "and no such unit of the host is running now"
    } else {
        "and no such cgroup exists now"
    };
    let help = elsewhere(pattern, tree)
        .or_else(|| relative(pattern, tree))
        .or_else(|| similar(pattern, tree));
    Some(Absence {
        cause: cause.to_owned(),
        help: help.unwrap_or_else(|| unknown(pattern)),
    })
}

fn unknown(pattern: &Pattern) -> String {
    let how = if pattern.is_unit() && pattern.is_literal() {
        format!(
            "\"systemctl show --property=Id,ControlGroup {pattern}\" prints its name and cgroup while it runs"
        )
    } else {
        "\"systemd-cgls --all\" lists the cgroups of this host".to_owned()
    };
    format!(
        "nothing, if it is to start later; {how}; for a file that is for another host, add --any-host"
    )
}

/// Cgroups with the name that the pattern ends with, in another place.
fn elsewhere(pattern: &Pattern, tree: &Tree) -> Option<String> {
    let last = pattern.as_str().rsplit('/').next().unwrap_or_default();
    let name = glob::Pattern::new(last).ok()?;
    let found = tree
        .cgroups
        .iter()
        .filter(|one| name.matches(unescaped(one.name())));
    if !pattern.is_unit() && !last.is_empty() {
        let unit = Pattern::unit(name.clone());
        let has_unit =
            has_unit_suffix(last) && !select(std::slice::from_ref(&unit), tree).cgroups.is_empty();
        if has_unit {
            return Some(format!("write {last:?}, which is found in any slice"));
        }
        // a star fits anything
        if !pattern.is_literal() {
            return None;
        }
    }
    let paths: Vec<String> = found
        .take(MOST_SHOWN)
        .map(|one| format!("{:?}", one.path))
        .collect();
    let paths = (!paths.is_empty()).then(|| paths.join(" or "))?;
    Some(if pattern.is_unit() {
        format!("write {paths}: units of users and of containers are written by their path")
    } else {
        format!("did you mean {paths}?")
    })
}

/// A unit that belongs to the one that the pattern names: its socket, or its instances.
fn relative(pattern: &Pattern, tree: &Tree) -> Option<String> {
    let stem = pattern.as_str().strip_suffix(".service")?;
    if !pattern.is_unit() || !pattern.is_literal() {
        return None;
    }
    let is_there = |text: &str| {
        let name = glob::Pattern::new(text).ok()?;
        let unit = Pattern::unit(name);
        let is_there = !select(&[unit], tree).cgroups.is_empty();
        is_there.then(|| text.to_owned())
    };
    let instances = is_there(&format!("{stem}@*.service"));
    if let Some(instances) = instances {
        return Some(format!("write {instances:?} for the instances that run"));
    }
    let socket = is_there(&format!("{stem}.socket"))?;
    Some(format!(
        "add {socket:?}, which listens until the service starts: what is accepted on its sockets \
         belongs to it"
    ))
}

/// A name with few other letters.
fn similar(pattern: &Pattern, tree: &Tree) -> Option<String> {
    if !pattern.is_literal() {
        return None;
    }
    if !pattern.is_unit() {
        return did_you_mean(
            pattern.as_str(),
            tree.cgroups.iter().map(|one| one.path.as_str()),
        );
    }
    let units = units(tree).map(|one| unescaped(one.name()));
    did_you_mean(pattern.as_str(), units)
}

/// The units of the host's service manager.
fn units(tree: &Tree) -> impl Iterator<Item = &Cgroup> {
    tree.cgroups.iter().filter(|one| {
        let mut names = one.path.split('/').filter(|name| !name.is_empty());
        let last = names.next_back().unwrap_or_default();
        has_unit_suffix(last) && names.all(|name| name.ends_with(".slice"))
    })
}

fn has_unit_suffix(name: &str) -> bool {
    let suffixes = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
    suffixes.iter().any(|suffix| name.ends_with(suffix))
}

/// Socket units that run beside a selected service of the same name and are not selected, each with
/// the place of a pattern that selects the service. If such a unit listens on a port, what is
/// accepted there belongs to the cgroup of the socket unit, in which the service manager made the
/// socket (`socket_address_listen_in_cgroup`), and not to that of the service.
pub fn socket_units(patterns: &[Pattern], tree: &Tree) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for socket in units(tree) {
        let name = unescaped(socket.name());
        let Some(stem) = name.strip_suffix(".socket") else {
            continue;
        };
        if !selecting(patterns, &socket.path).is_empty() {
            continue;
        }
        // instances that are made for each connection are called NAME@NUMBER-ADDRESSES.service
        let is_served = |one: &&Cgroup| {
            let rest = unescaped(one.name()).strip_prefix(stem);
            rest.is_some_and(|rest| {
                rest == ".service" || rest.starts_with('@') && rest.ends_with(".service")
            })
        };
        let by = units(tree)
            .filter(is_served)
            .find_map(|service| selecting(patterns, &service.path).first().copied());
        found.extend(by.map(|pattern| (pattern, name.to_owned())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each path after the one above it.
    fn host() -> Tree {
        let mut tree = Tree::new(1);
        for (id, path) in [
            "/system.slice",
            "/user.slice",
            "/system.slice/nginx.service",
            "/system.slice/ssh.service",
            "/system.slice/ssh.socket",
            "/system.slice/cups.socket",
            "/system.slice/system-postgresql.slice",
            "/user.slice/user-1000.slice",
            "/system.slice/system-postgresql.slice/postgresql@14-main.service",
            "/user.slice/user-1000.slice/user@1000.service",
            "/user.slice/user-1000.slice/user@1000.service/sync.service",
        ]
        .iter()
        .enumerate()
        {
            let (above, name) = path.rsplit_once('/').unwrap();
            let above = if above.is_empty() { "/" } else { above };
            let parent = tree.cgroups.iter().position(|one| one.path == above);
            tree.add(parent.unwrap(), name, id as u64 + 2);
        }
        tree
    }

    fn pattern(text: &str) -> Pattern {
        let glob = |part: &str| glob::Pattern::new(part).unwrap();
        match text.strip_prefix('/') {
            None => Pattern::unit(glob(text)),
            Some(path) => Pattern::path(path.split('/').map(glob).collect()),
        }
    }

    fn help(text: &str) -> String {
        let absence = absence(&pattern(text), &host());
        absence.unwrap_or_else(|| panic!("{text}")).help
    }

    #[test]
    fn what_exists_is_not_absent() {
        for text in ["nginx.service", "/system.slice/*", "user.slice"] {
            assert_eq!(absence(&pattern(text), &host()), None, "{text}");
        }
    }

    #[test]
    fn what_was_meant_is_proposed() {
        assert_eq!(
            help("sync.service"),
            "write \"/user.slice/user-1000.slice/user@1000.service/sync.service\": units of users \
             and of containers are written by their path"
        );
        assert_eq!(
            help("/system.slice/postgresql@14-main.service"),
            "write \"postgresql@14-main.service\", which is found in any slice"
        );
        assert_eq!(
            help("postgresql.service"),
            "write \"postgresql@*.service\" for the instances that run"
        );
        assert!(help("cups.service").starts_with("add \"cups.socket\", which listens"));
        assert_eq!(help("ngnix.service"), "did you mean \"nginx.service\"?");
        assert_eq!(
            help("/sytem.slice/ssh.servic"),
            "did you mean \"/system.slice/ssh.service\"?"
        );
    }

    #[test]
    fn a_unit_may_start_later() {
        let later = help("backup.service");
        assert!(
            later.starts_with("nothing, if it is to start later"),
            "{later}"
        );
        assert!(later.contains("ControlGroup backup.service\""), "{later}");
        assert!(help("docker-*.scope").contains("systemd-cgls"));
        let bare = absence(&pattern("nginx.service"), &Tree::new(1)).unwrap();
        assert!(bare.cause.contains("no cgroup below the root"));
    }

    #[test]
    fn a_service_is_not_what_its_socket_unit_listens_for() {
        let both = |texts: &[&str]| {
            let patterns: Vec<Pattern> = texts.iter().map(|text| pattern(text)).collect();
            socket_units(&patterns, &host())
        };
        assert_eq!(
            both(&["nginx.service", "ssh.service"]),
            [(1, "ssh.socket".to_owned())]
        );
        assert_eq!(both(&["ssh.service", "ssh.socket"]), []);
        assert_eq!(both(&["system.slice"]), []);
        assert_eq!(both(&["nginx.service"]), []);
    }
}
