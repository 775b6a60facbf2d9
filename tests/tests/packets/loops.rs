//! Never mirror the mirror: copies that come back, other mirrors' copies, and errors about copies.

use crate::account::Accounted;
use crate::case::{Case, bytes, case, run};
use crate::edge::{Attach, Edge, frame, start};
use crate::headers::{v4, v6};
use crate::routed::count;
use crate::{config, filter};
use anyhow::{Result, ensure};
use std::net::UdpSocket;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::ethtool;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Packet, fragment};
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::traffic::udp_bind;
use traffic_mirror_tests::lab::veth::veth;

/// Datagrams of a round.
const ROUND: u64 = 20;

/// What looks like a copy, at any port and in any outer packet, is none that a filter may have; what only resembles one is.
pub(crate) fn frames(edge: &mut Edge, attach: Attach) -> Result<()> {
    let v4 = || frame().layer(v4());
    let v6 = || frame().layer(v6());
    let inner = |packet: Packet| packet.ip("10.1.1.1", "10.2.2.2").tcp(1, 2).payload([7; 400]);
    let copy = |packet: Packet| inner(packet.udp(50_000, 6080).gue());
    let looped = |what: &str, packet: Packet| case(what, &packet).unseen("loop");
    let raw = |what: &str, payload: &[u8]| case(what, &v4().udp(50_000, 6080).payload(payload)).copied();
    let mut cases = vec![
        looped("over IPv4", copy(v4())),
        looped("over IPv6", copy(v6())),
        looped("IPv6 inside", v6().udp(50_000, 6080).gue().ip("fd00::1", "fd00::2").udp(1, 2)),
        looped("at another port", inner(v4().udp(1, 7777).gue())),
        looped("tagged", copy(frame().vlan(5).ip("10.0.0.1", "10.0.0.2"))),
        looped("behind extension headers", copy(v6().hop_by_hop())),
        raw("nothing", &[]),
        raw("a GUE header alone", &[0, 4, 0, 0]),
        raw("a control message", &[0x20, 4, 0, 0, 0x45, 0, 0, 100]),
        raw("variant 1", &[0x45, 0, 0, 20, 0, 0, 0, 0]),
        raw("with fields", &[1, 4, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 20]),
        raw("with flags", &[0, 4, 0x80, 0, 0x45, 0, 0, 20]),
        raw("another protocol inside", &[0, 47, 0, 0, 0x45, 0, 0, 20]),
        raw("another version inside", &[0, 4, 0, 0, 0x65, 0, 0, 20]),
        raw("less inside than follows", &[&[0, 4, 0, 0, 0x45, 0, 0, 20][..], &[0; 100]].concat()),
        case("over TCP", &v4().tcp(1, 6080).payload([0, 4, 0, 0, 0x45, 0, 0, 20])).copied(),
    ];
    // the last octet of the outer length and of UDP's say what was cut off
    let snapped = [&[0, 4, 0, 0, 0x45, 0, 5, 0xdc][..], &[0; 100]].concat();
    cases.push(looped("cut by a snap", v4().udp(50_000, 6080).payload(snapped)));
    cases.extend(in_fragments(&copy(v4()), 1)?);
    cases.extend(in_fragments(&copy(v6()), 2)?);
    cases.extend(errors(&copy));
    run(edge, attach, "loops", &config(&filter("all", "", "\"a\"")), &cases)
}

/// All fragments of a copy.
fn in_fragments(copy: &Packet, id: u32) -> Result<Vec<Case>> {
    let fragments = fragment(&copy.build(), 200, 900 + id)?;
    ensure!(fragments.len() > 2, "{} fragments", fragments.len());
    let each = |(index, frame)| bytes(format!("fragment {index} of a copy"), frame).unseen("loop");
    Ok(fragments.into_iter().enumerate().map(each).collect())
}

/// ICMP errors that quote a copy, and others.
fn errors(copy: &dyn Fn(Packet) -> Packet) -> Vec<Case> {
    let quote = |bytes: usize, packet: &Packet| packet.build()[14..14 + bytes].to_vec();
    let of = |kind: u8, quoted: Vec<u8>| frame().layer(v4()).icmp(kind, 0).payload(quoted);
    let of6 = |kind: u8, quoted: Vec<u8>| frame().layer(v6()).icmpv6(kind, 0).payload(quoted);
    let (four, six) = (copy(frame().layer(v4())), copy(frame().layer(v6())));
    let plain = frame().layer(v4()).udp(1, 2).payload([5; 100]);
    let mut cases: Vec<_> = [3, 4, 5, 11, 12]
        .map(|kind| case(format!("ICMP {kind} about a copy"), &of(kind, quote(100, &four))).unseen("loop"))
        .into();
    cases.extend(
        [1, 2, 3, 4]
            .map(|kind| case(format!("ICMPv6 {kind} about a copy"), &of6(kind, quote(120, &six))).unseen("loop")),
    );
    cases.extend([
        case("ICMP about something else", &of(3, quote(100, &plain))).copied(),
        case("ICMP with less than a copy's head", &of(3, quote(34, &four))).copied(),
        case("ICMPv6 with less than a copy's head", &of6(1, quote(54, &six))).copied(),
        case("an echo request with a copy in it", &of(8, quote(100, &four))).copied(),
        case("an ICMPv6 echo request with one", &of6(128, quote(120, &six))).copied(),
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
        let daemons =
            hosts.iter().zip(configs).map(|(host, config)| start(host, config, attach)).collect::<Result<Vec<_>>>()?;
        for daemon in &daemons {
            let ready = |status: &Status| {
                status.0["endpoints"].as_array().is_some_and(|all| {
                    all.iter().all(|endpoint| endpoint["state"] == "ready" && endpoint["next_hop"].is_string())
                })
            };
            Status::until(daemon, ready, deadline())?;
        }
        let sender = udp_bind(&hosts[0], format!("{}:4000", ADDRESSES[0]).parse()?)?;
        let receiver = udp_bind(&hosts[1], format!("{}:4000", ADDRESSES[1]).parse()?)?;
        Ok(Self { hosts, daemons, sender, receiver, sent: 0 })
    }

    /// Sends datagrams from one to the other, and waits until the counters say what they must. A loop would go on, and
    /// be seen by the next round.
    fn round(&mut self, bytes: usize, expected: &[&[(&str, u64)]]) -> Result<()> {
        let (payload, mut buffer) = (vec![7; bytes], vec![0; bytes + 1]);
        for _ in 0..ROUND {
            self.sender.send_to(&payload, (ADDRESSES[1], 4000))?;
            ensure!(self.receiver.recv(&mut buffer)? == bytes, "another datagram");
        }
        self.sent += ROUND;
        for (daemon, expected) in self.daemons.iter().zip(expected) {
            let all = |status: &Status| {
                let counters = status.counters();
                expected.iter().all(|&(key, times)| count(&counters, key) >= times * self.sent)
            };
            let status = Status::until(daemon, all, deadline())?;
            for &(key, times) in *expected {
                let counted = count(&status.counters(), key);
                ensure!(counted == times * self.sent, "{key} is {counted} after {} datagrams", self.sent);
            }
        }
        Ok(())
    }

    /// The negative control, at the end: sends datagrams where copies go, or what else must show what becomes of a
    /// packet on that way which is not known for a copy. Checks by how much counters move for each.
    fn control(&self, to: (&str, u16), payload: &[u8], expected: &[&[(&str, u64)]]) -> Result<()> {
        let counters = |daemon: &Accounted| Ok(Status::read(daemon)?.counters());
        // what goes on after the first time is seen by the second
        for _ in 0..2 {
            let before = self.daemons.iter().map(counters).collect::<Result<Vec<_>>>()?;
            (0..ROUND).try_for_each(|_| self.sender.send_to(payload, to).map(drop))?;
            for ((daemon, before), expected) in self.daemons.iter().zip(&before).zip(expected) {
                let moved = |status: &Status, key: &str| count(&status.counters(), key) - count(before, key);
                let is_all = |status: &Status| expected.iter().all(|&(key, times)| moved(status, key) >= times * ROUND);
                let status = Status::until(daemon, is_all, deadline())?;
                for &(key, times) in *expected {
                    let by = moved(&status, key);
                    ensure!(by == times * ROUND, "{key} moved by {by} for {ROUND} datagrams to {to:?}");
                }
            }
        }
        Ok(())
    }
}

/// What a copy is behind its outer UDP header.
fn gue() -> Vec<u8> {
    Packet::new().gue().ip("10.1.1.1", "10.2.2.2").udp(1, 2).payload([7; 100]).build()
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

fn host(name: &str) -> Result<Netns> {
    let host = Netns::new(name)?;
    // nobody may speak but the test
    host.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    host.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
    Ok(host)
}

/// Each mirrors to the other, through a router that translates addresses and ports.
#[test]
fn two_daemons_face_each_other_through_nat() -> Result<()> {
    for &attach in Attach::all()? {
        let (left, router, right) = (host("pl-left")?, host("pl-router")?, host("pl-right")?);
        veth(&left, "eth0", &router, "left")?;
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
        let _sinks = [udp_bind(&left, "10.0.0.1:7000".parse()?)?, udp_bind(&right, "10.0.1.1:5000".parse()?)?];
        let configs = [all_to("10.0.1.1", 5000), all_to("10.0.1.254", 6080)];
        let mut facing = Facing::new([left, right], &configs, attach)?;
        for bytes in [10, 1000, 1440, 1472] {
            // the longer ones make copies of two fragments, each of which comes by
            let pieces = if bytes > 1440 { 2 } else { 1 };
            let before = facing.sent;
            let counts = |facing: &Facing| {
                facing.daemons.iter().map(|daemon| Ok(Status::read(daemon)?.counters())).collect::<Result<Vec<_>>>()
            };
            let was = counts(&facing)?;
            facing.round(bytes, &[&[("filter all packets", 1)], &[("filter all packets", 1)]])?;
            for (index, side) in ["left", "right"].into_iter().enumerate() {
                let looped = |status: &Status| count(&status.counters(), "eth0 ingress loop");
                let wanted = count(&was[index], "eth0 ingress loop") + pieces * (facing.sent - before);
                let status = Status::until(&facing.daemons[index], |status| looped(status) >= wanted, deadline())?;
                ensure!(looped(&status) == wanted, "{attach:?} {side}, {bytes} bytes: {} of {wanted}", looped(&status));
            }
        }
        // what looks like a copy is copied by neither, and what nearly does by both: so would each copy be
        let (all, egress, ingress) = ("filter all packets", "eth0 egress loop", "eth0 ingress loop");
        facing.control(("10.0.1.1", 5000), &gue(), &[&[(all, 0), (egress, 1)], &[(all, 0), (ingress, 1)]])?;
        facing.control(("10.0.1.1", 5000), &nearly_gue(), &[&[(all, 1), (egress, 0), (ingress, 1)][..]; 2])?;
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
            facing.round(100, &[&[("filter all packets", 1), ("eth0 ingress loop", 1)]])?;
        }
        // an error about something else is copied: it and what it is about make two copies, and two errors about them
        facing.control((ADDRESSES[1], 9), &[7; 100], &[&[("filter all packets", 2), ("eth0 ingress loop", 2)]])?;
    }
    Ok(())
}

/// Copies go into a tunnel whose packets pass the interface that is looked at: they have another header by then.
#[test]
fn copies_in_a_tunnel_are_not_copied() -> Result<()> {
    for &attach in Attach::all()? {
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
        ensure!(facing.hosts[0].run("ip -oneline route get 10.8.0.2")?.contains("tunnel"), "no tunnel");
        for _ in 0..3 {
            facing.round(100, &[&[("filter all packets", 1), ("eth0 egress loop", 1)]])?;
        }
        // the same bytes in the tunnel, without the mark; the checksum is not left to the NIC, or they could not be wrapped
        ethtool::offload(&facing.hosts[0], "tunnel", false)?;
        facing.control(("10.8.0.2", 6080), &gue(), &[&[("filter all packets", 1), ("eth0 egress loop", 1)]])?;
    }
    Ok(())
}
