//! A host with a daemon, and what may go wrong with it.

use anyhow::{Context as _, Result};
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::traffic::udp_bind;
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::{TempDir, deadline, pause, process};

use crate::site::{Site, status_until};

/// The file of all hosts.
pub(super) const FILE: &str = r#"
[[interface]]
name = "eth0"

[[interface]]
name = "eth9"

[endpoint.ids]
address = "192.0.2.10"

[endpoint.port]
address = "192.0.2.10"
port = 6081

[endpoint.next-hop]
address = "192.0.2.11"

[[filter]]
name = "dns"
protocol = ["udp"]
destination_port = [53]
to = ["ids", "port", "next-hop"]
"#;

/// A host with a daemon.
pub(super) struct Host {
    pub(super) name: &'static str,
    pub(super) daemon: Daemon,
    /// Where node_exporter reads.
    pub(super) textfiles: TempDir,
    /// Listens on the port of the endpoint `port`.
    pub(super) listener: Option<UdpSocket>,
    pub(super) site: Site,
}

impl Host {
    /// Five hosts that are well.
    pub(super) fn start() -> Result<[Self; 5]> {
        let one = |name| {
            let (site, textfiles) = (Site::new()?, TempDir::new()?);
            site.add_interface()?;
            site.host.address("eth0", "192.0.2.11/24")?;
            let launch = Launch {
                metrics: Some(textfiles.path().join("traffic-mirror.prom")),
                ..Launch::default()
            };
            let mut daemon = Daemon::spawn(&site.edge, FILE, launch)?;
            daemon.ready(deadline())?;
            status_until(&daemon, |code, status| {
                let is_reached = |nth: usize| status["endpoints"][nth]["next_hop"].is_string();
                code == 0 && (0..3).all(is_reached)
            })?;
            let mut host = Self {
                name,
                daemon,
                textfiles,
                listener: None,
                site,
            };
            host.listen()?;
            anyhow::Ok(host)
        };
        Ok([one("h1")?, one("h2")?, one("h3")?, one("h4")?, one("h5")?])
    }

    /// Has the collector listen on the port of the endpoint `port`.
    pub(super) fn listen(&mut self) -> Result<()> {
        self.listener = Some(udp_bind(&self.site.host, "0.0.0.0:6081".parse()?)?);
        Ok(())
    }

    /// Detaches a program of the daemon's as another process may.
    pub(super) fn detach_by_hand(&self) -> Result<()> {
        let index = self.site.edge.index("eth0")?;
        let links = self.daemon.pin_path().join("links");
        let link = links.join(format!("mirror-{index}-ingress"));
        if !Path::new(&link).exists() {
            return (self.site.edge.run("tc filter del dev eth0 ingress")).map(drop);
        }
        let mut bpftool = Command::new("bpftool");
        bpftool.args(["link", "detach", "pinned"]).arg(link);
        process::succeed(&mut bpftool, deadline()).map(drop)
    }

    /// Datagrams that the filter matches, as long as it is there.
    pub(super) fn traffic(&self) -> Result<Traffic> {
        let socket = udp_bind(&self.site.client, "0.0.0.0:0".parse()?)?;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = stop.clone();
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let sent = socket.send_to(b"question", "10.0.0.254:53");
                sent.context("send a datagram")?;
                pause();
            }
            Ok(())
        });
        Ok(Traffic {
            stop,
            thread: Some(thread),
        })
    }
}

impl Site {
    /// Makes the interface `eth9` of the file.
    pub(super) fn add_interface(&self) -> Result<()> {
        Veth::default().create(&self.edge, "eth9", &self.client, "eth9")?;
        Ok(())
    }
}

/// Traffic that ends with it.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("{error:#}");
        }
    }
}
