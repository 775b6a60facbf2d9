//! A host with a web server: `client` on `eth0`, `collector` on `eth1`. The host itself is
//! mirrored.

use std::time::Instant;

use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::ip_part;
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::{deadline, file, pause, recording};

use crate::streams::Streams;

/// Addresses of the web server.
pub(crate) const SERVER: [&str; 2] = ["10.2.0.1", "2001:db8:2::1"];
const CLIENT: [&str; 2] = ["10.2.0.2", "2001:db8:2::2"];

/// A host, its client and its collector.
pub(crate) struct Host {
    pub(crate) daemon: Daemon,
    pub(crate) client: Netns,
    pub(crate) host: Netns,
    /// What the client sends and receives.
    originals: [Collector; 2],
    copies: Collector,
    _collector: Netns,
}

/// A file with these lines in its filter.
pub(crate) fn config(names: &str) -> String {
    let fields = format!("protocol = [\"tcp\"]\ndestination_port = [80, 443]\n{names}");
    file::interface("eth0")
        + &file::endpoint("ids", "10.9.0.2", "")
        + &file::filter("shop", &fields, "\"ids\"")
}

impl Host {
    /// `offload`: whether segments are merged on their way, as on most machines.
    pub(crate) fn new(config: &str, offload: bool) -> Result<Self> {
        Self::with(config, offload, |_| Ok(()))
    }

    /// With what the host has beside before the daemon starts.
    pub(crate) fn with(
        config: &str,
        offload: bool,
        beside: impl FnOnce(&Netns) -> Result<()>,
    ) -> Result<Self> {
        recording::begin();
        let [client, host, collector] =
            ["client", "host", "collector"].map(|name| Netns::new(&format!("st-{name}")));
        let (client, host, collector) = (client?, host?, collector?);
        let link = Veth {
            offload,
            ..Veth::default()
        };
        link.create(&client, "eth0", &host, "eth0")?;
        let wide = Veth {
            mtu: 1600,
            offload: false,
            ..Veth::default()
        };
        wide.create(&host, "eth1", &collector, "eth0")?;
        for (netns, addresses) in [(&host, SERVER), (&client, CLIENT)] {
            netns.address("eth0", &format!("{}/24", addresses[0]))?;
            netns.address("eth0", &format!("{}/64", addresses[1]))?;
        }
        host.address("eth1", "10.9.0.1/24")?;
        collector.address("eth0", "10.9.0.2/24")?;
        let originals = [
            Collector::start(&client, "eth0")?,
            Collector::start(&host, "eth0")?,
        ];
        let copies = Collector::start_gue(&collector, "eth0")?;
        beside(&host)?;
        let mut daemon = Daemon::spawn(&host, config, Launch::default())?;
        daemon.ready(deadline())?;
        Ok(Self {
            daemon,
            client,
            host,
            originals,
            copies,
            _collector: collector,
        })
    }

    fn captured(&self) -> [usize; 2] {
        self.originals.each_ref().map(Collector::count)
    }

    /// Waits until nothing is on its way.
    fn rest(&self) -> Result<()> {
        let until = deadline();
        let sent = |status: &Status| {
            let counters = status.counters();
            counters.get("endpoint ids packets").copied().unwrap_or(0)
        };
        loop {
            let before = (sent(&Status::count(&self.daemon)?), self.captured());
            let arrived = self.copies.count() as u64;
            pause();
            let after = (sent(&Status::count(&self.daemon)?), self.captured());
            if before == after && arrived >= after.0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "{after:?} sent and captured, {arrived} arrived"
            );
        }
    }

    /// What was copied, once nothing is on its way.
    pub(crate) fn copies(&mut self) -> Result<Vec<Vec<u8>>> {
        self.rest()?;
        let mut copies = Vec::new();
        while let Some(copy) = self.copies.next_copy(Instant::now())? {
            copies.push(copy.inner);
        }
        ensure!(self.copies.incomplete() == 0, "fragments are missing");
        Ok(copies)
    }

    /// What was sent and received, and what was copied of it, once nothing is on its way.
    pub(crate) fn settle(&mut self) -> Result<(Streams, Streams)> {
        let copied = self.copies()?;
        let mut originals = Streams::default();
        for way in &mut self.originals {
            for frame in way.take()? {
                // others are ARP
                if let Ok(packet) = ip_part(&frame) {
                    originals.push(packet)?;
                }
            }
        }
        let mut copies = Streams::default();
        for copy in &copied {
            copies.push(copy)?;
        }
        Ok((originals, copies))
    }
}
