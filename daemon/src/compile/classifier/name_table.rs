//! The hash tables of server names and cgroups, as tables have them.

use std::collections::BTreeMap;

use bytemuck::Zeroable as _;
use sha2::{Digest as _, Sha256};
use traffic_mirror_ebpf::abi::{NAME_PROBES, NameCell, NameKeys};
use traffic_mirror_ebpf::hello::{Buffer, NAME_MAX_BYTES, Plain, name};
use traffic_mirror_ebpf::owner::cgroup_hash;

use crate::compile::classifier::cgroup_set::CgroupTerm;
use crate::compile::classifier::term::Term;
use crate::tables::{Pages, Tables};

/// The keys of the hashes, from the secret of a pin path: whoever knew them could choose names that
/// all lie in the same cells.
pub(in crate::compile) fn keys(secret: u64) -> NameKeys {
    let mut keys = NameKeys::zeroed();
    let words: &mut [u64] = bytemuck::cast_slice_mut(bytemuck::bytes_of_mut(&mut keys));
    for (number, words) in (0u32..).zip(words.chunks_mut(4)) {
        let hash = Sha256::new()
            .chain_update("traffic-mirror server names")
            .chain_update(number.to_ne_bytes())
            .chain_update(secret.to_ne_bytes())
            .finalize();
        words
            .iter_mut()
            .zip(hash.as_chunks().0)
            .for_each(|(word, bytes)| *word = u64::from_be_bytes(*bytes));
    }
    keys
}

/// A term in live tables.
#[derive(Debug, Clone, Copy)]
pub(in crate::compile) struct There {
    /// Index among the texts.
    pub text: usize,
    /// Index of the cell.
    pub cell: usize,
    pub class: u32,
}

/// The terms in live tables. A text without a cell, or a cell without a text, is what is left over
/// from a step that did not get far.
pub(in crate::compile) fn there<T: Term>(tables: &Tables) -> BTreeMap<T, There> {
    let (keys, mask) = (&tables.values.name_keys, mask::<T>(tables));
    let mut found = BTreeMap::new();
    for (index, element) in T::texts(tables).iter().enumerate() {
        let Some(term) = T::of_text(element) else {
            continue;
        };
        if let Some((cell, class)) = find(T::cells(tables), mask, term.hash(keys)) {
            let there = There {
                text: index,
                cell,
                class,
            };
            found.insert(term, there);
        }
    }
    found
}

pub(in crate::compile) fn mask<T: Term>(tables: &Tables) -> usize {
    T::mask(tables.active_bank()) as usize
}

pub(in crate::compile) fn probes(mask: usize, hash: u64) -> impl Iterator<Item = usize> {
    let first = NameCell::place(hash);
    (0..NAME_PROBES).map(move |probe| first.wrapping_add(probe) as usize & mask)
}

/// Where a term lies, and its class.
fn find(cells: &Pages<u64>, mask: usize, hash: u64) -> Option<(usize, u32)> {
    for at in probes(mask, hash) {
        let cell = NameCell(*cells.get(at)?);
        if let Some(class) = cell.class(hash) {
            return Some((at, class));
        }
        if cell == NameCell::EMPTY {
            return None;
        }
    }
    None
}

struct Patterns<'t>(&'t Tables);

impl name::Names for Patterns<'_> {
    fn find(&mut self, hash: u64) -> u32 {
        let found = find(&self.0.names, mask::<String>(self.0), hash);
        found.map_or(0, |(_, class)| class)
    }
}

/// The class of a name that a client gives, as the programs find it. A longer name than programs
/// read is undecided.
pub fn class_of_name(tables: &Tables, asked: &str) -> u32 {
    let values = &tables.values;
    let Ok(bytes @ 1..=NAME_MAX_BYTES) = u32::try_from(asked.len()) else {
        return values.undecided;
    };
    let mut buffer = Buffer::default();
    buffer.put(0, asked.as_bytes());
    let keys = &values.name_keys.names;
    let found = name::look_up(&Plain, &buffer, keys, Patterns(tables), (0, bytes as u16));
    match found.class {
        0 => values.other_name,
        class => class,
    }
}

/// The class of a cgroup, as the programs find it. `ids` are those from the root down to it.
pub fn class_of_cgroup(tables: &Tables, ids: &[u64]) -> u32 {
    let values = &tables.values;
    let of = |id: &u64| {
        let hash = cgroup_hash(*id, &values.name_keys.flows);
        find(&tables.cgroups, mask::<CgroupTerm>(tables), hash)
    };
    let deepest = ids.iter().rev().find_map(of);
    deepest.map_or(values.other_application, |(_, class)| class)
}

/// The classes that packets can meet.
pub(in crate::compile) fn classes(tables: &Tables) -> impl Iterator<Item = u32> {
    let cells = tables.names.iter().chain(tables.cgroups.iter());
    let cells = cells.map(|&cell| NameCell(cell));
    let used = cells.filter(|cell| *cell != NameCell::EMPTY && *cell != NameCell::GONE);
    used.map(NameCell::any_class)
}
