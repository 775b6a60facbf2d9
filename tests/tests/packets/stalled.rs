//! An output that stalls: what memory copies really hold there, whatever they are, and what
//! production notices of it.
//!
//! Memory is that of the host: what becomes free when the queue is thrown away. The queue's own
//! bytes are what the bound is compared with; that they are the memory is what is asserted here.

use crate::backlog::held;
use crate::edge::Attach;
use crate::routed::{CLIENT, COLLECTOR, Routed, SERVER, address, count};
use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::memory::free_bytes;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::traffic::udp_bind;
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::{DEADLINE, ethtool, kernel, patience};

const MIB: i64 = 1 << 20;

/// A queue of 10 Mbit with room for so many packets of any length; slower where all is.
fn stall(lab: &Routed, packets: u32) -> Result<()> {
    let rate = if patience() > 4 { "1mbit" } else { "10mbit" };
    lab.edge.run(&format!(
        "tc qdisc replace dev eth1 root handle 1: tbf rate {rate} burst 128kb latency 1000s"
    ))?;
    lab.edge
        .run(&format!(
            "tc qdisc add dev eth1 parent 1:1 handle 10: pfifo limit {packets}"
        ))
        .map(drop)
}

/// Throws away what the queue holds.
fn relieve(lab: &Routed) -> Result<()> {
    lab.edge
        .run("tc qdisc replace dev eth1 root pfifo")
        .map(drop)
}

/// One kind of copies for each port of the server.
const FILE: &str = "[[interface]]\nname = \"eth0\"\n\
    [endpoint.plain]\naddress = \"10.9.0.1\"\n\
    [endpoint.less]\naddress = \"10.9.0.1\"\nport = 6081\nbacklog = \"16MiB\"\n\
    [endpoint.heads]\naddress = \"10.9.0.1\"\nport = 6082\nbacklog = \"16MiB\"\nsnap = 128\n\
    [endpoint.any]\naddress = \"10.9.0.1\"\nport = 6083\nbacklog = \"64GiB\"\n\
    [endpoint.least]\naddress = \"10.9.0.1\"\nport = 6084\nbacklog = \"4MiB\"\n";
const FIRST: u16 = 6080;
/// Endpoints beside those, with the bound of "less".
const OTHERS: u16 = 8;

/// Ports of the server, and the endpoint that gets copies.
const PLAIN: u16 = 443;
const LESS: u16 = 444;
const HEADS: u16 = 445;
const ANY: u16 = 446;
const LEAST: u16 = 447;
/// To all [`OTHERS`].
const MANY: u16 = 448;
const NOBODY: u16 = 449;

fn file() -> Result<String> {
    let mut text = FILE.to_owned();
    let mut many = Vec::new();
    for number in 0..OTHERS {
        let port = FIRST + 5 + number;
        writeln!(
            text,
            "[endpoint.e{number}]\naddress = \"10.9.0.1\"\nport = {port}\nbacklog = \"16MiB\""
        )?;
        many.push(format!("\"e{number}\""));
    }
    let (many, quoted) = (many.join(", "), |name: &str| format!("\"{name}\""));
    for (port, to) in [
        (PLAIN, quoted("plain")),
        (LESS, quoted("less")),
        (HEADS, quoted("heads")),
        (ANY, quoted("any")),
        (LEAST, quoted("least")),
        (MANY, many),
    ] {
        writeln!(
            text,
            "[[filter]]\nname = \"to-{port}\"\nbidirectional = true\ndestination_port = [{port}]\nto = [{to}]"
        )?;
    }
    Ok(text)
}

/// The laboratory, and sockets for all copies, or ICMP would say that nobody listens.
fn site() -> Result<(Routed, Vec<UdpSocket>)> {
    // where the queue is does not depend on how the programs are attached
    let output = Veth {
        offload: false,
        tx_queue_len: 10_000,
        ..Veth::default()
    };
    let lab = Routed::with_output(&file()?, Attach::all()?[0], &output)?;
    let listen = |number| udp_bind(&lab.collector, address(COLLECTOR[0], FIRST + number));
    let sockets = (0..5 + OTHERS).map(listen).collect::<Result<_>>()?;
    Ok((lab, sockets))
}

/// What production sends.
#[derive(Clone, Copy)]
enum Load {
    /// One TCP stream.
    Stream,
    /// Datagrams of so many bytes, one by one.
    Datagrams(usize),
}

impl Load {
    fn send(self, lab: &Routed, port: u16, bytes: i64) -> Result<()> {
        let to = address(SERVER[0], port);
        match self {
            Self::Stream => pour(&lab.client, &lab.server, to, bytes),
            Self::Datagrams(length) => {
                let here = udp_bind(&lab.client, address(CLIENT[0], 4433))?;
                // a small buffer: what is in it is freed some time after the socket is closed
                let _there = lab.server.enter(|| Ok(UdpSocket::bind(to)?))?;
                let payload = vec![1; length];
                for _ in 0..bytes as usize / (length + 768) {
                    here.send_to(&payload, to)?;
                }
                Ok(())
            }
        }
    }
}

/// Has the kernel carry so many bytes over TCP, as fast as it can.
fn pour(client: &Netns, server: &Netns, to: SocketAddr, bytes: i64) -> Result<()> {
    let listener = server
        .enter(|| Ok(TcpListener::bind(to)?))
        .with_context(|| format!("listen on {to}"))?;
    thread::scope(|scope| {
        let receiving = scope.spawn(|| -> Result<i64> {
            let (mut from, _) = listener.accept()?;
            from.set_read_timeout(Some(DEADLINE * patience()))?;
            let (mut buffer, mut sum) = (vec![0; 256 << 10], 0);
            loop {
                match from.read(&mut buffer)? {
                    0 => return Ok(sum),
                    length => sum += length as i64,
                }
            }
        });
        let mut connection =
            client.enter(|| Ok(TcpStream::connect_timeout(&to, DEADLINE * patience())?))?;
        let buffer = vec![1; 256 << 10];
        for at in (0..bytes).step_by(buffer.len()) {
            connection.write_all(&buffer[..buffer.len().min((bytes - at) as usize)])?;
        }
        connection.shutdown(Shutdown::Write)?;
        let arrived = receiving.join().expect("the receiver does not panic")?;
        ensure!(arrived == bytes, "{arrived} of {bytes} bytes arrived");
        // until the other end has closed
        ensure!(connection.read(&mut [0])? == 0, "the receiver answered");
        Ok(())
    })
}

/// What is sent, to which port, and how many MiB copies may hold, at least and at most. The kernel
/// rounds the memory of a packet in one piece up to a power of two: up to twice what a queue
/// counts. Copies for several endpoints share their bytes.
type Kind = (&'static str, Load, u16, [i64; 2]);

const KINDS: [Kind; 6] = [
    (
        "a TCP stream, and the default",
        Load::Stream,
        PLAIN,
        [40, 64 + 12],
    ),
    ("a TCP stream, and no bound", Load::Stream, ANY, [84, 300]),
    (
        "a TCP stream to eight endpoints",
        Load::Stream,
        MANY,
        [0, 16 + 12],
    ),
    (
        "a TCP stream, of which heads are sent",
        Load::Stream,
        HEADS,
        [8, 2 * 16 + 12],
    ),
    (
        "small datagrams",
        Load::Datagrams(64),
        LESS,
        [1, 2 * 16 + 12],
    ),
    (
        "datagrams of which heads are sent",
        Load::Datagrams(1400),
        HEADS,
        [8, 2 * 16 + 12],
    ),
];
const LONG: Kind = (
    "long datagrams in fragments",
    Load::Datagrams(8800),
    LESS,
    [8, 2 * 16 + 12],
);

/// Looks at the host memory that becomes free when the queue is thrown away, in the median of some
/// rounds: other programs come and go meanwhile.
fn check(lab: &Routed, (what, load, port, [least, most]): Kind) -> Result<()> {
    let rounds = if patience() > 4 { 1 } else { 3 };
    let bytes = if most > 2 * 16 + 12 { 100 } else { 24 };
    let mut freed = Vec::new();
    for _ in 0..rounds {
        stall(lab, 1_000_000)?;
        load.send(lab, port, bytes * MIB)?;
        let before = free_bytes()?;
        relieve(lab)?;
        freed.push((free_bytes()? - before) / MIB);
    }
    freed.sort_unstable();
    println!("{what}: copies hold {freed:?} MiB");
    let median = freed[rounds / 2];
    ensure!(
        (least..=most).contains(&median),
        "{what}: copies hold {freed:?} MiB, not {least} to {most}"
    );
    Ok(())
}

#[test]
fn the_memory_that_copies_hold_is_bounded_whatever_they_are() -> Result<()> {
    let (lab, _listeners) = site()?;
    for kind in KINDS {
        check(&lab, kind)?;
    }
    for (host, interface) in [
        (&lab.client, "eth0"),
        (&lab.edge, "eth0"),
        (&lab.edge, "eth2"),
        (&lab.server, "eth0"),
    ] {
        host.run(&format!("ip link set {interface} mtu 9000"))?;
    }
    check(&lab, LONG)
}

/// A round: how long a stream takes, and round trips of small packets beside it.
struct Round {
    stream: Duration,
    trips: Vec<Duration>,
}

/// Traffic to a port of the server.
fn round(lab: &Routed, port: u16, bytes: i64) -> Result<Round> {
    let (to, mut heard) = (address(SERVER[0], port), [0; 64]);
    let (here, there) = (
        udp_bind(&lab.client, address(CLIENT[0], 4433))?,
        udp_bind(&lab.server, to)?,
    );
    let (client, server) = (&lab.client, &lab.server);
    thread::scope(|scope| {
        let stream = scope.spawn(move || {
            let begin = Instant::now();
            pour(client, server, to, bytes).map(|()| begin.elapsed())
        });
        let mut trips = Vec::new();
        while !stream.is_finished() {
            let begin = Instant::now();
            here.send_to(&[1; 64], to)?;
            let (_, from) = there.recv_from(&mut heard)?;
            there.send_to(&heard, from)?;
            here.recv(&mut heard)?;
            trips.push(begin.elapsed());
        }
        Ok(Round {
            stream: stream.join().expect("the stream does not panic")?,
            trips,
        })
    })
}

/// Of some values the one that so many per cent are below.
fn quantile(values: impl Iterator<Item = Duration>, per_cent: usize) -> Duration {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values[(values.len() - 1) * per_cent / 100]
}

/// What is mirrored to an output that stalls, and what is not, in turn over the same links.
#[test]
fn production_is_as_fast_while_the_output_stalls() -> Result<()> {
    let (lab, _listeners) = site()?;
    stall(&lab, 10_000)?;
    let bytes = if patience() > 4 { 4 * MIB } else { 32 * MIB };
    // until the queue is full
    Load::Stream.send(&lab, LEAST, 16 * MIB)?;
    let before = Status::read(&lab.daemon)?;
    let (mut bare, mut mirrored) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        bare.push(round(&lab, NOBODY, bytes)?);
        mirrored.push(round(&lab, LEAST, bytes)?);
    }
    let moved = Status::read(&lab.daemon)?.since(&before)?;
    ensure!(
        count(&moved, "endpoint least drop backlog") > 0,
        "the output does not stall: {moved:?}"
    );
    // whatever else takes the machine's time in three rounds of four does not count
    let stream = |rounds: &[Round]| quantile(rounds.iter().map(|round| round.stream), 25);
    let trip = |rounds: &[Round], per_cent| {
        quantile(
            rounds
                .iter()
                .map(|round| quantile(round.trips.iter().copied(), per_cent)),
            25,
        )
    };
    // to make a copy takes an emulated machine longer than to send a packet
    let most = if patience() > 4 { 8 } else { 3 };
    for (what, bare, mirrored) in [
        ("the stream", stream(&bare), stream(&mirrored)),
        ("a round trip, 50 %", trip(&bare, 50), trip(&mirrored, 50)),
        ("a round trip, 95 %", trip(&bare, 95), trip(&mirrored, 95)),
    ] {
        println!("{what}: {bare:?} without copies, {mirrored:?} with them");
        ensure!(
            mirrored < bare * most / 2 + Duration::from_micros(20) * patience(),
            "{what}: {bare:?} without copies, {mirrored:?} with them"
        );
    }
    Ok(())
}

/// The kernel's threads that receive for interfaces of this name (`napi_kthread_create`).
fn receivers(interface: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(&format!("napi/{interface}-")) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// Has what `eth0` of the collector receives wait for a thread that runs for 0.1 ms every 0.1 s.
/// One that never runs would keep the kernel from removing the namespace, and with it every other
/// from being made.
fn deafen(collector: &Netns) -> Result<()> {
    ethtool::set_features(collector, "eth0", |feature| {
        (feature.name == "rx-gro").then_some(true)
    })?;
    let before = receivers("eth0")?;
    // `ip netns exec` alone shows the interfaces of the namespace in /sys
    let mut script = std::process::Command::new("ip");
    script.args([
        "netns",
        "exec",
        collector.name(),
        "sh",
        "-c",
        "echo 1 >/sys/class/net/eth0/threaded",
    ]);
    ensure!(
        script.status().context("ip netns exec")?.success(),
        "no thread receives for eth0"
    );
    let after = receivers("eth0")?;
    let new: Vec<_> = after.iter().filter(|pid| !before.contains(pid)).collect();
    ensure!(!new.is_empty(), "no thread has come");
    for pid in new {
        let times = "--sched-runtime 100000 --sched-period 100000000 --sched-deadline 100000000";
        collector.run(&format!("chrt --deadline {times} --pid 0 {pid}"))?;
    }
    Ok(())
}

/// A device that takes nothing more, below the queue that many hosts have.
#[test]
fn behind_pfifo_fast_memory_is_bounded_too() -> Result<()> {
    if kernel()? < (6, 16) {
        println!("skipped: a veth that is full stops its queue from Linux 6.16 on");
        return Ok(());
    }
    let (lab, _listeners) = site()?;
    deafen(&lab.collector)?;
    lab.edge.run("tc qdisc replace dev eth1 root pfifo_fast")?;
    let before = Status::read(&lab.daemon)?;
    // what is counted wrongly adds up
    for _ in 0..5 {
        Load::Stream.send(&lab, LEAST, 200 * MIB)?;
    }
    let held = held(&lab, "eth1")? as i64 / MIB;
    let moved = Status::read(&lab.daemon)?.since(&before)?;
    println!("copies hold {held} MiB");
    ensure!(held <= 10, "copies hold {held} MiB: {moved:?}");
    ensure!(
        count(&moved, "endpoint least drop backlog") > 0,
        "it does not stall: {moved:?}"
    );
    Ok(())
}
