//! Input: tables. Output: the elements that a packet can meet; the rest is free.

use bytemuck::Pod;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use traffic_mirror_ebpf::abi::{Block, Class, EMPTY_BLOCK, EMPTY_CLASS, Root, Skip, TrieEntry};

use crate::compile::classifier::definition::{bits_of, length_of, mask};
use crate::compile::classifier::fingerprint::{hash_of, hash_of_block, summary_of};
use crate::compile::classifier::name_table;
use crate::tables::{Pages, Table, Tables};

/// Elements in use.
#[derive(Debug, Clone)]
pub struct Reachable {
    pub(in crate::compile) classes: Ids,
    pub(in crate::compile) nodes: Ids,
    pub(in crate::compile) skips: Ids,
    pub(in crate::compile) rows: Ids,
    pub(in crate::compile) blocks: Ids,
    /// Classes by the set that they hold, one for each.
    by_set: HashTable<u32>,
    /// Blocks by what they hold, one for each.
    by_content: HashTable<u32>,
    /// The leaves of each trie, by [`Root`].
    pub(in crate::compile) leaves: [Vec<Leaf>; 4],
    /// The node or skip at each place of the tries.
    pub(in crate::compile) entries: HashMap<TriePosition, TrieEntry, DefaultHashBuilder>,
}

/// Addresses that select a class; of what misses a skip, all at its place.
#[derive(Debug, Clone, Copy)]
pub(in crate::compile) struct Leaf {
    pub class: u32,
    pub first: u128,
    pub last: u128,
}

/// A place in a trie: root, depth in bits, the bits before it.
pub(in crate::compile) type TriePosition = (u8, u8, u128);

impl Reachable {
    /// `None` if the tables contradict each other.
    pub(in crate::compile) fn of(tables: &Tables) -> Option<Self> {
        let ids = |table| Ids(vec![false; tables.len(table)]);
        let mut found = Self {
            classes: ids(Table::Classes),
            nodes: ids(Table::Nodes),
            skips: ids(Table::Skips),
            rows: ids(Table::Rows),
            blocks: ids(Table::Blocks),
            by_set: HashTable::new(),
            by_content: HashTable::new(),
            leaves: Default::default(),
            entries: HashMap::default(),
        };
        found.classes.insert(EMPTY_CLASS)?;
        found.blocks.insert(EMPTY_BLOCK)?;
        for &row in &tables.active_bank().rows {
            found.rows.insert(row)?;
        }
        let values = &tables.values;
        let direct = [
            &values.protocol[..],
            std::slice::from_ref(&values.no_protocol),
            &values.source_port[..],
            &values.destination_port[..],
            &values.no_port[..],
            &values.vlan[..],
            &[
                values.other_name,
                values.undecided,
                values.other_application,
                values.undecided_application,
            ],
        ];
        for &class in direct.into_iter().flatten() {
            found.classes.insert(class)?;
        }
        for class in name_table::classes(tables) {
            found.classes.insert(class)?;
        }
        for root in Root::ALL {
            found.skip(
                tables,
                root as u8,
                &tables.active_bank().roots[root as usize],
                0,
                0,
            )?;
        }
        for class in found.classes.iter() {
            for &block in &tables.classes[class as usize].blocks {
                found.blocks.insert(block)?;
            }
        }
        found.index(tables)?;
        Some(found)
    }

    /// Finds classes and blocks by their contents. A class with another summary is of no use.
    fn index(&mut self, tables: &Tables) -> Option<()> {
        self.by_set.reserve(self.classes.count(), |&id| {
            hash_of(&tables.classes[id as usize])
        });
        self.by_content.reserve(self.blocks.count(), |&id| {
            hash_of_block(&tables.blocks[id as usize])
        });
        for class in self.classes.iter() {
            let set = tables.classes[class as usize];
            if *tables.summaries.get(class as usize)? != summary_of(&set) {
                continue;
            }
            let hash = |&id: &u32| hash_of(&tables.classes[id as usize]);
            self.by_set
                .entry(hash(&class), |&id| tables.classes[id as usize] == set, hash)
                .or_insert(class);
        }
        for block in self.blocks.iter().filter(|&block| block != EMPTY_BLOCK) {
            let content = tables.blocks[block as usize];
            let hash = |&id: &u32| hash_of_block(&tables.blocks[id as usize]);
            self.by_content
                .entry(
                    hash(&block),
                    |&id| tables.blocks[id as usize] == content,
                    hash,
                )
                .or_insert(block);
        }
        Some(())
    }

    /// The class that holds a set, of the tables that this is about.
    pub(in crate::compile) fn class(&self, tables: &Tables, set: &Class, hash: u64) -> Option<u32> {
        self.by_set
            .find(hash, |&id| tables.classes[id as usize] == *set)
            .copied()
    }

    /// The block that holds the same, of the tables that this is about.
    pub(in crate::compile) fn block(
        &self,
        tables: &Tables,
        content: &Block,
        hash: u64,
    ) -> Option<u32> {
        self.by_content
            .find(hash, |&id| tables.blocks[id as usize] == *content)
            .copied()
    }

    /// Follows an entry at a place.
    fn walk(
        &mut self,
        tables: &Tables,
        root: u8,
        entry: TrieEntry,
        depth: u8,
        bits: u128,
    ) -> Option<()> {
        match entry {
            TrieEntry::Class(class) => self.leaf(root, class, (bits, bits | !mask(depth)))?,
            TrieEntry::Skip(id) => {
                // each downward edge must be new, or the tables contain a cycle
                self.skips.insert(id)?.then_some(())?;
                self.entries.insert((root, depth, bits), entry);
                self.skip(tables, root, tables.skips.get(id as usize)?, depth, bits)?;
            }
            TrieEntry::Node { byte, id } => {
                let node = tables.nodes.get(id as usize)?;
                (self.nodes.insert(id)? && depth < 128 && byte * 8 == depth).then_some(())?;
                self.entries.insert((root, depth, bits), entry);
                for (value, &child) in (0u32..).zip(&node.child) {
                    let bits = bits | u128::from(value) << (120 - depth);
                    self.walk(tables, root, TrieEntry::unpack(child), depth + 8, bits)?;
                }
            }
        }
        Some(())
    }

    fn leaf(&mut self, root: u8, class: u32, (first, last): (u128, u128)) -> Option<()> {
        self.classes.insert(class)?;
        let leaves = &mut self.leaves[usize::from(root)];
        match leaves
            .last_mut()
            .filter(|leaf| leaf.class == class && leaf.last.checked_add(1) == Some(first))
        {
            Some(leaf) => leaf.last = last,
            None => leaves.push(Leaf { class, first, last }),
        }
        Some(())
    }

    fn skip(
        &mut self,
        tables: &Tables,
        root: u8,
        skip: &Skip,
        depth: u8,
        bits: u128,
    ) -> Option<()> {
        let length = length_of(skip.mask);
        if length == 0 {
            return self.walk(tables, root, TrieEntry::unpack(skip.hit), depth, bits);
        }
        let TrieEntry::Class(miss) = TrieEntry::unpack(skip.miss) else {
            return None;
        };
        self.leaf(root, miss, (bits, bits | !mask(depth)))?;
        (length > depth).then_some(())?;
        self.walk(
            tables,
            root,
            TrieEntry::unpack(skip.hit),
            length,
            bits_of(skip.expect),
        )
    }

    /// Whether a packet can meet an element; those of the tables that nothing points into it always
    /// can.
    pub fn has(&self, table: Table, element: u32) -> bool {
        match table {
            Table::Classes | Table::Summaries => self.classes.has(element),
            Table::Nodes => self.nodes.has(element),
            Table::Skips => self.skips.has(element),
            Table::Rows => self.rows.has(element),
            Table::Blocks => self.blocks.has(element),
            _ => true,
        }
    }

    /// Clears classes, blocks, nodes, skips and rows that are not in use.
    pub(in crate::compile) fn clear_the_rest(&self, tables: &mut Tables) {
        fn clear<T: Pod>(table: &mut Pages<T>, used: &Ids) {
            (0..table.len())
                .filter(|&id| !used.has(id as u32))
                .for_each(|id| table.set(id, T::zeroed()));
        }
        clear(&mut tables.classes, &self.classes);
        clear(&mut tables.summaries, &self.classes);
        clear(&mut tables.blocks, &self.blocks);
        clear(&mut tables.nodes, &self.nodes);
        clear(&mut tables.skips, &self.skips);
        clear(&mut tables.rows, &self.rows);
    }
}

/// A set of ids of one table.
#[derive(Debug, Clone)]
pub(in crate::compile) struct Ids(Vec<bool>);

impl Ids {
    /// Whether it was not in there; `None` if the table is not that long.
    pub(in crate::compile) fn insert(&mut self, id: u32) -> Option<bool> {
        Some(!std::mem::replace(self.0.get_mut(id as usize)?, true))
    }

    /// None of the ids of the same table.
    pub(in crate::compile) fn none(&self) -> Self {
        Self(vec![false; self.0.len()])
    }

    pub(in crate::compile) fn has(&self, id: u32) -> bool {
        self.0.get(id as usize).copied().unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.0.iter().filter(|used| **used).count()
    }

    pub(in crate::compile) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..)
            .zip(&self.0)
            .filter(|(_, used)| **used)
            .map(|(id, _)| id)
    }

    /// Those that are not in there, ascending; without end.
    pub(in crate::compile) fn free(&self) -> impl Iterator<Item = u32> {
        (0..).filter(|&id| !self.has(id))
    }
}
