//! Input: a name. Output: its addresses, as systemd-resolved answers by its varlink socket:
//! `io.systemd.Resolve.ResolveHostname`, JSON with a zero byte at its end. So each link's servers,
//! DNSSEC, DNS over TLS and hosts(5) apply as they do for other programs.
//!
//! The reply has no TTL, and newer methods that have one are missing from systemd 252 of Debian 12.
//! systemd-resolved has a cache that keeps it, so it is asked often.

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::Deserialize;
use serde_json::json;
use traffic_mirror_resolver::{Failure, Name};

use crate::ask::{Family, NO_TTL};
use crate::cache::Answer;

/// Classic DNS alone (`SD_RESOLVED_DNS`): any host of the link can answer LLMNR and multicast DNS.
const DNS: u64 = 1 << 0;
/// No search list (`SD_RESOLVED_NO_SEARCH`).
const NO_SEARCH: u64 = 1 << 8;
/// How long a question may take; systemd-resolved asks its servers several times.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a reply at most: some 100 for each address.
const MOST_BYTES: usize = 4 << 20;

/// Asks for addresses; `None` if systemd-resolved is not there.
pub(crate) fn ask(path: &Path, name: &Name, family: Family) -> Option<Answer> {
    let stream = match open(path) {
        Ok(stream) => stream,
        // its queue is full: it is there, and does not answer
        Err(Errno::EAGAIN) => return Some(Err(Failure::Timeout)),
        Err(_) => return None,
    };
    match exchange(stream, name, family, Instant::now() + PATIENCE) {
        Ok(reply) => Some(read(&reply, family)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Some(Err(Failure::Timeout)),
            io::ErrorKind::InvalidData => Some(Err(Failure::Malformed)),
            // it ends, or begins
            _ => None,
        },
    }
}

/// Connects without waiting: a queue that is full would block for ever.
fn open(path: &Path) -> Result<UnixStream, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false).map_err(|_| Errno::last())?;
    Ok(stream)
}

fn exchange(
    mut stream: UnixStream,
    name: &Name,
    family: Family,
    end: Instant,
) -> io::Result<Vec<u8>> {
    let family = match family {
        Family::Four => AddressFamily::Inet,
        Family::Six => AddressFamily::Inet6,
    };
    let call = json!({
        "method": "io.systemd.Resolve.ResolveHostname",
        "parameters": { "name": name.as_str(), "family": family as i32, "flags": DNS | NO_SEARCH },
    });
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{call}\0").as_bytes())?;
    let (mut reply, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let bytes = match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if let Some(length) = buffer[..bytes].iter().position(|&byte| byte == 0) {
            reply.extend(&buffer[..length]);
            return Ok(reply);
        }
        reply.extend(&buffer[..bytes]);
        if reply.len() > MOST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

#[derive(Deserialize)]
struct Reply {
    error: Option<String>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    addresses: Vec<Address>,
    rcode: Option<i64>,
}

#[derive(Deserialize)]
struct Address {
    address: Vec<u8>,
}

fn read(reply: &[u8], family: Family) -> Answer {
    let reply: Reply = serde_json::from_slice(reply).map_err(|_| Failure::Malformed)?;
    if let Some(error) = reply.error {
        return Err(failure(&error, reply.parameters.rcode));
    }
    let address = |line: Address| -> Option<IpAddr> {
        let four = <[u8; 4]>::try_from(line.address.as_slice()).map(IpAddr::from);
        four.or_else(|_| <[u8; 16]>::try_from(line.address.as_slice()).map(IpAddr::from))
            .ok()
    };
    let addresses = reply.parameters.addresses.into_iter().filter_map(address);
    let addresses = addresses.filter(|address| family.has(*address));
    let addresses: Vec<(IpAddr, u32)> = addresses.map(|address| (address, NO_TTL)).collect();
    if addresses.is_empty() {
        return Err(Failure::NoAddress);
    }
    Ok(addresses)
}

/// What an error of io.systemd.Resolve means; `rcode` is that of DNS (RFC 1035 section 4.1.1).
fn failure(error: &str, rcode: Option<i64>) -> Failure {
    let error = error.strip_prefix("io.systemd.Resolve.").unwrap_or(error);
    match (error, rcode) {
        ("DNSError", Some(3)) => Failure::NoSuchName,
        ("DNSError", Some(5)) => Failure::Refused,
        ("NoSuchResourceRecord", _) => Failure::NoAddress,
        ("QueryTimedOut" | "MaxAttemptsReached", _) => Failure::Timeout,
        ("NoNameServers" | "NetworkDown" | "NoSource" | "StubLoop", _) => Failure::Unreachable,
        ("InvalidReply", _) => Failure::Malformed,
        ("CNAMELoop", _) => Failure::AliasLoop,
        ("DNSSECValidationFailed" | "NoTrustAnchor", _) => Failure::Dnssec,
        ("QueryRefused", _) => Failure::Refused,
        _ => Failure::ServerFailure,
    }
}

#[cfg(test)]
mod tests;
