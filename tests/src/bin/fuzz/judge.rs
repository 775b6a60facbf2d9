//! What may become of a frame, and of the counters.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use aya::programs::SchedClassifier;
use traffic_mirror::network::Direction;
use traffic_mirror_ebpf::abi::{Drop as Reason, EndpointStats, HookStats, Skipped, cb};
use traffic_mirror_tests::lab::testrun::{Outcome, SkBuff, TestRun};
use traffic_mirror_tests::oracle::naive::Answer;

use crate::draw::Case;
use crate::expect::{Expected, Expecter};
use crate::stage::Stage;

/// Verdicts (`TC_ACT_*`).
const NEXT: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

/// What came of many frames.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    frames: u64,
    refused: u64,
    skipped: u64,
    marked: u64,
    wrapped: u64,
    matched: u64,
    sent: u64,
    truncated: u64,
    fragmented: u64,
    drops: [u64; Reason::COUNT],
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            frames,
            refused,
            skipped,
            marked,
            wrapped,
            matched,
            sent,
            truncated,
            fragmented,
            drops,
        } = self;
        write!(
            f,
            "{frames} frames ({refused} refused by the kernel, {skipped} not to be looked at, {matched} matched, "
        )?;
        write!(
            f,
            "{marked} marked as copies, {wrapped} of them wrapped); {sent} copies sent, {truncated} truncated, "
        )?;
        write!(f, "{fragmented} in fragments, dropped:")?;
        let dropped = Reason::ALL
            .iter()
            .zip(drops)
            .filter(|(_, count)| **count != 0);
        dropped
            .into_iter()
            .try_for_each(|(reason, count)| write!(f, " {} {count}", reason.label()))
    }
}

impl Tally {
    /// That many frames have met all that there is to meet.
    pub(crate) fn ensure_it_was_a_test(&self) -> Result<()> {
        const ENOUGH: u64 = 10_000;
        let Self {
            frames,
            refused,
            skipped,
            matched,
            wrapped,
            truncated,
            fragmented,
            ..
        } = *self;
        let all = [skipped, matched, wrapped, truncated, fragmented];
        ensure!(
            frames < ENOUGH || all.iter().all(|&count| count > 0),
            "not much of a test: {self}"
        );
        ensure!(
            frames < ENOUGH || refused <= frames / 2,
            "the kernel refuses most frames: {self}"
        );
        Ok(())
    }
}

/// Packets by what became of them.
#[derive(Debug)]
struct Counters {
    /// Per filter.
    matched: Vec<u64>,
    /// Per endpoint.
    endpoints: Vec<EndpointStats>,
    /// Per hook.
    skipped: Vec<[u64; Skipped::COUNT]>,
}

impl Counters {
    fn read(stage: &Stage) -> Result<Self> {
        let generation = stage.loaded.generation();
        let endpoints = generation.endpoint_stats(stage.desired.endpoints.len())?;
        Ok(Self {
            matched: stage
                .loaded
                .matched()?
                .iter()
                .map(|count| count.packets)
                .collect(),
            endpoints: endpoints.iter().map(|cpus| sum(cpus)).collect(),
            skipped: generation
                .hook_stats(1 + stage.hooks[0].max(stage.hooks[1]))?
                .iter()
                .map(|cpus| skipped(cpus))
                .collect(),
        })
    }
}

fn skipped(cpus: &[HookStats]) -> [u64; Skipped::COUNT] {
    std::array::from_fn(|reason| cpus.iter().map(|cpu| cpu[reason]).sum())
}

/// Of all CPUs; what is no count stays 0.
fn sum(cpus: &[EndpointStats]) -> EndpointStats {
    cpus.iter().fold(EndpointStats::default(), |mut sum, cpu| {
        sum.sent.packets += cpu.sent.packets;
        sum.sent.bytes += cpu.sent.bytes;
        sum.truncated += cpu.truncated;
        sum.fragmented += cpu.fragmented;
        sum.drops
            .iter_mut()
            .zip(cpu.drops)
            .for_each(|(sum, cpu)| *sum += cpu);
        sum
    })
}

/// Runs frames, and knows what was counted so far.
pub(crate) struct Judge {
    pub(crate) tally: Tally,
    counters: Counters,
    expecter: Expecter,
}

impl Judge {
    pub(crate) fn new(stage: &Stage) -> Result<Self> {
        Ok(Self {
            tally: Tally::default(),
            counters: Counters::read(stage)?,
            expecter: Expecter::default(),
        })
    }

    /// Has programs and judge forget all fragments that they have seen.
    pub(crate) fn forget(&mut self, stage: &Stage) -> Result<()> {
        self.expecter = Expecter::default();
        stage.loaded.forget_fragments()?;
        stage.change_secret()
    }

    /// Runs the programs on a frame; an error if anything is not as it must be.
    pub(crate) fn examine(&mut self, stage: &Stage, case: &Case) -> Result<()> {
        self.tally.frames += 1;
        // what comes of it when nothing is done to it
        let Ok(untouched) = run(stage.noop(), case) else {
            self.tally.refused += 1;
            return Ok(());
        };
        let mirrored = run(stage.loaded.mirror(case.direction), case).context("mirror")?;
        if is_astray(case, stage) {
            ensure!(
                mirrored.verdict == DROP,
                "mirror: verdict {} on a copy that must not leave",
                mirrored.verdict
            );
        } else {
            ensure_untouched(&mirrored, &untouched, case).context("mirror")?;
        }
        let wrapped = run(stage.encap(), case);
        if case.is_marked(stage.secret()) {
            self.tally.marked += 1;
        }
        if is_copy(case, stage) {
            // one that cannot be wrapped is dropped
            let Outcome { verdict, data, .. } = wrapped.context("encap")?;
            ensure!(
                [NEXT, DROP, REDIRECT].contains(&verdict),
                "encap: verdict {verdict} on a copy"
            );
            ensure!(
                verdict == DROP || data != case.bytes,
                "encap: a copy goes on as it is"
            );
            self.tally.wrapped += u64::from(verdict != DROP);
        } else {
            ensure_untouched(&wrapped.context("encap")?, &untouched, case).context("encap")?;
        }
        // `encap` counts nothing
        let counters = Counters::read(stage)?;
        self.compare_counters(stage, case, &counters)?;
        self.counters = counters;
        Ok(())
    }

    fn compare_counters(&mut self, stage: &Stage, case: &Case, counters: &Counters) -> Result<()> {
        let before = &self.counters;
        let hook = stage.hooks[case.direction as usize];
        let nested = Skipped::Nested as usize;
        let is_nested = counters.skipped[hook][nested] > before.skipped[hook][nested];
        let Expected {
            answer: want,
            skipped,
        } = self.expecter.expect(stage, case, hook as u32, is_nested)?;
        for (index, (after, before)) in counters.skipped.iter().zip(&before.skipped).enumerate() {
            for &reason in Skipped::ALL {
                let count = after[reason as usize] - before[reason as usize];
                let is_wanted = index == hook && skipped == Some(reason);
                // what a mirror has sent is looked at only if summaries say that a filter may want
                // it
                let is_looped = matches!(reason, Skipped::Loop | Skipped::Nested);
                let is_spared = is_wanted && is_looped && count == 0 && want.filters.is_empty();
                ensure!(
                    is_spared || count == u64::from(is_wanted),
                    "hook {index}: {skipped:?} wanted, {after:?} counted"
                );
            }
        }
        self.tally.skipped += u64::from(skipped.is_some());
        let is_looped = matches!(skipped, Some(Skipped::Loop | Skipped::Nested));
        let want = if is_looped { Answer::default() } else { want };
        let packets = self.packets(case, counters, &want)?;
        self.tally.matched += u64::from(!want.filters.is_empty());
        for (index, (after, before)) in counters.endpoints.iter().zip(&before.endpoints).enumerate()
        {
            let name = &stage.desired.endpoints[index].name;
            let copies = if want.endpoints >> index & 1 != 0 {
                packets
            } else {
                0
            };
            let sent = after.sent.packets - before.sent.packets;
            let drops: [u64; Reason::COUNT] =
                std::array::from_fn(|reason| after.drops[reason] - before.drops[reason]);
            let dropped: u64 = drops.iter().sum();
            ensure!(
                sent + dropped == copies,
                "{name}: {copies} wanted, {sent} sent, {drops:?} dropped"
            );
            ensure!(
                name == "bare" || drops[Reason::Unwrapped as usize] == 0,
                "{name}: a copy met no encap"
            );
            let (truncated, fragmented) = (
                after.truncated - before.truncated,
                after.fragmented - before.fragmented,
            );
            ensure!(
                truncated.max(fragmented) <= sent,
                "{name}: {sent} sent, {truncated} cut, {fragmented} in pieces"
            );
            self.tally.sent += sent;
            self.tally.truncated += truncated;
            self.tally.fragmented += fragmented;
            self.tally
                .drops
                .iter_mut()
                .zip(drops)
                .for_each(|(sum, drops)| *sum += drops);
        }
        Ok(())
    }

    /// Packets on the wire, as each filter that matches must have counted them, and no other.
    fn packets(&self, case: &Case, counters: &Counters, want: &Answer) -> Result<u64> {
        let counted = |filter: usize| counters.matched[filter] - self.counters.matched[filter];
        let packets = want.filters.first().map_or(0, |&first| counted(first));
        let SkBuff {
            gso_size, gso_segs, ..
        } = case.context;
        match (gso_size, gso_segs) {
            _ if want.filters.is_empty() => {}
            (0, _) => ensure!(packets == 1, "{packets} packets counted for one"),
            // not known: as many as the length makes
            (_, 0) => ensure!(
                (1..=1 << 16).contains(&packets),
                "{packets} segments counted"
            ),
            _ => ensure!(
                packets == u64::from(gso_segs),
                "{packets} packets counted for {gso_segs} segments"
            ),
        }
        for filter in 0..counters.matched.len() {
            let expect = if want.filters.contains(&filter) {
                packets
            } else {
                0
            };
            let counted = counted(filter);
            ensure!(
                counted == expect,
                "filter {filter}: {expect} wanted, {counted} counted; {want:?}"
            );
        }
        Ok(packets)
    }
}

fn run(program: &SchedClassifier, case: &Case) -> Result<Outcome> {
    TestRun {
        context: case.context,
        ..TestRun::new(&case.bytes)
    }
    .run(program)
}

/// The original is sacred: the next program finds all as it would have found it.
fn ensure_untouched(outcome: &Outcome, untouched: &Outcome, case: &Case) -> Result<()> {
    ensure!(outcome.verdict == NEXT, "verdict {}", outcome.verdict);
    ensure!(
        outcome.data == case.bytes,
        "the frame was changed to {:02x?}",
        outcome.data
    );
    ensure!(
        outcome.context == untouched.context,
        "the context was changed to {:?}",
        outcome.context
    );
    Ok(())
}

/// A copy without a link header that no `encap` has taken, about to leave.
fn is_astray(case: &Case, stage: &Stage) -> bool {
    case.direction == Direction::Egress
        && case.is_marked(stage.secret())
        && case.context.cb[cb::ENDPOINT] & (cb::HEADERLESS | cb::DONE) == cb::HEADERLESS
}

/// What `encap` takes for a copy of ours.
fn is_copy(case: &Case, stage: &Stage) -> bool {
    let word = case.context.cb[cb::ENDPOINT];
    case.is_marked(stage.secret())
        && word & cb::DONE == 0
        && word >> cb::GENERATION_SHIFT == stage.generation & 0xffff
}
