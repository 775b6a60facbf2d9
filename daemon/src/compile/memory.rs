//! Spares the work of finding out again what the live tables say, as long as they are what they were last made. The
//! tables decide; what is remembered of others is forgotten.

use std::sync::Arc;

use super::build::Inputs;
use super::decompile::decompile;
use super::place::known;
use super::reachable::Reachable;
use super::slots::Slots;
use super::{Compiled, Then};
use crate::tables::Tables;

/// What was last found out, and of which tables.
#[derive(Default)]
pub struct Memory(Option<Remembered>);

type Remembered = (Tables, Option<Arc<Reachable>>, Arc<Slots>, Arc<Inputs>);

/// What tables say.
pub(super) struct Known {
    pub in_use: Arc<Reachable>,
    /// What each slot stands for.
    pub slots: Arc<Slots>,
    /// What they were built from, if that is known.
    pub inputs: Option<Arc<Inputs>>,
}

impl Memory {
    /// `None` if the tables contradict themselves.
    pub(super) fn recall(&mut self, live: &Tables) -> Option<Known> {
        if let Some((tables, in_use, slots, inputs)) = self.0.take().filter(|(tables, ..)| tables == live) {
            let in_use = in_use.or_else(|| Some(Arc::new(Reachable::of(live)?)))?;
            self.0 = Some((tables, Some(in_use.clone()), slots.clone(), inputs.clone()));
            return Some(Known { in_use, slots, inputs: Some(inputs) });
        }
        let in_use = Arc::new(Reachable::of(live)?);
        let slots = Arc::new(decompile(live, known(live)?.into_iter())?);
        Some(Known { in_use, slots, inputs: None })
    }

    /// Expects what the live tables will be: the next ones, after their commit.
    pub(super) fn expect(&mut self, live: &Tables, compiled: &Compiled, slots: Slots, inputs: Inputs) {
        // a commit, be it the only thing that is left to do, changes what packets can meet
        let stays = compiled.then == Then::Nothing && compiled.tables == *live;
        if stays && self.0.is_some() {
            return;
        }
        let in_use = stays.then(|| compiled.in_use.clone());
        let mut tables = compiled.tables.clone();
        if let Then::Commit(epoch) = compiled.then {
            tables.control.epoch = epoch;
        }
        self.0 = Some((tables, in_use, Arc::new(slots), Arc::new(inputs)));
    }
}
