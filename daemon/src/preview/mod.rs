//! Input: what is live, and the meaning of the file. Output: what loading the file would change in
//! the kernel, object by object. Pure: the steps of a reload run in memory.

mod differences;
mod objects;
mod text;

use std::collections::BTreeSet;

use differences::differences;
use objects::{Orders, objects};
use serde::Serialize;

use crate::attached::Attached;
use crate::chain::Chain;
use crate::compile::{Cache, Compiled, Described, HookKey, describe, next_tables};
use crate::desired::{Desired, Published};
use crate::network::Network;
use crate::plan::Transition;
use crate::report::Sign;
use crate::tables::{Live, Tables};
use crate::{plan, report};

pub use objects::{hook_name, interface_name};

/// What taking a file would change.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// Version of this structure.
    pub schema: u32,
    /// Objects that would be added, changed or removed.
    pub changes: Vec<ObjectDifference>,
    /// Elements of maps that would be written.
    pub map_writes: usize,
    /// They would be written into new maps, since the live ones have no room or there are none.
    pub new_maps: bool,
    /// What is wanted and cannot be at the moment, a line each.
    pub obstacles: Vec<String>,
}

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectDifference {
    /// Whether it is added, changed or removed.
    pub change: Sign,
    /// "mirroring", "interface", "endpoint", "filter", "segmenter" or "metrics".
    pub object: &'static str,
    /// Its name.
    pub name: String,
    /// Its values; of a changed object, the differences.
    pub fields: Vec<FieldDifference>,
}

/// One value of an object, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// Its name, where the file has it too that of the file.
    pub field: &'static str,
    /// In the kernel; absent if the object is not there. Of a filter's field an empty list means
    /// any.
    pub live: Option<Vec<String>>,
    /// In the kernel after the file is loaded.
    pub want: Option<Vec<String>>,
}

/// Steps of a reload, at most.
const MAX_STEPS: usize = 16;

impl Preview {
    /// Adds that other filters would have metrics of their own.
    pub fn publish(&mut self, live: &Published, want: &Published) {
        if live != want {
            self.changes.push(ObjectDifference {
                change: Sign::Changed,
                object: "metrics",
                name: String::new(),
                fields: vec![FieldDifference {
                    field: "filters",
                    live: Some(live.words()),
                    want: Some(want.words()),
                }],
            });
        }
    }
}

/// Takes the steps of a reload in memory. `None` if the filters need more slots than there are.
pub fn preview(
    desired: &Desired,
    network: &Network,
    live: Option<&Live>,
    attached: &Attached,
) -> Option<Preview> {
    let Foreseen {
        want,
        writes,
        new_maps,
    } = foresee(desired, network, live.filter(|_| attached.are_ours))?;
    let before = live.and_then(|live| describe(&live.tables, desired));
    let after = describe(&want.tables, desired)?;
    let before = before.unwrap_or_else(|| Described {
        enabled: true,
        ..Described::default()
    });
    let mut changes = changes(&before, &after, network, &want, attached);
    let mut obstacles: Vec<String> = report::obstacles(desired, network, &want)
        .iter()
        .map(ToString::to_string)
        .collect();
    obstacles.extend(report::advice(desired, network, &want));
    if want.segmenter_wanted && want.segmenter.is_none() {
        if network.segmenter_refused {
            obstacles.push(
                "the kernel rejected the software segmenter; the log has the reason".to_owned(),
            );
        } else {
            changes.push(ObjectDifference {
                change: Sign::Added,
                object: "segmenter",
                name: String::new(),
                fields: Vec::new(),
            });
        }
    }
    obstacles.extend(want.hooks.values().filter_map(|hook| {
        let chain = attached.mirrors.get(&(hook.interface, hook.direction))?;
        chain.obstacle(
            &hook.order,
            &format!("mirror on the {} of {}", hook.direction.word(), hook.name),
        )
    }));
    Some(Preview {
        schema: 1,
        changes,
        map_writes: writes,
        new_maps,
        obstacles,
    })
}

/// The order of each `mirror`: as the file asks for it.
fn order_of_each(want: &Compiled) -> Orders {
    want.hooks
        .values()
        .map(|hook| ((hook.interface, hook.direction), hook.order.to_string()))
        .collect()
}

/// The order of each `mirror`: as it is held where it is attached.
fn orders_held(want: &Compiled, attached: &Attached) -> Orders {
    let held = want.hooks.values().filter_map(|hook| {
        let place = (hook.interface, hook.direction);
        Some((place, attached.mirrors.get(&place)?.order(&hook.order)))
    });
    order_of_each(want).into_iter().chain(held).collect()
}

/// In what the objects differ.
fn changes(
    before: &Described,
    after: &Described,
    network: &Network,
    want: &Compiled,
    attached: &Attached,
) -> Vec<ObjectDifference> {
    // a hook that comes or goes is a change of its interface, not of every filter
    let common: BTreeSet<HookKey> = before
        .hooks
        .values()
        .filter(|h| after.hooks.values().any(|o| o == *h))
        .copied()
        .collect();
    let hooks = (before.enabled && after.enabled).then_some(&common);
    let everywhere = Attached {
        are_ours: true,
        mirrors: after
            .hooks
            .values()
            .map(|hook| (*hook, Chain::default()))
            .collect(),
        encaps: want.encaps.clone(),
    };
    let mut live = objects(
        before,
        network,
        attached,
        &orders_held(want, attached),
        hooks,
    );
    let mut want = objects(after, network, &everywhere, &order_of_each(want), hooks);
    // the value is secret
    if before.flow_keys != after.flow_keys && !before.hooks.is_empty() {
        for (objects, seed) in [(&mut live, "one"), (&mut want, "another")] {
            let mirroring = objects.get_mut(&(0, String::new()));
            mirroring
                .into_iter()
                .for_each(|facts| facts.push(("seed", vec![seed.to_owned()])));
        }
    }
    differences(&live, &want)
}

struct Foreseen {
    want: Compiled,
    writes: usize,
    new_maps: bool,
}

fn foresee(desired: &Desired, network: &Network, live: Option<&Live>) -> Option<Foreseen> {
    let (mut cache, mut live, mut writes) = (Cache::default(), live.cloned(), 0);
    for _ in 0..MAX_STEPS {
        let want = next_tables(desired, network, &mut live, &mut cache)?;
        let difference = plan::difference(live.as_ref(), &want);
        let (Transition::InPlace(plan), Some(live)) = (difference, live.as_mut()) else {
            return Some(Foreseen {
                writes: writes + want.tables.elements(),
                want,
                new_maps: true,
            });
        };
        if plan.is_empty() {
            return Some(Foreseen {
                want,
                writes,
                new_maps: false,
            });
        }
        writes += plan.elements();
        apply(&plan, &mut live.tables);
    }
    None
}

fn apply(plan: &plan::Plan, tables: &mut Tables) {
    plan.writes
        .iter()
        .for_each(|write| tables.store(write.table, write.offset, &write.bytes));
    if let Some(epoch) = plan.commit {
        tables.control.epoch = epoch;
    }
}
