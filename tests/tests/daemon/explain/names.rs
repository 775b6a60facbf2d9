//! Names of servers in a capture.

use anyhow::{Result, ensure};
use serde_json::Value;
use traffic_mirror_tests::lab::TempDir;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::hello::client_hello;
use traffic_mirror_tests::lab::packet::{Tcp, eth};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::quic::{Client, Hello, crypto};

use super::{ETHERNET, capture, explain};
use crate::site::{SITE, Site};

/// The names of servers are those of the capture: hello in two segments, an answer, another name.
#[test]
fn a_capture_has_the_names_of_its_connections() -> Result<()> {
    let site = Site::new()?;
    let rules = "[[filter]]\nname = \"shop\"\nprotocol = [\"tcp\"]\nserver_name = [\"*.shop.example\"]\nto = [\"ids\"]\n";
    let daemon = Daemon::start(&site.edge, &(SITE.to_owned() + rules))?;
    let segment = |port: u16, is_client: bool, flags: u8, at: u32, said: &[u8]| {
        let (ends, ports) = match is_client {
            true => (["10.0.0.1", "10.0.0.2"], [port, 443]),
            false => (["10.0.0.2", "10.0.0.1"], [443, port]),
        };
        let (sequence, acknowledgement) = if is_client { (at, 1) } else { (1, at) };
        let tcp = Tcp {
            sequence,
            acknowledgement,
            flags,
            ..Tcp::new(ports[0], ports[1])
        };
        eth().ip(ends[0], ends[1]).layer(tcp).payload(said).build()
    };
    let mut frames = Vec::new();
    for (port, name) in [(1000, "a.shop.example"), (2000, "other.example")] {
        let hello = client_hello(name, 0);
        let end = 101 + hello.len() as u32;
        frames.extend([
            segment(port, true, Tcp::SYN, 100, &[]),
            segment(port, true, Tcp::ACK, 131, &hello[30..]),
            segment(port, true, Tcp::ACK, 101, &hello[..30]),
            segment(port, false, Tcp::ACK, end, b"answer"),
            segment(port, true, Tcp::ACK, end, b"more"),
        ]);
    }
    let found = matches(&daemon, &frames)?;
    // of another name what comes before the hello is whole
    assert_eq!(found, [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
    Ok(())
}

/// The same in QUIC: a hello in two datagrams, an answer, the client's proof, another name.
#[test]
fn a_capture_has_the_names_of_its_flows_of_quic() -> Result<()> {
    let site = Site::new()?;
    let rules = "[[filter]]\nname = \"shop\"\nprotocol = [\"udp\"]\nserver_name = [\"*.shop.example\"]\nto = [\"ids\"]\n";
    let daemon = Daemon::start(&site.edge, &(SITE.to_owned() + rules))?;
    let mut frames = Vec::new();
    for (port, name) in [(1000, "a.shop.example"), (2000, "other.example")] {
        let mut random = Random::new(port.into());
        let message = Hello::of(name).message(&mut random);
        let mut client = Client {
            source: vec![1; 8],
            ..Client::new(&[2; 8])
        };
        let halves = [&message[..9], &message[9..]];
        let server = Client {
            destination: vec![1; 8],
            source: vec![3; 8],
            ..client.clone()
        };
        let proof = [&[0x40][..], &[3; 8], &[9; 50]].concat();
        let said = [
            (true, client.datagram(&crypto(9, halves[1]))),
            (true, client.datagram(&crypto(0, halves[0]))),
            (false, server.long(2, &[4; 300])),
            (true, proof.clone()),
            (true, proof),
        ];
        for (is_client, payload) in said {
            let (ends, ports) = match is_client {
                true => (["10.0.0.1", "10.0.0.2"], [port, 443]),
                false => (["10.0.0.2", "10.0.0.1"], [443, port]),
            };
            let packet = eth().ip(ends[0], ends[1]).udp(ports[0], ports[1]);
            frames.push(packet.payload(payload).build());
        }
    }
    // a name that is not read is not known
    frames.push(eth().ip("10.0.0.3", "10.0.0.2").udp(1, 443).build());
    let found = matches(&daemon, &frames)?;
    assert_eq!(found, [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
    Ok(())
}

/// How many filters match each frame.
fn matches(daemon: &Daemon, frames: &[Vec<u8>]) -> Result<Vec<usize>> {
    let directory = TempDir::new()?;
    let path = directory.path().join("a.pcap");
    capture(&path, frames, false, ETHERNET)?;
    let question = "--interface eth0 --direction ingress --json --pcap";
    let (code, answer, said) = explain(daemon, &format!("{question} {}", path.display()))?;
    ensure!((code, &*said) == (0, ""), "{code} {said}");
    let answer: Value = serde_json::from_str(&answer)?;
    let matches = |at: usize| answer["verdicts"][at]["matches"].as_array().map(Vec::len);
    Ok((0..frames.len()).filter_map(matches).collect())
}
