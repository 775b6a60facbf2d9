//! What is read of a client's Initials.

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::kernel;
use traffic_mirror_tests::lab::vnet::VnetHeader;
use traffic_mirror_tests::quic::{DATAGRAM_BYTES, Hello, ONE, TWO};

use super::Flows;
use crate::edge::{Attach, Direction, SkbLayout};
use crate::routed::count;

#[test]
fn flows_of_quic_are_mirrored_by_the_name_of_their_server() -> Result<()> {
    for &attach in Attach::all()? {
        let mut flows = Flows::new(
            attach,
            "server_name = [\"shop.example\", \"*.cdn.example\"]",
        )?;
        for (name, wanted) in [
            ("shop.example", 1),
            ("other.example", 0),
            ("a.CDN.example", 1),
        ] {
            for (is_post_quantum, is_backwards, version, family) in [
                (false, false, ONE, 0),
                (false, false, TWO, 1),
                (true, false, ONE, 0),
                (true, true, ONE, 1),
            ] {
                let hello = Hello {
                    is_post_quantum,
                    ..Hello::of(name)
                };
                let mut flow = flows.flow_with(&hello, version);
                flow.family = family;
                if is_backwards {
                    flow.said.reverse();
                }
                let what = || format!("{attach:?} {name} {is_post_quantum} {is_backwards}");
                let asked = flows.ask(&flow).with_context(what)?;
                // the first packet may tell
                let is_whole = asked.iter().all(|&copies| copies == 1);
                ensure!(
                    asked[0] == 1 && (is_whole || wanted == 0),
                    "{}: {asked:?}",
                    what()
                );
                let answered = flows.answer(&flow)?;
                ensure!(answered == [wanted; 4], "{}: {answered:?}", what());
            }
        }
        let counted = flows.edge.counters()?;
        for (found, connections) in [("wanted", 8), ("other-name", 4)] {
            let name = format!("eth0 ingress connections {found}");
            ensure!(count(&counted, &name) == connections, "{name}: {counted:?}");
        }
    }
    Ok(())
}

#[test]
fn what_has_no_name_in_quic_is_undecided() -> Result<()> {
    for &attach in Attach::all()? {
        for (undecided, copied) in [("skip", 0), ("mirror", 1)] {
            let names = format!("server_name = [\"shop.example\"]\nundecided = \"{undecided}\"");
            let mut flows = Flows::new(attach, &names)?;
            let nameless = flows.flow_with(&Hello::default(), ONE);
            let copies = flows.talk(&nameless)?;
            ensure!(
                copies == [copied; 4],
                "{attach:?} {undecided}, no name: {copies:?}"
            );
            // in the middle of a flow, and something else
            let flow = flows.flow("shop.example");
            let copies = flows.answer(&flow)?;
            ensure!(
                copies == [copied; 4],
                "{attach:?} {undecided}, no Initial: {copies:?}"
            );
            let copies = flows.client(&flow, b"short")?;
            ensure!(
                copies == copied,
                "{attach:?} {undecided}, not QUIC: {copies}"
            );
            let skipped = flows.edge.counters()?;
            ensure!(
                skipped.get("eth0 ingress undecided") > Some(&0),
                "not counted: {skipped:?}"
            );
        }
    }
    Ok(())
}

/// The sender leaves it to the kernel to send a hello as two packets (`UDP_SEGMENT`).
#[test]
fn initials_of_a_superpacket_are_read() -> Result<()> {
    if kernel()? < (6, 2) {
        println!("skipped, takes 6.2: packet sockets send no superpackets of UDP before");
        return Ok(());
    }
    for &attach in Attach::all()? {
        let mut flows = Flows::new(attach, "server_name = [\"shop.example\"]")?;
        for (name, wanted) in [("shop.example", 1), ("other.example", 0)] {
            for family in [0, 1] {
                let hello = Hello {
                    is_post_quantum: true,
                    ..Hello::of(name)
                };
                let mut flow = flows.flow_with(&hello, ONE);
                flow.family = family;
                ensure!(flow.said.len() == 2, "{} packets", flow.said.len());
                let mut frame = flow.of_client(&flow.said.concat());
                let header = VnetHeader::gso(&mut frame, DATAGRAM_BYTES as u16)?;
                let frames = [(frame, SkbLayout::Vnet(header))];
                let seen = flows.edge.pass_all(&frames, Direction::Ingress)?;
                ensure!(!seen.copies.is_empty(), "{attach:?} {name}: no copy");
                flows.are_read()?;
                let answered = flows.answer(&flow)?;
                ensure!(answered == [wanted; 4], "{attach:?} {name}: {answered:?}");
            }
        }
    }
    Ok(())
}
