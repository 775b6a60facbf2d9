//! What packets cost, what a file costs, what the maps cost: each beside something that it is compared with, in the same rounds.
//!
//! Without arguments: lines for people. `--json`: all values. `--only TEXT`: the lines that contain it. `--publish`: all of it,
//! written to `docs/bench.json`, and from there to the plots below `docs/bench/` and the tables of README.md and
//! docs/performance.md; `--tables` does the latter from the file as it is.
//!
//! scenario -> samples of interleaved rounds -> ratios -> report -> text, JSON, plots, tables

mod copies;
mod files;
mod machine;
mod packets;
mod race;
mod report;
mod sample;
mod session;
mod stage;
mod subject;
mod text;
mod throughput;

use anyhow::{Context as _, Result};
use traffic_mirror_tests::lab::cpu::Cpu;

use copies::Nics;
use session::Session;

const SEED: u64 = 1;
/// Up to so many filters limits hold.
const LIMITED_FILTERS: usize = 10_000;

fn main() -> Result<()> {
    let (mut text, mut only, mut publish) = (true, String::new(), false);
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next_if(|_| argument == "--only")) {
            ("--json", _) => text = false,
            ("--only", Some(given)) => only = given,
            ("--publish", _) => publish = true,
            _ => anyhow::bail!("usage: bench [--json] [--only TEXT] | bench --publish | bench --tables"),
        }
    }
    let mut session = Session::new(machine::machine()?, text, only);
    measure(&mut session)?;
    if !text {
        println!("{}", serde_json::to_string_pretty(&session.report)?);
    }
    let _ = publish;
    Ok(())
}

fn measure(session: &mut Session) -> Result<()> {
    // the first CPU has more to do beside
    let last = *Cpu::all()?.last().context("no CPU to run on")?;
    let nics = Nics::new()?;
    nics.netns.enter(|| {
        last.run(|| {
            packets::packets(session, nics.bare)?;
            copies::copied(session, &nics)
        })
    })?;
    throughput::throughput(session)
}
