//! The output's queue is full: whichever it is, production passes, and each copy is sent or
//! counted.

use crate::edge::{Attach, Edge};
use crate::harm::{resumed, two_endpoints, unharmed};
use crate::routed::count;
use anyhow::{Context as _, Result, ensure};
use std::env;
use traffic_mirror_tests::lab::status::{Counters, Status};

/// A queueing discipline that takes a second for a packet and has room for few.
struct Queue {
    /// Its kind; in the kernel `sch_<name>`.
    name: &'static str,
    /// Arguments of `tc` that put it on `eth1`.
    lines: &'static [&'static str],
    /// Whether it refuses what comes, so that it is known which copy is lost. Others take it, and
    /// throw away what they hold; they tell by `NET_XMIT_CN` where that was of the same flow, and
    /// not at all where it was not.
    refuses: bool,
}

const SLOW: &str = "qdisc add dev eth1 root handle 1: tbf rate 8kbit burst 1600 limit 4000";

const QUEUES: [Queue; 6] = [
    Queue {
        name: "tbf",
        lines: &[SLOW],
        refuses: true,
    },
    Queue {
        name: "bfifo",
        lines: &["qdisc add dev eth1 root bfifo limit 1"],
        refuses: true,
    },
    Queue {
        name: "htb",
        lines: &[
            "qdisc add dev eth1 root handle 1: htb default 1",
            "class add dev eth1 parent 1: classid 1:1 htb rate 8kbit burst 1600",
            "qdisc add dev eth1 parent 1:1 bfifo limit 4000",
        ],
        refuses: true,
    },
    Queue {
        name: "sfq",
        lines: &[SLOW, "qdisc add dev eth1 parent 1:1 sfq limit 4"],
        refuses: false,
    },
    Queue {
        name: "fq_codel",
        lines: &[SLOW, "qdisc add dev eth1 parent 1:1 fq_codel limit 4"],
        refuses: false,
    },
    Queue {
        name: "cake",
        lines: &["qdisc add dev eth1 root cake bandwidth 8kbit memlimit 10000"],
        refuses: false,
    },
];

/// Queues that the kernel must have; `TEST_QDISCS` names others.
const USUAL: &str = "tbf bfifo htb";

/// Puts a queue on `eth1`; false where the kernel lacks it and may.
fn put(edge: &Edge, queue: &Queue) -> Result<bool> {
    let name = queue.name;
    for (before, line) in queue.lines.iter().enumerate() {
        let Err(error) = edge.edge.run(&format!("tc {line}")) else {
            continue;
        };
        let wanted = env::var("TEST_QDISCS").unwrap_or_else(|_| USUAL.to_owned());
        // tc says so where the kernel neither has it nor finds its module
        let unknown = format!("{error:#}").contains("qdisc kind is unknown");
        if !unknown || wanted.split_whitespace().any(|one| one == name) {
            return Err(error.context(format!("put {name} on eth1; it must be here: {wanted}")));
        }
        println!("skipped: {name} takes a kernel with the module sch_{name}");
        if before > 0 {
            edge.edge.run("tc qdisc delete dev eth1 root")?;
        }
        return Ok(false);
    }
    Ok(true)
}

/// Packets that the queue on `eth1` says it has thrown away or refused.
fn lost(edge: &Edge) -> Result<u64> {
    let text = edge.edge.run("tc -statistics -json qdisc show dev eth1")?;
    let queues: serde_json::Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let counts = queues
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|queue| queue["drops"].as_u64());
    // one that stands in another tells it the other
    counts.max().context(text)
}

#[test]
fn output_queue_full() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&two_endpoints(), attach)?;
        resumed(&mut edge, "at the start")?;
        for queue in &QUEUES {
            if put(&edge, queue)? {
                let moved = unharmed(&mut edge, queue.name, 100)?;
                counted(&edge, queue, &moved)
                    .with_context(|| format!("{attach:?} {}: {moved:?}", queue.name))?;
                edge.edge.run("tc qdisc delete dev eth1 root")?;
            }
        }
        edge.reconnect_capture()?;
        resumed(&mut edge, "no queue again")?;
    }
    Ok(())
}

/// The queue was full, and what it has told is counted, for nothing else.
fn counted(edge: &Edge, queue: &Queue, moved: &Counters) -> Result<()> {
    let told = ["a", "b"].map(|endpoint| count(moved, &format!("endpoint {endpoint} drop queue")));
    let (sum, lost) = (told.iter().sum::<u64>(), lost(edge)?);
    println!("{}: {lost} lost, {sum} of them counted as such", queue.name);
    for (endpoint, told) in ["a", "b"].iter().zip(told) {
        ensure!(
            told == Status::dropped(moved, endpoint),
            "{endpoint} has lost copies otherwise"
        );
        ensure!(
            told > 200 || !queue.refuses,
            "{told} copies to {endpoint} were refused"
        );
    }
    ensure!(lost > 400, "it has lost {lost} copies");
    // what it threw away of other flows it has told nobody, nor what the kernel had kept to ask for
    // a neighbour
    ensure!(sum <= lost, "it has lost {lost} copies, {sum} are counted");
    Ok(())
}
