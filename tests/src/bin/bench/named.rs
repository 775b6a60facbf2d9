//! What packets cost beside filters with server names, and with applications.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::cgroup::Cgroup;
use traffic_mirror_tests::lab::file;
use traffic_mirror_tests::lab::hello::client_hello;
use traffic_mirror_tests::lab::packet::{Tcp, eth};
use traffic_mirror_tests::lab::testrun::TestRun;
use traffic_mirror_tests::references::Flow;

use crate::race::{Load, race};
use crate::report::{Group, Line, Unit};
use crate::session::Session;
use crate::subject::{FLOWS, Subject};

const ROUNDS: usize = 15;
/// Names of the one filter.
const SIZES: [usize; 3] = [1, 10_000, 100_000];
/// Connections whose hello comes: so many that hardly any comes twice.
const HELLOS: usize = 1 << 19;

/// The same packets beside a filter that wants another port.
pub(crate) const UNMATCHED: &str = "nothing matches, same packets";
/// Names that tables know.
const UNDECIDED: &str = "of a connection whose hello is still to come, mixed flows";
const OTHER: &str = "of a connection to another name, mixed flows";
const WANTED: &str = "of a connection to a name of the filter, no route, mixed flows";
const HELLO: &str = "a hello with another name, mixed flows";
const LEARNED: &str = "of a known connection, on an interface with `learn`, mixed flows";

/// The packets of a test run are sent by a socket of this process.
const SENT: &str = "sent by another application, mixed flows";
/// As a packet that comes from a container, whose receiver is looked for, too.
const BOTH_ENDS: &str = "of other applications at both ends, mixed flows";

/// All of it.
pub(crate) fn named(session: &mut Session, output: u32) -> Result<()> {
    if !session.wants_any(&[UNDECIDED, OTHER, WANTED, HELLO, LEARNED]) {
        return Ok(());
    }
    session.heading(
        "A packet beside a filter with so many server names: ns over the empty program, against one of a port that no filter \
         has",
    );
    let unmatched = Subject::new(&text(444, &["shop.example".to_owned()]), output)?;
    for count in SIZES {
        let names: Vec<String> = (0..count)
            .map(|nth| format!("n{nth}.shop.example"))
            .collect();
        for (what, name) in [
            (UNDECIDED, None),
            (OTHER, Some("other.example")),
            (WANTED, Some("n0.shop.example")),
        ] {
            if !session.wants(what) {
                continue;
            }
            let subject = Subject::new(&text(443, &names), output)?;
            let flows = flows(FLOWS);
            if let Some(name) = name {
                decide(&subject, &flows, name)?;
            }
            let payload = if name.is_some() { 100 } else { 0 };
            let load = Load::mixed(flows, payload);
            compare(session, [&subject, &unmatched], what, count, [&load, &load])?;
            let is_wanted = name != Some("other.example");
            ensure!(
                (subject.packets_matched()? > 0) == is_wanted,
                "{what}: whether packets match"
            );
        }
        if session.wants(HELLO) {
            let subject = Subject::new(&text(443, &names), output)?;
            let flows = flows(HELLOS);
            let hello = client_hello("other.example", 300);
            let load = Load::mixed_with(flows.clone(), &hello);
            compare(
                session,
                [&subject, &unmatched],
                HELLO,
                count,
                [&load, &load],
            )?;
        }
    }
    if session.wants(LEARNED) {
        let plain = text(444, &[]).replace("server_name = []\n", "");
        let learning = plain.replacen("name = \"eth0\"\n", "name = \"eth0\"\nlearn = true\n", 1);
        ensure!(learning != plain, "{LEARNED}: the file says it");
        let subject = Subject::new(&learning, output)?;
        let flows = flows(FLOWS);
        decide(&subject, &flows, "shop.example")?;
        let load = Load::mixed(flows, 100);
        compare(session, [&subject, &unmatched], LEARNED, 0, [&load, &load])?;
    }
    Ok(())
}

/// A packet that a socket has sent beside a filter for another application.
pub(crate) fn applied(session: &mut Session, output: u32) -> Result<()> {
    if !session.wants_any(&[SENT, BOTH_ENDS]) {
        return Ok(());
    }
    session.heading("A packet beside a filter with an application: ns, as above");
    let subject = |port: u16, is_sent: bool| {
        let fields = format!(
            "protocol = [\"tcp\"]\ndestination_port = [{port}]\napplication = [\"/absent\"]"
        );
        let text = file::interface("eth0")
            + &file::endpoint("ids", "192.0.2.99", "")
            + &file::filter("app", &fields, "\"ids\"");
        let inbound = Subject::new(&text, output)?;
        anyhow::Ok(if is_sent { inbound.outbound() } else { inbound })
    };
    let load = Load::mixed(flows(FLOWS), 100);
    let unit = Cgroup::new("traffic-mirror-bench-", "")?;
    for (what, is_sent) in [(SENT, true), (BOTH_ENDS, false)] {
        if !session.wants(what) {
            continue;
        }
        let (subject, unmatched) = (subject(443, is_sent)?, subject(444, is_sent)?);
        // the kernel itself has sockets in the topmost cgroup, so that one is another case
        unit.enter(|| compare(session, [&subject, &unmatched], what, 1, [&load, &load]))?;
        ensure!(subject.packets_matched()? == 0, "{what}: packets match");
    }
    Ok(())
}

fn text(port: u16, names: &[String]) -> String {
    let mut fields = format!("protocol = [\"tcp\"]\ndestination_port = [{port}]\nserver_name = [");
    for name in names {
        let _ = write!(fields, "{name:?}, ");
    }
    file::interface("eth0")
        + &file::endpoint("ids", "192.0.2.99", "")
        + &file::filter("shop", &(fields + "]"), "\"ids\"")
}

fn flows(count: usize) -> Vec<Flow> {
    let server = IpAddr::from([198, 51, 100, 2]);
    let flow = |nth: u32| {
        let client = IpAddr::from((0x0a00_0000 + (nth >> 14)).to_be_bytes());
        (client, server, 1024 + (nth & 0x3fff) as u16, 443)
    };
    (0..count as u32).map(flow).collect()
}

/// Has each client ask for a name, and each server answer.
fn decide(subject: &Subject, flows: &[Flow], name: &str) -> Result<()> {
    let hello = client_hello(name, 0);
    for &(client, server, from, to) in flows {
        let ask = Tcp {
            sequence: 1,
            ..Tcp::new(from, to)
        };
        let ask = eth().ip(client, server).layer(ask).payload(&*hello).build();
        let answer = Tcp {
            acknowledgement: 1 + hello.len() as u32,
            ..Tcp::new(to, from)
        };
        let answer = eth()
            .ip(server, client)
            .layer(answer)
            .payload([0; 100])
            .build();
        for frame in [ask, answer] {
            TestRun::new(&frame).run(subject.program())?;
        }
    }
    Ok(())
}

fn compare(
    session: &mut Session,
    [subject, unmatched]: [&Subject; 2],
    what: &str,
    names: usize,
    [load, same]: [&Load; 2],
) -> Result<()> {
    let raced = race(ROUNDS, &mut [subject.ours(load)?, unmatched.ours(same)?])?;
    let line = Line::new(Group::Named, what, names, Unit::Nanoseconds, &raced[0].over);
    session.add(line.against(UNMATCHED, &raced[0].over, &raced[1].over));
    Ok(())
}
