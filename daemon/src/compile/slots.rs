//! Input: the enabled filters. Output: which slot stands for which, clustered by shape, and which fields each block
//! leaves out.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, BLOCKS, FIELDS, Field};

use crate::desired::Filter;

/// One way round of a filter: what a slot stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Oriented<'a> {
    /// The fields it gives: bit f for [`Field`] f.
    pub shape: u8,
    pub protocol: &'a [u8],
    pub ports: [Ports<'a>; 2],
    pub networks: [&'a [IpNet]; 2],
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
    /// Begins each shape in a block of its own. Only where the blocks do not suffice for that, shapes share a block:
    /// there a field that one of them gives is a set of all values for the others.
    pub(super) fn new(mut oriented: Vec<Oriented<'a>>) -> Self {
        oriented.sort_unstable();
        let by_shape = oriented.chunk_by(|a, b| a.shape == b.shape);
        let blocks: usize = by_shape.map(|same| same.len().div_ceil(BLOCK_SLOTS)).sum();
        let mut slots = Vec::with_capacity(oriented.len());
        let mut next = 0;
        let mut shape = None;
        for one in oriented {
            if blocks <= BLOCKS && shape != Some(one.shape) {
                next = u32::next_multiple_of(next, BLOCK_SLOTS as u32);
                shape = Some(one.shape);
            }
            slots.push((next, one));
            next += 1;
        }
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

/// Number of the block that a slot lies in.
pub(super) const fn block_of(slot: u32) -> u32 {
    slot / BLOCK_SLOTS as u32
}
