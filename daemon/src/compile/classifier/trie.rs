//! Input: prefixes and their slots. Output: the first step of a look-up and the elements of `NODES`
//! and `SKIPS` after it, in their live places. A chain of nodes with only one path is a skip: one
//! comparison.

use traffic_mirror_ebpf::abi::{EMPTY_CLASS, Node, Root, Skip, TrieEntry};
use traffic_mirror_ebpf::classify::class_of;

use crate::compile::classifier::definition::{halves, mask};
use crate::compile::classifier::reachable::{Leaf, Reachable, TriePosition};
use crate::compile::classifier::regions::Regions;
use crate::compile::classifier::sets::{Assigned, Cursor, Selected, Sets};
use crate::tables::Tables;

/// A prefix of an address, left-aligned in 128 bits. Those of one slot do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::compile) struct Prefix {
    pub bits: u128,
    pub length: u8,
    pub slot: u32,
}

/// A trie; `bits` are those of the place.
#[derive(Debug)]
pub(in crate::compile) enum Tree {
    Leaf(Selected),
    /// What is live at the place, packed.
    Same(u32),
    Skip {
        bits: u128,
        length: u8,
        hit: Box<Tree>,
        miss: Selected,
    },
    /// Each child with the first value of the byte that leads to it.
    Node {
        children: Vec<(u8, Tree)>,
    },
}

const BYTE: u8 = 8;

/// Builds trees.
pub(in crate::compile) struct TrieBuilder<'a, 'l> {
    pub sets: &'a mut Sets<'l>,
    pub live: &'a Tables,
    pub in_use: &'a Reachable,
    pub root: Root,
    /// The part that differs from the live trie; everything if that is not known.
    pub changed: Option<Regions>,
}

impl<'a> TrieBuilder<'a, '_> {
    /// The tree of `prefixes`, which are sorted.
    pub(in crate::compile) fn build(&mut self, prefixes: &[Prefix]) -> Tree {
        // those at the edge of what changes are kept, too
        if let Some(changed) = &self.changed {
            let stays = |leaf: &&Leaf| !changed.have(leaf.first, leaf.last);
            let leaves = self.in_use.leaves[self.root as usize].iter();
            leaves
                .filter(stays)
                .for_each(|leaf| self.sets.stays(leaf.class));
        }
        self.tree(prefixes, 0, 0, &mut Cursor::new())
    }

    /// What the addresses of a place select.
    fn select(&mut self, cursor: &mut Cursor, bits: u128) -> Selected {
        let selected = self.sets.select(cursor);
        let root = &self.live.active_bank().roots[self.root as usize];
        self.sets
            .take(selected, 1, || class_of(self.live, root, halves(bits)));
        selected
    }

    /// `prefixes` agree with `bits` in the first `depth` bits (a multiple of 8) and are at least
    /// that long; `cursor` has the slots of shorter ones, before and after.
    fn tree(&mut self, prefixes: &[Prefix], depth: u8, bits: u128, cursor: &mut Cursor) -> Tree {
        let (ending, prefixes) =
            prefixes.split_at(prefixes.iter().take_while(|p| p.length == depth).count());
        ending.iter().for_each(|p| cursor.change(p.slot, true));
        let tree = self.longer(prefixes, depth, bits, cursor);
        ending.iter().for_each(|p| cursor.change(p.slot, false));
        tree
    }

    /// As [`TrieBuilder::tree`], where no prefix ends at once.
    fn longer(&mut self, prefixes: &[Prefix], depth: u8, bits: u128, cursor: &mut Cursor) -> Tree {
        let (Some(first), Some(last)) = (prefixes.first(), prefixes.last()) else {
            return Tree::Leaf(self.select(cursor, bits));
        };
        // sorted: what the first and the last have in common, all have
        let shortest = prefixes.iter().map(|p| p.length).min().unwrap_or(depth);
        let common = ((first.bits ^ last.bits).leading_zeros() as u8).min(shortest);
        let alone = prefixes.iter().all(|p| p.length == common);
        let length = if alone { common } else { common / BYTE * BYTE };
        if !alone && length == depth {
            return self.node(prefixes, depth, bits, cursor);
        }
        self.sets.spend(size_of::<Skip>());
        let bits = first.bits & mask(length);
        // an address that misses: the last bit that is compared differs
        let miss = self.select(cursor, bits ^ 1 << (128 - length));
        let hit = if alone {
            prefixes.iter().for_each(|p| cursor.change(p.slot, true));
            let hit = Tree::Leaf(self.select(cursor, bits));
            prefixes.iter().for_each(|p| cursor.change(p.slot, false));
            hit
        } else {
            self.tree(prefixes, length, bits, cursor)
        };
        Tree::Skip {
            bits,
            length,
            hit: Box::new(hit),
            miss,
        }
    }

    /// The node that is live at a place.
    fn there(&self, depth: u8, bits: u128) -> Option<&'a Node> {
        let Some(TrieEntry::Node { id, .. }) =
            self.in_use.entries.get(&(self.root as u8, depth, bits))
        else {
            return None;
        };
        self.live.nodes.get(*id as usize)
    }

    /// Whether addresses select what they select in the live trie.
    fn stays(&self, first: u128, last: u128) -> bool {
        self.changed
            .as_ref()
            .is_some_and(|changed| !changed.touch(first, last))
    }

    fn node(&mut self, prefixes: &[Prefix], depth: u8, bits: u128, cursor: &mut Cursor) -> Tree {
        const VALUES: u16 = 256;
        self.sets.spend(size_of::<Node>());
        if self.sets.is_full() {
            return Tree::Leaf(Selected::Class(EMPTY_CLASS));
        }
        let byte = |p: &Prefix| u16::from((p.bits >> (120 - depth)) as u8);
        // those that end in this byte cover a range of its values each, which nest or are apart
        let (short, long): (Vec<Prefix>, Vec<Prefix>) =
            prefixes.iter().partition(|p| p.length <= depth + BYTE);
        let ends = |p: &Prefix| {
            [
                (byte(p), true, p.slot),
                (byte(p) + (1 << (depth + BYTE - p.length)), false, p.slot),
            ]
        };
        let mut events: Vec<(u16, bool, u32)> = short.iter().flat_map(ends).collect();
        events.sort_unstable();
        let mut events = events.into_iter().peekable();
        let mut long = long.chunk_by(|a, b| byte(a) == byte(b)).peekable();
        let there = self.there(depth, bits);
        let mut children: Vec<(u8, Tree)> = Vec::new();
        let mut value = 0;
        while value < VALUES {
            while let Some((_, begins, slot)) = events.next_if(|(at, ..)| *at == value) {
                cursor.change(slot, begins);
            }
            let bits = bits | u128::from(value) << (120 - depth);
            let group = long.next_if(|group| byte(&group[0]) == value);
            let next = match group {
                Some(_) => value + 1,
                None => {
                    let next = [
                        events.peek().map(|(at, ..)| *at),
                        long.peek().map(|group| byte(&group[0])),
                    ];
                    next.into_iter().flatten().fold(VALUES, u16::min)
                }
            };
            let begin_of_last = bits + (u128::from(next - 1 - value) << (120 - depth));
            let last = begin_of_last | !mask(depth + BYTE);
            let child = match (there.filter(|_| self.stays(bits, last)), group) {
                (Some(node), _) => Tree::Same(node.child[usize::from(value)]),
                (None, Some(group)) => self.tree(group, depth + BYTE, bits, cursor),
                (None, None) => Tree::Leaf(self.select(cursor, bits)),
            };
            children.push((value as u8, child));
            value = next;
        }
        events.for_each(|(_, begins, slot)| cursor.change(slot, begins));
        Tree::Node { children }
    }
}

/// Puts trees into tables.
pub(in crate::compile) struct TrieWriter<'a> {
    tables: &'a mut Tables,
    live: &'a Reachable,
    classes: &'a Assigned,
    nodes: Box<dyn Iterator<Item = u32> + 'a>,
    skips: Box<dyn Iterator<Item = u32> + 'a>,
}

impl<'a> TrieWriter<'a> {
    pub(in crate::compile) fn new(
        tables: &'a mut Tables,
        live: &'a Reachable,
        classes: &'a Assigned,
    ) -> Self {
        Self {
            tables,
            live,
            classes,
            nodes: Box::new(live.nodes.free()),
            skips: Box::new(live.skips.free()),
        }
    }

    /// Puts a tree at a root; answers its first step.
    pub(in crate::compile) fn place(&mut self, tree: &Tree, root: Root) -> Skip {
        match tree {
            Tree::Skip {
                bits,
                length,
                hit,
                miss,
            } => self.skip(root as u8, *bits, *length, hit, *miss),
            _ => Skip::to(self.entry(tree, (root as u8, 0, 0))),
        }
    }

    fn entry(&mut self, tree: &Tree, place: TriePosition) -> TrieEntry {
        match tree {
            Tree::Leaf(selected) => self.class(*selected),
            Tree::Same(packed) => TrieEntry::unpack(*packed),
            Tree::Skip {
                bits,
                length,
                hit,
                miss,
            } => {
                let there = self.live.entries.get(&place).copied();
                let skip = self.skip(place.0, *bits, *length, hit, *miss);
                TrieEntry::Skip(self.put_skip(there, skip))
            }
            Tree::Node { children } => {
                let (root, depth, bits) = place;
                let id = match self.live.entries.get(&place) {
                    Some(TrieEntry::Node { id, .. }) => *id,
                    _ => self.nodes.next().unwrap_or_default(),
                };
                self.tables.nodes.grow(id as usize + 1);
                let mut node = Node { child: [0; 256] };
                for (number, (first, child)) in children.iter().enumerate() {
                    let end = children
                        .get(number + 1)
                        .map_or(256, |(next, _)| usize::from(*next));
                    let bits = bits | u128::from(*first) << (120 - depth);
                    let entry = self.entry(child, (root, depth + BYTE, bits)).pack();
                    node.child[usize::from(*first)..end].fill(entry);
                }
                self.tables.nodes.set(id as usize, node);
                TrieEntry::Node {
                    byte: depth / BYTE,
                    id,
                }
            }
        }
    }

    fn skip(&mut self, root: u8, bits: u128, length: u8, hit: &Tree, miss: Selected) -> Skip {
        let hit = self.entry(hit, (root, length, bits)).pack();
        Skip {
            expect: halves(bits),
            mask: halves(mask(length)),
            hit,
            miss: self.class(miss).pack(),
        }
    }

    fn class(&self, selected: Selected) -> TrieEntry {
        TrieEntry::Class(self.classes.of(selected))
    }

    /// The live skip of that place, if it makes the same comparison; otherwise a free one.
    fn put_skip(&mut self, there: Option<TrieEntry>, want: Skip) -> u32 {
        let same = |live: &Skip| live.expect == want.expect && live.mask == want.mask;
        let id = match there {
            Some(TrieEntry::Skip(id)) if same(&self.tables.skips[id as usize]) => id,
            _ => self.skips.next().unwrap_or_default(),
        };
        self.tables.skips.grow(id as usize + 1);
        self.tables.skips.set(id as usize, want);
        id
    }
}
