//! What a copy costs, all the way: cloned, wrapped, given to a NIC that drops it at once. A bare
//! clone to a NIC of the same kind is what no mirror can do without.

use anyhow::{Result, ensure};
use std::net::IpAddr;

use aya::programs::TcAttachType;
use aya::programs::tc::SchedClassifierLinkId;
use traffic_mirror_ebpf::abi::EndpointStats;
use traffic_mirror_tests::lab::foreign::{Foreign, Verdict};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::veth::veth;
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::references::{Flow, bare_clone};

use crate::SEED;
use crate::files::all_fields;
use crate::race::{Load, frame, race};
use crate::report::{Group, Line, Unit};
use crate::session::Session;
use crate::stage;
use crate::subject::{Subject, reaching};

const ROUNDS: usize = 15;
const FILTERS: usize = 10_000;

pub(crate) const BARE: &str = "a bare clone";

/// A namespace with two NICs of the same kind. Their peers drop what they get, as early as a
/// receiver can.
pub(crate) struct Nics {
    pub(crate) netns: Netns,
    _drop: Foreign,
    /// For our copies.
    out: u32,
    /// For those of the references.
    pub(crate) bare: u32,
}

impl Nics {
    pub(crate) fn new() -> Result<Self> {
        let netns = Netns::new("bench")?;
        netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        let mut drop = Foreign::load("drop", Verdict::Drop)?;
        for name in ["out", "bare"] {
            let peer = format!("{name}-peer");
            veth(&netns, name, &netns, &peer)?;
            stage::attach(&mut drop, &netns, &peer)?;
        }
        let (out, bare) = (netns.index("out")?, netns.index("bare")?);
        Ok(Self {
            netns,
            _drop: drop,
            out,
            bare,
        })
    }
}

/// A case: what is copied, and how.
struct Case {
    what: &'static str,
    /// Outer addresses.
    endpoint: &'static str,
    source: &'static str,
    load: Load,
    /// The file without interface and endpoint.
    filters: Filters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Filters {
    /// One that asks for TCP.
    One,
    /// Many that ask for all fields of a flow each.
    Many,
}

/// All of it, in the namespace of the NICs.
pub(crate) fn copied(session: &mut Session, nics: &Nics) -> Result<()> {
    session.heading(&format!(
        "A packet that is copied: ns over the empty program, median (quartiles) of {ROUNDS} rounds, against {BARE}"
    ));
    let (many, flows) = all_fields(&mut Random::new(SEED), FILTERS);
    for case in cases(&flows) {
        if session.wants(case.what) {
            copy(session, nics, &case, &many)?;
        }
    }
    Ok(())
}

fn cases(flows: &[Flow]) -> Vec<Case> {
    let (v4, v6): (Vec<Flow>, Vec<Flow>) = flows.iter().partition(|flow| flow.0.is_ipv4());
    let over4 = |what, load, filters| Case {
        what,
        endpoint: "192.0.2.1",
        source: "192.0.2.9",
        load,
        filters,
    };
    let over6 = |what, load, filters| Case {
        what,
        endpoint: "2001:db8::1",
        source: "2001:db8::9",
        load,
        filters,
    };
    let once = |flow: &Flow, payload| Load::repeated(vec![frame(flow, payload)]);
    // as many as caches of a host have to do with
    let mixed = |flows: &[Flow]| Load::mixed(flows[..1024].to_vec(), 100);
    vec![
        over4(
            "copied over IPv4, IPv4 TCP of 64 bytes",
            once(&v4[0], 10),
            Filters::One,
        ),
        over4(
            "copied over IPv4, IPv4 TCP of 154 bytes",
            once(&v4[0], 100),
            Filters::One,
        ),
        over4(
            "copied over IPv4, IPv4 TCP of 1454 bytes",
            once(&v4[0], 1400),
            Filters::One,
        ),
        over4(
            "copied over IPv4, IPv4 TCP, mixed flows",
            mixed(&v4),
            Filters::One,
        ),
        over4(
            "copied over IPv4, IPv4 TCP, 10,000 filters of all fields",
            once(&v4[0], 100),
            Filters::Many,
        ),
        over4(
            "copied over IPv4, IPv4 TCP, 10,000 of all fields, mixed flows",
            mixed(&v4),
            Filters::Many,
        ),
        over4(
            "copied over IPv4, IPv6 TCP, 10,000 of all fields, mixed flows",
            mixed(&v6),
            Filters::Many,
        ),
        over6(
            "copied over IPv6, IPv4 TCP of 154 bytes",
            once(&v4[0], 100),
            Filters::One,
        ),
        over6(
            "copied over IPv6, IPv6 TCP, mixed flows",
            mixed(&v6),
            Filters::One,
        ),
        over4(
            "copied in two fragments over IPv4, IPv4 TCP of 1514 bytes",
            once(&v4[0], 1460),
            Filters::One,
        ),
    ]
}

fn copy(session: &mut Session, nics: &Nics, case: &Case, many: &str) -> Result<()> {
    let head = |filters: &str| {
        let endpoint = format!(
            "[endpoint.ids]\naddress = \"{}\"\nmtu = 1500\n",
            case.endpoint
        );
        format!("[[interface]]\nname = \"eth0\"\n{endpoint}{filters}")
    };
    let text = match case.filters {
        Filters::One => head("[[filter]]\nname = \"all\"\nprotocol = [\"tcp\"]\nto = [\"ids\"]\n"),
        Filters::Many => head(many.find("[[filter]]").map_or("", |at| &many[at..])),
    };
    let source: IpAddr = case.source.parse()?;
    let subject = Subject::on(&text, &reaching(nics.out, source), nics.bare)?;
    let mut encap = subject.loaded.generation().encap()?;
    let link: SchedClassifierLinkId = encap.attach(c"out", TcAttachType::Egress)?;
    let bare = bare_clone(nics.bare)?.classifier()?;
    let [ours, bare] = &race(
        ROUNDS,
        &mut [subject.ours(&case.load)?, subject.over(&bare, &case.load)?],
    )?[..] else {
        anyhow::bail!("two were in the race")
    };
    encap.detach(link)?;
    let stats = &subject.loaded.generation().endpoint_stats(1)?[0];
    let total = |pick: fn(&EndpointStats) -> u64| stats.iter().map(pick).sum::<u64>();
    let sent = total(|cpu| cpu.sent.packets);
    let matched = subject.packets_matched()?;
    ensure!(
        matched > 0 && sent == matched,
        "{}: {matched} matched, {sent} sent",
        case.what
    );
    let filters = if case.filters == Filters::One {
        1
    } else {
        FILTERS
    };
    let line = Line::new(
        Group::Copied,
        case.what,
        filters,
        Unit::Nanoseconds,
        &ours.over,
    );
    session.add(line.against(BARE, &ours.over, &bare.over));
    Ok(())
}
