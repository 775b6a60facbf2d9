//! Programs that meet the same packets, timed by `BPF_PROG_TEST_RUN`.

use anyhow::Result;
use aya::programs::SchedClassifier;
use traffic_mirror_tests::lab::packet::{Packet, eth};
use traffic_mirror_tests::lab::testrun::TestRun;
use traffic_mirror_tests::references::{Flow, Mixer};

use crate::sample::Samples;
use crate::session::{Runner, turns};

/// Each program takes so long in each round, nanoseconds.
const ROUND_NS: f64 = 8e6;
/// The kernel tells whole nanoseconds, so that a round is this many runs at least.
const RUNS: usize = 8;

/// The packets that a program meets.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// One after the other, each many times.
    frames: Vec<Vec<u8>>,
    /// If there are any: one of these in each run, at random, in the only frame.
    flows: Vec<Flow>,
}

impl Load {
    pub(crate) fn repeated(frames: Vec<Vec<u8>>) -> Self {
        Self {
            frames,
            flows: Vec::new(),
        }
    }

    /// As many of the flows as a power of two has.
    pub(crate) fn mixed(mut flows: Vec<Flow>, payload: usize) -> Self {
        flows.truncate(1 << flows.len().ilog2());
        Self {
            frames: vec![frame(&flows[0], payload)],
            flows,
        }
    }

    /// The same with this payload.
    pub(crate) fn mixed_with(flows: Vec<Flow>, payload: &[u8]) -> Self {
        let mut load = Self::mixed(flows, 0);
        let (source, destination, from, to) = load.flows[0];
        let frame = eth().ip(source, destination).tcp(from, to);
        load.frames = vec![frame.payload(payload).build()];
        load
    }

    /// How many packets a program meets in so many repetitions.
    fn runs(&self, repeat: u32) -> (usize, u32) {
        let runs = self
            .frames
            .len()
            .max(RUNS)
            .next_multiple_of(self.frames.len());
        (runs, (repeat / runs as u32).max(1))
    }
}

/// A frame of TCP.
pub(crate) fn frame(flow: &Flow, payload: usize) -> Vec<u8> {
    dress(flow, payload, |packet| packet)
}

/// The same with something between Ethernet and IP.
pub(crate) fn dress(flow: &Flow, payload: usize, dress: impl FnOnce(Packet) -> Packet) -> Vec<u8> {
    let &(source, destination, from, to) = flow;
    dress(eth())
        .ip(source, destination)
        .tcp(from, to)
        .payload(vec![0; payload])
        .build()
}

/// Nanoseconds for a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Of a program over the empty one.
    over: f64,
    /// Of the empty one, with what there is around a run.
    empty: f64,
}

/// The costs of a program, round by round.
#[derive(Debug)]
pub(crate) struct Raced {
    pub(crate) over: Samples,
    /// With what there is around a run.
    pub(crate) whole: Samples,
    pub(crate) empty: Samples,
}

/// Lets programs run in turns.
///
/// # Errors
/// The kernel refuses a run.
pub(crate) fn race(rounds: usize, runners: &mut [Runner<'_, Cost>]) -> Result<Vec<Raced>> {
    let samples =
        |costs: &[Cost], pick: fn(&Cost) -> f64| Samples(costs.iter().map(pick).collect());
    let raced = |costs: Vec<Cost>| Raced {
        over: samples(&costs, |cost| cost.over),
        whole: samples(&costs, |cost| cost.over + cost.empty),
        empty: samples(&costs, |cost| cost.empty),
    };
    Ok(turns(rounds, runners)?.into_iter().map(raced).collect())
}

/// A program on a load, beside the empty one.
///
/// # Errors
/// The kernel refuses a run.
pub(crate) fn over<'a>(
    program: &'a SchedClassifier,
    noop: &'a SchedClassifier,
    load: &'a Load,
) -> Result<Runner<'a, Cost>> {
    let mixers = match load.flows.is_empty() {
        true => None,
        false => Some([
            Mixer::new(&load.flows, program)?,
            Mixer::new(&load.flows, noop)?,
        ]),
    };
    let time = move |index: usize, repeat: u32| -> Result<f64> {
        let program = match &mixers {
            Some(mixers) => mixers[index].program(),
            None => [program, noop][index],
        };
        let (runs, repeat) = load.runs(repeat);
        let times = load
            .frames
            .iter()
            .cycle()
            .take(runs)
            .map(|frame| -> Result<f64> {
                Ok(TestRun {
                    repeat,
                    ..TestRun::new(frame)
                }
                .run(program)?
                .duration
                .as_nanos() as f64)
            });
        Ok(times.sum::<Result<f64>>()? / runs as f64)
    };
    let repeat = (ROUND_NS / time(0, 4_000)?.max(1.0)).clamp(8_000.0, 1e6) as u32;
    Ok(Box::new(move || {
        let (whole, empty) = (time(0, repeat)?, time(1, repeat)?);
        Ok(Cost {
            over: whole - empty,
            empty,
        })
    }))
}
