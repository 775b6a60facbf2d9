//! A daemon that does not read Initials, or has too many to read.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror_ebpf::abi::{INITIALS_BYTES, Initial};
use traffic_mirror_ebpf::flow::datagram::HANDSHAKE_PACKETS;
use traffic_mirror_tests::lab::deadline;

use super::Flows;
use crate::edge::{Attach, Direction, SkbLayout};
use crate::exact::packets;
use crate::routed::count;

/// Initials for which the ring buffer has room.
const ROOM: usize = INITIALS_BYTES as usize / (size_of::<Initial>() + 8);

#[test]
fn without_a_daemon_a_flow_has_twenty_packets_and_is_read_later() -> Result<()> {
    const MORE: usize = 10;
    let most = HANDSHAKE_PACKETS as usize;
    for &attach in Attach::all()? {
        let mut flows = Flows::new(attach, "server_name = [\"shop.example\"]")?;
        let before = flows.edge.counters()?;
        flows.edge.daemon.signal(Signal::SIGKILL)?;
        flows.edge.daemon.wait_exit(deadline())?;
        let flow = flows.flow("shop.example");
        let mut frames = vec![flow.of_client(&flow.said[0])];
        frames.resize(most + MORE, flow.of_client(&flow.data()));
        let copies = flows.pass(frames, Direction::Ingress)?;
        ensure!(copies == most, "{attach:?}: {copies} copies");
        // others, until there is no room
        let mut others = Vec::new();
        for _ in 0..ROOM + MORE {
            let other = flows.flow("other.example");
            others.push(other.of_client(&other.said[0]));
        }
        let wanted = others.len();
        let copies = flows.pass(others, Direction::Ingress)?;
        ensure!(copies == wanted, "{attach:?}: {copies} of {wanted}");
        let after = flows.edge.counters()?;
        let counted = ["undecided", "unread-initial"].map(|reason| {
            let key = format!("eth0 ingress {reason}");
            count(&after, &key) - count(&before, &key)
        });
        ensure!(
            counted[0] == MORE as u64 && (1..=2 * MORE as u64).contains(&counted[1]),
            "{attach:?}: {counted:?}"
        );
        flows.edge.daemon.restart().context("the next one")?;
        flows.are_read()?;
        let copies = flows.answer(&flow)?;
        ensure!(copies == [1; 4], "{attach:?} once it was read: {copies:?}");
    }
    Ok(())
}

/// Initials that nobody has asked for, as fast as they can be sent.
#[test]
fn a_flood_of_initials_costs_no_flow_that_is_known() -> Result<()> {
    let flood = usize::try_from(packets()? / 5)?;
    for &attach in Attach::all()? {
        let mut flows = Flows::new(attach, "server_name = [\"shop.example\"]")?;
        let known = flows.flow("shop.example");
        let copies = flows.talk(&known)?;
        ensure!(copies == [1; 4], "{attach:?}: {copies:?}");
        let forged = flows.flow("other.example");
        let frames: Vec<_> = (0..flood)
            .map(|number| {
                let mut one = forged.clone();
                one.port = 1024 + (number % 60_000) as u16;
                (one.of_client(&one.said[0]), SkbLayout::Linear)
            })
            .collect();
        for part in frames.chunks(1000) {
            flows.edge.pass_all(part, Direction::Ingress)?;
        }
        let copies = flows.go_on(&known)?;
        ensure!(copies == [1; 2], "{attach:?} in the flood: {copies:?}");
        flows.are_read()?;
        let copies = flows.go_on(&known)?;
        ensure!(copies == [1; 2], "{attach:?} after it: {copies:?}");
        let flow = flows.flow("shop.example");
        let copies = flows.talk(&flow)?;
        ensure!(copies == [1; 4], "{attach:?} a new flow: {copies:?}");
    }
    Ok(())
}
