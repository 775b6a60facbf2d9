//! Packets that the kernel delivers to a socket although they, or others beside them, are made so as to be hidden: the mirror has them.

use crate::edge::Attach;
use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::hostile::draw::Ends;
use traffic_mirror_tests::hostile::stage::{Stage, reasons};
use traffic_mirror_tests::lab::packet::{Ipv4, Ipv6, Packet, eth_between};

/// What is sent in a row, and what must come of it.
struct Case {
    what: &'static str,
    frames: Vec<Packet>,
    /// How many packets the filter for port 443 matches.
    matched: u64,
    /// Why something was unknown, and of how many packets.
    unseen: Vec<(&'static str, u64)>,
}

fn cases(ends: &Ends) -> Vec<Case> {
    let link = || eth_between(ends.macs[0], ends.macs[1]);
    let v4 = || Ipv4 { id: 1, flags: 0, protocol: Some(6), ..Ipv4::new(ends.sources[0], ends.destinations[0]) };
    let v6 = || link().layer(Ipv6::new(ends.sources[1], ends.destinations[1]));
    let tcp = |port: u16| [&[0, 7][..], &port.to_be_bytes(), &[0; 4]].concat();
    let rest = [0; 24];
    let first = |port| link().layer(Ipv4 { flags: Ipv4::MF, ..v4() }).payload(tcp(port));
    let later = || link().layer(Ipv4 { fragment_offset: 1, ..v4() }).payload(rest);
    let wrong = link().layer(Ipv4 { flags: Ipv4::MF, checksum: Some(0xbad), ..v4() }).payload(tcp(9));
    // a first one that does not have all of the TCP header is dropped (`ipv6frag_thdr_truncated`)
    let tcp6 = |port| [&tcp(port)[..], &[0; 16]].concat();
    let first6 = |port| v6().fragment(0, true, 1).raw(6, tcp6(port));
    let later6 = || v6().fragment(3, false, 1).raw(6, rest);
    let whole = [&tcp(443)[..], &rest].concat();
    let case = |what, frames, matched, unseen| Case { what, frames, matched, unseen };
    let nine = (0..9).fold(v6(), |packet, _| packet.destination_options()).raw(6, &whole[..]);
    let options = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp6(443)].concat();
    vec![
        case("nine extension headers", vec![nine], 1, vec![("unparsed", 1)]),
        case("a forged first of a wrong checksum", vec![first(443), wrong.clone(), later()], 2, vec![]),
        case("which comes before", vec![wrong, later(), first(443)], 2, vec![("orphan-fragment", 1)]),
        case("another first", vec![first(443), first(9), later()], 3, vec![("ambiguous-fragment", 2)]),
        case("another IPv6 first", vec![first6(443), first6(9), later6()], 3, vec![("ambiguous-fragment", 2)]),
        case("the rest before the first", vec![later(), first(443)], 2, vec![("orphan-fragment", 1)]),
        case("the IPv6 rest before the first", vec![later6(), first6(443)], 2, vec![("orphan-fragment", 1)]),
        case("a first of eight bytes", vec![first(443), later()], 2, vec![]),
        case(
            "options before the ports of a first",
            vec![v6().fragment(0, true, 1).raw(60, options), v6().fragment(4, false, 1).raw(60, rest)],
            2,
            vec![],
        ),
    ]
}

#[test]
fn what_is_delivered_is_mirrored() -> Result<()> {
    if !Attach::all()?.contains(&Attach::Tcx) {
        println!("skipped: takes Linux 6.6");
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let mut failures = String::new();
    for number in 0..cases(&stage.ends).len() {
        // each with a sender of its own, so that nothing is left of the one before
        stage.begin(number as u32)?;
        let case = cases(&stage.ends).into_iter().nth(number).context("a case")?;
        if let Err(error) = judge(&mut stage, &case) {
            failures += &format!("\n{}: {error:#}", case.what);
        }
    }
    ensure!(failures.is_empty(), "{failures}");
    Ok(())
}

fn judge(stage: &mut Stage, case: &Case) -> Result<()> {
    let frames: Vec<Vec<u8>> = case.frames.iter().map(Packet::build).collect();
    let before = stage.counters()?;
    let delivered = stage.deliver(&frames)?;
    let after = stage.counters()?;
    ensure!(delivered.iter().map(|one| one.port).collect::<Vec<_>>() == [443], "{delivered:?} was delivered");
    // and the marker
    let matched = after.matched[0] - before.matched[0] - 1;
    let counts = reasons().zip(after.unseen.iter().zip(before.unseen).map(|(after, before)| after - before));
    let unseen: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    ensure!((matched, &unseen) == (case.matched, &case.unseen), "{matched} matched, {unseen:?}");
    Ok(())
}
