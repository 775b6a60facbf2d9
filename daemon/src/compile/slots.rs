//! Input: the enabled filters. Output: which slot stands for which, clustered by shape, and which fields each block
//! leaves out.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, BLOCK_WORDS, BLOCKS, FIELDS, Field};

use crate::desired::Filter;

/// One way round of a filter: what a slot stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Oriented<'a> {
    /// The fields it gives: bit f for [`Field`] f.
    pub shape: u8,
    pub protocol: &'a [u8],
    pub networks: [&'a [IpNet]; 2],
    pub ports: [Ports<'a>; 2],
    /// Index of the filter in the file's order.
    pub filter: usize,
    /// The filter has another slot, for the other way round.
    pub twin: bool,
}

/// Port ranges that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports<'a>(pub &'a [RangeInclusive<u16>]);

impl Ord for Ports<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |r: &RangeInclusive<u16>| (*r.start(), *r.end());
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for Ports<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> Oriented<'a> {
    /// The ways round of a filter: one, or two if it is bidirectional and not the same both ways.
    pub(super) fn of(index: usize, filter: &'a Filter) -> impl Iterator<Item = Self> {
        let ports = [Ports(&filter.source_port), Ports(&filter.destination_port)];
        let networks = [&filter.source[..], &filter.destination[..]];
        let swapped = filter.bidirectional && (ports[0] != ports[1] || networks[0] != networks[1]);
        let there = Self::new(index, &filter.protocol, ports, networks, swapped);
        let back = swapped
            .then(|| Self::new(index, &filter.protocol, [ports[1], ports[0]], [networks[1], networks[0]], swapped));
        std::iter::once(there).chain(back)
    }

    fn new(filter: usize, protocol: &'a [u8], ports: [Ports<'a>; 2], networks: [&'a [IpNet]; 2], twin: bool) -> Self {
        let given = [
            !protocol.is_empty(),
            !ports[0].0.is_empty(),
            !ports[1].0.is_empty(),
            !networks[0].is_empty(),
            !networks[1].is_empty(),
        ];
        let shape = given.iter().enumerate().fold(0, |shape, (field, &given)| shape | u8::from(given) << field);
        Self { shape, protocol, ports, networks, filter, twin }
    }

    pub(super) fn gives(&self, field: Field) -> bool {
        self.shape >> field as u8 & 1 != 0
    }
}

/// Which slot stands for what.
#[derive(Debug)]
pub(super) struct Placement<'a> {
    /// By slot number, ascending.
    pub slots: Vec<(u32, Oriented<'a>)>,
    /// Per field: bit b if no slot of block b gives it.
    pub omitted: [u64; FIELDS],
}

impl<'a> Placement<'a> {
    /// Spreads the slots over all blocks, those of one shape and protocol together: the fewer slots a block has, the
    /// fewer packets find both their addresses there but no filter that has both.
    pub(super) fn new(mut oriented: Vec<Oriented<'a>>) -> Self {
        oriented.sort_unstable();
        let fills = (1..=BLOCK_WORDS).map(|words| words * 64);
        let alike = |a: &Oriented<'_>, b: &Oriented<'_>| a.shape == b.shape && a.protocol == b.protocol;
        let same_shape = |a: &Oriented<'_>, b: &Oriented<'_>| a.shape == b.shape;
        let slots = fills
            .clone()
            .find_map(|fill| place(&oriented, fill, alike))
            .or_else(|| place(&oriented, BLOCK_SLOTS, same_shape))
            .or_else(|| place(&oriented, BLOCK_SLOTS, |_, _| true))
            .unwrap_or_default();
        let mut omitted = [!0; FIELDS];
        for (slot, one) in &slots {
            for field in Field::ALL.into_iter().filter(|&f| one.gives(f)) {
                omitted[field as usize] &= !(1 << block_of(*slot));
            }
        }
        Self { slots, omitted }
    }

    /// Slots that the values of a field decide about.
    pub(super) fn deciding(&self, field: Field) -> impl Iterator<Item = &(u32, Oriented<'a>)> {
        let omitted = self.omitted[field as usize];
        self.slots.iter().filter(move |(slot, _)| omitted >> block_of(*slot) & 1 == 0)
    }
}

/// Begins a block for each run of slots that are `together`, and with every `fill` of them. `None` if the blocks do not
/// suffice for that.
fn place<'a>(
    oriented: &[Oriented<'a>],
    fill: usize,
    together: impl Fn(&Oriented<'_>, &Oriented<'_>) -> bool,
) -> Option<Vec<(u32, Oriented<'a>)>> {
    let runs = oriented.chunk_by(|a, b| together(a, b)).flat_map(|run| run.chunks(fill));
    let slots = (0..).zip(runs).flat_map(|(block, run)| (block * BLOCK_SLOTS as u32..).zip(run.iter().copied()));
    let slots: Vec<_> = slots.collect();
    slots.last().is_none_or(|(slot, _)| block_of(*slot) < BLOCKS as u32).then_some(slots)
}

/// Number of the block that a slot lies in.
pub(super) const fn block_of(slot: u32) -> u32 {
    slot / BLOCK_SLOTS as u32
}
