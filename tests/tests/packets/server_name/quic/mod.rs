//! Flows of QUIC: the daemon reads the name of the server in what the client says first.

mod kept;
mod read;
mod unread;

use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::{deadline, initials};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::quic::{Client, Hello, ONE, crypto};

use super::PORT;
use crate::edge::{Attach, Direction, ENDPOINTS, Edge, SkbLayout, frame};

fn config(names: &str) -> String {
    let (name, address, _) = ENDPOINTS[0];
    format!(
        "[[interface]]\nname = \"eth0\"\n[endpoint.{name}]\naddress = \"{address}\"\n\
         [[filter]]\nname = \"shop\"\nprotocol = [\"udp\"]\ndestination_port = [443]\n{names}\nto = [{name:?}]\n"
    )
}

const HOSTS: [[&str; 2]; 2] = [["10.0.0.1", "10.0.0.2"], ["2001:db8::1", "2001:db8::2"]];

/// Flows of frames that a test makes up: the client is behind the ingress of the interface.
struct Flows {
    edge: Edge,
    random: Random,
    port: u16,
}

/// A client, its server, and what the client says first.
#[derive(Clone)]
struct Flow {
    port: u16,
    family: usize,
    client: Client,
    server: Vec<u8>,
    said: Vec<Vec<u8>>,
}

impl Flows {
    fn new(attach: Attach, names: &str) -> Result<Self> {
        Ok(Self {
            edge: Edge::new(&config(names), attach)?,
            random: Random::new(1),
            port: 40_000,
        })
    }

    /// A client that asks for this name.
    fn flow(&mut self, name: &str) -> Flow {
        let hello = Hello::of(name);
        self.flow_with(&hello, ONE)
    }

    /// The same with any hello, in as many datagrams as it takes, and a version.
    fn flow_with(&mut self, hello: &Hello, version: u32) -> Flow {
        self.port += 1;
        let message = hello.message(&mut self.random);
        let mut client = Client {
            version,
            source: self.random.bytes(8),
            ..Client::new(&self.random.bytes(8))
        };
        let (mut said, mut at) = (Vec::new(), 0);
        for part in message.chunks(1100) {
            said.push(client.datagram(&crypto(at, part)));
            at += part.len();
        }
        Flow {
            port: self.port,
            family: 0,
            client,
            server: self.random.bytes(8),
            said,
        }
    }

    /// Passes payloads, one behind the other; how many copies came of them.
    fn pass(&mut self, frames: Vec<Vec<u8>>, from: Direction) -> Result<usize> {
        let laid_out = frames
            .iter()
            .map(|frame| (frame.clone(), SkbLayout::Linear));
        let seen = self.edge.pass_all(&laid_out.collect::<Vec<_>>(), from)?;
        ensure!(seen.originals == frames, "the originals");
        Ok(seen.copies.values().map(Vec::len).sum())
    }

    fn client(&mut self, flow: &Flow, payload: &[u8]) -> Result<usize> {
        self.pass(vec![flow.of_client(payload)], Direction::Ingress)
    }

    fn server(&mut self, flow: &Flow, payload: &[u8]) -> Result<usize> {
        self.pass(vec![flow.of_server(payload)], Direction::Egress)
    }

    fn are_read(&self) -> Result<()> {
        initials::are_read(self.edge.daemon.pin_path(), deadline())
    }

    /// What the client says first, and has it read. How many copies came of it.
    fn ask(&mut self, flow: &Flow) -> Result<Vec<usize>> {
        let mut copies = Vec::new();
        for datagram in &flow.said {
            copies.push(self.client(flow, datagram)?);
        }
        self.are_read()?;
        Ok(copies)
    }

    /// The same, answered.
    fn talk(&mut self, flow: &Flow) -> Result<[usize; 4]> {
        self.ask(flow)?;
        self.answer(flow)
    }

    /// What both sides send later. How many copies came of it.
    fn go_on(&mut self, flow: &Flow) -> Result<[usize; 2]> {
        Ok([
            self.client(flow, &flow.data())?,
            self.server(flow, &[0x40; 500])?,
        ])
    }

    /// The answer, and what follows. How many copies came of it.
    fn answer(&mut self, flow: &Flow) -> Result<[usize; 4]> {
        Ok([
            self.server(flow, &flow.handshake())?,
            self.client(flow, &flow.data())?,
            self.server(flow, &[0x40; 500])?,
            self.client(flow, &flow.data())?,
        ])
    }
}

impl Flow {
    fn of_client(&self, payload: &[u8]) -> Vec<u8> {
        let [client, server] = HOSTS[self.family];
        let frame = frame().ip(client, server).udp(self.port, PORT);
        frame.payload(payload).build()
    }

    fn of_server(&self, payload: &[u8]) -> Vec<u8> {
        let [client, server] = HOSTS[self.family];
        let frame = frame().ip(server, client).udp(PORT, self.port);
        frame.payload(payload).build()
    }

    /// What a server answers: where it wants to be sent to stands in it.
    fn handshake(&self) -> Vec<u8> {
        let server = Client {
            destination: self.client.source.clone(),
            source: self.server.clone(),
            ..self.client.clone()
        };
        server.long(2, &[3; 300])
    }

    /// A packet of the client to a server that has answered.
    fn data(&self) -> Vec<u8> {
        [&[0x40][..], &self.server, &[9; 100]].concat()
    }
}
