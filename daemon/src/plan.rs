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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired;
    use crate::network::Network;

    const FILE: &str = r#"
        [[interface]]
        name = "eth0"
        [endpoint.ids]
        address = "192.0.2.10"
        [[filter]]
        name = "web"
        destination_port = [443]
        to = ["ids"]
    "#;

    fn tables(text: &str) -> Tables {
        let (desired, _) = desired::load(text).unwrap();
        crate::compile::compile(&desired, &Network::default()).tables
    }

    /// The tables as maps with room to spare hold them.
    fn live(tables: &Tables, generation: u32) -> Live {
        let padded = |table: Table| {
            let mut bytes = tables.bytes(table).to_owned();
            bytes.resize(bytes.len() + 3 * table.element_bytes(), 0);
            bytes
        };
        Live { generation, tables: Table::ALL.iter().map(|&table| (table, padded(table))).collect() }
    }

    #[test]
    fn nothing_live_means_everything() {
        let plan = Plan::diff(None, &tables(FILE));
        assert!(matches!(plan, Plan::Replace { generation: 1, ref writes } if !writes.is_empty()));
    }

    #[test]
    fn the_same_file_writes_nothing() {
        let tables = tables(FILE);
        assert_eq!(Plan::diff(Some(&live(&tables, 4)), &tables), Plan::Nothing);
    }

    #[test]
    fn epoch_and_secret_do_not_differ() {
        let tables = tables(FILE);
        let mut changed = tables.clone();
        changed.control.epoch = 3;
        changed.control.secret = 99;
        assert_eq!(Plan::diff(Some(&live(&changed, 4)), &tables), Plan::Nothing);
    }

    #[test]
    fn a_moved_endpoint_is_one_write_in_place() {
        let before = tables(FILE);
        let mut after = before.clone();
        after.endpoints[0] = after.endpoints[0].map(|e| Endpoint { link_known: 1, link: [7; 16], ..e });
        let mut live = live(&before, 4);
        live.tables.get_mut(&Table::Control).unwrap()[0] = 5;
        let plan = Plan::diff(Some(&live), &after);
        assert!(matches!(plan, Plan::Endpoints { generation: 4, epoch: 5, ref writes } if writes.len() == 1));
        let size = size_of::<Endpoint>();
        for (epoch, offset) in [(6, 0), (5, size)] {
            let writes: Vec<_> = plan.endpoint_writes(epoch).collect();
            assert_eq!(writes, [(offset, bytemuck::bytes_of(&after.endpoints[0][0]))]);
        }
    }

    #[test]
    fn another_filter_takes_new_maps() {
        let more = format!("{FILE}\n[[filter]]\nname = \"dns\"\ndestination_port = [53]\nto = [\"ids\"]");
        let plan = Plan::diff(Some(&live(&tables(FILE), 4)), &tables(&more));
        assert!(matches!(plan, Plan::Replace { generation: 5, .. }));
    }
}
