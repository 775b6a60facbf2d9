//! Input: the live tables and the wanted ones. Output: what must be written. Pure.

use std::mem::{offset_of, size_of};

use traffic_mirror_ebpf::abi::{Control, Endpoint, EndpointPair};

use crate::tables::{Live, Table, Tables};

/// How to get from the live tables to the wanted ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// They are the same.
    Nothing,
    /// Only endpoints differ: written in place, switched by the epoch.
    Endpoints {
        /// The live generation.
        generation: u32,
        /// The live epoch.
        epoch: u32,
        /// What differs.
        writes: Vec<Write>,
    },
    /// New maps take over.
    Replace {
        /// Number of the new generation.
        generation: u32,
        /// What differs; everything if nothing is live.
        writes: Vec<Write>,
    },
}

/// One element that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its table.
    pub table: Table,
    /// Its index.
    pub index: usize,
    /// What it must be.
    pub bytes: Vec<u8>,
}

impl Plan {
    /// Compares element by element. Elements beyond the wanted ones are not in use and do not matter.
    pub fn diff(live: Option<&Live>, want: &Tables) -> Self {
        let writes: Vec<Write> = Table::ALL.iter().flat_map(|&table| diff(live, want, table)).collect();
        let Some(live) = live else { return Self::Replace { generation: 1, writes } };
        if writes.is_empty() {
            Self::Nothing
        } else if writes.iter().all(|write| write.table == Table::Endpoints) {
            Self::Endpoints { generation: live.generation, epoch: live.epoch(), writes }
        } else {
            Self::Replace { generation: live.generation + 1, writes }
        }
    }

    /// Elements that differ.
    pub fn writes(&self) -> &[Write] {
        match self {
            Self::Nothing => &[],
            Self::Endpoints { writes, .. } | Self::Replace { writes, .. } => writes,
        }
    }

    /// For [`Plan::Endpoints`]: offset and content of the copies that the epoch selects.
    pub fn endpoint_writes(&self, epoch: u32) -> impl Iterator<Item = (usize, &[u8])> {
        let copy = (epoch & 1) as usize * size_of::<Endpoint>();
        self.writes().iter().map(move |write| {
            let bytes = &write.bytes[copy..copy + size_of::<Endpoint>()];
            (write.index * size_of::<EndpointPair>() + copy, bytes)
        })
    }
}

fn diff(live: Option<&Live>, want: &Tables, table: Table) -> Vec<Write> {
    let size = table.element_bytes();
    let live = live.and_then(|live| live.tables.get(&table)).map_or(&[][..], Vec::as_slice);
    // epoch and secret belong to the live maps, not to the file
    let skip = if table == Table::Control { offset_of!(Control, view) } else { 0 };
    let elements = want.bytes(table).chunks_exact(size).enumerate();
    let differing = elements.filter(|(index, bytes)| {
        live.get(index * size..(index + 1) * size).is_none_or(|there| there[skip..] != bytes[skip..])
    });
    differing.map(|(index, bytes)| Write { table, index, bytes: bytes.to_owned() }).collect()
}
