//! Input: what is wanted and what is live, each slot with what it stands for. Output: which slot
//! stands for what: live ones where they are, new ones beside others of the same field set and protocol.

use std::sync::Arc;

use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, BLOCK_WORDS, BLOCKS, FIELDS, Field, MAX_SLOTS};

use crate::compile::classifier::definition::{Definition, Ranges};

/// What each slot stands for.
pub(in crate::compile) type Slots = BySlot<Arc<Definition>>;

/// Something for some of the slots.
#[derive(Debug, Clone)]
pub(in crate::compile) struct BySlot<T>(Vec<Option<T>>);

impl<T> Default for BySlot<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> BySlot<T> {
    pub(in crate::compile) fn get(&self, slot: u32) -> Option<&T> {
        self.0.get(slot as usize)?.as_ref()
    }

    pub(in crate::compile) fn has(&self, slot: u32) -> bool {
        self.get(slot).is_some()
    }

    pub(in crate::compile) fn insert(&mut self, slot: u32, value: T) {
        let slot = slot as usize;
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(value);
    }

    pub(in crate::compile) fn remove(&mut self, slot: u32) -> Option<T> {
        self.0.get_mut(slot as usize)?.take()
    }

    /// Ascending.
    pub(in crate::compile) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..)
            .zip(&self.0)
            .filter_map(|(slot, value)| Some((slot, value.as_ref()?)))
    }

    /// What stands for a slot, to be changed; something empty if there was nothing.
    pub(in crate::compile) fn entry(&mut self, slot: u32) -> &mut T
    where
        T: Default,
    {
        let place = slot as usize;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, || None);
        }
        self.0[place].get_or_insert_default()
    }

    /// Ascending.
    pub(in crate::compile) fn into_iter(self) -> impl Iterator<Item = (u32, T)> {
        (0..)
            .zip(self.0)
            .filter_map(|(slot, value)| Some((slot, value?)))
    }

    /// Ascending.
    pub(in crate::compile) fn slots(&self) -> impl Iterator<Item = u32> {
        self.iter().map(|(slot, _)| slot)
    }
}

impl<T> FromIterator<(u32, T)> for BySlot<T> {
    fn from_iter<I: IntoIterator<Item = (u32, T)>>(values: I) -> Self {
        let mut by_slot = Self::default();
        values
            .into_iter()
            .for_each(|(slot, value)| by_slot.insert(slot, value));
        by_slot
    }
}

/// Number of the block that a slot lies in.
pub(in crate::compile) const fn block_of(slot: u32) -> u32 {
    slot / BLOCK_SLOTS as u32
}

/// What filters that share a block have in common: the fields that they give, and the protocols.
type Affinity<'d> = (u8, &'d Option<Ranges>);

fn affinity(definition: &Definition) -> Affinity<'_> {
    (definition.field_set(), &definition.protocol)
}

/// A block that is in use.
#[derive(Debug)]
struct Used<'d> {
    /// Of its first slot; `None` if others differ.
    affinity: Option<Affinity<'d>>,
    /// Fields that its slots give.
    field_set: u8,
    slots: usize,
}

/// Blocks to leave empty if that can be, for kinds that later files bring.
const SPARE_BLOCKS: usize = 8;

/// Finds slots for what is new beside what is there: in blocks of its kind and in empty ones, with
/// as few slots in a block as the number of blocks allows. The fewer slots a block has, the fewer
/// packets find both their addresses there but no filter that has both. `None` if there are not
/// enough slots. `new` must be sorted by field_set, then protocol.
pub(in crate::compile) fn allocate(there: &Slots, new: Vec<&Definition>) -> Option<Vec<u32>> {
    debug_assert!(new.is_sorted_by_key(|definition| affinity(definition)));
    let mut per_block = [0; BLOCKS];
    there
        .slots()
        .for_each(|slot| per_block[block_of(slot) as usize] += 1);
    let least = per_block
        .iter()
        .max()
        .map_or(1, |&most: &usize| most.div_ceil(64).max(1));
    let fills = (least..=BLOCK_WORDS).map(|words| words * 64);
    let tries = fills
        .map(|fill| (fill, SPARE_BLOCKS))
        .chain([(BLOCK_SLOTS, 0)]);
    let mut found = tries.into_iter().find_map(|(fill, spare)| {
        let mut allocator = Allocator::new(there, fill, spare);
        new.iter()
            .map(|definition| allocator.take_alike(definition))
            .collect::<Option<Vec<_>>>()
    });
    if found.is_none() {
        let mut allocator = Allocator::new(there, BLOCK_SLOTS, 0);
        found = new
            .iter()
            .map(|definition| allocator.take_any(definition))
            .collect();
    }
    found
}

struct Allocator<'d> {
    used: Vec<bool>,
    blocks: Vec<Option<Used<'d>>>,
    fill: usize,
    spare: usize,
}

impl<'d> Allocator<'d> {
    /// Knows the slots that are in use.
    fn new(slots: &'d Slots, fill: usize, spare: usize) -> Self {
        let blocks = (0..BLOCKS).map(|_| None).collect();
        let mut allocator = Self {
            used: vec![false; MAX_SLOTS],
            blocks,
            fill,
            spare,
        };
        slots
            .iter()
            .for_each(|(slot, definition)| allocator.mark(slot, definition));
        allocator
    }

    fn mark(&mut self, slot: u32, definition: &'d Definition) {
        self.used[slot as usize] = true;
        let fresh = || Used {
            affinity: Some(affinity(definition)),
            field_set: 0,
            slots: 0,
        };
        let block = self.blocks[block_of(slot) as usize].get_or_insert_with(fresh);
        block.affinity = block
            .affinity
            .filter(|kind| *kind == self::affinity(definition));
        block.field_set |= definition.field_set();
        block.slots += 1;
    }

    /// A slot in a block of that kind, else in an empty one.
    fn take_alike(&mut self, definition: &'d Definition) -> Option<u32> {
        let fits =
            |used: &Used<'_>| used.affinity == Some(affinity(definition)) && used.slots < self.fill;
        let alike = self
            .blocks
            .iter()
            .position(|block| block.as_ref().is_some_and(fits));
        let block = alike.or_else(|| {
            let empty = self.blocks.iter().filter(|block| block.is_none()).count();
            (empty > self.spare)
                .then(|| self.blocks.iter().position(Option::is_none))
                .flatten()
        })?;
        self.take(block, definition)
    }

    /// A slot in a block of that field set, else in an empty one, else in the block that needs the
    /// fewest additional fields: each slot of a block gets all values of each field that another
    /// slot gives.
    fn take_any(&mut self, definition: &'d Definition) -> Option<u32> {
        let field_set = definition.field_set();
        let cost = |block: &Option<Used<'_>>| match block {
            Some(used) if used.slots == BLOCK_SLOTS => None,
            Some(used) if used.field_set == field_set => Some(0),
            None => Some(1),
            Some(used) => Some(2 + (used.field_set ^ field_set).count_ones()),
        };
        let costs = self
            .blocks
            .iter()
            .enumerate()
            .filter_map(|(number, block)| Some((cost(block)?, number)));
        let (_, block) = costs.min()?;
        self.take(block, definition)
    }

    fn take(&mut self, block: usize, definition: &'d Definition) -> Option<u32> {
        let first = block * BLOCK_SLOTS;
        let slot = (first..first + BLOCK_SLOTS).find(|&slot| !self.used[slot])? as u32;
        self.mark(slot, definition);
        Some(slot)
    }
}

/// For each field: bit b is set if no slot of block b gives it, and none has since the block came
/// into use: an entry of a live bank stays until the block is empty. `active_blocks` are the blocks
/// that are in use in that bank.
pub(in crate::compile) fn omitted(
    slots: &Slots,
    live: &[u64; FIELDS],
    active_blocks: u64,
) -> [u64; FIELDS] {
    let used = blocks(slots.slots());
    let mut omitted = live.map(|live| live | used & !active_blocks);
    for (slot, definition) in slots.iter() {
        for field in Field::ALL
            .into_iter()
            .filter(|&field| definition.gives(field))
        {
            omitted[field as usize] &= !(1 << block_of(slot));
        }
    }
    omitted
}

/// The blocks that slots lie in, as bits.
pub(in crate::compile) fn blocks(slots: impl Iterator<Item = u32>) -> u64 {
    slots.fold(0, |blocks, slot| blocks | 1 << block_of(slot))
}

/// The slots that the values of a field decide about.
pub(in crate::compile) fn deciding<'s>(
    slots: &'s Slots,
    omitted: &[u64; FIELDS],
    field: Field,
) -> impl Iterator<Item = (u32, &'s Definition)> {
    let omitted = omitted[field as usize];
    slots
        .iter()
        .filter(move |(slot, _)| omitted >> block_of(*slot) & 1 == 0)
        .map(|(slot, definition)| (slot, &**definition))
}
