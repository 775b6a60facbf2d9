//! Where in the kernel packets are looked at: behind XDP, before netfilter on the way in and behind
//! it on the way out.

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::routed::{CLIENT, COLLECTOR, Routed, SERVER, WEB, address, sent_to};
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use std::net::UdpSocket;
use std::time::Instant;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::foreign::drop_long_by_xdp;
use traffic_mirror_tests::lab::packet::Ip;
use traffic_mirror_tests::lab::traffic::udp_bind;

#[test]
fn what_xdp_drops_is_never_seen() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::new(&config(&filter("all", "", "\"a\"")), attach)?;
        let long = frame()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(1, 2)
            .payload(vec![7; 1400])
            .build();
        let xdp = drop_long_by_xdp(&edge.edge, "eth0")?;
        let seen = edge.pass(&long, SkbLayout::Linear, Direction::Ingress)?;
        ensure!(
            seen.originals.is_empty(),
            "{attach:?}: XDP has not dropped it"
        );
        ensure!(
            seen.copies.is_empty() && seen.moved.is_empty(),
            "{attach:?}: {:?} {:?}",
            seen.copies,
            seen.moved
        );
        drop(xdp);
        // a child of another test may have the link open until it executes its program
        let until = deadline();
        let seen = loop {
            let seen = edge.pass(&long, SkbLayout::Linear, Direction::Ingress)?;
            if !seen.originals.is_empty() {
                break seen;
            }
            ensure!(Instant::now() < until, "{attach:?}: XDP goes on");
            ensure!(seen.copies.is_empty(), "{attach:?}: {:?}", seen.copies);
        };
        ensure!(
            seen.originals == [long],
            "{attach:?}: {} originals",
            seen.originals.len()
        );
        let copies = seen.copies.get("a").map_or(0, Vec::len);
        ensure!(
            copies == 1,
            "{attach:?}: without XDP there are {copies} copies: {:?}",
            seen.moved
        );
    }
    Ok(())
}

/// A router whose netfilter counts what it does.
struct Filtered {
    lab: Routed,
    client: UdpSocket,
    server: UdpSocket,
}

const CHAINS: [&str; 4] = [
    "add table ip place",
    "add chain ip place in { type filter hook prerouting priority -300 ; }",
    "add chain ip place out { type filter hook postrouting priority 300 ; }",
    "add chain ip place nat { type nat hook postrouting priority 100 ; }",
];

impl Filtered {
    fn new(attach: Attach) -> Result<Self> {
        let lab = Routed::new(WEB, attach, 1600)?;
        CHAINS
            .iter()
            .try_for_each(|line| lab.edge.run(&format!("nft {line}")).map(drop))?;
        let client = udp_bind(&lab.client, address(CLIENT[0], 4000))?;
        let server = udp_bind(&lab.server, address(SERVER[0], 443))?;
        Ok(Self {
            lab,
            client,
            server,
        })
    }

    /// From the client or from the server, under this rule, which must hold for it: the sources of
    /// its copies.
    fn send(&mut self, from_client: bool, chain: &str, rule: &str) -> Result<Vec<String>> {
        self.lab
            .edge
            .run(&format!("nft add rule ip place {chain} {rule}"))?;
        let sent = if from_client {
            self.client.send_to(b"there", address(SERVER[0], 443))?
        } else {
            self.server.send_to(b"and back", address(CLIENT[0], 4000))?
        };
        ensure!(sent > 0, "nothing was sent");
        let list = format!("nft list chain ip place {chain}");
        let met = |rules: &str| rules.contains("counter packets 1 ");
        self.lab
            .edge
            .run_until(&list, met, deadline())
            .with_context(|| rule.to_owned())?;
        self.lab
            .edge
            .run(&format!("nft flush chain ip place {chain}"))?;
        let (copies, _) = self.lab.settle()?;
        let copies = sent_to(&copies, COLLECTOR[0])?;
        copies
            .iter()
            .map(|copy| Ok(Ip::parse(&copy.inner)?.source.to_string()))
            .collect()
    }
}

#[test]
fn netfilter_is_behind_the_hook_on_the_way_in_and_before_it_on_the_way_out() -> Result<()> {
    for &attach in Attach::all()? {
        let mut filtered = Filtered::new(attach)?;
        let copies = filtered.send(true, "in", "iifname eth0 udp dport 443 counter drop")?;
        ensure!(
            copies == [CLIENT[0]],
            "{attach:?}: of what netfilter drops on its way in there are {copies:?}"
        );
        let copies = filtered.send(false, "out", "oifname eth0 udp sport 443 counter drop")?;
        ensure!(
            copies.is_empty(),
            "{attach:?}: of what netfilter drops on its way out there are {copies:?}"
        );
        // a connection that was dropped is not known to address translation
        let copies = filtered.send(
            false,
            "nat",
            "oifname eth0 udp sport 443 counter snat to 10.0.0.77",
        )?;
        ensure!(
            copies == ["10.0.0.77"],
            "{attach:?}: with its address translated there are {copies:?}"
        );
    }
    Ok(())
}
