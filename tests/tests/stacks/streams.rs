//! TCP connections, put together from packets.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::packet::{FiveTuple, Ip};

/// One direction of a connection: sender, its port, and the other port.
type Key = (IpAddr, u16, u16);

/// One direction of a connection.
#[derive(Default, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// Sequence numbers of its SYN and FIN.
    pub(crate) ends: [Option<u32>; 2],
    /// Segments without payload but its SYN and FIN; a reset is one.
    pub(crate) bare: usize,
    /// Payload bytes, repeated ones too.
    pub(crate) bytes: usize,
    segments: BTreeMap<u32, Vec<u8>>,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, last] = self.ends;
        write!(f, "SYN {first:?} FIN {last:?} {} bare", self.bare)?;
        let first = first.unwrap_or(0);
        for (sequence, bytes) in &self.segments {
            write!(f, " {}+{}", sequence.wrapping_sub(first), bytes.len())?;
        }
        Ok(())
    }
}

impl Way {
    /// The stream from the SYN to the FIN; up to the last byte, if it was reset.
    pub(crate) fn whole(&self) -> Result<Vec<u8>> {
        let first = self.ends[0].context("there is no SYN")?.wrapping_add(1);
        let after = |(sequence, bytes): (&u32, &Vec<u8>)| {
            sequence.wrapping_sub(first) as usize + bytes.len()
        };
        let last = self.segments.iter().map(after).max().unwrap_or(0);
        let end = self.ends[1].map_or(last, |fin| fin.wrapping_sub(first) as usize);
        let mut stream = vec![None; end];
        for (sequence, bytes) in &self.segments {
            let at = sequence.wrapping_sub(first) as usize;
            let place = stream.get_mut(at..at + bytes.len());
            let place = place.with_context(|| format!("{} bytes at {at}", bytes.len()))?;
            for (known, byte) in place.iter_mut().zip(bytes) {
                ensure!(known.is_none_or(|known| known == *byte), "another byte");
                *known = Some(*byte);
            }
        }
        let missing = stream.iter().filter(|byte| byte.is_none()).count();
        ensure!(missing == 0, "{missing} of {} bytes", stream.len());
        Ok(stream.into_iter().flatten().collect())
    }
}

/// Directions of connections.
#[derive(Debug, Default)]
pub(crate) struct Streams(BTreeMap<Key, Way>);

impl Streams {
    /// Takes an IP packet; what is no TCP is left out.
    pub(crate) fn push(&mut self, packet: &[u8]) -> Result<()> {
        let ip = Ip::parse(packet)?;
        if ip.protocol != 6 {
            return Ok(());
        }
        let (source, destination) = FiveTuple::parse(packet)?.ports.context("ports")?;
        let way = self.0.entry((ip.source, source, destination)).or_default();
        let sequence = u32::from_be_bytes(*ip.upper[4..].first_chunk().context("a header")?);
        let data = &ip.upper[usize::from(ip.upper[12] >> 4) * 4..];
        let (is_fin, is_syn) = (ip.upper[13] & 1 != 0, ip.upper[13] & 2 != 0);
        if is_syn {
            way.ends[0] = Some(sequence);
        }
        if is_fin {
            way.ends[1] = Some(sequence.wrapping_add(data.len() as u32));
        }
        way.bare += usize::from(data.is_empty() && !is_syn && !is_fin);
        way.bytes += data.len();
        if !data.is_empty() {
            let known = way.segments.entry(sequence).or_default();
            if known.len() < data.len() {
                *known = data.to_vec();
            }
        }
        Ok(())
    }

    /// The direction from `sender`, one of whose ports is `port`; nothing if there is none.
    pub(crate) fn way(&self, sender: IpAddr, port: u16) -> Way {
        let mut ways = self.0.iter();
        let found = ways.find(|((from, a, b), _)| *from == sender && [*a, *b].contains(&port));
        found.map(|(_, way)| way.clone()).unwrap_or_default()
    }
}
