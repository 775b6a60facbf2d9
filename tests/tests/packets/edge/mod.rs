//! The laboratory of the table: a bridge under test between two hosts without any protocol stack,
//! and a collector.
//!
//! `client` and `server` hang on a bridge in `edge` (`eth0`, `eth2`), so that whatever passes the
//! hooks of `eth0` is caught behind them, of any protocol and however damaged. `eth1` leads to
//! `collector`. Nobody but the test sends.

mod attach;
mod barrage;
mod shared;

pub(crate) use attach::{Attach, start};
pub(crate) use barrage::Limit;
pub(crate) use shared::{shared, shared_with};

use crate::account::{Accounted, Passed};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use traffic_mirror_tests::lab::collector::{Collector, describe};
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Ether, Gue, Ip, Link, Mac, Packet, Reassembler};
use traffic_mirror_tests::lab::recording::{self, Recording};
use traffic_mirror_tests::lab::scatter::ScatterSocket;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::status::{Counters, Status};
use traffic_mirror_tests::lab::traffic::udp_bind;
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::vnet::VnetHeader;

/// Endpoints that each configuration of the table has: name, outer address and port.
pub(crate) const ENDPOINTS: [(&str, &str, u16); 4] = [
    ("a", "10.9.0.11", 6080),
    ("b", "10.9.0.12", 6080),
    ("six", "fd09::13", 6080),
    ("odd", "fd09::14", 7000),
];

/// MTU of the interfaces that are looked at.
pub(crate) const MTU: u32 = 9000;
/// MTU towards the collector: room for the largest outer header.
pub(crate) const OUTPUT_MTU: u32 = MTU + 52;

/// The way a frame takes through the hooks of `eth0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client: received by `eth0`. An outermost VLAN tag is beside the frame.
    Ingress,
    /// From the server, forwarded: sent by `eth0`. An outermost VLAN tag is beside the frame.
    Egress,
    /// From a socket in `edge`: sent by `eth0`. VLAN tags are in the frame.
    Local,
}

impl Direction {
    /// The hook of `eth0`, as status names it.
    pub(crate) fn hook(self) -> &'static str {
        match self {
            Self::Ingress => "eth0 ingress",
            Self::Egress | Self::Local => "eth0 egress",
        }
    }
}

/// How the bytes of a frame lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SkbLayout {
    /// In one piece.
    Linear,
    /// The first bytes in the linear part, the rest in page fragments.
    Scattered(u16),
    /// As the vnet header says: the checksum open, or a superpacket.
    Vnet(VnetHeader),
}

/// A frame and how its bytes lie in memory.
pub(crate) type LaidOut = (Vec<u8>, SkbLayout);

/// Copies by endpoint, in order.
pub(crate) type Copies = BTreeMap<&'static str, Vec<Gue>>;

/// What one frame has caused.
pub(crate) struct Seen {
    /// What arrived on the other side.
    pub(crate) originals: Vec<Vec<u8>>,
    /// What the collector got, by endpoint, in order.
    pub(crate) copies: Copies,
    /// What else the collector got.
    pub(crate) strangers: Vec<Vec<u8>>,
    /// Which counters moved.
    pub(crate) moved: Counters,
}

pub(crate) struct Edge {
    pub(crate) daemon: Accounted,
    pub(crate) edge: Netns,
    hosts: [Netns; 3],
    cpu: Cpu,
    senders: [Senders; 3],
    flush: PacketSocket,
    copies: Collector,
    at_client: Collector,
    at_server: Collector,
    status: Status,
    config: String,
    output_mtu: u32,
    recording: Arc<Recording>,
    _sinks: Vec<UdpSocket>,
}

/// MAC addresses that nobody has.
const HERE: Mac = [2, 0, 0, 0, 0, 0xaa];
const THERE: Mac = [2, 0, 0, 0, 0, 0xbb];

/// A frame between two hosts behind the bridge.
pub(crate) fn frame() -> Packet {
    Packet::new().layer(Ether {
        source: HERE,
        destination: THERE,
        ethertype: None,
    })
}

impl Edge {
    /// With a collector that has no protocol stack, so that nothing comes from there.
    pub(crate) fn new(config: &str, attach: Attach) -> Result<Self> {
        Self::build(config, attach, false)
    }

    /// With a collector that has the endpoints' addresses, answers for them and takes what comes.
    pub(crate) fn with_live_collector(config: &str, attach: Attach) -> Result<Self> {
        Self::build(config, attach, true)
    }

    fn build(config: &str, attach: Attach, live: bool) -> Result<Self> {
        let recording = recording::begin();
        let [client, edge, server, collector] =
            ["client", "edge", "server", "collector"].map(|name| Netns::new(&format!("pk-{name}")));
        let (client, edge, server, collector) = (client?, edge?, server?, collector?);
        for netns in [&client, &edge, &server] {
            netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        let inside = Veth {
            mtu: MTU,
            ..Veth::default()
        };
        inside.create(&client, "eth0", &edge, "eth0")?;
        inside.create(&server, "eth0", &edge, "eth2")?;
        bridge(&edge)?;
        connect(&edge, &collector)?;
        let sinks = if live {
            [6080, 7000]
                .map(|port| udp_bind(&collector, ([0; 16], port).into()))
                .into_iter()
                .collect::<Result<_>>()?
        } else {
            Vec::new()
        };
        for (_, address, _) in ENDPOINTS {
            if live {
                collector.address("eth0", &with_length(address))?;
            } else {
                let mac = collector
                    .mac("eth0")?
                    .map(|byte| format!("{byte:02x}"))
                    .join(":");
                edge.run(&format!(
                    "ip neighbour add {address} lladdr {mac} dev eth1 nud permanent"
                ))?;
            }
        }
        let copies = copies_at(&collector)?;
        let at_client = Collector::start(&client, "eth0")?;
        let at_server = Collector::start(&server, "eth0")?;
        let daemon = start(&edge, config, attach)?;
        daemon.wait_line(is_verdict, deadline())?;
        let status = Status::is_printed(&daemon)?;
        ensure!(
            status.0["degraded"] == false,
            "not all is well at the start: {:#}",
            status.0
        );
        let senders = [
            Senders::open(&client)?,
            Senders::open(&server)?,
            Senders::open(&edge)?,
        ];
        let flush = PacketSocket::open(&edge, "eth1", Capture::Nothing)?;
        let (cpu, config) = (Cpu::next()?, config.to_owned());
        let hosts = [client, server, collector];
        Ok(Self {
            daemon,
            edge,
            hosts,
            cpu,
            senders,
            flush,
            copies,
            at_client,
            at_server,
            status,
            config,
            output_mtu: OUTPUT_MTU,
            recording,
            _sinks: sinks,
        })
    }

    /// Where the copies go.
    pub(crate) fn collector(&self) -> &Netns {
        &self.hosts[2]
    }

    /// Replaces the configuration and waits until it is live.
    pub(crate) fn configure(&mut self, config: &str) -> Result<()> {
        if self.config == config {
            return Ok(());
        }
        self.daemon.write_config(config)?;
        self.config = config.to_owned();
        self.daemon.reload_done(deadline())?;
        let said = self.daemon.wait_line(is_verdict, deadline())?;
        ensure!(
            !said.contains("kept"),
            "the configuration was refused: {said}\n{config}"
        );
        self.status = Status::count(&self.daemon)?;
        self.daemon.begin(&self.status);
        Ok(())
    }

    /// Gives the interface towards the collector another MTU, which the daemon does not know at
    /// once.
    pub(crate) fn set_output_mtu(&mut self, mtu: u32) -> Result<()> {
        self.edge.run(&format!("ip link set eth1 mtu {mtu}"))?;
        self.output_mtu = mtu;
        Ok(())
    }

    /// Gives it the usual one, and waits until the daemon knows.
    fn reset_output_mtu(&mut self) -> Result<()> {
        if self.output_mtu == OUTPUT_MTU {
            return Ok(());
        }
        self.configure(&crate::config(""))?;
        self.set_output_mtu(OUTPUT_MTU)?;
        self.wait(|status| {
            status.0["degraded"] == false
                && status.0["endpoints"]
                    .as_array()
                    .is_some_and(|all| all.iter().all(|one| one["mtu"] == OUTPUT_MTU))
        })
    }

    /// Gives all interfaces that originals pass another MTU.
    pub(crate) fn widen(&self, mtu: u32) -> Result<()> {
        let [client, server, _] = &self.hosts;
        for (netns, interface) in [
            (client, "eth0"),
            (server, "eth0"),
            (&self.edge, "eth0"),
            (&self.edge, "eth2"),
            (&self.edge, "br0"),
        ] {
            netns.run(&format!("ip link set {interface} mtu {mtu}"))?;
        }
        Ok(())
    }

    /// Sends one frame and says what came of it. Nothing can come later: on one CPU all queues are
    /// in order.
    pub(crate) fn pass(&mut self, frame: &[u8], layout: SkbLayout, way: Direction) -> Result<Seen> {
        self.pass_as(Passed::Packet, &[(frame.to_vec(), layout)], way)
    }

    /// Sends frames one behind the other and says what came of all of them, in their order. Where
    /// it is not asked which of them has moved a counter, this is many times as fast.
    pub(crate) fn pass_all(&mut self, frames: &[LaidOut], way: Direction) -> Result<Seen> {
        self.pass_as(Passed::Traffic, frames, way)
    }

    fn pass_as(&mut self, passed: Passed, frames: &[LaidOut], way: Direction) -> Result<Seen> {
        let originals = self.laid_out(frames, way)?;
        let (copies, strangers) = self.copies()?;
        let moved = self.moved_by(passed, way)?;
        Ok(Seen {
            originals,
            copies,
            strangers,
            moved,
        })
    }

    /// Sends frames and a marker, and takes what arrives on the other side before the marker does.
    pub(crate) fn originals(
        &mut self,
        frames: &[Vec<u8>],
        layout: SkbLayout,
        way: Direction,
    ) -> Result<Vec<Vec<u8>>> {
        let laid_out: Vec<_> = frames.iter().map(|frame| (frame.clone(), layout)).collect();
        self.laid_out(&laid_out, way)
    }

    /// The same for frames that lie in memory each in its own way.
    fn laid_out(&mut self, frames: &[LaidOut], way: Direction) -> Result<Vec<Vec<u8>>> {
        let marker = marker();
        self.cpu.run(|| {
            frames
                .iter()
                .try_for_each(|(frame, layout)| self.send(frame, *layout, way))?;
            self.send(&marker, SkbLayout::Linear, way)
        })?;
        let at = if way == Direction::Ingress {
            &mut self.at_server
        } else {
            &mut self.at_client
        };
        at.until(|frame| frame == marker, deadline())
            .context("on the other side")
    }

    /// Takes the copies of packets whose originals have arrived.
    pub(crate) fn copies(&mut self) -> Result<(Copies, Vec<Vec<u8>>)> {
        // the program has run by now; what it sent lies before this in the collector's queue
        let marker = marker();
        self.cpu.run(|| self.flush.send(&marker))?;
        sort(
            self.copies
                .until(|frame| frame == marker, deadline())
                .context("at the collector")?,
        )
    }

    /// Sends a frame to the collector, behind the copies.
    pub(crate) fn output(&self, frame: &[u8]) -> Result<()> {
        self.cpu.run(|| self.flush.send(frame))
    }

    /// All counters.
    pub(crate) fn counters(&self) -> Result<Counters> {
        Ok(Status::count(&self.daemon)?.counters())
    }

    /// Takes the next copy, however long it was on its way; `None` at the deadline.
    pub(crate) fn next_copy(&mut self, deadline: Instant) -> Result<Option<Gue>> {
        self.copies
            .next(deadline)?
            .map(|frame| Gue::parse(&frame))
            .transpose()
    }

    /// The counters that have moved since the last time, but for the marker.
    pub(crate) fn moved(&mut self, way: Direction) -> Result<Counters> {
        self.moved_by(Passed::Traffic, way)
    }

    fn moved_by(&mut self, passed: Passed, way: Direction) -> Result<Counters> {
        let status = Status::count(&self.daemon)?;
        self.daemon.check(&status, passed)?;
        let mut moved = status.since(&self.status)?;
        self.status = status;
        take_one(&mut moved, &format!("{} not-ip", way.hook()));
        Ok(moved)
    }

    /// Waits until the status says something.
    pub(crate) fn wait(&mut self, wanted: impl Fn(&Status) -> bool) -> Result<()> {
        self.status = Status::until(&self.daemon, wanted, deadline())?;
        Ok(())
    }

    /// Makes the output interface anew, without its addresses.
    pub(crate) fn reconnect(&mut self) -> Result<()> {
        connect(&self.edge, &self.hosts[2])?;
        self.flush = PacketSocket::open(&self.edge, "eth1", Capture::Nothing)?;
        for (_, address, _) in ENDPOINTS {
            self.hosts[2].address("eth0", &with_length(address))?;
        }
        self.copies = copies_at(&self.hosts[2])?;
        Ok(())
    }

    /// Forgets the copies that have come or are still on their way.
    pub(crate) fn reconnect_capture(&mut self) -> Result<()> {
        self.copies = copies_at(&self.hosts[2])?;
        Ok(())
    }

    fn send(&self, frame: &[u8], layout: SkbLayout, way: Direction) -> Result<()> {
        let senders = &self.senders[way as usize];
        match layout {
            SkbLayout::Linear => senders.plain.send(frame),
            SkbLayout::Scattered(linear) => {
                senders.scattered.send(frame, linear, VnetHeader::default())
            }
            SkbLayout::Vnet(header) => senders.vnet.send_vnet(frame, header),
        }
    }
}

/// Sockets of one namespace, open all the time: to close one takes the kernel many milliseconds.
struct Senders {
    plain: PacketSocket,
    vnet: PacketSocket,
    scattered: ScatterSocket,
}

impl Senders {
    fn open(netns: &Netns) -> Result<Self> {
        Ok(Self {
            plain: PacketSocket::open(netns, "eth0", Capture::Nothing)?,
            vnet: PacketSocket::open_vnet(netns, "eth0", Capture::Nothing)?,
            scattered: ScatterSocket::open(netns, "eth0")?,
        })
    }
}

/// The output interface and the way to the collector.
fn connect(edge: &Netns, collector: &Netns) -> Result<()> {
    Veth {
        mtu: OUTPUT_MTU,
        offload: false,
        ..Veth::default()
    }
    .create(edge, "eth1", collector, "eth0")?;
    edge.sysctl("net.ipv6.conf.eth1.disable_ipv6", "0")?;
    edge.address("eth1", "10.9.0.1/24")?;
    edge.address("eth1", "fd09::1/64")
}

fn with_length(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 64 } else { 24 })
}

fn copies_at(collector: &Netns) -> Result<Collector> {
    Collector::start_filtered(collector, "eth0", |frame| !is_housekeeping(frame))
}

/// The line that ends the daemon's report on a new configuration.
fn is_verdict(line: &str) -> bool {
    line.contains(" map write") || line.contains("mirroring continues with the last valid version")
}

/// A bridge of `eth0` and `eth2` that forwards whatever comes, link-local groups included where the
/// kernel lets it.
fn bridge(edge: &Netns) -> Result<()> {
    edge.run("ip link add br0 type bridge mcast_snooping 0 group_fwd_mask 0xfff8")?;
    edge.run(&format!("ip link set br0 mtu {MTU} up"))?;
    for port in ["eth0", "eth2"] {
        edge.run(&format!("ip link set {port} master br0"))?;
        edge.run_until(
            &format!("bridge -details link show dev {port}"),
            |link| link.contains("state forwarding"),
            deadline(),
        )?;
    }
    // where netfilter looks at bridges, it must not judge what a test sends
    for family in ["arp", "ip", "ip6"] {
        let variable = format!("net.bridge.bridge-nf-call-{family}tables");
        if edge.enter(|| Ok(std::path::Path::new("/proc/sys/net/bridge").exists()))? {
            edge.sysctl(&variable, "0")?;
        }
    }
    Ok(())
}

/// A frame that no filter can match, each with a number of its own.
pub(crate) fn marker() -> Vec<u8> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    frame()
        .payload(format!(
            "marker {:040}",
            NEXT.fetch_add(1, Ordering::Relaxed)
        ))
        .build()
}

pub(crate) fn is_marker(frame: &[u8]) -> bool {
    frame.get(14..20) == Some(b"marker")
}

/// ARP, and what IPv6 sends when it gets an address or looks for a neighbour.
pub(crate) fn is_housekeeping(frame: &[u8]) -> bool {
    let Ok(link) = Link::parse(frame) else {
        return false;
    };
    let icmpv6 = || {
        Ip::parse(&frame[link.length..])
            .is_ok_and(|ip| ip.protocol == 58 && matches!(ip.upper, [130..=143, ..]))
    };
    link.ethertype == 0x0806 || link.ethertype == 0x86dd && icmpv6()
}

/// Strictly parsed copies by endpoint, and frames that go to none.
fn sort(frames: Vec<Vec<u8>>) -> Result<(Copies, Vec<Vec<u8>>)> {
    let mut copies: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let (mut strangers, mut fragments) = (Vec::new(), Reassembler::default());
    for frame in frames {
        let Some(frame) = fragments.push(frame)? else {
            continue;
        };
        let Ok(copy) = Gue::parse(&frame) else {
            strangers.push(frame);
            continue;
        };
        ensure!(
            copy.outer_vlan.is_none(),
            "a copy in VLAN {:?}",
            copy.outer_vlan
        );
        match endpoint(copy.outer_dst, copy.dport) {
            Some(name) => copies.entry(name).or_default().push(copy),
            None => bail!(
                "a copy to {} port {}: {}",
                copy.outer_dst,
                copy.dport,
                describe(&frame)
            ),
        }
    }
    ensure!(
        fragments.incomplete() == 0,
        "{} copies lack fragments",
        fragments.incomplete()
    );
    Ok((copies, strangers))
}

fn endpoint(address: IpAddr, port: u16) -> Option<&'static str> {
    let is = |(_, to, at): &&(&str, &str, u16)| to.parse() == Ok(address) && *at == port;
    ENDPOINTS.iter().find(is).map(|(name, ..)| *name)
}

fn take_one(counters: &mut Counters, key: &str) {
    if let Some(count) = counters.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counters.remove(key);
        }
    }
}
