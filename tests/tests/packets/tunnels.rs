//! What is looked at is a tunnel of the kernel's own without a link header. Each leaves something
//! else before the IP header.

use crate::edge::Attach;
use crate::gso::missing;
use crate::routed::{COLLECTOR, Routed, WEB, address, count, sent_to};
use anyhow::{Context as _, Result, bail, ensure};
use traffic_mirror_tests::lab::connection::Connection;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Ip, verify_inner_checksums};
use traffic_mirror_tests::lab::status::{Counters, Status};
use traffic_mirror_tests::lab::traffic::{Stream, tcp_transfer, udp_exchange};
use traffic_mirror_tests::lab::{deadline, kernel};

/// Addresses inside, by family: the client's and the edge's.
const INSIDE: [[&str; 2]; 2] = [["10.5.0.1", "10.5.0.2"], ["2001:db8:5::1", "2001:db8:5::2"]];
/// Families that a tunnel carries, as places in [`INSIDE`].
const V4: &[usize] = &[0];
const V6: &[usize] = &[1];
const BOTH: &[usize] = &[0, 1];

struct Tunnel {
    what: &'static str,
    /// The kernel module that it takes.
    module: &'static str,
    /// How it is made at each end: `HERE` and `THERE` are outer addresses, `NEXT` the inner one of
    /// the other end.
    lines: &'static [&'static str],
    carries: &'static [usize],
    is_over_ipv6: bool,
}

const fn tunnel(
    what: &'static str,
    module: &'static str,
    lines: &'static [&'static str],
) -> Tunnel {
    Tunnel {
        what,
        module,
        lines,
        carries: BOTH,
        is_over_ipv6: false,
    }
}

const TUNNELS: [Tunnel; 10] = [
    tunnel(
        "GRE",
        "ip_gre",
        &["ip link add t0 type gre local HERE remote THERE"],
    ),
    tunnel(
        "GRE with key and checksum",
        "ip_gre",
        &["ip link add t0 type gre local HERE remote THERE key 7 csum seq"],
    ),
    // the other end is a neighbour's hardware address, and the outer header is there before the
    // packet leaves
    Tunnel {
        carries: V4,
        ..tunnel(
            "GRE to many",
            "ip_gre",
            &[
                "ip link add t0 type gre local HERE key 7",
                "ip neighbour add NEXT lladdr THERE dev t0 nud permanent",
            ],
        )
    },
    Tunnel {
        carries: V4,
        ..tunnel(
            "IPIP",
            "ipip",
            &["ip link add t0 type ipip local HERE remote THERE"],
        )
    },
    Tunnel {
        carries: V6,
        ..tunnel(
            "SIT",
            "sit",
            &["ip link add t0 type sit local HERE remote THERE"],
        )
    },
    Tunnel {
        carries: V4,
        ..tunnel(
            "IPIP by SIT",
            "sit",
            &["ip link add t0 type sit mode any local HERE remote THERE"],
        )
    },
    Tunnel {
        is_over_ipv6: true,
        ..tunnel(
            "GRE over IPv6",
            "ip6_gre",
            &["ip link add t0 type ip6gre local HERE remote THERE"],
        )
    },
    Tunnel {
        is_over_ipv6: true,
        ..tunnel(
            "any over IPv6",
            "ip6_tunnel",
            &["ip link add t0 type ip6tnl mode any local HERE remote THERE"],
        )
    },
    Tunnel {
        carries: V4,
        ..tunnel("IPsec", "xfrm_interface", XFRM)
    },
    tunnel("WireGuard", "wireguard", WIREGUARD),
];

/// An XFRM interface, with the same keys both ways.
const XFRM: &[&str] = &[
    "ip link add t0 mtu 1400 type xfrm dev eth0 if_id 7",
    "ip xfrm state add src HERE dst THERE proto esp spi 7 reqid 1 mode tunnel if_id 7 auth hmac(sha1) \
        0x0123456789abcdef0123456789abcdef01234567 enc cbc(aes) 0x0123456789abcdef0123456789abcdef",
    "ip xfrm state add src THERE dst HERE proto esp spi 7 reqid 1 mode tunnel if_id 7 auth hmac(sha1) \
        0x0123456789abcdef0123456789abcdef01234567 enc cbc(aes) 0x0123456789abcdef0123456789abcdef",
    "ip xfrm policy add dir out if_id 7 tmpl src HERE dst THERE proto esp reqid 1 mode tunnel",
    "ip xfrm policy add dir in if_id 7 tmpl src THERE dst HERE proto esp reqid 1 mode tunnel",
];

/// Keys are told to the other end: see [`Tunnel::add`].
const WIREGUARD: &[&str] = &["ip link add t0 type wireguard"];

impl Tunnel {
    /// Linux 6.12 refuses to cut superpackets that SIT has received and that are in another tunnel
    /// by now; they are counted.
    fn may_lose_superpackets(&self) -> Result<bool> {
        Ok(self.module == "sit" && kernel()? >= (6, 12))
    }

    const fn outer(&self) -> [&'static str; 2] {
        if self.is_over_ipv6 {
            ["2001:db8::1", "2001:db8::fe"]
        } else {
            ["10.0.0.1", "10.0.0.254"]
        }
    }

    /// A line for one end.
    fn line(&self, line: &str, end: usize) -> String {
        let [here, there] = [self.outer()[end], self.outer()[1 - end]];
        line.replace("THERE", there)
            .replace("HERE", here)
            .replace("NEXT", INSIDE[0][1 - end])
    }

    /// Whether the kernel has it; an error where it must.
    fn is_there(&self) -> Result<bool> {
        let line = self.line(self.lines[0], 0).replace("eth0", "lo");
        let Err(error) = Netns::new("pk-modules")?.run(&line) else {
            return Ok(true);
        };
        let modules = std::env::var("TEST_MODULES").unwrap_or_default();
        ensure!(
            !modules.split(' ').any(|one| one == self.module),
            "{error:#}"
        );
        println!(
            "skipped: {} takes the kernel module {}",
            self.what, self.module
        );
        Ok(false)
    }

    /// Makes both ends.
    fn add(&self, lab: &Routed) -> Result<()> {
        let hosts = [&lab.client, &lab.edge];
        for (end, host) in hosts.into_iter().enumerate() {
            self.lines
                .iter()
                .try_for_each(|line| host.run(&self.line(line, end)).map(drop))?;
            for family in self.carries {
                let length = [24, 64][*family];
                host.address("t0", &format!("{}/{length}", INSIDE[*family][end]))?;
            }
        }
        if self.module == "wireguard" {
            exchange_keys(hosts, self.outer())?;
        }
        hosts
            .iter()
            .try_for_each(|host| host.run("ip link set t0 up").map(drop))
    }

    /// Removes both ends, and waits until the daemon has let go of them.
    fn remove(&self, lab: &Routed) -> Result<()> {
        for host in [&lab.client, &lab.edge] {
            host.run("ip link delete t0")?;
            if self.module == "xfrm_interface" {
                host.run("ip xfrm policy flush")?;
                host.run("ip xfrm state flush")?;
            }
        }
        Status::until(&lab.daemon, |status| hooks(status) == Some(0), deadline()).map(drop)
    }
}

fn exchange_keys(hosts: [&Netns; 2], outer: [&str; 2]) -> Result<()> {
    let mut keys = Vec::new();
    for (end, host) in hosts.into_iter().enumerate() {
        let path = format!("/tmp/traffic-mirror-test-{}-{end}", std::process::id());
        let key = host.run("wg genkey")?;
        std::fs::write(&path, &key)?;
        host.run(&format!("wg set t0 listen-port 51820 private-key {path}"))?;
        std::fs::remove_file(&path)?;
        keys.push(host.run("wg show t0 public-key")?);
    }
    for (end, host) in hosts.into_iter().enumerate() {
        let (key, there) = (keys[1 - end].trim(), outer[1 - end]);
        let peer =
            format!("wg set t0 peer {key} endpoint {there}:51820 allowed-ips 0.0.0.0/0,::/0");
        host.run(&peer)?;
    }
    Ok(())
}

#[test]
fn the_kernels_tunnels_are_looked_at() -> Result<()> {
    let mut tunnels = Vec::new();
    for tunnel in &TUNNELS {
        if tunnel.is_there()? {
            tunnels.push(tunnel);
        }
    }
    if tunnels.is_empty() {
        return Ok(());
    }
    for &attach in Attach::all()? {
        // not the devices that the modules make by themselves, such as tunl0
        let mut lab = Routed::new(&WEB.replace("eth0", "t?"), attach, 1600)?;
        for output_mtu in [1600, 1500] {
            lab.set_output_mtu(output_mtu)?;
            for tunnel in &tunnels {
                let context = || format!("{attach:?} {}, output MTU {output_mtu}", tunnel.what);
                tunnel.add(&lab).with_context(context)?;
                both_ways(&mut lab, tunnel).with_context(context)?;
                tunnel.remove(&lab).with_context(context)?;
            }
        }
    }
    Ok(())
}

/// How many hooks have programs.
fn hooks(status: &Status) -> Option<usize> {
    Some(status.0["interfaces"].as_array()?.len())
}

fn both_ways(lab: &mut Routed, tunnel: &Tunnel) -> Result<()> {
    const TCP_BYTES: usize = 300_000;
    let status = Status::until(&lab.daemon, |status| hooks(status) == Some(2), deadline())?;
    // its counters begin anew, those of the endpoints go on
    lab.daemon.begin(&status);
    let start = status.counters();
    let moved = |counters: &Counters, key: &str| count(counters, key) > count(&start, key);
    let hosts = [&lab.client, &lab.edge];
    for &family in tunnel.carries {
        let ends = INSIDE[family];
        // finds the other end
        udp_exchange(
            hosts[0],
            address(ends[0], 4433),
            hosts[1],
            address(ends[1], 9),
            b"hello",
        )?;
    }
    let mut production = Vec::new();
    for &family in tunnel.carries {
        // which no filter asks for
        let connection =
            Connection::open(&lab.client, &lab.edge, address(INSIDE[family][1], 8443))?;
        connection.carry(50_000)?;
        let ways = connection.ways()?;
        production.push((connection, ways));
    }
    let mut before = lab.settle()?.1;
    for &family in tunnel.carries {
        let ends = INSIDE[family];
        for length in [1, 100, 1000, 1300, 3000] {
            let payload = Stream::new(length as u64).bytes(length);
            let (client, edge) = (address(ends[0], 4433), address(ends[1], 443));
            udp_exchange(&lab.client, client, &lab.edge, edge, &payload)?;
            let (copies, after) = lab.settle()?;
            for (endpoint, name) in COLLECTOR.into_iter().zip(["four", "six"]) {
                let copies = sent_to(&copies, endpoint)?;
                let counter = format!("endpoint {name} packets");
                let counted = count(&after, &counter) - count(&before, &counter);
                let context = format!(
                    "{length} bytes, family {family}, to {endpoint}: {counted} counted, {after:?}"
                );
                ensure!(
                    copies.len() as u64 == counted,
                    "{context}: {} copies",
                    copies.len()
                );
                let of = |from: &str| -> Result<Vec<u8>> {
                    let mut carried = Vec::new();
                    for copy in &copies {
                        let ip = Ip::parse(&copy.inner)?;
                        if ip.source == from.parse::<std::net::IpAddr>()? {
                            let offset = ip.fragment.as_ref().map_or(0, |one| one.offset);
                            let header = if offset == 0 { 8 } else { 0 };
                            carried.push((offset, ip.upper[header..].to_vec()));
                        }
                        verify(&copy.inner, ip.fragment.is_none())?;
                    }
                    // WireGuard has several CPUs at work on the fragments of a datagram
                    carried.sort_by_key(|(offset, _)| *offset);
                    Ok(carried.into_iter().flat_map(|(_, bytes)| bytes).collect())
                };
                for from in ends {
                    ensure!(of(from)? == payload, "{context}: other bytes from {from}");
                }
            }
            before = after;
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let hosts = [&lab.client, &lab.edge];
            tcp_transfer(
                hosts[from],
                hosts[to],
                address(ends[to], 443),
                TCP_BYTES,
                11,
            )?;
            let (copies, after) = lab.settle()?;
            for endpoint in COLLECTOR {
                let copies = sent_to(&copies, endpoint)?;
                let missing = missing(
                    &copies,
                    (ends[from], ends[to]),
                    &Stream::new(11).bytes(TCP_BYTES),
                    1600,
                )
                .with_context(|| format!("to {endpoint}"))?;
                let is_known =
                    tunnel.may_lose_superpackets()? && moved(&after, "endpoint four drop clone");
                ensure!(
                    missing == 0 || is_known,
                    "TCP from {}: {missing} bytes missing at {endpoint}: {after:?}",
                    ends[from]
                );
            }
            before = after;
        }
    }
    for (connection, before) in &production {
        connection.carry(50_000)?;
        let ways = connection.ways()?;
        ensure!(
            ways == *before,
            "a connection in the tunnel had {before:?}, and has {ways:?}"
        );
    }
    let (_, after) = lab.settle()?;
    let is_wrong = |key: &&String| key.contains(" drop ") || key.contains("malformed");
    let is_known = |key: &String| key.ends_with(" drop clone") && tunnel.module == "sit";
    let wrong: Vec<_> = after
        .keys()
        .filter(is_wrong)
        .filter(|key| !is_known(key) && moved(&after, key))
        .collect();
    if !wrong.is_empty() {
        bail!("{wrong:?}: {after:?}");
    }
    Ok(())
}

fn verify(packet: &[u8], is_whole: bool) -> Result<()> {
    if is_whole {
        verify_inner_checksums(packet)
    } else {
        Ok(())
    }
}
