//! Input: a question, and a server. Output: its answer. One socket for each question, so each has a
//! port of its own, which the kernel chooses at random (RFC 5452 section 9.2).

use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use traffic_mirror_resolver::Failure;

use crate::ask::message::{Question, Reading};

/// Datagrams of a server that answer something else, at most. More of them are an attempt to guess
/// the id (RFC 5452 section 9.3), which TCP does not allow.
const MOST_STRANGE: usize = 16;
/// Bytes of a datagram that are read: more than a server sends without EDNS.
const DATAGRAM_BYTES: usize = 4096;

/// Asks a server: by UDP, and by TCP if the answer does not fit. Each has the given time.
///
/// # Errors
/// The server says that there is no address, or fails.
pub(crate) fn ask(
    server: SocketAddr,
    question: &Question,
    only_tcp: bool,
    patience: Duration,
) -> Result<Reading, Failure> {
    if !only_tcp && let Some(reading) = udp(server, question, Instant::now() + patience)? {
        return Ok(reading);
    }
    match question.read(&tcp(server, question, Instant::now() + patience)?) {
        None | Some(Ok(Reading::Truncated)) => Err(Failure::Malformed),
        Some(answer) => answer,
    }
}

/// `None`: the answer is to be had by TCP alone.
fn udp(server: SocketAddr, question: &Question, end: Instant) -> Result<Option<Reading>, Failure> {
    let socket = connected(server).map_err(|error| failure(&error))?;
    let sent = socket.send(&question.bytes);
    sent.map_err(|error| failure(&error))?;
    let mut buffer = [0; DATAGRAM_BYTES];
    let mut strange = 0;
    while strange < MOST_STRANGE {
        socket
            .set_read_timeout(Some(left(end)?))
            .map_err(|error| failure(&error))?;
        let bytes = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received.map_err(|error| failure(&error))?,
        };
        match question.read(&buffer[..bytes]) {
            None => strange += 1,
            Some(Ok(Reading::Truncated)) => return Ok(None),
            Some(answer) => return answer.map(Some),
        }
    }
    Ok(None)
}

/// A socket that gets datagrams of the server alone. It is not bound by a call of its own: a process
/// that may not call bind cannot wait for strangers.
fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let family = match server {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(server))?;
    Ok(UdpSocket::from(socket))
}

/// The message that a server answers by TCP (RFC 1035 section 4.2.2: two bytes have its length).
fn tcp(server: SocketAddr, question: &Question, end: Instant) -> Result<Vec<u8>, Failure> {
    let stream = TcpStream::connect_timeout(&server, left(end)?);
    let mut stream = stream.map_err(|error| failure(&error))?;
    let length = (question.bytes.len() as u16).to_be_bytes();
    stream
        .set_write_timeout(Some(left(end)?))
        .map_err(|error| failure(&error))?;
    // in one piece, since some servers read once
    let sent = stream.write_all(&[&length, question.bytes.as_slice()].concat());
    sent.map_err(|error| failure(&error))?;
    let mut length = [0; 2];
    receive(&mut stream, &mut length, end)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    receive(&mut stream, &mut message, end)?;
    Ok(message)
}

/// Fills the buffer: a server that sends a byte now and then must not hold up the question.
fn receive(stream: &mut TcpStream, buffer: &mut [u8], end: Instant) -> Result<(), Failure> {
    let mut done = 0;
    while done < buffer.len() {
        stream
            .set_read_timeout(Some(left(end)?))
            .map_err(|error| failure(&error))?;
        match stream.read(&mut buffer[done..]) {
            Ok(0) => return Err(Failure::ServerFailure),
            Ok(bytes) => done += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failure(&error)),
        }
    }
    Ok(())
}

/// What is left of the time; a socket takes no timeout of zero.
fn left(end: Instant) -> Result<Duration, Failure> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(Failure::Timeout)
    } else {
        Ok(left)
    }
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Timeout,
        // a server that refuses a port is not there
        _ => Failure::Unreachable,
    }
}
