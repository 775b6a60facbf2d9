//! The version is one number.

use crate::read;

/// Cargo.toml has the version; whatever else names it names the same.
#[test]
fn there_is_one_version() {
    let version = env!("CARGO_PKG_VERSION");
    let changelog = read("packaging/deb/changelog");
    assert!(
        changelog.starts_with(&format!("traffic-mirror ({version}) ")),
        "packaging/deb/changelog begins with another version than {version}"
    );
    let puppet = "packaging/puppet/traffic_mirror/metadata.json";
    let module: serde_json::Value = serde_json::from_str(&read(puppet)).unwrap();
    assert_eq!(module["version"], version, "{puppet}");
    // until the release the heading is "Unreleased"
    let changes = read("CHANGELOG.md");
    let heading = changes.lines().find_map(|line| line.strip_prefix("## "));
    let heading = heading.expect("a heading");
    assert!(
        heading == "Unreleased" || heading.trim_start_matches('[').starts_with(version),
        "CHANGELOG.md begins with {heading}"
    );
}
