//! Maps in memory: what a reload does to them, step by step.

use traffic_mirror::compile::{Cache, next_tables};
use traffic_mirror::desired::Desired;
use traffic_mirror::network::Network;
use traffic_mirror::plan::{Plan, Transition, difference};
use traffic_mirror::tables::{Live, Tables};
use traffic_mirror_ebpf::abi::{MAX_ENDPOINTS, MAX_FILTERS, MAX_HOOKS, MAX_INTERFACES, MAX_SLOTS};

/// Maps with room for whatever a test does.
pub struct Maps {
    /// Their content.
    pub live: Live,
    cache: Cache,
}

impl Maps {
    /// Maps that match nothing, with room for so many filters as
    /// [`large::mixed`](super::large::mixed) makes.
    pub fn new(filters: usize) -> Self {
        let mut tables = Tables::empty();
        (tables.control.generation, tables.control.secret) = (1, 1);
        tables.rows.grow(384);
        tables.nodes.grow(4_000 + filters);
        tables.skips.grow(10_000 + 5 * filters);
        let classes = 40_000 + 10 * filters;
        tables.classes.grow(classes);
        tables.summaries.grow(classes);
        tables.blocks.grow(40_000 + 10 * filters);
        tables.slots.grow(MAX_SLOTS);
        tables.endpoints.grow(MAX_ENDPOINTS);
        tables.endpoint_names.grow(MAX_ENDPOINTS);
        tables.filters.grow(MAX_FILTERS);
        tables.hooks.grow(MAX_HOOKS);
        tables.listed.grow(MAX_INTERFACES);
        tables.names.grow(1);
        tables.cgroups.grow(1);
        Self {
            live: Live {
                generation: 1,
                tables,
            },
            cache: Cache::default(),
        }
    }

    /// What must be written next; `None` if nothing is left to do. Panics if it cannot be done in
    /// place.
    pub fn next(&mut self, desired: &Desired, network: &Network) -> Option<Plan> {
        let Some(plan) = in_place(&self.live, desired, network, &mut self.cache) else {
            panic!("the tables have room and do not contradict themselves")
        };
        (!plan.is_empty()).then_some(plan)
    }

    /// Forgets all that the tables do not say, as one who has only just come.
    pub fn forget(&mut self) {
        self.cache = Cache::default();
    }

    /// Whether one who has only just come finds nothing to do, either.
    pub fn is_settled(&self, desired: &Desired, network: &Network) -> bool {
        in_place(&self.live, desired, network, &mut Cache::default())
            .is_some_and(|plan| plan.is_empty())
    }

    /// Stores the epoch.
    pub fn commit(&mut self, plan: &Plan) {
        self.live.tables.control.epoch = plan.commit.unwrap_or(self.live.tables.control.epoch);
    }

    /// Does everything that there is to do; answers the plans.
    pub fn reload(&mut self, desired: &Desired, network: &Network) -> Vec<Plan> {
        let mut plans = Vec::new();
        while let Some(plan) = self.next(desired, network) {
            for write in &plan.writes {
                self.live
                    .tables
                    .store(write.table, write.offset, &write.bytes);
            }
            self.commit(&plan);
            plans.push(plan);
        }
        plans
    }
}

/// How to get from what is live to what is wanted, if that can be done in place.
fn in_place(live: &Live, desired: &Desired, network: &Network, cache: &mut Cache) -> Option<Plan> {
    let mut live = Some(live.clone());
    let want = next_tables(desired, network, &mut live, cache).expect("there is room");
    match difference(live.as_ref(), &want) {
        Transition::InPlace(plan) => Some(plan),
        Transition::NewMaps => None,
    }
}
