//! QUIC over a real socket: quinn without its runtime.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, Event,
    ServerConfig, Transmit,
};

/// How long a turn waits for a datagram.
const PATIENCE: Duration = Duration::from_millis(2);

/// Datagrams, and to whom they were sent.
pub(crate) type Sent = Vec<(SocketAddr, Vec<u8>)>;

/// A socket and its connections.
pub(crate) struct Peer {
    socket: UdpSocket,
    endpoint: Endpoint,
    connections: BTreeMap<ConnectionHandle, Connection>,
    /// Datagrams that are sent as one superpacket, at most.
    at_once: usize,
    /// All that was sent.
    pub(crate) sent: Sent,
}

impl Peer {
    pub(crate) fn new(
        socket: UdpSocket,
        server: Option<ServerConfig>,
        at_once: usize,
    ) -> Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let config = Arc::new(EndpointConfig::default());
        Ok(Self {
            socket,
            endpoint: Endpoint::new(config, server.map(Arc::new), false, None),
            connections: BTreeMap::new(),
            at_once,
            sent: Vec::new(),
        })
    }

    pub(crate) fn local(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Begins a connection.
    pub(crate) fn connect(
        &mut self,
        config: ClientConfig,
        to: SocketAddr,
        name: &str,
    ) -> Result<()> {
        let (handle, connection) = self.endpoint.connect(Instant::now(), config, to, name)?;
        self.connections.insert(handle, connection);
        Ok(())
    }

    /// The only connection.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection> {
        self.connections.values_mut().next().context("a connection")
    }

    /// Takes a datagram, if one comes, and sends what is due. What has happened to connections is
    /// for `work`.
    pub(crate) fn turn(
        &mut self,
        mut work: impl FnMut(&mut Connection, Event) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = vec![0; 65_536];
        match self.socket.recv_from(&mut buffer) {
            Ok((bytes, from)) => self.take(from, &buffer[..bytes])?,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        let Self {
            connections,
            endpoint,
            ..
        } = self;
        let mut due = Vec::new();
        for (&handle, connection) in connections.iter_mut() {
            if connection.poll_timeout().is_some_and(|due| due <= now) {
                connection.handle_timeout(now);
            }
            while let Some(event) = connection.poll() {
                work(connection, event)?;
            }
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = endpoint.handle_event(handle, event) {
                    connection.handle_event(event);
                }
            }
            let mut bytes = Vec::new();
            while let Some(transmit) = connection.poll_transmit(now, self.at_once, &mut bytes) {
                due.push((transmit, std::mem::take(&mut bytes)));
            }
        }
        connections.retain(|_, connection| !connection.is_drained());
        due.iter()
            .try_for_each(|(transmit, bytes)| self.send(transmit, bytes))
    }

    fn take(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<()> {
        let (now, mut bytes) = (Instant::now(), Vec::new());
        let found = self
            .endpoint
            .handle(now, from, None, None, datagram.into(), &mut bytes);
        match found {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = self.connections.get_mut(&handle) {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                match self.endpoint.accept(incoming, now, &mut bytes, None) {
                    Ok((handle, connection)) => {
                        self.connections.insert(handle, connection);
                    }
                    Err(error) => bail!("cannot accept: {}", error.cause),
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.send(&transmit, &bytes)?,
            None => {}
        }
        Ok(())
    }

    fn send(&mut self, transmit: &Transmit, bytes: &[u8]) -> Result<()> {
        let bytes = &bytes[..transmit.size];
        let to = transmit.destination;
        let segment = transmit.segment_size.unwrap_or(bytes.len());
        let size = u16::try_from(segment)?;
        let together = [ControlMessage::UdpGsoSegments(&size)];
        let control = if segment < bytes.len() {
            &together[..]
        } else {
            &[]
        };
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::empty(),
            Some(&SockaddrStorage::from(to)),
        )?;
        let datagrams = bytes.chunks(segment);
        self.sent
            .extend(datagrams.map(|datagram| (to, datagram.to_vec())));
        Ok(())
    }
}
