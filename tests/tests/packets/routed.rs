//! A router under test: `client` on `eth0`, `server` on `eth2`, `collector` on `eth1`, all with
//! addresses and real protocol stacks. Towards the collector nothing is offloaded: what arrives
//! there is what a wire would carry.

use crate::account::{Accounted, Passed};
use crate::edge::{Attach, is_marker, marker, start};
use anyhow::{Result, ensure};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Gue, Reassembler, is_gue};
use traffic_mirror_tests::lab::recording;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::status::{Counters, Status};
use traffic_mirror_tests::lab::veth::Veth;

pub(crate) const CLIENT: [&str; 2] = ["10.0.0.1", "2001:db8:0::1"];
pub(crate) const EDGE: [&str; 2] = ["10.0.0.254", "2001:db8:0::fe"];
pub(crate) const SERVER: [&str; 2] = ["10.2.0.1", "2001:db8:2::1"];
/// Endpoints "four" and "six".
pub(crate) const COLLECTOR: [&str; 2] = ["10.9.0.1", "2001:db8:9::1"];

pub(crate) struct Routed {
    pub(crate) daemon: Accounted,
    pub(crate) client: Netns,
    pub(crate) edge: Netns,
    pub(crate) server: Netns,
    pub(crate) collector: Netns,
    pub(crate) copies: Collector,
    fragments: Reassembler,
    flush: PacketSocket,
}

/// The filter "web" sends both ways of port 443 to both endpoints.
pub(crate) const WEB: &str = "[[interface]]\nname = \"eth0\"\n\
    [endpoint.four]\naddress = \"10.9.0.1\"\n[endpoint.six]\naddress = \"2001:db8:9::1\"\n\
    [[filter]]\nname = \"web\"\nbidirectional = true\ndestination_port = [443]\nto = [\"four\", \"six\"]\n";

pub(crate) fn address(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

impl Routed {
    /// With MTUs of 1,500 bytes, and of `output_mtu` towards the collector.
    pub(crate) fn new(config: &str, attach: Attach, output_mtu: u32) -> Result<Self> {
        Self::with_output(
            config,
            attach,
            &Veth {
                mtu: output_mtu,
                offload: false,
                ..Veth::default()
            },
        )
    }

    /// With another link towards the collector.
    pub(crate) fn with_output(config: &str, attach: Attach, output: &Veth) -> Result<Self> {
        recording::begin();
        let [client, edge, server, collector] =
            ["client", "edge", "server", "collector"].map(|name| Netns::new(&format!("pr-{name}")));
        let (client, edge, server, collector) = (client?, edge?, server?, collector?);
        edge.forward(true)?;
        Veth::default().create(&client, "eth0", &edge, "eth0")?;
        Veth::default().create(&server, "eth0", &edge, "eth2")?;
        output.create(&edge, "eth1", &collector, "eth0")?;
        for (host, net, interface) in [
            (&client, 0, "eth0"),
            (&server, 2, "eth2"),
            (&collector, 9, "eth1"),
        ] {
            host.address("eth0", &format!("10.{net}.0.1/24"))?;
            edge.address(interface, &format!("10.{net}.0.254/24"))?;
            host.run(&format!("ip route add default via 10.{net}.0.254"))?;
            // a link that is too narrow for IPv6 has none
            if net != 9 || output.mtu >= 1280 {
                host.address("eth0", &format!("2001:db8:{net}::1/64"))?;
                edge.address(interface, &format!("2001:db8:{net}::fe/64"))?;
                host.run(&format!("ip -6 route add default via 2001:db8:{net}::fe"))?;
            }
        }
        let copies = Collector::start_filtered(&collector, "eth0", |frame| {
            is_gue(frame) || is_marker(frame)
        })?;
        let daemon = start(&edge, config, attach)?;
        let flush = PacketSocket::open(&edge, "eth1", Capture::Nothing)?;
        Ok(Self {
            daemon,
            client,
            edge,
            server,
            collector,
            copies,
            fragments: Reassembler::default(),
            flush,
        })
    }

    /// Changes the MTU towards the collector, at both ends, and waits until copies are sent by it.
    pub(crate) fn set_output_mtu(&self, mtu: u32) -> Result<()> {
        self.edge.run(&format!("ip link set eth1 mtu {mtu}"))?;
        self.collector.run(&format!("ip link set eth0 mtu {mtu}"))?;
        let is_known = |status: &Status| {
            ["four", "six"].iter().all(|name| {
                let endpoint = status.named("endpoints", name);
                endpoint.is_some_and(|one| one["mtu"] == mtu)
            })
        };
        Status::until(&self.daemon, is_known, deadline())?;
        let until = deadline();
        while !self.daemon.run(&["plan"])?.status.success() {
            ensure!(
                Instant::now() < until,
                "MTU {mtu}: something is still to do"
            );
        }
        Ok(())
    }

    /// Whether there is what cuts superpackets into packets, and is used.
    pub(crate) fn has_segmenter(&self) -> Result<bool> {
        let links = self.edge.run("ip -oneline link show type macvlan")?;
        let plan = self.daemon.run(&["plan"])?;
        Ok(links.contains("-in@") && plan.status.success())
    }

    /// Takes all copies of packets that have passed the hooks, and the counters as they stand at
    /// the last of them.
    ///
    /// A program sends its copies and counts them before the original goes on. So whatever has
    /// arrived was copied, and a marker that is sent on the same CPU afterwards comes last.
    pub(crate) fn settle(&mut self) -> Result<(Vec<Gue>, Counters)> {
        let (mut copies, deadline) = (Vec::new(), deadline());
        let mut counters = Status::count(&self.daemon)?.counters();
        loop {
            let mut markers = Vec::new();
            for cpu in Cpu::all()? {
                let marker = marker();
                cpu.run(|| self.flush.send(&marker))?;
                markers.push(marker);
            }
            for frame in self.copies.until_all(&markers, deadline)? {
                let whole = self.fragments.push(frame)?;
                copies.extend(whole.map(|frame| Gue::parse(&frame)).transpose()?);
            }
            // the end of a connection may still be on its way
            let status = Status::count(&self.daemon)?;
            let later = status.counters();
            if later == counters {
                self.daemon.check(&status, Passed::Traffic)?;
                ensure!(
                    self.fragments.incomplete() == 0,
                    "{} copies lack fragments",
                    self.fragments.incomplete()
                );
                return Ok((copies, counters));
            }
            ensure!(
                Instant::now() < deadline,
                "there is no end to it: {counters:#?}"
            );
            counters = later;
        }
    }
}

/// Copies that went to an address.
pub(crate) fn sent_to(copies: &[Gue], address: &str) -> Result<Vec<Gue>> {
    let address: IpAddr = address.parse()?;
    Ok(copies
        .iter()
        .filter(|copy| copy.outer_dst == address)
        .cloned()
        .collect())
}

/// A counter, 0 if it has not moved.
pub(crate) fn count(counters: &Counters, key: &str) -> u64 {
    counters.get(key).copied().unwrap_or(0)
}
