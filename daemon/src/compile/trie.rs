//! Input: prefixes and the slots that they satisfy. Output: a root and the elements of `NODES` and `SKIPS`
//! below it. A chain of nodes with one way through it is a skip: one comparison.

use traffic_mirror_ebpf::abi::{Entry, Node, Skip};

use super::classes::{Classes, SlotSet};

/// A prefix of an address, left-aligned in 128 bits. Those of one slot do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    pub bits: u128,
    pub length: u8,
    pub slot: u32,
}

/// The tries of all fields and families, in one pair of tables.
#[derive(Debug, Default)]
pub(super) struct Tries {
    pub nodes: Vec<Node>,
    pub skips: Vec<Skip>,
}

const BYTE: u8 = 8;

impl Tries {
    /// Builds the trie of `prefixes`, which it sorts. Answers its root.
    pub(super) fn insert(&mut self, classes: &mut Classes, mut prefixes: Vec<Prefix>) -> Skip {
        prefixes.sort_unstable();
        match self.build(classes, &prefixes, 0, SlotSet::default()) {
            // made last
            Entry::Skip(_) => self.skips.pop().unwrap_or_default(),
            entry => Skip::to(entry),
        }
    }

    /// `prefixes` agree in their first `depth` bits (a multiple of 8) and are at least that long; `cover` holds the
    /// slots of shorter ones.
    fn build(&mut self, classes: &mut Classes, prefixes: &[Prefix], depth: u8, mut cover: SlotSet) -> Entry {
        let ends = prefixes.iter().take_while(|p| p.length == depth).count();
        prefixes[..ends].iter().for_each(|p| cover.insert(p.slot));
        let prefixes = &prefixes[ends..];
        let (Some(first), Some(last)) = (prefixes.first(), prefixes.last()) else {
            return Entry::Class(classes.id(&cover));
        };
        // sorted: what the first and the last have in common, all have
        let shortest = prefixes.iter().map(|p| p.length).min().unwrap_or(depth);
        let common = ((first.bits ^ last.bits).leading_zeros() as u8).min(shortest);
        if prefixes.iter().all(|p| p.length == common) {
            let miss = Entry::Class(classes.id(&cover));
            prefixes.iter().for_each(|p| cover.insert(p.slot));
            let hit = Entry::Class(classes.id(&cover));
            return self.skip(first.bits, common, hit, miss);
        }
        let bytes = common / BYTE * BYTE;
        if bytes > depth {
            let miss = Entry::Class(classes.id(&cover));
            let hit = self.build(classes, prefixes, bytes, cover);
            return self.skip(first.bits, bytes, hit, miss);
        }
        self.node(classes, prefixes, depth, cover)
    }

    fn skip(&mut self, bits: u128, length: u8, hit: Entry, miss: Entry) -> Entry {
        let mask = prefix_mask(length);
        let halves = |x: u128| [(x >> 64) as u64, x as u64];
        self.skips.push(Skip { expect: halves(bits & mask), mask: halves(mask), hit: hit.pack(), miss: miss.pack() });
        Entry::Skip(self.skips.len() as u32 - 1)
    }

    fn node(&mut self, classes: &mut Classes, prefixes: &[Prefix], depth: u8, mut cover: SlotSet) -> Entry {
        let byte = |p: &Prefix| (p.bits >> (120 - depth)) as u8;
        // those that end in this byte cover a range of its values each, which nest or are apart
        let (short, long): (Vec<_>, Vec<_>) = prefixes.iter().partition(|p| p.length <= depth + BYTE);
        let span = |p: &Prefix| (u32::from(byte(p)), u32::from(byte(p)) + (1u32 << (depth + BYTE - p.length)));
        let mut begin = vec![Vec::new(); 257];
        let mut end = vec![Vec::new(); 257];
        for prefix in short {
            let (first, after) = span(prefix);
            begin[first as usize].push(prefix.slot);
            end[after as usize].push(prefix.slot);
        }
        let id = self.nodes.len();
        self.nodes.push(Node { child: [0; 256] });
        let mut long = long.chunk_by(|a, b| byte(a) == byte(b)).peekable();
        let mut class = classes.id(&cover);
        for value in 0..=255u8 {
            let (begin, end) = (&begin[usize::from(value)], &end[usize::from(value)]);
            if !begin.is_empty() || !end.is_empty() {
                end.iter().for_each(|&slot| cover.remove(slot));
                begin.iter().for_each(|&slot| cover.insert(slot));
                class = classes.id(&cover);
            }
            let child = match long.next_if(|group| byte(group[0]) == value) {
                None => Entry::Class(class),
                Some(group) => {
                    let group: Vec<_> = group.iter().map(|&&p| p).collect();
                    self.build(classes, &group, depth + BYTE, cover.clone())
                }
            };
            self.nodes[id].child[usize::from(value)] = child.pack();
        }
        Entry::Node { byte: depth / BYTE, id: id as u32 }
    }
}

const fn prefix_mask(length: u8) -> u128 {
    if length == 0 { 0 } else { !0 << (128 - length) }
}
