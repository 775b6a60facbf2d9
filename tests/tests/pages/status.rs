//! A status for those who render it.

use std::collections::BTreeMap;

use traffic_mirror::compile::READY;
use traffic_mirror::status::{
    Daemon, EndpointStatus, File, FilterStatus, InterfaceStatus, Output, Standing, State, Status,
};

/// A status in which everything is there once.
pub(crate) fn everything() -> Status {
    Status {
        schema: 1,
        state: State::Ok,
        degraded: false,
        reasons: Vec::new(),
        idle: None,
        since: None,
        daemon: Daemon {
            since: Some(1),
            ..Daemon::default()
        },
        file: Some(File {
            path: "/etc/mirror.toml".to_owned(),
            state: Standing::Live,
            sha256: Some("0".to_owned()),
            live_sha256: Some("0".to_owned()),
            rejected_sha256: None,
            rejected_at: None,
            changed_at: None,
            error: None,
        }),
        last_reload: Some(1),
        last_rejected: None,
        reloads: Some(1),
        repairs: Some(0),
        interfaces: vec![InterfaceStatus {
            name: Some("eth0".to_owned()),
            altname: None,
            index: 2,
            direction: "ingress",
            attached: Some("tcx"),
            place: None,
            order: "last".to_owned(),
            in_order: None,
            pending: None,
            note: None,
            skipped: BTreeMap::new(),
            connections: Some([("wanted", 1)].into()),
        }],
        not_mirrored: Vec::new(),
        filters: vec![FilterStatus {
            name: "web".to_owned(),
            active: true,
            state: "active",
            packets: 1,
            bytes: 1,
            rate: None,
        }],
        endpoints: vec![EndpointStatus {
            name: "ids".to_owned(),
            state: READY,
            since: None,
            is_sent: true,
            address: "192.0.2.10".parse().ok(),
            dns_name: None,
            port: Some(6080),
            interface: Some("eth1".to_owned()),
            next_hop: None,
            mtu: Some(1500),
            errors: BTreeMap::new(),
            packets: 1,
            bytes: 1,
            truncated: 0,
            fragmented: 0,
            drops: BTreeMap::new(),
            rate: None,
        }],
        outputs: vec![Output {
            interface: "eth1".to_owned(),
            carrier: true,
            queue: None,
            queue_drops: 0,
            device_drops: 0,
            hears_errors: true,
        }],
        dns_names: Vec::new(),
    }
}
