//! Input: the maps and pins in the kernel; no daemon is queried. Output: [`Status`], for people and
//! as JSON.

mod brief;
mod chosen;
mod clock;
mod daemon;
mod dns;
mod file;
mod filter;
mod listed;
mod named;
mod paint;
mod rate;
mod read;
mod reasons;
mod server_names;
mod text;
mod top;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::compile::READY;
use crate::desired::{Desired, Unparsed};
use crate::report::plural;

/// What is mirrored at the moment.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Version of this structure: [`SCHEMA`].
    pub schema: u32,
    /// In one word.
    pub state: State,
    /// The state is not "ok": there are reasons.
    pub degraded: bool,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
    /// Why no packet can match a filter, although that may be what the file asks for.
    pub idle: Option<&'static str>,
    /// Since when, seconds since 1970, as far as known.
    pub since: Option<u64>,
    /// The daemon.
    pub daemon: Daemon,
    /// The file that the daemon follows; absent without a record.
    pub file: Option<File>,
    /// When the file was last loaded, seconds since 1970.
    pub last_reload: Option<u64>,
    /// When the file was last rejected, if it was not loaded since: mirroring continues with the
    /// last valid version, and the status is degraded.
    pub last_rejected: Option<u64>,
    /// Times that the file was loaded since mirroring began.
    pub reloads: Option<u64>,
    /// Times that the daemon attached programs again or restored the maps after another process.
    pub repairs: Option<u64>,
    /// Where packets are matched.
    pub interfaces: Vec<InterfaceStatus>,
    /// The other interfaces of the file, and why packets are not matched there.
    pub not_mirrored: Vec<NotMirrored>,
    /// The filters.
    pub filters: Vec<FilterStatus>,
    /// Where copies go.
    pub endpoints: Vec<EndpointStatus>,
    /// The interfaces that copies leave by.
    pub outputs: Vec<Output>,
    /// The DNS names of the file, as far as [`Self::add_dns_names`] was told of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<DnsName>,
}

/// Version of [`Status`] as JSON, which packaging/schema/status.schema.json describes.
pub const SCHEMA: u32 = 1;

/// The status in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All that is wanted works.
    #[default]
    Ok,
    /// Something that is wanted does not work.
    Degraded,
    /// Nothing is mirrored: there are no maps.
    Inactive,
    /// The status cannot be read.
    Unknown,
}

impl Status {
    /// The status without maps that can be read, and why there are none.
    pub fn without_maps(state: State, daemon: Daemon, reasons: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            state,
            degraded: true,
            reasons,
            idle: None,
            since: None,
            daemon,
            file: None,
            last_reload: None,
            last_rejected: None,
            reloads: None,
            repairs: None,
            interfaces: Vec::new(),
            not_mirrored: Vec::new(),
            filters: Vec::new(),
            endpoints: Vec::new(),
            outputs: Vec::new(),
            dns_names: Vec::new(),
        }
    }
}

/// An output interface. Its counters include all packets that it sends.
#[derive(Debug, Clone, Serialize)]
pub struct Output {
    /// Its name.
    pub interface: String,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Kind of its queueing discipline; absent if it has none.
    pub queue: Option<String>,
    /// Packets that the queueing discipline has dropped, possibly after it accepted them.
    pub queue_drops: u32,
    /// Packets that the device has dropped or failed to send.
    pub device_drops: u64,
    /// Whether ICMP errors about copies that come back there are counted.
    pub hears_errors: bool,
}

/// One direction of one interface.
#[derive(Debug, Clone, Serialize)]
pub struct InterfaceStatus {
    /// Its name; absent if it is gone.
    pub name: Option<String>,
    /// The alternative name that the file lists it by; absent if it does so by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub altname: Option<String>,
    /// Its index.
    pub index: u32,
    /// "ingress" or "egress".
    pub direction: &'static str,
    /// "tcx" or "clsact"; absent if the program is not attached.
    pub attached: Option<&'static str>,
    /// Where it stands among the programs there.
    pub place: Option<ChainPosition>,
    /// Where it is to stand, as in the file.
    pub order: String,
    /// Whether the order holds; absent if unknown.
    pub in_order: Option<bool>,
    /// The program that `order` names, if it is not there: the place is the last one until it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// A note that degrades nothing: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Packets that no filter was matched against, or only with unknown ports, by reason, if any.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Connections that filters with server names may match, by what was found of the name; absent
    /// if no filter gives names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<BTreeMap<&'static str, u64>>,
}

/// A place in a chain of programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainPosition {
    /// Which of them it is, counted from 1.
    pub position: usize,
    /// Those that run before, in order.
    pub after: Vec<String>,
    /// Those that run behind.
    pub before: Vec<String>,
    /// Priority of a clsact filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
}

/// One filter.
#[derive(Debug, Clone, Serialize)]
pub struct FilterStatus {
    /// Its name.
    pub name: String,
    /// Whether it is in force somewhere.
    pub active: bool,
    /// "active", or why it is not: "disabled" (its `enabled` is false), "mirroring-off" (that of
    /// the whole file), "no-interface" (none of its interfaces is mirrored), "no-address" (none of
    /// the DNS names of its `source` or `destination` has an address).
    pub state: &'static str,
    /// Packets that matched, as they are on the wire.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// The current rate; absent if it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// One endpoint.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// "ready", or why it gets no copies, or what keeps them from arriving.
    pub state: &'static str,
    /// Since when it is not "ready", seconds since 1970, if the daemon has seen it.
    pub since: Option<u64>,
    /// Copies are sent, and the state is the reason why they do not arrive.
    #[serde(skip)]
    pub is_sent: bool,
    /// Outer destination address; absent while the endpoint cannot be reached.
    pub address: Option<IpAddr>,
    /// The DNS name that the address came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<Origin>,
    /// Outer destination port.
    pub port: Option<u16>,
    /// Output interface.
    pub interface: Option<String>,
    /// Hardware address of the next hop; absent while the kernel resolves it.
    pub next_hop: Option<String>,
    /// Longest outer packet, bytes; less than the interface's MTU if a router has reported that.
    /// Absent while the endpoint cannot be reached.
    pub mtu: Option<u32>,
    /// ICMP errors that came back about copies, by kind, if any.
    pub errors: BTreeMap<&'static str, u64>,
    /// Packets of which the output interface, or its queue, accepted a copy.
    pub packets: u64,
    /// Their bytes from the inner IP header on.
    pub bytes: u64,
    /// Packets among them whose copy was truncated (`snap`, `oversize = "truncate"`).
    pub truncated: u64,
    /// Packets among them that were sent in several outer fragments.
    pub fragmented: u64,
    /// Packets that matched and were not copied, by reason, if any.
    pub drops: BTreeMap<&'static str, u64>,
    /// The current rate; absent if it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl EndpointStatus {
    /// Whether it gets copies.
    pub fn is_ready(&self) -> bool {
        self.state == READY
    }
}

pub use chosen::Names;
pub use clock::{local, now};
pub use daemon::{Daemon, Life, PATIENCE};
pub use dns::{DnsFailure, DnsName, Origin, origin_of, origins};
pub use file::{File, Standing};
pub use listed::NotMirrored;
pub use rate::Rate;
pub use read::{read, read_without_places};
pub use reasons::Reason;
pub use server_names::{ServerName, names_frame, rated, server_names};
pub use text::View;
pub use top::{Style, frame};

/// The content of a file, in a few words.
pub fn summary(desired: &Desired) -> String {
    let Desired {
        interfaces,
        filters,
        endpoints,
        enabled,
        unparsed,
        ..
    } = desired;
    let switch = if *enabled { "" } else { ", disabled" };
    let unparsed = if *unparsed == Unparsed::Mirror {
        ""
    } else {
        ", unparsed packets skipped"
    };
    let names = match desired.dns_names().len() {
        0 => String::new(),
        count => format!(", {}", plural(count, "DNS name")),
    };
    format!(
        "{}, {}, {}{names}{switch}{unparsed}",
        plural(interfaces.len(), "interface"),
        plural(filters.len(), "filter"),
        plural(endpoints.len(), "endpoint")
    )
}
