//! Random frames through the loaded programs by `BPF_PROG_TEST_RUN`: `fuzz [--seed N] [--seconds N]
//! [--frames N]`.
//!
//! Each frame has a seed of its own, the number of the one before and one, so that a failure says
//! how to see it again. Without `--seed` the first is chosen by the clock; 0 seconds are for ever.

mod draw;
mod expect;
mod judge;
mod stage;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::oracle::random::Random;

use draw::Case;
use judge::{Judge, Tally};
use stage::Stage;

/// How often it is said how far it has come.
const PERIOD: Duration = Duration::from_secs(10);

struct Arguments {
    seed: u64,
    seconds: u64,
    frames: u64,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let clock = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut all = Self {
            seed: clock.as_secs() << 32,
            seconds: 0,
            frames: u64::MAX,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().and_then(|value| value.parse().ok());
            match (word.as_str(), value) {
                ("--seed", Some(seed)) => all.seed = seed,
                ("--seconds", Some(seconds)) => all.seconds = seconds,
                ("--frames", Some(frames)) => all.frames = frames,
                _ => bail!("usage: fuzz [--seed N] [--seconds N] [--frames N]"),
            }
        }
        Ok(all)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let (netns, sink) = (Netns::new("fuzz")?, Netns::new("fuzz-sink")?);
    let tally = netns.enter(|| arguments.examine(&Stage::new(&netns, &sink)?))?;
    println!("programs: {tally}");
    tally.ensure_it_was_a_test()
}

impl Arguments {
    fn examine(&self, stage: &Stage) -> Result<Tally> {
        let longest = stage.longest_frame()?;
        println!(
            "programs: seed {}, frames of 1 to {longest} bytes: what this kernel takes",
            self.seed
        );
        let (begin, mut told) = (Instant::now(), Instant::now());
        let mut judge = Judge::new(stage)?;
        for number in 0..self.frames {
            if self.seconds != 0 && begin.elapsed().as_secs() >= self.seconds {
                break;
            }
            if told.elapsed() > PERIOD {
                println!(
                    "programs: {:.0} s, {}",
                    begin.elapsed().as_secs_f64(),
                    judge.tally
                );
                told = Instant::now();
                // long before a fragment is forgotten, which no two clocks would see at the same
                // time
                judge.forget(stage)?;
            }
            let seed = self.seed.wrapping_add(number);
            let case = Case::draw(&mut Random::new(seed), stage, longest);
            let examined = judge.examine(stage, &case);
            examined
                .with_context(|| format!("{case}\nto see it again: --seed {seed} --frames 1"))?;
        }
        Ok(judge.tally)
    }
}
