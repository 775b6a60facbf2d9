//! Input: the counters of each endpoint, once a second. Output: why its copies do not arrive, and
//! the path MTU. Pure: must not know the kernel or the clock.
//!
//! A sender who knows the addresses can forge ICMP errors. So errors are reported, and never stop
//! copies.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use traffic_mirror_ebpf::abi::{IcmpError, Trouble};

use crate::desired;

/// The path of copies: address, port, index of the output interface. Knowledge about one path does
/// not apply to another.
pub type Way = (IpAddr, u16, u32);

/// The counters of an endpoint to which copies are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Where they go.
    pub way: Way,
    /// Bytes of an outer packet at most.
    pub mtu: u32,
    /// Copies that were sent.
    pub sent: u64,
    /// Copies that were dropped since the output interface's queue held too much.
    pub held_up: u64,
    /// ICMP errors about copies, by [`IcmpError`].
    pub errors: [u64; IcmpError::COUNT],
    /// MTU of the last packet-too-big, bytes, and its time, by a monotonic clock.
    pub path_mtu: Option<(u32, Duration)>,
    /// Packets, copies and others, that the output interface and its queue dropped; the count may
    /// restart at zero. Absent if it was not read.
    pub output_drops: Option<u64>,
}

/// What a predecessor has found out, by the endpoint's name: what is counted, trouble, path MTU in
/// bytes.
pub type Findings = BTreeMap<String, (Sample, Option<Trouble>, Option<u32>)>;

/// A change that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthChange {
    /// Copies do not arrive, or may not.
    Lost(Trouble),
    /// What kept them from arriving is over.
    Recovered(Trouble),
    /// The reason why copies did not arrive does not matter any more: copies take another path, or
    /// none.
    Left(Trouble),
    /// Outer packets are at most this long, bytes.
    PathMtu(u32),
    /// What was learned of the path MTU is forgotten.
    PathMtuForgotten,
}

impl HealthChange {
    /// Whether copies are lost, or may be.
    pub fn is_loss(self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// What happened, as the log calls it.
    pub fn event(self) -> &'static str {
        match self {
            Self::Lost(_) => "problem",
            Self::Recovered(_) | Self::Left(_) => "resolved",
            Self::PathMtu(_) | Self::PathMtuForgotten => "path-mtu",
        }
    }

    /// What is logged of it.
    pub fn line(
        self,
        endpoint @ &desired::Endpoint { ref name, port, .. }: &desired::Endpoint,
    ) -> String {
        let address = endpoint.host();
        let text = match self {
            Self::Lost(Trouble::PortClosed) => format!(
                "{address} reports that no process \
                listens on UDP port {port}; start the receiver"
            ),
            Self::Lost(Trouble::Unreachable) => {
                format!(
                    "ICMP errors report that {address} is unreachable, or that a firewall \
                         rejects the copies"
                )
            }
            Self::Lost(Trouble::TooBig) => {
                "ICMP errors report that copies are too long for a link on the path, although \
                 the daemon shortened them; set `mtu` of the endpoint"
                    .to_owned()
            }
            Self::Lost(Trouble::TimeExceeded) => {
                format!(
                    "ICMP errors report that copies exceed their hop limit, or that \
                         {address} misses fragments"
                )
            }
            Self::Lost(Trouble::Backlog) => {
                "the queue of the output interface holds more than `backlog` allows; copies are \
                 dropped until it has drained"
                    .to_owned()
            }
            Self::Lost(Trouble::OutputDrops) => {
                "the output interface, or its queue, drops packets; copies may be among them"
                    .to_owned()
            }
            Self::Lost(Trouble::None) | Self::Recovered(_) => "ready again".to_owned(),
            Self::Left(trouble) => format!(
                "{} is over: copies no longer take this path",
                trouble.label()
            ),
            Self::PathMtu(mtu) => {
                format!(
                    "a link on the path carries packets of at most {mtu} bytes; longer \
                         copies are sent in fragments"
                )
            }
            Self::PathMtuForgotten => "the daemon tries the full path MTU again".to_owned(),
        };
        format!("endpoint {name}: {text}")
    }
}

/// The state of all endpoints, by name.
#[derive(Debug, Default)]
pub struct Health {
    endpoints: BTreeMap<String, Monitored>,
}

#[derive(Debug)]
struct Monitored {
    last: Sample,
    trouble: Option<Trouble>,
    /// Looks since the trouble was last seen in which it could have been.
    quiet: u32,
    path_mtu: Option<(u32, Duration)>,
    /// Looks in which errors may still be about copies that were sent before the programs knew the
    /// last path MTU.
    in_flight: u32,
    /// Samples since the path MTU was found in which the programs did not know it yet.
    unknown: u32,
    /// Looks with errors that asked for no shorter copies than those that are sent; `u32::MAX` if
    /// one asked for shorter ones, or for none.
    strays: u32,
    /// Looks since the last one of them.
    since_stray: u32,
}

/// A trouble ends after this many samples without it.
const LOOKS_UNTIL_OVER: u32 = 3;
/// Samples after the programs knew a path MTU in which errors may still be about longer copies: full
/// queues on a path hold packets for seconds.
const IN_FLIGHT: u32 = 5;
/// So many looks may find an error that asks for no shorter copies than those that are sent: a host
/// that is short of time has sent a longer one late. Where copies are too long, errors go on.
const STRAYS: u32 = 2;
/// Looks after which such an error is forgotten.
const STRAY_LIFE: u32 = 60;
/// Samples within which the programs must know a path MTU: a longer time would hide a loss.
const UNKNOWN: u32 = 60;
/// How long a path MTU is believed (RFC 8201 section 4).
const PATH_MTU_LIFE: Duration = Duration::from_secs(600);

/// The meaning of an error; of several errors the first in this order is reported.
const MEANING: [(IcmpError, Trouble); IcmpError::COUNT] = [
    (IcmpError::PortClosed, Trouble::PortClosed),
    (IcmpError::Unreachable, Trouble::Unreachable),
    (IcmpError::TooBig, Trouble::TooBig),
    (IcmpError::TimeExceeded, Trouble::TimeExceeded),
];

impl Health {
    /// Resumes the findings of a predecessor about endpoints whose copies take the same path:
    /// trouble and path MTU, by name.
    pub fn resume(&mut self, known: Findings, now: Duration) {
        for (name, (last, trouble, path_mtu)) in known {
            let path_mtu = path_mtu.map(|mtu| (mtu, now));
            self.endpoints.insert(
                name,
                Monitored {
                    trouble,
                    path_mtu,
                    ..Monitored::new(last)
                },
            );
        }
    }

    /// Evaluates the samples of a second. Endpoints without a sample are forgotten. `now` is a time
    /// of the samples' clock.
    pub fn look(
        &mut self,
        samples: BTreeMap<String, Sample>,
        now: Duration,
    ) -> Vec<(String, HealthChange)> {
        let mut changes = Vec::new();
        self.endpoints.retain(|name, endpoint| {
            let stays = samples
                .get(name)
                .is_some_and(|sample| sample.way == endpoint.last.way);
            let over = endpoint.trouble.filter(|_| !stays);
            changes.extend(over.map(|trouble| (name.clone(), HealthChange::Left(trouble))));
            stays
        });
        for (name, sample) in samples {
            // counts from before the first sample do not matter
            let endpoint = self
                .endpoints
                .entry(name.clone())
                .or_insert_with(|| Monitored::new(sample.clone()));
            changes.extend(
                endpoint
                    .look(sample, now)
                    .into_iter()
                    .map(|change| (name.clone(), change)),
            );
        }
        changes
    }

    /// What is wrong, by the endpoint's name.
    pub fn troubles(&self) -> BTreeMap<&str, Trouble> {
        self.endpoints
            .iter()
            .filter_map(|(name, endpoint)| Some((name.as_str(), endpoint.trouble?)))
            .collect()
    }

    /// Path MTUs in bytes, by the endpoint's name.
    pub fn path_mtus(&self) -> BTreeMap<String, u32> {
        self.endpoints
            .iter()
            .filter_map(|(name, endpoint)| Some((name.clone(), endpoint.path_mtu?.0)))
            .collect()
    }
}

impl Monitored {
    /// A new one without findings.
    fn new(last: Sample) -> Self {
        Self {
            last,
            trouble: None,
            quiet: 0,
            path_mtu: None,
            in_flight: 0,
            unknown: 0,
            strays: 0,
            since_stray: 0,
        }
    }

    fn look(&mut self, sample: Sample, now: Duration) -> Vec<HealthChange> {
        let mut changes = self.follow(&sample, now);
        let has_sent = sample.sent > self.last.sent;
        self.count_strays(&sample);
        match self.find(&sample, has_sent) {
            Some(found) => {
                self.quiet = 0;
                // of alternating troubles only the first is logged, since each would be logged
                // again and again; but drops of an output, which may be drops of other packets,
                // hide nothing
                if self
                    .trouble
                    .is_none_or(|known| known == Trouble::OutputDrops && found != known)
                {
                    self.trouble = Some(found);
                    changes.push(HealthChange::Lost(found));
                }
            }
            None => {
                // without copies there is nothing that an error could be about
                let is_quiet = has_sent
                    || matches!(self.trouble, Some(Trouble::OutputDrops | Trouble::Backlog));
                self.quiet += u32::from(is_quiet);
                if let Some(over) = self.trouble.take_if(|_| self.quiet >= LOOKS_UNTIL_OVER) {
                    changes.push(HealthChange::Recovered(over));
                }
            }
        }
        // on a busy host the programs may learn it late
        let is_known = self.path_mtu.is_none_or(|(mtu, _)| sample.mtu <= mtu);
        self.unknown = if is_known {
            0
        } else {
            self.unknown.saturating_add(1)
        };
        if is_known || self.unknown > UNKNOWN {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        self.last = sample;
        changes
    }

    /// Tells errors about copies that were sent late from those that go on.
    fn count_strays(&mut self, sample: &Sample) {
        let kind = IcmpError::TooBig as usize;
        if self.in_flight > 0 {
            (self.strays, self.since_stray) = (0, 0);
        } else if sample.errors[kind] > self.last.errors[kind] {
            let asks_for_nothing = sample.path_mtu.is_some_and(|(mtu, _)| sample.mtu <= mtu);
            self.strays = if asks_for_nothing {
                self.strays.saturating_add(1)
            } else {
                u32::MAX
            };
            self.since_stray = 0;
        } else {
            self.since_stray = self.since_stray.saturating_add(1);
            if self.since_stray >= STRAY_LIFE {
                self.strays = 0;
            }
        }
    }

    /// The trouble that appeared since the last sample.
    fn find(&self, sample: &Sample, has_sent: bool) -> Option<Trouble> {
        let has_grown =
            |kind: IcmpError| sample.errors[kind as usize] > self.last.errors[kind as usize];
        let may_be_stray = self.strays <= STRAYS && self.trouble != Some(Trouble::TooBig);
        let is_followed =
            |kind: IcmpError| kind == IcmpError::TooBig && (self.in_flight > 0 || may_be_stray);
        let drops = self
            .last
            .output_drops
            .zip(sample.output_drops)
            .is_some_and(|(before, now)| now > before);
        let error = MEANING
            .into_iter()
            .find(|(kind, _)| has_grown(*kind) && !is_followed(*kind));
        let is_held_up = sample.held_up > self.last.held_up;
        let error = error
            .map(|(_, trouble)| trouble)
            .or(is_held_up.then_some(Trouble::Backlog));
        error.or((has_sent && drops).then_some(Trouble::OutputDrops))
    }

    /// Follows the path MTU that routers report.
    fn follow(&mut self, sample: &Sample, now: Duration) -> Vec<HealthChange> {
        let before = self.path_mtu.map(|(mtu, _)| mtu);
        if self
            .path_mtu
            .is_some_and(|(_, at)| now.saturating_sub(at) >= PATH_MTU_LIFE)
        {
            self.path_mtu = None;
        }
        let is_fresh = |told: &(u32, Duration)| {
            self.last.path_mtu != Some(*told)
                && now.saturating_sub(told.1) < PATH_MTU_LIFE
                && told.0 < sample.mtu
        };
        // an error never increases the MTU of a path
        if let Some((mtu, at)) = sample.path_mtu.filter(is_fresh) {
            self.path_mtu = Some((self.path_mtu.map_or(mtu, |(known, _)| known.min(mtu)), at));
        }
        match (before, self.path_mtu.map(|(mtu, _)| mtu)) {
            (before, Some(mtu)) if before != Some(mtu) => {
                self.in_flight = IN_FLIGHT;
                vec![HealthChange::PathMtu(mtu)]
            }
            (Some(_), None) => vec![HealthChange::PathMtuForgotten],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
