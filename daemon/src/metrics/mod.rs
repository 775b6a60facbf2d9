//! Input: the status as read from the kernel, and what the daemon has done. Output: metrics in
//! Prometheus' text format (version 0.0.4). Pure; metrics/textfile.rs writes them.

mod dns;
mod endpoints;
mod process;
mod textfile;

use std::collections::BTreeSet;

use metrics::{Label, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use traffic_mirror_ebpf::abi::{NameFound, Skipped};

use crate::compile::Why;
use crate::desired::Published;
use crate::status::{FilterStatus, InterfaceStatus, NotMirrored, Output, Standing, Status};

pub use process::Process;
pub use textfile::Textfile;

/// Renders all metrics, sorted, without series of what is not there any more: a recorder forgets
/// nothing, so each text has its own. Without a status nothing is mirrored. Only `published` filters
/// have series of their own.
pub fn render(status: Option<&Status>, process: &Process, published: &Published) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        process::record(process);
        if let Some(status) = status {
            record_status(status);
            record_interfaces(&status.interfaces, &status.not_mirrored);
            record_filters(&status.filters, published);
            endpoints::record(&status.endpoints);
            record_outputs(&status.outputs);
        }
    });
    sorted(&recorder.handle().render())
}

fn record_status(status: &Status) {
    gauges(
        "traffic_mirror_config_last_reload_success_timestamp_seconds",
        "Time of the last successful reload, seconds since 1970.",
        status.last_reload.map(|at| (Vec::new(), at as f64)),
    );
    gauges(
        "traffic_mirror_process_start_time_seconds",
        "Time at which the daemon started, seconds since 1970.",
        status.daemon.since.map(|at| (Vec::new(), at as f64)),
    );
    let file = status.file.as_ref();
    gauges(
        "traffic_mirror_config_info",
        "Always 1; the SHA-256 of the live version of the file is a label.",
        file.and_then(|file| file.live_sha256.as_ref())
            .map(|hash| (vec![label("sha256", hash)], 1.0)),
    );
    gauges(
        "traffic_mirror_config_file_is_live",
        "1 if the file on disk is the live version.",
        file.map(|file| (Vec::new(), f64::from(file.state == Standing::Live))),
    );
    counters(
        "traffic_mirror_repairs_total",
        "Times that the daemon restored something that another process had detached, deleted or modified.",
        status.repairs.map(|repairs| (Vec::new(), repairs)),
    );
    gauges(
        "traffic_mirror_degraded",
        "1 if something that the file asks for does not work; traffic-mirror status names it.",
        one(f64::from(status.degraded)),
    );
}

/// Interfaces that are not mirrored and have a series of their own: of containers that come and go
/// there may be thousands.
const MOST_NOT_MIRRORED: usize = 128;

fn record_interfaces(interfaces: &[InterfaceStatus], not_mirrored: &[NotMirrored]) {
    let missing = || not_mirrored.iter().filter(|one| one.is_interface);
    // one that is gone has no name, and is soon no part of the status either
    let hooks = || {
        interfaces.iter().filter_map(|interface| {
            let name = interface.name.as_deref()?;
            Some((
                interface,
                vec![
                    label("interface", name),
                    label("direction", interface.direction),
                ],
            ))
        })
    };
    // what only a glob lists and tc does not see is as it should be
    let faults = missing().filter(|one| one.is_fault);
    let without = faults.take(MOST_NOT_MIRRORED).flat_map(|one| {
        let labels = |direction| vec![label("interface", &one.name), label("direction", direction)];
        one.directions
            .iter()
            .map(move |direction| (labels(direction), 0.0))
    });
    gauges(
        "traffic_mirror_interface_attached",
        "1 if the program is attached; 0 also for listed interfaces that are missing, if that is a fault.",
        hooks()
            .map(|(interface, labels)| (labels, f64::from(interface.attached.is_some())))
            .chain(without),
    );
    let state = |mut labels: Vec<Label>, state: &'static str| {
        labels.push(label("state", state));
        (labels, 1.0)
    };
    let there = hooks().map(|(interface, labels)| {
        state(
            labels,
            if interface.attached.is_some() {
                "attached"
            } else {
                "not-attached"
            },
        )
    });
    let not_there = missing().take(MOST_NOT_MIRRORED).flat_map(|one| {
        let labels = |direction| vec![label("interface", &one.name), label("direction", direction)];
        one.directions
            .iter()
            .map(move |direction| state(labels(direction), one.reason))
    });
    gauges(
        "traffic_mirror_interface_state",
        "Always 1; the state is a label: attached, not-attached, or the reason why the \
         interface is not mirrored.",
        there.chain(not_there),
    );
    let names = interfaces
        .iter()
        .filter_map(|interface| interface.name.as_deref());
    let wanted: BTreeSet<&str> = names.chain(missing().map(|one| &*one.name)).collect();
    gauges(
        "traffic_mirror_interfaces_wanted",
        "Interfaces that names and globs of the file match, and names that no interface has.",
        one(wanted.len() as f64),
    );
    let reasons = Why::LABELS
        .into_iter()
        .filter(|reason| *reason != Why::Pending.label());
    let left_out = |reason: &str| missing().filter(|one| one.reason == reason).count() as f64;
    gauges(
        "traffic_mirror_interfaces_left_out",
        "Wanted interfaces that are not mirrored, or not in all directions that the file lists, by reason.",
        reasons.map(|reason| (vec![label("reason", reason)], left_out(reason))),
    );
    let skipped = |(interface, labels): (&InterfaceStatus, Vec<Label>)| {
        let counts = interface.skipped.clone();
        by_reason(
            labels,
            Skipped::ALL.iter().map(|reason| reason.label()),
            move |reason| counts.get(reason).copied(),
        )
    };
    counters(
        "traffic_mirror_skipped_packets_total",
        "Packets that no filter was matched against, or (orphan-fragment, ambiguous-fragment, \
         unparsed) that were matched with unknown ports or protocol, by reason.",
        hooks().flat_map(skipped),
    );
    let connections = |(interface, labels): (&InterfaceStatus, Vec<Label>)| {
        // no series where no filter gives names
        let counts = interface.connections.clone().into_iter();
        counts.flat_map(move |counts| {
            let results = NameFound::ALL.iter().map(|found| found.label());
            let count = move |result: &str| counts.get(result).copied();
            by("result", labels.clone(), results, count)
        })
    };
    counters(
        "traffic_mirror_connections_total",
        "Connections that filters with server_name may match, by what was found of the name of the \
         server. Forged connections count as well.",
        hooks().flat_map(connections),
    );
}

/// The states of a filter.
const FILTER_STATES: [&str; 5] = [
    "active",
    "disabled",
    "mirroring-off",
    "no-interface",
    "no-address",
];

fn record_filters(filters: &[FilterStatus], published: &Published) {
    let count = |state| filters.iter().filter(|one| one.state == state).count() as f64;
    gauges(
        "traffic_mirror_filters",
        "Filters of the file, by state.",
        FILTER_STATES.map(|state| (vec![label("state", state)], count(state))),
    );
    let labels = |filter: &FilterStatus| vec![label("filter", &filter.name)];
    let filters: Vec<&FilterStatus> = filters
        .iter()
        .filter(|filter| published.has(&filter.name))
        .collect();
    gauges(
        "traffic_mirror_filter_active",
        "1 if the filter is in force on an interface.",
        filters
            .iter()
            .map(|filter| (labels(filter), f64::from(filter.active))),
    );
    counters(
        "traffic_mirror_matched_packets_total",
        "Packets that the filter matched; a superpacket counts as its segments.",
        filters
            .iter()
            .map(|filter| (labels(filter), filter.packets)),
    );
    counters(
        "traffic_mirror_matched_bytes_total",
        "Bytes of the packets that the filter matched, from the IP header on.",
        filters.iter().map(|filter| (labels(filter), filter.bytes)),
    );
}

fn record_outputs(outputs: &[Output]) {
    let labels = |output: &Output| vec![label("interface", &output.interface)];
    gauges(
        "traffic_mirror_output_carrier",
        "1 if the output interface has a carrier.",
        outputs
            .iter()
            .map(|output| (labels(output), f64::from(output.carrier))),
    );
    let drops = |output: &Output| {
        [
            ("queue", output.queue_drops.into()),
            ("device", output.device_drops),
        ]
        .map(|(place, count)| {
            (
                [&*labels(output), &[label("reason", place)]].concat(),
                count,
            )
        })
    };
    counters(
        "traffic_mirror_output_dropped_packets_total",
        "Packets, copies and others, that the queue or the device of the output interface dropped.",
        outputs.iter().flat_map(drops),
    );
}

/// Each reason is a series from the beginning, so that the first packet of it is an increase.
fn by_reason(
    labels: Vec<Label>,
    reasons: impl Iterator<Item = &'static str>,
    count: impl Fn(&str) -> Option<u64>,
) -> impl Iterator<Item = (Vec<Label>, u64)> {
    by("reason", labels, reasons, count)
}

/// The same for another label.
fn by(
    name: &'static str,
    labels: Vec<Label>,
    values: impl Iterator<Item = &'static str>,
    count: impl Fn(&str) -> Option<u64>,
) -> impl Iterator<Item = (Vec<Label>, u64)> {
    values.map(move |value| {
        (
            [&*labels, &[label(name, value)]].concat(),
            count(value).unwrap_or(0),
        )
    })
}

/// The one series of a family without labels.
fn one<T>(value: T) -> [(Vec<Label>, T); 1] {
    [(Vec::new(), value)]
}

fn counters(
    name: &'static str,
    help: &'static str,
    series: impl IntoIterator<Item = (Vec<Label>, u64)>,
) {
    describe_counter!(name, help);
    series
        .into_iter()
        .for_each(|(labels, value)| counter!(name, labels).increment(value));
}

fn gauges(
    name: &'static str,
    help: &'static str,
    series: impl IntoIterator<Item = (Vec<Label>, f64)>,
) {
    describe_gauge!(name, help);
    series
        .into_iter()
        .for_each(|(labels, value)| gauge!(name, labels).set(value));
}

/// The exporter takes a backslash before another one or before a quote for an escape; names of
/// interfaces may have both.
fn label(name: &'static str, value: &str) -> Label {
    Label::new(name, value.replace('\\', r"\\"))
}

/// Families and their series by name, since the exporter has them in no order; "# HELP" and "#
/// TYPE" sort before series.
fn sorted(text: &str) -> String {
    let mut families: Vec<Vec<&str>> = text
        .split("\n\n")
        .map(|family| family.lines().collect())
        .collect();
    families.iter_mut().for_each(|lines| lines.sort_unstable());
    families.sort_unstable();
    families
        .iter()
        .flatten()
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[cfg(test)]
mod tests;
