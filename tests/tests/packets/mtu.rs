//! Copies that no longer fit: counted, to the byte, and by the MTU as it is.

use crate::case::{Case, case, run};
use crate::edge::{Attach, Direction, Edge, SkbLayout, frame, shared_with};
use crate::policy::policy;
use crate::routed::count;
use crate::{config, filter};
use anyhow::{Result, ensure};
use std::time::Instant;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::packet::Packet;

const FAMILIES: [(&str, &str, usize); 2] = [
    ("10.0.0.1", "10.0.0.2", 28),
    ("2001:db8::1", "2001:db8::2", 48),
];

/// An IP packet of that many bytes.
fn sized((from, to, headers): (&str, &str, usize), bytes: usize) -> Packet {
    frame()
        .ip(from, to)
        .udp(1, 2)
        .payload(vec![7; bytes - headers])
}

/// Of a packet of `bytes`: what fits into the MTU of an endpoint once wrapped is sent whole.
fn expected(oversize: &str, bytes: usize, packet: &Packet, [four, six]: [usize; 2]) -> Case {
    let one = case(format!("{bytes} bytes"), packet)
        .ways(&[Direction::Ingress, Direction::Egress, Direction::Local])
        .matches(["all"]);
    let (to_a, to_six) = (bytes + 32 <= four, bytes + 52 <= six);
    if oversize == "fragment" {
        let one = one.to(["a", "six"]);
        let one = if to_a {
            one
        } else {
            one.also("endpoint a fragmented", 1)
        };
        return if to_six {
            one
        } else {
            one.also("endpoint six fragmented", 1)
        };
    }
    let one = if to_a {
        one
    } else {
        one.also("endpoint a drop oversize", 1)
    };
    let one = if to_six {
        one
    } else {
        one.also("endpoint six drop oversize", 1)
    };
    one.reaching(
        ["a", "six"]
            .into_iter()
            .zip([to_a, to_six])
            .filter(|(_, fits)| *fits)
            .map(|(name, _)| name),
    )
}

fn cases(oversize: &str, mtus: [usize; 2]) -> Vec<Case> {
    let lengths = [68, mtus[0] - 32, mtus[1] - 52]
        .into_iter()
        .flat_map(|length| [length - 1, length, length + 1]);
    let lengths: Vec<_> = lengths.chain([1500, 4000, 9000]).collect();
    let mut cases: Vec<_> = FAMILIES
        .into_iter()
        .flat_map(|family| {
            lengths
                .iter()
                .map(move |&length| expected(oversize, length, &sized(family, length), mtus))
        })
        .collect();
    // padding does not count, a tag neither
    cases.push(expected(
        oversize,
        mtus[0] - 32,
        &sized(FAMILIES[0], mtus[0] - 32).pad(4000),
        mtus,
    ));
    let tagged = frame()
        .vlan(5)
        .ip("10.0.0.1", "10.0.0.2")
        .udp(1, 2)
        .payload(vec![1; mtus[0] - 60]);
    cases.push(expected(oversize, mtus[0] - 32, &tagged, mtus));
    cases
}

/// Waits until a packet that no longer fits is not copied to an endpoint any more; status does not
/// tell MTUs.
fn until_too_long(edge: &mut Edge, endpoint: &str, bytes: usize) -> Result<()> {
    let (frame, until) = (sized(FAMILIES[0], bytes).build(), deadline());
    loop {
        let seen = edge.pass(&frame, SkbLayout::Linear, Direction::Ingress)?;
        if count(&seen.moved, &format!("endpoint {endpoint} drop oversize")) == 1 {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "{bytes} bytes are still sent to {endpoint}"
        );
    }
}

/// Gives the output an MTU of 1,500 bytes.
fn narrow(edge: &mut Edge) -> Result<()> {
    edge.set_output_mtu(1500)?;
    until_too_long(edge, "a", 1469)?;
    until_too_long(edge, "six", 1449)
}

/// The endpoint's own MTU counts where that is less than the interface's, and never otherwise.
#[test]
fn an_endpoint_has_the_smaller_mtu() -> Result<()> {
    for &attach in Attach::all()? {
        for (oversize, mtu, least) in [
            ("fragment", 1400, 1400),
            ("drop", 1400, 1400),
            ("drop", 9000, 1500),
        ] {
            let lines = format!("mtu = {mtu}\noversize = \"{oversize}\"");
            let config = policy(&config(&filter("all", "", "\"a\", \"six\"")), &lines);
            shared_with(attach, &config, |edge| {
                if mtu > least {
                    edge.set_output_mtu(least as u32)?;
                    until_too_long(edge, "a", least)?;
                }
                run(
                    edge,
                    attach,
                    &lines,
                    &config,
                    &cases(oversize, [least, least]),
                )?;
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn what_no_longer_fits_is_counted() -> Result<()> {
    for &attach in Attach::all()? {
        let config = policy(
            &config(&filter("all", "", "\"a\", \"six\"")),
            "oversize = \"drop\"",
        );
        shared_with(attach, &config, |edge| {
            narrow(edge)?;
            run(
                edge,
                attach,
                "MTU 1500",
                &config,
                &cases("drop", [1500, 1500]),
            )?;

            edge.edge.run("ip route add 10.9.0.11 dev eth1 mtu 1400")?;
            until_too_long(edge, "a", 1369)?;
            run(
                edge,
                attach,
                "route to a with MTU 1400",
                &config,
                &cases("drop", [1400, 1500]),
            )?;
            edge.edge.run("ip route delete 10.9.0.11 dev eth1")?;
            Ok(())
        })?;
    }
    Ok(())
}

/// By itself, in outer fragments that hold all of it.
#[test]
fn what_no_longer_fits_is_sent_in_fragments() -> Result<()> {
    for &attach in Attach::all()? {
        let whole = config(&filter("all", "", "\"a\", \"six\""));
        shared_with(attach, &policy(&whole, "oversize = \"drop\""), |edge| {
            narrow(edge)?;
            run(
                edge,
                attach,
                "MTU 1500",
                &whole,
                &cases("fragment", [1500, 1500]),
            )?;
            Ok(())
        })?;
    }
    Ok(())
}

/// As the loopback interface and guests have them.
#[test]
fn packets_near_64_kib_are_sent_in_fragments() -> Result<()> {
    for &attach in Attach::all()? {
        let whole = config(&filter("all", "", "\"a\", \"six\""));
        let mut edge = Edge::new(&policy(&whole, "oversize = \"drop\""), attach)?;
        edge.widen(65_535)?;
        narrow(&mut edge)?;
        edge.configure(&whole)?;
        let cases: Vec<_> = [16_000, 16_500, 30_000, 65_000]
            .into_iter()
            .flat_map(|bytes| {
                FAMILIES
                    .map(|family| expected("fragment", bytes, &sized(family, bytes), [1500, 1500]))
            })
            .collect();
        run(&mut edge, attach, "MTU 1500", &whole, &cases)?;
    }
    Ok(())
}
