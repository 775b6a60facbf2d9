//! One original that is to be copied thousands of times: it waits no longer than the file allows,
//! and what is not copied is counted.

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::routed::count;
use anyhow::{Result, ensure};
use aya::programs::ProgramInfo;
use aya::sys::{Stats, enable_stats};
use std::fmt::Write as _;
use std::time::Duration;
use traffic_mirror_tests::lab::objects::tcx_infos;
use traffic_mirror_tests::lab::socket::PacketType;
use traffic_mirror_tests::lab::traffic::Stream;
use traffic_mirror_tests::lab::vnet::VnetHeader;
use traffic_mirror_tests::lab::{kernel, patience};

/// So many that even an emulated machine is through with them within the longest budget.
const ENDPOINTS: usize = 16;
const PACKETS: u64 = 44;
/// Payload of each of them; with the headers 1,500 bytes, which is too long for the endpoints once
/// wrapped.
const PAYLOAD: usize = 1472;

fn config(budget: &str, endpoints: usize) -> Result<String> {
    let mut text = format!("budget = \"{budget}\"\n[[interface]]\nname = \"eth0\"\n");
    for number in 0..endpoints {
        let port = 5000 + number;
        writeln!(
            text,
            "[endpoint.e{number}]\naddress = \"10.9.0.11\"\nport = {port}\nmtu = 1500"
        )?;
    }
    let to: Vec<String> = (0..endpoints)
        .map(|number| format!("\"e{number}\""))
        .collect();
    writeln!(
        text,
        "[[filter]]\nname = \"all\"\nprotocol = [\"udp\"]\nto = [{}]",
        to.join(", ")
    )?;
    Ok(text)
}

/// As long as can be.
fn superpacket() -> Result<(Vec<u8>, VnetHeader)> {
    let payload = Stream::new(3).bytes(PAYLOAD * PACKETS as usize);
    let packet = frame().ip("10.0.0.1", "10.0.0.2").udp(1, 2);
    let mut superpacket = packet.payload(payload).build();
    let gso = VnetHeader::gso(&mut superpacket, PAYLOAD.try_into()?)?;
    Ok((superpacket, gso))
}

#[test]
fn an_original_is_copied_for_as_long_as_the_file_allows() -> Result<()> {
    if kernel()? < (6, 2) {
        println!("skipped: packet sockets take UDP superpackets from Linux 6.2 on");
        return Ok(());
    }
    let attach = Attach::all()?[0];
    let mut edge = Edge::with_live_collector(&config("1000ms", ENDPOINTS)?, attach)?;
    let (superpacket, gso) = superpacket()?;
    for budget in ["1000ms", "1ms"] {
        edge.configure(&config(budget, ENDPOINTS)?)?;
        edge.moved(Direction::Egress)?;
        for round in 0..5 {
            let originals = edge.originals(
                std::slice::from_ref(&superpacket),
                SkbLayout::Vnet(gso),
                Direction::Egress,
            )?;
            ensure!(
                originals == [superpacket.clone()],
                "{budget} {round}: the original differs"
            );
            let moved = edge.moved(Direction::Egress)?;
            ensure!(
                count(&moved, "filter all packets") == PACKETS,
                "{budget} {round}: {moved:?}"
            );
            let mut late = 0;
            for number in 0..ENDPOINTS {
                let sent = count(&moved, &format!("endpoint e{number} packets"));
                let over = count(&moved, &format!("endpoint e{number} drop budget"));
                ensure!(
                    sent + over == PACKETS,
                    "{budget} {round}: e{number} has {sent} and {over}: {moved:?}"
                );
                late += over;
            }
            ensure!(
                (late > 0) == (budget == "1ms"),
                "{budget} {round}: {late} were late"
            );
        }
    }
    Ok(())
}

/// Time that programs have run on the way out, with all that they had the kernel do meanwhile.
fn spent(edge: &Edge) -> Result<Duration> {
    let programs = tcx_infos(&edge.edge, "eth0", PacketType::Outgoing)?;
    Ok(programs.iter().map(ProgramInfo::run_time).sum())
}

/// One original of 44 packets to 64 endpoints, each copy of them in two fragments: how long it
/// stands there, by the kernel's own account (`bpf_stats_enabled`), which other programs do not
/// lengthen.
#[test]
fn the_time_for_one_original_is_that_of_the_file() -> Result<()> {
    if kernel()? < (6, 6) || !Attach::all()?.contains(&Attach::Tcx) {
        println!("skipped: the kernel tells of TCX programs from Linux 6.6 on");
        return Ok(());
    }
    let endpoints = if patience() > 4 { ENDPOINTS } else { 64 };
    let mut edge = Edge::with_live_collector(&config("1000ms", endpoints)?, Attach::Tcx)?;
    let (superpacket, gso) = superpacket()?;
    let _stats = enable_stats(Stats::RunTime)?;
    let mut medians = Vec::new();
    for budget in ["1000ms", "1ms", "100us"] {
        edge.configure(&config(budget, endpoints)?)?;
        let mut times = Vec::new();
        for _ in 0..20 {
            let before = spent(&edge)?;
            edge.originals(
                std::slice::from_ref(&superpacket),
                SkbLayout::Vnet(gso),
                Direction::Egress,
            )?;
            times.push(spent(&edge)? - before);
        }
        times.sort_unstable();
        let moved = edge.moved(Direction::Egress)?;
        let sum = |what: &str| -> u64 {
            (0..endpoints)
                .map(|number| count(&moved, &format!("endpoint e{number} {what}")))
                .sum()
        };
        let (sent, over) = (sum("packets"), sum("drop budget"));
        println!(
            "{budget}: {endpoints} endpoints, {} copies sent and {} over for an original: {:?} in the median, 95 % {:?}, most {:?}",
            sent / 20,
            over / 20,
            times[10],
            times[18],
            times[19]
        );
        medians.push(times[10]);
    }
    let [unbounded, usual, least] = medians[..] else {
        unreachable!("three budgets")
    };
    ensure!(
        usual < unbounded / 2,
        "{usual:?} with a budget of 1 ms, {unbounded:?} without"
    );
    // what is not copied costs next to nothing; where all is emulated the first sixteen copies take
    // longer than either
    ensure!(
        least < usual / 4 || patience() > 4,
        "{least:?} with a budget of 0.1 ms, {usual:?} with one of 1 ms"
    );
    Ok(())
}
