//! A host with applications: `edge`, whose packets to and from `far` pass `eth0` and a router, as
//! packets that come from a wire belong to no socket.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::cgroup::Cgroup;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{FiveTuple, Gue, Ip};
use traffic_mirror_tests::lab::status::Counters;
use traffic_mirror_tests::lab::traffic::bind_when_free;
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::{DEADLINE, patience};

use crate::edge::Attach;
use crate::routed::{EDGE, Routed, address};

const FAR: [&str; 2] = ["10.5.0.1", "2001:db8:5::1"];
/// Bytes that a connection carries each way.
pub(super) const BYTES: usize = 50_000;
/// Datagrams that are sent each way.
pub(super) const DATAGRAMS: usize = 30;

pub(super) struct Lab {
    pub(super) routed: Routed,
    pub(super) far: Netns,
}

/// Which end of a flow is on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// What was copied of a flow, from its client and to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) packets: [usize; 2],
    pub(super) bytes: [usize; 2],
    pub(super) syns: [usize; 2],
    pub(super) fins: [usize; 2],
}

impl Carried {
    /// Of a connection each byte, its handshake and its end.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.iter().all(|&bytes| bytes >= BYTES)
            && self.syns.iter().all(|&syns| syns > 0)
            && self.fins.iter().all(|&fins| fins > 0)
    }

    /// Nothing but the first packet.
    pub(super) fn is_nothing(&self) -> bool {
        self.packets[0] <= 1 && self.packets[1] == 0 && self.bytes == [0; 2]
    }

    pub(super) fn copies(&self) -> usize {
        self.packets.iter().sum()
    }
}

pub(super) fn config(filters: &[String]) -> String {
    format!(
        "[[interface]]\nname = \"eth0\"\n[endpoint.four]\naddress = \"10.9.0.1\"\n{}",
        filters.concat()
    )
}

pub(super) fn filter(name: &str, fields: &str) -> String {
    format!("[[filter]]\nname = \"{name}\"\n{fields}\nto = [\"four\"]\n")
}

/// A filter with one application.
pub(super) fn of(pattern: &str) -> String {
    filter("app", &format!("application = [{pattern:?}]"))
}

impl Lab {
    pub(super) fn new(config: &str, attach: Attach) -> Result<Self> {
        let routed = Routed::new(config, attach, 1600)?;
        let far = Netns::new("pr-far")?;
        Veth::default().create(&far, "eth0", &routed.client, "eth1")?;
        routed.client.forward(true)?;
        for (host, route) in [("10.5.0", "10.0.0.1"), ("2001:db8:5:", "2001:db8:0::1")] {
            let is_four = host.contains('.');
            let (end, length, ip) = if is_four {
                (".", 24, "ip")
            } else {
                (":", 64, "ip -6")
            };
            far.address("eth0", &format!("{host}{end}1/{length}"))?;
            let router = format!("{host}{end}{}", if is_four { "254" } else { "fe" });
            routed
                .client
                .address("eth1", &format!("{router}/{length}"))?;
            far.run(&format!("{ip} route add default via {router}"))?;
            let net = format!("{host}{}/{length}", if is_four { ".0" } else { ":" });
            routed
                .edge
                .run(&format!("{ip} route add {net} via {route}"))?;
        }
        Ok(Self { routed, far })
    }

    /// Where the two ends of a flow are: that which listens first.
    fn ends(&self, role: Role) -> [&Netns; 2] {
        match role {
            Role::Server => [&self.routed.edge, &self.far],
            Role::Client => [&self.far, &self.routed.edge],
        }
    }

    fn listens_at(role: Role, family: usize, port: u16) -> SocketAddr {
        match role {
            Role::Server => address(EDGE[family], port),
            Role::Client => address(FAR[family], port),
        }
    }

    /// A connection between `far` and a process of a cgroup: both say something and end. Returns the
    /// client's port.
    pub(super) fn connect(
        &self,
        cgroup: &Cgroup,
        role: Role,
        family: usize,
        port: u16,
    ) -> Result<u16> {
        let connection = self.open(cgroup, role, family, port)?;
        let client = connection[0].local_addr()?.port();
        say(&connection)?;
        end(connection)?;
        Ok(client)
    }

    /// The same, left open: the client's end and the server's.
    pub(super) fn open(
        &self,
        cgroup: &Cgroup,
        role: Role,
        family: usize,
        port: u16,
    ) -> Result<[TcpStream; 2]> {
        let to = Self::listens_at(role, family, port);
        let [server, client] = self.ends(role);
        let listen = || Ok(bind_when_free(|| TcpListener::bind(to))?);
        let connect = || Ok(TcpStream::connect_timeout(&to, DEADLINE * patience())?);
        let listener = server.enter(|| match role {
            Role::Server => cgroup.enter(listen),
            Role::Client => listen(),
        });
        let listener = listener.with_context(|| format!("listen on {to}"))?;
        let near = client.enter(|| match role {
            Role::Server => connect(),
            Role::Client => cgroup.enter(connect),
        });
        let near = near.with_context(|| format!("connect to {to}"))?;
        let (there, _) = listener.accept()?;
        for end in [&near, &there] {
            end.set_read_timeout(Some(DEADLINE * patience()))?;
        }
        Ok([near, there])
    }

    /// Datagrams between `far` and a process of a cgroup, each answered. Returns the client's port.
    pub(super) fn exchange(
        &self,
        cgroup: &Cgroup,
        role: Role,
        family: usize,
        port: u16,
    ) -> Result<u16> {
        let to = Self::listens_at(role, family, port);
        let any = address(["0.0.0.0", "::"][family], 0);
        let [server, client] = self.ends(role);
        let bind = |at: SocketAddr| Ok(bind_when_free(|| UdpSocket::bind(at))?);
        let there = server.enter(|| match role {
            Role::Server => cgroup.enter(|| bind(to)),
            Role::Client => bind(to),
        })?;
        let near = client.enter(|| match role {
            Role::Server => bind(any),
            Role::Client => cgroup.enter(|| bind(any)),
        })?;
        for end in [&near, &there] {
            end.set_read_timeout(Some(DEADLINE * patience()))?;
        }
        let mut buffer = [0; 100];
        for _ in 0..DATAGRAMS {
            near.send_to(b"question", to)?;
            let (_, from) = there.recv_from(&mut buffer)?;
            there.send_to(b"answer", from)?;
            near.recv_from(&mut buffer)?;
        }
        Ok(near.local_addr()?.port())
    }

    /// What was copied since the last time, by the client's port; `port` is the server's.
    pub(super) fn carried(&mut self, port: u16) -> Result<(BTreeMap<u16, Carried>, Counters)> {
        let (copies, counters) = self.routed.settle()?;
        Ok((carried(&copies, port)?, counters))
    }
}

/// Sends [`BYTES`] each way.
pub(super) fn say(connection: &[TcpStream; 2]) -> Result<()> {
    for (from, to) in [(0, 1), (1, 0)] {
        let [mut from, mut to] = [&connection[from], &connection[to]];
        thread::scope(|scope| -> Result<()> {
            let sending = scope.spawn(|| from.write_all(&[5; BYTES]));
            let mut arrived = vec![0; BYTES];
            to.read_exact(&mut arrived).context("receive")?;
            sending.join().expect("the sender does not panic")?;
            Ok(())
        })?;
    }
    Ok(())
}

/// Ends a connection from the client's end on, so that both have sent their last.
pub(super) fn end([client, server]: [TcpStream; 2]) -> Result<()> {
    client.shutdown(std::net::Shutdown::Write)?;
    let mut rest = Vec::new();
    (&server).read_to_end(&mut rest)?;
    drop(server);
    (&client).read_to_end(&mut rest)?;
    ensure!(rest.is_empty(), "{} bytes too many", rest.len());
    Ok(())
}

pub(super) fn carried(copies: &[Gue], port: u16) -> Result<BTreeMap<u16, Carried>> {
    let mut all: BTreeMap<u16, Carried> = BTreeMap::new();
    for copy in copies {
        let ip = Ip::parse(&copy.inner)?;
        let Some((source, destination)) = FiveTuple::parse(&copy.inner)?.ports else {
            continue;
        };
        let is_back = source == port;
        let one = all
            .entry(if is_back { destination } else { source })
            .or_default();
        let way = usize::from(is_back);
        one.packets[way] += 1;
        if ip.protocol == 6 {
            let header = usize::from(ip.upper[12] >> 4) * 4;
            one.bytes[way] += ip.upper.len() - header;
            one.syns[way] += usize::from(ip.upper[13] & 2 != 0);
            one.fins[way] += usize::from(ip.upper[13] & 1 != 0);
        }
    }
    Ok(all)
}
