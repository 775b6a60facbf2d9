//! Input: the live tables and what was compiled. Output: every store, in an order in which no
//! packet ever meets anything but the old rules before the commit and the new ones after it. Pure.

use std::collections::BTreeSet;
use std::mem::offset_of;

use traffic_mirror_ebpf::abi::Control;

use crate::compile::{Compiled, Made, Reachable, Then};
use crate::tables::{Live, Table, Tables};

/// How to get from what is live to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// By writes into the live maps.
    InPlace(Plan),
    /// By new maps, which take over: there are none, they have no room, or they contradict
    /// themselves.
    NewMaps,
}

/// How to get from the live tables to those that were compiled from them; without live ones, by new
/// maps.
pub fn difference(live: Option<&Live>, want: &Compiled) -> Transition {
    live.map_or(Transition::NewMaps, |live| {
        Transition::InPlace(Plan::new(&live.tables, want))
    })
}

/// Writes that change nothing for any packet, and a store of the epoch that does. Before them, no
/// program may run any more that began before the last plan was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In their order.
    pub writes: Vec<Write>,
    /// The epoch to store after them.
    pub commit: Option<u32>,
}

/// Words of one element that differ, in one piece. Each 8 bytes (4 where an element has no more)
/// are one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The table.
    pub table: Table,
    /// Where in the table, bytes.
    pub offset: usize,
    /// What must stand there.
    pub bytes: Vec<u8>,
}

impl Plan {
    /// Compares. What nothing points to is written before what will point to it.
    pub fn new(live: &Tables, want: &Compiled) -> Self {
        let writes = ordered(diff(live, &want.tables), &want.in_use);
        let commit = match want.then {
            Then::Commit(epoch) => Some(epoch),
            Then::Nothing => None,
        };
        Self { writes, commit }
    }

    /// The plan that restores tables that another process has changed since they were `made`;
    /// `None` if none has.
    pub fn restore(live: &Tables, made: &Made<'_>) -> Option<Self> {
        let control = Control {
            epoch: made.epoch,
            ..made.tables.control
        };
        let made = Tables {
            control,
            ..made.tables.clone()
        };
        let writes: Vec<Write> = Table::ALL
            .iter()
            .flat_map(|&table| diff_table(live, &made, table, 0))
            .collect();
        (!writes.is_empty()).then_some(Self {
            writes,
            commit: None,
        })
    }

    /// Nothing to do: exactly the wanted state is live.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.commit.is_none()
    }

    /// The elements that are written, that of the epoch included; each range of a table that is one
    /// large element counts for itself.
    pub fn elements(&self) -> usize {
        let place = |write: &Write| {
            let values = write.table == Table::Values;
            (
                write.table,
                if values {
                    write.offset
                } else {
                    write.element() as usize
                },
            )
        };
        let elements: BTreeSet<_> = self.writes.iter().map(place).collect();
        elements.len() + usize::from(self.commit.is_some())
    }
}

impl Write {
    /// The element that it is in.
    pub fn element(&self) -> u32 {
        (self.offset / self.table.element_bytes()) as u32
    }

    /// Bytes of a store.
    pub fn store_bytes(&self) -> usize {
        if self.table.element_bytes().is_multiple_of(8) {
            8
        } else {
            4
        }
    }
}

/// First what is not in use, in the order of [`Table::ALL`]; then what is.
fn ordered(mut writes: Vec<Write>, in_use: &Reachable) -> Vec<Write> {
    writes.sort_by_key(|write| in_use.has(write.table, write.element()));
    writes
}

fn diff(live: &Tables, want: &Tables) -> Vec<Write> {
    // generation, epoch and secret are not for the plan
    let first = |table| {
        if table == Table::Control {
            offset_of!(Control, banks)
        } else {
            0
        }
    };
    Table::ALL
        .iter()
        .flat_map(|&table| diff_table(live, want, table, first(table)))
        .collect()
}

/// `first` is where to begin in each element, bytes.
fn diff_table(live: &Tables, want: &Tables, table: Table, first: usize) -> Vec<Write> {
    let size = table.element_bytes();
    let zeros = vec![0; size];
    let word = if size.is_multiple_of(8) { 8 } else { 4 };
    let mut writes: Vec<Write> = Vec::new();
    let elements = want
        .differing(live, table)
        .flat_map(|(offset, want, live)| {
            let starts = (0..).step_by(size);
            want.chunks_exact(size)
                .zip(starts)
                .map(move |(want, start)| (offset + start, want, live.get(start..start + size)))
        });
    for (start, want, live) in elements {
        let live = live.unwrap_or(&zeros);
        if live == want {
            continue;
        }
        let mut run: Option<Write> = None;
        for at in (first..size).step_by(word) {
            if live[at..at + word] != want[at..at + word] {
                let write = run.get_or_insert(Write {
                    table,
                    offset: start + at,
                    bytes: Vec::new(),
                });
                write.bytes.extend_from_slice(&want[at..at + word]);
            } else {
                writes.extend(run.take());
            }
        }
        writes.extend(run);
    }
    writes
}
