//! What becomes of copies behind the enqueue: whether anybody is there to take them, and who says
//! so.

use crate::edge::{Attach, Direction, ENDPOINTS, Edge, SkbLayout, frame};
use crate::harm::unharmed;
use crate::neighbour::{NAMES, answer, both_families, hasten};
use crate::routed::{CLIENT, Routed, SERVER, WEB, address, count};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Icmp, Ip, Layer, Link, eth_between};
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::traffic::{Stream, udp_bind};
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::{deadline, patience};

/// How soon a fault must be told once traffic meets it, and how soon it must be gone after its end.
fn in_time() -> Instant {
    Instant::now() + Duration::from_secs(5) * patience()
}

/// Whether `status` says this of all endpoints, with the exit code that belongs to it.
fn told(status: &Status, names: &[&str], state: &str) -> bool {
    names
        .iter()
        .all(|name| status.endpoint(name, "state") == state)
        && status.0["degraded"] == (state != "ready")
}

/// `status` alone, by its exit code, and the metrics, which may be up to 15 s old, by what they
/// say.
fn exits(edge: &Edge, code: i32) -> Result<()> {
    let output = edge.daemon.run(&["status"])?;
    ensure!(
        output.status.code() == Some(code),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}

/// A laboratory whose collector answers, once the daemon knows.
fn ready(attach: Attach) -> Result<Edge> {
    let mut edge = Edge::with_live_collector(&both_families(), attach)?;
    edge.wait(|status| told(status, &NAMES, "ready"))
        .context("at the start")?;
    Ok(edge)
}

#[test]
fn a_collector_that_does_not_answer_is_told_and_gets_nothing() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::with_live_collector(&both_families(), attach)?;
        hasten(&edge, &[("retrans_time_ms", "50"), ("mcast_solicit", "2")])?;
        // the other endpoints' addresses stay
        edge.collector()
            .sysctl("net.ipv4.conf.all.promote_secondaries", "1")?;
        edge.wait(|status| told(status, &NAMES, "ready"))
            .context("at the start")?;
        answer(&edge, false)?;
        edge.edge.run("ip -4 neighbour flush dev eth1")?;
        edge.edge.run("ip -6 neighbour flush dev eth1")?;
        // traffic has the kernel ask again each time that it has given up
        let until = in_time();
        while !told(&Status::read(&edge.daemon)?, &NAMES, "no-neighbour") {
            ensure!(
                Instant::now() < until,
                "{attach:?}: not told: {:#}",
                Status::read(&edge.daemon)?.0
            );
            let frames: Vec<_> = (0..20)
                .map(|port| frame().ip("10.0.0.1", "10.0.0.2").udp(port, 2).build())
                .collect();
            ensure!(
                edge.originals(&frames, SkbLayout::Linear, Direction::Ingress)? == frames,
                "{attach:?}: originals"
            );
        }
        edge.wait(|status| told(status, &NAMES, "no-neighbour"))?;
        exits(&edge, 1)?;
        edge.copies()?;
        let moved = unharmed(&mut edge, "nobody answers", 50)?;
        let matched = count(&moved, "filter all packets");
        for name in NAMES {
            let dropped = count(&moved, &format!("endpoint {name} drop no-neighbour"));
            // one a second and CPU goes, and is held
            let held = count(&moved, &format!("endpoint {name} drop resolving"));
            ensure!(
                matched == 150 && dropped + held == matched && held < 20,
                "{attach:?} {name}: {moved:?}"
            );
        }
        let (copies, strangers) = edge.copies()?;
        ensure!(
            copies.is_empty() && strangers.is_empty(),
            "{attach:?}: {copies:?} {strangers:?}"
        );
        answer(&edge, true)?;
        let until = in_time();
        while !told(&Status::read(&edge.daemon)?, &NAMES, "ready") {
            ensure!(
                Instant::now() < until,
                "{attach:?}: still {:#}",
                Status::read(&edge.daemon)?.0
            );
        }
        edge.wait(|status| told(status, &NAMES, "ready"))?;
        edge.copies()?;
        let moved = unharmed(&mut edge, "there again", 10)?;
        for name in NAMES {
            ensure!(
                count(&moved, &format!("endpoint {name} packets")) == 30,
                "{attach:?} {name}: {moved:?}"
            );
        }
        let (copies, _) = edge.copies()?;
        ensure!(
            copies.values().map(Vec::len).eq([30, 30]),
            "{attach:?}: {copies:?}"
        );
        exits(&edge, 0)?;
        let said = edge
            .daemon
            .output()
            .into_iter()
            .filter(|line| line.contains("no-neighbour"))
            .count();
        ensure!(
            said == NAMES.len(),
            "{attach:?}: the log tells it {said} times"
        );
    }
    Ok(())
}

#[test]
fn an_output_without_carrier_is_told_and_gets_nothing() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = ready(attach)?;
        edge.collector().run("ip link set eth0 down")?;
        edge.wait(|status| told(status, &NAMES, "no-carrier"))
            .context("the cable is out")?;
        exits(&edge, 1)?;
        let moved = unharmed(&mut edge, "the cable is out", 20)?;
        for name in NAMES {
            ensure!(
                count(&moved, &format!("endpoint {name} drop no-carrier")) == 60,
                "{attach:?} {name}: {moved:?}"
            );
        }
        edge.collector().run("ip link set eth0 up")?;
        // the kernel has taken the IPv6 addresses with it
        for (_, address, _) in ENDPOINTS
            .iter()
            .filter(|(_, address, _)| address.contains(':'))
        {
            edge.collector().address("eth0", &format!("{address}/64"))?;
        }
        edge.wait(|status| told(status, &NAMES, "ready"))
            .context("the cable is in")?;
        exits(&edge, 0)?;
    }
    Ok(())
}

/// The collector takes packets of at most 1,280 bytes. The interface here, which takes more, counts
/// what it cannot deliver, but has a queue, so that nobody tells the sender.
#[test]
fn drops_behind_the_enqueue_are_told() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = ready(attach)?;
        edge.collector().run("ip link set eth0 mtu 1280")?;
        edge.edge
            .run("tc qdisc replace dev eth1 root bfifo limit 1000000")?;
        // what was dropped before the first copy is no news
        let stranger = eth_between([2; 6], [4; 6])
            .ip("10.9.0.1", "10.9.0.99")
            .udp(1, 2)
            .payload([0; 2000])
            .build();
        edge.output(&stranger)?;
        let short = [frame().ip("10.0.0.1", "10.0.0.2").udp(1, 2).build()];
        for _ in 0..3 {
            edge.originals(&short, SkbLayout::Linear, Direction::Ingress)?;
        }
        let sampled = Instant::now() + Duration::from_millis(2500);
        while Instant::now() < sampled {
            ensure!(
                told(&Status::read(&edge.daemon)?, &NAMES, "ready"),
                "{attach:?}: {:#}",
                Status::read(&edge.daemon)?.0
            );
            edge.originals(&short, SkbLayout::Linear, Direction::Ingress)?;
        }
        let long = frame()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(1, 2)
            .payload(Stream::new(1).bytes(2000))
            .build();
        let until = in_time();
        let is_told = |status: &Status| {
            // IPv6 makes nothing that long of it
            status.endpoint("a", "state") == "output-drops" && status.0["degraded"] == true
        };
        while !is_told(&Status::read(&edge.daemon)?) {
            ensure!(
                Instant::now() < until,
                "{attach:?}: not told: {:#}",
                Status::read(&edge.daemon)?.0
            );
            let frames = [long.clone()];
            ensure!(
                edge.originals(&frames, SkbLayout::Linear, Direction::Ingress)? == frames,
                "{attach:?}: originals"
            );
        }
        exits(&edge, 1)?;
        let output = Status::read(&edge.daemon)?.0["outputs"][0].clone();
        ensure!(
            output["interface"] == "eth1" && output["device_drops"].as_u64() > Some(0),
            "{attach:?}: {output}"
        );
        let until = in_time();
        while !told(&Status::read(&edge.daemon)?, &NAMES, "ready") {
            ensure!(
                Instant::now() < until,
                "{attach:?}: still {:#}",
                Status::read(&edge.daemon)?.0
            );
        }
        edge.wait(|status| told(status, &NAMES, "ready"))?;
        exits(&edge, 0)?;
    }
    Ok(())
}

/// A client that sends datagrams to a server, through the router under test.
struct Talk {
    lab: Routed,
    sockets: Vec<[UdpSocket; 2]>,
}

const ROUTED: [&str; 2] = ["four", "six"];

impl Talk {
    fn new(config: &str, attach: Attach) -> Result<Self> {
        let lab = Routed::new(config, attach, 1600)?;
        let mut sockets = Vec::new();
        for (client, server) in CLIENT.iter().zip(SERVER) {
            let [here, there] = [
                udp_bind(&lab.client, address(client, 4433))?,
                udp_bind(&lab.server, address(server, 443))?,
            ];
            there.set_read_timeout(Some(Duration::from_secs(10) * patience()))?;
            sockets.push([here, there]);
        }
        Ok(Self { lab, sockets })
    }

    /// Datagrams of so many bytes, one by IPv4 and one by IPv6: each must arrive as it was.
    fn say(&self, bytes: usize) -> Result<()> {
        for ([here, there], server) in self.sockets.iter().zip(SERVER) {
            let payload = Stream::new(bytes as u64).bytes(bytes);
            here.send_to(&payload, address(server, 443))?;
            let mut heard = vec![0; bytes + 1];
            let length = there.recv(&mut heard).context("the server hears nothing")?;
            ensure!(
                heard[..length] == payload,
                "the server hears something else"
            );
        }
        Ok(())
    }

    /// Talks until `status` says so of these endpoints.
    fn until(&self, bytes: usize, names: &[&str], state: &str) -> Result<()> {
        let until = in_time();
        loop {
            self.say(bytes)?;
            let status = Status::read(&self.lab.daemon)?;
            if told(&status, names, state) {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "not {state} in time: {:#}",
                status.0
            );
        }
    }
}

/// A socket for copies, of both families.
pub(crate) fn listen(collector: &Netns) -> Result<UdpSocket> {
    udp_bind(collector, ([0; 16], 6080).into())
}

#[test]
fn a_collector_on_which_nobody_listens_is_told() -> Result<()> {
    for &attach in Attach::all()? {
        let talk = Talk::new(WEB, attach)?;
        talk.until(100, &["four"], "port-closed")
            .with_context(|| format!("{attach:?}"))?;
        let status = Status::read(&talk.lab.daemon)?;
        let endpoint = status.named("endpoints", "four").context("the endpoint")?;
        ensure!(
            endpoint["errors"]["port-closed"].as_u64() > Some(0),
            "{attach:?}: {endpoint:#}"
        );
        // errors stop nothing
        ensure!(
            endpoint["drops"] == serde_json::json!({}),
            "{attach:?}: {endpoint:#}"
        );
        ensure!(
            endpoint["since"].as_u64().is_some(),
            "{attach:?}: {endpoint:#}"
        );
        // over IPv6 the kernel drops what has no UDP checksum before it asks who listens
        // (`udp6_csum_init`): nobody can know
        ensure!(
            status.endpoint("six", "state") == "ready",
            "{attach:?}: {:#}",
            status.0
        );
        let line = |text: &str| {
            talk.lab
                .daemon
                .output()
                .iter()
                .filter(|line| line.contains(text))
                .count()
        };
        ensure!(
            line("no process listens on UDP port 6080") == 1,
            "{attach:?}: one warning"
        );
        let _listener = listen(&talk.lab.collector)?;
        talk.until(100, &ROUTED, "ready")
            .with_context(|| format!("{attach:?}, with a listener"))?;
        ensure!(line("ready again") == 1, "{attach:?}: one line");
    }
    Ok(())
}

/// Errors that quote something else than copies: other addresses, other ports, no copy's source
/// port.
#[test]
fn errors_that_quote_no_copy_count_for_nothing() -> Result<()> {
    for &attach in Attach::all()? {
        let mut talk = Talk::new(WEB, attach)?;
        let _listener = listen(&talk.lab.collector)?;
        talk.say(100)?;
        let copies = talk.lab.copies.wait_for(2, deadline())?;
        let macs = [talk.lab.collector.mac("eth0")?, talk.lab.edge.mac("eth1")?];
        let socket = PacketSocket::open(&talk.lab.collector, "eth0", Capture::Nothing)?;
        let complain = |quote: &[u8], ip: &Ip<'_>| {
            let packet = eth_between(macs[0], macs[1]).ip(ip.destination, ip.source);
            let error = |kind, code| Icmp {
                kind,
                code,
                ..Icmp::default()
            };
            let layer = if ip.source.is_ipv4() {
                Layer::Icmp(error(3, 3))
            } else {
                Layer::Icmpv6(error(1, 4))
            };
            socket.send(&packet.layer(layer).payload(quote).build())
        };
        let errors = |status: &Status| -> u64 {
            let of = |name| {
                status
                    .named("endpoints", name)
                    .and_then(|one| one["errors"]["port-closed"].as_u64())
            };
            ROUTED.into_iter().filter_map(of).sum()
        };
        for copy in &copies {
            let packet = &copy[Link::parse(copy)?.length..];
            let ip = Ip::parse(packet)?;
            let header = packet.len() - ip.upper.len();
            // source and destination address, source port's first byte, destination port's last
            let [source, destination] = if ip.source.is_ipv4() {
                [15, 19]
            } else {
                [23, 39]
            };
            for at in [source, destination, header, header + 3] {
                let mut forged = packet.to_vec();
                forged[at] ^= 0x81;
                complain(&forged, &ip)?;
            }
        }
        // what follows on the same wire is counted, so the forged ones have been looked at by then
        for copy in &copies {
            let packet = &copy[Link::parse(copy)?.length..];
            complain(packet, &Ip::parse(packet)?)?;
        }
        let counted = Status::until(&talk.lab.daemon, |status| errors(status) >= 2, deadline())?;
        ensure!(
            errors(&counted) == 2,
            "{attach:?}: forged errors count: {:#}",
            counted.0
        );
    }
    Ok(())
}

/// Behind the collector's side there is a narrower link, and behind that the endpoints.
#[test]
fn a_narrow_link_on_the_way_is_followed_over_ipv6() -> Result<()> {
    for &attach in Attach::all()? {
        let config = WEB
            .replace("10.9.0.1", "10.10.0.2")
            .replace("2001:db8:9::1", "2001:db8:a::2");
        let mut talk = Talk::new(&config, attach)?;
        let far = Netns::new("pr-far")?;
        let router = &talk.lab.collector;
        router.forward(true)?;
        Veth {
            mtu: 1400,
            offload: false,
            ..Veth::default()
        }
        .create(router, "eth1", &far, "eth0")?;
        router.address("eth1", "10.10.0.1/24")?;
        router.address("eth1", "2001:db8:a::1/64")?;
        far.address("eth0", "10.10.0.2/24")?;
        far.address("eth0", "2001:db8:a::2/64")?;
        far.run("ip route add default via 10.10.0.1")?;
        far.run("ip -6 route add default via 2001:db8:a::1")?;
        talk.lab
            .edge
            .run("ip route add 10.10.0.0/24 via 10.9.0.1")?;
        talk.lab
            .edge
            .run("ip -6 route add 2001:db8:a::/64 via 2001:db8:9::1")?;
        let _listener = listen(&far)?;
        Status::until(
            &talk.lab.daemon,
            |status| told(status, &ROUTED, "ready"),
            deadline(),
        )?;
        let mtu = |status: &Status, name: &str| {
            status
                .named("endpoints", name)
                .and_then(|one| one["mtu"].as_u64())
        };
        ensure!(mtu(&Status::read(&talk.lab.daemon)?, "six") == Some(1600));
        let until = in_time();
        while mtu(&Status::read(&talk.lab.daemon)?, "six") != Some(1400) {
            ensure!(
                Instant::now() < until,
                "{attach:?}: not followed: {:#}",
                Status::read(&talk.lab.daemon)?.0
            );
            talk.say(1400)?;
        }
        // IPv4 routers cut by themselves
        ensure!(
            mtu(&Status::read(&talk.lab.daemon)?, "four") == Some(1600),
            "{attach:?}"
        );
        let mut arrived = traffic_mirror_tests::lab::collector::Collector::start_gue(&far, "eth0")?;
        for _ in 0..5 {
            talk.say(1400)?;
        }
        let copies = arrived.copies(10, deadline())?;
        ensure!(
            copies
                .iter()
                .filter(|copy| copy.outer_dst.is_ipv6())
                .count()
                == 5,
            "{attach:?}: {copies:?}"
        );
        talk.until(1400, &ROUTED, "ready")
            .with_context(|| format!("{attach:?}: followed, so all is well"))?;
        let live = |daemon: &Daemon| -> Result<()> {
            let waited = daemon.run(&["wait", "--timeout", "10"])?;
            let said = String::from_utf8_lossy(&waited.stderr).into_owned();
            ensure!(
                waited.status.success(),
                "{attach:?}: never live: {said}{:?}",
                daemon.run(&["plan"])?
            );
            Ok(())
        };
        live(&talk.lab.daemon)?;
        let said = talk.lab.daemon.output();
        ensure!(
            !said.iter().any(|line| line.contains("too long for a link")),
            "{attach:?}: it flapped: {said:#?}"
        );
        // a successor knows of it
        talk.lab.daemon.signal(Signal::SIGKILL)?;
        talk.lab.daemon.wait_exit(deadline())?;
        talk.lab.daemon.restart()?;
        talk.lab.daemon.ready(deadline())?;
        ensure!(
            mtu(&Status::read(&talk.lab.daemon)?, "six") == Some(1400),
            "{attach:?}: forgotten by a restart"
        );
        live(&talk.lab.daemon)?;
    }
    Ok(())
}
