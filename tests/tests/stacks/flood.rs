//! Connections that are wanted, while forged packets come as fast as the machine sends them.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::file;
use traffic_mirror_tests::lab::hello::client_hello;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Mac, Tcp, eth_between};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::veth::Veth;

use crate::host::{Host, SERVER};
use crate::web::{Nginx, check, curl};

/// Frames that the flood begins with; each round sends them from other addresses.
const FRAMES: usize = 60_000;
/// Of 10.64.0.0/10, where the flood pretends to come from: upper halves of addresses.
const NETWORKS: u16 = 64;
/// Forged packets that come before: twice what the tables hold.
const FULL: u64 = 300_000;
const CONNECTIONS: usize = 500;
/// Of them at the same time.
const AT_ONCE: usize = 10;
/// Frames for one system call.
const BATCH: usize = 64;
/// Offset of the source address in a frame.
const SOURCE: usize = 26;

/// Forged packets of four kinds: a SYN, a hello with a name that a filter has, one with another,
/// and the first piece of a hello.
fn frames(source: Mac, destination: Mac) -> Vec<Vec<u8>> {
    let frame = |nth: usize| {
        let name = match nth % 4 {
            1 => format!("f{nth}.shop.example"),
            _ => format!("f{nth}.other.example"),
        };
        let hello = client_hello(&name, 0);
        let said: &[u8] = match nth % 4 {
            0 => &[],
            3 => &hello[..hello.len() - 7],
            _ => &hello,
        };
        let tcp = Tcp {
            sequence: nth as u32,
            acknowledgement: 1,
            flags: if said.is_empty() { Tcp::SYN } else { Tcp::ACK },
            ..Tcp::new(1024 + (nth >> 8) as u16, 443)
        };
        // room below for what a round takes away
        let from = Ipv4Addr::from(0x0a40_8000 + (nth & 0xff) as u32);
        let frame = eth_between(source, destination)
            .ip(from, SERVER[0])
            .layer(tcp);
        frame.payload(said).build()
    };
    (0..FRAMES).map(frame).collect()
}

/// The same frames from other addresses; the checksums stay right, since what one half of the address
/// gains the other loses.
fn move_on(frames: &mut [Vec<u8>], forward: bool) -> Result<()> {
    for frame in frames {
        let [upper, lower] = [SOURCE, SOURCE + 2].map(|at| [frame[at], frame[at + 1]]);
        let [upper, lower] = [upper, lower].map(u16::from_be_bytes);
        let (upper, lower) = if forward {
            (upper + 1, lower - 1)
        } else {
            (upper - NETWORKS + 1, lower + NETWORKS - 1)
        };
        let halves = [upper.to_be_bytes(), lower.to_be_bytes()].concat();
        frame
            .get_mut(SOURCE..SOURCE + 4)
            .context("an address")?
            .copy_from_slice(&halves);
    }
    Ok(())
}

/// Sends until it is told to stop, and counts.
fn flood(
    socket: &PacketSocket,
    mut frames: Vec<Vec<u8>>,
    sent: &AtomicU64,
    stop: &AtomicBool,
) -> Result<()> {
    let mut round = 0;
    loop {
        for batch in frames.chunks(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            sent.fetch_add(socket.send_all(batch)? as u64, Ordering::Relaxed);
        }
        round = (round + 1) % NETWORKS;
        move_on(&mut frames, round != 0)?;
    }
}

#[test]
fn a_flood_takes_nothing_from_connections_that_are_wanted() -> Result<()> {
    let names =
        "protocol = [\"tcp\"]\ndestination_port = [443]\nserver_name = [\"*.shop.example\"]";
    let config = [
        file::interface("eth0"),
        file::interface("eth2"),
        file::endpoint("ids", "10.9.0.2", ""),
        file::endpoint("flood", "10.8.0.2", ""),
        file::filter(
            "shop",
            &format!("{names}\nsource = [\"10.2.0.0/24\", \"2001:db8:2::/64\"]"),
            "\"ids\"",
        ),
        file::filter(
            "flood",
            &format!("{names}\nsource = [\"10.64.0.0/10\"]"),
            "\"flood\"",
        ),
    ]
    .concat();
    let attacker = Netns::new("st-attacker")?;
    let mut host = Host::with(&config, true, |host| {
        Veth::default().create(&attacker, "eth0", host, "eth2")?;
        let sink = Veth {
            mtu: 1600,
            ..Veth::default()
        };
        sink.create(&attacker, "eth1", host, "eth3")?;
        attacker.address("eth1", "10.8.0.2/24")?;
        host.address("eth3", "10.8.0.1/24")?;
        // the host answers, and nobody is there
        attacker.address("eth0", "10.6.0.2/24")?;
        host.address("eth2", "10.6.0.1/24")?;
        let mac = attacker
            .mac("eth0")?
            .map(|byte| format!("{byte:02x}"))
            .join(":");
        host.run(&format!(
            "ip neighbour replace 10.6.0.2 lladdr {mac} dev eth2 nud permanent"
        ))?;
        host.run("ip route add 10.64.0.0/10 via 10.6.0.2 dev eth2")?;
        host.rp_filter(false)
    })?;
    let _nginx = Nginx::start(&host.host)?;
    let socket = PacketSocket::open(&attacker, "eth0", Capture::Nothing)?;
    let frames = frames(attacker.mac("eth0")?, host.host.mac("eth2")?);
    let wanted: Vec<String> = (0..CONNECTIONS)
        .map(|nth| format!("n{nth}.shop.example"))
        .collect();
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let client = &host.client;
    let (made, during) = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&socket, frames, &sent, &stop));
        // the tables are full when it begins
        while sent.load(Ordering::Relaxed) < FULL && !flooding.is_finished() {
            thread::yield_now();
        }
        let before = sent.load(Ordering::Relaxed);
        let made = curl(client, "https", &wanted, AT_ONCE);
        let during = sent.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        flooding.join().expect("the flood does not panic")?;
        anyhow::Ok((made?, during))
    })?;
    println!(
        "{during} forged packets while {} connections were made",
        made.len()
    );
    ensure!(during > CONNECTIONS as u64, "{during} forged packets only");
    let (originals, copies) = host.settle()?;
    for one in &made {
        check(one, true, 0, &originals, &copies)?;
    }
    Ok(())
}
