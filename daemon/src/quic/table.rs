//! Input: UDP payloads with their flows, and the time. Output: as [`Flow`], for each flow. Bounded:
//! the oldest of too many flows is forgotten, and what does not get ready in time. Must not know
//! what a flow is.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::flow::{Flow, Outcome};

/// Flows whose hello is not complete.
pub struct Table {
    flows: HashMap<u64, Entry>,
    /// Flows by their sequence numbers: the first is the oldest.
    order: BTreeMap<u64, u64>,
    next: u64,
    most: usize,
    age: Duration,
    counts: Counts,
}

struct Entry {
    flow: Flow,
    since: Duration,
    sequence: u64,
}

/// What has come of datagrams and flows so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams by [`Outcome`]: names.
    pub names: u64,
    /// Of those, names beside which Encrypted ClientHello was seen.
    pub names_with_ech: u64,
    /// ClientHellos without a name.
    pub nameless: u64,
    /// ClientHellos without a name that have an encrypted one in them.
    pub ech: u64,
    /// ClientHellos that are too long.
    pub too_long: u64,
    /// Datagrams that decided nothing.
    pub more: u64,
    /// Retry packets.
    pub retries: u64,
    /// Version Negotiation packets.
    pub negotiations: u64,
    /// Datagrams of another version.
    pub versions: u64,
    /// Initials that no keys at hand open.
    pub unopened: u64,
    /// Datagrams that a server drops.
    pub malformed: u64,
    /// Datagrams that are not QUIC.
    pub not_quic: u64,
    /// Flows that were forgotten since they were too old.
    pub expired: u64,
    /// Flows that were forgotten since there were too many.
    pub evicted: u64,
}

impl Counts {
    fn count(&mut self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Name { has_ech, .. } => {
                self.names_with_ech += u64::from(*has_ech);
                &mut self.names
            }
            Outcome::NoName => &mut self.nameless,
            Outcome::Ech => &mut self.ech,
            Outcome::TooLong => &mut self.too_long,
            Outcome::More => &mut self.more,
            Outcome::Retry => &mut self.retries,
            Outcome::VersionNegotiation => &mut self.negotiations,
            Outcome::Version(_) => &mut self.versions,
            Outcome::Unopened => &mut self.unopened,
            Outcome::Malformed(_) => &mut self.malformed,
            Outcome::NotQuic => &mut self.not_quic,
        };
        *counter += 1;
    }
}

impl Table {
    /// For at most `most` flows, each at most `age` after its first datagram. A flow takes some
    /// 20 KB if it is made to take as much as it can.
    pub fn new(most: usize, age: Duration) -> Self {
        Self {
            flows: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            most,
            age,
            counts: Counts::default(),
        }
    }

    /// Takes a whole UDP payload of a flow. `now` is of any clock that does not go back.
    ///
    /// A flow is kept from its first Initial that can be opened until a datagram decides. Later ones
    /// begin anew.
    pub fn datagram(&mut self, id: u64, now: Duration, payload: &[u8]) -> Outcome {
        self.expire(now);
        let outcome = match self.flows.get_mut(&id) {
            Some(entry) => entry.flow.datagram(payload),
            None => {
                let mut flow = Flow::default();
                let outcome = flow.datagram(payload);
                if flow.has_begun() && !outcome.is_decided() {
                    self.insert(id, now, flow);
                }
                outcome
            }
        };
        if outcome.is_decided() {
            self.forget(id);
        }
        self.counts.count(&outcome);
        outcome
    }

    /// Forgets a flow that has ended.
    pub fn forget(&mut self, id: u64) {
        if let Some(entry) = self.flows.remove(&id) {
            self.order.remove(&entry.sequence);
        }
    }

    /// Forgets the flows that are too old. [`Table::datagram`] does it, too.
    pub fn expire(&mut self, now: Duration) {
        while let Some(id) = self.oldest()
            && let Some(entry) = self.flows.get(&id)
            && now.saturating_sub(entry.since) >= self.age
        {
            self.forget(id);
            self.counts.expired += 1;
        }
    }

    /// What has been counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many flows are kept.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow is kept.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    fn oldest(&self) -> Option<u64> {
        self.order.values().next().copied()
    }

    fn insert(&mut self, id: u64, since: Duration, flow: Flow) {
        while self.flows.len() >= self.most.max(1)
            && let Some(oldest) = self.oldest()
        {
            self.forget(oldest);
            self.counts.evicted += 1;
        }
        let sequence = self.next;
        self.next += 1;
        self.order.insert(sequence, id);
        let entry = Entry {
            flow,
            since,
            sequence,
        };
        self.flows.insert(id, entry);
    }
}
