//! A case of the table: what is sent, and everything that must come of it.

use crate::edge::{Attach, Direction, ENDPOINTS, Edge, Seen, SkbLayout};
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use traffic_mirror_tests::lab::packet::{Link, Packet, ip_part};
use traffic_mirror_tests::lab::status::Counters;

/// One frame and what must come of it. By default nothing: it passes unchanged, no copy, no counter
/// moves.
pub(crate) struct Case {
    what: String,
    frame: Vec<u8>,
    layout: SkbLayout,
    ways: Vec<Direction>,
    filters: Vec<&'static str>,
    to: Vec<&'static str>,
    skipped: Option<&'static str>,
    inner: Option<Vec<u8>>,
    sent: Option<Vec<u8>>,
    times: usize,
    also: Vec<(&'static str, u64)>,
    extra: Vec<(&'static str, usize)>,
}

/// A case for a frame that passes `eth0` both ways.
pub(crate) fn case(what: impl ToString, packet: &Packet) -> Case {
    bytes(what, packet.build())
}

/// As [`case`], from bytes.
pub(crate) fn bytes(what: impl ToString, frame: Vec<u8>) -> Case {
    Case {
        what: what.to_string(),
        frame,
        layout: SkbLayout::Linear,
        ways: vec![Direction::Ingress, Direction::Egress],
        filters: Vec::new(),
        to: Vec::new(),
        skipped: None,
        inner: None,
        sent: None,
        times: 1,
        also: Vec::new(),
        extra: Vec::new(),
    }
}

impl Case {
    /// The filters that count it.
    pub(crate) fn matches<const N: usize>(self, filters: [&'static str; N]) -> Self {
        Self {
            filters: filters.to_vec(),
            ..self
        }
    }

    /// The endpoints that get one copy each.
    pub(crate) fn to<const N: usize>(self, endpoints: [&'static str; N]) -> Self {
        Self {
            to: endpoints.to_vec(),
            ..self
        }
    }

    /// The same for as many as there are.
    pub(crate) fn reaching(self, endpoints: impl Iterator<Item = &'static str>) -> Self {
        Self {
            to: endpoints.collect(),
            ..self
        }
    }

    /// As `matches` and `to`.
    pub(crate) fn matching(self, filters: Vec<&'static str>, to: Vec<&'static str>) -> Self {
        Self {
            filters,
            to,
            ..self
        }
    }

    /// Copies to an endpoint where `matches` cannot say what is counted.
    pub(crate) fn copies(mut self, endpoint: &'static str, copies: usize) -> Self {
        self.extra.push((endpoint, copies));
        self
    }

    /// Matches filter "all" and is copied to endpoint "a".
    pub(crate) fn copied(self) -> Self {
        self.matches(["all"]).to(["a"])
    }

    /// Why no filter can be asked.
    pub(crate) fn skipped(self, reason: &'static str) -> Self {
        Self {
            skipped: Some(reason),
            ..self
        }
    }

    /// Filters are asked after all.
    pub(crate) fn unasked(self) -> Self {
        Self {
            skipped: None,
            ..self
        }
    }

    /// What the copy holds, where that is not the IP packet in the frame up to the length that it
    /// says.
    pub(crate) fn inner(self, inner: impl Into<Vec<u8>>) -> Self {
        Self {
            inner: Some(inner.into()),
            ..self
        }
    }

    /// What the copy holds, where that is less than what has matched.
    pub(crate) fn sent(self, sent: Vec<u8>) -> Self {
        Self {
            sent: Some(sent),
            ..self
        }
    }

    /// It passes that many hooks: as many matches, and as many copies.
    pub(crate) fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Another counter that moves.
    pub(crate) fn also(mut self, counter: &'static str, by: u64) -> Self {
        self.also.push((counter, by));
        self
    }

    pub(crate) fn layout(self, layout: SkbLayout) -> Self {
        Self { layout, ..self }
    }

    pub(crate) fn ways(self, ways: &[Direction]) -> Self {
        Self {
            ways: ways.to_vec(),
            ..self
        }
    }

    fn expected_inner(&self) -> Result<Vec<u8>> {
        match &self.inner {
            Some(inner) => Ok(inner.clone()),
            None => Ok(ip_part(&self.frame)?.to_vec()),
        }
    }

    /// Everything that is not as it must be.
    fn check(&self, way: Direction, seen: &Seen) -> Result<String> {
        let mut wrong = String::new();
        if seen.originals != [self.frame.clone()] {
            let frames: Vec<_> = seen.originals.iter().map(|frame| hex(frame)).collect();
            write!(wrong, "\n    the original arrived as {frames:?}")?;
        }
        if !seen.strangers.is_empty() {
            let frames: Vec<_> = seen.strangers.iter().map(|frame| hex(frame)).collect();
            write!(wrong, "\n    at the collector: {frames:?}")?;
        }
        let mut counters = Counters::new();
        if let Some(reason) = self.skipped {
            counters.insert(format!("{} {reason}", way.hook()), 1);
        }
        counters.extend(
            self.also
                .iter()
                .map(|(counter, by)| ((*counter).to_owned(), *by)),
        );
        if self.filters.is_empty() {
            let copies: Vec<_> = seen
                .copies
                .iter()
                .map(|(name, copies)| (*name, copies.len()))
                .collect();
            if copies != self.extra {
                write!(wrong, "\n    copies {copies:?} instead of {:?}", self.extra)?;
            }
        } else {
            self.check_copies(seen, &mut counters, &mut wrong)?;
        }
        if seen.moved != counters {
            write!(
                wrong,
                "\n    counters moved by {:?}\n             instead of {counters:?}",
                seen.moved
            )?;
        }
        Ok(wrong)
    }

    fn check_copies(&self, seen: &Seen, counters: &mut Counters, wrong: &mut String) -> Result<()> {
        let inner = self.expected_inner()?;
        let times = self.times as u64;
        let sent = self.sent.clone().unwrap_or_else(|| inner.clone());
        let count = |counters: &mut Counters, object: &str, name: &str, bytes: usize| {
            counters.insert(format!("{object} {name} packets"), times);
            counters.insert(format!("{object} {name} bytes"), times * bytes as u64);
        };
        self.filters
            .iter()
            .for_each(|filter| count(counters, "filter", filter, inner.len()));
        for (name, ..) in ENDPOINTS {
            let wanted = self.to.contains(&name);
            if wanted {
                count(counters, "endpoint", name, sent.len());
            }
            let copies = seen.copies.get(name).map(Vec::as_slice).unwrap_or_default();
            let expected = if wanted { self.times } else { 0 };
            if copies.len() != expected {
                write!(
                    wrong,
                    "\n    {} copies to {name} instead of {expected}",
                    copies.len()
                )?;
            }
            for copy in copies.iter().filter(|copy| copy.inner != sent) {
                write!(
                    wrong,
                    "\n    copy to {name} {}\n         instead of {}",
                    hex(&copy.inner),
                    hex(&sent)
                )?;
            }
        }
        Ok(())
    }
}

/// Runs each case both ways or as it says, and reports all that fail.
pub(crate) fn run(
    edge: &mut Edge,
    attach: Attach,
    title: &str,
    config: &str,
    cases: &[Case],
) -> Result<()> {
    edge.configure(config)?;
    let mut failures = String::new();
    for case in cases {
        for &way in &case.ways {
            let wrong = match edge.pass(&case.frame, case.layout, way) {
                Ok(seen) => case.check(way, &seen)?,
                Err(error) => format!("\n    {error:#}"),
            };
            if !wrong.is_empty() {
                let (what, frame) = (&case.what, hex(&case.frame));
                write!(
                    failures,
                    "\n  {what}, {way:?}, {attach:?}:{wrong}\n    frame {frame}"
                )?;
            }
        }
    }
    ensure!(failures.is_empty(), "{title}:{failures}\nwith\n{config}");
    Ok(())
}

/// The bytes behind the Ethernet header and tags.
pub(crate) fn behind_link(frame: &[u8]) -> Vec<u8> {
    Link::parse(frame)
        .map(|link| frame[link.length..].to_vec())
        .unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(120)];
    let rest = if shown.len() < bytes.len() { "..." } else { "" };
    let digits: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes {digits}{rest}", bytes.len())
}
