use anyhow::{Context as _, Result};
use aya::programs::SchedClassifier;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::{Flow, Listed, Lookups, Mixer, bare_clone};
use crate::lab::foreign::{Foreign, Verdict};
use crate::lab::netns::Netns;
use crate::lab::packet::{Ip, eth, ip_part};
use crate::lab::testrun::TestRun;
use crate::lab::veth::veth;

/// A namespace in which nothing is sent by itself, and the index of an interface.
fn stage() -> Result<(Netns, u32)> {
    let netns = Netns::new("references")?;
    netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    veth(&netns, "out", &netns, "peer")?;
    let index = netns.index("out")?;
    Ok((netns, index))
}

/// How many packets a run gives to the interface.
fn copies(netns: &Netns, program: &SchedClassifier, frame: &[u8], repeat: u32) -> Result<u64> {
    let sent = || -> Result<u64> {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let line = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix("out:"));
        let packets = line
            .and_then(|line| line.split_whitespace().nth(9))
            .context("no count of packets sent")?;
        Ok(packets.parse()?)
    };
    netns.enter(|| {
        let before = sent()?;
        TestRun {
            repeat,
            ..TestRun::new(frame)
        }
        .run(program)?;
        Ok(sent()? - before)
    })
}

#[test]
fn a_bare_clone_is_a_copy_of_each_packet() -> Result<()> {
    let (netns, out) = stage()?;
    let frame = eth().ip("10.0.0.1", "10.0.0.2").tcp(1, 2).build();
    assert_eq!(
        copies(&netns, &bare_clone(out)?.classifier()?, &frame, 100)?,
        100
    );
    Ok(())
}

#[test]
fn the_lookups_mirror_what_is_listed_in_each_field() -> Result<()> {
    let (netns, out) = stage()?;
    let listed = Listed {
        sources: (0..50)
            .map(|host| (Ipv4Addr::new(10, 0, 0, host), 32))
            .collect(),
        protocols: vec![6, 1],
        source_ports: (1000..1050).collect(),
        destination_ports: (80..130).collect(),
    };
    let lookups = Lookups::new(&listed, out)?;
    let from = |source: &str| eth().ip(source, "192.0.2.1");
    let wanted = [
        // no rule asked for this port together with this source, and nothing keeps them together
        from("10.0.0.1").tcp(1049, 80),
        from("10.0.0.49").tcp(1000, 129),
        from("10.0.0.1").icmp(8, 0),
    ];
    let unwanted = [
        from("10.0.0.50").tcp(1000, 80),
        from("10.0.0.1").udp(1000, 80),
        from("10.0.0.1").tcp(999, 80),
        from("10.0.0.1").tcp(1000, 130),
        from("10.0.0.50").icmp(8, 0),
        eth().ip("2001:db8::1", "2001:db8::2").tcp(1000, 80),
    ];
    for (packets, each) in [(&wanted[..], 1), (&unwanted[..], 0)] {
        for packet in packets {
            let frame = packet.clone().payload([0; 30]).build();
            assert_eq!(
                copies(&netns, lookups.program(), &frame, 10)?,
                10 * each,
                "{packet:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn each_run_behind_the_mixer_meets_one_of_the_flows() -> Result<()> {
    let netns = Netns::new("references")?;
    let next = Foreign::load("next", Verdict::Next)?;
    for [source, destination] in [["10.0.0.1", "192.0.2.1"], ["2001:db8::1", "2001:db8::2"]] {
        let (source, destination): (IpAddr, IpAddr) = (source.parse()?, destination.parse()?);
        let flows: Vec<Flow> = (0..4)
            .map(|port| (source, destination, 1000 + port, port))
            .collect();
        let mixer = Mixer::new(&flows, &next.classifier()?)?;
        let frame = eth()
            .ip(source, destination)
            .tcp(1, 2)
            .payload([7; 30])
            .build();
        let mut seen = BTreeSet::new();
        netns.enter(|| {
            for _ in 0..200 {
                let outcome = TestRun::new(&frame).run(mixer.program())?;
                let ip = Ip::parse(ip_part(&outcome.data)?)?;
                let port = |at: usize| u16::from_be_bytes([ip.upper[at], ip.upper[at + 1]]);
                seen.insert((ip.source, ip.destination, port(0), port(2)));
                assert!(outcome.data.ends_with(&[7; 30]));
                assert_eq!(outcome.verdict, Verdict::Next as i32);
            }
            Ok(())
        })?;
        assert_eq!(seen, flows.into_iter().collect());
    }
    Ok(())
}
