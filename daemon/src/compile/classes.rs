//! Input: sets of slots. Output: their ids, each set once, and the elements of `CLASSES` and `BLOCKS`.

use std::collections::{BTreeMap, HashMap};

use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, Block, Class, EMPTY_CLASS, FULL_BLOCK};

use super::slots::block_of;

/// A set of slots: its non-empty blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct SlotSet(BTreeMap<u32, Block>);

impl SlotSet {
    pub(super) fn insert(&mut self, slot: u32) {
        let (word, bit) = position(slot);
        self.0.entry(block_of(slot)).or_default()[word] |= bit;
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let (word, bit) = position(slot);
        if let Some(block) = self.0.get_mut(&block_of(slot)) {
            block[word] &= !bit;
            if *block == Block::default() {
                self.0.remove(&block_of(slot));
            }
        }
    }
}

/// Word of a slot in its block, and its bit there.
pub(super) const fn position(slot: u32) -> (usize, u64) {
    let slot = slot as usize % BLOCK_SLOTS;
    (slot / 64, 1 << (slot % 64))
}

/// Gives each set an id.
#[derive(Debug)]
pub(super) struct Classes {
    ids: HashMap<SlotSet, u32>,
    classes: Vec<Class>,
    blocks: Vec<Block>,
}

impl Classes {
    /// Knows the empty set.
    pub(super) fn new() -> Self {
        Self {
            ids: HashMap::from([(SlotSet::default(), EMPTY_CLASS)]),
            classes: vec![Class::default()],
            blocks: vec![[!0; _]; FULL_BLOCK as usize + 1],
        }
    }

    pub(super) fn id(&mut self, set: &SlotSet) -> u32 {
        if let Some(&id) = self.ids.get(set) {
            return id;
        }
        let id = self.classes.len() as u32;
        let summary = set.0.keys().fold(0, |summary, block| summary | 1 << block);
        self.classes.push(Class { summary, base: self.blocks.len() as u32, reserved: 0 });
        self.blocks.extend(set.0.values());
        self.ids.insert(set.clone(), id);
        id
    }

    pub(super) fn into_tables(self) -> (Vec<Class>, Vec<Block>) {
        (self.classes, self.blocks)
    }

    /// The class of each value below `domain`, from the slots that each range of values satisfies.
    pub(super) fn of_ranges(&mut self, domain: u32, ranges: impl Iterator<Item = (u32, u32, u32)>) -> Vec<u32> {
        // value -> slots that begin there, slots that end before it
        let mut events: BTreeMap<u32, (Vec<u32>, Vec<u32>)> = BTreeMap::from([(0, Default::default())]);
        for (slot, first, last) in ranges {
            events.entry(first).or_default().0.push(slot);
            events.entry(last + 1).or_default().1.push(slot);
        }
        let mut set = SlotSet::default();
        let mut classes = Vec::with_capacity(domain as usize);
        let mut events = events.into_iter().peekable();
        while let Some((value, (begin, end))) = events.next() {
            end.into_iter().for_each(|slot| set.remove(slot));
            begin.into_iter().for_each(|slot| set.insert(slot));
            let until = events.peek().map_or(domain, |(next, _)| *next);
            if value < domain {
                classes.resize(until.min(domain) as usize, self.id(&set));
            }
        }
        classes
    }
}
