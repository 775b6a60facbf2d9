//! What is looked at has no link header: packets of a tun interface, both ways.

mod harm;
mod large;

use crate::account::{Accounted, Passed};
use crate::edge::{Attach, is_housekeeping, marker, start};
use crate::routed::count;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::time::Instant;
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{
    Gue, Icmp, Ip, Ipv4, Layer, Packet, Reassembler, Tcp, eth, ip_part, verify_inner_checksums,
};
use traffic_mirror_tests::lab::recording;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket, PacketType};
use traffic_mirror_tests::lab::status::{Counters, Status};
use traffic_mirror_tests::lab::traffic::Stream;
use traffic_mirror_tests::lab::tun::Tun;
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::vnet::VnetHeader;

/// The way through the hooks of `tun0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// Received by `tun0`, forwarded to `out0`.
    Ingress,
    /// Sent by `tun0`.
    Egress,
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];
const ENDPOINTS: [(&str, &str); 2] = [("a", "10.9.0.11"), ("six", "fd09::13")];
const FAMILIES: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")];
/// MTU of the interfaces that originals pass.
const MTU: usize = 1500;

/// What the test has sent: the kernel sends reports about multicast groups.
fn is_ours(packet: &[u8]) -> bool {
    let is_from = |ip: Ip<'_>| {
        FAMILIES
            .iter()
            .any(|(from, _)| from.parse() == Ok(ip.source))
    };
    Ip::parse(packet).is_ok_and(is_from)
}

/// What all of them match, on whichever interface.
fn config(interface: &str) -> String {
    let endpoints =
        ENDPOINTS.map(|(name, address)| format!("[endpoint.{name}]\naddress = \"{address}\"\n"));
    let sources = FAMILIES.map(|(from, _)| format!("\"{from}\"")).join(", ");
    let filter =
        format!("[[filter]]\nname = \"all\"\nsource = [{sources}]\nto = [\"a\", \"six\"]\n");
    format!(
        "[[interface]]\nname = \"{interface}\"\n{}{filter}",
        endpoints.concat()
    )
}

/// A host with `tun0`, `out0` to which it forwards, and `eth1` to the collector.
struct Host {
    daemon: Accounted,
    edge: Netns,
    _collector: Netns,
    tun: Tun,
    out: Tun,
    sender: PacketSocket,
    /// Sends behind the originals that were received. To close a socket takes the kernel many
    /// milliseconds.
    behind: PacketSocket,
    flush: PacketSocket,
    copies: Collector,
    cpu: Cpu,
    status: Status,
}

/// Inner packets by endpoint.
type Copies = BTreeMap<&'static str, Vec<Vec<u8>>>;

/// What one packet has caused.
struct Seen {
    originals: Vec<Vec<u8>>,
    copies: Copies,
    strangers: usize,
    moved: Counters,
}

impl Host {
    fn new(config: &str, attach: Attach, output_mtu: u32) -> Result<Self> {
        let (edge, collector) = (Netns::new("pk-edge")?, Netns::new("pk-collector")?);
        edge.forward(true)?;
        recording::begin();
        let (tun, out) = (
            Tun::create_vnet(&edge, "tun0")?,
            Tun::create(&edge, "out0")?,
        );
        for (_, there) in FAMILIES {
            edge.run(&format!("ip route add {there} dev out0"))?;
        }
        Veth {
            mtu: output_mtu,
            offload: false,
            ..Veth::default()
        }
        .create(&edge, "eth1", &collector, "eth0")?;
        edge.address("eth1", "10.9.0.1/24")?;
        edge.address("eth1", "fd09::1/64")?;
        let mac = collector
            .mac("eth0")?
            .map(|byte| format!("{byte:02x}"))
            .join(":");
        for (_, address) in ENDPOINTS {
            edge.run(&format!(
                "ip neighbour add {address} lladdr {mac} dev eth1 nud permanent"
            ))?;
        }
        let copies =
            Collector::start_filtered(&collector, "eth0", |frame| !is_housekeeping(frame))?;
        let daemon = start(&edge, config, attach)?;
        let sender = PacketSocket::open_vnet(&edge, "tun0", Capture::Nothing)?;
        let behind = PacketSocket::open(&edge, "out0", Capture::Nothing)?;
        let flush = PacketSocket::open(&edge, "eth1", Capture::Nothing)?;
        let ready = |status: &Status| {
            ENDPOINTS
                .iter()
                .all(|(name, _)| !status.endpoint(name, "next_hop").is_empty())
        };
        let status = Status::until(&daemon, ready, deadline())?;
        ensure!(
            status.0["degraded"] == false,
            "not all is well at the start: {:#}",
            status.0
        );
        let (_collector, cpu) = (collector, Cpu::next()?);
        Ok(Self {
            daemon,
            edge,
            _collector,
            tun,
            out,
            sender,
            behind,
            flush,
            copies,
            cpu,
            status,
        })
    }

    /// Sends a packet, given as a frame, and says what came of it. On one CPU nothing can come
    /// later.
    fn pass(&mut self, frame: &[u8], header: VnetHeader, way: Direction) -> Result<Seen> {
        self.pass_all(&[(frame.to_vec(), header)], way)
    }

    /// The same for packets one behind the other: originals and copies are in their order.
    fn pass_all(&mut self, frames: &[(Vec<u8>, VnetHeader)], way: Direction) -> Result<Seen> {
        let marker = marker();
        let last = eth().ip("10.0.0.9", "10.0.0.2").raw(253, "last").build();
        self.cpu.run(|| {
            for (frame, header) in frames {
                let (packet, header) = (ip_part(frame)?, header.without_link());
                match way {
                    Direction::Ingress => self.tun.send_vnet(packet, header)?,
                    Direction::Egress => self.sender.send_vnet(packet, header)?,
                }
            }
            self.flush.send(&marker)
        })?;
        let copies = self
            .copies
            .until(|frame| *frame == marker, deadline())
            .context("at the collector")?;
        let status = Status::count(&self.daemon)?;
        self.daemon.check(
            &status,
            if frames.len() == 1 {
                Passed::Packet
            } else {
                Passed::Traffic
            },
        )?;
        let moved = status.since(&self.status)?;
        // what comes out last is not counted, nor taken for an original
        self.cpu.run(|| self.out_of(way, ip_part(&last)?))?;
        let from = if way == Direction::Ingress {
            &mut self.out
        } else {
            &mut self.tun
        };
        let mut originals = Vec::new();
        loop {
            let came = from
                .recv(deadline())?
                .context("the last packet did not come out")?;
            if came.ends_with(b"last") {
                break;
            }
            if is_ours(&came) {
                originals.push(came);
            }
        }
        self.status = Status::count(&self.daemon)?;
        self.daemon.begin(&self.status);
        let (copies, strangers) = sort(copies)?;
        Ok(Seen {
            originals,
            copies,
            strangers,
            moved,
        })
    }

    /// Has a packet come out where originals do.
    fn out_of(&self, way: Direction, packet: &[u8]) -> Result<()> {
        match way {
            Direction::Ingress => self.behind.send(packet),
            Direction::Egress => self.sender.send(packet),
        }
    }

    /// Sends a packet that has to arrive as it is, with a copy for each endpoint.
    fn arrives(
        &mut self,
        what: &str,
        frame: &[u8],
        header: VnetHeader,
        way: Direction,
    ) -> Result<Counters> {
        self.arrive(what, &[(frame.to_vec(), header)], way)
    }

    /// The same for packets one behind the other.
    fn arrive(
        &mut self,
        what: &str,
        frames: &[(Vec<u8>, VnetHeader)],
        way: Direction,
    ) -> Result<Counters> {
        let (mut packets, mut originals) = (Vec::new(), Vec::new());
        for (frame, header) in frames {
            let mut whole = frame.clone();
            if header.flags & VnetHeader::NEEDS_CSUM != 0 {
                fill_checksum(&mut whole, *header)?;
            }
            let packet = ip_part(&whole)?.to_vec();
            originals.push(if way == Direction::Ingress {
                hop(&packet)
            } else {
                normal(&packet)
            });
            packets.push(packet);
        }
        let bytes: usize = packets.iter().map(Vec::len).sum();
        let sent = [("packets", packets.len() as u64), ("bytes", bytes as u64)];
        let seen = self.pass_all(frames, way)?;
        let context = format!("{way:?} {what}: {:?}", seen.moved);
        let came: Vec<_> = seen.originals.iter().map(|packet| normal(packet)).collect();
        ensure!(
            came == originals,
            "{context}: {} originals, or others",
            came.len()
        );
        ensure!(
            seen.strangers == 0,
            "{context}: {} strangers",
            seen.strangers
        );
        for (endpoint, _) in ENDPOINTS {
            let copies = seen
                .copies
                .get(endpoint)
                .map(Vec::as_slice)
                .unwrap_or_default();
            ensure!(
                copies.len() == packets.len(),
                "{context}: {} copies to {endpoint}",
                copies.len()
            );
            // one that is sent whole has its checksum filled in by the interface
            for (copy, packet) in copies.iter().zip(&packets) {
                ensure!(
                    copy == packet,
                    "{context}: {endpoint} got {copy:02x?}, not {packet:02x?}"
                );
            }
            for (unit, wanted) in sent {
                let counted = count(&seen.moved, &format!("endpoint {endpoint} {unit}"));
                ensure!(counted == wanted, "{context}: {counted} {unit}");
            }
        }
        for (unit, wanted) in sent {
            ensure!(
                count(&seen.moved, &format!("filter all {unit}")) == wanted,
                "{context}"
            );
        }
        let others = seen
            .moved
            .keys()
            .filter(|key| key.contains("drop") || key.contains("gress"))
            .count();
        ensure!(others == 0, "{context}");
        Ok(seen.moved)
    }

    /// Waits until superpackets can be cut into packets.
    fn wait_for_segmenter(&mut self) -> Result<()> {
        let links = "ip -oneline link show type macvlan";
        self.edge
            .run_until(links, |links| links.contains("-in@"), deadline())?;
        let (frame, header) = superpacket(
            &eth().ip(FAMILIES[0].0, FAMILIES[0].1).tcp(443, 1),
            10_000,
            3000,
        )?;
        let until = deadline();
        while !self
            .pass(&frame, header, Direction::Egress)?
            .copies
            .contains_key("a")
        {
            ensure!(
                Instant::now() < until,
                "the segmenter is there, but not used"
            );
        }
        Ok(())
    }

    /// The interface's own counters.
    fn statistics(&self) -> Result<serde_json::Value> {
        let text = self.edge.run("ip -json -statistics link show dev tun0")?;
        let links: serde_json::Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok(links[0]["stats64"].clone())
    }
}

/// Without what each hop changes.
fn normal(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
    }
    packet
}

/// As [`normal`], one hop further.
fn hop(packet: &[u8]) -> Vec<u8> {
    let mut packet = normal(packet);
    let at = if packet[0] >> 4 == 4 { 8 } else { 7 };
    packet[at] -= 1;
    packet
}

fn fill_checksum(frame: &mut [u8], header: VnetHeader) -> Result<()> {
    let start = usize::from(header.csum_start);
    let at = start + usize::from(header.csum_offset);
    let sum = traffic_mirror_tests::lab::packet::checksum::internet(&[&frame[start..]]);
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    verify_inner_checksums(ip_part(frame)?)
}

/// Inner packets by endpoint, and how many frames are no copies.
fn sort(frames: Vec<Vec<u8>>) -> Result<(Copies, usize)> {
    let (mut copies, mut strangers, mut fragments) = (Copies::new(), 0, Reassembler::default());
    for frame in frames {
        let Some(frame) = fragments.push(frame)? else {
            continue;
        };
        let Ok(copy) = Gue::parse(&frame) else {
            strangers += 1;
            continue;
        };
        let Some((name, _)) = ENDPOINTS
            .iter()
            .find(|(_, address)| address.parse() == Ok(copy.outer_dst))
        else {
            bail!("a copy to {}", copy.outer_dst)
        };
        copies.entry(*name).or_default().push(copy.inner);
    }
    ensure!(
        fragments.incomplete() == 0,
        "{} copies lack fragments",
        fragments.incomplete()
    );
    Ok((copies, strangers))
}

fn superpacket(packet: &Packet, bytes: usize, segment: u16) -> Result<(Vec<u8>, VnetHeader)> {
    let mut frame = packet.clone().payload(Stream::new(1).bytes(bytes)).build();
    let header = VnetHeader::gso(&mut frame, segment)?;
    Ok((frame, header))
}

/// Packets of every kind that fit anywhere.
fn kinds() -> Result<Vec<(String, Vec<u8>, VnetHeader)>> {
    let mut all = Vec::new();
    let mut add =
        |what: String, packet: &Packet| all.push((what, packet.build(), VnetHeader::default()));
    let options = Ipv4 {
        options: vec![1; 12],
        ..Ipv4::new(FAMILIES[0].0, FAMILIES[0].1)
    };
    add(
        "IPv4 with options".to_owned(),
        &eth().layer(options).udp(1, 2).payload("options"),
    );
    let (from, to) = FAMILIES[1];
    add(
        "IPv6 with extensions".to_owned(),
        &eth()
            .ip(from, to)
            .destination_options()
            .udp(1, 2)
            .payload("extended"),
    );
    for (from, to) in FAMILIES {
        let ip = || eth().ip(from, to);
        add(format!("empty UDP from {from}"), &ip().udp(1, 2));
        add(
            format!("TCP from {from}"),
            &ip().layer(Tcp {
                options: vec![1; 12],
                ..Tcp::new(1, 443)
            }),
        );
        add(format!("no protocol from {from}"), &ip().raw(253, "raw"));
    }
    let echo = Layer::Icmp(Icmp {
        kind: 8,
        code: 0,
        ..Icmp::default()
    });
    add(
        "ICMP".to_owned(),
        &eth().ip(FAMILIES[0].0, FAMILIES[0].1).layer(echo),
    );
    for (from, to) in FAMILIES {
        let mut frame = eth()
            .ip(from, to)
            .udp(1, 2)
            .payload(Stream::new(5).bytes(777))
            .build();
        let header = VnetHeader::partial(&mut frame)?;
        all.push((format!("open checksum from {from}"), frame, header));
    }
    Ok(all)
}

#[test]
fn packets_of_each_kind_both_ways() -> Result<()> {
    for &attach in Attach::all()? {
        let mut host = Host::new(&config("tun0"), attach, MTU as u32 + 52)?;
        let tap = PacketSocket::open(&host.edge, "tun0", Capture::BothWays)?;
        let before = host.statistics()?;
        let mut passed = [0; 2];
        for way in DIRECTIONS {
            for (what, frame, header) in kinds()? {
                host.arrives(&format!("{attach:?} {what}"), &frame, header, way)?;
                passed[way as usize] += 1;
            }
        }
        let after = host.statistics()?;
        let mut tapped = [0; 2];
        while let Some(frame) = tap.recv(Instant::now())? {
            let way = usize::from(frame.direction == PacketType::Outgoing);
            tapped[way] += u64::from(is_ours(&frame.bytes));
        }
        ensure!(
            tapped == passed,
            "{attach:?}: a tap has seen {tapped:?} packets, not {passed:?}"
        );
        for (way, direction) in ["rx", "tx"].iter().enumerate() {
            // on the way out the last packet of each comes, too; each has two copies; the kernel's
            // own reports are fewer, and are counted when they are read
            let least = passed[way] * (1 + way as u64);
            let packets = least..least + passed[way];
            for (what, wanted) in [("packets", packets), ("dropped", 0..1), ("errors", 0..1)] {
                let of =
                    |stats: &serde_json::Value| stats[direction][what].as_u64().context("a number");
                let moved = of(&after)? - of(&before)?;
                ensure!(
                    wanted.contains(&moved),
                    "{attach:?}: {moved} {direction} {what}, not {wanted:?}"
                );
            }
        }
    }
    Ok(())
}
