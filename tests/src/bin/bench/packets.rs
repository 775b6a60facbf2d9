//! What a packet costs that is not copied, by the number of filters.

use anyhow::{Result, ensure};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use traffic_mirror::kernel::{Attachment, Role};
use traffic_mirror::network::{Hook, LinkKind};
use traffic_mirror_tests::lab::packet::eth;
use traffic_mirror_tests::oracle::large;
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::references::Flow;

use crate::files::{all_fields, crossed, crossings, strangers};
use crate::race::{Load, dress, frame};
use crate::report::{Group, Line, Unit};
use crate::session::{Session, rounds};
use crate::subject::{FLOWS, Subject};
use crate::{LIMITED_FILTERS, SEED};

const ROUNDS: usize = 11;
const SIZES: [usize; 6] = [0, 1, 100, 1_000, 10_000, 16_384];
/// Packets that are chosen at random: the cost is their mean.
const SAMPLE: usize = 32;
/// Most that an unmatched packet may cost over the empty program, ns: IPv4 and IPv6, up to 10,000 filters.
const LIMITS_NS: [f64; 2] = [18.0, 28.0];

/// The look-ups over the same packets.
pub(crate) const SAME: &str = "look-ups, same packets";
/// Random look-ups over random packets, the same beside all files.
pub(crate) const YARDSTICK: &str = "look-ups, random packets";

/// How the names of lines end of which each run meets another flow.
const MIXED: &str = "mixed flows";

/// Names that plots and tables know.
pub(crate) const OUTSIDE: &str = "outside, IPv4 TCP";
pub(crate) const OUTSIDE_MIXED: &str = "outside, IPv4 TCP, mixed flows";
pub(crate) const INSIDE: &str = "random inside, IPv4 TCP";
pub(crate) const INSIDE_MIXED: &str = "random inside, IPv4 TCP, mixed flows";
pub(crate) const LISTED: &str = "every field listed somewhere, IPv4 TCP";
pub(crate) const LISTED_MIXED: &str = "every field listed somewhere, IPv4 TCP, mixed flows";
pub(crate) const WORST: &str = "worst file and packet, IPv4 TCP";
pub(crate) const MATCHED: &str = "matched, no route, IPv4 TCP";

/// Usual kinds of files, each beside random packets of the internet.
const KINDS: [(&str, fn(&mut Random, usize) -> String, usize); 3] = [
    ("random, beside hosts and ports, IPv4 TCP, mixed flows", large::hosts_and_ports, 10_000),
    ("random, beside networks and ranges, IPv4 TCP, mixed flows", large::typical, 10_000),
    ("random, beside lists of networks, IPv4 TCP, mixed flows", large::lists, 1_000),
];
pub(crate) const HOSTS: &str = KINDS[0].0;
pub(crate) const TYPICAL: &str = KINDS[1].0;

/// All of it. What the look-ups mirror goes out of `output`.
pub(crate) fn packets(session: &mut Session, output: u32) -> Result<()> {
    session.heading(&format!(
        "A packet that nothing matches: ns over the empty program, median (quartiles) of {ROUNDS} rounds, against look-ups in \
         lists of 50"
    ));
    for filters in SIZES {
        mixed(session, output, filters)?;
    }
    for (what, file, filters) in KINDS {
        kind(session, output, what, file, filters)?;
    }
    for filters in SIZES.into_iter().filter(|filters| *filters > 1) {
        listed(session, output, filters)?;
        worst(session, output, filters)?;
    }
    session.heading("A packet that an output interface receives");
    received(session, output)
}

fn compare(
    session: &mut Session,
    subject: &Subject,
    group: Group,
    what: &str,
    filters: usize,
    load: &Load,
) -> Result<()> {
    let (is_v6, is_plain) = (what.contains("IPv6"), !what.contains("VLAN"));
    let mut runners = vec![subject.ours(load)?, subject.yardstick()?];
    // the look-ups do not know IPv6
    if !is_v6 && is_plain {
        runners.push(subject.lookups(load)?);
    }
    let samples = rounds(ROUNDS, &mut runners)?;
    let is_limited = what.starts_with("outside") && !what.ends_with(MIXED) && (1..=LIMITED_FILTERS).contains(&filters);
    let mut line = Line::new(group, what, filters, Unit::Nanoseconds, &samples[0])
        .against(YARDSTICK, &samples[0], &samples[1])
        .limit(is_limited.then_some(LIMITS_NS[usize::from(is_v6)]));
    if let Some(same) = samples.get(2) {
        line = line.against(SAME, &samples[0], same);
    }
    session.add(line);
    Ok(())
}

/// Networks, ports and protocols as they come, half of the filters for IPv6.
fn mixed(session: &mut Session, output: u32, filters: usize) -> Result<()> {
    let mut random = Random::new(SEED);
    let subject = Subject::new(&large::mixed(&mut random, filters), output)?;
    let outside4: Flow = ("192.0.2.1".parse()?, "198.51.100.2".parse()?, 40_000, 443);
    let outside6: Flow = ("2001:db8::1".parse()?, "2001:db8::2".parse()?, 40_000, 443);
    for (what, frame) in outside(&outside4, &outside6) {
        if session.wants(what) {
            compare(session, &subject, Group::Unmatched, what, filters, &Load::repeated(vec![frame]))?;
        }
    }
    for (what, v6) in [(OUTSIDE_MIXED, false), ("outside, IPv6 TCP, mixed flows", true)] {
        if session.wants(what) {
            let flows = strangers(&mut random, v6).take(FLOWS).collect();
            compare(session, &subject, Group::Unmatched, what, filters, &Load::mixed(flows, 100))?;
        }
    }
    if filters == 0 {
        return Ok(());
    }
    for (what, v6, source, wanted_port) in [
        ("from outside to random inside, IPv4 TCP", false, Some(outside4.0), false),
        ("from outside to random inside, IPv6 TCP", true, Some(outside6.0), false),
        (INSIDE, false, None, false),
        (INSIDE_MIXED, false, None, false),
        ("random inside, IPv4 TCP to a wanted port", false, None, true),
        ("random inside, IPv6 TCP", true, None, false),
        ("random inside, IPv6 TCP, mixed flows", true, None, false),
        ("random inside, IPv6 TCP to a wanted port", true, None, true),
    ] {
        if !session.wants(what) {
            continue;
        }
        let is_mixed = what.ends_with(MIXED);
        let count = if is_mixed { FLOWS } else { SAMPLE };
        let flows = subject.inside(&mut random, source, v6, wanted_port, 0, count);
        let load = if is_mixed { Load::mixed(flows, 100) } else { each(&flows) };
        compare(session, &subject, Group::Unmatched, what, filters, &load)?;
    }
    ensure!(subject.loaded.matched()?.iter().all(|count| count.packets == 0), "a packet has matched");
    matched(session, &subject, &mut random, filters)
}

/// Packets of networks that no filter knows, or of protocols.
fn outside(v4: &Flow, v6: &Flow) -> [(&'static str, Vec<u8>); 9] {
    const SCTP: u8 = 132;
    let ports = |flow: &Flow| [flow.2.to_be_bytes(), flow.3.to_be_bytes()].concat();
    let ip = |flow: &Flow| eth().ip(flow.0, flow.1);
    let end = |packet: traffic_mirror_tests::lab::packet::Packet| packet.payload([0; 100]).build();
    [
        (OUTSIDE, frame(v4, 100)),
        ("outside, IPv4 UDP", end(ip(v4).udp(v4.2, v4.3))),
        ("outside, IPv4 TCP, VLAN tag in the frame", dress(v4, 100, |packet| packet.vlan(7))),
        ("outside, IPv6 TCP", frame(v6, 100)),
        ("outside, IPv6 UDP", end(ip(v6).udp(v6.2, v6.3))),
        ("outside, IPv6 TCP behind an extension header", end(ip(v6).destination_options().tcp(v6.2, v6.3))),
        ("unwanted protocol, IPv4 ICMP", end(ip(v4).icmp(8, 0))),
        ("unwanted protocol, IPv4 SCTP", end(ip(v4).raw(SCTP, ports(v4)))),
        ("unwanted protocol, IPv6 SCTP", end(ip(v6).raw(SCTP, ports(v6)))),
    ]
}

/// Whatever comes to a host, beside a file of a usual kind.
fn kind(
    session: &mut Session,
    output: u32,
    what: &str,
    file: fn(&mut Random, usize) -> String,
    filters: usize,
) -> Result<()> {
    if !session.wants(what) {
        return Ok(());
    }
    let mut random = Random::new(SEED);
    let subject = Subject::new(&file(&mut random, filters), output)?;
    let flows = strangers(&mut random, false).filter(|flow| subject.matches(flow) == 0);
    let load = Load::mixed(flows.take(FLOWS).collect(), 100);
    compare(session, &subject, Group::Unmatched, what, filters, &load)
}

/// One filter matches, and its endpoint is out of reach: all but the copy itself.
fn matched(session: &mut Session, subject: &Subject, random: &mut Random, filters: usize) -> Result<()> {
    for (what, v6) in [(MATCHED, false), ("matched, no route, IPv6 TCP", true)] {
        if !session.wants(what) {
            continue;
        }
        let flows = subject.inside(random, None, v6, true, 1, SAMPLE);
        if flows.is_empty() {
            continue;
        }
        compare(session, subject, Group::Matched, what, filters, &each(&flows))?;
        ensure!(subject.loaded.no_route()?.iter().sum::<u64>() > 0, "no packet has matched");
    }
    Ok(())
}

/// All fields of all filters, and packets that have each field of another one.
fn listed(session: &mut Session, output: u32, filters: usize) -> Result<()> {
    let names = ["every field listed somewhere, IPv6 TCP", "every field listed somewhere, IPv6 TCP, mixed flows"];
    if !session.wants_any(&[LISTED, LISTED_MIXED, names[0], names[1]]) {
        return Ok(());
    }
    let mut random = Random::new(SEED);
    let (text, flows) = all_fields(&mut random, filters);
    let subject = Subject::new(&text, output)?;
    let (v4, v6): (Vec<Flow>, Vec<Flow>) = flows.into_iter().partition(|flow| flow.0.is_ipv4());
    for (known, [once, mixed]) in [(v4, [LISTED, LISTED_MIXED]), (v6, names)] {
        let crossed = crossings(&mut random, &known, FLOWS);
        if session.wants(once) {
            compare(session, &subject, Group::Unmatched, once, filters, &each(&crossed[..SAMPLE]))?;
        }
        if session.wants(mixed) {
            compare(session, &subject, Group::Unmatched, mixed, filters, &Load::mixed(crossed, 100))?;
        }
    }
    ensure!(subject.loaded.matched()?.iter().all(|count| count.packets == 0), "a packet has matched");
    Ok(())
}

/// The most that somebody can bring about who chooses both, the file and the packet.
fn worst(session: &mut Session, output: u32, filters: usize) -> Result<()> {
    if !session.wants(WORST) {
        return Ok(());
    }
    let (text, flow) = crossed(&mut Random::new(SEED), filters);
    let subject = Subject::new(&text, output)?;
    compare(session, &subject, Group::Unmatched, WORST, filters, &each(&[flow]))
}

fn each(flows: &[Flow]) -> Load {
    Load::repeated(flows.iter().map(|flow| frame(flow, 100)).collect())
}

/// What the program costs that looks for errors about copies.
fn received(session: &mut Session, output: u32) -> Result<()> {
    let (ip4, ip6) = (eth().ip("10.0.0.1", "10.0.0.2"), eth().ip("2001:db8::1", "2001:db8::2"));
    let packets = [
        ("received, IPv4 TCP", ip4.clone().tcp(40_000, 443)),
        ("received, IPv6 TCP", ip6.clone().tcp(40_000, 443)),
        ("received, IPv4 echo request", ip4.icmp(8, 0)),
        ("received, IPv6 echo request", ip6.icmpv6(128, 0)),
    ];
    if !session.wants_any(&packets.each_ref().map(|(what, _)| *what)) {
        return Ok(());
    }
    let subject = Subject::new(&large::mixed(&mut Random::new(SEED), 1), output)?;
    let role = Role::Errors { generation: subject.loaded.generation().number() };
    let attachment = Attachment { role, interface: 0, direction: Hook::Ingress };
    let errors = subject.loaded.generation().program_of(attachment, LinkKind::Ethernet)?;
    let errors = errors.fd()?.as_fd();
    for (what, packet) in packets {
        if session.wants(what) {
            let load = Load::repeated(vec![packet.payload([0; 100]).build()]);
            let samples = rounds(ROUNDS, &mut [subject.over(errors, &load)?, subject.yardstick()?])?;
            let line = Line::new(Group::Received, what, 1, Unit::Nanoseconds, &samples[0]);
            session.add(line.against(YARDSTICK, &samples[0], &samples[1]));
        }
    }
    Ok(())
}
