//! Never mirror the mirror: copies that come back, other mirrors' copies, and errors about copies.

use crate::account::Accounted;
use crate::case::{Case, bytes, case, run};
use crate::edge::{Attach, Direction, Edge, SkbLayout, frame, start};
use crate::headers::{v4, v6};
use crate::routed::count;
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::ethtool;
use traffic_mirror_tests::lab::foreign::{Foreign, Verdict};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Packet, fragment};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket, PacketType};
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::traffic::udp_bind;
use traffic_mirror_tests::lab::veth::{Veth, veth};

/// Datagrams of a round.
const ROUND: u64 = 20;

/// What looks like a copy is one if a peer has sent it, or this mirror itself. What only resembles
/// one never is.
pub(crate) fn frames(edge: &mut Edge, attach: Attach) -> Result<()> {
    let v4 = || frame().layer(v4());
    let v6 = || frame().layer(v6());
    let inner = |packet: Packet| {
        packet
            .ip("10.1.1.1", "10.2.2.2")
            .tcp(1, 2)
            .payload([7; 400])
    };
    let copy = |packet: Packet| inner(packet.udp(50_000, 6080).gue());
    let raw =
        |what: &str, payload: &[u8]| case(what, &v4().udp(50_000, 6080).payload(payload)).copied();
    // the last octet of the outer length and of UDP's say what was cut off
    let snapped = [&[0, 4, 0, 0, 0x45, 0, 5, 0xdc][..], &[0; 100]].concat();
    let looped = |what: &str, packet: Packet| case(what, &packet).skipped("loop");
    // a datagram is remembered for a while: each time other ones
    let from_peers = |id: u32| -> Result<Vec<Case>> {
        let mut cases = vec![
            looped("over IPv4", copy(v4())),
            looped("over IPv6", copy(v6())),
            looped(
                "IPv6 inside",
                v6().udp(50_000, 6080)
                    .gue()
                    .ip("fd00::1", "fd00::2")
                    .udp(1, 2),
            ),
            looped("at another port", inner(v4().udp(1, 7777).gue())),
            looped("tagged", copy(frame().vlan(5).ip("10.0.0.1", "10.0.0.2"))),
            looped("behind extension headers", copy(v6().hop_by_hop())),
            looped(
                "cut by a snap",
                v4().udp(50_000, 6080).payload(snapped.clone()),
            ),
        ];
        cases.extend(in_fragments(&copy(v4()), id)?);
        cases.extend(in_fragments(&copy(v6()), id + 1)?);
        cases.extend(errors(&copy));
        Ok(cases)
    };
    let mut cases = from_peers(1)?;
    cases.extend([
        raw("nothing", &[]),
        raw("a GUE header alone", &[0, 4, 0, 0]),
        raw("a control message", &[0x20, 4, 0, 0, 0x45, 0, 0, 100]),
        raw("variant 1", &[0x45, 0, 0, 20, 0, 0, 0, 0]),
        raw("with fields", &[1, 4, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 20]),
        raw("with flags", &[0, 4, 0x80, 0, 0x45, 0, 0, 20]),
        raw("another protocol inside", &[0, 47, 0, 0, 0x45, 0, 0, 20]),
        raw("another version inside", &[0, 4, 0, 0, 0x65, 0, 0, 20]),
        raw(
            "less inside than follows",
            &[&[0, 4, 0, 0, 0x45, 0, 0, 20][..], &[0; 100]].concat(),
        ),
        case(
            "over TCP",
            &v4().tcp(1, 6080).payload([0, 4, 0, 0, 0x45, 0, 0, 20]),
        )
        .copied(),
        case("of a stranger", &copy(frame().ip("10.77.0.1", "10.77.0.2"))).copied(),
        case(
            "of a stranger over IPv6",
            &copy(frame().ip("2001:db8:77::1", "2001:db8:77::2")),
        )
        .copied(),
    ]);
    let file = config(&filter("all", "", "\"a\""));
    let [peers, nobody] = [
        &["10.0.0.1", "10.1.2.0/24", "2001:db8:1::3"][..],
        &["10.0.9.0/24", "2001:db8:9::/48"],
    ]
    .map(|peers| format!("peers = {peers:?}\n{file}"));
    run(edge, attach, "copies of peers", &peers, &cases)?;
    // the same without a peer of that name
    for (file, id) in [(&file, 3), (&nobody, 5)] {
        let strangers = from_peers(id)?
            .into_iter()
            .map(|case| case.unasked().copied())
            .collect::<Vec<_>>();
        run(edge, attach, "what looks like copies", file, &strangers)?;
    }
    run(edge, attach, "copies of this mirror", &file, &own())?;
    nested(edge, attach, &file)
}

/// What bears the outer header of a copy to endpoint "a" or "six", and what nearly does.
fn own() -> Vec<Case> {
    let to = |from: &str, to: &str, ports: (u16, u16)| {
        frame()
            .ip(from, to)
            .udp(ports.0, ports.1)
            .gue()
            .ip("10.1.1.1", "10.2.2.2")
            .tcp(1, 2)
            .payload([7; 400])
    };
    let a = |ports| to("10.9.0.1", "10.9.0.11", ports);
    let six = |ports| to("fd09::1", "fd09::13", ports);
    let quoted = |packet: &Packet, bytes: usize| {
        let quoted = packet.build()[14..14 + bytes].to_vec();
        frame()
            .ip("10.0.0.1", "10.9.0.1")
            .icmp(3, 0)
            .payload(quoted)
    };
    vec![
        case("to a", &a((50_000, 6080))).skipped("loop"),
        case("to six", &six((50_000, 6080))).skipped("loop"),
        case("from a port that no copy has", &a((40_000, 6080))).copied(),
        case("to another port", &a((50_000, 6081))).copied(),
        case(
            "from another address",
            &to("10.9.0.2", "10.9.0.11", (50_000, 6080)),
        )
        .copied(),
        case(
            "to another address",
            &to("fd09::1", "fd09::93", (50_000, 6080)),
        )
        .copied(),
        case("back", &to("10.9.0.11", "10.9.0.1", (50_000, 6080))).copied(),
        case(
            "no GUE",
            &frame()
                .ip("10.9.0.1", "10.9.0.11")
                .udp(50_000, 6080)
                .payload([7; 100]),
        )
        .copied(),
        case("an error", &quoted(&a((50_000, 6080)), 100)).skipped("loop"),
        case(
            "an error that quotes no more than ports",
            &quoted(&a((50_000, 6080)), 28),
        )
        .skipped("loop"),
        case(
            "an error about another port",
            &quoted(&a((50_000, 6081)), 28),
        )
        .copied(),
    ]
}

/// GUE in GUE, as an attacker may have it and a loop must, is copied up to a rate, and counted
/// beyond.
fn nested(edge: &mut Edge, attach: Attach, file: &str) -> Result<()> {
    const FRAMES: u64 = 1_000;
    // on one CPU: 100 that were saved up, and 100 a second
    const SAVED: u64 = 100;
    edge.configure(file)?;
    let wrapped = |packet: Packet| packet.udp(50_000, 6080).gue().ip("10.1.1.1", "10.2.2.2");
    let twice = wrapped(wrapped(frame().layer(v4())))
        .udp(1, 2)
        .payload([7; 100]);
    let thrice = wrapped(wrapped(wrapped(frame().layer(v4()))))
        .udp(1, 2)
        .payload([7; 100]);
    for (what, packet, saved) in [("twice", twice, SAVED), ("three times", thrice, 1)] {
        let frames = vec![packet.build(); FRAMES as usize];
        let begin = Instant::now();
        ensure!(
            edge.originals(&frames, SkbLayout::Linear, Direction::Ingress)? == frames,
            "the originals differ"
        );
        let most = saved + (begin.elapsed().as_secs_f64() * saved as f64) as u64 + 1;
        let (copies, _) = edge.copies()?;
        let (copied, moved) = (
            copies.get("a").map_or(0, Vec::len) as u64,
            edge.moved(Direction::Ingress)?,
        );
        let nested = count(&moved, "eth0 ingress nested");
        ensure!(
            copied + nested == FRAMES,
            "{attach:?} {what}: {copied} copied, {nested} counted of {FRAMES}"
        );
        ensure!(
            copied <= most,
            "{attach:?} {what}: {copied} copied, {most} at most"
        );
        ensure!(
            saved == 1 || copied > 0,
            "{attach:?} {what}: nothing copied"
        );
    }
    Ok(())
}

/// All fragments of a copy.
fn in_fragments(copy: &Packet, id: u32) -> Result<Vec<Case>> {
    let fragments = fragment(&copy.build(), 200, 900 + id)?;
    ensure!(fragments.len() > 2, "{} fragments", fragments.len());
    let each = |(index, frame)| bytes(format!("fragment {index} of a copy"), frame).skipped("loop");
    Ok(fragments.into_iter().enumerate().map(each).collect())
}

/// ICMP errors that quote a copy, and others.
fn errors(copy: &dyn Fn(Packet) -> Packet) -> Vec<Case> {
    let quote = |bytes: usize, packet: &Packet| packet.build()[14..14 + bytes].to_vec();
    // an error goes to the one who has sent what it quotes
    let of = |kind: u8, quoted: Vec<u8>| {
        frame()
            .ip("198.51.100.7", "10.1.2.3")
            .icmp(kind, 0)
            .payload(quoted)
    };
    let of6 = |kind: u8, quoted: Vec<u8>| {
        frame()
            .ip("2001:db8:2::7", "2001:db8:1::3")
            .icmpv6(kind, 0)
            .payload(quoted)
    };
    let (four, six) = (copy(frame().layer(v4())), copy(frame().layer(v6())));
    let plain = frame().layer(v4()).udp(1, 2).payload([5; 100]);
    let mut cases: Vec<_> = [3, 4, 5, 11, 12]
        .map(|kind| {
            case(
                format!("ICMP {kind} about a copy"),
                &of(kind, quote(100, &four)),
            )
            .skipped("loop")
        })
        .into();
    cases.extend([1, 2, 3, 4].map(|kind| {
        case(
            format!("ICMPv6 {kind} about a copy"),
            &of6(kind, quote(120, &six)),
        )
        .skipped("loop")
    }));
    cases.extend([
        case(
            "ICMP to somebody else",
            &frame().layer(v4()).icmp(3, 0).payload(quote(100, &four)),
        )
        .copied(),
        case(
            "ICMPv6 to somebody else",
            &frame().layer(v6()).icmpv6(1, 0).payload(quote(120, &six)),
        )
        .copied(),
        case("ICMP about something else", &of(3, quote(100, &plain))).copied(),
        case(
            "ICMP with less than a copy's head",
            &of(3, quote(34, &four)),
        )
        .copied(),
        case(
            "ICMPv6 with less than a copy's head",
            &of6(1, quote(54, &six)),
        )
        .copied(),
        case(
            "an echo request with a copy in it",
            &of(8, quote(100, &four)),
        )
        .copied(),
        case(
            "an ICMPv6 echo request with one",
            &of6(128, quote(120, &six)),
        )
        .copied(),
    ]);
    cases
}

/// Two hosts that see each other's copies.
struct Facing {
    hosts: [Netns; 2],
    daemons: Vec<Accounted>,
    sender: UdpSocket,
    receiver: UdpSocket,
    sent: u64,
}

const ADDRESSES: [&str; 2] = ["10.0.0.1", "10.0.1.1"];

impl Facing {
    /// Hosts whose daemons run, and which are connected.
    fn new(hosts: [Netns; 2], configs: &[String], attach: Attach) -> Result<Self> {
        let daemons = hosts
            .iter()
            .zip(configs)
            .map(|(host, config)| start(host, config, attach))
            .collect::<Result<Vec<_>>>()?;
        for daemon in &daemons {
            let ready = |status: &Status| {
                status.0["endpoints"].as_array().is_some_and(|all| {
                    all.iter().all(|endpoint| {
                        endpoint["state"] == "ready" && endpoint["next_hop"].is_string()
                    })
                })
            };
            Status::until(daemon, ready, deadline())?;
        }
        let sender = udp_bind(&hosts[0], format!("{}:4000", ADDRESSES[0]).parse()?)?;
        let receiver = udp_bind(&hosts[1], format!("{}:4000", ADDRESSES[1]).parse()?)?;
        Ok(Self {
            hosts,
            daemons,
            sender,
            receiver,
            sent: 0,
        })
    }

    /// Sends datagrams from one to the other, and waits until the counters say what they must. A
    /// loop would go on, and be seen by the next round.
    fn round(&mut self, bytes: usize, expected: &[&[(&str, u64)]]) -> Result<()> {
        let (payload, mut buffer) = (vec![7; bytes], vec![0; bytes + 1]);
        for _ in 0..ROUND {
            self.sender.send_to(&payload, (ADDRESSES[1], 4000))?;
            ensure!(
                self.receiver.recv(&mut buffer)? == bytes,
                "another datagram"
            );
        }
        self.sent += ROUND;
        for (daemon, expected) in self.daemons.iter().zip(expected) {
            let all = |status: &Status| {
                let counters = status.counters();
                expected
                    .iter()
                    .all(|&(key, times)| count(&counters, key) >= times * self.sent)
            };
            let status = Status::until(daemon, all, deadline())?;
            for &(key, times) in *expected {
                let counted = count(&status.counters(), key);
                ensure!(
                    counted == times * self.sent,
                    "{key} is {counted} after {} datagrams",
                    self.sent
                );
            }
        }
        Ok(())
    }

    /// The negative control, at the end: sends datagrams where copies go, or what else must show
    /// what becomes of a packet on that way which is not known for a copy. Checks by how much
    /// counters move for each.
    fn control(&self, to: (&str, u16), payload: &[u8], expected: &[&[(&str, u64)]]) -> Result<()> {
        let counters = |daemon: &Accounted| Ok(Status::read(daemon)?.counters());
        // what goes on after the first time is seen by the second
        for _ in 0..2 {
            let before = self
                .daemons
                .iter()
                .map(counters)
                .collect::<Result<Vec<_>>>()?;
            (0..ROUND).try_for_each(|_| self.sender.send_to(payload, to).map(drop))?;
            for ((daemon, before), expected) in self.daemons.iter().zip(&before).zip(expected) {
                let moved = |status: &Status, key: &str| {
                    count(&status.counters(), key) - count(before, key)
                };
                let is_all = |status: &Status| {
                    expected
                        .iter()
                        .all(|&(key, times)| moved(status, key) >= times * ROUND)
                };
                let status = Status::until(daemon, is_all, deadline())?;
                for &(key, times) in *expected {
                    let by = moved(&status, key);
                    ensure!(
                        by == times * ROUND,
                        "{key} moved by {by} for {ROUND} datagrams to {to:?}"
                    );
                }
            }
        }
        Ok(())
    }
}

/// What a copy is behind its outer UDP header.
fn gue() -> Vec<u8> {
    Packet::new()
        .gue()
        .ip("10.1.1.1", "10.2.2.2")
        .udp(1, 2)
        .payload([7; 100])
        .build()
}

/// The same but for a bit that no copy has.
fn nearly_gue() -> Vec<u8> {
    let mut bytes = gue();
    bytes[2] = 0x80;
    bytes
}

/// What mirrors all of `eth0` to an address.
fn all_to(address: &str, port: u16) -> String {
    format!(
        "[[interface]]\nname = \"eth0\"\n[endpoint.other]\naddress = \"{address}\"\nport = {port}\n\
         [[filter]]\nname = \"all\"\nto = [\"other\"]\n"
    )
}

pub(crate) fn host(name: &str) -> Result<Netns> {
    let host = Netns::new(name)?;
    // nobody may speak but the test
    host.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    host.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
    Ok(host)
}

/// What goes in at one end comes out at the other as bytes and nothing else, as between hosts with
/// a kernel each: within one a packet stays known for a tunnel's, and cannot be wrapped again.
struct Wire {
    stop: Arc<AtomicBool>,
    ends: Vec<JoinHandle<()>>,
    _netns: Netns,
}

impl Wire {
    fn new([left, right]: [(&Netns, &str); 2]) -> Result<Self> {
        let netns = host("pl-wire")?;
        for ((host, interface), end) in [(left, "one"), (right, "two")] {
            Veth {
                offload: false,
                ..Veth::default()
            }
            .create(host, interface, &netns, end)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let carry = |from: &str, to: &str| -> Result<JoinHandle<()>> {
            let (mut from, to) = (
                Collector::start(&netns, from)?,
                PacketSocket::open(&netns, to, Capture::Nothing)?,
            );
            let stop = Arc::clone(&stop);
            Ok(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // what is lost is lost, as on any wire
                    let frame = from.next(Instant::now() + Duration::from_millis(20));
                    let _sent = frame.ok().flatten().map(|frame| to.send(&frame));
                }
            }))
        };
        Ok(Self {
            ends: vec![carry("one", "two")?, carry("two", "one")?],
            stop,
            _netns: netns,
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ends.drain(..).for_each(|end| drop(end.join()));
    }
}

/// Two hosts, each of which mirrors to the other, and what is between them.
struct Between {
    facing: Facing,
    _sinks: [UdpSocket; 2],
    _wire: Option<Wire>,
    _router: Option<Netns>,
}

impl Between {
    /// A router that translates addresses and ports. `peers` has each know the other.
    fn translated(attach: Attach, peers: bool) -> Result<Self> {
        let (left, router, right) = (host("pl-left")?, host("pl-router")?, host("pl-right")?);
        let wire = if peers {
            veth(&left, "eth0", &router, "left")?;
            None
        } else {
            Some(Wire::new([(&left, "eth0"), (&router, "left")])?)
        };
        veth(&right, "eth0", &router, "right")?;
        router.forward(true)?;
        for (netns, port, net) in [(&left, "left", 0), (&right, "right", 1)] {
            netns.address("eth0", &format!("10.0.{net}.1/24"))?;
            router.address(port, &format!("10.0.{net}.254/24"))?;
        }
        left.run("ip route add default via 10.0.0.254")?;
        for rule in [
            "add table ip nat",
            "add chain ip nat post { type nat hook postrouting priority 100 ; }",
            "add rule ip nat post oifname right masquerade",
            "add chain ip nat pre { type nat hook prerouting priority -100 ; }",
            "add rule ip nat pre iifname right udp dport 6080 dnat to 10.0.0.1:7000",
        ] {
            router.run(&format!("nft {rule}"))?;
        }
        // without an answer from the ports that copies go to
        let sinks = [
            udp_bind(&left, "10.0.0.1:7000".parse()?)?,
            udp_bind(&right, "10.0.1.1:5000".parse()?)?,
        ];
        let peer = |address: &str| {
            if peers {
                format!("peers = [\"{address}\"]\n")
            } else {
                String::new()
            }
        };
        let configs = [
            peer("10.0.1.1") + &all_to("10.0.1.1", 5000),
            peer("10.0.1.254") + &all_to("10.0.1.254", 6080),
        ];
        let facing = Facing::new([left, right], &configs, attach)?;
        Ok(Self {
            facing,
            _sinks: sinks,
            _wire: wire,
            _router: Some(router),
        })
    }

    /// A wire.
    fn direct(attach: Attach) -> Result<Self> {
        let hosts = [host("pl-left")?, host("pl-right")?];
        let wire = Wire::new([(&hosts[0], "eth0"), (&hosts[1], "eth0")])?;
        for (netns, own, other) in [(&hosts[0], 0, 1), (&hosts[1], 1, 0)] {
            netns.address("eth0", &format!("10.0.{own}.1/24"))?;
            netns.run(&format!("ip route add 10.0.{other}.0/24 dev eth0"))?;
        }
        let sinks = [
            udp_bind(&hosts[0], "10.0.0.1:6080".parse()?)?,
            udp_bind(&hosts[1], "10.0.1.1:6080".parse()?)?,
        ];
        let configs = [all_to(ADDRESSES[1], 6080), all_to(ADDRESSES[0], 6080)];
        Ok(Self {
            facing: Facing::new(hosts, &configs, attach)?,
            _sinks: sinks,
            _wire: Some(wire),
            _router: None,
        })
    }
}

#[test]
fn two_daemons_face_each_other_through_nat() -> Result<()> {
    for &attach in Attach::all()? {
        let mut between = Between::translated(attach, true)?;
        let facing = &mut between.facing;
        for bytes in [10, 1000, 1440, 1472] {
            // the longer ones make copies of two fragments, each of which comes by
            let pieces = if bytes > 1440 { 2 } else { 1 };
            let before = facing.sent;
            let counts = |facing: &Facing| {
                facing
                    .daemons
                    .iter()
                    .map(|daemon| Ok(Status::read(daemon)?.counters()))
                    .collect::<Result<Vec<_>>>()
            };
            let was = counts(facing)?;
            facing.round(
                bytes,
                &[&[("filter all packets", 1)], &[("filter all packets", 1)]],
            )?;
            for (index, side) in ["left", "right"].into_iter().enumerate() {
                let looped = |status: &Status| count(&status.counters(), "eth0 ingress loop");
                let wanted =
                    count(&was[index], "eth0 ingress loop") + pieces * (facing.sent - before);
                let status = Status::until(
                    &facing.daemons[index],
                    |status| looped(status) >= wanted,
                    deadline(),
                )?;
                ensure!(
                    looped(&status) == wanted,
                    "{attach:?} {side}, {bytes} bytes: {} of {wanted}",
                    looped(&status)
                );
            }
        }
        // what looks like a copy is one to whom it comes from a peer, and not to the one that sends
        // it; what nearly does is copied by both
        let (all, egress, ingress) = (
            "filter all packets",
            "eth0 egress loop",
            "eth0 ingress loop",
        );
        facing.control(
            ("10.0.1.1", 5000),
            &gue(),
            &[&[(all, 1), (egress, 0)], &[(all, 0), (ingress, 2)]],
        )?;
        facing.control(
            ("10.0.1.1", 5000),
            &nearly_gue(),
            &[&[(all, 1), (egress, 0), (ingress, 1)][..]; 2],
        )?;
    }
    Ok(())
}

/// Takes a datagram, however often a signal comes meanwhile.
fn take(socket: &UdpSocket) -> io::Result<()> {
    loop {
        match socket.recv(&mut [0; 20]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            taken => return taken.map(drop),
        }
    }
}

/// Neither knows the other: each copies the other's copies once, and what is nested up to a rate.
#[test]
fn mirrors_that_do_not_know_each_other_do_not_multiply() -> Result<()> {
    const PACKETS: u64 = 1_000;
    let cpus = std::thread::available_parallelism()?.get() as u64;
    for &attach in Attach::all()? {
        for is_translated in [false, true] {
            let between = if is_translated {
                Between::translated(attach, false)?
            } else {
                Between::direct(attach)?
            };
            let facing = &between.facing;
            let begin = Instant::now();
            let before = facing
                .daemons
                .iter()
                .map(|d| Ok(Status::read(d)?.counters()))
                .collect::<Result<Vec<_>>>()?;
            for number in 0..PACKETS {
                facing.sender.send_to(&[7; 10], (ADDRESSES[1], 4000))?;
                // no faster than it is taken
                if number % 100 == 99 {
                    (0..100).try_for_each(|_| take(&facing.receiver))?;
                }
            }
            for (daemon, before) in facing.daemons.iter().zip(&before) {
                let moved = |status: &Status, key: &str| {
                    count(&status.counters(), key) - count(before, key)
                };
                let is_over = |status: &Status| {
                    moved(status, "filter all packets") >= 2 * PACKETS
                        && moved(status, "eth0 ingress nested") >= PACKETS / 2
                };
                let status = Status::until(daemon, is_over, deadline())
                    .with_context(|| format!("{attach:?} translated {is_translated}"))?;
                let matched = moved(&status, "filter all packets");
                // each packet, the other's copy of it, and what is nested: 100 that were saved up,
                // and 100 a second
                let most = 2 * PACKETS + 100 * cpus * (begin.elapsed().as_secs() + 2);
                let said = daemon.run(&["status"])?;
                ensure!(
                    String::from_utf8(said.stdout)?.contains("add its address to \"peers\""),
                    "no hint"
                );
                ensure!(
                    matched <= most,
                    "{attach:?} translated {is_translated}: {matched} copied, {most} at most"
                );
            }
        }
    }
    Ok(())
}

/// The collector does not listen: its errors are about copies, and must not be copied themselves.
#[test]
fn errors_about_copies_are_not_copied() -> Result<()> {
    for &attach in Attach::all()? {
        let hosts = [host("pl-left")?, host("pl-right")?];
        veth(&hosts[0], "eth0", &hosts[1], "eth0")?;
        for (netns, own, other) in [(&hosts[0], 0, 1), (&hosts[1], 1, 0)] {
            netns.address("eth0", &format!("10.0.{own}.1/24"))?;
            netns.run(&format!("ip route add 10.0.{other}.0/24 dev eth0"))?;
        }
        hosts[1].sysctl("net.ipv4.icmp_ratelimit", "0")?;
        hosts[1].sysctl("net.ipv4.icmp_msgs_per_sec", "100000")?;
        hosts[1].sysctl("net.ipv4.icmp_msgs_burst", "100000")?;
        let mut facing = Facing::new(hosts, &[all_to(ADDRESSES[1], 6080)], attach)?;
        for _ in 0..3 {
            facing.round(
                100,
                &[&[("filter all packets", 1), ("eth0 ingress loop", 1)]],
            )?;
        }
        // an error about something else is copied: it and what it is about make two copies, and two
        // errors about them
        facing.control(
            (ADDRESSES[1], 9),
            &[7; 100],
            &[&[("filter all packets", 2), ("eth0 ingress loop", 2)]],
        )?;
    }
    Ok(())
}

/// Copies go into a tunnel whose packets pass the interface that is looked at: they have another
/// header by then. A filter of tc that lets a packet pass overwrites what the kernel keeps with it.
#[test]
fn copies_in_a_tunnel_are_not_copied() -> Result<()> {
    for (&attach, is_filtered) in Attach::all()?
        .iter()
        .flat_map(|attach| [(attach, false), (attach, true)])
    {
        let hosts = [host("pl-left")?, host("pl-right")?];
        veth(&hosts[0], "eth0", &hosts[1], "eth0")?;
        for (netns, own, other) in [(&hosts[0], 0, 1), (&hosts[1], 1, 0)] {
            netns.address("eth0", &format!("10.0.{own}.1/24"))?;
            netns.run(&format!("ip route add 10.0.{other}.0/24 dev eth0"))?;
            netns.run(&format!(
                "ip link add tunnel address 02:00:00:00:99:0{own} type vxlan id 7 dstport 4789 local 10.0.{own}.1 remote 10.0.{other}.1"
            ))?;
            netns.run("ip link set tunnel mtu 1400 up")?;
            netns.address("tunnel", &format!("10.8.0.{}/24", own + 1))?;
            netns.run(&format!(
                "ip neighbour add 10.8.0.{} lladdr 02:00:00:00:99:0{other} dev tunnel nud permanent",
                other + 1
            ))?;
        }
        let _sink = udp_bind(&hosts[1], "10.8.0.2:6080".parse()?)?;
        let mut facing = Facing::new(hosts, &[all_to("10.8.0.2", 6080)], attach)?;
        ensure!(
            facing.hosts[0]
                .run("ip -oneline route get 10.8.0.2")?
                .contains("tunnel"),
            "no tunnel"
        );
        if is_filtered {
            if attach == Attach::Tcx {
                facing.hosts[0].run("tc qdisc add dev tunnel clsact")?;
            }
            let ok = Foreign::load("says_ok", Verdict::Pass)?;
            ok.attach_filter(&facing.hosts[0], "tunnel", PacketType::Outgoing, 60_000)?;
        }
        for _ in 0..3 {
            facing.round(
                100,
                &[&[("filter all packets", 1), ("eth0 egress loop", 1)]],
            )?;
        }
        // the same bytes in the tunnel, without the mark; the checksum is not left to the NIC, or
        // they could not be wrapped
        ethtool::offload(&facing.hosts[0], "tunnel", false)?;
        facing.control(
            ("10.8.0.2", 6080),
            &gue(),
            &[&[("filter all packets", 1), ("eth0 egress loop", 1)]],
        )?;
    }
    Ok(())
}
