//! Sets of slots, and their numbers while tables are being built.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use bytemuck::Zeroable;
use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, BLOCKS, Block, Class, EMPTY_CLASS, Row};

use super::reachable::{Ids, Reachable};
use super::slots::block_of;
use crate::tables::Tables;

/// A set of slots: its non-empty blocks, ascending, and a fingerprint that each slot changes for itself, so that the
/// sets of neighbouring values, which differ by a slot or two, cost a slot or two to tell apart (Zobrist hashing).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SlotSet {
    fingerprint: u64,
    blocks: Vec<(u32, Block)>,
}

impl Hash for SlotSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint);
    }
}

/// A slot's part of a fingerprint: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
const fn part(slot: u32) -> u64 {
    let mut z = (slot as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl SlotSet {
    fn new(blocks: impl Iterator<Item = (u32, Block)>) -> Self {
        let mut set = Self { fingerprint: 0, blocks: blocks.collect() };
        set.fingerprint = set.iter().fold(0, |fingerprint, slot| fingerprint ^ part(slot));
        set
    }

    /// What a class holds; `None` if there is no such class, or its blocks lie beyond the table.
    pub(super) fn of_class(tables: &Tables, class: u32) -> Option<Self> {
        let class = tables.classes.get(class as usize)?;
        let count = class.summary.count_ones() as usize;
        let stored = tables.blocks.get(class.base as usize..)?.get(..count)?;
        let numbers = (0..BLOCKS as u32).filter(|block| class.summary >> block & 1 != 0);
        let blocks = numbers.zip(stored.iter().copied());
        Some(Self::new(blocks.filter(|(_, block)| *block != Block::default())))
    }

    /// The slots of a row.
    pub(super) fn of_row(row: &Row) -> Self {
        Self::new((0..).zip(row.blocks).filter(|(_, block)| *block != Block::default()))
    }

    /// As a row.
    pub(super) fn row(&self) -> Row {
        let mut row = Row::zeroed();
        self.blocks.iter().for_each(|(number, block)| row.blocks[*number as usize] = *block);
        row
    }

    pub(super) fn insert(&mut self, slot: u32) {
        let (word, bit) = position(slot);
        let number = block_of(slot);
        let at = match self.blocks.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(at) => at,
            Err(at) => {
                self.blocks.insert(at, (number, Block::default()));
                at
            }
        };
        let word = &mut self.blocks[at].1[word];
        if *word & bit == 0 {
            *word |= bit;
            self.fingerprint ^= part(slot);
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let (word, bit) = position(slot);
        let Ok(at) = self.blocks.binary_search_by_key(&block_of(slot), |(number, _)| *number) else { return };
        let block = &mut self.blocks[at].1;
        if block[word] & bit != 0 {
            block[word] &= !bit;
            self.fingerprint ^= part(slot);
            if *block == Block::default() {
                self.blocks.remove(at);
            }
        }
    }

    /// Keeps what is in the other set, too.
    pub(super) fn intersect(&mut self, other: &Self) {
        let other = |number: u32| {
            let at = other.blocks.binary_search_by_key(&number, |(number, _)| *number).ok()?;
            Some(&other.blocks[at].1)
        };
        let blocks = self.blocks.iter().filter_map(|(number, block)| {
            let (mut block, other) = (*block, other(*number)?);
            block.iter_mut().zip(other).for_each(|(word, other)| *word &= other);
            (block != Block::default()).then_some((*number, block))
        });
        *self = Self::new(blocks);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.blocks.iter().flat_map(|(number, block)| {
            let first = number * BLOCK_SLOTS as u32;
            (first..).step_by(64).zip(block).flat_map(|(first, &word)| bits(word).map(move |bit| first + bit))
        })
    }

    pub(super) fn summary(&self) -> u64 {
        self.blocks.iter().fold(0, |summary, (number, _)| summary | 1 << number)
    }
}

/// Numbers of the bits that are set, ascending.
fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

/// Word of a slot in its block, and its bit there.
pub(super) const fn position(slot: u32) -> (usize, u64) {
    let slot = slot as usize % BLOCK_SLOTS;
    (slot / 64, 1 << (slot % 64))
}

/// A fingerprint is a hash already.
#[derive(Debug, Default, Clone)]
pub(super) struct ByFingerprint(u64);

impl Hasher for ByFingerprint {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

/// Something by set.
pub(super) type BySet = HashMap<SlotSet, u32, BuildHasherDefault<ByFingerprint>>;

/// What a value or a place of a trie selects: a class that is live, or a set that none holds so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selected {
    Class(u32),
    /// By number.
    New(u32),
}

/// Collects the sets that are wanted while tables are being built.
#[derive(Debug)]
pub(super) struct Sets<'a> {
    live: &'a Reachable,
    /// Live classes that hold a set that is wanted.
    kept: Ids,
    numbers: BySet,
    new: Vec<SlotSet>,
    /// Of each new set, the values that it takes from live classes.
    taken: BTreeMap<(u32, u32), u32>,
}

impl<'a> Sets<'a> {
    pub(super) fn new(live: &'a Reachable) -> Self {
        Self { live, kept: live.classes.none(), numbers: BySet::default(), new: Vec::new(), taken: BTreeMap::new() }
    }

    pub(super) fn select(&mut self, set: &SlotSet) -> Selected {
        if let Some(&class) = self.live.sets.get(set) {
            self.kept.insert(class);
            return Selected::Class(class);
        }
        if let Some(&number) = self.numbers.get(set) {
            return Selected::New(number);
        }
        let number = self.new.len() as u32;
        self.numbers.insert(set.clone(), number);
        self.new.push(set.clone());
        Selected::New(number)
    }

    /// Says that values go on to select their live classes.
    pub(super) fn keep(&mut self, classes: &[u32]) -> Vec<Selected> {
        let keep = |&class: &u32| {
            self.kept.insert(class);
            Selected::Class(class)
        };
        classes.iter().map(keep).collect()
    }

    /// Says that values of a live class come to select something else.
    pub(super) fn take(&mut self, selected: Selected, values: u32, class: impl FnOnce() -> Option<u32>) {
        if let Selected::New(number) = selected
            && let Some(class) = class()
        {
            *self.taken.entry((number, class)).or_default() += values;
        }
    }

    /// Gives each new set a class of `tables`: the live one that it takes most of its values from, if that has room for
    /// its blocks and is not wanted any more, so that only words change; else a free one.
    pub(super) fn assign(self, tables: &mut Tables) -> Classes {
        let mut classes = vec![None; self.new.len()];
        let mut kept = self.kept;
        kept.insert(EMPTY_CLASS);
        let mut taken: Vec<_> = self.taken.into_iter().collect();
        taken.sort_unstable_by_key(|&((number, class), values)| (std::cmp::Reverse(values), number, class));
        for ((number, class), _) in taken {
            let set = &self.new[number as usize];
            let Some(&Class { summary, base, .. }) = tables.classes.get(class as usize) else { continue };
            let has_room = set.summary() & !summary == 0 && self.live.classes.has(class);
            if classes[number as usize].is_none() && has_room && kept.insert(class) == Some(true) {
                classes[number as usize] = Some(class);
                put(&mut tables.blocks[base as usize..], summary, set);
            }
        }
        let mut free_classes = self.live.classes.free();
        let mut free_blocks = self.live.free_blocks();
        let place = |(class, set): (Option<u32>, &SlotSet)| {
            class.unwrap_or_else(|| {
                let id = free_classes.next().unwrap_or_default();
                let base = free_blocks.take(set.blocks.len());
                grow(&mut tables.classes, id as usize + 1, Class::default());
                grow(&mut tables.blocks, base + set.blocks.len(), Block::default());
                put(&mut tables.blocks[base..], set.summary(), set);
                tables.classes[id as usize] = Class { summary: set.summary(), base: base as u32, reserved: 0 };
                id
            })
        };
        Classes(classes.into_iter().zip(&self.new).map(place).collect())
    }
}

/// The classes of the new sets, by number.
#[derive(Debug)]
pub(super) struct Classes(Vec<u32>);

impl Classes {
    pub(super) fn of(&self, selected: Selected) -> u32 {
        match selected {
            Selected::Class(class) => class,
            Selected::New(number) => self.0[number as usize],
        }
    }
}

/// Writes the blocks of a set into those of a class; one in which the set has no slots becomes empty.
fn put(blocks: &mut [Block], summary: u64, set: &SlotSet) {
    let mut from = set.blocks.iter().peekable();
    for (to, number) in blocks.iter_mut().zip(bits(summary)) {
        let block = from.next_if(|(here, _)| *here == number);
        *to = block.map_or_else(Block::default, |(_, block)| *block);
    }
}

/// Makes a table at least that long.
pub(super) fn grow<T: Clone>(table: &mut Vec<T>, length: usize, filler: T) {
    if table.len() < length {
        table.resize(length, filler);
    }
}
