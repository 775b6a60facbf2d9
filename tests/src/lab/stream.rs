//! The bytes of one direction of a TCP connection, put together from packets in any order.

use super::packet::{Ip, verify_inner_checksums};
use anyhow::{Context as _, Result, ensure};

/// Which bytes of a stream have been seen, and that each was right.
#[derive(Debug)]
pub struct TcpStream<'a> {
    expected: &'a [u8],
    seen: Vec<bool>,
    /// Sequence number of the SYN.
    start: Option<u32>,
    /// Data that came before the SYN: other hooks, other queues.
    early: Vec<Vec<u8>>,
}

impl<'a> TcpStream<'a> {
    /// A connection that must carry `expected`.
    pub fn new(expected: &'a [u8]) -> Self {
        Self {
            expected,
            seen: vec![false; expected.len()],
            start: None,
            early: Vec::new(),
        }
    }

    /// Takes an IP packet that goes this way. A wrong length, checksum or byte is an error.
    pub fn push(&mut self, packet: &[u8]) -> Result<()> {
        verify_inner_checksums(packet)?;
        let ip = Ip::parse(packet)?;
        ensure!(ip.protocol == 6, "IP protocol {}", ip.protocol);
        let sequence = u32::from_be_bytes(*ip.upper[4..].first_chunk().context("sequence number")?);
        const SYN: u8 = 0x02;
        if ip.upper[13] & SYN != 0 {
            ensure!(
                self.start.is_none_or(|start| start == sequence),
                "a second connection"
            );
            self.start = Some(sequence);
            return std::mem::take(&mut self.early)
                .iter()
                .try_for_each(|packet| self.push(packet));
        }
        let Some(start) = self.start else {
            self.early.push(packet.to_vec());
            return Ok(());
        };
        let data = &ip.upper[usize::from(ip.upper[12] >> 4) * 4..];
        if data.is_empty() {
            return Ok(());
        }
        let offset = sequence.wrapping_sub(start).wrapping_sub(1) as usize;
        let expected = self
            .expected
            .get(offset..offset + data.len())
            .unwrap_or_default();
        ensure!(
            data == expected,
            "{} bytes at {offset} are not those that were sent",
            data.len()
        );
        self.seen[offset..offset + data.len()].fill(true);
        Ok(())
    }

    /// Bytes that were in no packet.
    pub fn missing(&self) -> usize {
        self.seen.iter().filter(|seen| !**seen).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::packet::{Packet, Tcp};

    #[test]
    fn bytes_are_found_in_any_order_and_wrong_ones_refused() {
        let packet = |sequence: u32, flags, data: &[u8]| {
            let tcp = Tcp {
                sequence,
                flags,
                ..Tcp::new(1, 2)
            };
            Packet::new()
                .ip("10.0.0.1", "10.0.0.2")
                .layer(tcp)
                .payload(data)
                .build()
        };
        let first = u32::MAX - 2;
        let mut stream = TcpStream::new(b"0123456789");
        stream.push(&packet(2, Tcp::ACK, b"456")).unwrap();
        assert_eq!(stream.missing(), 10);
        stream.push(&packet(first, Tcp::SYN, b"")).unwrap();
        stream
            .push(&packet(first.wrapping_add(1), Tcp::ACK, b"0123"))
            .unwrap();
        assert_eq!(stream.missing(), 3);
        assert!(stream.push(&packet(5, Tcp::ACK, b"78x")).is_err());
        assert!(stream.push(&packet(5, Tcp::ACK, b"789.")).is_err());
        stream
            .push(&packet(5, Tcp::ACK | Tcp::FIN, b"789"))
            .unwrap();
        stream.push(&packet(9, Tcp::ACK, b"")).unwrap();
        assert_eq!(stream.missing(), 0);
    }
}
