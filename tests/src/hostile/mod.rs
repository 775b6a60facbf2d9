//! A judge that shares nothing with the parser: the kernel itself. Hostile packets go to a host
//! with sockets; what it delivers is compared with what the mirror in front of it has matched and
//! counted. Whatever is delivered, and what a filter asks for, must have been matched, or a counter
//! must have said why not; the latter will do only where nobody but the kernel can know better.

pub mod draw;
pub mod stage;

use anyhow::{Result, ensure};
use std::fmt;

use crate::oracle::random::Random;
use draw::{PORTS, Scenario};
use stage::{Delivered, Stage};

/// Scenarios until the mirror forgets all fragments, since its table would be full; from then on
/// others send.
const EPOCH: u32 = 4_000;

/// What came of many packets.
#[derive(Debug, Default)]
pub struct Tally {
    /// Packets that were sent.
    pub packets: u64,
    scenarios: u64,
    delivered: u64,
    asked_for: u64,
    whole: u64,
    counted: u64,
    reasons: [u64; 8],
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            packets,
            scenarios,
            delivered,
            asked_for,
            whole,
            counted,
            reasons,
        } = self;
        write!(
            f,
            "{packets} packets in {scenarios} scenarios: {delivered} delivered, {asked_for} of them asked for by a "
        )?;
        write!(
            f,
            "filter, {whole} of these matched whole, {counted} counted by a reason, 0 silent; skipped:"
        )?;
        let seen = stage::reasons()
            .zip(reasons)
            .filter(|(_, count)| **count != 0);
        seen.into_iter()
            .try_for_each(|(reason, count)| write!(f, " {reason} {count}"))
    }
}

impl Tally {
    /// That many packets have met all that there is to meet.
    ///
    /// # Errors
    /// Something was never met.
    pub fn ensure_it_was_a_test(&self) -> Result<()> {
        const ENOUGH: u64 = 20_000;
        let all = [self.asked_for, self.whole, self.counted];
        ensure!(
            self.packets < ENOUGH || all.iter().all(|&count| count > 100),
            "not much of a test: {self}"
        );
        Ok(())
    }
}

/// Sends scenarios, and compares.
pub struct Judge<'s> {
    stage: &'s mut Stage,
    /// What was so far.
    pub tally: Tally,
}

impl<'s> Judge<'s> {
    /// Nothing was sent yet.
    pub fn new(stage: &'s mut Stage) -> Self {
        Self {
            stage,
            tally: Tally::default(),
        }
    }

    /// One scenario of each seed, whatever was before it.
    ///
    /// # Errors
    /// A packet was delivered, a filter asks for it, and neither was it matched nor did anything say why.
    pub fn examine(&mut self, number: u64, seed: u64) -> Result<()> {
        let turn = (number % u64::from(EPOCH)) as u32;
        if turn == 0 {
            self.stage.begin((number / u64::from(EPOCH)) as u32)?;
        }
        let scenario = Scenario::draw(&mut Random::new(seed), &self.stage.ends, turn + 1);
        self.send(&scenario)
    }

    /// Sends a scenario, and judges.
    ///
    /// # Errors
    /// As [`Judge::examine`].
    pub fn send(&mut self, scenario: &Scenario) -> Result<()> {
        let before = self.stage.counters()?;
        let delivered = self.stage.deliver(&scenario.frames)?;
        let after = self.stage.counters()?;
        // the marker, which the filter for the port matches
        let matched = [
            after.matched[0] - before.matched[0] - 1,
            after.matched[1] - before.matched[1],
        ];
        let skipped: u64 = after
            .skipped
            .iter()
            .zip(before.skipped)
            .map(|(after, before)| after - before)
            .sum();
        let tally = &mut self.tally;
        tally.scenarios += 1;
        tally.packets += scenario.frames.len() as u64;
        tally.delivered += delivered.len() as u64;
        for (sum, (after, before)) in tally
            .reasons
            .iter_mut()
            .zip(after.skipped.iter().zip(before.skipped))
        {
            *sum += after - before;
        }
        for one in &delivered {
            let is_asked_for = [
                one.port == PORTS[0],
                one.protocol == 6 && one.port == PORTS[1],
            ];
            for (filter, _) in is_asked_for.iter().enumerate().filter(|(_, is)| **is) {
                tally.asked_for += 1;
                // a forged first piece may be a packet of its own
                let pieces = if one.bytes == scenario.bytes {
                    scenario.pieces
                } else {
                    1
                };
                let is_whole = matched[filter] >= pieces;
                tally.whole += u64::from(is_whole);
                tally.counted += u64::from(!is_whole && skipped > 0);
                ensure!(
                    is_whole || skipped > 0,
                    "silent: {one:?} was delivered, {matched:?} matched\n{}",
                    Shown(scenario)
                );
                ensure!(
                    is_whole || !scenario.whole,
                    "hidden: {one:?} was delivered, {matched:?} matched\n{}",
                    Shown(scenario)
                );
            }
        }
        Ok(())
    }
}

struct Shown<'s>(&'s Scenario);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for frame in &self.0.frames {
            frame.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            writeln!(f)?;
        }
        write!(f, "what is delivered has {} pieces", self.0.pieces)
    }
}

impl Delivered {
    /// From the first bytes behind the IP headers; `None` if it ends before the ports.
    fn new(protocol: u8, bytes: &[u8]) -> Option<Self> {
        let port = bytes.get(2..4)?;
        Some(Self {
            protocol,
            port: u16::from_be_bytes([port[0], port[1]]),
            bytes: bytes.len(),
        })
    }
}
