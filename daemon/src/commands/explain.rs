//! `explain`: what happens to a packet, and why. The kernel's tables answer.

use std::fs;
use std::io::Cursor;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde::Serialize;
use traffic_mirror::cgroup::{Applications, find, read_all};
use traffic_mirror::compile::{Described, class_of_cgroup, class_of_name, describe};
use traffic_mirror::desired::{Desired, parse_application, parse_protocol};
use traffic_mirror::kernel::Observer;
use traffic_mirror::network::{self, Network};
use traffic_mirror::preview::hook_name;
use traffic_mirror::verdict::{
    Asked, Capture, CapturedName, Verdict, captured_names, frame, framed, hook_of, verdict,
    why_no_hook,
};
use traffic_mirror_ebpf::packet::has_ports;

use super::dns::of_daemon;
use super::reading::not_running;
use super::{print, print_json};
use crate::USAGE;

#[derive(Debug, Args)]
pub(crate) struct Question {
    /// Interface that the packet passes
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// Direction in which the packet passes the interface
    #[arg(long, value_enum)]
    direction: DirectionArg,
    /// IP protocol, a name or a number
    #[arg(long, value_parser = parse_protocol, required_unless_present = "pcap", conflicts_with = "pcap")]
    protocol: Option<u8>,
    /// Source address, IPv4 or IPv6
    #[arg(
        long,
        value_name = "ADDRESS",
        required_unless_present = "pcap",
        conflicts_with = "pcap"
    )]
    source: Option<IpAddr>,
    /// Source port; required for protocols with ports
    #[arg(long, value_name = "PORT", conflicts_with = "pcap")]
    source_port: Option<u16>,
    /// Destination address, IPv4 or IPv6
    #[arg(
        long,
        value_name = "ADDRESS",
        required_unless_present = "pcap",
        conflicts_with = "pcap"
    )]
    destination: Option<IpAddr>,
    /// Destination port; required for protocols with ports
    #[arg(long, value_name = "PORT", conflicts_with = "pcap")]
    destination_port: Option<u16>,
    /// VLAN ID of the outermost tag [default: no tag]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=4094), conflicts_with = "pcap")]
    vlan: Option<u16>,
    /// Name of the server that the client of the packet's connection asks for [default: not known
    /// yet]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Application that sends or receives the packet, a unit or the path of a cgroup that exists
    /// [default: not known yet]
    #[arg(long, value_name = "UNIT")]
    application: Option<String>,
    /// Read the packets from a capture instead (pcap or pcapng, Ethernet or raw IP); the server
    /// names of its TCP connections are those that it has
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DirectionArg {
    Ingress,
    Egress,
}

/// Version of the JSON, which packaging/schema/explain.schema.json describes.
const SCHEMA: u32 = 1;

/// What is printed of one packet.
#[derive(Serialize)]
struct Answer {
    schema: u32,
    #[serde(flatten)]
    verdict: Verdict,
}

/// What is printed of the packets of a capture.
#[derive(Serialize)]
struct Answers {
    schema: u32,
    verdicts: Vec<Verdict>,
}

pub(crate) fn explain(
    question: &Question,
    pin_path: &Path,
    names: &Path,
) -> anyhow::Result<ExitCode> {
    let frames = match &question.pcap {
        Some(path) => frames(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => match made_up(question) {
            Ok(frame) => vec![frame],
            Err(reason) => {
                eprintln!("error: {reason}\n\nFor more information, try '--help'.");
                return Ok(USAGE.into());
            }
        },
    };
    let Some(mut verdicts) = ask(question, pin_path, &frames)? else {
        return not_running(pin_path);
    };
    let lacks_address = verdicts.iter().any(Verdict::lacks_address);
    if let Some((desired, names)) = of_daemon(pin_path, names, lacks_address) {
        let names = names.unwrap_or_default();
        for verdict in &mut verdicts {
            verdict.add_dns_names(&desired, &names);
        }
    }
    match (&question.pcap, question.json) {
        (None, false) => print(&verdicts[0].to_string()),
        (None, true) => print_json(&Answer {
            schema: SCHEMA,
            verdict: verdicts.remove(0),
        })?,
        (Some(_), false) => print(&Capture(&verdicts).to_string()),
        (Some(_), true) => print_json(&Answers {
            schema: SCHEMA,
            verdicts,
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

fn made_up(question: &Question) -> Result<Vec<u8>, &'static str> {
    let (Some(protocol), Some(source), Some(destination)) =
        (question.protocol, question.source, question.destination)
    else {
        return Err("protocol, source and destination are needed");
    };
    let (source_port, destination_port) = match (question.source_port, question.destination_port) {
        (Some(source), Some(destination)) if has_ports(protocol) => (source, destination),
        (None, None) if !has_ports(protocol) => (0, 0),
        _ if has_ports(protocol) => {
            return Err("the protocol has ports: give --source-port and --destination-port");
        }
        _ => {
            return Err(
                "the protocol has no ports: leave out --source-port and --destination-port",
            );
        }
    };
    frame(
        protocol,
        (source, source_port),
        (destination, destination_port),
        question.vlan,
    )
    .ok_or("source and destination must both be IPv4 or both be IPv6")
}

/// Queries the programs, and again if a reload came between reading the tables and the answers.
/// `None` if nothing is live.
fn ask(
    question: &Question,
    pin_path: &Path,
    frames: &[Vec<u8>],
) -> anyhow::Result<Option<Vec<Verdict>>> {
    const ATTEMPTS: usize = 50;
    let names = match (&question.server_name, &question.pcap) {
        (Some(name), _) => vec![CapturedName::Is(name.clone()); frames.len()],
        (None, Some(_)) => captured_names(frames),
        (None, None) => vec![CapturedName::NotYet; frames.len()],
    };
    let application = question.application.as_deref();
    let application = application.map(cgroup_of).transpose()?;
    let mut observer = Observer::open(pin_path)?;
    for _ in 0..ATTEMPTS {
        let Some(live) = observer.live()? else {
            return Ok(None);
        };
        let network = observer.observe(&Desired::default(), None)?;
        let described = describe(&live.tables, &Desired::default())
            .context("the live tables are inconsistent")?;
        let hook = hook(question, &described, &network)?;
        if !observer.is_attached(described.hooks[&hook])? {
            bail!(
                "no packet is matched: the program is not attached to {}",
                hook_name(&network, described.hooks[&hook])
            );
        }
        let class = |name: &CapturedName| match name {
            CapturedName::NotYet => None,
            CapturedName::Undecided => Some(live.tables.values.undecided),
            CapturedName::Is(name) => Some(class_of_name(&live.tables, name)),
        };
        let cgroup = application.as_ref();
        let cgroup_class = cgroup.map(|(_, ids)| class_of_cgroup(&live.tables, ids));
        let mut explainer = observer.explainer(live.generation)?;
        let answers: Vec<_> = frames
            .iter()
            .zip(&names)
            .map(|(frame, name)| explainer.ask(hook, frame, [class(name), cgroup_class]))
            .collect::<Result<_, _>>()?;
        if observer.live()?.as_ref() == Some(&live) {
            let told = |name: &CapturedName| match name {
                CapturedName::Is(name) => Some(name.clone()),
                _ => None,
            };
            let mut verdicts: Vec<_> = answers
                .iter()
                .zip(&names)
                .map(|(answer, name)| {
                    let name = told(name);
                    let asked = Asked {
                        name: name.as_deref(),
                        application: cgroup.map(|(text, ids)| (*text, &**ids)),
                    };
                    verdict(answer, asked, hook, &described, &network)
                })
                .collect();
            if question.pcap.is_some() {
                verdicts
                    .iter_mut()
                    .for_each(|verdict| verdict.near_misses.clear());
            }
            return Ok(Some(verdicts));
        }
    }
    bail!("the tables changed during each of 50 attempts; try again");
}

/// An application, and the ids of the cgroups from the root down to it.
fn cgroup_of(text: &str) -> anyhow::Result<(&str, Vec<u64>)> {
    let pattern = parse_application(text).map_err(|error| anyhow!(error))?;
    let tree = read_all(&find()?);
    let applications = Applications::new(std::slice::from_ref(&pattern), &tree);
    let first = applications.selected(&pattern).first();
    let first = first.with_context(|| {
        format!(
            "no cgroup of this host is application {text:?} now; \"systemd-cgls --all\" lists them"
        )
    })?;
    Ok((text, first.ids.clone()))
}

fn hook(question: &Question, live: &Described, network: &Network) -> anyhow::Result<u32> {
    let direction = match question.direction {
        DirectionArg::Ingress => network::Direction::Ingress,
        DirectionArg::Egress => network::Direction::Egress,
    };
    let link = network.link(&question.interface);
    if let (Some(link), Some(vlan)) = (link.filter(|link| link.kind.is_headerless()), question.vlan)
    {
        bail!(
            "packets of {} have no link header, so none has VLAN {vlan}; leave out --vlan",
            link.name
        );
    }
    let hook = link.and_then(|link| hook_of(live, (link.index, direction)));
    hook.ok_or_else(|| anyhow!(why_no_hook(&question.interface, direction, live, network)))
}

/// The frames of a capture.
fn frames(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
    let bytes = fs::read(path)?;
    if bytes.starts_with(&PCAPNG) {
        return frames_ng(&bytes);
    }
    let mut reader = PcapReader::new(Cursor::new(&bytes))?;
    let framing = framing(reader.header().datalink)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(framing(&packet?.data));
    }
    Ok(frames)
}

fn frames_ng(bytes: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut reader = PcapNgReader::new(Cursor::new(bytes))?;
    let (mut framings, mut frames) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        let (interface, data) = match block? {
            Block::InterfaceDescription(interface) => {
                framings.push(framing(interface.linktype)?);
                continue;
            }
            Block::EnhancedPacket(packet) => (packet.interface_id as usize, packet.data),
            Block::SimplePacket(packet) => (0, packet.data),
            _ => continue,
        };
        let framing = framings.get(interface).with_context(|| {
            format!("a packet names interface {interface}, which the capture does not describe")
        })?;
        frames.push(framing(&data));
    }
    Ok(frames)
}

/// What makes an Ethernet frame of a packet.
type Framing = fn(&[u8]) -> Vec<u8>;

fn framing(link: DataLink) -> anyhow::Result<Framing> {
    match link {
        DataLink::ETHERNET => Ok(<[u8]>::to_vec),
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => Ok(framed),
        _ => bail!("link type {link:?} is not supported; use Ethernet or raw IP"),
    }
}
