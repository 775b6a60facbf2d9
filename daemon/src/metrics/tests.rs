use std::time::Duration;

use traffic_mirror_ebpf::abi::Drop;

use super::*;
use crate::compile;
use crate::network::Direction;
use crate::report::Report;
use crate::status::{Daemon, EndpointStatus, File, Rate, State};

/// With metrics of each filter.
fn render(status: Option<&Status>, process: &Process) -> String {
    super::render(status, process, &Published::All)
}

fn filter(name: &str, packets: u64) -> FilterStatus {
    FilterStatus {
        name: name.to_owned(),
        active: true,
        state: "active",
        packets,
        bytes: packets * 100,
        rate: Some(Rate::default()),
    }
}

fn endpoint(name: &str, state: &'static str) -> EndpointStatus {
    EndpointStatus {
        name: name.to_owned(),
        state,
        since: None,
        is_sent: true,
        address: "192.0.2.10".parse().ok(),
        dns_name: None,
        port: Some(6080),
        interface: Some("eth1".to_owned()),
        next_hop: None,
        mtu: Some(1500),
        errors: [("port-closed", 4)].into(),
        packets: 3,
        bytes: 300,
        truncated: 0,
        fragmented: 0,
        drops: [("oversize", 2)].into(),
        rate: None,
    }
}

fn interface(name: Option<&str>, direction: &'static str, attached: bool) -> InterfaceStatus {
    InterfaceStatus {
        name: name.map(str::to_owned),
        altname: None,
        index: 2,
        direction,
        attached: attached.then_some("tcx"),
        place: None,
        order: "last".to_owned(),
        in_order: None,
        note: None,
        pending: None,
        skipped: [("not-ip", 7)].into(),
        connections: name.map(|_| [("wanted", 3)].into()),
    }
}

fn file() -> File {
    File {
        path: "/etc/mirror.toml".to_owned(),
        state: Standing::Changed,
        sha256: Some("ab".repeat(32)),
        live_sha256: Some("0123".repeat(16)),
        rejected_sha256: None,
        rejected_at: None,
        changed_at: None,
        error: None,
    }
}

fn status() -> Status {
    Status {
        schema: 1,
        state: State::Degraded,
        degraded: true,
        reasons: vec!["endpoint capture gets no copies: no-route".to_owned()],
        idle: None,
        since: None,
        daemon: Daemon {
            since: Some(1_735_600_000),
            ..Daemon::default()
        },
        file: Some(file()),
        last_reload: Some(1_735_689_599),
        last_rejected: None,
        reloads: Some(4),
        repairs: Some(1),
        interfaces: vec![
            interface(Some("eth0"), "ingress", true),
            interface(Some("eth0"), "egress", false),
        ],
        not_mirrored: Vec::new(),
        filters: vec![filter("dns", 0), filter("web-1.a_b", 5)],
        endpoints: vec![endpoint("capture", "no-route"), endpoint("ids", "ready")],
        outputs: vec![Output {
            interface: "eth1".to_owned(),
            carrier: true,
            queue: Some("fq_codel".to_owned()),
            queue_drops: 6,
            device_drops: 1,
            hears_errors: true,
        }],
        dns_names: Vec::new(),
    }
}

fn report(writes: usize, millis: u64) -> Report {
    Report {
        writes,
        duration: Duration::from_millis(millis),
        ..Report::default()
    }
}

/// The values of a family, by what stands in braces.
fn series<'t>(text: &'t str, family: &str) -> Vec<(&'t str, &'t str)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(family));
    lines
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit_once(' '))
        .map(|(labels, value)| (labels.trim_start_matches('{').trim_end_matches('}'), value))
        .collect()
}

#[test]
fn the_whole_text() {
    let mut process = Process::of("0123456789ab");
    process.applied(true, Some(&report(35, 4)));
    let text = render(Some(&status()), &process);
    let drops = |endpoint: &str| -> String {
        let mut reasons: Vec<_> = Drop::ALL[1..].iter().map(|reason| reason.label()).collect();
        reasons.sort_unstable();
        let count = |reason: &str| u64::from(reason == "oversize") * 2;
        let line = |reason| {
            let count = count(reason);
            format!(
                "traffic_mirror_dropped_packets_total{{endpoint=\"{endpoint}\",reason=\"{reason}\"}} {count}\n"
            )
        };
        reasons.into_iter().map(line).collect()
    };
    let expected = [
        r#"# HELP traffic_mirror_build_info Always 1; version and revision of the daemon are labels.
# TYPE traffic_mirror_build_info gauge
traffic_mirror_build_info{version="VERSION",revision="0123456789ab"} 1
# HELP traffic_mirror_config_file_is_live 1 if the file on disk is the live version.
# TYPE traffic_mirror_config_file_is_live gauge
traffic_mirror_config_file_is_live 0
# HELP traffic_mirror_config_info Always 1; the SHA-256 of the live version of the file is a label.
# TYPE traffic_mirror_config_info gauge
traffic_mirror_config_info{sha256="0123012301230123012301230123012301230123012301230123012301230123"} 1
# HELP traffic_mirror_config_last_reload_duration_seconds Seconds that the last successful reload took.
# TYPE traffic_mirror_config_last_reload_duration_seconds gauge
traffic_mirror_config_last_reload_duration_seconds 0.004
# HELP traffic_mirror_config_last_reload_success_timestamp_seconds Time of the last successful reload, seconds since 1970.
# TYPE traffic_mirror_config_last_reload_success_timestamp_seconds gauge
traffic_mirror_config_last_reload_success_timestamp_seconds 1735689599
# HELP traffic_mirror_config_last_reload_successful 1 if the file that the daemon last read is live; 0 if the daemon or the kernel rejected it.
# TYPE traffic_mirror_config_last_reload_successful gauge
traffic_mirror_config_last_reload_successful 1
# HELP traffic_mirror_config_reload_failures_total Times that the daemon or the kernel rejected the file.
# TYPE traffic_mirror_config_reload_failures_total counter
traffic_mirror_config_reload_failures_total 0
# HELP traffic_mirror_config_reloads_total Times that the daemon read the file: at its start, after a change, on SIGHUP.
# TYPE traffic_mirror_config_reloads_total counter
traffic_mirror_config_reloads_total 1
# HELP traffic_mirror_connections_total Connections that filters with server_name may match, by what was found of the name of the server. Forged connections count as well.
# TYPE traffic_mirror_connections_total counter
traffic_mirror_connections_total{interface="eth0",direction="egress",result="ech"} 0
traffic_mirror_connections_total{interface="eth0",direction="egress",result="mid-flow"} 0
traffic_mirror_connections_total{interface="eth0",direction="egress",result="no-name"} 0
traffic_mirror_connections_total{interface="eth0",direction="egress",result="no-room"} 0
traffic_mirror_connections_total{interface="eth0",direction="egress",result="other-name"} 0
traffic_mirror_connections_total{interface="eth0",direction="egress",result="other-protocol"} 0
traffic_mirror_connections_total{interface="eth0",direction="egress",result="server-first"} 0
traffic_mirror_connections_total{interface="eth0",direction="egress",result="too-long"} 0
traffic_mirror_connections_total{interface="eth0",direction="egress",result="wanted"} 3
traffic_mirror_connections_total{interface="eth0",direction="ingress",result="ech"} 0
traffic_mirror_connections_total{interface="eth0",direction="ingress",result="mid-flow"} 0
traffic_mirror_connections_total{interface="eth0",direction="ingress",result="no-name"} 0
traffic_mirror_connections_total{interface="eth0",direction="ingress",result="no-room"} 0
traffic_mirror_connections_total{interface="eth0",direction="ingress",result="other-name"} 0
traffic_mirror_connections_total{interface="eth0",direction="ingress",result="other-protocol"} 0
traffic_mirror_connections_total{interface="eth0",direction="ingress",result="server-first"} 0
traffic_mirror_connections_total{interface="eth0",direction="ingress",result="too-long"} 0
traffic_mirror_connections_total{interface="eth0",direction="ingress",result="wanted"} 3
# HELP traffic_mirror_degraded 1 if something that the file asks for does not work; traffic-mirror status names it.
# TYPE traffic_mirror_degraded gauge
traffic_mirror_degraded 1
# HELP traffic_mirror_dropped_packets_total Packets that matched for the endpoint and of which no copy was sent, by reason.
# TYPE traffic_mirror_dropped_packets_total counter
"#
        .replace("VERSION", env!("CARGO_PKG_VERSION")),
        drops("capture"),
        drops("ids"),
        r#"# HELP traffic_mirror_endpoint_info Always 1; address, port and output interface of the endpoint are labels. Absent while the endpoint cannot be reached.
# TYPE traffic_mirror_endpoint_info gauge
traffic_mirror_endpoint_info{endpoint="capture",address="192.0.2.10",port="6080",interface="eth1"} 1
traffic_mirror_endpoint_info{endpoint="ids",address="192.0.2.10",port="6080",interface="eth1"} 1
# HELP traffic_mirror_endpoint_mtu_bytes Longest outer IP packet to the endpoint, bytes.
# TYPE traffic_mirror_endpoint_mtu_bytes gauge
traffic_mirror_endpoint_mtu_bytes{endpoint="capture"} 1500
traffic_mirror_endpoint_mtu_bytes{endpoint="ids"} 1500
# HELP traffic_mirror_endpoint_overhead_bytes Bytes that the outer IP, UDP and GUE headers add to a copy.
# TYPE traffic_mirror_endpoint_overhead_bytes gauge
traffic_mirror_endpoint_overhead_bytes{endpoint="capture"} 32
traffic_mirror_endpoint_overhead_bytes{endpoint="ids"} 32
# HELP traffic_mirror_endpoint_ready 1 if copies are sent to the endpoint and no error about them is known.
# TYPE traffic_mirror_endpoint_ready gauge
traffic_mirror_endpoint_ready{endpoint="capture"} 0
traffic_mirror_endpoint_ready{endpoint="ids"} 1
# HELP traffic_mirror_endpoint_state Always 1; the state of the endpoint, as in status, is a label.
# TYPE traffic_mirror_endpoint_state gauge
traffic_mirror_endpoint_state{endpoint="capture",state="no-route"} 1
traffic_mirror_endpoint_state{endpoint="ids",state="ready"} 1
# HELP traffic_mirror_filter_active 1 if the filter is in force on an interface.
# TYPE traffic_mirror_filter_active gauge
traffic_mirror_filter_active{filter="dns"} 1
traffic_mirror_filter_active{filter="web-1.a_b"} 1
# HELP traffic_mirror_filters Filters of the file, by state.
# TYPE traffic_mirror_filters gauge
traffic_mirror_filters{state="active"} 2
traffic_mirror_filters{state="disabled"} 0
traffic_mirror_filters{state="mirroring-off"} 0
traffic_mirror_filters{state="no-address"} 0
traffic_mirror_filters{state="no-interface"} 0
# HELP traffic_mirror_fragmented_packets_total Packets among those sent whose copy went in several outer IP fragments.
# TYPE traffic_mirror_fragmented_packets_total counter
traffic_mirror_fragmented_packets_total{endpoint="capture"} 0
traffic_mirror_fragmented_packets_total{endpoint="ids"} 0
# HELP traffic_mirror_icmp_errors_total ICMP errors that came back about copies to the endpoint, by reason.
# TYPE traffic_mirror_icmp_errors_total counter
traffic_mirror_icmp_errors_total{endpoint="capture",reason="packet-too-big"} 0
traffic_mirror_icmp_errors_total{endpoint="capture",reason="port-closed"} 4
traffic_mirror_icmp_errors_total{endpoint="capture",reason="time-exceeded"} 0
traffic_mirror_icmp_errors_total{endpoint="capture",reason="unreachable"} 0
traffic_mirror_icmp_errors_total{endpoint="ids",reason="packet-too-big"} 0
traffic_mirror_icmp_errors_total{endpoint="ids",reason="port-closed"} 4
traffic_mirror_icmp_errors_total{endpoint="ids",reason="time-exceeded"} 0
traffic_mirror_icmp_errors_total{endpoint="ids",reason="unreachable"} 0
# HELP traffic_mirror_interface_attached 1 if the program is attached; 0 also for listed interfaces that are missing, if that is a fault.
# TYPE traffic_mirror_interface_attached gauge
traffic_mirror_interface_attached{interface="eth0",direction="egress"} 0
traffic_mirror_interface_attached{interface="eth0",direction="ingress"} 1
# HELP traffic_mirror_interface_state Always 1; the state is a label: attached, not-attached, or the reason why the interface is not mirrored.
# TYPE traffic_mirror_interface_state gauge
traffic_mirror_interface_state{interface="eth0",direction="egress",state="not-attached"} 1
traffic_mirror_interface_state{interface="eth0",direction="ingress",state="attached"} 1
# HELP traffic_mirror_interfaces_left_out Wanted interfaces that are not mirrored, or not in all directions that the file lists, by reason.
# TYPE traffic_mirror_interfaces_left_out gauge
traffic_mirror_interfaces_left_out{reason="absent"} 0
traffic_mirror_interfaces_left_out{reason="attach-failed"} 0
traffic_mirror_interfaces_left_out{reason="kind"} 0
traffic_mirror_interfaces_left_out{reason="l3s"} 0
traffic_mirror_interfaces_left_out{reason="limit"} 0
traffic_mirror_interfaces_left_out{reason="vrf"} 0
traffic_mirror_interfaces_left_out{reason="waiting"} 0
# HELP traffic_mirror_interfaces_wanted Interfaces that names and globs of the file match, and names that no interface has.
# TYPE traffic_mirror_interfaces_wanted gauge
traffic_mirror_interfaces_wanted 1
# HELP traffic_mirror_map_writes_total Elements that the daemon wrote into eBPF maps.
# TYPE traffic_mirror_map_writes_total counter
traffic_mirror_map_writes_total 35
# HELP traffic_mirror_matched_bytes_total Bytes of the packets that the filter matched, from the IP header on.
# TYPE traffic_mirror_matched_bytes_total counter
traffic_mirror_matched_bytes_total{filter="dns"} 0
traffic_mirror_matched_bytes_total{filter="web-1.a_b"} 500
# HELP traffic_mirror_matched_packets_total Packets that the filter matched; a superpacket counts as its segments.
# TYPE traffic_mirror_matched_packets_total counter
traffic_mirror_matched_packets_total{filter="dns"} 0
traffic_mirror_matched_packets_total{filter="web-1.a_b"} 5
# HELP traffic_mirror_output_carrier 1 if the output interface has a carrier.
# TYPE traffic_mirror_output_carrier gauge
traffic_mirror_output_carrier{interface="eth1"} 1
# HELP traffic_mirror_output_dropped_packets_total Packets, copies and others, that the queue or the device of the output interface dropped.
# TYPE traffic_mirror_output_dropped_packets_total counter
traffic_mirror_output_dropped_packets_total{interface="eth1",reason="device"} 1
traffic_mirror_output_dropped_packets_total{interface="eth1",reason="queue"} 6
# HELP traffic_mirror_process_start_time_seconds Time at which the daemon started, seconds since 1970.
# TYPE traffic_mirror_process_start_time_seconds gauge
traffic_mirror_process_start_time_seconds 1735600000
# HELP traffic_mirror_repairs_total Times that the daemon restored something that another process had detached, deleted or modified.
# TYPE traffic_mirror_repairs_total counter
traffic_mirror_repairs_total 1
# HELP traffic_mirror_sent_bytes_total Bytes of the packets of which a copy was sent to the endpoint, from the inner IP header on.
# TYPE traffic_mirror_sent_bytes_total counter
traffic_mirror_sent_bytes_total{endpoint="capture"} 300
traffic_mirror_sent_bytes_total{endpoint="ids"} 300
# HELP traffic_mirror_sent_packets_total Packets of which the output interface, or its queue, accepted a copy for the endpoint.
# TYPE traffic_mirror_sent_packets_total counter
traffic_mirror_sent_packets_total{endpoint="capture"} 3
traffic_mirror_sent_packets_total{endpoint="ids"} 3
# HELP traffic_mirror_skipped_packets_total Packets that no filter was matched against, or (orphan-fragment, ambiguous-fragment, unparsed) that were matched with unknown ports or protocol, by reason.
# TYPE traffic_mirror_skipped_packets_total counter
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="ambiguous-fragment"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="copy"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="loop"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="malformed"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="nested"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="not-ip"} 7
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="orphan-fragment"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="recursion"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="table"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="undecided"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="unparsed"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="egress",reason="unread-initial"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="ambiguous-fragment"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="copy"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="loop"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="malformed"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="nested"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="not-ip"} 7
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="orphan-fragment"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="recursion"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="table"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="undecided"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="unparsed"} 0
traffic_mirror_skipped_packets_total{interface="eth0",direction="ingress",reason="unread-initial"} 0
# HELP traffic_mirror_truncated_packets_total Packets among those sent whose copy was truncated.
# TYPE traffic_mirror_truncated_packets_total counter
traffic_mirror_truncated_packets_total{endpoint="capture"} 0
traffic_mirror_truncated_packets_total{endpoint="ids"} 0
"#
        .to_owned(),
    ]
    .concat();
    assert_eq!(text, expected);
}

#[test]
fn what_is_gone_has_no_series() {
    let before = render(Some(&status()), &Process::default());
    assert_eq!(
        series(&before, "traffic_mirror_matched_packets_total").len(),
        2
    );
    let mut status = status();
    status.filters.remove(0);
    status.endpoints.clear();
    status.interfaces.push(interface(None, "ingress", false));
    let after = render(Some(&status), &Process::default());
    assert_eq!(
        series(&after, "traffic_mirror_matched_packets_total"),
        [("filter=\"web-1.a_b\"", "5")]
    );
    assert!(!after.contains("endpoint="), "{after}");
    assert_eq!(
        series(&after, "traffic_mirror_interface_attached").len(),
        2,
        "one without a name has none"
    );
    // nothing is mirrored
    let bare = render(None, &Process::default());
    assert!(
        bare.ends_with('\n') && !bare.contains("filter=") && bare.contains("build_info"),
        "{bare}"
    );
}

/// `count` interfaces that are not mirrored for a reason.
fn missing(
    count: usize,
    name: &str,
    is_exact: bool,
    why: Why,
) -> impl Iterator<Item = NotMirrored> {
    let directions = vec![Direction::Ingress, Direction::Egress];
    let one = compile::NotMirrored {
        name: name.to_owned(),
        entry: name.to_owned(),
        is_exact,
        directions,
        order: Default::default(),
        why,
    };
    (0..count).map(move |nth| {
        NotMirrored::of(&compile::NotMirrored {
            name: format!("{name}{nth:04}"),
            ..one.clone()
        })
    })
}

#[test]
fn what_is_not_mirrored_is_0_and_counted_by_reason() {
    let mut status = status();
    let absent = missing(1, "eht", true, Why::Absent).chain(missing(1, "wl*", false, Why::Pending));
    // a fault only by its own name
    let unsupported = missing(1, "red", false, Why::Vrf).chain(missing(1, "blue", true, Why::Vrf));
    status.not_mirrored = absent
        .chain(unsupported)
        .chain(missing(2000, "veth", false, Why::Limit))
        .collect();
    let text = render(Some(&status), &Process::default());
    let attached = series(&text, "traffic_mirror_interface_attached");
    let of = |name: &str| {
        attached
            .iter()
            .filter(|(labels, value)| labels.contains(name) && *value == "0")
            .count()
    };
    assert_eq!((of("\"eht0000\""), of("wl*")), (2, 0), "{attached:?}");
    assert_eq!(
        (of("\"red0000\""), of("\"blue0000\"")),
        (0, 2),
        "{attached:?}"
    );
    assert_eq!(
        attached.len(),
        2 + 2 * MOST_NOT_MIRRORED,
        "thousands of containers are no thousands of series"
    );
    let left_out = series(&text, "traffic_mirror_interfaces_left_out");
    assert!(
        left_out.contains(&("reason=\"limit\"", "2000"))
            && left_out.contains(&("reason=\"absent\"", "1"))
    );
    assert_eq!(
        series(&text, "traffic_mirror_interfaces_wanted")[0].1,
        "2004"
    );
}

#[test]
fn names_of_interfaces_are_escaped() {
    let (mut status, mut told) = (status(), Vec::new());
    for name in [
        r#"a"b"#, r"a\b", r"a\\b", r#"a\"b"#, r"a\n", r"a\", "a{b}", "a,b=ü",
    ] {
        status.interfaces = vec![interface(Some(name), "ingress", true)];
        let text = render(Some(&status), &Process::default());
        let escaped = name.replace('\\', r"\\").replace('"', r#"\""#);
        let labels = format!("{{interface=\"{escaped}\",direction=\"ingress\"}} 1");
        assert!(
            text.lines().any(|line| line.ends_with(&labels)),
            "{name}: {labels}\n{text}"
        );
        told.push(labels);
    }
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 8, "no two are alike");
}

#[test]
fn reloads_and_failures_are_counted() {
    let mut process = Process::default();
    let told = |process: &Process| -> Vec<String> {
        let text = render(None, process);
        let value = |name: &str| {
            series(&text, &format!("traffic_mirror_{name}"))[0]
                .1
                .to_owned()
        };
        [
            "config_last_reload_successful",
            "config_reloads_total",
            "config_reload_failures_total",
            "map_writes_total",
        ]
        .map(value)
        .into()
    };
    process.applied(true, Some(&report(10, 4)));
    assert_eq!(told(&process), ["1", "1", "0", "10"]);
    process.rejected();
    assert_eq!(told(&process), ["0", "2", "1", "10"]);
    // the network has changed; the file is still wrong
    process.applied(false, Some(&report(3, 9)));
    assert_eq!(told(&process), ["0", "2", "1", "13"]);
    process.applied(true, None);
    assert_eq!(told(&process), ["0", "3", "2", "13"]);
    process.applied(false, None);
    assert_eq!(told(&process), ["0", "3", "2", "13"], "no reload");
    // the kernel has come to accept it
    process.applied(false, Some(&report(2, 9)));
    assert_eq!(told(&process), ["1", "3", "2", "15"]);
    assert!(
        render(None, &process).contains("duration_seconds 0.004\n"),
        "of the last reload"
    );
}

#[test]
fn an_endpoint_out_of_reach_has_no_address_and_ipv6_adds_more() {
    let mut status = status();
    status.endpoints[0].address = "2001:db8::10".parse().ok();
    let endpoint = &mut status.endpoints[1];
    (endpoint.address, endpoint.port, endpoint.interface) = (None, None, None);
    let text = render(Some(&status), &Process::default());
    assert_eq!(
        series(&text, "traffic_mirror_endpoint_info"),
        [(
            "endpoint=\"capture\",address=\"2001:db8::10\",port=\"6080\",interface=\"eth1\"",
            "1"
        )]
    );
    assert_eq!(
        series(&text, "traffic_mirror_endpoint_overhead_bytes"),
        [("endpoint=\"capture\"", "52")]
    );
}

#[test]
fn only_the_filters_that_the_file_names_have_series() {
    const OF_A_FILTER: [&str; 3] = [
        "filter_active",
        "matched_packets_total",
        "matched_bytes_total",
    ];
    let mut status = status();
    status.filters[0].state = "disabled";
    let patterns = |text| vec![glob::Pattern::new(text).expect("a glob")];
    for (published, names) in [
        (Published::All, &["dns", "web-1.a_b"][..]),
        (Published::None, &[]),
        (Published::Matching(patterns("web-*")), &["web-1.a_b"]),
        (Published::Matching(patterns("dns")), &["dns"]),
        (Published::Matching(patterns("dn")), &[]),
    ] {
        let text = super::render(Some(&status), &Process::default(), &published);
        for family in OF_A_FILTER {
            let family = format!("traffic_mirror_{family}");
            let found: Vec<_> = series(&text, &family)
                .iter()
                .map(|(labels, _)| *labels)
                .collect();
            let expected: Vec<_> = names
                .iter()
                .map(|name| format!("filter=\"{name}\""))
                .collect();
            assert_eq!(found, expected, "{published:?}");
        }
        // their number by state stays
        let states = series(&text, "traffic_mirror_filters");
        assert_eq!(
            (states[0], states[1]),
            (("state=\"active\"", "1"), ("state=\"disabled\"", "1"))
        );
    }
}

#[test]
fn many_filters_are_told_in_order() {
    let mut status = status();
    status.filters = (0..1000)
        .map(|n| filter(&format!("filter-{n:04}"), n))
        .collect();
    let text = render(Some(&status), &Process::default());
    let told = series(&text, "traffic_mirror_matched_packets_total");
    let expected: Vec<_> = (0..1000)
        .map(|n| (format!("filter=\"filter-{n:04}\""), n.to_string()))
        .collect();
    assert!(
        told.iter()
            .map(|(a, b)| (a.to_string(), b.to_string()))
            .eq(expected),
        "{told:?}"
    );
    assert_eq!(text, render(Some(&status), &Process::default()));
}
