//! What stands in the way of copies: nobody who wraps them, a full queue, an output of the same
//! kind.

use super::{DIRECTIONS, Direction, ENDPOINTS, FAMILIES, Host, MTU, config, is_ours};
use crate::edge::Attach;
use crate::routed::count;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::time::Instant;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::objects::tcx_programs;
use traffic_mirror_tests::lab::packet::{eth, ip_part};
use traffic_mirror_tests::lab::socket::PacketType;
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::tun::Tun;
use traffic_mirror_tests::lab::vnet::VnetHeader;

/// Somebody takes `encap` off the interface that is looked at. What it is missing for does not come
/// out there, while `mirror` is on its egress; else once for each endpoint.
#[test]
fn encap_taken_off_the_source() -> Result<()> {
    for &attach in Attach::all()? {
        for (direction, leaked) in [("both", 0), ("ingress", 2)] {
            let file = config("tun0").replace(
                "\"tun0\"\n",
                &format!("\"tun0\"\ndirection = \"{direction}\"\n"),
            );
            let mut host = Host::new(&file, attach, MTU as u32 + 52)?;
            let frame = eth()
                .ip(FAMILIES[0].0, FAMILIES[0].1)
                .udp(1, 443)
                .payload("original")
                .build();
            host.arrives(
                "at the start",
                &frame,
                VnetHeader::default(),
                Direction::Ingress,
            )?;
            // stopped, or it would be repaired before the first packet
            host.daemon.signal(Signal::SIGSTOP)?;
            take_encap_off(&host, attach)?;
            for round in 0..10 {
                let seen = host.pass(&frame, VnetHeader::default(), Direction::Ingress)?;
                let context = format!("{attach:?} {direction}, round {round}: {:?}", seen.moved);
                ensure!(
                    seen.originals.len() == 1,
                    "{context}: {} originals",
                    seen.originals.len()
                );
                ensure!(
                    seen.copies.is_empty() && seen.strangers == 0,
                    "{context}: something has left"
                );
                for (endpoint, _) in ENDPOINTS {
                    let counted =
                        count(&seen.moved, &format!("endpoint {endpoint} drop unwrapped"));
                    ensure!(counted == 1, "{context}: {counted} counted for {endpoint}");
                }
            }
            host.sender.send(ip_part(
                &eth().ip("10.0.0.9", "10.0.0.2").raw(253, "last").build(),
            )?)?;
            let mut came_back = 0;
            while let Some(packet) = host
                .tun
                .recv(deadline())?
                .filter(|packet| !packet.ends_with(b"last"))
            {
                came_back += usize::from(is_ours(&packet));
            }
            ensure!(
                came_back == leaked,
                "{attach:?} {direction}: {came_back} came out of the interface"
            );
            host.daemon.signal(Signal::SIGCONT)?;
            host.daemon.signal(Signal::SIGHUP)?;
            host.daemon.wait_line(
                |line| line.contains("another process detached encap from the egress of tun0"),
                deadline(),
            )?;
            let is_well = |status: &Status| status.0["degraded"] == false;
            host.status = Status::until(&host.daemon, is_well, deadline())?;
            host.daemon.begin(&host.status);
            host.arrives(
                "wrapped again",
                &frame,
                VnetHeader::default(),
                Direction::Ingress,
            )?;
        }
    }
    Ok(())
}

fn take_encap_off(host: &Host, attach: Attach) -> Result<()> {
    if attach == Attach::Clsact {
        return host
            .edge
            .run("tc filter delete dev tun0 egress prio 1000")
            .map(drop);
    }
    let programs = || tcx_programs(&host.edge, "tun0", PacketType::Outgoing);
    let before = programs()?.len();
    let index = host.edge.index("tun0")?;
    for entry in std::fs::read_dir(host.daemon.pin_path().join("links"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("encap") && name.ends_with(&format!("-{index}-egress")) {
            std::fs::remove_file(path)?;
        }
    }
    // the kernel detaches it in its own time
    let until = deadline();
    while programs()?.len() == before {
        ensure!(
            Instant::now() < until,
            "encap stays attached without its pin"
        );
    }
    Ok(())
}

/// Everything is looked at; the output's queue is full; the output has no link header either.
#[test]
fn any_output_and_any_neighbour() -> Result<()> {
    for &attach in Attach::all()? {
        let mut host = Host::new(&config("*"), attach, MTU as u32 + 52)?;
        let frame = eth()
            .ip(FAMILIES[0].0, FAMILIES[0].1)
            .udp(1, 443)
            .payload("original")
            .build();
        let seen = host.pass(&frame, VnetHeader::default(), Direction::Ingress)?;
        // tun0, and out0 after it
        for (endpoint, _) in ENDPOINTS {
            let came = seen.copies.get(endpoint).map_or(0, Vec::len);
            ensure!(
                came == 2,
                "{attach:?}: {came} copies to {endpoint} of two interfaces: {:?}",
                seen.moved
            );
            ensure!(
                count(&seen.moved, &format!("endpoint {endpoint} packets")) == 2,
                "{attach:?}: {:?}",
                seen.moved
            );
        }
        ensure!(
            count(&seen.moved, "eth1 egress copy") == 4,
            "{attach:?}: {:?}",
            seen.moved
        );

        let host = Host::new(&config("tun0"), attach, MTU as u32 + 52)?;
        host.edge.run("tc qdisc add dev eth1 root bfifo limit 1")?;
        for way in DIRECTIONS {
            const PACKETS: u64 = 20;
            let before = Status::read(&host.daemon)?;
            host.cpu.run(|| {
                (0..PACKETS).try_for_each(|_| match way {
                    Direction::Ingress => host.tun.send(ip_part(&frame)?),
                    Direction::Egress => host.sender.send(ip_part(&frame)?),
                })
            })?;
            let moved = Status::read(&host.daemon)?.since(&before)?;
            for (endpoint, _) in ENDPOINTS {
                let counted = count(&moved, &format!("endpoint {endpoint} drop queue"));
                // of what the kernel asks for a neighbour for, once a second, nobody hears
                ensure!(
                    counted > PACKETS / 2,
                    "{attach:?} {way:?}: {counted} lost in the queue: {moved:?}"
                );
            }
        }

        let mut host = Host::new(&config("tun0"), attach, MTU as u32 + 52)?;
        let mut output = Tun::create(&host.edge, "out1")?;
        host.edge.run("ip link set out1 mtu 1600")?;
        host.edge.address("out1", "10.60.0.1/24")?;
        let endpoint = "[endpoint.a]\naddress = \"10.60.0.2\"\n";
        let file = format!(
            "[[interface]]\nname = \"tun0\"\n{endpoint}[[filter]]\nname = \"all\"\nprotocol = [\"udp\"]\nto = [\"a\"]\n"
        );
        host.daemon.write_config(&file)?;
        host.daemon.reload_done(deadline())?;
        let is_there = |status: &Status| status.endpoint("a", "interface") == "out1";
        let status = Status::until(&host.daemon, is_there, deadline())?;
        host.daemon.begin(&status);
        for way in DIRECTIONS {
            match way {
                Direction::Ingress => host.tun.send(ip_part(&frame)?)?,
                Direction::Egress => host.sender.send(ip_part(&frame)?)?,
            }
            let copy = loop {
                let packet = output.recv(deadline())?.context("no copy came")?;
                if packet.len() > 32 && packet[0] == 0x45 && packet[9] == 17 {
                    break packet;
                }
            };
            ensure!(
                copy[32..] == *ip_part(&frame)?,
                "{attach:?} {way:?}: another copy: {copy:02x?}"
            );
        }
    }
    Ok(())
}
