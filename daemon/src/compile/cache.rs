//! Avoids reading the live tables again while they are as they were last written. The tables
//! decide; knowledge of other tables is dropped.

use std::sync::Arc;

use crate::compile::classifier::assign::known;
use crate::compile::classifier::decompile::decompile;
use crate::compile::classifier::definition::Definitions;
use crate::compile::classifier::reachable::Reachable;
use crate::compile::classifier::source::Source;
use crate::compile::{Compiled, Then};
use crate::tables::{Live, Tables};

/// What was last found out.
#[derive(Default)]
pub struct Cache {
    pub(in crate::compile) definitions: Definitions,
    last: Option<Remembered>,
}

/// The contents of tables, as far as they are known.
struct Remembered {
    tables: Arc<Tables>,
    /// The epoch that follows them.
    epoch: u32,
    in_use: Option<Arc<Reachable>>,
    built_from: Arc<Source>,
}

/// What live tables were made.
#[derive(Clone, Copy)]
pub struct Made<'m> {
    /// All but the epoch.
    pub tables: &'m Tables,
    /// The epoch.
    pub epoch: u32,
}

/// The meaning of tables.
pub(in crate::compile) struct Decompiled {
    pub in_use: Arc<Reachable>,
    /// What each slot stands for.
    pub source: Arc<Source>,
    /// The tables were built from it; otherwise it was read from them, and others may be built from
    /// it.
    pub are_built: bool,
}

impl Cache {
    /// Whether the cache holds live tables.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Forgets the live tables.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// The expected live tables, if no other process has written to them.
    pub fn expected(&self) -> Option<Live> {
        let Remembered { tables, epoch, .. } = self
            .last
            .as_ref()
            .filter(|last| last.tables.control.secret != 0)?;
        let mut tables = Tables::clone(tables);
        tables.control.epoch = *epoch;
        Some(Live {
            generation: tables.control.generation,
            tables,
        })
    }

    /// What the live tables were last made, but for the epoch.
    pub fn tables(&self) -> Option<&Tables> {
        self.last.as_ref().map(|last| &*last.tables)
    }

    /// What `live` was last made, if it was.
    pub fn made(&self, live: &Tables) -> Option<Made<'_>> {
        let Remembered { tables, epoch, .. } = self.last.as_ref()?;
        // new maps have more room than was compiled for them, and a mark that the compiler does not
        // know
        let is_of_these = tables.is_as_long(live) && tables.control.secret != 0;
        is_of_these.then_some(Made {
            tables,
            epoch: *epoch,
        })
    }

    /// `None` if the tables contradict themselves.
    pub(in crate::compile) fn known(&mut self, live: &Tables) -> Option<Decompiled> {
        if let Some(last) = self
            .last
            .as_mut()
            .filter(|last| last.tables.are(live, last.epoch))
        {
            if !last.tables.is_as_long(live) {
                // new maps, which have room for more
                (last.tables, last.in_use) = (Arc::new(live.clone()), None);
            }
            let in_use = match &last.in_use {
                Some(in_use) => in_use.clone(),
                None => last.in_use.insert(Arc::new(Reachable::of(live)?)).clone(),
            };
            return Some(Decompiled {
                in_use,
                source: last.built_from.clone(),
                are_built: true,
            });
        }
        self.last = None;
        let in_use = Arc::new(Reachable::of(live)?);
        let slots = decompile(live, known(live)?.into_iter())?;
        let source = Source {
            slots,
            omitted: live.active_bank().omitted,
        };
        Some(Decompiled {
            in_use,
            source: Arc::new(source),
            are_built: false,
        })
    }

    /// Expects what the live tables will be: the next ones, after their commit.
    pub(in crate::compile) fn expect(
        &mut self,
        live: &Tables,
        compiled: &Compiled,
        built_from: Source,
    ) {
        // a commit changes what packets meet, even if it is the only thing left to do
        let stays = compiled.then == Then::Nothing && *compiled.tables == *live;
        if stays && self.last.is_some() {
            return;
        }
        let epoch = match compiled.then {
            Then::Commit(epoch) => epoch,
            Then::Nothing => compiled.tables.control.epoch,
        };
        self.last = Some(Remembered {
            tables: compiled.tables.clone(),
            epoch,
            in_use: stays.then(|| compiled.in_use.clone()),
            built_from: Arc::new(built_from),
        });
    }
}
