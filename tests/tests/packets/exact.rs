//! As many copies as matches, to the packet, at full rate.

use crate::edge::{Attach, Direction, ENDPOINTS, Edge, frame};
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::packet::ip_part;
use traffic_mirror_tests::lab::status::Counters;
use traffic_mirror_tests::lab::traffic::Stream;

const FLOWS: u32 = 64;
/// One flow of so many is not wanted.
const UNWANTED: u32 = 8;
/// Payloads in bytes, before the number.
const LENGTHS: [usize; 11] = [0, 1, 20, 60, 10, 200, 5, 1000, 30, 100, 1400];

/// How many packets; `TEST_PACKETS` asks for fewer, where that would take too long.
pub(crate) fn packets() -> Result<u32> {
    match std::env::var("TEST_PACKETS") {
        Err(_) => Ok(100_000),
        Ok(number) => number
            .parse()
            .with_context(|| format!("TEST_PACKETS={number}: a number")),
    }
}

/// A packet with its number in its last four bytes.
struct Numbered {
    way: Direction,
    bytes: Vec<u8>,
    is_wanted: bool,
}

/// Over IPv4 and IPv6, TCP and UDP, from the client and from the server: what a flow is like
/// follows from its number.
fn numbered(number: u32) -> Numbered {
    let flow = number % FLOWS;
    let (from, to) = if flow.is_multiple_of(2) {
        ("10.0.0.1", "10.0.0.2")
    } else {
        ("2001:db8::1", "2001:db8::2")
    };
    let way = if flow % 4 < 2 {
        Direction::Ingress
    } else {
        Direction::Egress
    };
    let is_wanted = flow % UNWANTED != UNWANTED - 1;
    let ports = (1000 + flow as u16, if is_wanted { 443 } else { 444 });
    let ip = frame().ip(from, to);
    let transport = if flow.is_multiple_of(3) {
        ip.udp(ports.0, ports.1)
    } else {
        ip.tcp(ports.0, ports.1)
    };
    let length = LENGTHS[(number / FLOWS) as usize % LENGTHS.len()];
    let payload = Stream::new(number.into())
        .bytes(length)
        .into_iter()
        .chain(number.to_be_bytes());
    Numbered {
        way,
        bytes: transport
            .payload(payload.collect::<Vec<_>>())
            .pad(60)
            .build(),
        is_wanted,
    }
}

/// Of an IP packet.
fn number_of(packet: &[u8]) -> Result<u32> {
    Ok(u32::from_be_bytes(
        *packet.last_chunk().context("no number")?,
    ))
}

/// Numbers by flow, in order.
fn by_flow(numbers: impl Iterator<Item = u32>) -> BTreeMap<u32, Vec<u32>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    numbers.for_each(|number| flows.entry(number % FLOWS).or_default().push(number));
    flows
}

/// Whether what arrived is what was sent, as far as it is `wanted`: each once, to the byte, and
/// each flow in order. What arrived is the frame, or the IP packet in it.
fn compare<'a>(
    arrived: impl Iterator<Item = &'a [u8]>,
    is_frame: bool,
    sent: &[Numbered],
    wanted: impl Fn(&Numbered) -> bool,
) -> Result<()> {
    let mut numbers = Vec::new();
    for bytes in arrived {
        let number = number_of(if is_frame { ip_part(bytes)? } else { bytes })?;
        let original = &sent
            .get(number as usize)
            .with_context(|| format!("not ours: {bytes:02x?}"))?
            .bytes;
        let expected = if is_frame {
            original
        } else {
            ip_part(original)?
        };
        ensure!(bytes == expected, "packet {number} came as {bytes:02x?}");
        numbers.push(number);
    }
    let expected = by_flow(
        (0..)
            .zip(sent)
            .filter(|(_, packet)| wanted(packet))
            .map(|(number, _)| number),
    );
    let all: usize = expected.values().map(Vec::len).sum();
    ensure!(
        numbers.len() == all,
        "{} packets came instead of {all}",
        numbers.len()
    );
    let came = by_flow(numbers.into_iter());
    let wrong = expected
        .iter()
        .find(|(flow, numbers)| came.get(flow) != Some(numbers));
    ensure!(
        wrong.is_none(),
        "flow {:?} did not come in order, or not once each",
        wrong.map(|(flow, _)| flow)
    );
    Ok(())
}

/// All filters and endpoints that moved, and nothing else.
fn expected_counters(sent: &[Numbered], endpoints: &[&str]) -> Result<Counters> {
    let wanted: Vec<_> = sent.iter().filter(|packet| packet.is_wanted).collect();
    let bytes = wanted
        .iter()
        .map(|packet| Ok(ip_part(&packet.bytes)?.len() as u64))
        .sum::<Result<u64>>()?;
    let objects = endpoints
        .iter()
        .map(|name| format!("endpoint {name}"))
        .chain(["filter wanted".to_owned()]);
    let counts = |object| {
        [
            (format!("{object} packets"), wanted.len() as u64),
            (format!("{object} bytes"), bytes),
        ]
    };
    Ok(objects.flat_map(counts).collect())
}

/// Each flow is sent on one CPU, all CPUs at once, as fast as they can.
#[test]
fn copies_are_matches_at_full_rate() -> Result<()> {
    let cpus = Cpu::all()?.len() as u32;
    let sent: Vec<_> = (0..packets()?).map(numbered).collect();
    let mut shares = vec![Vec::new(); cpus as usize];
    for (number, packet) in (0..).zip(&sent) {
        // eight flows in a row have one of each kind
        shares[(number % FLOWS / UNWANTED % cpus) as usize]
            .push((packet.way, packet.bytes.clone()));
    }
    for &attach in Attach::all()? {
        let mut edge = Edge::new(&config(""), attach)?;
        for endpoints in [&["a"][..], &["a", "six"], &["a", "b", "six", "odd"]] {
            round(&mut edge, &sent, &shares, endpoints)
                .with_context(|| format!("{attach:?} to {endpoints:?}"))?;
        }
    }
    Ok(())
}

fn round(
    edge: &mut Edge,
    sent: &[Numbered],
    shares: &[Vec<(Direction, Vec<u8>)>],
    endpoints: &[&str],
) -> Result<()> {
    let to = endpoints
        .iter()
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    edge.configure(&config(&filter("wanted", "destination_port = [443]", &to)))?;
    let arrived = edge.barrage(shares)?;
    let lost = edge.lost()?;
    ensure!(lost == 0, "the laboratory itself lost {lost} packets");
    for (way, frames) in [Direction::Ingress, Direction::Egress]
        .into_iter()
        .zip(&arrived.originals)
    {
        let frames = frames.iter().map(Vec::as_slice);
        compare(frames, true, sent, |packet| packet.way == way)
            .with_context(|| format!("originals, {way:?}"))?;
    }
    ensure!(
        arrived.strangers.is_empty(),
        "{} strangers at the collector",
        arrived.strangers.len()
    );
    for (name, ..) in ENDPOINTS {
        let copies = arrived
            .copies
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let (packets, is_named) = (
            copies.iter().map(|copy| &copy.inner[..]),
            endpoints.contains(&name),
        );
        compare(packets, false, sent, |packet| is_named && packet.is_wanted)
            .with_context(|| format!("copies to {name}"))?;
    }
    let expected = expected_counters(sent, endpoints)?;
    ensure!(
        arrived.moved == expected,
        "counters moved by {:?} instead of {expected:?}",
        arrived.moved
    );
    Ok(())
}
