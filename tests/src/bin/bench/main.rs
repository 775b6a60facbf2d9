//! What a packet costs, what the maps cost, what a reload costs: text, or `--json`; `--only TEXT` for the lines that
//! contain it. Times are those of `BPF_PROG_TEST_RUN` on one CPU, each beside an empty program of the same object in
//! the same run.

mod reload;

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, TcAttachType};
use serde_json::{Value, json};
use traffic_mirror::desired::Desired;
use traffic_mirror::kernel::{Attachment, Role};
use traffic_mirror::network::{Hook, Link, LinkKind, Network, Path, Route, RouteKind};
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Packet, eth};
use traffic_mirror_tests::lab::testrun::TestRun;
use traffic_mirror_tests::lab::veth::veth;
use traffic_mirror_tests::oracle::kernel::{Loaded, descriptor};
use traffic_mirror_tests::oracle::naive::{Flow, Place, Unknown, ask, places};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{compiled, configuration, large, load};

const SEED: u64 = 1;
const ROUNDS: usize = 7;
const REPEAT: u32 = 1_000_000;
/// Packets of a line that chooses them at random: the cost is their mean.
const SAMPLE: usize = 32;
/// Fewer rounds where each takes long.
const COPY_REPEAT: u32 = 100_000;
const SIZES: [usize; 5] = [0, 1, 100, 10_000, 16_384];
/// Most that an unmatched packet may cost over the empty program, ns: IPv4 and IPv6, up to 10,000 filters.
const LIMITS_NS: [i64; 2] = [18, 28];
const LIMITED_FILTERS: usize = 10_000;
/// Most that the maps may take, bytes.
const MEMORY_LIMITS: [(usize, u64); 2] = [(10, 4 << 20), (10_000, 64 << 20)];

fn main() -> Result<()> {
    let mut report = Report { text: true, only: String::new(), values: Vec::new() };
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next_if(|_| argument == "--only")) {
            ("--json", _) => report.text = false,
            ("--only", Some(text)) => report.only = text,
            _ => anyhow::bail!("usage: bench [--json] [--only TEXT]"),
        }
    }
    // the first CPU has more to do beside
    let last = *Cpu::all()?.last().context("no CPU to run on")?;
    last.run(|| packets(&mut report))?;
    if report.wants("reload") {
        report.heading("From a file of 10,000 filters to a program that runs");
        reload::stages(&mut report)?;
        report.heading("A daemon with 10,000 filters");
        reload::daemon(&mut report)?;
    }
    if report.only.is_empty() {
        report.heading("Memory of the maps");
        for (filters, limit) in MEMORY_LIMITS {
            memory(&mut report, filters, limit)?;
        }
    }
    if !report.text {
        println!("{}", serde_json::to_string_pretty(&report.values)?);
    }
    Ok(())
}

/// What packets cost.
fn packets(report: &mut Report) -> Result<()> {
    report.heading(&format!(
        "A packet that nothing matches: ns over the empty program, median of {ROUNDS} times {REPEAT}, limits {} (IPv4) \
         and {} (IPv6)",
        LIMITS_NS[0], LIMITS_NS[1]
    ));
    for filters in SIZES {
        unmatched(report, filters)?;
    }
    report.heading("A packet that is mirrored");
    for filters in [1, 100, 10_000] {
        matched(report, filters)?;
    }
    copied(report)?;
    report.heading("A packet that an output interface receives");
    received(report)
}

/// Lines for people, or values for programs.
struct Report {
    text: bool,
    only: String,
    values: Vec<Value>,
}

impl Report {
    fn heading(&self, text: &str) {
        if self.text {
            println!("\n{text}");
        }
    }

    fn line(&mut self, text: &str, value: Value) {
        if self.text {
            println!("  {text}");
        }
        self.values.push(value);
    }

    fn wants(&self, what: &str) -> bool {
        what.contains(&self.only)
    }

    fn cost(&mut self, what: &str, filters: usize, cost: Cost, limit: Option<i64>) {
        let Cost { over, best, noop } = cost;
        let verdict = limit.map(|limit| if over <= limit { "OK" } else { "OVER" });
        let ratio = (noop + over) as f64 / noop.max(1) as f64;
        let text = format!(
            "{filters:>6} filters  {what:<44} {over:>5} ns  best {best:>4}  x{ratio:<5.1} {}",
            verdict.unwrap_or("")
        );
        let value = json!({
            "what": what, "filters": filters, "over_noop_ns": over, "best_ns": best, "noop_ns": noop, "limit_ns": limit, "verdict": verdict,
        });
        self.line(text.trim_end(), value);
    }
}

/// Nanoseconds for one packet.
#[derive(Clone, Copy)]
struct Cost {
    /// Median of the differences to the empty program beside.
    over: i64,
    /// Difference of the two minima: what is left on a machine that has other work.
    best: i64,
    /// Median of the empty program.
    noop: i64,
}

/// Runs a program and the empty one in turns, `repeat` times in all in each round.
fn measure(program: BorrowedFd<'_>, noop: BorrowedFd<'_>, frames: &[Vec<u8>], repeat: u32) -> Result<Cost> {
    let repeat = repeat / frames.len() as u32;
    let time = |program: BorrowedFd<'_>, frame: &[u8]| -> Result<i64> {
        Ok(TestRun { repeat, ..TestRun::new(frame) }.run(program)?.duration.as_nanos() as i64)
    };
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let (mut over, mut empty) = (0, 0);
        for frame in frames {
            let noop = time(noop, frame)?;
            over += time(program, frame)? - noop;
            empty += noop;
        }
        pairs.push((over / frames.len() as i64, empty / frames.len() as i64));
    }
    let sorted = |pick: fn(&(i64, i64)) -> i64| {
        let mut values: Vec<i64> = pairs.iter().map(pick).collect();
        values.sort_unstable();
        values
    };
    let (over, noop, both) = (sorted(|pair| pair.0), sorted(|pair| pair.1), sorted(|pair| pair.0 + pair.1));
    Ok(Cost { over: over[ROUNDS / 2], best: both[0] - noop[0], noop: noop[ROUNDS / 2] })
}

/// A file in the kernel, with the place of its first hook and the empty program.
struct Subject {
    desired: Desired,
    place: Place,
    loaded: Loaded,
    noop: ProgramFd,
    random: Random,
}

impl Subject {
    fn new(filters: usize) -> Result<Self> {
        let mut random = Random::new(SEED);
        let desired = load(&large::mixed(&mut random, filters));
        let network = at_loopback(configuration::network());
        let tables = compiled(&desired, &network).tables;
        let place = places(&desired, &network).swap_remove(0);
        let loaded = Loaded::new(&tables, random.bits())?;
        let noop = noop(&loaded)?;
        Ok(Self { desired, place, loaded, noop, random })
    }

    fn measure(&mut self, frames: &[Vec<u8>], repeat: u32) -> Result<Cost> {
        measure(self.loaded.mirror(self.place.direction), self.noop.as_fd(), frames, repeat)
    }

    fn matches(&self, flow: &Flow) -> usize {
        ask(&self.desired, &self.place, flow).filters.len()
    }

    /// TCP flows to random addresses in the networks that the filters lie in, from such addresses or from `source`, to
    /// ports that some filter asks for if `wanted_port`; those that so many filters match, [`SAMPLE`] if there are.
    fn inside(&mut self, v6: bool, source: Option<IpAddr>, wanted_port: bool, matching: usize) -> Vec<Vec<u8>> {
        let ports: Vec<u16> =
            self.desired.filters.iter().flat_map(|f| &f.destination_port).map(|r| *r.start()).collect();
        let chosen = (0..200_000).filter_map(|_| {
            let random = &mut self.random;
            let mut address = || -> IpAddr {
                if v6 {
                    (0xfd << 120 | random.wide() >> 8).to_be_bytes().into()
                } else {
                    (10 << 24 | random.bits() as u32 >> 8).to_be_bytes().into()
                }
            };
            let (source, destination) = (source.unwrap_or_else(&mut address), address());
            let port = if wanted_port && !ports.is_empty() { *random.pick(&ports) } else { random.bits() as u16 };
            let flow = Flow {
                source,
                destination,
                protocol: TCP,
                ports: Some((40_000, port)),
                vlan: 0,
                unknown: Unknown::Nothing,
            };
            (self.matches(&flow) == matching).then(|| plain(&flow))
        });
        chosen.take(SAMPLE).collect()
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A frame of 100 bytes of payload.
fn dress(flow: &Flow, dress: impl FnOnce(Packet) -> Packet) -> Vec<u8> {
    let (source, destination) = flow.ports.unwrap_or_default();
    let packet = dress(eth()).ip(flow.source, flow.destination);
    let packet = match flow.protocol {
        TCP => packet.tcp(source, destination),
        UDP => packet.udp(source, destination),
        protocol => packet.raw(protocol, [source.to_be_bytes(), destination.to_be_bytes()].concat()),
    };
    packet.payload([0; 100]).build()
}

fn plain(flow: &Flow) -> Vec<u8> {
    dress(flow, |packet| packet)
}

fn unmatched(report: &mut Report, filters: usize) -> Result<()> {
    let mut subject = Subject::new(filters)?;
    let outside4 = Flow {
        source: "192.0.2.1".parse()?,
        destination: "198.51.100.2".parse()?,
        protocol: TCP,
        ports: Some((40_000, 443)),
        vlan: 0,
        unknown: Unknown::Nothing,
    };
    let outside6 = Flow { source: "2001:db8::1".parse()?, destination: "2001:db8::2".parse()?, ..outside4.clone() };
    let udp = |flow: &Flow| Flow { protocol: UDP, ..flow.clone() };
    let extended = eth().ip(outside6.source, outside6.destination).destination_options().tcp(40_000, 443);
    let pinged = eth().ip(outside4.source, outside4.destination).icmp(8, 0).payload([0; 100]).build();
    let mut frames: Vec<(&str, Vec<Vec<u8>>)> = [
        ("outside, IPv4 TCP", plain(&outside4)),
        ("outside, IPv4 UDP", plain(&udp(&outside4))),
        ("outside, IPv4 TCP, VLAN tag in the frame", dress(&outside4, |packet| packet.vlan(7))),
        ("outside, IPv6 TCP", plain(&outside6)),
        ("outside, IPv6 UDP", plain(&udp(&outside6))),
        ("outside, IPv6 TCP behind an extension header", extended.payload([0; 100]).build()),
        ("unwanted protocol, IPv4 ICMP", pinged),
        ("unwanted protocol, IPv4 SCTP", plain(&Flow { protocol: 132, ..outside4.clone() })),
        ("unwanted protocol, IPv6 SCTP", plain(&Flow { protocol: 132, ..outside6.clone() })),
    ]
    .map(|(name, frame)| (name, vec![frame]))
    .into();
    let inwards = [
        ("from outside to random inside, IPv4 TCP", false, Some(outside4.source), false),
        ("from outside to random inside, IPv6 TCP", true, Some(outside6.source), false),
        ("random inside, IPv4 TCP", false, None, false),
        ("random inside, IPv4 TCP to a wanted port", false, None, true),
        ("random inside, IPv6 TCP", true, None, false),
        ("random inside, IPv6 TCP to a wanted port", true, None, true),
    ];
    let prototype = Flow { destination: "10.0.0.2".parse()?, ..outside4.clone() };
    if subject.matches(&prototype) == 0 {
        frames.push(("from outside to 10.0.0.2, IPv4 TCP", vec![plain(&prototype)]));
    }
    for (name, v6, source, wanted_port) in inwards {
        if report.wants(name) {
            frames.push((name, subject.inside(v6, source, wanted_port, 0)));
        }
    }
    for (name, frames) in frames {
        if !report.wants(name) || frames.is_empty() {
            continue;
        }
        let limit = LIMITS_NS[usize::from(name.contains("IPv6"))];
        let cost = subject.measure(&frames, REPEAT)?;
        report.cost(name, filters, cost, (filters <= LIMITED_FILTERS).then_some(limit));
    }
    ensure!(subject.loaded.matched()?.iter().all(|count| count.packets == 0), "a packet has matched");
    Ok(())
}

/// One filter matches, and its endpoint is out of reach: all but the copy itself.
fn matched(report: &mut Report, filters: usize) -> Result<()> {
    let mut subject = Subject::new(filters)?;
    for (v6, name) in [(false, "matched, no route, IPv4 TCP"), (true, "matched, no route, IPv6 TCP")] {
        if !report.wants(name) {
            continue;
        }
        let frames = subject.inside(v6, None, true, 1);
        if frames.is_empty() {
            continue;
        }
        let runs = frames.len() as u64 * u64::from(REPEAT / frames.len() as u32);
        let before: u64 = subject.loaded.no_route()?.iter().sum();
        let cost = subject.measure(&frames, REPEAT)?;
        let dropped = subject.loaded.no_route()?.iter().sum::<u64>() - before;
        ensure!(dropped == ROUNDS as u64 * runs, "{dropped} packets matched");
        report.cost(name, filters, cost, None);
    }
    Ok(())
}

/// What the program costs that looks for errors about copies.
fn received(report: &mut Report) -> Result<()> {
    let subject = Subject::new(1)?;
    let role = Role::Errors { generation: subject.loaded.generation().number() };
    let attachment = Attachment { role, interface: 0, direction: Hook::Ingress };
    let errors = subject.loaded.generation().program_of(attachment, LinkKind::Ethernet)?;
    let errors = errors.fd()?.as_fd();
    let (ip4, ip6) = (eth().ip("10.0.0.1", "10.0.0.2"), eth().ip("2001:db8::1", "2001:db8::2"));
    for (name, packet) in [
        ("received, IPv4 TCP", ip4.clone().tcp(40_000, 443)),
        ("received, IPv6 TCP", ip6.clone().tcp(40_000, 443)),
        ("received, IPv4 echo request", ip4.icmp(8, 0)),
        ("received, IPv6 echo request", ip6.icmpv6(128, 0)),
    ] {
        if report.wants(name) {
            let frames = [packet.payload([0; 100]).build()];
            let cost = measure(errors, subject.noop.as_fd(), &frames, REPEAT)?;
            report.cost(name, 1, cost, None);
        }
    }
    Ok(())
}

/// The whole way: clone, wrap, out of a veth whose peer is down and drops.
fn copied(report: &mut Report) -> Result<()> {
    let netns = Netns::new("bench")?;
    veth(&netns, "out", &netns, "peer")?;
    netns.run("ip link set peer down")?;
    let index = netns.index("out")?;
    for (address, source, payload, name) in [
        ("192.0.2.1", "192.0.2.9", 100, "matched, copied over IPv4, IPv4 TCP"),
        ("2001:db8::1", "2001:db8::9", 100, "matched, copied over IPv6, IPv4 TCP"),
        ("192.0.2.1", "192.0.2.9", 1460, "matched, copied in two fragments over IPv4, IPv4 TCP of 1500 bytes"),
    ] {
        if !report.wants(name) {
            continue;
        }
        let text = format!(
            "[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"{address}\"\nmtu = 1500\n\
             [[filter]]\nname = \"all\"\nprotocol = [\"tcp\"]\nto = [\"ids\"]\n"
        );
        let tables = compiled(&load(&text), &reaching(index, source.parse()?)).tables;
        let loaded = Loaded::new(&tables, Random::new(SEED).bits())?;
        let noop = noop(&loaded)?;
        let mut encap = loaded.generation().encap()?;
        let frame = eth().ip("10.0.0.1", "10.0.0.2").tcp(40_000, 443).payload(vec![0; payload]).build();
        let mirror = loaded.mirror(Hook::Ingress);
        let cost = netns.enter(|| {
            encap.attach("out", TcAttachType::Egress)?;
            measure(mirror, noop.as_fd(), &[frame], COPY_REPEAT)
        })?;
        report.cost(name, 1, cost, None);
        let stats = &loaded.generation().endpoint_stats(1)?[0];
        let total = |pick: fn(&traffic_mirror_ebpf::abi::EndpointStats) -> u64| stats.iter().map(pick).sum::<u64>();
        let (sent, dropped) = (total(|cpu| cpu.sent.packets), total(|cpu| cpu.drops.iter().sum()));
        let queue = total(|cpu| cpu.drops[traffic_mirror_ebpf::abi::Drop::Queue as usize]);
        ensure!(
            sent + queue == ROUNDS as u64 * u64::from(COPY_REPEAT),
            "{sent} sent, {queue} of {dropped} at the peer"
        );
    }
    Ok(())
}

/// A network in which every endpoint is on the link of interface `index`.
fn reaching(index: u32, source: IpAddr) -> Network {
    let mut network = at_loopback(configuration::network());
    let template = network.links.values().find(|link| link.name == "eth1").cloned();
    if let Some(link) = template {
        network.links.insert(index, Link { index, name: "out".to_owned(), ..link });
    }
    let route = Route {
        interface: index,
        gateway: None,
        source: Some(source),
        mtu: None,
        kind: RouteKind::Unicast,
        assumed: false,
    };
    let path = Path { route: Some(route), mac: Some([2, 0, 0, 0, 0, 9]), ..Path::default() };
    network.paths.insert("ids".to_owned(), path);
    network
}

/// The same network with `eth0` at the index of `lo`, where a test run has its frame come by.
fn at_loopback(mut network: Network) -> Network {
    let eth0 = network.link("eth0").map(|link| link.index);
    if let Some(link) = eth0.and_then(|index| network.links.remove(&index)) {
        network.links.insert(1, Link { index: 1, ..link });
    }
    network
}

fn noop(loaded: &Loaded) -> Result<ProgramFd> {
    let mut noop = loaded.generation().noop()?;
    descriptor(noop.classifier().map_err(anyhow::Error::msg)?)
}

fn memory(report: &mut Report, filters: usize, limit: u64) -> Result<()> {
    let subject = Subject::new(filters)?;
    let maps = subject.loaded.generation().memory()?;
    let bytes: u64 = maps.iter().map(|(_, _, bytes)| bytes).sum();
    let mut largest = maps.clone();
    largest.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
    let largest: Vec<String> =
        largest.iter().take(4).map(|(name, _, bytes)| format!("{name} {} KiB", bytes / 1024)).collect();
    let verdict = if bytes < limit { "OK" } else { "OVER" };
    let (kib, limit_kib) = (bytes / 1024, limit / 1024);
    let text = format!("{filters:>6} filters  {kib:>6} KiB of {limit_kib}  {verdict}  ({})", largest.join(", "));
    report.line(
        &text,
        json!({"what": "memory", "filters": filters, "bytes": bytes, "limit_bytes": limit, "verdict": verdict}),
    );
    Ok(())
}
