//! Three hosts: a client, the edge where the daemon runs, a collector. What the client sends must
//! come as copies.

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::file;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::objects::{tc_filters, tcx_programs};
use traffic_mirror_tests::lab::packet::{
    FiveTuple, GUE_PORT, Gue, Ipv4, Udp, eth_between, ip_part,
};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket, PacketType};
use traffic_mirror_tests::lab::traffic::udp_bind;
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::{deadline, pause, process};

/// The beginning of a file that mirrors what comes and goes by `eth0` to the collector.
pub(crate) const SITE: &str = r#"
[[interface]]
name = "eth0"

[endpoint.ids]
address = "192.0.2.10"
"#;

/// [`SITE`] and a filter for UDP datagrams to each of the ports, by the name `port-<n>`.
pub(crate) fn config(ports: &[u16]) -> String {
    SITE.to_owned()
        + &ports
            .iter()
            .map(|port| filter(&format!("port-{port}"), *port))
            .collect::<String>()
}

pub(crate) fn filter(name: &str, port: u16) -> String {
    let fields = format!("protocol = [\"udp\"]\ndestination_port = [{port}]");
    format!("\n{}", file::filter(name, &fields, "\"ids\""))
}

/// A command line of the daemon that has nothing to do with a running one.
pub(crate) fn command(args: &[&str]) -> Result<Command> {
    let mut command = Command::new(traffic_mirror_tests::lab::daemon::binary()?);
    command.args(args);
    Ok(command)
}

/// Runs a command line without white space in its words.
pub(crate) fn shell(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    process::succeed(
        Command::new(words.next().context("no words")?).args(words),
        deadline(),
    )
}

/// Exit code and output of `status --json`.
pub(crate) fn status_of(daemon: &Daemon) -> Result<(i32, Value)> {
    let output = daemon.run(&["status", "--json"])?;
    ensure!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((
        process::code(output.status),
        serde_json::from_slice(&output.stdout)?,
    ))
}

/// Asks for the status until it is as wanted.
pub(crate) fn status_until(daemon: &Daemon, wanted: impl Fn(i32, &Value) -> bool) -> Result<Value> {
    let deadline = deadline();
    loop {
        let (code, status) = status_of(daemon)?;
        if wanted(code, &status) {
            return Ok(status);
        }
        ensure!(
            Instant::now() < deadline,
            "the status is still {code}, {status:#}"
        );
        pause();
    }
}

/// The directory with the pins of a generation's maps, `maps-NUMBER-LAYOUT-PROGRAMS`.
pub(crate) fn maps_of(daemon: &Daemon, number: u32) -> Result<PathBuf> {
    let prefix = format!("maps-{number}-");
    let mut entries = fs::read_dir(daemon.pin_path())?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    };
    entries
        .find(is_it)
        .with_context(|| format!("no {prefix}* below {}", daemon.pin_path().display()))
}

/// The arguments of `run` for each mechanism that the kernel has.
pub(crate) fn mechanisms() -> Result<Vec<&'static str>> {
    let tcx = traffic_mirror_tests::lab::kernel()? >= (6, 6);
    Ok(if tcx {
        vec!["tcx", "clsact"]
    } else {
        vec!["clsact"]
    })
}

pub(crate) fn attach(mechanism: &str) -> Launch {
    Launch {
        args: vec!["--attach".into(), mechanism.into()],
        ..Launch::default()
    }
}

pub(crate) struct Site {
    pub(crate) collector: Collector,
    pub(crate) client: Netns,
    pub(crate) edge: Netns,
    pub(crate) host: Netns,
    receivers: BTreeMap<u16, UdpSocket>,
    serial: u32,
    /// Takes the copies, or the host would complain of each.
    _listener: UdpSocket,
}

/// Writes a program, by another process: one that this process has open for writing cannot be
/// executed.
pub(crate) fn install(path: &Path, text: &str) -> Result<()> {
    let source = path.with_extension("source");
    fs::write(&source, text)?;
    process::succeed(
        Command::new("install").arg("-m755").arg(&source).arg(path),
        deadline(),
    )
    .map(drop)
}

/// Has the daemon load the file again, which changes nothing.
pub(crate) fn reload_unchanged(daemon: &mut Daemon) -> Result<()> {
    daemon.signal(Signal::SIGHUP)?;
    daemon.reload_done(deadline())?;
    let unchanged = |line: &str| line.contains("INFO loaded the file: 0 changes, 0 map writes, ");
    daemon.wait_line(unchanged, deadline()).map(drop)
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        let (client, edge, host) = (
            Netns::new("client")?,
            Netns::new("edge")?,
            Netns::new("collector")?,
        );
        Veth::default().create(&edge, "eth0", &client, "eth0")?;
        // with room for what is wrapped, as it should be
        Veth {
            mtu: 1600,
            ..Veth::default()
        }
        .create(&edge, "eth1", &host, "eth0")?;
        edge.rp_filter(false)?;
        edge.address("eth0", "10.0.0.254/24")?;
        edge.address("eth1", "192.0.2.1/24")?;
        client.address("eth0", "10.0.0.1/24")?;
        host.address("eth0", "192.0.2.10/24")?;
        let collector = Collector::start_filtered(&host, "eth0", is_copy)?;
        let listener = udp_bind(&host, ([0; 16], GUE_PORT).into())?;
        Ok(Self {
            collector,
            client,
            edge,
            host,
            receivers: BTreeMap::new(),
            serial: 0,
            _listener: listener,
        })
    }

    /// Stops the daemon: nothing of it is left in the kernel.
    pub(crate) fn stops(&self, daemon: &mut Daemon) -> Result<()> {
        daemon.signal(Signal::SIGTERM)?;
        assert_eq!(daemon.wait_exit(deadline())?, 0);
        self.bare(daemon.pin_path())
    }

    /// Keeps the collector's neighbour entry as it is: one that ages is a reason to look at the
    /// tables.
    pub(crate) fn keep_neighbour(&self) -> Result<()> {
        let mac = self.host.mac("eth0")?.map(|byte| format!("{byte:02x}"));
        let mac = mac.join(":");
        self.edge.run(&format!(
            "ip neighbour replace 192.0.2.10 lladdr {mac} dev eth1 nud permanent"
        ))?;
        Ok(())
    }

    /// A daemon in the edge that mirrors UDP datagrams to `ports`, ready and with the collector's
    /// hardware address in its tables, so that it has nothing more to do.
    pub(crate) fn daemon(&self, ports: &[u16]) -> Result<Daemon> {
        self.launch(ports, Launch::default())
    }

    /// The same, started in a certain way.
    pub(crate) fn launch(&self, ports: &[u16], launch: Launch) -> Result<Daemon> {
        let mut daemon = Daemon::spawn(&self.edge, &config(ports), launch)?;
        daemon.ready(deadline())?;
        status_until(&daemon, |_, status| {
            status["endpoints"][0]["next_hop"].is_string()
        })?;
        Ok(daemon)
    }

    /// Sends a datagram from the client's `eth0` to a port of the edge: exactly that many copies
    /// must come.
    pub(crate) fn expect(&mut self, port: u16, copies: usize) -> Result<()> {
        self.expect_by("eth0", "eth0", port, copies)
    }

    /// The same by another wire.
    pub(crate) fn expect_by(
        &mut self,
        client: &str,
        edge: &str,
        port: u16,
        copies: usize,
    ) -> Result<()> {
        let frame = self.send_by(client, edge, port)?;
        let what = || format!("of {copies} copies of a datagram to port {port} by {edge}");
        let come = self
            .collector
            .copies(copies, deadline())
            .with_context(what)?;
        for copy in &come {
            ensure!(copy.inner == ip_part(&frame)?, "{}: not identical", what());
        }
        let surplus = self.surplus()?;
        ensure!(surplus.is_empty(), "{}: {surplus:?} came too", what());
        Ok(())
    }

    /// Sends a datagram from the client to a port of the edge, where it must arrive; whatever
    /// becomes of copies. Returns the frame.
    pub(crate) fn send_by(&mut self, client: &str, edge: &str, port: u16) -> Result<Vec<u8>> {
        self.serial += 1;
        let payload = format!("datagram {}", self.serial);
        let macs = (self.client.mac(client)?, self.edge.mac(edge)?);
        let frame = eth_between(macs.0, macs.1)
            .ip("10.0.0.1", "10.0.0.254")
            .udp(999, port)
            .payload(&*payload)
            .build();
        let receiver = match self.receivers.entry(port) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(udp_bind(&self.edge, format!("0.0.0.0:{port}").parse()?)?)
            }
        };
        PacketSocket::open(&self.client, client, Capture::Nothing)?.send(&frame)?;
        let mut buffer = [0; 100];
        let deadline = deadline();
        // a flood may lie in the queue
        while receiver
            .recv(&mut buffer)
            .map(|length| &buffer[..length])
            .context("the original does not arrive")?
            != payload.as_bytes()
        {
            ensure!(Instant::now() < deadline, "the original does not arrive");
        }
        Ok(frame)
    }

    /// What else has come, up to a GUE packet that goes from the edge to the collector without the
    /// daemon.
    pub(crate) fn surplus(&mut self) -> Result<Vec<FiveTuple>> {
        self.copies()?.iter().map(Gue::flow).collect()
    }

    /// The copies that have come, up to such a packet.
    pub(crate) fn copies(&mut self) -> Result<Vec<Gue>> {
        let payload = self.sentinel()?;
        self.collector
            .copies_until(|copy| copy.inner.ends_with(payload.as_bytes()), deadline())
    }

    /// Forgets what has come so far, be it no GUE.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let payload = self.sentinel()?;
        self.collector
            .until(|frame| frame.ends_with(payload.as_bytes()), deadline())
            .map(drop)
    }

    /// Sends the collector a GUE packet that ends with what is returned.
    fn sentinel(&mut self) -> Result<String> {
        self.serial += 1;
        let payload = format!("sentinel {}", self.serial);
        let outer = eth_between(self.edge.mac("eth1")?, self.host.mac("eth0")?)
            .ip("192.0.2.1", "192.0.2.10");
        let sentinel = outer
            .udp(1, GUE_PORT)
            .gue()
            .ip("10.9.9.1", "10.9.9.2")
            .udp(1, 2)
            .payload(&*payload)
            .build();
        PacketSocket::open(&self.edge, "eth1", Capture::Nothing)?.send(&sentinel)?;
        Ok(payload)
    }

    /// That no program or filter of ours is on any interface of the edge.
    pub(crate) fn bare(&self, pin_path: &Path) -> Result<()> {
        ensure!(!pin_path.exists(), "{} is left", pin_path.display());
        for interface in ["eth0", "eth1"] {
            let left = self.programs(interface)?;
            ensure!(left.is_empty(), "programs {left:?} are left on {interface}");
            ensure!(
                tc_filters(&self.edge, interface)?.is_empty(),
                "filters are left on {interface}"
            );
        }
        Ok(())
    }

    /// The TCX programs on both hooks of an interface of the edge.
    pub(crate) fn programs(&self, interface: &str) -> Result<Vec<u32>> {
        let on = |direction| tcx_programs(&self.edge, interface, direction);
        Ok([on(PacketType::Incoming)?, on(PacketType::Outgoing)?].concat())
    }

    /// Sends datagrams both ways through the edge's `eth0` as fast as this machine can while
    /// `during` runs, the client's to port 4000 and the edge's to port 4001, each no more than
    /// `ahead` datagrams ahead of the copies, with a pause behind each. Returns the frames, and how
    /// often each was sent; the last four bytes are its number.
    pub(crate) fn pour(
        &self,
        ahead: usize,
        pause: Duration,
        during: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<(Vec<u8>, u32)>> {
        let stop = AtomicBool::new(false);
        let (count, before) = (self.collector.counter(), self.collector.count());
        let macs = [self.client.mac("eth0")?, self.edge.mac("eth0")?];
        let ways = [
            (
                &self.client,
                eth_between(macs[0], macs[1]),
                ("10.0.0.1", "10.0.0.254"),
                4000,
            ),
            (
                &self.edge,
                eth_between(macs[1], macs[0]),
                ("10.0.0.254", "10.0.0.1"),
                4001,
            ),
        ];
        let mut senders = Vec::new();
        for (host, frame, (from, to), port) in ways {
            let udp = Udp {
                source_port: 1,
                destination_port: port,
                checksum: Some(0),
                ..Udp::default()
            };
            let frame = frame
                .layer(Ipv4::new(from, to))
                .layer(udp)
                .payload([0; 4])
                .build();
            senders.push((PacketSocket::open(host, "eth0", Capture::Nothing)?, frame));
        }
        let send = |socket: &PacketSocket, mut frame: Vec<u8>| {
            let (at, mut sent) = (frame.len() - 4, 0_u32);
            while !stop.load(Ordering::Relaxed) {
                if sent as usize > count.load(Ordering::Relaxed) - before + ahead {
                    std::thread::yield_now();
                    continue;
                }
                frame[at..].copy_from_slice(&sent.to_be_bytes());
                socket.send(&frame)?;
                sent += 1;
                if !pause.is_zero() {
                    std::thread::sleep(pause);
                }
            }
            anyhow::Ok((frame, sent))
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = senders
                .into_iter()
                .map(|(socket, frame)| scope.spawn(move || send(&socket, frame)))
                .collect();
            let done = during();
            stop.store(true, Ordering::Relaxed);
            let sent = threads
                .into_iter()
                .map(|thread| thread.join().expect("a sender does not panic"));
            let sent = sent.collect::<Result<_>>();
            done.and(sent)
        })
    }

    /// The same, and each datagram must have come as exactly one copy.
    pub(crate) fn flood(&mut self, during: impl FnOnce() -> Result<()>) -> Result<Flooded> {
        self.flood_with(Duration::ZERO, during)
    }

    /// The same with a pause behind each datagram, so that the processor has time for more than
    /// that.
    pub(crate) fn trickle(&mut self, during: impl FnOnce() -> Result<()>) -> Result<Flooded> {
        self.flood_with(Duration::from_micros(200), during)
    }

    fn flood_with(
        &mut self,
        pause: Duration,
        during: impl FnOnce() -> Result<()>,
    ) -> Result<Flooded> {
        let poured = self.pour(AHEAD, pause, during)?;
        self.each_once(poured)
    }

    /// That each datagram of [`Site::pour`] has come as exactly one copy.
    pub(crate) fn each_once(&mut self, poured: Vec<(Vec<u8>, u32)>) -> Result<Flooded> {
        let (frames, sent): (Vec<_>, Vec<_>) = poured.into_iter().unzip();
        let total: u32 = sent.iter().sum();
        let copies = self
            .collector
            .copies(total as usize, deadline())
            .context("lost copies")?;
        ensure!(
            self.surplus()?.is_empty(),
            "copies of the same packet twice"
        );
        let mut flooded = Flooded {
            sent: total,
            by_port: BTreeMap::new(),
        };
        let mut seen = [BTreeSet::new(), BTreeSet::new()];
        for copy in copies {
            let (rest, number) = copy.inner.split_last_chunk::<4>().context("a short copy")?;
            let Some(way) = frames
                .iter()
                .position(|frame| frame[14..].starts_with(rest))
            else {
                bail!("a copy of nothing that was sent: {:?}", copy.flow());
            };
            ensure!(
                seen[way].insert(u32::from_be_bytes(*number)),
                "two copies of one packet"
            );
            *flooded.by_port.entry(copy.dport).or_default() += 1;
        }
        for (way, sent) in seen.iter().zip(sent) {
            ensure!(
                way.len() == sent as usize,
                "{} of {sent} packets were copied",
                way.len()
            );
        }
        Ok(flooded)
    }
}

/// So that the receive buffer of the capture does not overflow on a slow machine.
pub(crate) const AHEAD: usize = 50_000;

/// What came of a flood.
pub(crate) struct Flooded {
    /// Packets, each copied once.
    pub(crate) sent: u32,
    /// Copies by the outer destination port.
    pub(crate) by_port: BTreeMap<u16, u32>,
}

/// GUE, also to the ports beside its own.
fn is_copy(frame: &[u8]) -> bool {
    let flow = ip_part(frame).and_then(FiveTuple::parse);
    flow.is_ok_and(|flow| {
        flow.protocol == 17
            && flow
                .ports
                .is_some_and(|(_, to)| (GUE_PORT..GUE_PORT + 8).contains(&to))
    })
}
