//! Whatever befalls copies, nothing of it comes back to who has sent the packet: no ICMP error, no
//! frame, no path MTU.

use crate::edge::{Attach, is_housekeeping, marker};
use crate::policy::policy;
use crate::routed::{CLIENT, COLLECTOR, Routed, SERVER, WEB, address, count};
use anyhow::{Context as _, Result, ensure};
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::collector::{Collector, describe};
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Icmp, Ip, Layer, Link, Packet, eth_between, ip_part};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::traffic::{Stream, udp_bind, udp_exchange};

/// Between two looks at one side, when nothing comes there.
const SHORT: Duration = Duration::from_millis(20);

/// A router whose collector answers each copy by an ICMP error, and all that comes to client and
/// server.
struct Quiet {
    lab: Routed,
    cpu: Cpu,
    /// By family: the client's and the server's.
    sockets: Vec<[UdpSocket; 2]>,
    at: [Collector; 2],
    markers: [PacketSocket; 2],
    /// ICMP errors that come from the collector.
    errors: Collector,
}

impl Quiet {
    fn new(config: &str, attach: Attach) -> Result<Self> {
        let lab = Routed::new(config, attach, 1500)?;
        for netns in [&lab.edge, &lab.collector] {
            netns.sysctl("net.ipv4.icmp_ratelimit", "0")?;
            netns.sysctl("net.ipv6.icmp.ratelimit", "0")?;
        }
        let mut sockets = Vec::new();
        for (client, server) in CLIENT.iter().zip(SERVER) {
            let (here, there) = (address(client, 4433), address(server, 443));
            // finds the neighbours
            udp_exchange(&lab.client, here, &lab.server, there, b"hello")?;
            sockets.push([udp_bind(&lab.client, here)?, udp_bind(&lab.server, there)?]);
        }
        let at = [
            Collector::start(&lab.client, "eth0")?,
            Collector::start(&lab.server, "eth0")?,
        ];
        let open = |interface| PacketSocket::open(&lab.edge, interface, Capture::Nothing);
        let markers = [open("eth0")?, open("eth2")?];
        let errors =
            Collector::start_filtered(&lab.edge, "eth1", |frame| is_error(frame).unwrap_or(false))?;
        Ok(Self {
            cpu: Cpu::next()?,
            lab,
            sockets,
            at,
            markers,
            errors,
        })
    }

    /// Sends datagrams of all lengths both ways: they must arrive, and nothing else on either side.
    fn exchange(&mut self) -> Result<()> {
        let (mut sent, marker) = ([Vec::new(), Vec::new()], marker());
        self.cpu.run(|| {
            for (family, [client, server]) in self.sockets.iter().enumerate() {
                for length in [10, 500, 1240, [1472, 1452][family]] {
                    let payloads =
                        [1, 2].map(|way| Stream::new(way * 10_000 + length as u64).bytes(length));
                    client.send_to(&payloads[1], address(SERVER[family], 443))?;
                    server.send_to(&payloads[0], address(CLIENT[family], 4433))?;
                    sent.iter_mut()
                        .zip(payloads)
                        .for_each(|(sent, payload)| sent.push(payload));
                }
            }
            Ok(())
        })?;
        let mut came: [Vec<Vec<u8>>; 2] = Default::default();
        let (until, mut is_noisy) = (deadline(), false);
        // after noise nobody waits for what will not come; what is missing is told below
        while !is_noisy && Instant::now() < until {
            let is_short = |(came, sent): (&Vec<Vec<u8>>, &Vec<Vec<u8>>)| {
                came.iter().filter(|frame| !is_housekeeping(frame)).count() < sent.len()
            };
            let Some(side) = came.iter().zip(&sent).position(is_short) else {
                break;
            };
            // noise may be heard on the other side
            for (number, (at, came)) in self.at.iter_mut().zip(&mut came).enumerate() {
                let frames = match at.take()? {
                    frames if frames.is_empty() && number == side => {
                        at.next(Instant::now() + SHORT)?.into_iter().collect()
                    }
                    frames => frames,
                };
                is_noisy |= frames.iter().any(|frame| is_error(frame).unwrap_or(false));
                came.extend(frames);
            }
        }
        // on one CPU whatever else they have caused comes before it
        self.cpu.run(|| {
            self.markers
                .iter()
                .try_for_each(|socket| socket.send(&marker))
        })?;
        for (((at, sent), mut frames), who) in self
            .at
            .iter_mut()
            .zip(&sent)
            .zip(came)
            .zip(["client", "server"])
        {
            frames.extend(at.until(|frame| frame == marker, deadline()).context(who)?);
            let heard: Vec<_> = frames
                .iter()
                .filter(|frame| !is_housekeeping(frame))
                .collect();
            let mut payloads = Vec::new();
            for frame in heard {
                let ip = Ip::parse(ip_part(frame)?)?;
                ensure!(ip.protocol == 17, "the {who} heard {}", describe(frame));
                payloads.push(&ip.upper[8..]);
            }
            ensure!(
                payloads == *sent,
                "the {who} heard {} datagrams of {}, or others",
                payloads.len(),
                sent.len()
            );
        }
        Ok(())
    }

    /// Nobody has told client or server of a smaller MTU.
    fn paths(&self) -> Result<()> {
        for (netns, there) in [(&self.lab.client, SERVER), (&self.lab.server, CLIENT)] {
            for address in there {
                let route = netns.run(&format!("ip route get {address}"))?;
                ensure!(!route.contains("mtu"), "the path has changed: {route}");
            }
        }
        Ok(())
    }

    /// All is quiet, while this is counted for each endpoint.
    fn quiet(&mut self, while_counted: &str) -> Result<()> {
        let before = Status::read(&self.lab.daemon)?;
        self.exchange().with_context(|| while_counted.to_owned())?;
        self.paths()?;
        let moved = Status::read(&self.lab.daemon)?.since(&before)?;
        for endpoint in ["four", "six"] {
            let counted = count(&moved, &format!("endpoint {endpoint} {while_counted}"));
            ensure!(
                counted > 0,
                "nothing was counted as {while_counted} for {endpoint}: {moved:?}"
            );
        }
        Ok(())
    }

    /// The collector's side says that the copies which have come are too big; its stack has
    /// complained of each already.
    fn complain(&mut self) -> Result<()> {
        let socket = PacketSocket::open(&self.lab.collector, "eth0", Capture::Nothing)?;
        let macs = [self.lab.collector.mac("eth0")?, self.lab.edge.mac("eth1")?];
        let copies = self.lab.copies.take()?;
        let mut families = [0; 2];
        for copy in &copies {
            let packet = &copy[Link::parse(copy)?.length..];
            let ip = Ip::parse(packet)?;
            let quote = &packet[..packet.len().min(500)];
            families[usize::from(ip.source.is_ipv6())] += 1;
            self.cpu
                .run(|| socket.send(&too_big(macs, &ip, quote).build()))?;
        }
        ensure!(
            families.iter().all(|count| *count > 0),
            "copies of each family: {families:?}"
        );
        let mut answered = [0; 2];
        while answered.contains(&0) {
            let error = self
                .errors
                .next(deadline())?
                .context("the collector did not complain")?;
            answered[usize::from(Ip::parse(ip_part(&error)?)?.source.is_ipv6())] += 1;
        }
        Ok(())
    }
}

fn is_error(frame: &[u8]) -> Result<bool> {
    let ip = Ip::parse(ip_part(frame)?)?;
    Ok(matches!(
        (ip.protocol, ip.upper.first()),
        (1, Some(3)) | (58, Some(1 | 2))
    ))
}

/// "Fragmentation needed" or "packet too big".
fn too_big([from, to]: [[u8; 6]; 2], copy: &Ip<'_>, quote: &[u8]) -> Packet {
    let packet = eth_between(from, to).ip(copy.destination, copy.source);
    let packet = if copy.source.is_ipv4() {
        packet.layer(Layer::Icmp(Icmp {
            kind: 3,
            code: 4,
            rest: [0, 0, 2, 88],
            ..Icmp::default()
        }))
    } else {
        packet.layer(Layer::Icmpv6(Icmp {
            kind: 2,
            rest: [0, 0, 5, 0],
            ..Icmp::default()
        }))
    };
    packet.payload(quote)
}

/// Takes the ways to both endpoints, or gives them back.
fn reachable(edge: &Netns, reachable: bool) -> Result<()> {
    let verb = if reachable { "delete" } else { "add" };
    COLLECTOR.iter().try_for_each(|address| {
        let family = if address.contains(':') { "-6" } else { "-4" };
        edge.run(&format!("ip {family} route {verb} unreachable {address}"))
            .map(drop)
    })
}

#[test]
fn copies_that_do_not_fit_make_no_noise() -> Result<()> {
    for &attach in Attach::all()? {
        for (lines, counted) in [
            ("", "fragmented"),
            ("oversize = \"drop\"", "drop oversize"),
            ("oversize = \"truncate\"", "truncated"),
            ("snap = 100", "truncated"),
            ("limit = \"1pps\"", "drop limit"),
        ] {
            let mut quiet = Quiet::new(&policy(WEB, lines), attach)?;
            let what = || format!("{attach:?} {lines}");
            quiet.quiet(counted).with_context(what)?;
            quiet.lab.edge.run("ip link set eth1 mtu 1280")?;
            quiet
                .quiet(counted)
                .with_context(what)
                .context("with a smaller MTU")?;
        }
    }
    Ok(())
}

#[test]
fn copies_that_do_not_arrive_make_no_noise() -> Result<()> {
    for &attach in Attach::all()? {
        let mut quiet = Quiet::new(WEB, attach)?;
        quiet
            .quiet("packets")
            .with_context(|| format!("{attach:?}"))?;
        quiet.complain()?;
        quiet
            .quiet("packets")
            .with_context(|| format!("{attach:?}, after complaints"))?;
        quiet
            .lab
            .edge
            .run("tc qdisc replace dev eth1 root bfifo limit 1")?;
        quiet
            .quiet("drop queue")
            .with_context(|| format!("{attach:?}"))?;
        quiet.lab.edge.run("tc qdisc delete dev eth1 root")?;
        let states = |state: &'static str| {
            move |status: &Status| {
                ["four", "six"]
                    .iter()
                    .all(|name| status.endpoint(name, "state") == state)
            }
        };
        reachable(&quiet.lab.edge, false)?;
        Status::until(&quiet.lab.daemon, states("no-route"), deadline())?;
        quiet
            .quiet("drop no-route")
            .with_context(|| format!("{attach:?}"))?;
        reachable(&quiet.lab.edge, true)?;
        // by now the daemon may have heard that the collector's ports are closed
        let is_back = |status: &Status| {
            ["four", "six"]
                .iter()
                .all(|name| ["ready", "port-closed"].contains(&status.endpoint(name, "state")))
        };
        Status::until(&quiet.lab.daemon, is_back, deadline())?;
        quiet.lab.edge.run("ip link set eth1 down")?;
        quiet
            .exchange()
            .with_context(|| format!("{attach:?}, just down"))?;
        Status::until(&quiet.lab.daemon, states("no-route"), deadline())?;
        quiet
            .quiet("drop no-route")
            .with_context(|| format!("{attach:?}, down"))?;
    }
    Ok(())
}

/// The negative control: an error about the packet itself is heard.
#[test]
fn noise_would_be_heard() -> Result<()> {
    let mut quiet = Quiet::new(WEB, Attach::all()?[0])?;
    quiet.quiet("packets")?;
    quiet.lab.edge.run("ip link set eth2 mtu 1400")?;
    let heard = quiet
        .exchange()
        .expect_err("errors come to the client")
        .to_string();
    ensure!(
        heard.contains("the client heard") && heard.contains("icmp"),
        "{heard}"
    );
    let path = quiet
        .paths()
        .expect_err("the client has learned of the MTU")
        .to_string();
    ensure!(path.contains("mtu 1400"), "{path}");
    Ok(())
}
