//! Output interfaces out of the ordinary: the one that is looked at, one without link header, a
//! bridge.

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame, is_marker, marker, start};
use crate::neighbour::{NAMES, all_kinds, both_families};
use crate::routed::count;
use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Gue, eth_between, ip_part, is_gue};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::traffic::udp_bind;
use traffic_mirror_tests::lab::tun::Tun;
use traffic_mirror_tests::lab::veth::veth;

/// The endpoint is reached by the interface that is looked at.
#[test]
fn single_interface() -> Result<()> {
    const FRAMES: u16 = 20;
    for &attach in Attach::all()? {
        let (client, edge) = (Netns::new("pk-client")?, Netns::new("pk-edge")?);
        veth(&client, "eth0", &edge, "eth0")?;
        for (netns, host) in [(&client, 1), (&edge, 2)] {
            netns.address("eth0", &format!("10.0.0.{host}/24"))?;
            netns.address("eth0", &format!("fd00::{host}/64"))?;
        }
        // swallowed without an answer
        edge.forward(true)?;
        edge.run("ip route add blackhole 198.51.100.0/24")?;
        let _sink = udp_bind(&client, "[::]:6080".parse()?)?;
        let config = "[[interface]]\nname = \"eth0\"\n[endpoint.four]\naddress = \"10.0.0.1\"\n\
            [endpoint.six]\naddress = \"fd00::1\"\n\
            [[filter]]\nname = \"udp\"\nprotocol = [\"udp\"]\nto = [\"four\", \"six\"]\n";
        let mut copies =
            Collector::start_filtered(&client, "eth0", |frame| is_gue(frame) || is_marker(frame))?;
        let mut originals = Collector::start_filtered(&client, "eth0", |frame| {
            ip_part(frame)
                .is_ok_and(|packet| packet.starts_with(&[0x45]) && packet.ends_with(b"original"))
                && !is_gue(frame)
        })?;
        let daemon = start(&edge, config, attach)?;
        let ready = |status: &Status| {
            ["four", "six"]
                .iter()
                .all(|name| !status.endpoint(name, "next_hop").is_empty())
        };
        let mut before = Status::until(&daemon, ready, deadline())?;
        let (there, back) = (
            PacketSocket::open(&client, "eth0", Capture::Nothing)?,
            PacketSocket::open(&edge, "eth0", Capture::Nothing)?,
        );
        let macs = [client.mac("eth0")?, edge.mac("eth0")?];
        let cpu = Cpu::next()?;
        for (sender, [from, to], addresses, hook) in [
            (&there, macs, ("10.0.0.1", "198.51.100.7"), "ingress"),
            (
                &back,
                [macs[1], macs[0]],
                ("10.0.0.2", "10.0.0.1"),
                "egress",
            ),
        ] {
            let sent: Vec<Vec<u8>> = (0..FRAMES)
                .map(|n| {
                    eth_between(from, to)
                        .ip(addresses.0, addresses.1)
                        .udp(n, 9)
                        .payload("original")
                        .build()
                })
                .collect();
            let _taken = originals.take()?;
            cpu.run(|| sent.iter().try_for_each(|frame| sender.send(frame)))?;
            let all = |status: &Status| {
                let moved = status.since(&before).unwrap_or_default();
                count(&moved, "filter udp packets") >= u64::from(FRAMES)
            };
            Status::until(&daemon, all, deadline())?;
            let marker = marker();
            cpu.run(|| back.send(&marker))?;
            let frames = copies.until(|frame| *frame == marker, deadline())?;
            let parsed: Vec<Gue> = frames
                .iter()
                .map(|frame| Gue::parse(frame))
                .collect::<Result<_>>()?;
            let expected: Vec<Vec<u8>> = sent
                .iter()
                .map(|frame| Ok(ip_part(frame)?.to_vec()))
                .collect::<Result<_>>()?;
            for address in ["10.0.0.1", "fd00::1"] {
                let inner: Vec<_> = parsed
                    .iter()
                    .filter(|copy| copy.outer_dst.to_string() == address)
                    .map(|copy| copy.inner.clone())
                    .collect();
                ensure!(
                    inner == expected,
                    "{attach:?} {hook}: {} copies of {FRAMES} to {address}",
                    inner.len()
                );
            }
            let after = Status::read(&daemon)?;
            let moved = after.since(&before)?;
            before = after;
            let counted = [
                "filter udp packets",
                "endpoint four packets",
                "endpoint six packets",
            ]
            .map(|key| count(&moved, key));
            ensure!(
                counted == [u64::from(FRAMES); 3],
                "{attach:?} {hook}: {moved:?}"
            );
            ensure!(
                count(&moved, "eth0 egress copy") == 2 * u64::from(FRAMES),
                "{attach:?} {hook}: {moved:?}"
            );
            if hook == "egress" {
                let arrived = originals.wait_for(FRAMES.into(), deadline())?;
                ensure!(arrived == sent, "{attach:?}: the originals differ");
            }
        }
    }
    Ok(())
}

#[test]
fn output_without_link_header() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&both_families(), attach)?;
        let mut tun = Tun::create(&edge.edge, "tun0")?;
        edge.edge.sysctl("net.ipv6.conf.tun0.disable_ipv6", "0")?;
        edge.edge.address("tun0", "10.60.0.1/24")?;
        edge.edge.address("tun0", "fd60::1/64")?;
        edge.edge.run("ip link set tun0 mtu 9100")?;
        edge.configure(
            "[[interface]]\nname = \"eth0\"\n[endpoint.a]\naddress = \"10.60.0.2\"\n\
            [endpoint.six]\naddress = \"fd60::2\"\n[[filter]]\nname = \"all\"\nto = [\"a\", \"six\"]\n",
        )?;
        edge.wait(|status| {
            NAMES
                .iter()
                .all(|name| status.endpoint(name, "interface") == "tun0")
        })?;
        for way in [Direction::Ingress, Direction::Egress, Direction::Local] {
            let mut frames = all_kinds();
            if way == Direction::Local {
                // the kernel pulls link header and tag, and calls the rest 802.1Q all the same: it
                // cannot be wrapped
                frames.pop();
            }
            let both = |frame: Vec<u8>| {
                [
                    (frame.clone(), SkbLayout::Linear),
                    (frame, SkbLayout::Scattered(14)),
                ]
            };
            for (frame, layout) in frames.into_iter().flat_map(both) {
                let inner = ip_part(&frame)?.to_vec();
                let original = edge.originals(std::slice::from_ref(&frame), layout, way)?;
                ensure!(
                    original == [frame],
                    "{attach:?} {way:?} {layout:?}: the original differs"
                );
                let mut arrived = Vec::new();
                while arrived.len() < 2 {
                    let packet = tun.recv(deadline())?.context("no copy came out of tun0")?;
                    // a link header, for the reader of frames
                    let ethertype: [u8; 2] = if packet[0] >> 4 == 4 {
                        [8, 0]
                    } else {
                        [0x86, 0xdd]
                    };
                    let framed = [&[0; 12][..], &ethertype, &packet].concat();
                    if !crate::edge::is_housekeeping(&framed) {
                        arrived.push(Gue::parse(&framed)?);
                    }
                }
                arrived.sort_by_key(|copy| copy.outer_dst);
                let ends: Vec<_> = arrived
                    .iter()
                    .map(|copy| format!("{} {}", copy.outer_src, copy.outer_dst))
                    .collect();
                ensure!(
                    ends == ["10.60.0.1 10.60.0.2", "fd60::1 fd60::2"],
                    "{attach:?} {way:?}: {ends:?}"
                );
                ensure!(
                    arrived.iter().all(|copy| copy.inner == inner),
                    "{attach:?} {way:?} {layout:?}: {arrived:?}"
                );
            }
            let moved = edge.moved(way)?;
            ensure!(
                !moved.keys().any(|key| key.contains(" drop ")),
                "{attach:?} {way:?}: {moved:?}"
            );
        }
    }
    Ok(())
}

/// The output interface is a bridge, and its port is looked at: there the copy's control block is
/// the bridge's.
#[test]
fn copies_through_a_bridge_whose_port_is_looked_at() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::new(&both_families(), attach)?;
        edge.edge.address("br0", "10.70.0.1/24")?;
        edge.edge
            .run("ip neighbour add 10.70.0.2 lladdr 02:00:00:00:07:02 dev br0 nud permanent")?;
        edge.configure("[[interface]]\nname = \"eth0\"\n[endpoint.a]\naddress = \"10.70.0.2\"\n[[filter]]\nname = \"all\"\nto = [\"a\"]\n")?;
        edge.wait(|status| {
            status.endpoint("a", "interface") == "br0"
                && !status.endpoint("a", "next_hop").is_empty()
        })?;
        let frame = frame().ip("10.0.0.1", "10.0.0.2").udp(1, 2).build();
        let arrived = edge.originals(
            std::slice::from_ref(&frame),
            SkbLayout::Linear,
            Direction::Ingress,
        )?;
        let (copies, originals): (Vec<_>, Vec<_>) =
            arrived.into_iter().partition(|frame| is_gue(frame));
        ensure!(
            originals == [frame.clone()],
            "{attach:?}: {} originals",
            originals.len()
        );
        ensure!(
            copies.len() == 1,
            "{attach:?}: {} copies at the server",
            copies.len()
        );
        ensure!(
            Gue::parse(&copies[0])?.inner == ip_part(&frame)?,
            "{attach:?}: another copy"
        );
        ensure!(
            count(&edge.moved(Direction::Ingress)?, "endpoint a packets") == 1,
            "{attach:?}: counted otherwise"
        );
    }
    Ok(())
}
