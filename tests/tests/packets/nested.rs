//! Packets that come by while a copy is being sent, on the same CPU, and are copied themselves.

use crate::account::Accounted;
use crate::edge::{Attach, frame, start};
use crate::loops::host;
use crate::routed::count;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::time::Instant;
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Gue, Reassembler, ip_part, is_gue};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::veth::veth;

/// Two hosts that speak IPv6 with each other.
fn hosts() -> Result<[Netns; 2]> {
    let hosts = [host("pn-left")?, host("pn-right")?];
    veth(&hosts[0], "eth0", &hosts[1], "eth0")?;
    for (number, netns) in (1..).zip(&hosts) {
        netns.sysctl("net.ipv6.conf.eth0.disable_ipv6", "0")?;
        netns.address("eth0", &format!("fd00::{number}/64"))?;
    }
    Ok(hosts)
}

/// Copies go into a tunnel, and the kernel asks for the hardware address of the tunnel's other end
/// while the first fragment is on its way: that is a packet of an interface that is looked at.
#[test]
fn fragments_stay_together_whatever_is_copied_meanwhile() -> Result<()> {
    const PACKETS: u16 = 5;
    for &attach in Attach::all()? {
        let [left, right] = hosts()?;
        for (own, other, netns) in [(1, 2, &left), (2, 1, &right)] {
            netns.run(&format!(
                "ip link add tunnel address 02:00:00:00:99:0{own} type vxlan id 7 dstport 4789 local fd00::{own} remote fd00::{other}"
            ))?;
            netns.run("ip link set tunnel mtu 1400 up")?;
            netns.address("tunnel", &format!("10.8.0.{own}/24"))?;
            let there = format!("10.8.0.{other} lladdr 02:00:00:00:99:0{other}");
            netns.run(&format!(
                "ip neighbour add {there} dev tunnel nud permanent"
            ))?;
        }
        let config = "[[interface]]\nname = \"eth0\"\n[endpoint.far]\naddress = \"10.8.0.2\"\nmtu = 600\n\
            [[filter]]\nname = \"all\"\nto = [\"far\"]\n";
        let daemon = start(&left, config, attach)?;
        Status::until(&daemon, |status| status.0["degraded"] == false, deadline())?;
        let mut arrived = Collector::start_filtered(&right, "tunnel", is_gue)?;
        let sender = PacketSocket::open(&right, "eth0", Capture::Nothing)?;
        let mut missing = BTreeSet::new();
        for number in 0..PACKETS {
            let original = frame()
                .ip("10.0.0.1", "10.0.0.2")
                .udp(1, number)
                .payload(vec![7; 1400])
                .build();
            missing.insert(ip_part(&original)?.to_vec());
            left.run("ip -6 neighbour flush dev eth0")?;
            sender.send(&original)?;
            let sent = |status: &Status| {
                count(&status.counters(), "endpoint far fragmented") > u64::from(number)
            };
            Status::until(&daemon, sent, deadline())?;
        }
        let (mut fragments, until) = (Reassembler::default(), deadline());
        while !missing.is_empty() {
            let next = arrived.next(until)?;
            let frame = next
                .with_context(|| format!("{attach:?}: {} copies are not whole", missing.len()))?;
            if let Some(whole) = fragments.push(frame)? {
                missing.remove(&Gue::parse(&whole)?.inner);
            }
        }
    }
    Ok(())
}

/// A daemon that does not ask for neighbours until this is dropped.
struct Stopped<'d>(&'d Accounted);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.signal(Signal::SIGCONT) {
            eprintln!("the daemon does not go on: {error:#}");
        }
    }
}

/// Each copy has the kernel ask for another neighbour, which makes copies that have it ask for
/// more.
#[test]
fn nesting_ends_and_is_counted() -> Result<()> {
    const ENDPOINTS: usize = 7;
    for &attach in Attach::all()? {
        let [left, right] = hosts()?;
        // so that the kernel goes on asking
        left.sysctl("net.ipv6.neigh.eth0.mcast_solicit", "1000")?;
        let addresses: Vec<String> = (0..ENDPOINTS).map(|n| format!("fd00::2{n}")).collect();
        let endpoint = |(n, address)| format!("[endpoint.n{n}]\naddress = \"{address}\"\n");
        let endpoints: String = addresses.iter().enumerate().map(endpoint).collect();
        let to = (0..ENDPOINTS)
            .map(|n| format!("\"n{n}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let filter =
            format!("[[filter]]\nname = \"all\"\nprotocol = [\"udp\", \"icmpv6\"]\nto = [{to}]\n");
        let daemon = start(
            &left,
            &format!("[[interface]]\nname = \"eth0\"\n{endpoints}{filter}"),
            attach,
        )?;
        let is_asked = |status: &Status| {
            (0..ENDPOINTS).all(|n| {
                ["resolving", "no-neighbour"].contains(&status.endpoint(&format!("n{n}"), "state"))
            })
        };
        Status::until(&daemon, is_asked, deadline())?;
        daemon.signal(Signal::SIGSTOP)?;
        let _stopped = Stopped(&daemon);
        let (sender, until) = (
            PacketSocket::open(&right, "eth0", Capture::Nothing)?,
            deadline(),
        );
        // where nobody has answered for long, one copy a second goes
        while count(&Status::read(&daemon)?.counters(), "eth0 egress recursion") == 0 {
            ensure!(Instant::now() < until, "{attach:?}: nothing was counted");
            left.run("ip -6 neighbour flush dev eth0")?;
            sender.send(&frame().ip("10.0.0.1", "10.0.0.2").udp(1, 2).build())?;
        }
    }
    Ok(())
}
