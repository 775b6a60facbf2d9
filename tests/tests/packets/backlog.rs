//! An output interface that stalls while production runs at full speed: what copies hold there is
//! bounded in bytes.

use crate::edge::Attach;
use crate::routed::{COLLECTOR, Routed, SERVER, address, count};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Instant;

use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::status::{Counters, Status};
use traffic_mirror_tests::lab::traffic::{tcp_transfer, udp_bind};
use traffic_mirror_tests::lab::veth::Veth;

/// What the endpoint allows, and what CPUs may send between two looks.
const MOST: u64 = 4 << 20;
const OVERSHOOT: u64 = 2 << 20;

const WEB: &str = "[[interface]]\nname = \"eth0\"\n\
    [endpoint.four]\naddress = \"10.9.0.1\"\nbacklog = \"4MiB\"\n\
    [[filter]]\nname = \"web\"\nbidirectional = true\ndestination_port = [443]\nto = [\"four\"]\n";

/// Queues of 1 Mbit with room for 10,000 packets of any length, and where they stand.
struct Stall {
    name: &'static str,
    lines: &'static [&'static str],
    relieve: &'static str,
    /// What holds the packets.
    at: &'static str,
}

const STALLS: [Stall; 3] = [
    Stall {
        name: "the queue of the output",
        lines: &[
            "tc qdisc replace dev eth1 root handle 1: tbf rate 1mbit burst 128kb latency 1000s",
            "tc qdisc add dev eth1 parent 1:1 handle 10: pfifo limit 10000",
        ],
        relieve: "tc qdisc replace dev eth1 root pfifo",
        at: "eth1",
    },
    Stall {
        name: "one of several queues",
        lines: &[
            "tc qdisc replace dev eth1 root handle 1: mq",
            "tc qdisc replace dev eth1 parent 1:1 handle 11: tbf rate 1mbit burst 128kb latency 1000s",
            "tc qdisc add dev eth1 parent 11:1 pfifo limit 10000",
            "tc qdisc replace dev eth1 parent 1:2 handle 12: tbf rate 1mbit burst 128kb latency 1000s",
            "tc qdisc add dev eth1 parent 12:1 pfifo limit 10000",
        ],
        relieve: "tc qdisc replace dev eth1 root pfifo",
        at: "eth1",
    },
    Stall {
        name: "below the output",
        lines: &[
            "ip address flush dev eth1",
            "ip link add link eth1 name above type macvlan mode bridge",
            "ip link set above up",
            "ip address add 10.9.0.254/24 dev above",
            "tc qdisc replace dev eth1 root handle 1: tbf rate 1mbit burst 128kb latency 1000s",
            "tc qdisc add dev eth1 parent 1:1 handle 10: pfifo limit 10000",
        ],
        relieve: "tc qdisc replace dev eth1 root pfifo",
        at: "eth1",
    },
];

/// Bytes that the queueing disciplines of an interface hold, as the kernel says.
pub(crate) fn held(routed: &Routed, interface: &str) -> Result<u64> {
    let text = routed
        .edge
        .run(&format!("tc -statistics -json qdisc show dev {interface}"))?;
    let queues: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(queues
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|queue| queue["backlog"].as_u64())
        .max()
        .unwrap_or(0))
}

fn transfer(routed: &Routed, bytes: usize) -> Result<()> {
    tcp_transfer(
        &routed.client,
        &routed.server,
        address(SERVER[0], 443),
        bytes,
        7,
    )
}

/// What has moved since, which adds up.
fn moved(routed: &Routed, before: &Status) -> Result<Counters> {
    let moved = Status::read(&routed.daemon)?.since(before)?;
    let all: u64 = moved
        .iter()
        .filter(|(key, _)| key.starts_with("endpoint four drop"))
        .map(|(_, count)| count)
        .sum();
    let (sent, matched) = (
        count(&moved, "endpoint four packets"),
        count(&moved, "filter web packets"),
    );
    ensure!(
        sent + all == matched && matched > 0,
        "{matched} matched: {moved:?}"
    );
    Ok(moved)
}

#[test]
fn what_copies_hold_is_bounded_in_bytes() -> Result<()> {
    for (number, &attach) in Attach::all()?.iter().enumerate() {
        // where the queue is does not depend on how the programs are attached
        for stall in STALLS
            .iter()
            .take(if number == 0 { STALLS.len() } else { 1 })
        {
            let output = Veth {
                offload: false,
                queues: 2,
                ..Veth::default()
            };
            let routed = Routed::with_output(WEB, attach, &output)?;
            // who listens, or ICMP would say that nobody does
            let _listener = udp_bind(&routed.collector, address(COLLECTOR[0], 6080))?;
            let context = format!("{attach:?}, {}", stall.name);
            for line in stall.lines {
                routed.edge.run(line).with_context(|| context.clone())?;
            }
            if stall.name == "below the output" {
                let wanted = |status: &Status| {
                    status
                        .named("endpoints", "four")
                        .is_some_and(|e| e["interface"] == "above")
                };
                Status::until(&routed.daemon, wanted, deadline())?;
            }
            let before = Status::read(&routed.daemon)?;
            transfer(&routed, 24 << 20)?;
            let held = held(&routed, stall.at)?;
            let stalled = moved(&routed, &before)?;
            ensure!(
                held <= MOST + OVERSHOOT,
                "{context}: {held} bytes are held: {stalled:?}"
            );
            ensure!(
                held > MOST / 4,
                "{context}: only {held} bytes are held: {stalled:?}"
            );
            ensure!(
                count(&stalled, "endpoint four drop backlog") > 0,
                "{context}: {stalled:?}"
            );
            let is_told = |status: &Status| {
                status.endpoint("four", "state") == "backlog" && status.0["degraded"] == true
            };
            // what was counted before the first look at a new way is no news
            let until = deadline();
            while !is_told(&Status::read(&routed.daemon)?) {
                ensure!(
                    Instant::now() < until,
                    "{context}: not told: {:#}",
                    Status::read(&routed.daemon)?.0
                );
                transfer(&routed, 1 << 20)?;
            }
            routed.edge.run(stall.relieve)?;
            let before = Status::read(&routed.daemon)?;
            transfer(&routed, 4 << 20)?;
            let after = moved(&routed, &before)?;
            // the first look may still have been before
            let (sent, full) = (
                count(&after, "endpoint four packets"),
                count(&after, "endpoint four drop backlog"),
            );
            ensure!(sent > 10 * full, "{context}: it goes on: {after:?}");
            Status::until(
                &routed.daemon,
                |status| status.endpoint("four", "state") == "ready",
                deadline(),
            )
            .with_context(|| context.clone())?;
        }
    }
    Ok(())
}
