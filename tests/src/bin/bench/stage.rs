//! A client, an edge that mirrors what comes from it, and a collector that drops what it gets at
//! once, so that no mirror is charged with what a collector does.

use anyhow::{Context as _, Result, ensure};
use std::collections::HashSet;
use std::fs::read_to_string;
use std::net::Ipv4Addr;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::foreign::{Foreign, Side, Verdict};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::socket::PacketType;
use traffic_mirror_tests::lab::veth::Veth;
use traffic_mirror_tests::lab::{TempDir, kernel};
use traffic_mirror_tests::oracle::large;
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::references::bare_clone;

use crate::SEED;

/// Where the edge listens.
pub(crate) const EDGE: &str = "198.51.100.254";
/// Where copies go.
const COLLECTOR: &str = "192.0.2.1";
const SOURCE: &str = "192.0.2.254";
/// Room for what is put around copies, so that none has to be cut.
const OUTPUT_MTU: u32 = 1600;

/// Who mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mirror {
    Nobody,
    /// The daemon, one filter for TCP and UDP, over IPv4.
    Ours,
    /// A program that clones.
    BareClone,
    /// `tc` u32 and mirred, as packets are: without a tunnel, so that only a neighbour can receive
    /// them.
    Mirred,
    /// The same into the kernel's VXLAN.
    MirredVxlan,
    /// `nft dup` on the ingress, as mirred.
    NftDup,
    /// The daemon, many filters, none of which wants the traffic.
    OursBeside,
    /// A list of `tc` filters, none of which wants it.
    MirredBeside,
    /// A set of addresses in nftables, without the one that sends.
    NftBeside,
}

/// Filters that want something else.
const FILTERS: usize = 10_000;
/// `tc` asks one after the other.
const TC_FILTERS: usize = 1_000;

impl Mirror {
    /// Those that mirror all of it, and none of it; in both nobody is the first and ours the
    /// second.
    pub(crate) const ALL: [Self; 6] = [
        Self::Nobody,
        Self::Ours,
        Self::BareClone,
        Self::Mirred,
        Self::MirredVxlan,
        Self::NftDup,
    ];
    pub(crate) const BESIDE: [Self; 4] = [
        Self::Nobody,
        Self::OursBeside,
        Self::MirredBeside,
        Self::NftBeside,
    ];

    /// Whether it is to mirror what comes.
    pub(crate) const fn mirrors(self) -> bool {
        matches!(
            self,
            Self::Ours | Self::BareClone | Self::Mirred | Self::MirredVxlan | Self::NftDup
        )
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no mirror",
            Self::Ours => "traffic-mirror, GUE",
            Self::BareClone => "a bare clone",
            Self::Mirred => "tc u32 + mirred",
            Self::MirredVxlan => "tc u32 + mirred, VXLAN",
            Self::NftDup => "nft dup",
            Self::OursBeside => "traffic-mirror, 10,000 filters for hosts and ports",
            Self::MirredBeside => "tc u32, 1,000 filters for hosts",
            Self::NftBeside => "nft dup, a set of 10,000 hosts",
        }
    }
}

/// The namespaces, with a mirror in its place.
pub(crate) struct Stage {
    pub(crate) mirror: Mirror,
    _daemon: Option<Daemon>,
    _programs: Vec<Foreign>,
    pub(crate) client: Netns,
    pub(crate) edge: Netns,
    collector: Netns,
}

impl Stage {
    /// An error of a tool or of the kernel, if there is no such mirror here.
    pub(crate) fn new(mirror: Mirror) -> Result<Self> {
        let [client, edge, collector] =
            ["client", "edge", "collector"].map(|name| -> Result<Netns> {
                let netns = Netns::new(name)?;
                netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
                Ok(netns)
            });
        let (client, edge, collector) = (client?, edge?, collector?);
        Veth::default().create(&edge, "eth0", &client, "eth0")?;
        Veth {
            mtu: OUTPUT_MTU,
            ..Veth::default()
        }
        .create(&edge, "eth1", &collector, "eth0")?;
        client.address("eth0", "198.51.100.1/24")?;
        edge.address("eth0", &format!("{EDGE}/24"))?;
        edge.address("eth1", &format!("{SOURCE}/24"))?;
        collector.address("eth0", &format!("{COLLECTOR}/24"))?;
        // nobody answers at a collector that drops all
        let mac = collector
            .mac("eth0")?
            .map(|byte| format!("{byte:02x}"))
            .join(":");
        edge.run(&format!(
            "ip neigh add {COLLECTOR} lladdr {mac} dev eth1 nud permanent"
        ))?;
        let mut drop = Foreign::load("drop", Verdict::Drop)?;
        attach(&mut drop, &collector, "eth0")?;
        let (mut daemon, mut programs) = (None, vec![drop]);
        match mirror {
            Mirror::Nobody => {}
            Mirror::Ours => {
                daemon = Some(Daemon::start(
                    &edge,
                    &file("protocol = [\"tcp\", \"udp\"]\n"),
                )?)
            }
            Mirror::OursBeside => daemon = Some(Daemon::start(&edge, &beside())?),
            Mirror::BareClone => {
                let mut clone = bare_clone(edge.index("eth1")?)?;
                attach(&mut clone, &edge, "eth0")?;
                programs.push(clone);
            }
            Mirror::Mirred => mirred(&edge, "eth1")?,
            Mirror::MirredVxlan => {
                edge.run(&format!(
                    "ip link add name vxlan0 type vxlan id 1 local {SOURCE} remote {COLLECTOR} dstport 4789 dev eth1"
                ))?;
                edge.run("ip link set vxlan0 up")?;
                mirred(&edge, "vxlan0")?;
            }
            Mirror::MirredBeside => mirred_beside(&edge)?,
            Mirror::NftDup => dup(&edge, "", "meta protocol ip")?,
            Mirror::NftBeside => {
                let hosts: Vec<String> = others()
                    .take(FILTERS)
                    .map(|host| host.to_string())
                    .collect();
                let set = format!(
                    "set hosts {{\ntype ipv4_addr\nelements = {{ {} }}\n}}\n",
                    hosts.join(", ")
                );
                dup(&edge, &set, "ip saddr @hosts")?;
            }
        }
        Ok(Self {
            mirror,
            _daemon: daemon,
            _programs: programs,
            client,
            edge,
            collector,
        })
    }

    /// Packets that the edge has got from the client so far, and those that the collector has got:
    /// superpackets count as one.
    pub(crate) fn passed(&self) -> Result<(u64, u64)> {
        Ok((received(&self.edge)?, received(&self.collector)?))
    }
}

fn file(fields: &str) -> String {
    format!(
        "[[interface]]\nname = \"eth0\"\ndirection = \"ingress\"\n[endpoint.ids]\naddress = \"{COLLECTOR}\"\n\
         [[filter]]\nname = \"all\"\n{fields}to = [\"ids\"]\n"
    )
}

/// Many filters.
fn beside() -> String {
    let many = large::hosts_and_ports(&mut Random::new(SEED), FILTERS);
    many.replace("protocol = [\"tcp\"]", "protocol = [\"udp\"]")
}

/// Hosts far from those of the stage.
fn others() -> impl Iterator<Item = Ipv4Addr> {
    let mut random = Random::new(SEED);
    let mut known = HashSet::new();
    std::iter::repeat_with(move || Ipv4Addr::from_bits(10 << 24 | random.bits() as u32 >> 8))
        .filter(move |host| known.insert(*host))
}

/// On the ingress, in the newest way that the kernel has.
pub(crate) fn attach(program: &mut Foreign, netns: &Netns, interface: &str) -> Result<()> {
    if kernel()? >= (6, 6) {
        return program.attach(netns, "tcx", interface, PacketType::Incoming, Side::Last);
    }
    netns.run(&format!("tc qdisc add dev {interface} clsact"))?;
    program.attach(netns, "clsact", interface, PacketType::Incoming, Side::Last)
}

/// IPv4 that comes in by `eth0`, to another interface.
fn mirred(edge: &Netns, output: &str) -> Result<()> {
    edge.run("tc qdisc add dev eth0 clsact")?;
    edge.run(&format!(
        "tc filter add dev eth0 ingress protocol ip u32 match u32 0 0 action mirred egress mirror dev {output}"
    ))?;
    Ok(())
}

/// A filter for each of many hosts.
fn mirred_beside(edge: &Netns) -> Result<()> {
    edge.run("tc qdisc add dev eth0 clsact")?;
    let directory = TempDir::new()?;
    let path = directory.path().join("filters.tc");
    let filters = others().take(TC_FILTERS).map(|host| {
        format!(
            "filter add dev eth0 ingress protocol ip prio 1 u32 match ip src {host}/32 action mirred egress mirror dev eth1\n"
        )
    });
    std::fs::write(&path, filters.collect::<String>())?;
    edge.run(&format!("tc -batch {}", path.display())).map(drop)
}

/// What matches, to `eth1`.
fn dup(edge: &Netns, sets: &str, matches: &str) -> Result<()> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_installed = std::env::split_paths(&paths).any(|path| path.join("nft").is_file());
    ensure!(is_installed, "nft is not installed");
    let directory = TempDir::new()?;
    let path = directory.path().join("dup.nft");
    let chain =
        format!("type filter hook ingress device \"eth0\" priority 0;\n{matches} dup to \"eth1\"");
    std::fs::write(
        &path,
        format!("table netdev bench {{\n{sets}chain copy {{\n{chain}\n}}\n}}\n"),
    )?;
    edge.run(&format!("nft -f {}", path.display())).map(drop)
}

/// Packets that have come in by `eth0`.
fn received(netns: &Netns) -> Result<u64> {
    netns.enter(|| {
        let text = read_to_string("/proc/thread-self/net/dev").context("read /proc/net/dev")?;
        let line = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix("eth0:"));
        let packets = line
            .and_then(|line| line.split_whitespace().nth(1))
            .context("no count of packets")?;
        Ok(packets.parse()?)
    })
}
