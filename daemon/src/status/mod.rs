//! Input: the maps and pins in the kernel; no daemon is asked. Output: [`Status`], for people and
//! as JSON.

mod daemon;
mod file;
mod filter;
mod listed;
mod named;
mod rate;
mod read;
mod reasons;
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
    /// Version of this structure.
    pub schema: u32,
    /// Something that is wanted does not work: there are reasons.
    pub degraded: bool,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
    /// Since when, seconds since 1970, as far as that is known.
    pub since: Option<u64>,
    /// The daemon.
    pub daemon: Daemon,
    /// The file that it follows; absent if no daemon has told.
    pub file: Option<File>,
    /// When the file was last taken, seconds since 1970.
    pub last_reload: Option<u64>,
    /// When it was last refused, if it was not taken since: what was taken before goes on, and this
    /// is degraded.
    pub last_rejected: Option<u64>,
    /// How often the file was taken since mirroring began.
    pub reloads: Option<u64>,
    /// What somebody else had undone: programs that were attached again, and the times that maps
    /// were written again.
    pub repairs: Option<u64>,
    /// Where packets are looked at.
    pub interfaces: Vec<InterfaceStatus>,
    /// What the file lists beside, and why packets are not looked at there.
    pub not_mirrored: Vec<NotMirrored>,
    /// What is looked for.
    pub filters: Vec<FilterStatus>,
    /// Where copies go.
    pub endpoints: Vec<EndpointStatus>,
    /// The interfaces that copies leave by.
    pub outputs: Vec<Output>,
}

/// An interface that copies leave by. What it counts are all packets that it is given to send,
/// whoever sends them.
#[derive(Debug, Clone, Serialize)]
pub struct Output {
    /// Its name.
    pub interface: String,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Kind of its queueing discipline; absent if it has none.
    pub queue: Option<String>,
    /// Packets that the queueing discipline has dropped, be it after it had accepted them.
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
    /// Whether it stands there; absent if that is not known.
    pub in_order: Option<bool>,
    /// The program that `order` names, if it is not there: the place is the last one until it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// What else is worth knowing, and nothing that is wanted here: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Packets that filters could not be asked about, or only without their ports, by reason, if
    /// any.
    pub skipped: BTreeMap<&'static str, u64>,
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
    /// the whole file), "no-interface" (no interface that is looked at is one of its own).
    pub state: &'static str,
    /// Packets that matched, as they are on the wire.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// How many come at the moment; absent if that was not asked.
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
    /// Copies are sent, and the state says what keeps them from arriving.
    #[serde(skip)]
    pub is_sent: bool,
    /// Outer destination address; absent while the endpoint cannot be reached.
    pub address: Option<IpAddr>,
    /// Outer destination port.
    pub port: Option<u16>,
    /// Output interface.
    pub interface: Option<String>,
    /// Hardware address of the next hop; absent while the kernel looks for it.
    pub next_hop: Option<String>,
    /// Bytes of an outer packet at most; less than the interface's MTU if a router has told so.
    /// Absent while the endpoint cannot be reached.
    pub mtu: Option<u32>,
    /// ICMP errors that came back about copies, by what they say, if any.
    pub errors: BTreeMap<&'static str, u64>,
    /// Packets of which the output interface, or its queue, took a copy.
    pub packets: u64,
    /// Their bytes from the inner IP header on.
    pub bytes: u64,
    /// Packets among them of which the end was cut off (`snap`, `oversize = "truncate"`).
    pub truncated: u64,
    /// Packets among them that were sent in several outer fragments.
    pub fragmented: u64,
    /// Packets that matched and were not copied, by reason, if any.
    pub drops: BTreeMap<&'static str, u64>,
    /// How many go at the moment; absent if that was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl EndpointStatus {
    /// Whether it gets copies.
    pub fn is_ready(&self) -> bool {
        self.state == READY
    }
}

pub use daemon::{Daemon, Life, PATIENCE};
pub use file::{File, Standing};
pub use listed::NotMirrored;
pub use rate::Rate;
pub use read::{read, read_without_places};
pub use reasons::Reason;
pub use top::{Style, frame};

/// What a file asks for, in a few words.
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
    format!(
        "{}, {}, {}{switch}{unparsed}",
        plural(interfaces.len(), "interface"),
        plural(filters.len(), "filter"),
        plural(endpoints.len(), "endpoint")
    )
}
