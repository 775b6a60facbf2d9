//! The hosts, the wires between them, the captures, the daemon.

use anyhow::{Result, ensure};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;
use traffic_mirror_ebpf::gue;
use traffic_mirror_tests::lab::collector::{Collector, describe};
use traffic_mirror_tests::lab::daemon::{Daemon, is_of_network};
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{FiveTuple, ip_part};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::traffic::{Stream, tcp_exchange, udp_bind, udp_exchange};
use traffic_mirror_tests::lab::veth::Veth;

pub(crate) const EDGE: [&str; 4] = ["eth0", "eth1", "eth2", "eth3"];
pub(crate) const COLLECTOR_A: &str = "collector A";
pub(crate) const COLLECTOR_B: &str = "collector B";

const CLIENT: [&str; 2] = ["10.0.0.1", "2001:db8:a::1"];
const SERVER: [&str; 2] = ["198.51.100.7", "2001:db8:b::7"];
const REQUEST_BYTES: usize = 3_000;
const ANSWER_BYTES: usize = 30_000;

pub(crate) struct Stage {
    // the daemon goes first: what is attached must be detached while its interfaces are there
    pub(crate) daemon: Daemon,
    said: usize,
    wire: PacketSocket,
    pub(crate) collectors: [Collector; 2],
    pub(crate) edge: Netns,
    client: Netns,
    server: Netns,
    // without a listener a collector's kernel answers copies with errors, which the daemon would
    // report within a second
    _listeners: [UdpSocket; 2],
    _collector_hosts: [Netns; 2],
}

impl Stage {
    pub(crate) fn new(file: &str) -> Result<Self> {
        let [client, edge, server] = [
            Netns::new("client")?,
            Netns::new("edge")?,
            Netns::new("server")?,
        ];
        let hosts = [Netns::new("collector-a")?, Netns::new("collector-b")?];
        // without offloads a capture holds what a wire would carry
        let production = Veth {
            offload: false,
            ..Veth::default()
        };
        // room for the outer headers of full-size packets
        let monitoring = Veth {
            mtu: 1600,
            ..production.clone()
        };
        production.create(&edge, EDGE[0], &client, "eth0")?;
        production.create(&edge, EDGE[1], &server, "eth0")?;
        monitoring.create(&edge, EDGE[2], &hosts[0], "eth0")?;
        monitoring.create(&edge, EDGE[3], &hosts[1], "eth0")?;
        for (interface, address) in [
            (0, "10.0.0.254/24"),
            (0, "2001:db8:a::fe/64"),
            (1, "198.51.100.254/24"),
            (1, "2001:db8:b::fe/64"),
            (2, "192.0.2.1/24"),
            (3, "203.0.113.1/24"),
            (3, "2001:db8:cc::1/64"),
        ] {
            edge.address(EDGE[interface], address)?;
        }
        edge.forward(true)?;
        hosts[0].address("eth0", "192.0.2.10/24")?;
        hosts[1].address("eth0", "203.0.113.20/24")?;
        hosts[1].address("eth0", "2001:db8:cc::20/64")?;
        for (host, addresses, gateways) in [
            (&client, CLIENT, ["10.0.0.254", "2001:db8:a::fe"]),
            (&server, SERVER, ["198.51.100.254", "2001:db8:b::fe"]),
        ] {
            for ((address, length), gateway) in addresses.into_iter().zip([24, 64]).zip(gateways) {
                host.address("eth0", &format!("{address}/{length}"))?;
                host.run(&format!("ip route add default via {gateway}"))?;
            }
        }
        let collectors = [
            Collector::start_gue(&hosts[0], "eth0")?,
            Collector::start_gue(&hosts[1], "eth0")?,
        ];
        // of both address families
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, gue::PORT));
        let listeners = [udp_bind(&hosts[0], any)?, udp_bind(&hosts[1], any)?];
        let wire = PacketSocket::open(&client, "eth0", Capture::BothWays)?;
        let daemon = Daemon::start(&edge, file)?;
        Ok(Self {
            daemon,
            said: 0,
            wire,
            collectors,
            edge,
            client,
            server,
            _listeners: listeners,
            _collector_hosts: hosts,
        })
    }

    /// What the daemon has said since the last report, up to a line for which `last` holds.
    pub(crate) fn report(&mut self, last: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        self.daemon.wait_line(&last, deadline())?;
        let output = self.daemon.output();
        let new = &output[self.said..];
        let length = new
            .iter()
            .position(|line| last(line))
            .map_or(new.len(), |at| at + 1);
        self.said += length;
        Ok(new[..length].iter().map(|line| message(line)).collect())
    }

    /// What it has said and nobody has asked for.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let output = self.daemon.output();
        // a neighbour that was found meanwhile is no news
        let news = output[self.said..]
            .iter()
            .map(|line| message(line))
            .filter(|line| !is_of_network(line));
        let rest = news.collect();
        self.said = output.len();
        rest
    }

    /// Each conversation once, over both IP versions, from client port `port`. Returns when the
    /// last packet has arrived.
    pub(crate) fn traffic(&self, port: u16) -> Result<()> {
        for version in 0..2 {
            let client = address(CLIENT[version], port);
            let server = |port| address(SERVER[version], port);
            let mut stream = Stream::new(port.into());
            let (request, answer) = (stream.bytes(REQUEST_BYTES), stream.bytes(ANSWER_BYTES));
            tcp_exchange(
                &self.client,
                client,
                &self.server,
                server(443),
                &request,
                &answer,
            )?;
            udp_exchange(
                &self.client,
                client,
                &self.server,
                server(53),
                b"www.example.com?",
            )?;
            udp_exchange(
                &self.client,
                client,
                &self.server,
                server(123),
                b"what time is it?",
            )?;
        }
        Ok(())
    }

    /// The TCP and UDP packets on the client's wire since the last call, both ways, in order.
    pub(crate) fn originals(&self) -> Result<Vec<(FiveTuple, Vec<u8>)>> {
        let mut originals = Vec::new();
        while let Some(frame) = self.wire.recv(Instant::now())? {
            ensure!(
                !frame.checksum_open && frame.vnet.is_none(),
                "an offload is on"
            );
            let Ok(packet) = ip_part(&frame.bytes) else {
                continue;
            };
            let flow = FiveTuple::parse(packet)?;
            if matches!(flow.protocol, 6 | 17) {
                originals.push((flow, packet.to_owned()));
            }
        }
        ensure!(
            self.wire.lost()? == 0,
            "the capture at the client lost frames"
        );
        Ok(originals)
    }

    /// What `status` prints once the kernel has found all next hops.
    pub(crate) fn status(&self) -> Result<String> {
        let deadline = deadline();
        loop {
            let output = self.daemon.run(&["status"])?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(
                output.status.success(),
                "`status` ends with {}:\n{text}",
                output.status
            );
            if !text.contains("being looked for") {
                return Ok(text);
            }
            ensure!(
                Instant::now() < deadline,
                "a next hop is not found:\n{text}"
            );
        }
    }

    /// That no copy has come that nobody waited for.
    pub(crate) fn silent(&mut self) -> Result<()> {
        for (collector, name) in self.collectors.iter_mut().zip([COLLECTOR_A, COLLECTOR_B]) {
            let surplus = collector.take()?;
            let described: Vec<_> = surplus.iter().map(|frame| describe(frame)).collect();
            ensure!(
                described.is_empty(),
                "unexpected at {name}: {}",
                described.join("; ")
            );
        }
        Ok(())
    }
}

fn address(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// A line of the daemon's log without time and level.
fn message(line: &str) -> String {
    let levels = [" INFO ", " WARN ", " ERROR "];
    levels
        .iter()
        .find_map(|level| line.split_once(level))
        .map_or(line, |(_, message)| message)
        .to_owned()
}
