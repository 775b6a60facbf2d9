//! What a reload costs: its stages by themselves, and the real daemon as a packet sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use traffic_mirror::kernel::Generation;
use traffic_mirror::tables::Table;
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::eth_between;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::veth::veth;
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{compiled, configuration, large, load};

use crate::{LIMITED_FILTERS, Report, SEED};

pub(crate) fn stages(report: &mut Report) -> Result<()> {
    let mut random = Random::new(SEED);
    let text = large::mixed(&mut random, LIMITED_FILTERS);
    let pins = traffic_mirror_tests::oracle::kernel::PinPath::new()?;
    let mut step = |what: &str, begin: Instant| {
        let took: Duration = begin.elapsed();
        let milliseconds = took.as_secs_f64() * 1000.0;
        report.line(&format!("{milliseconds:>8.1} ms  {what}"), json!({"what": what, "milliseconds": milliseconds}));
    };
    let begin = Instant::now();
    let desired = load(&text);
    step("read and check the file", begin);
    let begin = Instant::now();
    let tables = compiled(&desired, &configuration::network()).tables;
    step("compile the tables", begin);
    let begin = Instant::now();
    let generation = Generation::create(pins.path(), 1, &tables)?;
    step("create the maps", begin);
    let begin = Instant::now();
    for table in Table::ALL {
        generation.write(table, tables.pieces(table))?;
    }
    step("fill the maps", begin);
    let begin = Instant::now();
    generation.load_programs()?;
    step("load the programs", begin);
    Ok(())
}

/// Most that a cold start may take, and the median of the times from the rename of a file to the first copy.
const START_LIMIT: Duration = Duration::from_millis(500);
const RELOAD_LIMIT: Duration = Duration::from_millis(50);
const RELOADS: u16 = 21;

/// A real daemon in namespaces: from its start to `READY=1`, and from the rename of a file in which one filter has changed
/// to the first copy of a packet that only the new one matches.
pub(crate) fn daemon(report: &mut Report) -> Result<()> {
    let [client, edge, host] = ["client", "edge", "collector"].map(Netns::new);
    let (client, edge, host) = (client?, edge?, host?);
    veth(&edge, "eth0", &client, "eth0")?;
    veth(&edge, "eth1", &host, "eth0")?;
    edge.address("eth0", "198.51.100.254/24")?;
    edge.address("eth1", "192.0.2.254/24")?;
    host.address("eth0", "192.0.2.1/24")?;
    host.address("eth0", "192.0.2.2/24")?;
    let many = large::mixed(&mut Random::new(SEED), LIMITED_FILTERS - 1);
    let file = |port: u16| {
        let one = "[[filter]]\nname = \"one\"\nprotocol = [\"udp\"]\nsource = [\"198.51.100.1\"]\nto = [\"ids\"]\n";
        format!("{many}{one}destination_port = [{port}]\n")
    };
    let patience = || Instant::now() + Duration::from_secs(30);
    let first = 61_000;
    let begin = Instant::now();
    let mut daemon = Daemon::spawn(&edge, &file(first), Launch::default())?;
    daemon.ready(patience())?;
    time(report, "cold start, to READY=1", begin.elapsed(), START_LIMIT);

    let mut collector = Collector::start_gue(&host, "eth0")?;
    let socket = PacketSocket::open(&client, "eth0", Capture::Nothing)?;
    let frame = eth_between(client.mac("eth0")?, edge.mac("eth0")?).ip("198.51.100.1", "198.51.100.254");
    let mut times = Vec::new();
    for port in first + 1..=first + RELOADS {
        let next = daemon.config_path().with_extension("next");
        std::fs::write(&next, file(port))?;
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
            let copy = std::fs::rename(&next, daemon.config_path()).context("rename").and_then(|()| {
                collector.copies_until(|copy| copy.flow().is_ok_and(|f| f.ports == Some((1, port))), patience())
            });
            let took = begin.elapsed();
            stop.store(true, Ordering::Relaxed);
            sender.join().expect("the sender does not panic").and(copy.map(|_| took))
        })?;
        times.push(took);
        daemon.reload_done(patience())?;
    }
    times.sort_unstable();
    time(report, "one filter edited, from the rename to a copy, median", times[times.len() / 2], RELOAD_LIMIT);
    Ok(())
}

fn time(report: &mut Report, what: &str, took: Duration, limit: Duration) {
    let (milliseconds, most) = (took.as_secs_f64() * 1000.0, limit.as_millis());
    let verdict = if took <= limit { "OK" } else { "OVER" };
    report.line(
        &format!("{milliseconds:>8.1} ms of {most}  {verdict}  {what}"),
        json!({"what": what, "milliseconds": milliseconds, "limit_milliseconds": most, "verdict": verdict}),
    );
}
