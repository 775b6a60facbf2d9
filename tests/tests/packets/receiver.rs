//! The kernel's own GUE receiver as judge: `fou`, and behind it the tunnels that take what it has
//! unwrapped.

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::packet::{Ip, Packet, Tcp, eth_between, verify_inner_checksums};
use traffic_mirror_tests::lab::traffic::Stream;
use traffic_mirror_tests::lab::vnet::VnetHeader;
use traffic_mirror_tests::lab::{deadline, ethtool, kernel};

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::segmenter::narrow;
use crate::{config, filter};

/// Modules that the receiver takes.
const MODULES: &str = "modprobe -a fou fou6 sit ip6_tunnel";
/// Name, how it is made, the addresses of its ends, and those of the packets that it carries.
type Tunnel = (
    &'static str,
    &'static str,
    [&'static str; 2],
    &'static [[&'static str; 2]],
);

/// As README.md and docs/collector.md advise.
const TUNNELS: [Tunnel; 2] = [
    (
        "any-in-ipv4",
        "type sit mode any encap gue encap-sport auto encap-dport 6080",
        ["10.9.0.1", "10.9.0.11"],
        &[V4, V6],
    ),
    (
        "any-in-ipv6",
        "type ip6tnl mode any",
        ["fd09::1", "fd09::13"],
        &[V4, V6],
    ),
];
const V4: [&str; 2] = ["10.0.0.1", "10.0.0.2"];
const V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];
/// MTU towards the collector.
const MTU: usize = 1500;

/// Whether this kernel has the receiver. Debian's have it.
fn is_there() -> Result<bool> {
    let loaded = traffic_mirror_tests::lab::netns::Netns::new("pk-modules")?.run(MODULES);
    let version = std::fs::read_to_string("/proc/version").context("read the kernel's version")?;
    if let Err(error) = loaded {
        ensure!(!version.contains("Debian"), "{error:#}");
        println!(
            "skipped: needs a kernel with fou, fou6, sit and ip6_tunnel, such as Debian's; `make vm` has two"
        );
        return Ok(false);
    }
    Ok(true)
}

#[test]
fn the_kernels_own_receiver_takes_copies() -> Result<()> {
    if !is_there()? {
        return Ok(());
    }
    for &attach in Attach::all()? {
        let mut edge = Edge::new(&config(&filter("all", "", "\"a\", \"six\"")), attach)?;
        narrow(&mut edge)?;
        edge.wait(|status| status.0["degraded"] == false)?;
        let mut tunnels = Tunnels::new(&edge)?;
        let sent = packets()?;
        println!("{attach:?}: {} packets", sent.len());
        for (what, packet) in &sent {
            let got = tunnels
                .pass(&mut edge, packet)
                .with_context(|| format!("{attach:?} {what}, without fou"))?;
            ensure!(
                got.iter().all(|(_, got)| got.is_empty()),
                "{what} arrived without fou: {got:?}"
            );
        }
        edge.collector().run("ip fou add port 6080 gue")?;
        edge.collector().run("ip fou add port 6080 gue -6")?;
        for (what, packet) in &sent {
            let got = tunnels
                .pass(&mut edge, packet)
                .with_context(|| format!("{attach:?} {what}"))?;
            for (tunnel, got) in got {
                let source = Ip::parse(&packet.frame[14..])?.source.to_string();
                let is_carried = tunnel.3.iter().any(|[from, _]| *from == source);
                if is_carried {
                    packet
                        .judge(&got)
                        .with_context(|| format!("{attach:?} {what} by {}", tunnel.0))?;
                } else {
                    ensure!(got.is_empty(), "{attach:?} {what} arrived by {}", tunnel.0);
                }
            }
        }
    }
    Ok(())
}

/// An original.
struct Sent {
    /// With finished checksums.
    frame: Vec<u8>,
    /// As it is sent.
    bytes: Vec<u8>,
    layout: SkbLayout,
    /// Payload bytes of a segment; 0 if it is no superpacket.
    segment: usize,
}

impl Sent {
    fn plain(packet: &Packet) -> Self {
        let frame = packet.clone().build();
        Self {
            bytes: frame.clone(),
            frame,
            layout: SkbLayout::Linear,
            segment: 0,
        }
    }

    /// With the checksum left to the interface.
    fn open(packet: &Packet) -> Result<Self> {
        let frame = packet.clone().build();
        let mut bytes = frame.clone();
        let layout = SkbLayout::Vnet(VnetHeader::partial(&mut bytes)?);
        Ok(Self {
            frame,
            bytes,
            layout,
            segment: 0,
        })
    }

    fn superpacket(packet: &Packet, segment: u16) -> Result<Self> {
        let frame = packet.clone().build();
        let mut bytes = frame.clone();
        let layout = SkbLayout::Vnet(VnetHeader::gso(&mut bytes, segment)?);
        Ok(Self {
            frame,
            bytes,
            layout,
            segment: segment.into(),
        })
    }

    /// What arrived is the original, or the segments of it.
    fn judge(&self, got: &[Vec<u8>]) -> Result<()> {
        got.iter()
            .try_for_each(|packet| verify_inner_checksums(packet))?;
        if self.segment == 0 {
            ensure!(
                *got == [&self.frame[14..]],
                "{} packets arrived: {got:02x?}",
                got.len()
            );
            return Ok(());
        }
        let payload = payload(&self.frame[14..])?;
        ensure!(
            got.len() >= payload.len().div_ceil(self.segment),
            "{} segments arrived",
            got.len()
        );
        let arrived = got
            .iter()
            .map(|packet| Ok(self::payload(packet)?.to_vec()))
            .collect::<Result<Vec<_>>>()?
            .concat();
        ensure!(
            arrived == payload,
            "{} bytes of {} arrived, or others",
            arrived.len(),
            payload.len()
        );
        Ok(())
    }
}

/// Behind the TCP or UDP header.
fn payload(packet: &[u8]) -> Result<&[u8]> {
    let ip = Ip::parse(packet)?;
    let upper = packet.len() - ip.upper.len();
    let header = if ip.protocol == 6 {
        usize::from(ip.upper[12] >> 4) * 4
    } else {
        8
    };
    Ok(&packet[upper + header..])
}

/// Small, as long as fits, one byte longer, as long as the interface takes; checksums open;
/// superpackets.
fn packets() -> Result<Vec<(String, Sent)>> {
    let mut all = Vec::new();
    for [from, to] in [V4, V6] {
        let (header, room) = if from == V4[0] {
            (20, MTU - 32)
        } else {
            (40, MTU - 52)
        };
        let udp = |bytes: usize| {
            frame()
                .ip(from, to)
                .udp(4000, 443)
                .payload(Stream::new(bytes as u64).bytes(bytes - header - 8))
        };
        let tcp = |payload: usize| {
            let options = Tcp {
                options: vec![1; 12],
                ..Tcp::new(4000, 443)
            };
            frame()
                .ip(from, to)
                .layer(options)
                .payload(Stream::new(payload as u64).bytes(payload))
        };
        for bytes in [
            header + 9,
            100,
            room - 20,
            room - 19,
            room,
            room + 1,
            1500,
            2000,
            8999,
            9000,
        ] {
            all.push((
                format!("UDP of {bytes} bytes from {from}"),
                Sent::plain(&udp(bytes)),
            ));
            all.push((
                format!("UDP of {bytes} bytes from {from}, checksum open"),
                Sent::open(&udp(bytes))?,
            ));
            let fill = bytes.saturating_sub(header + 32);
            all.push((
                format!("TCP of {bytes} bytes from {from}, checksum open"),
                Sent::open(&tcp(fill))?,
            ));
        }
        // of the last each segment goes in fragments
        let whole = [
            (1300, 20_000),
            (1448 - header as u16 + 20, 60_000),
            (1400 - 2 * header as u16, 1401),
        ];
        for (segment, length) in whole.into_iter().chain([(4000, 20_000)]) {
            let what = format!("TCP of {length} bytes by {segment} from {from}");
            all.push((what, Sent::superpacket(&tcp(length), segment)?));
        }
        // what a socket may send like that came with 6.2
        if kernel()? >= (6, 2) {
            for segment in [1300, 1452, 5000] {
                let what = format!("UDP of 20000 bytes by {segment} from {from}");
                all.push((what, Sent::superpacket(&udp(20_000), segment)?));
            }
        }
    }
    Ok(all)
}

/// Tunnels at the collector, and what comes out of them.
struct Tunnels {
    ends: Vec<(Tunnel, Vec<u8>, Collector)>,
}

impl Tunnels {
    fn new(edge: &Edge) -> Result<Self> {
        let netns = edge.collector();
        netns.address("eth0", "10.9.0.11/24")?;
        netns.address("eth0", "fd09::13/64")?;
        let mut ends = Vec::new();
        for tunnel in TUNNELS {
            let (name, kind, [here, there], carried) = tunnel;
            let [from, to] = carried[0];
            netns.run(&format!(
                "ip link add {name} {kind} local {there} remote {here}"
            ))?;
            netns.run(&format!("ip link set {name} up"))?;
            ethtool::offload(netns, name, false)?;
            let marker = eth_between(edge.edge.mac("eth1")?, netns.mac("eth0")?);
            let marker = marker
                .ip(here, there)
                .ip(from, to)
                .udp(9, 9)
                .payload("marker")
                .build();
            let collector = Collector::start(netns, name)?;
            ends.push((tunnel, marker, collector));
        }
        Ok(Self { ends })
    }

    /// Sends a packet; by tunnel what came out.
    fn pass(&mut self, edge: &mut Edge, sent: &Sent) -> Result<Vec<(Tunnel, Vec<Vec<u8>>)>> {
        let seen = edge.pass(&sent.bytes, sent.layout, Direction::Ingress)?;
        ensure!(seen.originals == [&*sent.bytes], "the original was changed");
        let mut all = Vec::new();
        for (tunnel, marker, collector) in &mut self.ends {
            edge.output(marker)?;
            let is_marker = |packet: &[u8]| packet.ends_with(b"marker");
            let got = collector
                .until(is_marker, deadline())
                .with_context(|| format!("the marker by {}", tunnel.0))?;
            all.push((*tunnel, got));
        }
        Ok(all)
    }
}
