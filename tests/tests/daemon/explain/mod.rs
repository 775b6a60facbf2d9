//! `explain`: what happens to a packet, and why; nothing is sent, nothing is counted.

mod names;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::packet::{Packet, eth};
use traffic_mirror_tests::lab::tun::Tun;
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use crate::site::{SITE, Site, status_of};

const RULES: &str = r#"
[endpoint.other]
address = "192.0.2.10"
port = 6081

[endpoint.unreachable]
address = "203.0.113.1"

[[filter]]
name = "dns"
protocol = ["udp"]
destination_port = [53, "5353-5360"]
to = ["ids", "other"]

[[filter]]
name = "lan"
source = ["10.0.0.0/24", "2001:db8::/32"]
to = ["unreachable"]

[[filter]]
name = "not-twice"
action = "exclude"
source = ["10.0.0.1"]
to = ["other"]

[[filter]]
name = "outgoing"
protocol = ["udp"]
direction = "egress"
bidirectional = true
destination = ["10.0.0.1"]
to = ["ids"]

[[filter]]
name = "web"
protocol = ["tcp"]
destination_port = [53]
to = ["ids"]

[[filter]]
name = "web-nearby"
protocol = ["tcp"]
destination_port = [80]
to = ["ids"]
"#;

/// Exit code, standard output, standard error.
fn explain(daemon: &Daemon, args: &str) -> Result<(i32, String, String)> {
    let args: Vec<&str> = ["explain"]
        .into_iter()
        .chain(args.split_whitespace())
        .collect();
    let output = daemon.run(&args)?;
    Ok((
        process::code(output.status),
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}

fn start(site: &Site) -> Result<Daemon> {
    let mut daemon = Daemon::spawn(&site.edge, &(SITE.to_owned() + RULES), Launch::default())?;
    daemon.ready(deadline())?;
    Ok(daemon)
}

const DNS: &str = "--interface eth0 --direction ingress --protocol udp --source 10.0.0.1 --source-port 999 \
                   --destination 10.0.0.254 --destination-port 53";

const ANSWER: &str = "matches  dns: mirror to ids, other\n\
                      matches  lan: mirror to unreachable\n\
                      matches  not-twice: exclude from other\n\
                      misses   outgoing: on is eth0 ingress, the filter wants eth0 egress\n\
                      misses   web: protocol is udp, the filter wants tcp\n\
                      excluded other\n\
                      goes to  ids: 192.0.2.10 port 6080 by eth1\n\
                      goes to  unreachable: dropped, no-route\n";

#[test]
fn each_filter_says_why_and_nothing_happens() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = start(&site)?;
    let before = status_of(&daemon)?;
    assert_eq!(
        explain(&daemon, DNS)?,
        (0, ANSWER.to_owned(), String::new())
    );
    let cases = [
        (
            DNS.replace("--destination-port 53", "--destination-port 5361"),
            "misses   dns: destination_port is 5361, the filter wants 53, 5353-5360\n",
        ),
        (
            DNS.replace("10.0.0.1", "10.0.1.1"),
            "misses   lan: source is 10.0.1.1, the filter wants 10.0.0.0/24, 2001:db8::/32\n",
        ),
        (DNS.replace("ingress", "egress"), "matches  outgoing: mirror to ids\n"),
        (
            DNS.replace("10.0.0.1", "2001:db8::1").replace("10.0.0.254", "2001:db8::2"),
            "matches  lan: mirror to unreachable\n",
        ),
        (
            "--interface eth0 --direction egress --protocol icmp --source 10.9.9.9 --destination 10.9.9.8".to_owned(),
            "goes nowhere\n",
        ),
    ];
    for (question, line) in cases {
        let (code, text, stderr) = explain(&daemon, &question)?;
        assert!(
            code == 0 && text.contains(line),
            "{question}: {code} {text} {stderr}"
        );
    }
    assert_eq!(status_of(&daemon)?, before, "something was counted");
    assert!(site.surplus()?.is_empty(), "something was sent");

    // the kernel has the answer, not the daemon
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    let (code, answer, _) = explain(&daemon, &format!("{DNS} --json"))?;
    let answer: Value = serde_json::from_str(&answer)?;
    assert_eq!((code, &answer["packet"]["protocol"]), (0, &json!("udp")));
    assert_eq!(
        answer["matches"][2],
        json!({ "filter": "not-twice", "action": "exclude", "to": ["other"] })
    );
    assert_eq!(
        (&answer["excluded"], &answer["goes_to"][1]["state"]),
        (&json!(["other"]), &json!("no-route"))
    );
    assert_eq!(
        answer["near_misses"][1],
        json!({ "filter": "web", "field": "protocol", "has": "udp", "wants": ["tcp"] })
    );
    process::succeed(&mut daemon.command("detach")?, deadline())?;
    let (code, stdout, stderr) = explain(&daemon, DNS)?;
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(
        stderr.starts_with("nothing is mirrored: no maps are pinned below "),
        "{stderr}"
    );
    site.bare(daemon.pin_path())
}

/// Link types of captures.
const ETHERNET: u32 = 1;
const RAW: u32 = 101;

/// A classic capture, or the newer form.
fn capture(path: &Path, frames: &[Vec<u8>], ng: bool, link: u32) -> Result<()> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut words = |words: &[u32]| {
        words
            .iter()
            .for_each(|word| bytes.extend(word.to_le_bytes()))
    };
    if ng {
        words(&[
            0x0a0d_0d0a,
            28,
            0x1a2b_3c4d,
            1,
            u32::MAX,
            u32::MAX,
            28,
            1,
            20,
            link,
            0,
            20,
        ]);
    } else {
        words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link]);
    }
    for frame in frames {
        let length = frame.len() as u32;
        let padded = frame.len().next_multiple_of(4);
        let mut words = |words: &[u32]| {
            words
                .iter()
                .for_each(|word| bytes.extend(word.to_le_bytes()))
        };
        if ng {
            words(&[6, padded as u32 + 32, 0, 0, 0, length, length]);
            bytes.extend(frame);
            bytes.resize(bytes.len() + padded - frame.len(), 0);
            bytes.extend((padded as u32 + 32).to_le_bytes());
        } else {
            words(&[0, 0, length, length]);
            bytes.extend(frame);
        }
    }
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

#[test]
fn each_packet_of_a_capture_has_its_verdict() -> Result<()> {
    let mut site = Site::new()?;
    let daemon = start(&site)?;
    let before = status_of(&daemon)?;
    let directory = TempDir::new()?;
    let mut arp = vec![0xff; 12];
    arp.extend([0x08, 0x06]);
    arp.resize(60, 0);
    let frames = [
        eth()
            .ip("10.0.0.1", "10.0.0.254")
            .udp(999, 53)
            .payload("to be mirrored")
            .build(),
        eth()
            .vlan(7)
            .ip("10.9.0.1", "10.9.0.2")
            .udp(1, 5355)
            .payload("behind a tag")
            .build(),
        arp,
        eth()
            .ip("10.9.0.1", "10.9.0.2")
            .udp(1, 2)
            .payload(vec![0; 8000])
            .build(),
        eth()
            .ip("2001:db8::1", "2001:db8::2")
            .udp(1, 2)
            .payload("six")
            .build(),
    ];
    let expected = "     1  udp 10.0.0.1:999 -> 10.0.0.254:53: dns, lan, not-twice, goes to ids, unreachable\n     \
                    2  udp 10.9.0.1:1 -> 10.9.0.2:5355 in VLAN 7: dns, goes to ids, other\n     \
                    3  skipped: not-ip\n     \
                    4  udp 10.9.0.1:1 -> 10.9.0.2:2: no filter\n     \
                    5  udp [2001:db8::1]:1 -> [2001:db8::2]:2: lan, goes to unreachable\n\
                    5 packets, 2 to ids, 1 to other, 2 to unreachable\n";
    for ng in [false, true] {
        let path = directory
            .path()
            .join(if ng { "a.pcapng" } else { "a.pcap" });
        capture(&path, &frames, ng, ETHERNET)?;
        let question = format!(
            "--interface eth0 --direction ingress --pcap {}",
            path.display()
        );
        assert_eq!(
            explain(&daemon, &question)?,
            (0, expected.to_owned(), String::new()),
            "{}",
            path.display()
        );
        let (_, answer, _) = explain(&daemon, &format!("{question} --json"))?;
        let answer: Value = serde_json::from_str(&answer)?;
        assert_eq!(
            (
                &answer["verdicts"][2]["skipped"],
                &answer["verdicts"][4]["packet"]["source_port"]
            ),
            (&json!("not-ip"), &json!(1))
        );
    }
    assert_eq!(status_of(&daemon)?, before, "something was counted");
    assert!(site.surplus()?.is_empty(), "something was sent");
    fs::write(directory.path().join("b"), "no capture")?;
    let (code, _, stderr) = explain(
        &daemon,
        &format!(
            "--interface eth0 --direction egress --pcap {}/b",
            directory.path().display()
        ),
    )?;
    assert!(
        code == 1 && stderr.starts_with("error: cannot read "),
        "{code} {stderr}"
    );
    Ok(())
}

/// An interface without link headers, by question and by a capture of it.
#[test]
fn packets_without_a_link_header() -> Result<()> {
    let site = Site::new()?;
    let _tun = Tun::create(&site.edge, "tun0")?;
    let file = (SITE.to_owned() + RULES).replace("name = \"eth0\"", "name = \"tun0\"");
    let daemon = Daemon::start(&site.edge, &file)?;
    let question = DNS.replace("eth0", "tun0");
    let answer = ANSWER.replace("eth0", "tun0");
    assert_eq!(explain(&daemon, &question)?, (0, answer, String::new()));
    let (code, _, stderr) = explain(&daemon, &format!("{question} --vlan 7"))?;
    assert!(
        code == 1 && stderr.contains("no link header") && stderr.contains("leave out --vlan"),
        "{code} {stderr}"
    );
    let directory = TempDir::new()?;
    let packets = [("10.0.0.1", "10.0.0.254"), ("2001:db8::1", "2001:db8::2")].map(|(from, to)| {
        Packet::new()
            .ip(from, to)
            .udp(999, 53)
            .payload("raw")
            .build()
    });
    let expected = "     1  udp 10.0.0.1:999 -> 10.0.0.254:53: dns, lan, not-twice, goes to ids, unreachable\n     \
                    2  udp [2001:db8::1]:999 -> [2001:db8::2]:53: dns, lan, goes to ids, other, unreachable\n\
                    2 packets, 2 to ids, 1 to other, 2 to unreachable\n";
    for ng in [false, true] {
        let path = directory.path().join("raw");
        capture(&path, &packets, ng, RAW)?;
        let question = format!(
            "--interface tun0 --direction ingress --pcap {}",
            path.display()
        );
        assert_eq!(
            explain(&daemon, &question)?,
            (0, expected.to_owned(), String::new())
        );
    }
    capture(&directory.path().join("cooked"), &packets, false, 113)?;
    let question = format!(
        "--interface tun0 --direction ingress --pcap {}/cooked",
        directory.path().display()
    );
    let (code, _, stderr) = explain(&daemon, &question)?;
    assert!(
        code == 1 && stderr.contains("use Ethernet or raw IP"),
        "{code} {stderr}"
    );
    Ok(())
}

#[test]
fn a_question_without_sense_is_refused() -> Result<()> {
    let site = Site::new()?;
    let daemon = start(&site)?;
    let cases = [
        (DNS.replace("udp", "tpc"), 64, "did you mean \"tcp\"?"),
        (
            DNS.replace(" --destination-port 53", ""),
            64,
            "give --source-port and --destination-port",
        ),
        (
            DNS.replace("udp", "icmp"),
            64,
            "leave out --source-port and --destination-port",
        ),
        (
            DNS.replace("10.0.0.1", "2001:db8::1"),
            64,
            "must both be IPv4 or both be IPv6",
        ),
        (DNS.replace("--protocol udp ", ""), 64, "--protocol"),
        (format!("{DNS} --pcap a"), 64, "cannot be used with"),
        (DNS.replace("eth0", "eth7"), 1, "there is no interface eth7"),
        (
            DNS.replace("eth0", "eth1"),
            1,
            "eth1 ingress is not monitored, the file does not list it; monitored: eth0 ingress, eth0 egress",
        ),
    ];
    for (question, wanted, said) in cases {
        let (code, stdout, stderr) = explain(&daemon, &question)?;
        assert_eq!(
            (code, stdout.as_str()),
            (wanted, ""),
            "{question}: {stderr}"
        );
        assert!(stderr.contains(said), "{question}: {stderr}");
    }
    Ok(())
}
