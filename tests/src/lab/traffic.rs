//! Traffic of the kernel's own sockets between namespaces, checked byte by byte.

use super::netns::Netns;
use super::socket::set;
use super::{DEADLINE, deadline, wait_readable};
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Instant;

const CHUNK_BYTES: usize = 64 << 10;
const UDP_BUFFER_BYTES: i32 = 64 << 20;

/// Pseudo-random bytes (xorshift64*), the same for the same seed.
#[derive(Clone, Debug)]
pub struct Stream(u64);

impl Stream {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        // the generator stands still at 0
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next bytes. A length that is no multiple of 8 drops the rest of its last word.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
        });
        words
            .take(length.div_ceil(8))
            .flatten()
            .take(length)
            .collect()
    }
}

/// Sends `bytes` pseudo-random bytes over TCP from `client` to `address` in `server`, and checks
/// each where it arrives. Ten seconds without progress are an error.
pub fn tcp_transfer(
    client: &Netns,
    server: &Netns,
    address: SocketAddr,
    bytes: usize,
    seed: u64,
) -> Result<()> {
    let listener = server.enter(|| {
        bind_when_free(|| TcpListener::bind(address))
            .with_context(|| format!("listen on {address}"))
    })?;
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&listener, bytes, seed));
        let sent = client
            .enter(|| send(address, bytes, seed))
            .with_context(|| format!("send to {address}"));
        let received = receiving.join().expect("the receiver does not panic");
        // the receiver's complaint says more than the reset that the sender sees
        received.with_context(|| format!("receive on {address}"))?;
        sent
    })
}

fn send(address: SocketAddr, bytes: usize, seed: u64) -> Result<()> {
    let mut connection = TcpStream::connect_timeout(&address, DEADLINE).context("connect")?;
    connection.set_write_timeout(Some(DEADLINE))?;
    connection.set_read_timeout(Some(DEADLINE))?;
    let mut stream = Stream::new(seed);
    for at in (0..bytes).step_by(CHUNK_BYTES) {
        connection
            .write_all(&stream.bytes(CHUNK_BYTES.min(bytes - at)))
            .with_context(|| format!("at byte {at}"))?;
    }
    connection.shutdown(Shutdown::Write)?;
    // the receiver closes when it has read all
    let answered = connection.read(&mut [0]).context("wait for the receiver")?;
    ensure!(answered == 0, "the receiver answered");
    Ok(())
}

fn receive(listener: &TcpListener, bytes: usize, seed: u64) -> Result<()> {
    ensure!(
        wait_readable(&[listener.as_fd()], deadline())?.is_some(),
        "nobody connected in time"
    );
    let (mut connection, _) = listener.accept().context("accept")?;
    connection.set_read_timeout(Some(DEADLINE))?;
    let mut stream = Stream::new(seed);
    let mut buffer = vec![0; CHUNK_BYTES];
    for at in (0..bytes).step_by(CHUNK_BYTES) {
        let chunk = &mut buffer[..CHUNK_BYTES.min(bytes - at)];
        connection
            .read_exact(chunk)
            .with_context(|| format!("between byte {at} and {}", at + chunk.len()))?;
        let expected = stream.bytes(chunk.len());
        if let Some(wrong) = chunk
            .iter()
            .zip(&expected)
            .position(|(is, should)| is != should)
        {
            anyhow::bail!(
                "byte {} is {:#04x} instead of {:#04x}",
                at + wrong,
                chunk[wrong],
                expected[wrong]
            );
        }
    }
    ensure!(
        connection.read(&mut [0]).context("wait for the end")? == 0,
        "more than {bytes} bytes came"
    );
    Ok(())
}

/// One connection of a client's fixed address to a server: `request` one way, then `answer` the
/// other, each byte checked. When this returns, the server's kernel has forgotten the connection,
/// so that its last packet has arrived.
pub fn tcp_exchange(
    client: &Netns,
    client_address: SocketAddr,
    server: &Netns,
    server_address: SocketAddr,
    request: &[u8],
    answer: &[u8],
) -> Result<()> {
    let listener = server.enter(|| {
        bind_when_free(|| TcpListener::bind(server_address))
            .with_context(|| format!("listen on {server_address}"))
    })?;
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            ensure!(
                wait_readable(&[listener.as_fd()], deadline())?.is_some(),
                "nobody connected in time"
            );
            let (connection, _) = listener.accept().context("accept")?;
            expect(&connection, request)?;
            (&connection).write_all(answer).context("send the answer")?;
            // the client closes first, so that no state stays here
            expect_end(&connection)
        });
        let asked = client.enter(|| {
            let connection = connect_from(client_address, server_address)?;
            (&connection)
                .write_all(request)
                .context("send the request")?;
            expect(&connection, answer)?;
            connection.shutdown(Shutdown::Write)?;
            expect_end(&connection)
        });
        let served = serving.join().expect("the server does not panic");
        served
            .and(asked)
            .with_context(|| format!("exchange between {client_address} and {server_address}"))
    })?;
    drop(listener);
    let filter = format!("ss -Htan state connected src {server_address} dst {client_address}");
    server
        .run_until(&filter, str::is_empty, deadline())
        .map(drop)
}

fn connect_from(from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
    let family = if from.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .context("open a TCP socket")?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from))
        .with_context(|| format!("bind to tcp {from}"))?;
    let connection = TcpStream::from(socket);
    connection.set_read_timeout(Some(DEADLINE))?;
    connection.set_write_timeout(Some(DEADLINE))?;
    connect(connection.as_raw_fd(), &SockaddrStorage::from(to))
        .with_context(|| format!("connect to tcp {to}"))?;
    Ok(connection)
}

fn expect(mut connection: &TcpStream, wanted: &[u8]) -> Result<()> {
    connection.set_read_timeout(Some(DEADLINE))?;
    let mut bytes = vec![0; wanted.len()];
    connection
        .read_exact(&mut bytes)
        .with_context(|| format!("receive {} bytes", wanted.len()))?;
    ensure!(bytes == wanted, "other bytes came than were sent");
    Ok(())
}

fn expect_end(mut connection: &TcpStream) -> Result<()> {
    ensure!(
        connection.read(&mut [0]).context("wait for the end")? == 0,
        "more bytes came than were sent"
    );
    Ok(())
}

/// Binds a UDP socket in a namespace; receiving from it gives up after ten seconds.
pub fn udp_bind(netns: &Netns, address: SocketAddr) -> Result<UdpSocket> {
    netns.enter(|| {
        let socket = bind_when_free(|| UdpSocket::bind(address))
            .with_context(|| format!("bind to udp {address}"))?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        set(
            socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            &UDP_BUFFER_BYTES,
        )?;
        Ok(socket)
    })
}

/// Sends a datagram from `client_address` to `server_address` and the same bytes back, and checks
/// both.
pub fn udp_exchange(
    client: &Netns,
    client_address: SocketAddr,
    server: &Netns,
    server_address: SocketAddr,
    payload: &[u8],
) -> Result<()> {
    let (here, there) = (
        udp_bind(client, client_address)?,
        udp_bind(server, server_address)?,
    );
    let mut buffer = vec![0; 1 << 16];
    for (from, to, address) in [
        (&here, &there, server_address),
        (&there, &here, here.local_addr()?),
    ] {
        from.send_to(payload, address)
            .with_context(|| format!("send to udp {address}"))?;
        let (length, sender) = to
            .recv_from(&mut buffer)
            .with_context(|| format!("receive on udp {address}"))?;
        ensure!(
            sender == from.local_addr()?,
            "udp {address} heard from {sender}"
        );
        ensure!(
            buffer[..length] == *payload,
            "{length} other bytes than the {} sent came",
            payload.len()
        );
    }
    Ok(())
}

/// Sends `payload` as datagrams of `segment` bytes each (the last may be shorter) in one
/// superpacket: `UDP_SEGMENT`, at most 64 segments and 65,507 bytes.
pub fn udp_gso_send(
    socket: &UdpSocket,
    to: SocketAddr,
    payload: &[u8],
    segment: u16,
) -> Result<()> {
    let context = || {
        format!(
            "send {} bytes in segments of {segment} to udp {to}",
            payload.len()
        )
    };
    set(
        socket.as_fd(),
        libc::SOL_UDP,
        libc::UDP_SEGMENT,
        &i32::from(segment),
    )
    .with_context(context)?;
    let sent = socket.send_to(payload, to).with_context(context);
    set(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, &0_i32).with_context(context)?;
    ensure!(
        sent? == payload.len(),
        "a part of {} bytes was sent",
        payload.len()
    );
    Ok(())
}

/// Binds, and tries again for a while if the address is taken: while another thread starts a
/// process, the child holds a copy of each socket, also of one that has just been closed here.
/// Binds as soon as what had the address before has gone.
///
/// # Errors
/// It has not in time, or something else is wrong.
pub fn bind_when_free<T>(bind: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
    let deadline = deadline();
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            bound => return bound,
        }
    }
}
