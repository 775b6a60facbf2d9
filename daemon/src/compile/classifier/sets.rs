//! The sets that values select, while tables are being built. A set is what it holds of each block,
//! by the block's id; blocks that hold the same are one, and so are sets.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use traffic_mirror_ebpf::abi::{BLOCKS, Block, Class, EMPTY_BLOCK, EMPTY_CLASS};

use crate::compile::classifier::fingerprint::{hash_of, hash_of_block, part, summary_of};
use crate::compile::classifier::reachable::{Ids, Reachable};
use crate::compile::classifier::room::Room;
use crate::compile::classifier::slot_set::{SlotSet, bits, change};
use crate::compile::classifier::slots::block_of;
use crate::tables::{Pages, Tables};

/// The class without slots.
pub(in crate::compile) const NOTHING: Class = Class {
    blocks: [EMPTY_BLOCK; BLOCKS],
};

/// The current set during a pass over the values of a field in ascending order.
#[derive(Debug)]
pub(in crate::compile) struct Cursor {
    slots: SlotSet,
    /// Blocks that have changed since, as bits.
    changed: u64,
    class: Class,
    hash: u64,
    /// What the set is, as long as it has not changed.
    selected: Option<Selected>,
}

impl Cursor {
    pub(in crate::compile) fn new() -> Self {
        Self {
            slots: SlotSet::default(),
            changed: 0,
            class: NOTHING,
            hash: 0,
            selected: None,
        }
    }

    /// Adds a slot to the set, or removes it.
    pub(in crate::compile) fn change(&mut self, slot: u32, is_in: bool) {
        self.changed |= 1 << self.slots.change(slot, is_in);
        self.selected = None;
    }
}

/// What a value or a place of a trie selects: a class that is live, or a set that none holds so
/// far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compile) enum Selected {
    Class(u32),
    /// By number.
    New(u32),
}

/// Collects the sets that are wanted while tables are being built.
pub(in crate::compile) struct Sets<'a> {
    tables: &'a Tables,
    live: &'a Reachable,
    /// Live classes that hold a set that is wanted.
    kept: Ids,
    blocks: Blocks<'a>,
    numbers: HashTable<u32>,
    new: Pages<Class>,
    /// Of each new set, the values that it takes from live classes.
    taken: BTreeMap<(u32, u32), u32>,
    room: Room,
}

impl<'a> Sets<'a> {
    /// `live` is what a packet can meet of `tables`; new blocks are put into `blocks`.
    pub(in crate::compile) fn new(
        tables: &'a Tables,
        live: &'a Reachable,
        blocks: &'a mut Pages<Block>,
        room: Room,
    ) -> Self {
        let free = Box::new(live.blocks.free());
        Self {
            tables,
            live,
            kept: live.classes.none(),
            blocks: Blocks {
                tables,
                live,
                blocks,
                free,
                new: HashTable::new(),
            },
            numbers: HashTable::new(),
            new: Pages::zeroed(0),
            taken: BTreeMap::new(),
            room,
        }
    }

    /// Announces that tables grow by this many bytes.
    pub(in crate::compile) fn spend(&mut self, bytes: usize) {
        self.room.spend(bytes);
    }

    /// Whether there is no more room: what is selected from now on means nothing.
    pub(in crate::compile) fn is_full(&self) -> bool {
        self.room.is_full()
    }

    pub(in crate::compile) fn select(&mut self, cursor: &mut Cursor) -> Selected {
        if let Some(selected) = cursor.selected {
            return selected;
        }
        if self.is_full() {
            return Selected::Class(EMPTY_CLASS);
        }
        for number in bits(std::mem::take(&mut cursor.changed)) {
            let there = &mut cursor.class.blocks[number as usize];
            let id = self.blocks.id(cursor.slots.block(number), &mut self.room);
            cursor.hash ^= part(number, *there) ^ part(number, id);
            *there = id;
        }
        let selected = self.find(&cursor.class, cursor.hash);
        cursor.selected = Some(selected);
        selected
    }

    fn find(&mut self, class: &Class, hash: u64) -> Selected {
        if let Some(live) = self.live.class(self.tables, class, hash) {
            self.kept.insert(live);
            return Selected::Class(live);
        }
        let Self { numbers, new, .. } = self;
        if let Some(&number) = numbers.find(hash, |&number| new[number as usize] == *class) {
            return Selected::New(number);
        }
        let number = new.len() as u32;
        self.room.spend(size_of::<Class>() + size_of::<u64>());
        new.grow(number as usize + 1);
        new.set(number as usize, *class);
        numbers.insert_unique(hash, number, |&number| hash_of(&new[number as usize]));
        Selected::New(number)
    }

    /// The content of a live class, with slots added (true) and removed. `changes` are sorted by
    /// slot.
    pub(in crate::compile) fn patched(&mut self, class: u32, changes: &[(u32, bool)]) -> Selected {
        let Some(mut set) = self
            .tables
            .classes
            .get(class as usize)
            .copied()
            .filter(|_| !self.is_full())
        else {
            return Selected::Class(EMPTY_CLASS);
        };
        let mut hash = hash_of(&set);
        for changes in changes.chunk_by(|a, b| block_of(a.0) == block_of(b.0)) {
            let number = block_of(changes[0].0);
            let there = &mut set.blocks[number as usize];
            let mut block = self
                .tables
                .blocks
                .get(*there as usize)
                .copied()
                .unwrap_or_default();
            changes
                .iter()
                .for_each(|&(slot, is_in)| change(&mut block, slot, is_in));
            let id = self.blocks.id(&block, &mut self.room);
            hash ^= part(number, *there) ^ part(number, id);
            *there = id;
        }
        self.find(&set, hash)
    }

    /// Announces that values continue to select their live classes.
    pub(in crate::compile) fn keep(&mut self, classes: &[u32]) -> Vec<Selected> {
        classes.iter().map(|&class| self.keep_one(class)).collect()
    }

    /// Announces that some values continue to select their live class.
    pub(in crate::compile) fn keep_one(&mut self, class: u32) -> Selected {
        self.stays(class);
        Selected::Class(class)
    }

    /// Says that a live class is still wanted.
    pub(in crate::compile) fn stays(&mut self, class: u32) {
        self.kept.insert(class);
    }

    /// Announces that values of a live class will select another one.
    pub(in crate::compile) fn take(
        &mut self,
        selected: Selected,
        values: u32,
        class: impl FnOnce() -> Option<u32>,
    ) {
        if let Selected::New(number) = selected
            && let Some(class) = class().filter(|&class| class != EMPTY_CLASS)
        {
            *self.taken.entry((number, class)).or_default() += values;
        }
    }

    /// Gives each new set a class: the live one from which most of its values come, if that is not
    /// needed any more, so that only words change; otherwise a free one. `None` if there is no room
    /// for all of them. With `alone` no class is reused: it may serve two fields, and is known to
    /// be equal for the active slots in one of them only.
    pub(in crate::compile) fn assign(self, alone: bool) -> Option<Assigned> {
        if self.is_full() {
            return None;
        }
        let mut classes = vec![None; self.new.len()];
        let mut kept = self.kept;
        kept.insert(EMPTY_CLASS);
        let mut taken: Vec<_> = self.taken.into_iter().filter(|_| !alone).collect();
        taken.sort_unstable_by_key(|&((number, class), values)| {
            (std::cmp::Reverse(values), number, class)
        });
        for ((number, class), _) in taken {
            let is_there = self.live.classes.has(class);
            if classes[number as usize].is_none() && is_there && kept.insert(class) == Some(true) {
                classes[number as usize] = Some(class);
            }
        }
        let mut free = self.live.classes.free();
        let ids = classes
            .into_iter()
            .map(|class| class.unwrap_or_else(|| free.next().unwrap_or_default()))
            .collect();
        Some(Assigned {
            ids,
            classes: self.new,
        })
    }
}

/// Finds blocks by what they hold. One that is in use is never changed, since others may share it;
/// what is new is put where nothing points.
struct Blocks<'a> {
    tables: &'a Tables,
    live: &'a Reachable,
    blocks: &'a mut Pages<Block>,
    free: Box<dyn Iterator<Item = u32> + 'a>,
    new: HashTable<u32>,
}

impl Blocks<'_> {
    fn id(&mut self, block: &Block, room: &mut Room) -> u32 {
        if *block == Block::default() {
            return EMPTY_BLOCK;
        }
        let hash = hash_of_block(block);
        if let Some(id) = self.live.block(self.tables, block, hash) {
            return id;
        }
        let Self {
            blocks, free, new, ..
        } = self;
        if let Some(&id) = new.find(hash, |&id| blocks[id as usize] == *block) {
            return id;
        }
        let id = free.next().unwrap_or_default();
        room.spend(size_of::<Block>());
        blocks.grow(id as usize + 1);
        blocks.set(id as usize, *block);
        new.insert_unique(hash, id, |&id| hash_of_block(&blocks[id as usize]));
        id
    }
}

/// Where the new sets stand.
pub(in crate::compile) struct Assigned {
    /// The class of each, by number.
    ids: Vec<u32>,
    classes: Pages<Class>,
}

impl Assigned {
    pub(in crate::compile) fn of(&self, selected: Selected) -> u32 {
        match selected {
            Selected::Class(class) => class,
            Selected::New(number) => self.ids[number as usize],
        }
    }

    /// Puts them into tables.
    pub(in crate::compile) fn write(&self, tables: &mut Tables) {
        for (&id, class) in self.ids.iter().zip(self.classes.iter()) {
            tables.classes.grow(id as usize + 1);
            tables.summaries.grow(id as usize + 1);
            tables.classes.set(id as usize, *class);
            tables.summaries.set(id as usize, summary_of(class));
        }
    }
}
