//! A host with raw sockets behind a mirror, and the wire to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use traffic_mirror::network::{Direction, Link, Network, Path, Route, RouteKind};
use traffic_mirror_ebpf::abi::Skipped;

use super::draw::{Ends, PROTOCOLS, marker};
use crate::lab::cpu::Cpu;
use crate::lab::netns::Netns;
use crate::lab::socket::{Capture, PacketSocket};
use crate::lab::veth::veth;
use crate::lab::{deadline, wait_readable};
use crate::oracle::kernel::Loaded;
use crate::oracle::naive::Place;
use crate::oracle::{compiled, hook, load};

/// Filter 0 asks for a port, filter 1 for TCP to another one.
const FILE: &str = "[[interface]]\nname = \"eth0\"\ndirection = \"ingress\"\n\
    [endpoint.collector]\naddress = \"10.9.0.2\"\n\
    [[filter]]\nname = \"port\"\ndestination_port = [443]\nto = [\"collector\"]\n\
    [[filter]]\nname = \"tcp\"\nprotocol = [\"tcp\"]\ndestination_port = [9]\nto = [\"collector\"]\n";

const HOST: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
];

/// What a socket has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// TCP or UDP.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
    /// From the ports on.
    pub bytes: usize,
}

/// What the mirror has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// By filter.
    pub matched: [u64; 2],
    /// By reason.
    pub skipped: [u64; Skipped::COUNT],
}

/// The host, and who sends to it.
pub struct Stage {
    /// Who sends to whom.
    pub ends: Ends,
    loaded: Loaded,
    hook: usize,
    wire: PacketSocket,
    cpu: Cpu,
    /// By family and protocol.
    sockets: [[OwnedFd; 2]; 2],
    markers: u64,
    _programs: [SchedClassifier; 2],
    _hosts: [Netns; 3],
}

impl Stage {
    /// With namespaces of its own.
    pub fn new() -> Result<Self> {
        let [sender, host, collector] =
            ["sender", "host", "collector"].map(|name| Netns::new(&format!("ho-{name}")));
        let (sender, host, collector) = (sender?, host?, collector?);
        sender.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        veth(&sender, "eth0", &host, "eth0")?;
        veth(&host, "eth1", &collector, "eth0")?;
        host.address("eth0", "10.0.0.1/32")?;
        host.address("eth0", "fd00::1/128")?;
        // whoever sends, answers go to one hardware address, and nobody is asked for it
        for (family, gateway) in [("", "10.255.255.254"), ("-6 ", "fe80::2")] {
            host.run(&format!(
                "ip {family}neighbour add {gateway} lladdr 02:00:00:00:00:fe dev eth0 nud permanent"
            ))?;
            host.run(&format!(
                "ip {family}route add default via {gateway} dev eth0 onlink"
            ))?;
        }
        host.rp_filter(false)?;
        for variable in [
            "net.ipv4.ipfrag_high_thresh",
            "net.ipv6.ip6frag_high_thresh",
        ] {
            host.sysctl(variable, "268435456")?;
        }
        let desired = load(FILE);
        let network = network(&host)?;
        let (loaded, hook, programs) = host.enter(|| {
            let tables = compiled(&desired, &network).tables;
            let loaded = Loaded::new(&tables, 0x0123_4567_89ab_cdef)?;
            let place = Place {
                interface: "eth0".to_owned(),
                direction: Direction::Ingress,
            };
            let hook = hook(tables.active_bank(), &network, &place)
                .context("the interface has no hook")?;
            let mut encap = loaded.generation().encap()?;
            encap.attach(c"eth1", TcAttachType::Egress)?;
            let mut mirror = loaded.generation().mirror(Direction::Ingress)?;
            mirror.attach(c"eth0", TcAttachType::Ingress)?;
            Ok((loaded, hook, [encap, mirror]))
        })?;
        let open = |family| PROTOCOLS.map(|protocol| raw(&host, family, protocol));
        let [tcp4, udp4] = open(AddressFamily::Inet);
        let [tcp6, udp6] = open(AddressFamily::Inet6);
        let macs = [sender.mac("eth0")?, host.mac("eth0")?];
        Ok(Self {
            ends: Ends {
                macs,
                sources: HOST,
                destinations: HOST,
            },
            loaded,
            hook,
            wire: PacketSocket::open(&sender, "eth0", Capture::Nothing)?,
            cpu: Cpu::next()?,
            sockets: [[tcp4?, udp4?], [tcp6?, udp6?]],
            markers: 0,
            _programs: programs,
            _hosts: [sender, host, collector],
        })
    }

    /// From now on others send, of whom neither the kernel nor the mirror has seen a fragment.
    pub fn begin(&mut self, epoch: u32) -> Result<()> {
        let [_, _, high, low] = epoch.to_be_bytes();
        let address = Ipv6Addr::new(0xfd00, (epoch >> 16) as u16, epoch as u16, 0, 0, 0, 0, 2);
        self.ends.sources = [Ipv4Addr::new(10, 1 + high, low, 2).into(), address.into()];
        self.loaded.forget_fragments()
    }

    /// Sends frames, and waits until the host has done with them.
    pub fn deliver(&mut self, frames: &[Vec<u8>]) -> Result<Vec<Delivered>> {
        self.markers += 1;
        let marker = marker(&self.ends, self.markers);
        self.cpu.run(|| {
            frames
                .iter()
                .filter(|frame| (14..1514).contains(&frame.len()))
                .try_for_each(|frame| self.wire.send(frame))?;
            self.wire.send(&marker)
        })?;
        let mut delivered = Vec::new();
        let until = deadline();
        // the socket that gets the marker comes first
        for (family, protocol) in [(0, 1), (0, 0), (1, 0), (1, 1)] {
            let socket = &self.sockets[family][protocol];
            let mut is_done = (family, protocol) != (0, 1);
            loop {
                let mut bytes = [0; 2048];
                let Ok(length) = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT)
                else {
                    if is_done {
                        break;
                    }
                    ensure!(
                        wait_readable(&[socket.as_fd()], until)?.is_some(),
                        "the marker was not delivered"
                    );
                    continue;
                };
                let header = if family == 0 {
                    4 * usize::from(bytes[0] & 0xf)
                } else {
                    0
                };
                let bytes = bytes.get(header..length).unwrap_or_default();
                if bytes.get(8..16) == Some(&self.markers.to_be_bytes()) {
                    is_done = true;
                } else if let Some(one) = Delivered::new(PROTOCOLS[protocol], bytes) {
                    delivered.push(one);
                }
            }
        }
        Ok(delivered)
    }

    /// What the mirror has counted so far.
    pub fn counters(&self) -> Result<Counters> {
        let generation = self.loaded.generation();
        let mut counters = Counters::default();
        for (sum, cpus) in counters.matched.iter_mut().zip(generation.filter_stats(2)?) {
            *sum = cpus.iter().map(|cpu| cpu.matched.packets).sum();
        }
        let stats = generation.hook_stats(self.hook + 1)?;
        let cpus = stats.last().context("the hook has no counters")?;
        for (reason, sum) in counters.skipped.iter_mut().enumerate() {
            *sum = cpus.iter().map(|cpu| cpu[reason]).sum();
        }
        Ok(counters)
    }
}

/// The words for the reasons.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    Skipped::ALL.iter().map(|reason| reason.label())
}

/// A socket that gets whatever the host takes of a protocol.
fn raw(host: &Netns, family: AddressFamily, protocol: u8) -> Result<OwnedFd> {
    let protocol = if protocol == 6 {
        SockProtocol::Tcp
    } else {
        SockProtocol::Udp
    };
    let open = || {
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
        Ok(socket)
    };
    host.enter(open).context("open a raw socket")
}

/// The interfaces as they are, and the way to the collector.
fn network(host: &Netns) -> Result<Network> {
    let mut network = Network::default();
    for name in ["eth0", "eth1"] {
        let index = host.index(name)?;
        network.links.insert(
            index,
            Link {
                mac: Some(host.mac(name)?),
                ..Link::ethernet(index, name)
            },
        );
    }
    let route = Route {
        interface: host.index("eth1")?,
        gateway: None,
        source: Some(Ipv4Addr::new(10, 9, 0, 1).into()),
        mtu: Some(1500),
        kind: RouteKind::Unicast,
        assumed: false,
    };
    let path = Path {
        route: Some(route),
        mac: Some([2, 0, 0, 0, 0, 9]),
        ..Path::default()
    };
    network.paths.insert("collector".to_owned(), path);
    Ok(network)
}
