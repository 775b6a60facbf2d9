//! What a clone has of its original beside the bytes must not lead a copy into production's class,
//! nor into its routes.

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::far_end::listen;
use crate::ipsec::KEYS;
use crate::routed::{CLIENT, EDGE, Routed, address, count};
use crate::{config, filter};
use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::connection::{Connection, EndInfo};
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::traffic::{tcp_transfer, udp_exchange};

/// Where a queue has bands, copies are in the last one and production's packets are not.
#[test]
fn copies_give_way_where_a_queue_has_bands() -> Result<()> {
    for &attach in Attach::all()? {
        let mut edge = Edge::new(
            &config(&filter("all", "protocol = [\"udp\"]", "\"a\"")),
            attach,
        )?;
        if edge
            .edge
            .run("tc qdisc replace dev eth1 root handle 1: prio")
            .is_err()
        {
            println!("skipped: it takes the queueing discipline prio");
            return Ok(());
        }
        let datagram = frame()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(1, 2)
            .pad(100)
            .build();
        for way in [Direction::Ingress, Direction::Local] {
            edge.pass(&datagram, SkbLayout::Linear, way)?;
        }
        let classes = edge.edge.run("tc -s class show dev eth1")?;
        let sent = |class: &str| -> Option<u64> {
            let text = classes
                .split("class prio ")
                .find(|text| text.starts_with(class))?;
            text.split("bytes ").nth(1)?.split(' ').next()?.parse().ok()
        };
        ensure!(sent("1:3") == Some(2), "{attach:?}: {classes}");
    }
    Ok(())
}

/// A tunnel towards the collector, by which copies leave: how it is made at each end, with `HERE`
/// and `THERE`, and the module.
const OUTPUTS: [(&str, &str, bool); 12] = [
    (
        "ip_gre",
        "ip link add t0 type gre local HERE remote THERE",
        false,
    ),
    (
        "ip_gre",
        "ip link add t0 type gretap local HERE remote THERE",
        false,
    ),
    (
        "ipip",
        "ip link add t0 type ipip local HERE remote THERE",
        false,
    ),
    (
        "sit",
        "ip link add t0 type sit mode any local HERE remote THERE",
        false,
    ),
    (
        "ip_vti",
        "ip link add t0 type vti local HERE remote THERE key 7",
        false,
    ),
    (
        "vxlan",
        "ip link add t0 mtu 1500 type vxlan id 7 local HERE remote THERE dstport 4789 dev eth1",
        false,
    ),
    (
        "geneve",
        "ip link add t0 mtu 1500 type geneve id 7 remote THERE",
        false,
    ),
    (
        "ip6_gre",
        "ip link add t0 type ip6gre local HERE remote THERE",
        true,
    ),
    (
        "ip6_gre",
        "ip link add t0 type ip6gretap local HERE remote THERE",
        true,
    ),
    (
        "ip6_tunnel",
        "ip link add t0 type ip6tnl mode any local HERE remote THERE",
        true,
    ),
    (
        "vxlan",
        "ip link add t0 mtu 1500 type vxlan id 7 local HERE remote THERE dstport 4789 dev eth1",
        true,
    ),
    (
        "geneve",
        "ip link add t0 mtu 1500 type geneve id 7 remote THERE",
        true,
    ),
];

/// Outer addresses of the edge and the collector, by family, and those inside the tunnel.
const OUTER: [[&str; 2]; 2] = [
    ["10.9.0.254", "10.9.0.1"],
    ["2001:db8:9::fe", "2001:db8:9::1"],
];
const INNER: [[&str; 2]; 2] = [["10.5.0.2", "10.5.0.1"], ["2001:db8:5::2", "2001:db8:5::1"]];

const FILE: &str = "[[interface]]\nname = \"eth0\"\n\
    [endpoint.four]\naddress = \"10.5.0.1\"\n[endpoint.six]\naddress = \"2001:db8:5::1\"\n\
    [[filter]]\nname = \"web\"\nbidirectional = true\ndestination_port = [443]\nto = [\"four\", \"six\"]\n";

/// What a tunnel finds too long it tells the route with which the packet came: that of the
/// original, unless copies have their own.
#[test]
fn production_keeps_its_path_mtu_whatever_copies_leave_by() -> Result<()> {
    let (mut failures, mut outputs) = (Vec::new(), Vec::new());
    for (module, line, is_over_ipv6) in OUTPUTS {
        let [here, there] = OUTER[usize::from(is_over_ipv6)];
        let probe = line
            .replace("THERE", there)
            .replace("HERE", here)
            .replace("eth1", "lo");
        if let Err(error) = Netns::new("pk-modules")?.run(&probe) {
            let modules = std::env::var("TEST_MODULES").unwrap_or_default();
            ensure!(!modules.split(' ').any(|one| one == module), "{error:#}");
            println!("skipped: {line} takes the kernel module {module}");
            continue;
        }
        outputs.push((line, is_over_ipv6));
    }
    if outputs.is_empty() {
        return Ok(());
    }
    for &attach in Attach::all()? {
        let mut lab = Routed::new(FILE, attach, 1500)?;
        for (line, is_over_ipv6) in &outputs {
            let checked = check(&mut lab, line, *is_over_ipv6)
                .and_then(|()| remove(&lab))
                .with_context(|| format!("{attach:?} {line}"));
            if let Err(error) = checked {
                failures.push(format!("{error:#}\n"));
                lab = Routed::new(FILE, attach, 1500)?;
            }
        }
    }
    ensure!(failures.is_empty(), "{}", failures.concat());
    Ok(())
}

/// What must not change: connections of production that no filter asks for, by family, and what
/// ICMP has told of errors.
struct Production {
    connections: Vec<Connection>,
    ways: Vec<[EndInfo; 2]>,
    icmp: String,
}

impl Production {
    fn begin(lab: &Routed) -> Result<Self> {
        let open = |client: &str| Connection::open(&lab.edge, &lab.client, address(client, 8443));
        let connections: Vec<_> = CLIENT.into_iter().map(open).collect::<Result<_>>()?;
        let mut production = Self {
            connections,
            ways: Vec::new(),
            icmp: icmp(lab)?,
        };
        production.ways = production.ways()?;
        Ok(production)
    }

    fn ways(&self) -> Result<Vec<[EndInfo; 2]>> {
        self.connections
            .iter()
            .try_for_each(|connection| connection.carry(100_000))?;
        self.connections.iter().map(Connection::ways).collect()
    }

    /// The same connections, new ones that are mirrored, and ICMP, after and while copies are sent.
    fn is_as_before(&self, lab: &Routed) -> Result<()> {
        let open = |client: &str| Connection::open(&lab.edge, &lab.client, address(client, 443));
        let mirrored: Vec<_> = CLIENT.into_iter().map(open).collect::<Result<_>>()?;
        let mirrored = Self {
            connections: mirrored,
            ways: Vec::new(),
            icmp: String::new(),
        };
        for (what, ways) in [("mirrored", mirrored.ways()?), ("other", self.ways()?)] {
            ensure!(
                ways == self.ways,
                "{what} connections have {ways:?} in place of {:?}",
                self.ways
            );
        }
        for connection in self.connections.iter().chain(&mirrored.connections) {
            let again = connection.retransmitted()?;
            // a machine that is busy for long sends some again
            ensure!(again < 20, "{again} segments were sent again");
        }
        let icmp = icmp(lab)?;
        ensure!(
            icmp == self.icmp,
            "ICMP counters of the client were\n{}and are\n{icmp}",
            self.icmp
        );
        Ok(())
    }
}

/// Counters of ICMP of the client, as text: what a tunnel says of its own packets is told to the
/// edge.
fn icmp(lab: &Routed) -> Result<String> {
    let lines = lab.client.run("cat /proc/net/snmp /proc/net/snmp6")?;
    let is_error = |line: &&str| {
        let of_ipv6 = ["PktTooBigs", "DestUnreachs", "TimeExcds", "ParmProblems"];
        line.starts_with("IcmpMsg:")
            || line.starts_with("Icmp6") && of_ipv6.iter().any(|kind| line.contains(kind))
    };
    Ok(lines
        .lines()
        .filter(is_error)
        .map(|line| format!("{line}\n"))
        .collect())
}

/// By such a tunnel nothing leaves without security associations; `end` is 0 for the edge.
fn associate(host: &Netns, end: usize) -> Result<()> {
    let ways = [[OUTER[0][0], OUTER[0][1]], [OUTER[0][1], OUTER[0][0]]];
    for (number, [from, to]) in ways.into_iter().enumerate() {
        let spi = number + 1;
        host.run(&format!(
            "ip xfrm state add src {from} dst {to} proto esp spi {spi} mode tunnel mark 7 {KEYS}"
        ))?;
        let direction = if number == end { "out" } else { "in" };
        for any in ["0.0.0.0/0", "::/0"] {
            let policy = format!("src {any} dst {any} dir {direction} mark 7");
            host.run(&format!(
                "ip xfrm policy add {policy} tmpl src {from} dst {to} proto esp mode tunnel"
            ))?;
        }
    }
    Ok(())
}

/// Both ends of the tunnel, and what production has learned meanwhile.
fn remove(lab: &Routed) -> Result<()> {
    for host in [&lab.edge, &lab.collector] {
        host.run("ip link delete t0")?;
        // a kernel without IPsec has none
        for what in ["policy", "state"] {
            let _ = host.run(&format!("ip xfrm {what} flush"));
        }
    }
    let is_gone = |status: &Status| {
        ["four", "six"]
            .iter()
            .all(|name| status.endpoint(name, "state") != "ready")
    };
    Status::until(&lab.daemon, is_gone, deadline()).map(drop)
}

fn check(lab: &mut Routed, line: &str, is_over_ipv6: bool) -> Result<()> {
    let start = Status::read(&lab.daemon)?;
    let outer = OUTER[usize::from(is_over_ipv6)];
    for (end, host) in [&lab.edge, &lab.collector].into_iter().enumerate() {
        let device = ["eth1", "eth0"][end];
        let line = line
            .replace("THERE", outer[1 - end])
            .replace("HERE", outer[end])
            .replace("eth1", device);
        host.run(&line)?;
        if line.contains("type vti") {
            associate(host, end)?;
        }
        host.address("t0", &format!("{}/24", INNER[0][end]))?;
        host.address("t0", &format!("{}/64", INNER[1][end]))?;
        host.run("ip link set t0 up")?;
    }
    let is_ready = |status: &Status| {
        status.0["endpoints"]
            .as_array()
            .is_some_and(|all| all.iter().all(|one| one["state"] == "ready"))
    };
    // learns the next hop, if there is one
    for end in INNER.map(|ends| ends[1]) {
        let _ = lab.edge.run(&format!("ping -c 1 -W 1 {end}"));
    }
    Status::until(&lab.daemon, is_ready, deadline())?;
    let routes = |lab: &Routed| -> Result<String> {
        let of = |to: &&str| lab.edge.run(&format!("ip route get {to}"));
        Ok(CLIENT.iter().map(of).collect::<Result<Vec<_>>>()?.concat())
    };
    let _listener = listen(&lab.collector)?;
    let before = routes(lab)?;
    let production = Production::begin(lab)?;
    for family in [0, 1] {
        let (client, edge) = (address(CLIENT[family], 443), address(EDGE[family], 443));
        tcp_transfer(&lab.edge, &lab.client, client, 200_000, 7)?;
        tcp_transfer(&lab.client, &lab.edge, edge, 200_000, 7)?;
        udp_exchange(
            &lab.edge,
            address(EDGE[family], 4433),
            &lab.client,
            client,
            &[5; 1400],
        )?;
    }
    production.is_as_before(lab)?;
    // what is captured on the way has the tunnels' own fragments in it
    let counters = Status::read(&lab.daemon)?.since(&start)?;
    let after = routes(lab)?;
    ensure!(
        !after.contains("mtu"),
        "production's routes were\n{before}and are\n{after}"
    );
    for endpoint in ["four", "six"] {
        let sent = count(&counters, &format!("endpoint {endpoint} packets"));
        ensure!(sent > 20, "{sent} copies to {endpoint}: {counters:?}");
        // the path MTU that the tunnel tells is learned meanwhile, and the segmenter that it takes
        // is made then
        let is_drop = |key: &&String| {
            key.starts_with(&format!("endpoint {endpoint} drop")) && !key.ends_with("no-segmenter")
        };
        let drops: Vec<_> = counters.keys().filter(is_drop).collect();
        ensure!(drops.is_empty(), "{counters:?}");
    }
    let received = lab.collector.run("ip -stats link show t0")?;
    let packets = received
        .lines()
        .skip_while(|line| !line.contains("RX:"))
        .nth(1)
        .unwrap_or_default();
    let packets: u64 = packets
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .parse()
        .unwrap_or(0);
    ensure!(
        packets > 40,
        "{packets} copies have come out of the tunnel: {counters:?}\n{received}"
    );
    Ok(())
}
