//! Hostile packets to a host with sockets behind a mirror: `hostile [--seed N] [--seconds N]
//! [--packets N]`.
//!
//! Each scenario has a seed of its own, the number of the one before and one, so that a failure
//! says how to see it again. Without `--seed` the first is chosen by the clock; 0 seconds are for
//! ever.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use traffic_mirror_tests::hostile::stage::Stage;
use traffic_mirror_tests::hostile::{Judge, Tally};

/// How often it is said how far it has come.
const PERIOD: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (mut first, mut seconds, mut packets) = (clock.as_secs() << 32, 0, u64::MAX);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().and_then(|value| value.parse().ok());
        match (word.as_str(), value) {
            ("--seed", Some(value)) => first = value,
            ("--seconds", Some(value)) => seconds = value,
            ("--packets", Some(value)) => packets = value,
            _ => bail!("usage: hostile [--seed N] [--seconds N] [--packets N]"),
        }
    }
    println!("hostile: seed {first}");
    let tally = examine(first, seconds, packets)?;
    println!("hostile: {tally}");
    tally.ensure_it_was_a_test()
}

fn examine(first: u64, seconds: u64, packets: u64) -> Result<Tally> {
    let mut stage = Stage::new()?;
    let mut judge = Judge::new(&mut stage);
    let (begin, mut told) = (Instant::now(), Instant::now());
    for number in 0.. {
        if judge.tally.packets >= packets || seconds != 0 && begin.elapsed().as_secs() >= seconds {
            break;
        }
        if told.elapsed() > PERIOD {
            println!(
                "hostile: {:.0} s, {}",
                begin.elapsed().as_secs_f64(),
                judge.tally
            );
            told = Instant::now();
        }
        let seed = first.wrapping_add(number);
        let again = || format!("to see it again: --seed {seed} --packets 1");
        judge.examine(number, seed).with_context(again)?;
    }
    Ok(judge.tally)
}
