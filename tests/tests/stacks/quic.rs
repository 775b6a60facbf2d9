//! A hundred connections of QUIC, of which half are wanted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, Dir, Event, ServerConfig, StreamEvent, StreamId, VarInt,
};
use traffic_mirror_ebpf::flow::datagram::HANDSHAKE_PACKETS;
use traffic_mirror_tests::lab::packet::{FiveTuple, Ip};
use traffic_mirror_tests::lab::{TempDir, deadline, file, initials};

use crate::host::{Host, SERVER};
use crate::identity;
use crate::peer::{Peer, Sent};
use crate::web::certificate;

const CONNECTIONS: usize = 100;
const PORT: u16 = 443;
/// The client's port of the first connection: none is used twice.
const FIRST_PORT: u16 = 20_000;
const PROTOCOL: &str = "h3";
/// Bytes of an answer, by the letter of the request: one that comes before the daemon has read the
/// name, and one behind.
const SHORT: (u8, usize) = (b's', 500);
const LONG: (u8, usize) = (b'l', 60_000);

fn config() -> String {
    let fields = "protocol = [\"udp\"]\ndestination_port = [443]\n\
                  server_name = [\"*.shop.example\"]";
    file::interface("eth0")
        + &file::endpoint("ids", "10.9.0.2", "")
        + &file::filter("shop", fields, "\"ids\"")
}

fn answer(connection: &mut Connection, id: StreamId) -> Result<()> {
    let mut stream = connection.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else {
        return Ok(());
    };
    let asked = chunks.next(usize::MAX);
    let _ = chunks.finalize();
    let Ok(Some(request)) = asked else {
        return Ok(());
    };
    let known = [SHORT, LONG].into_iter();
    let mut known = known.filter(|(letter, _)| request.bytes.first() == Some(letter));
    let (_, bytes) = known.next().context("a request")?;
    let mut stream = connection.send_stream(id);
    let written = stream.write(&vec![7; bytes])?;
    ensure!(written == bytes, "{written} of {bytes} bytes");
    Ok(stream.finish()?)
}

/// Serves until it is to stop; what it has sent.
fn serve(mut peer: Peer, stop: &AtomicBool) -> Result<Sent> {
    while !stop.load(Ordering::Relaxed) {
        peer.turn(|connection, event| match event {
            Event::Stream(StreamEvent::Opened { dir }) => {
                while let Some(id) = connection.streams().accept(dir) {
                    answer(connection, id)?;
                }
                Ok(())
            }
            Event::Stream(StreamEvent::Readable { id }) => answer(connection, id),
            _ => Ok(()),
        })?;
    }
    Ok(peer.sent)
}

/// Waits for an answer.
fn fetch(peer: &mut Peer, (letter, bytes): (u8, usize)) -> Result<()> {
    let connection = peer.connection()?;
    let id = connection.streams().open(Dir::Bi).context("a stream")?;
    let mut request = connection.send_stream(id);
    request.write(&[letter])?;
    request.finish()?;
    let (mut got, mut is_whole, until) = (0, false, deadline());
    while !is_whole {
        ensure!(Instant::now() < until, "{got} of {bytes} bytes came");
        peer.turn(|connection, event| {
            if let Event::ConnectionLost { reason } = event {
                bail!("{reason}");
            }
            let mut stream = connection.recv_stream(id);
            if let Ok(mut chunks) = stream.read(true) {
                while let Ok(next) = chunks.next(usize::MAX) {
                    is_whole |= next.is_none();
                    let Some(chunk) = next else { break };
                    got += chunk.bytes.len();
                }
                let _ = chunks.finalize();
            }
            Ok(())
        })?;
    }
    ensure!(got == bytes, "{got} of {bytes} bytes came");
    Ok(())
}

/// A connection that was made, and what its client has sent.
struct Made {
    name: String,
    server: IpAddr,
    port: u16,
    sent: Vec<Vec<u8>>,
}

fn connect(
    host: &Host,
    config: &ClientConfig,
    to: IpAddr,
    (nth, name): (usize, &str),
    at_once: usize,
) -> Result<Made> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = host
        .client
        .enter(|| Ok(UdpSocket::bind((any, FIRST_PORT + nth as u16))?))?;
    let mut peer = Peer::new(socket, None, at_once)?;
    peer.connect(config.clone(), (to, PORT).into(), name)?;
    let (mut is_open, until) = (false, deadline());
    while !is_open {
        ensure!(Instant::now() < until, "no connection");
        peer.turn(|_, event| match event {
            Event::ConnectionLost { reason } => bail!("{reason}"),
            Event::Connected => {
                is_open = true;
                Ok(())
            }
            _ => Ok(()),
        })?;
    }
    fetch(&mut peer, SHORT)?;
    // a busy machine may be late
    initials::are_read(host.daemon.pin_path(), deadline())?;
    fetch(&mut peer, LONG)?;
    let none = Vec::new().into();
    peer.connection()?
        .close(Instant::now(), VarInt::from_u32(0), none);
    peer.turn(|_, _| Ok(()))?;
    Ok(Made {
        name: name.to_owned(),
        server: to,
        port: peer.local()?.port(),
        sent: peer
            .sent
            .into_iter()
            .map(|(_, datagram)| datagram)
            .collect(),
    })
}

fn server(directory: &Path) -> Result<ServerConfig> {
    let tls = QuicServerConfig::try_from(identity::server(directory, PROTOCOL)?)?;
    Ok(ServerConfig::with_crypto(Arc::new(tls)))
}

fn client(directory: &Path, is_long: bool) -> Result<ClientConfig> {
    let tls = QuicClientConfig::try_from(identity::client(directory, PROTOCOL, is_long)?)?;
    Ok(ClientConfig::new(Arc::new(tls)))
}

/// The connections, and what the servers have sent.
fn talk(host: &Host, at_once: usize, is_long: bool) -> Result<(Vec<Made>, Sent)> {
    let directory = TempDir::new()?;
    certificate(&host.host, directory.path())?;
    let client = client(directory.path(), is_long)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut serving = Vec::new();
        for address in SERVER {
            let address: IpAddr = address.parse()?;
            let socket = host.host.enter(|| Ok(UdpSocket::bind((address, PORT))?))?;
            let peer = Peer::new(socket, Some(server(directory.path())?), at_once)?;
            let stop = &stop;
            serving.push(scope.spawn(move || serve(peer, stop)));
        }
        let names = (0..CONNECTIONS).map(|nth| {
            let domain = if nth % 4 < 2 { "shop" } else { "other" };
            (nth, format!("n{nth}.{domain}.example"))
        });
        let made = names
            .map(|(nth, name)| {
                let to = SERVER[nth % 2].parse()?;
                connect(host, &client, to, (nth, &name), at_once).context(name)
            })
            .collect::<Result<Vec<_>>>();
        stop.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for server in serving {
            sent.extend(server.join().expect("the server does not panic")?);
        }
        Ok((made?, sent))
    })
}

/// Payloads of the copies of a connection, from the client and to it.
fn copied(copies: &[Vec<u8>], of: &Made) -> Result<[Vec<Vec<u8>>; 2]> {
    let mut ways = [Vec::new(), Vec::new()];
    for copy in copies {
        let ports = FiveTuple::parse(copy)?.ports.context("ports")?;
        let ip = Ip::parse(copy)?;
        let payload = ip.upper[8..].to_vec();
        if ports == (of.port, PORT) && ip.destination == of.server {
            ways[0].push(payload);
        } else if ports == (PORT, of.port) && ip.source == of.server {
            ways[1].push(payload);
        }
    }
    Ok(ways)
}

fn sorted(mut datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    datagrams.sort_unstable();
    datagrams
}

#[test]
fn half_of_a_hundred_connections_of_quic_are_whole() -> Result<()> {
    for (offload, at_once, is_long) in [(true, 10, false), (false, 1, true), (true, 10, true)] {
        let mut host = Host::new(&config(), offload)?;
        let (made, served) = talk(&host, at_once, is_long)?;
        let copies = host.copies()?;
        for one in &made {
            let to_client = served
                .iter()
                .filter(|(to, _)| to.port() == one.port && to.is_ipv4() == one.server.is_ipv4());
            let to_client = to_client.map(|(_, datagram)| datagram.clone()).collect();
            let [sent, received] = copied(&copies, one)?;
            let count = sent.len() + received.len();
            let what = format!("{}, offload {offload}, long hello {is_long}", one.name);
            if one.name.ends_with(".shop.example") {
                let want = one.sent.len() + Vec::len(&to_client);
                let is_whole = sorted(sent) == sorted(one.sent.clone())
                    && sorted(received) == sorted(to_client);
                ensure!(is_whole, "{what}: {count} copies of {want}");
            } else {
                ensure!(
                    count <= HANDSHAKE_PACKETS as usize,
                    "{what}: {count} copies of what is not wanted"
                );
            }
        }
        ensure!(made.len() == CONNECTIONS, "{}", made.len());
    }
    Ok(())
}
