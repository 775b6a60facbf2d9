//! What `explain` answers to the daemon.

use super::{Row, Skipped};
use crate::packet::Packet;

/// What the programs find out about one packet.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained {
    /// [`Explained::SEEN`], or the [`Skipped`] for which no filter was matched.
    pub skipped: u32,
    /// The epoch of the tables that were used.
    pub epoch: u32,
    /// The packet as it was parsed.
    pub packet: Packet,
    /// The slots that match if unknown fields match any value: for filters that mirror.
    pub matches: Row,
    /// The slots that match, where it does not: for filters that exclude.
    pub certain: Row,
}

const _: () = assert!(size_of::<Explained>() == 8 + size_of::<Packet>() + 2 * size_of::<Row>());

impl Explained {
    /// Filters were matched.
    pub const SEEN: u32 = u32::MAX;

    /// Before a packet is processed.
    #[must_use]
    pub fn nothing() -> Self {
        let none = Row {
            blocks: [[0; _]; _],
        };
        Self {
            skipped: Self::SEEN,
            epoch: 0,
            packet: Packet::default(),
            matches: none,
            certain: none,
        }
    }

    /// Why no filter was matched, if so.
    #[must_use]
    pub fn reason(&self) -> Option<Skipped> {
        Skipped::ALL.get(self.skipped as usize).copied()
    }
}

// SAFETY: repr(C), `Copy`, no padding (asserted above), any bytes are a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Explained {}
