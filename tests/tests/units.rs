//! The units of systemd: which process may open which sockets, and that their paths are those of
//! the programs.

use std::fs;
use std::path::Path;

use traffic_mirror_resolver::{NAMES, WANTED};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of a key, in their order.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value)
        .collect()
}

const FAMILIES: &str = "RestrictAddressFamilies";
const CAPABILITIES: &str = "CapabilityBoundingSet";

#[test]
fn the_daemon_may_open_no_network_socket() {
    let unit = read("systemd/traffic-mirror.service");
    assert_eq!(values(&unit, FAMILIES), ["AF_NETLINK AF_UNIX"]);
    assert_eq!(values(&unit, "IPAddressDeny"), ["any"]);
    assert_eq!(
        values(&unit, CAPABILITIES),
        ["CAP_BPF CAP_NET_ADMIN CAP_PERFMON"]
    );
    // nothing that speaks DNS is built into it
    let workspace = read("Cargo.toml");
    let line = workspace
        .lines()
        .find(|line| line.starts_with("traffic-mirror-resolver = "));
    let line = line.expect("a dependency");
    assert!(line.contains("default-features = false"), "{line}");
    let daemon = read("daemon/Cargo.toml");
    assert!(daemon.contains("\ntraffic-mirror-resolver.workspace = true\n"));
}

#[test]
fn the_resolver_has_no_right_but_to_ask() {
    let unit = read("systemd/traffic-mirror-resolver.service");
    assert_eq!(values(&unit, FAMILIES), ["AF_INET AF_INET6 AF_UNIX"]);
    assert_eq!(values(&unit, CAPABILITIES), [""]);
    assert_eq!(values(&unit, "AmbientCapabilities"), [""; 0]);
    assert_eq!(values(&unit, "DynamicUser"), ["yes"]);
    assert_eq!(values(&unit, "NoNewPrivileges"), ["yes"]);
    let calls = values(&unit, "SystemCallFilter");
    assert!(calls.contains(&"~bind listen accept accept4"), "{calls:?}");
    // the two that could widen it
    for key in ["User", "ReadWritePaths"] {
        assert_eq!(values(&unit, key), [""; 0]);
    }
}

#[test]
fn the_resolver_runs_while_there_are_names() {
    let (service, path) = (
        read("systemd/traffic-mirror-resolver.service"),
        read("systemd/traffic-mirror-resolver.path"),
    );
    assert_eq!(values(&path, "PathExists"), [WANTED]);
    assert_eq!(values(&service, "ConditionPathExists"), [WANTED]);
    // the path unit alone starts it
    assert_eq!(values(&service, "WantedBy"), [""; 0]);
    assert_eq!(values(&path, "WantedBy"), ["paths.target"]);
    let directory = values(&service, "RuntimeDirectory");
    assert_eq!(NAMES, format!("/run/{}/names.toml", directory[0]));
    let daemon = read("systemd/traffic-mirror.service");
    let directory = values(&daemon, "RuntimeDirectory");
    assert_eq!(WANTED, format!("/run/{}/wanted-names", directory[0]));
}
