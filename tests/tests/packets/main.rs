//! Packets through the real daemon and the real kernel, attached by TCX and by clsact: the original
//! passes as it came, each endpoint gets what the filters say, and the counters move by exactly
//! that.

mod account;
mod backlog;
mod bare;
mod budget;
mod case;
mod checksum;
mod clonable;
mod delay;
mod delivered;
mod edge;
mod exact;
mod far_end;
mod filters;
mod fragments;
mod gso;
mod harm;
mod headerless;
mod headers;
mod inherited;
mod ipsec;
mod kinds;
mod link;
mod loops;
mod mtu;
mod neighbour;
mod nested;
mod original;
mod output;
mod place;
mod policy;
mod queues;
mod receiver;
mod routed;
mod routes;
mod sctp;
mod seed;
mod segmenter;
mod silence;
mod stalled;
mod tunnels;
mod unknown;

use anyhow::{Result, ensure};
use edge::{Attach, Edge};

/// A part of the table: one or several configurations and their cases.
type Group = fn(&mut Edge, Attach) -> Result<()>;

const TABLE: &[Group] = &[
    filters::protocols,
    filters::ports,
    filters::networks,
    filters::bidirectional,
    filters::excludes,
    filters::several_endpoints,
    filters::scopes,
    filters::switches,
    filters::counters_across_a_change,
    headers::plain,
    headers::ipv4,
    headers::ipv6_extensions,
    fragments::in_order,
    fragments::out_of_order,
    fragments::alone,
    unknown::forgeries,
    unknown::tiny,
    unknown::excludes,
    unknown::skipped,
    loops::frames,
    headers::cut_off_and_lies,
    headers::scattered,
    headers::open_checksums,
    link::tags,
    link::vlans,
    link::padding,
    link::not_ip,
    link::groups,
    // the last, since places are in use for as long as the kernel waits
    fragments::flood,
];

fn table(attach: Attach) -> Result<()> {
    if !Attach::all()?.contains(&attach) {
        println!("skipped: {attach:?} takes Linux 6.6, or is not in TEST_ATTACH");
        return Ok(());
    }
    let mut edge = Edge::new(&config(""), attach)?;
    let failures: Vec<String> = TABLE
        .iter()
        .filter_map(|group| group(&mut edge, attach).err())
        .map(|error| format!("{error:#}\n"))
        .collect();
    ensure!(
        failures.is_empty(),
        "{} of {} groups fail\n{}",
        failures.len(),
        TABLE.len(),
        failures.concat()
    );
    Ok(())
}

#[test]
fn table_with_tcx() -> Result<()> {
    table(Attach::Tcx)
}

#[test]
fn table_with_clsact() -> Result<()> {
    table(Attach::Clsact)
}

/// `eth0` both ways, the endpoints of the table, and `filters`.
fn config(filters: &str) -> String {
    with_interfaces("[[interface]]\nname = \"eth0\"\n", filters)
}

fn with_interfaces(interfaces: &str, filters: &str) -> String {
    let endpoints = edge::ENDPOINTS.map(|(name, address, port)| {
        let port = if port == 6080 {
            String::new()
        } else {
            format!("port = {port}\n")
        };
        format!("[endpoint.{name}]\naddress = \"{address}\"\n{port}")
    });
    format!("{interfaces}{}{filters}", endpoints.concat())
}

/// A mirror filter.
fn filter(name: &str, fields: &str, to: &str) -> String {
    format!("[[filter]]\nname = \"{name}\"\n{fields}\nto = [{to}]\n")
}

/// An exclude filter.
fn exclude(name: &str, fields: &str) -> String {
    format!("[[filter]]\nname = \"{name}\"\naction = \"exclude\"\n{fields}\n")
}
