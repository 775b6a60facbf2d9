//! Unwraps the copies that traffic-mirror sends, for tools that do not know GUE, on a host whose
//! kernel or rules have no tunnel for it.

mod gue;
mod senders;
mod sink;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use clap::{ArgGroup, Parser};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use gue::Malformed;
use senders::Senders;
use sink::Sink;
use socket::Socket;

/// What `--version` prints: the revision is that of the source, which the Makefile and the build of
/// the packages set.
fn long_version() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let revision = option_env!("TRAFFIC_MIRROR_REVISION").unwrap_or_default();
        let revision = if revision.is_empty() {
            "unknown"
        } else {
            revision
        };
        format!("{}\nrevision {revision}", env!("CARGO_PKG_VERSION"))
    });
    &LONG
}

/// Unwrap copies of traffic-mirror
///
/// Receives GUE over UDP and writes the IP packets in it to standard output, as pcap, or into a tap
/// interface. SIGUSR1 prints the counters. Ends with SIGTERM, or when nobody reads the output.
#[derive(Debug, Parser)]
#[command(version, long_version = long_version(), max_term_width = 100)]
#[command(group(ArgGroup::new("output").required(true)))]
struct Arguments {
    /// Address and port to receive on; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:6080")]
    listen: Vec<SocketAddr>,
    /// Hosts whose copies are accepted: addresses and networks, or `any`
    #[arg(long, value_name = "NETWORKS", value_parser = parse_senders, required = true)]
    from: Vec<Networks>,
    /// Write pcap to standard output
    #[arg(long, group = "output")]
    pcap: bool,
    /// Feed this tap interface with Ethernet frames; it is made if there is none
    #[arg(long, value_name = "NAME", group = "output")]
    tap: Option<String>,
}

/// One `--from`.
type Networks = Vec<IpNet>;

fn parse_senders(text: &str) -> Result<Networks, String> {
    senders::parse(text)
}

/// What became of datagrams.
#[derive(Debug, Default)]
struct Counts {
    copies: u64,
    truncated: u64,
    strangers: u64,
    lost: u64,
    interface_down: u64,
    malformed: BTreeMap<Malformed, u64>,
}

impl Counts {
    fn print(&self) {
        let mut parts = vec![format!("{} copies", self.copies)];
        let others = [
            (self.truncated, "of them truncated".to_owned()),
            (self.strangers, "from other senders, dropped".to_owned()),
            (self.lost, "lost, the socket buffer was full".to_owned()),
            (
                self.interface_down,
                "lost, the interface is down".to_owned(),
            ),
        ];
        let malformed = Malformed::ALL.iter().map(|reason| {
            let count = self.malformed.get(reason).copied().unwrap_or(0);
            (count, format!("dropped, {reason}"))
        });
        let others = others
            .into_iter()
            .chain(malformed)
            .filter(|(count, _)| *count > 0);
        parts.extend(others.map(|(count, what)| format!("{count} {what}")));
        eprintln!("traffic-mirror-collector: {}", parts.join("; "));
    }
}

/// Exit code of wrong usage, as in sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // nothing can be done if it cannot be printed
            let _ = error.print();
            return if error.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let senders = Senders::new(arguments.from.concat());
    let mut sockets = Vec::new();
    for &address in &arguments.listen {
        let bound = Socket::bind(address);
        sockets.push(bound.map_err(|error| cannot_receive(address, error))?);
    }
    let mut sink = match &arguments.tap {
        Some(name) => Sink::tap(name)?,
        None => Sink::pcap()?,
    };
    let (ended, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    for signal in [SIGTERM, SIGINT] {
        // the second one: a reader that has stopped keeps a write from ending
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&ended))?;
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    signal_hook::flag::register(SIGUSR1, Arc::clone(&asked))?;
    // a service manager may wait for it; without one nothing happens
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut counts = Counts::default();
    let result = loop {
        if ended.load(Ordering::Relaxed) {
            break Ok(());
        }
        if asked.swap(false, Ordering::Relaxed) {
            counts.print();
        }
        if let Err(error) = pass(&mut sockets, &senders, &mut sink, &mut counts) {
            break match error.kind() {
                io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(error),
            };
        }
    };
    counts.print();
    Ok(result?)
}

/// What is wrong with an address, and the remedy.
fn cannot_receive(address: SocketAddr, error: io::Error) -> anyhow::Error {
    let remedy = match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => "; without IPv6 give --listen 0.0.0.0:6080",
        Some(libc::EADDRINUSE) => "; ss --udp --listening --numeric --processes shows by whom",
        _ => "",
    };
    anyhow::anyhow!("cannot receive on {address}: {error}{remedy}")
}

/// Waits for datagrams and passes on what has come, a share of each socket in turn.
fn pass(
    sockets: &mut [Socket],
    senders: &Senders,
    sink: &mut Sink,
    counts: &mut Counts,
) -> io::Result<()> {
    const SHARE: usize = 256;
    // a signal that comes just before is noticed after it
    const LONGEST: u16 = 1000;
    let mut waiting: Vec<PollFd<'_>> = sockets
        .iter()
        .map(|socket| PollFd::new(std::os::fd::AsFd::as_fd(socket), PollFlags::POLLIN))
        .collect();
    match poll(&mut waiting, LONGEST) {
        Err(Errno::EINTR) => return Ok(()),
        polled => polled?,
    };
    let mut buffer = vec![0; sink::MOST_BYTES];
    for socket in sockets {
        for _ in 0..SHARE {
            let Some(arrived) = socket.receive(&mut buffer)? else {
                break;
            };
            counts.lost += u64::from(arrived.lost);
            if !senders.has(arrived.sender) {
                counts.strangers += 1;
                continue;
            }
            match gue::unwrap(&buffer[..arrived.bytes]) {
                Ok(inner) => {
                    counts.truncated += u64::from(inner.bytes.len() < inner.length);
                    match sink.write(&inner, arrived.at)? {
                        true => counts.copies += 1,
                        false => counts.interface_down += 1,
                    }
                }
                Err(reason) => *counts.malformed.entry(reason).or_default() += 1,
            }
        }
    }
    sink.flush()
}
