//! Names and their places in a table: a name that is live keeps its place.

use bytemuck::{Pod, Zeroable};
use hashbrown::HashMap;
use traffic_mirror_ebpf::abi::Name;

use crate::tables::Pages;

/// The place of each wanted name, in the order in which they were given.
#[derive(Debug)]
pub(in crate::compile) struct Names(Vec<u32>);

impl Names {
    /// New names take free places, the lowest first. `None` if there are not that many `places`.
    pub(in crate::compile) fn new<'n, T: Pod>(
        live: &Pages<T>,
        text: impl Fn(&T) -> Option<&str>,
        places: usize,
        wanted: impl Iterator<Item = &'n str>,
    ) -> Option<Self> {
        let named = (0..)
            .zip(live.iter())
            .filter_map(|(place, name)| Some((text(name)?, place)));
        let there: HashMap<&str, u32> = named.collect();
        let mut free = (0..).filter(|&place| {
            live.get(place as usize)
                .is_none_or(|name| text(name).is_none())
        });
        let place = |name: &str| there.get(name).copied().or_else(|| free.next());
        let found: Option<Vec<u32>> = wanted.map(place).collect();
        found
            .filter(|found| found.iter().all(|&place| (place as usize) < places))
            .map(Self)
    }

    /// Place of the name that was given as number `position`.
    pub(in crate::compile) fn index_of(&self, position: usize) -> u32 {
        self.0[position]
    }

    /// A table with an element for each name at its place, the rest filled up.
    pub(in crate::compile) fn table<T: Clone>(
        &self,
        elements: impl Iterator<Item = T>,
        filler: T,
    ) -> Vec<T> {
        let length = self.0.iter().max().map_or(0, |&last| last as usize + 1);
        let mut table = vec![filler; length];
        for (&place, element) in self.0.iter().zip(elements) {
            table[place as usize] = element;
        }
        table
    }
}

/// A name as the maps hold it; `Desired` has no longer ones.
pub(in crate::compile) fn name(text: &str) -> Name {
    Name::new(text).unwrap_or(Name::zeroed())
}
