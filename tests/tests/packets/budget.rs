//! One original that is to be copied thousands of times: it waits no longer than the file allows, and what is not copied is
//! counted.

use crate::edge::{Attach, Edge, Shape, Way, frame};
use crate::routed::count;
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::kernel;
use traffic_mirror_tests::lab::traffic::Stream;
use traffic_mirror_tests::lab::vnet::VnetHeader;

/// So many that even an emulated machine is through with them within the longest budget.
const ENDPOINTS: usize = 16;
const PACKETS: u64 = 44;
/// Payload of each of them; with the headers 1,500 bytes, which is too long for the endpoints once wrapped.
const PAYLOAD: usize = 1472;

fn config(budget: &str) -> Result<String> {
    let mut text = format!("budget = \"{budget}\"\n[[interface]]\nname = \"eth0\"\n");
    for number in 0..ENDPOINTS {
        let port = 5000 + number;
        writeln!(text, "[endpoint.e{number}]\naddress = \"10.9.0.11\"\nport = {port}\nmtu = 1500")?;
    }
    let to: Vec<String> = (0..ENDPOINTS).map(|number| format!("\"e{number}\"")).collect();
    writeln!(text, "[[filter]]\nname = \"all\"\nprotocol = [\"udp\"]\nto = [{}]", to.join(", "))?;
    Ok(text)
}

#[test]
fn an_original_is_copied_for_as_long_as_the_file_allows() -> Result<()> {
    if kernel()? < (6, 2) {
        println!("skipped: packet sockets take UDP superpackets from Linux 6.2 on");
        return Ok(());
    }
    let attach = Attach::all()?[0];
    let mut edge = Edge::with_live_collector(&config("1000ms")?, attach)?;
    let payload = Stream::new(3).bytes(PAYLOAD * PACKETS as usize);
    let mut superpacket = frame().ip("10.0.0.1", "10.0.0.2").udp(1, 2).payload(payload).build();
    let gso = VnetHeader::gso(&mut superpacket, PAYLOAD.try_into()?)?;
    let mut fastest = [Duration::MAX; 2];
    for (budget, fastest) in ["1000ms", "1ms"].into_iter().zip(&mut fastest) {
        edge.configure(&config(budget)?)?;
        edge.moved(Way::Egress)?;
        for round in 0..5 {
            let begin = Instant::now();
            let originals = edge.originals(&[superpacket.clone()], Shape::Vnet(gso), Way::Egress)?;
            *fastest = begin.elapsed().min(*fastest);
            ensure!(originals == [superpacket.clone()], "{budget} {round}: the original differs");
            let moved = edge.moved(Way::Egress)?;
            ensure!(count(&moved, "filter all packets") == PACKETS, "{budget} {round}: {moved:?}");
            let mut late = 0;
            for number in 0..ENDPOINTS {
                let sent = count(&moved, &format!("endpoint e{number} packets"));
                let over = count(&moved, &format!("endpoint e{number} drop budget"));
                ensure!(sent + over == PACKETS, "{budget} {round}: e{number} has {sent} and {over}: {moved:?}");
                late += over;
            }
            ensure!((late > 0) == (budget == "1ms"), "{budget} {round}: {late} were late");
        }
    }
    let [all, some] = fastest;
    println!("{} copies take {all:?}; with a budget of 1 ms {some:?}", ENDPOINTS as u64 * PACKETS);
    ensure!(some < all * 3 / 4, "{some:?} with a budget, {all:?} without");
    Ok(())
}
