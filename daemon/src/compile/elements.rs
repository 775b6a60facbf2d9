//! The tables with one element for each object of the file: names, slots, endpoints, hooks. Until
//! the commit the copies that count, and the elements of what goes, stay as they are.

use std::collections::BTreeMap;

use bytemuck::{Pod, Zeroable};
use traffic_mirror_ebpf::abi::{self, Action, EndpointPair, Name, Slot};

use super::endpoint::{self, endpoint};
use super::hooks::{self, Hook};
use crate::compile::classifier::assign::Assignment;
use crate::compile::names::{Names, name};
use crate::compile::segmenter;
use crate::desired;
use crate::desired::Desired;
use crate::network::Network;
use crate::tables::{Pages, Tables};

/// What the tables hold in the end.
pub(super) struct Elements {
    filters: Vec<Name>,
    endpoint_names: Vec<Name>,
    endpoints: Vec<EndpointPair>,
    slots: Vec<Slot>,
    hooks: Vec<abi::Hook>,
    /// The interface entries of the file.
    pub(super) listed: Vec<abi::Listed>,
    /// Whether there should be a segmenter.
    pub(super) segmenter_wanted: bool,
}

impl Elements {
    pub(super) fn new(
        desired: &Desired,
        network: &Network,
        filters: &Names,
        endpoints: &Names,
        assigned: &Assignment,
        hooks: &BTreeMap<u32, Hook>,
        live: &Tables,
    ) -> Self {
        let pair = |(position, one)| {
            let place = endpoints.index_of(position) as usize;
            let named = live
                .endpoint_names
                .get(place)
                .is_some_and(|name| name.text().is_some());
            let pair = live.endpoints.get(place).filter(|_| named);
            [endpoint(
                one,
                network,
                pair.map_or(0, |pair| pair[1 - live.inactive()].breaker),
            ); 2]
        };
        let mut pairs: Vec<EndpointPair> = desired.endpoints.iter().enumerate().map(pair).collect();
        let segmenter_wanted = segmenter::is_wanted(desired, &pairs, hooks, network);
        if segmenter_wanted {
            let refused = if network.segmenter_refused {
                abi::Endpoint::SEGMENTER_REFUSED
            } else {
                0
            };
            let segmenter = network
                .segmenter
                .map_or(refused, |segmenter| segmenter.entrance);
            let reached = |endpoint: &&mut abi::Endpoint| endpoint.has_way();
            pairs
                .iter_mut()
                .flatten()
                .filter(reached)
                .for_each(|endpoint| endpoint.segmenter = segmenter);
        }
        let mut slots = Vec::new();
        for (slot, wanted) in assigned.slots.iter() {
            let filter = &desired.filters[wanted.filter];
            let bits = filter
                .to
                .iter()
                .fold(0, |bits, &one| bits | 1 << endpoints.index_of(one));
            let action = match filter.action {
                desired::Action::Mirror => Action {
                    include: bits,
                    exclude: 0,
                },
                desired::Action::Exclude => Action {
                    include: 0,
                    exclude: bits,
                },
            };
            let flags = [
                (Slot::USED, true),
                (Slot::REVERSE, wanted.is_reverse),
                (Slot::NO_ADDRESS, filter.lacks_address()),
            ];
            let flags = flags.iter().filter(|(_, is_set)| *is_set);
            let flags = flags.fold(0, |flags, (flag, _)| flags | flag);
            if slots.len() <= slot as usize {
                slots.resize(slot as usize + 1, Slot::default());
            }
            slots[slot as usize] = Slot {
                action: [action; 2],
                filter: filters.index_of(wanted.filter),
                flags,
            };
        }
        Self {
            filters: filters.table(
                desired.filters.iter().map(|one| name(&one.name)),
                Name::zeroed(),
            ),
            endpoint_names: endpoints.table(
                desired.endpoints.iter().map(|one| name(&one.name)),
                Name::zeroed(),
            ),
            endpoints: endpoints.table(pairs.into_iter(), EndpointPair::zeroed()),
            slots,
            hooks: hooks::table(hooks),
            listed: Vec::new(),
            segmenter_wanted,
        }
    }

    /// Indices of the interfaces that copies leave by, ascending.
    pub(super) fn outputs(&self) -> Vec<u32> {
        endpoint::outputs(&self.endpoints)
    }

    /// Adds what is new, and writes the inactive copies of what differs.
    pub(super) fn prepare(&self, tables: &mut Tables) {
        let inactive = tables.inactive();
        merge(&mut tables.filters, &self.filters, |live, want| {
            if live.text().is_none() { *want } else { *live }
        });
        let fresh: Vec<bool> = tables
            .endpoint_names
            .iter()
            .map(|name| name.text().is_none())
            .collect();
        for (place, want) in self.endpoints.iter().enumerate() {
            tables.endpoints.grow(place + 1);
            let mut pair = tables.endpoints[place];
            pair[inactive] = want[inactive];
            tables.endpoints.set(
                place,
                if fresh.get(place).copied().unwrap_or(true) {
                    *want
                } else {
                    pair
                },
            );
        }
        merge(
            &mut tables.endpoint_names,
            &self.endpoint_names,
            |live, want| {
                if live.text().is_none() { *want } else { *live }
            },
        );
        merge(&mut tables.slots, &self.slots, |live, want| {
            // a slot that stays is still the same filter's; what is left over from a reload that
            // did not get far is not
            let stays = live.flags & Slot::USED != 0 && live.filter == want.filter;
            match (want.flags & Slot::USED != 0, stays) {
                (false, _) => *live,
                (true, false) => *want,
                (true, true) => {
                    let mut slot = *want;
                    slot.action[1 - inactive] = live.action[1 - inactive];
                    slot
                }
            }
        });
        merge(&mut tables.hooks, &self.hooks, |live, want| {
            if want.interface == 0 { *live } else { *want }
        });
    }

    /// Writes everything, and clears what has gone.
    pub(super) fn finish(&self, tables: &mut Tables) {
        merge(&mut tables.filters, &self.filters, |_, want| *want);
        merge(
            &mut tables.endpoint_names,
            &self.endpoint_names,
            |_, want| *want,
        );
        merge(&mut tables.endpoints, &self.endpoints, |_, want| *want);
        merge(&mut tables.slots, &self.slots, |_, want| *want);
        merge(&mut tables.hooks, &self.hooks, |_, want| *want);
        // no program reads them, so they need no commit
        merge(&mut tables.listed, &self.listed, |_, want| *want);
    }
}

/// Combines two tables element by element, the shorter one filled up.
fn merge<T: Pod>(live: &mut Pages<T>, want: &[T], combine: impl Fn(&T, &T) -> T) {
    live.grow(want.len());
    let none = T::zeroed();
    for place in 0..live.len() {
        live.set(
            place,
            combine(&live[place], want.get(place).unwrap_or(&none)),
        );
    }
}
