//! Connections of frames that a test makes up.

use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::packet::Tcp;

use super::PORT;
use crate::edge::{Attach, Direction, ENDPOINTS, Edge, SkbLayout, frame};

/// Bytes of what a client says, from one place up to another.
pub(super) type Piece = (usize, usize);

/// A connection of frames that a test makes up: the client is behind the ingress of the interface.
pub(super) struct Made {
    pub(super) edge: Edge,
    pub(super) port: u16,
}

/// The client's first sequence number, so that the hello goes beyond the largest.
pub(super) const ISN: u32 = u32::MAX - 100;
pub(super) const FIRST: u32 = ISN.wrapping_add(1);

/// A segment of the client with this port.
pub(super) fn of_client(port: u16, flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let tcp = Tcp {
        sequence,
        acknowledgement: 5001,
        flags,
        ..Tcp::new(port, PORT)
    };
    let frame = frame().ip("10.0.0.1", "10.0.0.2").layer(tcp);
    frame.payload(payload).build()
}

/// A segment of the server to the client with this port.
pub(super) fn of_server(port: u16, flags: u8, acknowledgement: u32, payload: &[u8]) -> Vec<u8> {
    let tcp = Tcp {
        sequence: 5001 - u32::from(flags & Tcp::SYN != 0),
        acknowledgement,
        flags,
        ..Tcp::new(PORT, port)
    };
    let frame = frame().ip("10.0.0.2", "10.0.0.1").layer(tcp);
    frame.payload(payload).build()
}

impl Made {
    /// Passes frames, one behind the other; how many copies came of them.
    pub(super) fn pass(&mut self, frames: Vec<Vec<u8>>, from: Direction) -> Result<usize> {
        let laid_out = frames
            .iter()
            .map(|frame| (frame.clone(), SkbLayout::Linear));
        let seen = self.edge.pass_all(&laid_out.collect::<Vec<_>>(), from)?;
        ensure!(seen.originals == frames, "the originals");
        Ok(seen.copies.values().map(Vec::len).sum())
    }

    pub(super) fn client(&mut self, flags: u8, sequence: u32, payload: &[u8]) -> Result<usize> {
        let frame = of_client(self.port, flags, sequence, payload);
        self.pass(vec![frame], Direction::Ingress)
    }

    pub(super) fn server(
        &mut self,
        flags: u8,
        acknowledgement: u32,
        payload: &[u8],
    ) -> Result<usize> {
        let frame = of_server(self.port, flags, acknowledgement, payload);
        self.pass(vec![frame], Direction::Egress)
    }

    /// A new connection, up to the client's first payload.
    pub(super) fn open(&mut self) -> Result<()> {
        self.port += 1;
        let copies = [
            self.client(Tcp::SYN, ISN, &[])?,
            self.server(Tcp::SYN | Tcp::ACK, FIRST, &[])?,
            self.client(Tcp::ACK, FIRST, &[])?,
        ];
        ensure!(copies == [1; 3], "the handshake: {copies:?}");
        Ok(())
    }

    /// Says `said` by pieces, each from a place on, in this order, and has it answered. How many
    /// copies came of each piece, and of the answer.
    pub(super) fn talk(&mut self, said: &[u8], pieces: &[Piece]) -> Result<Vec<usize>> {
        self.open()?;
        let mut copies = Vec::new();
        for &(from, to) in pieces {
            let at = FIRST.wrapping_add(from as u32);
            copies.push(self.client(Tcp::ACK | Tcp::PSH, at, &said[from..to])?);
        }
        let end = FIRST.wrapping_add(said.len() as u32);
        copies.push(self.server(Tcp::ACK, end, b"answer")?);
        copies.push(self.client(Tcp::ACK, end, &[])?);
        Ok(copies)
    }
}

pub(super) fn made_config(names: &str) -> String {
    let (name, address, _) = ENDPOINTS[0];
    format!(
        "[[interface]]\nname = \"eth0\"\n[endpoint.{name}]\naddress = \"{address}\"\n\
         [[filter]]\nname = \"shop\"\nprotocol = [\"tcp\"]\ndestination_port = [443]\n{names}\nto = [{name:?}]\n"
    )
}

pub(super) fn made(attach: Attach, names: &str) -> Result<Made> {
    let config = made_config(names);
    Ok(Made {
        edge: Edge::new(&config, attach)?,
        port: 40_000,
    })
}
