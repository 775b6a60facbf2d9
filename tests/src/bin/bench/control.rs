//! What a file costs: how long the real daemon takes for it, and what memory. Each kind of file
//! beside one with a single filter, in the same rounds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use traffic_mirror::kernel::Generation;
use traffic_mirror::tables::Table;
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::eth_between;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::veth::veth;
use traffic_mirror_tests::oracle::kernel::PinPath;
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{compiled, configuration, large, load};

use crate::files::Kind;
use crate::report::{Group, Line, Unit};
use crate::sample::Samples;
use crate::session::{Runner, Session, turns};
use crate::{LIMITED_FILTERS, SEED};

const ROUNDS: usize = 5;
const EDITS: u16 = 5;
/// What kinds of files are compared with.
pub(crate) const ONE: &str = "one filter";
/// Most that a start with 10,000 filters of the first kind may take, and the time from the rename
/// of a file in which one of them has changed to the first copy, ms.
const LIMITS_MS: [f64; 2] = [500.0, 50.0];

/// The kinds that are looked at.
pub(crate) const KINDS: [Kind; 6] = [
    ("mixed networks and ranges", large::mixed, LIMITED_FILTERS),
    (
        "hosts, three ports, both ways",
        large::hosts_and_ports,
        10_000,
    ),
    (
        "/24 networks, usual ports, both ways",
        large::typical,
        10_000,
    ),
    ("lists of 100 networks", large::lists, 1_000),
    ("one wide range of ports", large::wide_ranges, 4_000),
    (
        "a wide range and a port, both ways",
        large::worst_ranges,
        10_000,
    ),
];

/// What is looked at.
const LOOKS: [(Group, &str, Unit); 6] = [
    (Group::Start, "cold start, to READY=1", Unit::Milliseconds),
    (
        Group::Edit,
        "one filter edited, from the rename to a copy",
        Unit::Milliseconds,
    ),
    (
        Group::Restart,
        "restart after kill -9, to READY=1",
        Unit::Milliseconds,
    ),
    (
        Group::DaemonPeak,
        "memory of the daemon, at most",
        Unit::Mebibytes,
    ),
    (
        Group::DaemonRest,
        "memory of the daemon after the edits",
        Unit::Mebibytes,
    ),
    (Group::Maps, "memory of the maps", Unit::Mebibytes),
];

/// A value for each of [`LOOKS`].
type Life = [f64; LOOKS.len()];

/// The stages of a start by themselves.
pub(crate) fn stages(session: &mut Session) -> Result<()> {
    if !session.wants("stage") {
        return Ok(());
    }
    session.heading("From a file of 10,000 filters to a program that runs");
    let mut times: Vec<(&str, Samples)> = Vec::new();
    for _ in 0..ROUNDS {
        let text = large::mixed(&mut Random::new(SEED), LIMITED_FILTERS);
        let pins = PinPath::new()?;
        let mut begin = Instant::now();
        let mut step = |what: &'static str| {
            let took = begin.elapsed().as_secs_f64() * 1e3;
            match times.iter_mut().find(|(name, _)| *name == what) {
                Some((_, samples)) => samples.0.push(took),
                None => times.push((what, Samples(vec![took]))),
            }
            begin = Instant::now();
        };
        let desired = load(&text);
        step("stage: read and check the file");
        let tables = compiled(&desired, &configuration::network()).tables;
        step("stage: compile the tables");
        let generation = Generation::create(pins.path(), 1, &tables)?;
        step("stage: create the maps");
        for table in Table::ALL {
            generation.write(table, tables.pieces(table))?;
        }
        step("stage: fill the maps");
        generation.load_programs()?;
        step("stage: load the programs");
    }
    for (what, samples) in times {
        session.add(Line::new(
            Group::Stage,
            what,
            LIMITED_FILTERS,
            Unit::Milliseconds,
            &samples,
        ));
    }
    Ok(())
}

/// The real daemon.
pub(crate) fn daemon(session: &mut Session) -> Result<()> {
    let wants = |session: &Session, kind: &str| {
        LOOKS
            .iter()
            .any(|(_, look, _)| session.wants(&name(kind, look)))
    };
    if !KINDS.iter().any(|(kind, ..)| wants(session, kind)) {
        return Ok(());
    }
    session.heading(&format!(
        "The daemon: median (quartiles) of {ROUNDS} rounds"
    ));
    let stage = Stage::new()?;
    for (kind, make, large) in KINDS {
        if !wants(session, kind) {
            continue;
        }
        let sizes = [large / 100, large / 10, large];
        let texts = [0]
            .into_iter()
            .chain(sizes)
            .map(|size| make(&mut Random::new(SEED), size));
        let mut runners: Vec<Runner<'_, Life>> = Vec::new();
        for text in texts {
            let stage = &stage;
            runners.push(Box::new(move || stage.life(&text)));
        }
        let lives = match turns(ROUNDS, &mut runners) {
            Ok(lives) => lives,
            Err(error) => {
                session.leave_out(&format!("files: {kind}"), &error);
                continue;
            }
        };
        for (index, (group, look, unit)) in LOOKS.into_iter().enumerate() {
            let what = name(kind, look);
            let of = |life: &Vec<Life>| Samples(life.iter().map(|life| life[index]).collect());
            for (size, life) in sizes.into_iter().zip(&lives[1..]) {
                let line = Line::new(group, &what, size, unit, &of(life)).against(
                    ONE,
                    &of(life),
                    &of(&lives[0]),
                );
                let is_limited =
                    (kind, size, index < LIMITS_MS.len()) == (KINDS[0].0, LIMITED_FILTERS, true);
                session.add(line.limit(is_limited.then(|| LIMITS_MS[index])));
            }
        }
    }
    Ok(())
}

fn name(kind: &str, look: &str) -> String {
    format!("{kind}: {look}")
}

/// A daemon in namespaces, with a collector.
struct Stage {
    client: Netns,
    edge: Netns,
    collector: Netns,
}

impl Stage {
    fn new() -> Result<Self> {
        let [client, edge, collector] = ["client", "edge", "collector"].map(Netns::new);
        let (client, edge, collector) = (client?, edge?, collector?);
        veth(&edge, "eth0", &client, "eth0")?;
        veth(&edge, "eth1", &collector, "eth0")?;
        edge.address("eth0", "198.51.100.254/24")?;
        edge.address("eth1", "192.0.2.254/24")?;
        collector.address("eth0", "192.0.2.1/24")?;
        collector.address("eth0", "192.0.2.2/24")?;
        Ok(Self {
            client,
            edge,
            collector,
        })
    }

    /// Starts a daemon, edits one filter several times, kills the daemon, starts it again, and ends
    /// it.
    fn life(&self, many: &str) -> Result<Life> {
        let first = 61_000;
        let begin = Instant::now();
        let mut daemon = Daemon::spawn(&self.edge, &file(many, first), Launch::default())?;
        daemon.changed_by_others();
        daemon.ready(patience())?;
        let start = milliseconds(begin);
        let edits = self.edits(&mut daemon, many, first)?;
        let (peak, rest) = (memory(&daemon, "VmHWM")?, memory(&daemon, "VmRSS")?);
        let maps = maps(&daemon)?;
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(patience())?;
        let begin = Instant::now();
        daemon.restart()?;
        daemon.ready(patience())?;
        let restart = milliseconds(begin);
        Ok([
            start,
            edits.spread().median,
            restart,
            peak.max(memory(&daemon, "VmHWM")?),
            rest,
            maps,
        ])
    }

    /// From the rename of a file in which one filter has changed to the first copy of a packet that
    /// only the new one matches.
    fn edits(&self, daemon: &mut Daemon, many: &str, first: u16) -> Result<Samples> {
        let mut collector = Collector::start_gue(&self.collector, "eth0")?;
        let socket = PacketSocket::open(&self.client, "eth0", Capture::Nothing)?;
        let frame = eth_between(self.client.mac("eth0")?, self.edge.mac("eth0")?)
            .ip(SOURCE, "198.51.100.254");
        let mut times = Samples::default();
        for port in first + 1..=first + EDITS {
            let next = daemon.config_path().with_extension("next");
            std::fs::write(&next, file(many, port))?;
            let frame = frame.clone().udp(1, port).payload([0; 64]).build();
            let stop = AtomicBool::new(false);
            let took = std::thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        socket.send(&frame)?;
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    anyhow::Ok(())
                });
                let begin = Instant::now();
                let copy = std::fs::rename(&next, daemon.config_path())
                    .context("rename")
                    .and_then(|()| {
                        collector.copies_until(
                            |copy| copy.flow().is_ok_and(|f| f.ports == Some((1, port))),
                            patience(),
                        )
                    });
                let took = milliseconds(begin);
                stop.store(true, Ordering::Relaxed);
                sender
                    .join()
                    .expect("the sender does not panic")
                    .and(copy.map(|_| took))
            })?;
            times.0.push(took);
            daemon.reload_done(patience())?;
        }
        Ok(times)
    }
}

/// No address that the other filters may ask for.
const SOURCE: &str = "240.0.0.1";

fn file(many: &str, port: u16) -> String {
    let one = format!(
        "[[filter]]\nname = \"one\"\nprotocol = [\"udp\"]\nsource = [\"{SOURCE}\"]\nto = [\"ids\"]\n"
    );
    format!("{many}{one}destination_port = [{port}]\n")
}

fn patience() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// A value of `/proc/PID/status` in MiB.
fn memory(daemon: &Daemon, key: &str) -> Result<f64> {
    let pid = daemon.pid().context("the daemon does not run")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .context("read the status of the daemon")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .with_context(|| format!("no {key}"))?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// Memory of its maps in MiB.
fn maps(daemon: &Daemon) -> Result<f64> {
    let numbers = Generation::list(daemon.pin_path())?;
    let number = *numbers.last().context("the daemon has no maps")?;
    let maps = Generation::open(daemon.pin_path(), number).memory()?;
    Ok(maps.iter().map(|(_, _, bytes)| bytes).sum::<u64>() as f64 / f64::from(1 << 20))
}
