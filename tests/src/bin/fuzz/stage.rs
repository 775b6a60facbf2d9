//! Where frames go: a namespace with interfaces that lead nowhere, a file with all that an endpoint
//! can be, and its programs.

use std::cell::Cell;
use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use traffic_mirror::desired::Desired;
use traffic_mirror::network::{Direction, Link, LinkKind, Network, Path, Route, RouteKind};
use traffic_mirror::tables::Table;
use traffic_mirror_ebpf::abi::{Bank, Control, Endpoint};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::testrun::TestRun;
use traffic_mirror_tests::lab::tun::Tun;
use traffic_mirror_tests::lab::veth::veth;
use traffic_mirror_tests::oracle::kernel::Loaded;
use traffic_mirror_tests::oracle::naive::Place;
use traffic_mirror_tests::oracle::{compiled, load};

/// The interface that frames come by.
const IN: &str = "in0";
/// Outputs: Ethernet, one without link header, and one that has lost its `encap`.
const OUT: &str = "out0";
const TUN: &str = "tun0";
const BARE: &str = "bare0";

const FILE: &str = include_str!("stage.toml");
/// What the fuzzer of the parser has found, a line of hexadecimal digits each.
const CORPUS: &str = include_str!("../../../fuzz/corpus/frames.hex");

/// Endpoint, output, MTU of the route, whether the next hop is known.
const PATHS: [(&str, &str, u32, bool); 14] = [
    ("fragment", OUT, 1500, true),
    ("fragment6", OUT, 1280, true),
    ("truncate", OUT, 1500, true),
    ("drop", OUT, 1500, true),
    ("snap", OUT, 1500, true),
    ("sample", OUT, 1500, true),
    ("limit-bits", OUT, 1500, true),
    ("limit-packets", OUT, 9000, true),
    ("all6", OUT, 600, true),
    ("narrow", OUT, 120, true),
    ("wide", OUT, 65_535, true),
    ("unknown", OUT, 1500, false),
    ("headerless", TUN, 1400, false),
    ("bare", BARE, 1500, true),
];

/// The interfaces and the programs.
pub(crate) struct Stage {
    pub(crate) desired: Desired,
    pub(crate) loaded: Loaded,
    /// How copies go there.
    pub(crate) endpoints: Vec<Endpoint>,
    secret: Cell<u64>,
    /// Number of the maps, as copies carry it.
    pub(crate) generation: u32,
    /// Index of the interface that frames come by.
    pub(crate) ifindex: u32,
    /// Its hardware address.
    pub(crate) mac: [u8; 6],
    /// Hooks by direction.
    pub(crate) hooks: [usize; 2],
    /// Frames that take each way through the parser.
    pub(crate) corpus: Vec<Vec<u8>>,
    encap: SchedClassifier,
    noop: SchedClassifier,
    _tun: Tun,
}

impl Stage {
    /// Makes interfaces in `netns`, where the caller is, that lead to `sink`.
    pub(crate) fn new(netns: &Netns, sink: &Netns) -> Result<Self> {
        const SECRET: u64 = 0x0123_4567_89ab_cdef;
        for name in [IN, OUT, BARE] {
            veth(netns, name, sink, &format!("{name}-sink"))?;
        }
        let tun = Tun::create(netns, TUN)?;
        let desired = load(FILE);
        let network = network(netns, &desired)?;
        let tables = compiled(&desired, &network).tables;
        let loaded = Loaded::new(&tables, SECRET)?;
        let mut encap = loaded.generation().encap()?;
        for name in [OUT, TUN] {
            encap.attach(netns.index(name)?, TcAttachType::Egress)?;
        }
        let hooks = hooks(tables.active_bank(), &network)?;
        Ok(Self {
            secret: Cell::new(SECRET),
            generation: loaded.generation().number(),
            ifindex: netns.index(IN)?,
            mac: netns.mac(IN)?,
            hooks,
            endpoints: tables
                .endpoints
                .iter()
                .map(|[endpoint, _]| *endpoint)
                .collect(),
            corpus: CORPUS
                .lines()
                .map(bytes)
                .collect::<Option<_>>()
                .context("the corpus is not hexadecimal")?,
            noop: loaded.noop()?,
            encap,
            _tun: tun,
            desired,
            loaded,
        })
    }

    /// Where frames come by, as files call it.
    pub(crate) fn place(&self, direction: Direction) -> Place {
        Place {
            interface: IN.to_owned(),
            direction,
        }
    }

    /// The mark of a copy, and what fragments are remembered by.
    pub(crate) fn secret(&self) -> u64 {
        self.secret.get()
    }

    pub(crate) fn change_secret(&self) -> Result<()> {
        self.secret.set(self.secret() + 1);
        let offset = std::mem::offset_of!(Control, secret);
        self.loaded
            .generation()
            .write(Table::Control, [(offset, &self.secret().to_ne_bytes()[..])])?;
        Ok(())
    }

    pub(crate) fn encap(&self) -> &SchedClassifier {
        &self.encap
    }

    /// The empty program.
    pub(crate) fn noop(&self) -> &SchedClassifier {
        &self.noop
    }

    /// Bytes of the longest frame that a run takes: a page less what the kernel keeps there
    /// (`bpf_test_init`), or any.
    pub(crate) fn longest_frame(&self) -> Result<usize> {
        let takes = |bytes: usize| TestRun::new(&vec![0; bytes]).run(self.noop()).is_ok();
        let (mut taken, mut refused) = (14, (1 << 16) + 1);
        anyhow::ensure!(takes(taken), "no frame can be run");
        while refused - taken > 1 {
            let between = (taken + refused) / 2;
            *if takes(between) {
                &mut taken
            } else {
                &mut refused
            } = between;
        }
        Ok(taken)
    }
}

fn bytes(line: &str) -> Option<Vec<u8>> {
    let pairs = line.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn hooks(active: &Bank, network: &Network) -> Result<[usize; 2]> {
    let hook = |direction| {
        let place = Place {
            interface: IN.to_owned(),
            direction,
        };
        traffic_mirror_tests::oracle::hook(active, network, &place)
            .context("the interface has no hook")
    };
    Ok([hook(Direction::Ingress)?, hook(Direction::Egress)?])
}

/// The interfaces as they are, and the way to each endpoint as this test wants it.
fn network(netns: &Netns, desired: &Desired) -> Result<Network> {
    let mut network = Network::default();
    for (name, kind) in [
        (IN, LinkKind::Ethernet),
        (OUT, LinkKind::Ethernet),
        (BARE, LinkKind::Ethernet),
        (TUN, LinkKind::Other(libc::ARPHRD_NONE)),
    ] {
        let index = netns.index(name)?;
        let mac = (kind == LinkKind::Ethernet).then_some([2, 0, 0, 0, 0, 1]);
        network.links.insert(
            index,
            Link {
                mtu: 65_535,
                mac,
                kind,
                ..Link::ethernet(index, name)
            },
        );
    }
    let paths: BTreeMap<&str, _> = PATHS
        .into_iter()
        .map(|(name, output, mtu, known)| (name, (output, mtu, known)))
        .collect();
    for endpoint in &desired.endpoints {
        let Some(&(output, mtu, known)) = paths.get(&*endpoint.name) else {
            continue;
        };
        let source = if endpoint.address.is_some_and(|address| address.is_ipv4()) {
            "192.0.2.254".parse()?
        } else {
            "2001:db8::fe".parse()?
        };
        let route = Route {
            interface: netns.index(output)?,
            gateway: None,
            source: Some(source),
            mtu: Some(mtu),
            kind: RouteKind::Unicast,
            assumed: false,
        };
        let path = Path {
            route: Some(route),
            mac: known.then_some([2, 0, 0, 0, 0, 9]),
            ..Path::default()
        };
        network.paths.insert(endpoint.name.clone(), path);
    }
    Ok(network)
}
