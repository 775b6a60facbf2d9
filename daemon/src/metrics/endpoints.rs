//! The metrics of endpoints.

use std::net::IpAddr;

use traffic_mirror_ebpf::abi::{Drop, IcmpError};
use traffic_mirror_ebpf::gue;

use super::{by_reason, counters, gauges, label};
use crate::status::EndpointStatus;

/// Records them.
pub(super) fn record(endpoints: &[EndpointStatus]) {
    let labels = |endpoint: &EndpointStatus| vec![label("endpoint", &endpoint.name)];
    gauges(
        "traffic_mirror_endpoint_ready",
        "1 if copies are sent to the endpoint and no error about them is known.",
        endpoints
            .iter()
            .map(|endpoint| (labels(endpoint), f64::from(endpoint.is_ready()))),
    );
    counters(
        "traffic_mirror_sent_packets_total",
        "Packets of which the output interface, or its queue, accepted a copy for the endpoint.",
        endpoints
            .iter()
            .map(|endpoint| (labels(endpoint), endpoint.packets)),
    );
    counters(
        "traffic_mirror_sent_bytes_total",
        "Bytes of the packets of which a copy was sent to the endpoint, from the inner IP header on.",
        endpoints
            .iter()
            .map(|endpoint| (labels(endpoint), endpoint.bytes)),
    );
    counters(
        "traffic_mirror_truncated_packets_total",
        "Packets among those sent whose copy was truncated.",
        endpoints
            .iter()
            .map(|endpoint| (labels(endpoint), endpoint.truncated)),
    );
    counters(
        "traffic_mirror_fragmented_packets_total",
        "Packets among those sent whose copy went in several outer IP fragments.",
        endpoints
            .iter()
            .map(|endpoint| (labels(endpoint), endpoint.fragmented)),
    );
    gauges(
        "traffic_mirror_endpoint_state",
        "Always 1; the state of the endpoint, as in status, is a label.",
        endpoints.iter().map(|endpoint| {
            (
                [&*labels(endpoint), &[label("state", endpoint.state)]].concat(),
                1.0,
            )
        }),
    );
    let reached = |endpoint: &EndpointStatus| {
        let (address, port) = (endpoint.address?, endpoint.port?);
        let info = [
            label("address", &address.to_string()),
            label("port", &port.to_string()),
            label("interface", endpoint.interface.as_deref()?),
        ];
        Some(([&*labels(endpoint), &info].concat(), 1.0))
    };
    gauges(
        "traffic_mirror_endpoint_info",
        "Always 1; address, port and output interface of the endpoint are labels. Absent while \
         the endpoint cannot be reached.",
        endpoints.iter().filter_map(reached),
    );
    gauges(
        "traffic_mirror_endpoint_overhead_bytes",
        "Bytes that the outer IP, UDP and GUE headers add to a copy.",
        endpoints
            .iter()
            .filter_map(|endpoint| Some((labels(endpoint), overhead(endpoint.address?)))),
    );
    gauges(
        "traffic_mirror_endpoint_mtu_bytes",
        "Longest outer IP packet to the endpoint, bytes.",
        endpoints
            .iter()
            .filter_map(|endpoint| Some((labels(endpoint), f64::from(endpoint.mtu?)))),
    );
    let kinds = || IcmpError::ALL.iter().map(|kind| kind.label());
    counters(
        "traffic_mirror_icmp_errors_total",
        "ICMP errors that came back about copies to the endpoint, by reason.",
        endpoints.iter().flat_map(|endpoint| {
            by_reason(labels(endpoint), kinds(), |kind| {
                endpoint.errors.get(kind).copied()
            })
        }),
    );
    let reasons = || {
        Drop::ALL
            .iter()
            .filter(|reason| **reason != Drop::None)
            .map(|reason| reason.label())
    };
    counters(
        "traffic_mirror_dropped_packets_total",
        "Packets that matched for the endpoint and of which no copy was sent, by reason.",
        endpoints.iter().flat_map(|endpoint| {
            by_reason(labels(endpoint), reasons(), |reason| {
                endpoint.drops.get(reason).copied()
            })
        }),
    );
}

/// Bytes of the outer headers.
fn overhead(address: IpAddr) -> f64 {
    let outer = match address {
        IpAddr::V4(_) => gue::OUTER4_BYTES,
        IpAddr::V6(_) => gue::OUTER6_BYTES,
    };
    outer as f64
}
