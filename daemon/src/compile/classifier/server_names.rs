//! Input: the server names of each slot. Output: the class of each name, in a hash table and beside
//! it in words, and the way back.

use std::collections::BTreeMap;
use std::sync::Arc;

use traffic_mirror_ebpf::abi::{Field, NameCell, NameText};

use crate::compile::classifier::name_set::{ServerNames, is_wildcard, text};
use crate::compile::classifier::name_table::{hash, mask, probes, there};
use crate::compile::classifier::sets::{Assigned, Cursor, NOTHING, Selected, Sets};
use crate::compile::classifier::slot_set::changes;
use crate::compile::classifier::slots::{BySlot, deciding};
use crate::compile::classifier::source::Source;
use crate::tables::{Pages, Tables};

/// What each name selects.
pub(in crate::compile) struct Named {
    names: Vec<(String, Selected)>,
    /// A name that no filter has.
    other: Selected,
    /// No name.
    undecided: Selected,
}

/// Finds what each name selects.
pub(in crate::compile) fn selected(sets: &mut Sets<'_>, want: &Source, live: &Tables) -> Named {
    let (mut cursor, mut without) = (Cursor::new(), Cursor::new());
    let mut given: Vec<(&str, u32)> = Vec::new();
    for (slot, definition) in deciding(&want.slots, &want.omitted, Field::ServerName) {
        let names = definition.server_name.as_deref();
        if names.is_none() {
            cursor.change(slot, true);
        }
        if names.is_none_or(|names| names.undecided) {
            without.change(slot, true);
        }
        let names = names.into_iter().flat_map(|names| &names.reversed);
        given.extend(names.map(|name| (name.as_str(), slot)));
    }
    given.sort_unstable();
    let values = &live.values;
    let other = sets.select(&mut cursor);
    sets.take(other, 1, || Some(values.other_name));
    let undecided = sets.select(&mut without);
    sets.take(undecided, 1, || Some(values.undecided));
    let there = if given.is_empty() {
        BTreeMap::new()
    } else {
        there(live)
    };
    let mut names = Vec::new();
    // the wildcards that match what follows
    let mut open: Vec<&[(&str, u32)]> = Vec::new();
    for group in given.chunk_by(|a, b| a.0 == b.0) {
        let (name, _) = group[0];
        while let Some(outer) = open.pop_if(|outer| !name.starts_with(outer[0].0)) {
            outer
                .iter()
                .for_each(|&(_, slot)| cursor.change(slot, false));
        }
        group
            .iter()
            .for_each(|&(_, slot)| cursor.change(slot, true));
        let selected = sets.select(&mut cursor);
        sets.take(selected, 1, || there.get(name).map(|there| there.class));
        names.push((name.to_owned(), selected));
        if is_wildcard(name) {
            open.push(group);
        } else {
            group
                .iter()
                .for_each(|&(_, slot)| cursor.change(slot, false));
        }
    }
    Named {
        names,
        other,
        undecided,
    }
}

impl Named {
    /// Puts the names into tables, and answers keys and mask of the hash table. Names that stay keep
    /// their places. `None` if there is no room.
    pub(in crate::compile) fn write(
        &self,
        tables: &mut Tables,
        live: &Tables,
        classes: &Assigned,
    ) -> Option<u64> {
        let is_fresh = live.names.is_empty();
        let values = Arc::make_mut(&mut tables.values);
        values.other_name = classes.of(self.other);
        values.undecided = classes.of(self.undecided);
        let keys = values.name_keys;
        let wanted: Vec<(&str, u64, u32)> = self
            .names
            .iter()
            .map(|(name, selected)| (name.as_str(), hash(&keys, name), classes.of(*selected)))
            .collect();
        let mut cells = if is_fresh {
            cells_for(self.names.len())
        } else {
            mask(live) + 1
        };
        while cells <= MOST_CELLS {
            let filled = fill(tables, live, &wanted, cells);
            if filled.is_some() {
                return Some(cells as u64 - 1);
            }
            if !is_fresh {
                return None;
            }
            cells *= 2;
        }
        None
    }
}

/// More than this for 100,000 names means that the hash is broken.
const MOST_CELLS: usize = 1 << 24;
/// Cells of new tables: a quarter is used, so that names can be added.
fn cells_for(names: usize) -> usize {
    match names {
        0 => 1,
        names => (4 * names).next_power_of_two().max(1024),
    }
}

fn fill(
    tables: &mut Tables,
    live: &Tables,
    wanted: &[(&str, u64, u32)],
    cells: usize,
) -> Option<()> {
    let there = there(live);
    let mut names = Pages::zeroed(live.names.len().max(cells));
    // what is in use stays until nothing is wanted of it
    for (at, &cell) in live
        .names
        .iter()
        .enumerate()
        .filter(|(_, cell)| **cell != 0)
    {
        names.set(at, cell);
    }
    let mut texts = vec![NameText::free(); live.name_texts.len()];
    let mut kept = vec![false; names.len()];
    let mut new = Vec::new();
    for &(name, hash, class) in wanted {
        match there.get(name) {
            Some(there) => {
                names.set(there.cell, NameCell::new(hash, class).0);
                kept[there.cell] = true;
                texts[there.text] = live.name_texts[there.text];
            }
            None => new.push((name, hash, class)),
        }
    }
    for (at, kept) in kept.iter().enumerate() {
        let cell = NameCell(names[at]);
        if !kept && cell != NameCell::EMPTY {
            names.set(at, NameCell::GONE.0);
        }
    }
    let used = names
        .iter()
        .filter(|&&cell| cell != NameCell::EMPTY.0)
        .count();
    if !new.is_empty() && (used + new.len()) * 4 > cells * 3 {
        return None;
    }
    let mut free = 0;
    for (name, hash, class) in new {
        // a cell that was in use a moment ago may still be read as the one of before
        let at = probes(cells - 1, hash).find(|&at| {
            names[at] == NameCell::EMPTY.0 || is_free(live, at) && names[at] == NameCell::GONE.0
        })?;
        names.set(at, NameCell::new(hash, class).0);
        while texts.get(free).is_some_and(|there| there.text().is_some()) {
            free += 1;
        }
        if free == texts.len() {
            texts.push(NameText::free());
        }
        texts[free] = NameText::new(&text(name))?;
    }
    tables.names = names;
    tables.name_texts = texts.into_iter().collect();
    Some(())
}

/// Whether nothing is in a cell of live tables.
fn is_free(live: &Tables, at: usize) -> bool {
    live.names
        .get(at)
        .is_none_or(|&cell| cell == NameCell::EMPTY.0 || cell == NameCell::GONE.0)
}

/// The names of each slot that gives some; `None` if tables contradict each other.
pub(in crate::compile) fn decompiled(tables: &Tables) -> Option<BySlot<Option<ServerNames>>> {
    let set = |class: u32| tables.classes.get(class as usize);
    let (other, undecided) = (
        set(tables.values.other_name)?,
        set(tables.values.undecided)?,
    );
    let mut found: BySlot<ServerNames> = BySlot::default();
    changes(tables, other, undecided, |slot, begins| {
        if begins {
            found.entry(slot).undecided = true;
        }
    })?;
    let mut open: Vec<(&str, u32)> = Vec::new();
    let there = there(tables);
    for (name, there) in &there {
        while open
            .pop_if(|(outer, _)| !name.starts_with(*outer))
            .is_some()
        {}
        let outer = open
            .last()
            .map_or(tables.values.other_name, |(_, class)| *class);
        changes(tables, set(outer)?, set(there.class)?, |slot, begins| {
            if begins {
                found.entry(slot).reversed.push(name.clone());
            }
        })?;
        if is_wildcard(name) {
            open.push((name, there.class));
        }
    }
    let mut names: BySlot<Option<ServerNames>> = found
        .into_iter()
        .map(|(slot, names)| (slot, Some(names)))
        .collect();
    changes(tables, &NOTHING, other, |slot, begins| {
        if begins {
            names.insert(slot, None);
        }
    })?;
    Some(names)
}
