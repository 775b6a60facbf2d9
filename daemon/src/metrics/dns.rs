//! The metrics of the file's DNS names. There are none for a file without names.

use super::{counters, gauges, label, one};
use crate::dns::Figures;

/// Records them.
pub(super) fn record(figures: &Figures) {
    let Figures {
        resolved,
        failing,
        lacking,
        addresses,
        is_live,
        failures,
    } = *figures;
    let states = [
        ("resolved", resolved),
        ("failing", failing),
        ("no-address", lacking),
    ];
    gauges(
        "traffic_mirror_dns_names",
        "DNS names of the file, by state: resolved, failing (not answered last, its addresses stay), no-address.",
        states.map(|(state, count)| (vec![label("state", state)], count as f64)),
    );
    gauges(
        "traffic_mirror_dns_addresses",
        "Addresses that the DNS names of the file have.",
        one(addresses as f64),
    );
    gauges(
        "traffic_mirror_dns_last_reload_successful",
        "1 if the addresses of DNS names that the daemon last found are live; 0 if there are none, or the daemon or the kernel rejected them.",
        one(f64::from(is_live)),
    );
    counters(
        "traffic_mirror_dns_reload_failures_total",
        "Times that the daemon or the kernel rejected the addresses of DNS names.",
        one(failures),
    );
}
