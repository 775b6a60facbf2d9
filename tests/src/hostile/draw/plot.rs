//! Datagrams before which a first fragment of another port is sent that the kernel forgets: it
//! drops it for its headers, or throws it away because of what comes after it.

use super::{Draft, PORTS, Scenario, chain};
use crate::lab::packet::{Extension, Ipv4, Ipv6};
use crate::oracle::random::Random;

/// Fragments of others after which a host forgets what it has of a datagram (`ipfrag_max_dist`,
/// 64), and where their identifications begin.
const TOO_FAR: u16 = 66;
const OTHERS: u16 = 0x8000;

impl Draft {
    /// Forged fragments, and then the true ones in any order.
    pub(super) fn plot(&self, random: &mut Random) -> Scenario {
        let first = if self.source.is_ipv6() { 24 } else { 8 };
        let (mut at, mut pieces) = (0, Vec::new());
        while at < self.upper.len() {
            let units = if pieces.is_empty() {
                first + 8 * random.below(4)
            } else {
                8 * random.within(1, 6)
            };
            let end = if pieces.len() == 3 {
                self.upper.len()
            } else {
                at + units as usize
            };
            pieces.push(at..end.min(self.upper.len()));
            at = end;
        }
        let bytes = self.upper.len();
        let piece = |range: &std::ops::Range<usize>| {
            self.piece(
                0,
                self.protocol,
                range.start,
                range.end < bytes,
                &self.upper[range.clone()],
            )
        };
        let mut frames: Vec<Vec<u8>> = pieces.iter().map(piece).collect();
        if random.percent(60) {
            // the first comes last
            frames.rotate_left(1);
        } else {
            random.shuffle(&mut frames);
        }
        let port = *random.pick(&[77, 77, PORTS[0], PORTS[1]]);
        let forged = [
            &[7, 7][..],
            &port.to_be_bytes(),
            &self.upper[4..24.min(bytes)],
        ]
        .concat();
        let (before, whole, more) = match random.below(3) {
            0 => (vec![self.dropped(random, &forged)], true, 0),
            1 => (self.overlapped(random, forged), true, 1),
            _ => (self.forgotten(random, forged), false, 0),
        };
        Scenario {
            frames: [before, frames].concat(),
            bytes,
            pieces: pieces.len() as u64 + more,
            whole,
        }
    }

    /// A first fragment that is dropped for its headers, or may be.
    fn dropped(&self, random: &mut Random, forged: &[u8]) -> Vec<u8> {
        let units = [forged, &[0; 24]].concat()[..24].to_vec();
        let link = self.link.clone();
        if !self.source.is_ipv6() {
            let ip = Ipv4 {
                flags: Ipv4::MF,
                ..self.ipv4()
            };
            let ip = match random.below(5) {
                // a source route that points nowhere, one that the host does not take, a time of no
                // length, no end
                0 => Ipv4 {
                    options: vec![131, 7, 0, 10, 0, 0, 1],
                    ..ip
                },
                1 => Ipv4 {
                    options: vec![137, 7, 4, 10, 0, 0, 1],
                    ..ip
                },
                2 => Ipv4 {
                    options: vec![68, 3, 5, 0],
                    ..ip
                },
                3 => Ipv4 {
                    options: super::options(random),
                    ..ip
                },
                _ => Ipv4 {
                    total_length: Some(random.below(28) as u16),
                    ..ip
                },
            };
            return link.layer(ip).payload(units).build();
        }
        let ip = link.layer(Ipv6::new(self.source, self.destination));
        let ip = match random.below(7) {
            0 => ip.layer(Extension::options(Extension::HOP_BY_HOP, &[0x80 | 0x1e, 0])),
            1 => ip.layer(Extension::options(
                Extension::DESTINATION,
                &[*random.pick(&[0x40, 0x80, 0xc0]) | 0x1e, 0],
            )),
            2 => ip.layer(Extension::routing(*random.pick(&[0, 4, 200]), 1, &[0; 20])),
            3 => ip.fragment(0, false, self.id),
            4 => {
                let headers = random.within(1, 4) as usize;
                chain(random, ip, headers)
            }
            // no whole units, no TCP header
            5 => {
                return ip
                    .fragment(0, true, self.id)
                    .raw(self.protocol, &units[..random.within(8, 15) as usize])
                    .build();
            }
            _ => return ip.fragment(0, true, self.id).raw(6, &units[..8]).build(),
        };
        ip.fragment(0, true, self.id)
            .raw(self.protocol, units)
            .build()
    }

    /// A first fragment that the kernel takes, and one that has it throw all away.
    fn overlapped(&self, random: &mut Random, mut forged: Vec<u8>) -> Vec<Vec<u8>> {
        forged.resize(8 * random.within(3, 6) as usize, 0);
        let units = forged.len() / 8;
        let first = self.piece(0, self.protocol, 0, true, &forged);
        let second = if random.percent(80) {
            let begin = random.within(1, units as u64 - 1) as usize;
            let bytes = vec![7; 8 * (units - begin) + 8 * random.within(1, 3) as usize];
            self.piece(0, self.protocol, 8 * begin, random.percent(50), &bytes)
        } else {
            self.piece(
                0,
                self.protocol,
                8 * (units + random.below(3) as usize),
                random.percent(50),
                &[],
            )
        };
        vec![first, second]
    }

    /// A first fragment that the kernel takes, and others by which it is forgotten, or done with,
    /// and nobody but the kernel knows.
    fn forgotten(&self, random: &mut Random, mut forged: Vec<u8>) -> Vec<Vec<u8>> {
        forged.resize(24, 0);
        let first = self.piece(0, self.protocol, 0, true, &forged);
        let later = |begin: usize, bytes: usize, more| {
            self.piece(0, self.protocol, begin, more, &vec![7; bytes])
        };
        let after = match random.below(5) {
            0 => vec![later(24, 16, true), later(32, 16, true)],
            1 => vec![later(48, 16, false), later(24, 16, false)],
            2 => vec![later(48, 16, false), later(72, 16, true)],
            3 => vec![later(24, 16, false)],
            _ if self.source.is_ipv6() => vec![later(40, 8, true), later(24, 48, true)],
            _ => (0..TOO_FAR)
                .map(|other| self.other(OTHERS + other))
                .collect(),
        };
        let overlaps_before = random.percent(10).then(|| later(16, 16, true));
        overlaps_before
            .into_iter()
            .chain([first])
            .chain(after)
            .collect()
    }

    /// A first fragment of somebody else's, always the same.
    fn other(&self, id: u16) -> Vec<u8> {
        let ip = Ipv4 {
            id,
            flags: Ipv4::MF,
            ..self.ipv4()
        };
        self.link
            .clone()
            .layer(ip)
            .payload([0, 7, 0, 77, 0, 0, 0, 0])
            .build()
    }
}
