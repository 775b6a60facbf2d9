//! Packets that the kernel delivers to a socket although they, or others beside them, are made so
//! as to be hidden: the mirror has them.

use crate::edge::Attach;
use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::hostile::draw::Ends;
use traffic_mirror_tests::hostile::stage::{Stage, reasons};
use traffic_mirror_tests::lab::packet::{Extension, Ipv4, Ipv6, Packet, eth_between};

/// What is sent in a row, and what must come of it.
#[derive(Clone)]
struct Case {
    what: &'static str,
    frames: Vec<Packet>,
    /// How many packets the filter for port 443 matches.
    matched: u64,
    /// Why something was unknown, and of how many packets.
    skipped: Vec<(&'static str, u64)>,
}

fn cases(ends: &Ends) -> Vec<Case> {
    let link = || eth_between(ends.macs[0], ends.macs[1]);
    let v4 = || Ipv4 {
        id: 1,
        flags: 0,
        protocol: Some(6),
        ..Ipv4::new(ends.sources[0], ends.destinations[0])
    };
    let v6 = || link().layer(Ipv6::new(ends.sources[1], ends.destinations[1]));
    let tcp = |port: u16| [&[0, 7][..], &port.to_be_bytes(), &[0; 4]].concat();
    let rest = [0; 24];
    let first = |port| {
        link()
            .layer(Ipv4 {
                flags: Ipv4::MF,
                ..v4()
            })
            .payload(tcp(port))
    };
    let later = || {
        link()
            .layer(Ipv4 {
                fragment_offset: 1,
                ..v4()
            })
            .payload(rest)
    };
    let wrong = link()
        .layer(Ipv4 {
            flags: Ipv4::MF,
            checksum: Some(0xbad),
            ..v4()
        })
        .payload(tcp(9));
    // a first one that does not have all of the TCP header is dropped (`ipv6frag_thdr_truncated`)
    let tcp6 = |port| [&tcp(port)[..], &[0; 16]].concat();
    let first6 = |port| v6().fragment(0, true, 1).raw(6, tcp6(port));
    let later6 = || v6().fragment(3, false, 1).raw(6, rest);
    let whole = [&tcp(443)[..], &rest].concat();
    let case = |what, frames, matched, skipped| Case {
        what,
        frames,
        matched,
        skipped,
    };
    let nine = (0..9)
        .fold(v6(), |packet, _| packet.destination_options())
        .raw(6, &whole[..]);
    let options = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp6(443)].concat();
    vec![
        case(
            "nine extension headers",
            vec![nine],
            1,
            vec![("unparsed", 1)],
        ),
        case(
            "a forged first of a wrong checksum",
            vec![first(443), wrong.clone(), later()],
            2,
            vec![],
        ),
        case(
            "which comes before",
            vec![wrong, later(), first(443)],
            2,
            vec![("orphan-fragment", 1)],
        ),
        case(
            "another first",
            vec![first(443), first(9), later()],
            3,
            vec![("ambiguous-fragment", 2)],
        ),
        case(
            "another IPv6 first",
            vec![first6(443), first6(9), later6()],
            3,
            vec![("ambiguous-fragment", 2)],
        ),
        case(
            "the rest before the first",
            vec![later(), first(443)],
            2,
            vec![("orphan-fragment", 1)],
        ),
        case(
            "the IPv6 rest before the first",
            vec![later6(), first6(443)],
            2,
            vec![("orphan-fragment", 1)],
        ),
        case(
            "a first of eight bytes",
            vec![first(443), later()],
            2,
            vec![],
        ),
        case(
            "options before the ports of a first",
            vec![
                v6().fragment(0, true, 1).raw(60, options),
                v6().fragment(4, false, 1).raw(60, rest),
            ],
            2,
            vec![("unparsed", 2)],
        ),
    ]
}

/// A forged first that the kernel forgets, then all of the true datagram, its first last.
fn forgotten(ends: &Ends) -> Vec<Case> {
    let link = || eth_between(ends.macs[0], ends.macs[1]);
    let v4 = || Ipv4 {
        id: 1,
        flags: Ipv4::MF,
        protocol: Some(6),
        ..Ipv4::new(ends.sources[0], ends.destinations[0])
    };
    let v6 = || link().layer(Ipv6::new(ends.sources[1], ends.destinations[1]));
    let tcp = |port: u16| [&[0, 7][..], &port.to_be_bytes(), &[0; 20]].concat();
    let first = |port| link().layer(v4()).payload(tcp(port));
    let piece = |flags, at, bytes| {
        link()
            .layer(Ipv4 {
                flags,
                fragment_offset: at,
                ..v4()
            })
            .payload(vec![0; bytes])
    };
    let piece6 = |more, at, bytes| v6().fragment(at, more, 1).raw(6, vec![0; bytes]);
    let with_options = link()
        .layer(Ipv4 {
            options: vec![131, 3, 0],
            ..v4()
        })
        .payload(tcp(9));
    let with_header = v6()
        .layer(Extension::options(Extension::DESTINATION, &[0x9e, 0]))
        .fragment(0, true, 1);
    let four = |before: Vec<Packet>| [before, vec![piece(0, 3, 24), first(443)]].concat();
    let six = |before: Vec<Packet>| {
        [
            before,
            vec![
                piece6(false, 3, 24),
                v6().fragment(0, true, 1).raw(6, tcp(443)),
            ],
        ]
        .concat()
    };
    let case = |what, frames, matched, unparsed, ambiguous| {
        let skipped = [("ambiguous-fragment", ambiguous), ("unparsed", unparsed)];
        Case {
            what,
            frames,
            matched,
            skipped: skipped
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    };
    let first6 = v6().fragment(0, true, 1).raw(6, tcp(9));
    vec![
        case("wrong options", four(vec![with_options]), 2, 2, 1),
        case(
            "an option to be dropped",
            six(vec![with_header.raw(6, tcp(9))]),
            2,
            2,
            1,
        ),
        case(
            "half a TCP header",
            six(vec![v6().fragment(0, true, 1).raw(6, &tcp(9)[..8])]),
            2,
            2,
            1,
        ),
        case(
            "an overlap",
            four(vec![first(9), piece(Ipv4::MF, 1, 32)]),
            3,
            0,
            3,
        ),
        case(
            "an IPv6 overlap",
            six(vec![first6.clone(), piece6(true, 1, 32)]),
            3,
            0,
            3,
        ),
        case(
            "a fragment without bytes",
            four(vec![first(9), piece(0, 9, 0)]),
            3,
            0,
            3,
        ),
        case(
            "an IPv6 fragment without bytes",
            six(vec![first6.clone(), piece6(true, 9, 0)]),
            3,
            0,
            3,
        ),
        // nobody but the kernel knows of these
        case(
            "an overlap behind",
            four(vec![
                first(9),
                piece(Ipv4::MF, 3, 16),
                piece(Ipv4::MF, 4, 16),
            ]),
            1,
            0,
            1,
        ),
        case(
            "an IPv6 overlap behind",
            six(vec![
                first6.clone(),
                piece6(true, 3, 16),
                piece6(true, 4, 16),
            ]),
            1,
            0,
            1,
        ),
        case(
            "all of another datagram",
            four(vec![first(9), piece(0, 3, 8)]),
            1,
            0,
            1,
        ),
        case(
            "two ends",
            six(vec![first6, piece6(false, 9, 8), piece6(false, 4, 8)]),
            1,
            0,
            1,
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
    let all = |ends: &Ends| [cases(ends), forgotten(ends)].concat();
    for number in 0..all(&stage.ends).len() {
        // each with a sender of its own, so that nothing is left of the one before
        stage.begin(number as u32)?;
        let case = all(&stage.ends).into_iter().nth(number).context("a case")?;
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
    ensure!(
        delivered.iter().filter(|one| one.port == 443).count() == 1,
        "{delivered:?} was delivered"
    );
    // and the marker
    let matched = after.matched[0] - before.matched[0] - 1;
    let counts = reasons().zip(
        after
            .skipped
            .iter()
            .zip(before.skipped)
            .map(|(after, before)| after - before),
    );
    let skipped: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    ensure!(
        (matched, &skipped) == (case.matched, &case.skipped),
        "{matched} matched, {skipped:?}"
    );
    Ok(())
}
