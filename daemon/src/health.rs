//! Input: what has been counted about each endpoint, once a second. Output: what keeps its copies from arriving, and the MTU of
//! the way there. Pure: must not know the kernel or the clock.
//!
//! Errors can be forged by who knows the addresses, so they are told, and stop nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use traffic_mirror_ebpf::abi::{IcmpError, Trouble};

use crate::desired;

/// What is known of an endpoint to which copies are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Copies that were sent.
    pub sent: u64,
    /// ICMP errors about copies, by [`IcmpError`].
    pub errors: [u64; IcmpError::COUNT],
    /// What the last packet-too-big said, bytes, and when it came, by a clock that does not jump.
    pub path_mtu: Option<(u32, Duration)>,
    /// Packets that the output interface has dropped behind us, whoever sent them; a count that may begin anew.
    pub output_drops: u64,
}

/// A difference that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Copies do not arrive, or may not.
    Lost(Trouble),
    /// What kept them from arriving is over.
    Recovered(Trouble),
    /// Packets are made no longer than so many bytes.
    PathMtu(u32),
    /// What was learned of the path MTU is forgotten.
    PathMtuForgotten,
}

impl Change {
    /// Whether copies are lost, or may be.
    pub fn is_loss(self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// What is logged of it.
    pub fn line(self, &desired::Endpoint { ref name, address, port, .. }: &desired::Endpoint) -> String {
        let text = match self {
            Self::Lost(Trouble::PortClosed) => format!("{address} answers that nobody listens on UDP port {port}"),
            Self::Lost(Trouble::Unreachable) => {
                format!("ICMP errors say that {address} is unreachable, or that a firewall rejects the copies")
            }
            Self::Lost(Trouble::TooBig) => {
                "ICMP errors say that copies are too long for a link on the way, although they were made shorter"
                    .to_owned()
            }
            Self::Lost(Trouble::TimeExceeded) => {
                format!("ICMP errors say that copies use up their hop limit, or that {address} misses fragments")
            }
            Self::Lost(Trouble::OutputDrops) => {
                "the output interface drops packets that it had accepted; copies may be among them".to_owned()
            }
            Self::Lost(Trouble::None) | Self::Recovered(_) => "ready again".to_owned(),
            Self::PathMtu(mtu) => {
                format!("a link on the way carries packets of at most {mtu} bytes; longer copies are sent in fragments")
            }
            Self::PathMtuForgotten => "the MTU of the way is tried anew".to_owned(),
        };
        format!("endpoint {name}: {text}")
    }
}

/// What is known of all endpoints, by name.
#[derive(Debug, Default)]
pub struct Health {
    endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Debug, Default)]
struct Endpoint {
    last: Sample,
    trouble: Option<Trouble>,
    /// Looks since the trouble was last seen in which it could have been.
    quiet: u32,
    path_mtu: Option<(u32, Duration)>,
}

/// So many looks without it end a trouble.
const QUIET: u32 = 3;
/// How long a path MTU is believed (RFC 8201 section 4).
const PATH_MTU_LIFE: Duration = Duration::from_secs(600);

/// What an error means; the order is which of several is told.
const MEANING: [(IcmpError, Trouble); IcmpError::COUNT] = [
    (IcmpError::PortClosed, Trouble::PortClosed),
    (IcmpError::Unreachable, Trouble::Unreachable),
    (IcmpError::TooBig, Trouble::TooBig),
    (IcmpError::TimeExceeded, Trouble::TimeExceeded),
];

impl Health {
    /// Takes a look. Endpoints that are not among the samples are forgotten. `now` is of the samples' clock.
    pub fn look(&mut self, samples: BTreeMap<String, Sample>, now: Duration) -> Vec<(String, Change)> {
        self.endpoints.retain(|name, _| samples.contains_key(name));
        let mut changes = Vec::new();
        for (name, sample) in samples {
            // what was counted before the first look is the past
            let endpoint = self
                .endpoints
                .entry(name.clone())
                .or_insert_with(|| Endpoint { last: sample.clone(), ..Endpoint::default() });
            changes.extend(endpoint.look(sample, now).into_iter().map(|change| (name.clone(), change)));
        }
        changes
    }

    /// What is wrong, by the endpoint's name.
    pub fn troubles(&self) -> BTreeMap<&str, Trouble> {
        self.endpoints.iter().filter_map(|(name, endpoint)| Some((name.as_str(), endpoint.trouble?))).collect()
    }

    /// MTUs of the ways, by the endpoint's name, bytes.
    pub fn path_mtus(&self) -> BTreeMap<String, u32> {
        self.endpoints.iter().filter_map(|(name, endpoint)| Some((name.clone(), endpoint.path_mtu?.0))).collect()
    }
}

impl Endpoint {
    fn look(&mut self, sample: Sample, now: Duration) -> Vec<Change> {
        let mut changes = self.follow(&sample, now);
        let has_sent = sample.sent > self.last.sent;
        let has_grown = |kind: IcmpError| sample.errors[kind as usize] > self.last.errors[kind as usize];
        let drops = has_sent && sample.output_drops != self.last.output_drops;
        let error = MEANING.into_iter().find(|(kind, _)| has_grown(*kind)).map(|(_, trouble)| trouble);
        // an error that was followed is over, if no other comes
        let error = error.filter(|_| !changes.iter().any(|change| matches!(change, Change::PathMtu(_))));
        match error.or(drops.then_some(Trouble::OutputDrops)) {
            Some(found) => {
                self.quiet = 0;
                // of what comes in turns the first is told, or each would be told again and again
                if self.trouble.is_none() {
                    self.trouble = Some(found);
                    changes.push(Change::Lost(found));
                }
            }
            None => {
                // without copies there is nothing that an error could be about
                let is_quiet = has_sent || self.trouble == Some(Trouble::OutputDrops);
                self.quiet += u32::from(is_quiet);
                if let Some(over) = self.trouble.take_if(|_| self.quiet >= QUIET) {
                    changes.push(Change::Recovered(over));
                }
            }
        }
        self.last = sample;
        changes
    }

    /// Follows what routers say of the way.
    fn follow(&mut self, sample: &Sample, now: Duration) -> Vec<Change> {
        let before = self.path_mtu.map(|(mtu, _)| mtu);
        let is_over = self.path_mtu.is_some_and(|(_, at)| now.saturating_sub(at) >= PATH_MTU_LIFE);
        if is_over {
            self.path_mtu = None;
        }
        let fresh = sample
            .path_mtu
            .filter(|told| self.last.path_mtu != Some(*told) && now.saturating_sub(told.1) < PATH_MTU_LIFE);
        if let Some((mtu, at)) = fresh {
            // a way never gets wider by an error
            let mtu = self.path_mtu.map_or(mtu, |(known, _)| known.min(mtu));
            self.path_mtu = Some((mtu, at));
        }
        match (before, self.path_mtu.map(|(mtu, _)| mtu)) {
            (before, Some(mtu)) if before != Some(mtu) => vec![Change::PathMtu(mtu)],
            (Some(_), None) => vec![Change::PathMtuForgotten],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint at which a look is taken each second.
    struct Watched {
        health: Health,
        sample: Sample,
        now: Duration,
    }

    impl Watched {
        fn new() -> Self {
            let mut watched =
                Self { health: Health::default(), sample: Sample::default(), now: Duration::from_secs(1000) };
            assert_eq!(watched.second(0, &[]), []);
            watched
        }

        fn second(&mut self, sent: u64, errors: &[IcmpError]) -> Vec<Change> {
            self.now += Duration::from_secs(1);
            self.sample.sent += sent;
            errors.iter().for_each(|kind| self.sample.errors[*kind as usize] += 1);
            let samples = BTreeMap::from([("ids".to_owned(), self.sample.clone())]);
            self.health.look(samples, self.now).into_iter().map(|(_, change)| change).collect()
        }
    }

    #[test]
    fn a_closed_port_is_told_once_and_is_over_when_copies_stay_without_errors() {
        use IcmpError::PortClosed;
        let mut watched = Watched::new();
        assert_eq!(watched.second(9, &[]), []);
        assert_eq!(watched.second(9, &[PortClosed]), [Change::Lost(Trouble::PortClosed)]);
        assert_eq!(watched.second(9, &[PortClosed]), []);
        assert_eq!(watched.second(9, &[]), []);
        assert_eq!(watched.second(9, &[PortClosed]), []);
        for _ in 0..100 {
            assert_eq!(watched.second(0, &[]), [], "without copies nothing is learned");
        }
        assert_eq!(watched.health.troubles()["ids"], Trouble::PortClosed);
        assert_eq!(watched.second(1, &[]), []);
        assert_eq!(watched.second(1, &[]), []);
        assert_eq!(watched.second(1, &[]), [Change::Recovered(Trouble::PortClosed)]);
        assert!(watched.health.troubles().is_empty());
    }

    #[test]
    fn what_was_counted_before_the_first_look_is_the_past() {
        let mut watched =
            Watched { sample: Sample { errors: [7; IcmpError::COUNT], ..Sample::default() }, ..Watched::new() };
        watched.health = Health::default();
        assert_eq!(watched.second(0, &[]), []);
        assert_eq!(watched.second(5, &[]), []);
    }

    #[test]
    fn drops_of_the_output_are_told_while_copies_go_there() {
        let mut watched = Watched::new();
        watched.sample.output_drops = 10;
        assert_eq!(watched.second(0, &[]), [], "somebody else's");
        watched.sample.output_drops = 20;
        assert_eq!(watched.second(3, &[]), [Change::Lost(Trouble::OutputDrops)]);
        assert_eq!(watched.second(0, &[]), []);
        assert_eq!(watched.second(0, &[]), []);
        assert_eq!(watched.second(0, &[]), [Change::Recovered(Trouble::OutputDrops)]);
    }

    #[test]
    fn a_smaller_way_is_followed_and_forgotten_after_ten_minutes() {
        let mut watched = Watched::new();
        watched.sample.path_mtu = Some((1400, watched.now));
        assert_eq!(watched.second(1, &[IcmpError::TooBig]), [Change::PathMtu(1400)], "followed, so no trouble");
        assert_eq!(watched.second(1, &[]), []);
        // a wider one does not widen it
        watched.sample.path_mtu = Some((1450, watched.now));
        assert_eq!(watched.second(1, &[IcmpError::TooBig]), [Change::Lost(Trouble::TooBig)]);
        assert_eq!(watched.health.path_mtus()["ids"], 1400);
        watched.sample.path_mtu = Some((1300, watched.now));
        assert_eq!(watched.second(0, &[]), [Change::PathMtu(1300)]);
        watched.now += PATH_MTU_LIFE;
        assert_eq!(watched.second(0, &[]), [Change::PathMtuForgotten]);
        assert!(watched.health.path_mtus().is_empty());
        assert_eq!(watched.second(0, &[]), [], "what is old is not learned again");
    }
}
