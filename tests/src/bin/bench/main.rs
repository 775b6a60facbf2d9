//! What packets cost, what a file costs, what the maps cost: each beside something that it is
//! compared with, in the same rounds.
//!
//! Without arguments: lines for people. `--json`: all values. `--only TEXT`: the lines that contain
//! it. `--publish`: all of it, written to `docs/bench.json`, and from there to the plots below
//! `docs/bench/` and the tables of README.md and docs/performance.md; `--tables` does the latter
//! from the file as it is.
//!
//! scenario -> samples of interleaved rounds -> ratios -> report -> text, JSON, plots, tables

mod control;
mod copies;
mod files;
mod machine;
mod named;
mod packets;
mod publish;
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
use report::Report;
use session::Session;

const SEED: u64 = 1;
/// Up to so many filters limits hold.
const LIMITED_FILTERS: usize = 10_000;

const USAGE: &str = "usage: bench [--json] [--only TEXT] | bench --publish | bench --tables";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (json, only) = match arguments[..] {
        ["--tables"] => return publish::made(),
        ["--publish"] => return publish::publish(&run(true, "")?),
        [] => (false, ""),
        ["--json"] => (true, ""),
        ["--only", only] => (false, only),
        ["--json", "--only", only] | ["--only", only, "--json"] => (true, only),
        _ => anyhow::bail!("{USAGE}"),
    };
    let report = run(!json, only)?;
    if json {
        print!("{}", publish::json(&report)?);
    }
    Ok(())
}

fn run(text: bool, only: &str) -> Result<Report> {
    let mut session = Session::new(machine::machine()?, text, only.to_owned());
    measure(&mut session)?;
    Ok(session.report)
}

fn measure(session: &mut Session) -> Result<()> {
    // the first CPU has more to do beside
    let last = *Cpu::all()?.last().context("no CPU to run on")?;
    let nics = Nics::new()?;
    nics.netns.enter(|| {
        last.run(|| {
            packets::packets(session, nics.bare)?;
            named::named(session, nics.bare)?;
            named::applied(session, nics.bare)?;
            copies::copied(session, &nics)
        })
    })?;
    throughput::throughput(session)?;
    control::stages(session)?;
    control::daemon(session)
}
