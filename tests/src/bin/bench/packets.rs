//! What a packet costs that is not copied, by the number of filters.

use anyhow::{Result, ensure};
use std::net::IpAddr;
use traffic_mirror::kernel::{Attachment, Role};
use traffic_mirror::network::{Direction, LinkKind};
use traffic_mirror_tests::lab::packet::eth;
use traffic_mirror_tests::oracle::large;
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::references::Flow;

use crate::files::{File, all_fields, crossed, crossings, strangers};
use crate::race::{Load, dress, frame, race};
use crate::report::{Group, Line, Unit};
use crate::session::Session;
use crate::subject::{FLOWS, Subject};
use crate::{LIMITED_FILTERS, SEED};

const ROUNDS: usize = 15;
const SIZES: [usize; 6] = [0, 1, 100, 1_000, 10_000, 16_384];
/// Packets that are chosen at random: the cost is their mean.
const SAMPLE: usize = 32;
/// Most that an unmatched packet may cost over the empty program, ns: IPv4 and IPv6, up to 10,000
/// filters.
const LIMITS_NS: [f64; 2] = [18.0, 28.0];

/// The look-ups over the same packets.
pub(crate) const SAME: &str = "look-ups, same packets";
/// Random look-ups over random packets, the same beside all files.
pub(crate) const YARDSTICK: &str = "look-ups, random packets";

/// Both with all that there is around a run.
pub(crate) const EMPTY: &str = "the empty program";

/// How the names of lines end of which each run meets another flow.
const MIXED: &str = "mixed flows";

/// Names that plots and tables know.
pub(crate) const OUTSIDE: &str = "outside, IPv4 TCP";
pub(crate) const OUTSIDE_MIXED: &str = "outside, IPv4 TCP, mixed flows";
pub(crate) const INSIDE: &str = "random inside, IPv4 TCP";
pub(crate) const INSIDE_MIXED: &str = "random inside, IPv4 TCP, mixed flows";
pub(crate) const LISTED: &str = "every field listed somewhere, IPv4 TCP";
pub(crate) const LISTED_MIXED: &str = "every field listed somewhere, IPv4 TCP, mixed flows";
pub(crate) const WORST: &str = "worst file and packets, IPv4 TCP, mixed flows";
pub(crate) const MATCHED: &str = "matched, no route, IPv4 TCP";
pub(crate) const MATCHED_MIXED: &str = "matched, no route, IPv4 TCP, mixed flows";

/// Usual kinds of files, each beside random packets of the internet: one after the other, and
/// mixed.
const KINDS: [([&str; 2], File, usize); 3] = [
    (
        ["random, beside hosts and ports, IPv4 TCP", HOSTS],
        large::hosts_and_ports,
        10_000,
    ),
    (
        ["random, beside networks and ranges, IPv4 TCP", TYPICAL],
        large::typical,
        10_000,
    ),
    (
        ["random, beside lists of networks, IPv4 TCP", LISTS],
        large::lists,
        1_000,
    ),
];
pub(crate) const HOSTS: &str = "random, beside hosts and ports, IPv4 TCP, mixed flows";
pub(crate) const TYPICAL: &str = "random, beside networks and ranges, IPv4 TCP, mixed flows";
pub(crate) const LISTS: &str = "random, beside lists of networks, IPv4 TCP, mixed flows";

/// All of it. What the look-ups mirror goes out of `output`.
pub(crate) fn packets(session: &mut Session, output: u32) -> Result<()> {
    session.heading(&format!(
        "A packet that nothing matches: ns over the empty program, median (quartiles) of {ROUNDS} rounds, against look-ups in \
         lists of 50"
    ));
    for filters in SIZES {
        mixed(session, output, filters)?;
    }
    for (names, file, filters) in KINDS {
        kind(session, output, names, file, filters)?;
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
    let raced = race(ROUNDS, &mut runners)?;
    let ours = &raced[0];
    let is_limited = what.starts_with("outside")
        && !what.ends_with(MIXED)
        && (1..=LIMITED_FILTERS).contains(&filters);
    let mut line = Line::new(group, what, filters, Unit::Nanoseconds, &ours.over)
        .against(YARDSTICK, &ours.over, &raced[1].over)
        .limit(is_limited.then_some(LIMITS_NS[usize::from(is_v6)]));
    if let Some(same) = raced.get(2) {
        line = line.against(SAME, &ours.over, &same.over);
    }
    // with mixed flows there is more around a run
    if !what.ends_with(MIXED) {
        line = line.against(EMPTY, &ours.whole, &ours.empty);
    }
    session.add(line);
    Ok(())
}

/// Packets beside a file of `large::mixed`.
enum Case {
    /// This one.
    Frame(Vec<u8>),
    /// Random ones of the internet, IPv6 if so.
    Strangers(bool),
    /// See [`Subject::inside`]; those that so many filters match.
    Inside {
        v6: bool,
        source: Option<IpAddr>,
        wanted_port: bool,
        matching: usize,
    },
}

fn cases() -> Result<Vec<(&'static str, Case)>> {
    let outside4: Flow = ("192.0.2.1".parse()?, "198.51.100.2".parse()?, 40_000, 443);
    let outside6: Flow = ("2001:db8::1".parse()?, "2001:db8::2".parse()?, 40_000, 443);
    let inside = |v6, source, wanted_port, matching| Case::Inside {
        v6,
        source,
        wanted_port,
        matching,
    };
    let mut cases: Vec<_> = outside(&outside4, &outside6)
        .map(|(what, frame)| (what, Case::Frame(frame)))
        .into();
    cases.extend([
        (OUTSIDE_MIXED, Case::Strangers(false)),
        ("outside, IPv6 TCP, mixed flows", Case::Strangers(true)),
        (
            "from outside to random inside, IPv4 TCP",
            inside(false, Some(outside4.0), false, 0),
        ),
        (
            "from outside to random inside, IPv6 TCP",
            inside(true, Some(outside6.0), false, 0),
        ),
        (INSIDE, inside(false, None, false, 0)),
        (INSIDE_MIXED, inside(false, None, false, 0)),
        (
            "random inside, IPv4 TCP to a wanted port",
            inside(false, None, true, 0),
        ),
        ("random inside, IPv6 TCP", inside(true, None, false, 0)),
        (
            "random inside, IPv6 TCP, mixed flows",
            inside(true, None, false, 0),
        ),
        (
            "random inside, IPv6 TCP to a wanted port",
            inside(true, None, true, 0),
        ),
        (MATCHED, inside(false, None, true, 1)),
        (MATCHED_MIXED, inside(false, None, true, 1)),
        ("matched, no route, IPv6 TCP", inside(true, None, true, 1)),
    ]);
    Ok(cases)
}

/// Networks, ports and protocols as they come, half of the filters for IPv6.
fn mixed(session: &mut Session, output: u32, filters: usize) -> Result<()> {
    let cases: Vec<_> = cases()?
        .into_iter()
        .filter(|(what, _)| session.wants(what))
        .collect();
    if cases.is_empty() {
        return Ok(());
    }
    let mut random = Random::new(SEED);
    let subject = Subject::new(&large::mixed(&mut random, filters), output)?;
    for (what, case) in cases {
        let count = if what.ends_with(MIXED) { FLOWS } else { SAMPLE };
        let (group, flows) = match case {
            Case::Frame(frame) => {
                compare(
                    session,
                    &subject,
                    Group::Unmatched,
                    what,
                    filters,
                    &Load::repeated(vec![frame]),
                )?;
                continue;
            }
            Case::Strangers(v6) => {
                let unmatched =
                    strangers(&mut random, v6).filter(|flow| subject.matches(flow) == 0);
                (Group::Unmatched, unmatched.take(count).collect())
            }
            Case::Inside {
                v6,
                source,
                wanted_port,
                matching,
            } => {
                let group = if matching == 0 {
                    Group::Unmatched
                } else {
                    Group::Matched
                };
                (
                    group,
                    subject.inside(&mut random, source, v6, wanted_port, matching, count),
                )
            }
        };
        if filters == 0 && !what.starts_with("outside") || flows.is_empty() {
            continue;
        }
        let before = subject.packets_matched()?;
        let load = if what.ends_with(MIXED) {
            Load::mixed(flows, 100)
        } else {
            each(&flows)
        };
        compare(session, &subject, group, what, filters, &load)?;
        let has_matched = subject.packets_matched()? > before;
        ensure!(
            has_matched == (group == Group::Matched),
            "{what}: packets have matched: {has_matched}"
        );
    }
    Ok(())
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
        (
            "outside, IPv4 TCP, VLAN tag in the frame",
            dress(v4, 100, |packet| packet.vlan(7)),
        ),
        ("outside, IPv6 TCP", frame(v6, 100)),
        ("outside, IPv6 UDP", end(ip(v6).udp(v6.2, v6.3))),
        (
            "outside, IPv6 TCP behind an extension header",
            end(ip(v6).destination_options().tcp(v6.2, v6.3)),
        ),
        ("unwanted protocol, IPv4 ICMP", end(ip(v4).icmp(8, 0))),
        (
            "unwanted protocol, IPv4 SCTP",
            end(ip(v4).raw(SCTP, ports(v4))),
        ),
        (
            "unwanted protocol, IPv6 SCTP",
            end(ip(v6).raw(SCTP, ports(v6))),
        ),
    ]
}

/// Whatever comes to a host, beside a file of a usual kind.
fn kind(
    session: &mut Session,
    output: u32,
    names: [&str; 2],
    file: File,
    filters: usize,
) -> Result<()> {
    if !session.wants_any(&names) {
        return Ok(());
    }
    let mut random = Random::new(SEED);
    let subject = Subject::new(&file(&mut random, filters), output)?;
    let flows = strangers(&mut random, false).filter(|flow| subject.matches(flow) == 0);
    let flows: Vec<Flow> = flows.take(FLOWS).collect();
    let [once, mixed] = names;
    for (what, load) in [
        (once, each(&flows[..SAMPLE])),
        (mixed, Load::mixed(flows, 100)),
    ] {
        if session.wants(what) {
            compare(session, &subject, Group::Unmatched, what, filters, &load)?;
        }
    }
    Ok(())
}

/// All fields of all filters, and packets that have each field of another one.
fn listed(session: &mut Session, output: u32, filters: usize) -> Result<()> {
    let names = [
        "every field listed somewhere, IPv6 TCP",
        "every field listed somewhere, IPv6 TCP, mixed flows",
    ];
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
            compare(
                session,
                &subject,
                Group::Unmatched,
                once,
                filters,
                &each(&crossed[..SAMPLE]),
            )?;
        }
        if session.wants(mixed) {
            compare(
                session,
                &subject,
                Group::Unmatched,
                mixed,
                filters,
                &Load::mixed(crossed, 100),
            )?;
        }
    }
    ensure!(subject.packets_matched()? == 0, "a packet has matched");
    Ok(())
}

/// The most that somebody can bring about who chooses both, the file and the packets.
fn worst(session: &mut Session, output: u32, filters: usize) -> Result<()> {
    if !session.wants(WORST) {
        return Ok(());
    }
    let (text, flows) = crossed(&mut Random::new(SEED), filters);
    let subject = Subject::new(&text, output)?;
    compare(
        session,
        &subject,
        Group::Unmatched,
        WORST,
        filters,
        &Load::mixed(flows, 100),
    )
}

fn each(flows: &[Flow]) -> Load {
    Load::repeated(flows.iter().map(|flow| frame(flow, 100)).collect())
}

/// What the program costs that looks for errors about copies.
fn received(session: &mut Session, output: u32) -> Result<()> {
    let (ip4, ip6) = (
        eth().ip("10.0.0.1", "10.0.0.2"),
        eth().ip("2001:db8::1", "2001:db8::2"),
    );
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
    let role = Role::Errors {
        generation: subject.loaded.generation().number(),
    };
    let attachment = Attachment {
        role,
        interface: 0,
        direction: Direction::Ingress,
    };
    let errors = subject
        .loaded
        .generation()
        .program_of(attachment, LinkKind::Ethernet)?;
    for (what, packet) in packets {
        if session.wants(what) {
            let load = Load::repeated(vec![packet.payload([0; 100]).build()]);
            let raced = race(
                ROUNDS,
                &mut [subject.over(&errors, &load)?, subject.yardstick()?],
            )?;
            let line = Line::new(Group::Received, what, 1, Unit::Nanoseconds, &raced[0].over);
            session.add(line.against(YARDSTICK, &raced[0].over, &raced[1].over));
        }
    }
    Ok(())
}
