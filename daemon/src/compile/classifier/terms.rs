//! Input: the server names, or the cgroups, of each slot. Output: the class of each, in a hash table
//! and beside it in words, and the way back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytemuck::Zeroable as _;
use traffic_mirror_ebpf::abi::NameCell;

use crate::compile::classifier::name_table::{mask, probes, there};
use crate::compile::classifier::sets::{Assigned, Cursor, NOTHING, Selected, Sets};
use crate::compile::classifier::slot_set::changes;
use crate::compile::classifier::slots::{BySlot, deciding};
use crate::compile::classifier::source::Source;
use crate::compile::classifier::term::Term;
use crate::tables::{Pages, Tables};

/// What each term selects.
pub(in crate::compile) struct Named<T> {
    terms: Vec<(T, Selected)>,
    /// What no filter has.
    other: Selected,
    /// What cannot be known.
    undecided: Selected,
    /// Some filter gives the field, even if what it gives is nothing at the moment.
    is_given: bool,
}

/// Finds what each term selects.
pub(in crate::compile) fn selected<T: Term>(
    sets: &mut Sets<'_>,
    want: &Source,
    live: &Tables,
) -> Named<T> {
    let (mut cursor, mut without) = (Cursor::new(), Cursor::new());
    let mut given: Vec<(&T, u32)> = Vec::new();
    let mut is_given = false;
    for (slot, definition) in deciding(&want.slots, &want.omitted, T::FIELD) {
        let terms = T::given(definition);
        if terms.is_none() {
            cursor.change(slot, true);
        }
        if terms.is_none_or(|(_, undecided)| undecided) {
            without.change(slot, true);
        }
        is_given |= terms.is_some();
        let terms = terms.into_iter().flat_map(|(terms, _)| terms);
        given.extend(terms.map(|term| (term, slot)));
    }
    given.sort_unstable();
    let values = T::rest(&live.values);
    let other = sets.select(&mut cursor);
    sets.take(other, 1, || Some(values.0));
    let undecided = sets.select(&mut without);
    sets.take(undecided, 1, || Some(values.1));
    let there = if given.is_empty() {
        BTreeMap::new()
    } else {
        there::<T>(live)
    };
    let mut terms = Vec::new();
    // those that include what follows
    let mut open: Vec<&[(&T, u32)]> = Vec::new();
    for group in given.chunk_by(|a, b| a.0 == b.0) {
        let (term, _) = group[0];
        while let Some(outer) = open.pop_if(|outer| !outer[0].0.includes(term)) {
            outer
                .iter()
                .for_each(|&(_, slot)| cursor.change(slot, false));
        }
        group
            .iter()
            .for_each(|&(_, slot)| cursor.change(slot, true));
        let selected = sets.select(&mut cursor);
        sets.take(selected, 1, || there.get(term).map(|there| there.class));
        terms.push((term.clone(), selected));
        if term.is_open() {
            open.push(group);
        } else {
            group
                .iter()
                .for_each(|&(_, slot)| cursor.change(slot, false));
        }
    }
    Named {
        terms,
        other,
        undecided,
        is_given,
    }
}

impl<T: Term> Named<T> {
    /// Puts the terms into tables, and answers the mask of the hash table. Terms that stay keep
    /// their places. `None` if there is no room.
    pub(in crate::compile) fn write(
        &self,
        tables: &mut Tables,
        live: &Tables,
        classes: &Assigned,
    ) -> Option<u64> {
        let is_fresh = T::cells(live).is_empty();
        let values = Arc::make_mut(&mut tables.values);
        let keys = values.name_keys;
        let (other, undecided) = T::rest_mut(values);
        *other = classes.of(self.other);
        *undecided = classes.of(self.undecided);
        let wanted: Vec<Wanted<'_, T>> = self
            .terms
            .iter()
            .map(|(term, selected)| (term, term.hash(&keys), classes.of(*selected)))
            .collect();
        let mut cells = if is_fresh {
            self.cells()
        } else {
            mask::<T>(live) + 1
        };
        if self.is_given && cells == 1 && !is_fresh {
            return None;
        }
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

    /// Cells of new tables: a quarter is used, so that terms can be added.
    fn cells(&self) -> usize {
        match self.terms.len() {
            0 if !self.is_given => 1,
            terms => (4 * terms).next_power_of_two().max(LEAST_CELLS),
        }
    }
}

/// A term, its hash, its class.
type Wanted<'t, T> = (&'t T, u64, u32);

/// Cells where some filter gives the field.
const LEAST_CELLS: usize = 1024;
/// More than this for 100,000 terms means that the hash is broken.
const MOST_CELLS: usize = 1 << 24;

fn fill<T: Term>(
    tables: &mut Tables,
    live: &Tables,
    wanted: &[Wanted<'_, T>],
    cells: usize,
) -> Option<()> {
    let there = there::<T>(live);
    let live_cells = T::cells(live);
    let mut names = Pages::zeroed(live_cells.len().max(cells));
    // what is in use stays until nothing is wanted of it
    for (at, &cell) in live_cells
        .iter()
        .enumerate()
        .filter(|(_, cell)| **cell != 0)
    {
        names.set(at, cell);
    }
    let mut texts = vec![T::Text::zeroed(); T::texts(live).len()];
    let mut kept = vec![false; names.len()];
    let mut new = Vec::new();
    for &(term, hash, class) in wanted {
        match there.get(term) {
            Some(there) => {
                names.set(there.cell, NameCell::new(hash, class).0);
                kept[there.cell] = true;
                texts[there.text] = T::texts(live)[there.text];
            }
            None => new.push((term, hash, class)),
        }
    }
    for (at, kept) in kept.iter().enumerate() {
        let cell = NameCell(names[at]);
        if !kept && cell != NameCell::EMPTY {
            names.set(at, NameCell::GONE.0);
        }
    }
    sweep(&mut names, live_cells, cells);
    let used = names
        .iter()
        .filter(|&&cell| cell != NameCell::EMPTY.0)
        .count();
    if !new.is_empty() && (used + new.len()) * 4 > cells * 3 {
        return None;
    }
    let mut free = 0;
    for (term, hash, class) in new {
        // a cell that was in use a moment ago may still be read as the one of before
        let at = probes(cells - 1, hash).find(|&at| {
            names[at] == NameCell::EMPTY.0
                || is_free(live_cells, at) && names[at] == NameCell::GONE.0
        })?;
        names.set(at, NameCell::new(hash, class).0);
        while texts
            .get(free)
            .is_some_and(|there| T::of_text(there).is_some())
        {
            free += 1;
        }
        if free == texts.len() {
            texts.push(T::Text::zeroed());
        }
        texts[free] = term.to_text()?;
    }
    if cells > 1 && texts.is_empty() {
        // room for what will be selected
        texts.push(T::Text::zeroed());
    }
    *T::cells_mut(tables) = names;
    *T::texts_mut(tables) = texts.into_iter().collect();
    Some(())
}

/// Empties cells from which something has gone and behind which nothing lies: else each change would
/// use up some.
fn sweep(names: &mut Pages<u64>, live: &Pages<u64>, cells: usize) {
    // twice, as the first cell is behind the last
    for at in (0..cells).rev().chain((0..cells).rev()) {
        let is_last = names[(at + 1) % cells] == NameCell::EMPTY.0;
        if is_last && names[at] == NameCell::GONE.0 && is_free(live, at) {
            names.set(at, NameCell::EMPTY.0);
        }
    }
}

/// Whether nothing is in a cell of live tables.
fn is_free(live: &Pages<u64>, at: usize) -> bool {
    live.get(at)
        .is_none_or(|&cell| cell == NameCell::EMPTY.0 || cell == NameCell::GONE.0)
}

/// The terms of a slot, and whether what is unknown matches.
pub(in crate::compile) type Given<T> = (Vec<T>, bool);

/// The terms of each slot that gives some; `None` if tables contradict each other.
pub(in crate::compile) fn decompiled<T: Term>(tables: &Tables) -> Option<BySlot<Option<Given<T>>>> {
    let set = |class: u32| tables.classes.get(class as usize);
    let rest = T::rest(&tables.values);
    let (other, undecided) = (set(rest.0)?, set(rest.1)?);
    let mut found: BySlot<Given<T>> = BySlot::default();
    changes(tables, other, undecided, |slot, begins| {
        if begins {
            found.entry(slot).1 = true;
        }
    })?;
    let mut open: Vec<(&T, u32)> = Vec::new();
    let there = there::<T>(tables);
    for (term, there) in &there {
        while open.pop_if(|(outer, _)| !outer.includes(term)).is_some() {}
        let outer = open.last().map_or(rest.0, |(_, class)| *class);
        changes(tables, set(outer)?, set(there.class)?, |slot, begins| {
            if begins {
                found.entry(slot).0.push(term.clone());
            }
        })?;
        if term.is_open() {
            open.push((term, there.class));
        }
    }
    let mut terms: BySlot<Option<Given<T>>> = found
        .into_iter()
        .map(|(slot, given)| (slot, Some(given)))
        .collect();
    changes(tables, &NOTHING, other, |slot, begins| {
        if begins {
            terms.insert(slot, None);
        }
    })?;
    Some(terms)
}
