//! Routes to the collector that change while copies flow.

use crate::edge::{Attach, Direction, Edge, SkbLayout};
use crate::neighbour::{all_kinds, both_families};
use crate::routed::count;
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Gue, Mac};
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::veth::veth;

/// Endpoints behind routers: "far" and "far6" by route, "given" always by `eth3`.
const FAR: &str = "[[interface]]\nname = \"eth0\"\n\
    [endpoint.far]\naddress = \"10.50.0.1\"\n[endpoint.far6]\naddress = \"fd50::1\"\n\
    [endpoint.given]\naddress = \"10.50.0.2\"\ninterface = \"eth3\"\n\
    [[filter]]\nname = \"all\"\nto = [\"far\", \"far6\", \"given\"]\n";

/// A host with two ways out: `eth1` to the first collector, `eth3` to the second, each a router to
/// where the endpoints are.
struct Roads {
    edge: Edge,
    second: Netns,
    there: Collector,
}

impl Roads {
    fn new(attach: Attach) -> Result<Self> {
        let edge = Edge::with_live_collector(&both_families(), attach)?;
        let second = Netns::new("pk-second")?;
        veth(&edge.edge, "eth3", &second, "eth0")?;
        edge.edge.sysctl("net.ipv6.conf.eth3.disable_ipv6", "0")?;
        for (netns, interface, host) in [(&edge.edge, "eth3", 1), (&second, "eth0", 2)] {
            netns.address(interface, &format!("10.10.0.{host}/24"))?;
            netns.address(interface, &format!("fd10::{host}/64"))?;
        }
        let there = Collector::start_gue(&second, "eth0")?;
        Ok(Self {
            edge,
            second,
            there,
        })
    }

    /// Runs `ip route` with each line.
    fn route<const N: usize>(&self, lines: [&str; N]) -> Result<()> {
        lines.iter().try_for_each(|line| {
            let family = if line.contains(':') { "-6" } else { "-4" };
            self.edge
                .edge
                .run(&format!("ip {family} route {line}"))
                .map(drop)
        })
    }

    /// Waits until the endpoints leave by these interfaces and their next hops are known.
    fn settled(&mut self, far: &str, far6: &str) -> Result<()> {
        let wanted = [("far", far), ("far6", far6), ("given", "eth3")];
        let is_settled = |status: &Status| {
            wanted.iter().all(|(name, interface)| {
                status.endpoint(name, "interface") == *interface
                    && !status.endpoint(name, "next_hop").is_empty()
            })
        };
        self.edge
            .wait(is_settled)
            .with_context(|| format!("far by {far}, far6 by {far6}"))
    }

    /// Sends frames, and takes what comes to either collector.
    fn copies(&mut self) -> Result<[Vec<Gue>; 2]> {
        let frames = all_kinds();
        ensure!(
            self.edge
                .originals(&frames, SkbLayout::Linear, Direction::Egress)?
                == frames,
            "the originals differ"
        );
        let moved = self.edge.moved(Direction::Egress)?;
        for endpoint in ["far", "far6", "given"] {
            let sent = count(&moved, &format!("endpoint {endpoint} packets"));
            ensure!(
                sent == frames.len() as u64,
                "{sent} copies to {endpoint}: {moved:?}"
            );
        }
        let (mut first, mut second, until) = (Vec::new(), Vec::new(), deadline());
        while first.len() + second.len() < 3 * frames.len() {
            ensure!(
                Instant::now() < until,
                "{} and {} copies arrived",
                first.len(),
                second.len()
            );
            first.extend(self.edge.next_copy(Instant::now())?);
            second.extend(
                self.there
                    .next_copy(Instant::now() + Duration::from_millis(1))?,
            );
        }
        Ok([first, second])
    }
}

/// All copies to an endpoint came this way.
fn came(copies: &[Gue], to: &str, from: &str, mac: Mac) -> Result<()> {
    let copies: Vec<_> = copies
        .iter()
        .filter(|copy| copy.outer_dst.to_string() == to)
        .collect();
    ensure!(
        copies.len() == all_kinds().len(),
        "{} copies to {to}",
        copies.len()
    );
    let way = |copy: &&Gue| copy.outer_src.to_string() == from && copy.dst_mac == mac;
    ensure!(
        copies.iter().all(way),
        "not from {from} to {mac:02x?}: {:?}",
        copies[0]
    );
    Ok(())
}

#[test]
fn routes_are_followed() -> Result<()> {
    Attach::all()?
        .iter()
        .try_for_each(|&attach| follow(attach).with_context(|| format!("{attach:?}")))
}

fn follow(attach: Attach) -> Result<()> {
    let mut roads = Roads::new(attach)?;
    let (first_mac, second_mac) = (
        roads.edge.collector().mac("eth0")?,
        roads.second.mac("eth0")?,
    );
    roads.route(["add 10.50.0.1 via 10.9.0.11", "add fd50::1 via fd09::13"])?;
    // by itself the host would send to "given" by eth1
    roads.route([
        "add 10.50.0.2 via 10.9.0.11",
        "add 10.50.0.2 via 10.10.0.2 metric 100",
    ])?;
    roads.edge.configure(FAR)?;
    roads.settled("eth1", "eth1")?;
    let [first, second] = roads.copies().context("at the start")?;
    came(&first, "10.50.0.1", "10.9.0.1", first_mac)?;
    came(&first, "fd50::1", "fd09::1", first_mac)?;
    came(&second, "10.50.0.2", "10.10.0.1", second_mac)?;

    let gateway = "02:00:00:00:03:03";
    for address in ["10.9.0.99", "fd09::99"] {
        roads.edge.edge.run(&format!(
            "ip neighbour add {address} lladdr {gateway} dev eth1 nud permanent"
        ))?;
    }
    roads.route([
        "replace 10.50.0.1 via 10.9.0.99",
        "replace fd50::1 via fd09::99",
    ])?;
    roads.edge.wait(|status| {
        ["far", "far6"]
            .iter()
            .all(|name| status.endpoint(name, "next_hop") == gateway)
    })?;
    let [first, _] = roads.copies().context("another gateway")?;
    came(&first, "10.50.0.1", "10.9.0.1", [2, 0, 0, 0, 3, 3])?;
    came(&first, "fd50::1", "fd09::1", [2, 0, 0, 0, 3, 3])?;

    roads.route([
        "replace 10.50.0.1 via 10.10.0.2",
        "replace fd50::1 via fd10::2",
    ])?;
    roads.settled("eth3", "eth3")?;
    let [_, second] = roads.copies().context("another interface")?;
    came(&second, "10.50.0.1", "10.10.0.1", second_mac)?;
    came(&second, "fd50::1", "fd10::1", second_mac)?;
    came(&second, "10.50.0.2", "10.10.0.1", second_mac)?;

    roads.edge.edge.address("eth3", "10.10.0.77/24")?;
    roads.route(["replace 10.50.0.1 via 10.10.0.2 src 10.10.0.77"])?;
    let until = deadline();
    while came(&roads.copies()?[1], "10.50.0.1", "10.10.0.77", second_mac).is_err() {
        ensure!(
            Instant::now() < until,
            "the source address of the route is not taken"
        );
    }

    roads.route(["delete 10.50.0.1", "delete fd50::1"])?;
    roads.edge.wait(|status| {
        ["far", "far6"]
            .iter()
            .all(|name| status.endpoint(name, "state") == "no-route")
    })?;
    roads.route(["add 10.50.0.1 via 10.9.0.11", "add fd50::1 via fd09::13"])?;
    roads.settled("eth1", "eth1")?;
    let [first, _] = roads.copies().context("as at the start")?;
    came(&first, "10.50.0.1", "10.9.0.1", first_mac)?;
    came(&first, "fd50::1", "fd09::1", first_mac)
}
