//! DNS names in the file: their addresses come by names.toml, which the test writes in the
//! resolver's place, and filters and endpoints follow it.

mod endpoint;
mod filter;
mod shown;
mod whole;

use anyhow::Result;
use std::fmt::Write as _;
use std::fs;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::{deadline, file};

use crate::site::{SITE, Site};

/// The end of an hour in 2030.
const UNTIL: u64 = 1_900_000_000;

/// A file with one filter, to or from these hosts.
fn config(key: &str, hosts: &str) -> String {
    SITE.to_owned() + &file::filter("web", &format!("{key} = [{hosts}]"), "\"ids\"")
}

/// names.toml with these addresses.
fn names(all: &[(&str, &[&str])]) -> String {
    let mut text = "version = 1\n".to_owned();
    for (name, addresses) in all {
        let _ = writeln!(
            text,
            "[names.\"{name}\"]\nanswered = 1800000000\naddresses = ["
        );
        for address in *addresses {
            let _ = writeln!(
                text,
                "  {{ address = \"{address}\", answered = 1800000000, until = {UNTIL} }},"
            );
        }
        text.push_str("]\n");
    }
    text
}

/// Replaces names.toml as the resolver does.
fn write(daemon: &Daemon, text: &str) -> Result<()> {
    let path = daemon.names_path();
    let directory = path.with_file_name("");
    fs::create_dir_all(directory)?;
    let beside = path.with_file_name(".names.toml.new");
    fs::write(&beside, text)?;
    Ok(fs::rename(beside, path)?)
}

/// The same, and waits until the daemon has loaded it.
fn resolve(daemon: &Daemon, all: &[(&str, &[&str])]) -> Result<()> {
    write(daemon, &names(all))?;
    let is_loaded = |line: &str| line.contains("loaded the addresses of DNS names: ");
    daemon.wait_line(is_loaded, deadline()).map(drop)
}

/// A daemon with this file, ready.
fn start(site: &Site, config: &str) -> Result<Daemon> {
    let mut daemon = Daemon::spawn(&site.edge, config, Launch::default())?;
    daemon.ready(deadline())?;
    Ok(daemon)
}
