//! Packets through the real daemon and the real kernel, attached by TCX and by clsact: the original
//! passes as it came, each endpoint gets what the filters say, and the counters move by exactly
//! that.

mod account;
mod application;
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
mod server_name;
mod silence;
mod stalled;
mod table;
mod tunnels;
mod unknown;

use traffic_mirror_tests::lab::file::{endpoint, exclude, filter, interface};

/// `eth0` both ways, the endpoints of the table, and `filters`.
fn config(filters: &str) -> String {
    with_interfaces(&interface("eth0"), filters)
}

fn with_interfaces(interfaces: &str, filters: &str) -> String {
    let endpoints = edge::ENDPOINTS.map(|(name, address, port)| {
        let lines = if port == 6080 {
            String::new()
        } else {
            format!("port = {port}\n")
        };
        endpoint(name, address, &lines)
    });
    format!("{interfaces}{}{filters}", endpoints.concat())
}
