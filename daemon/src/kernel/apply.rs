//! Makes what is wanted hold: writes a plan into the live maps, or makes new ones, and attaches and
//! detaches programs.

use std::collections::BTreeSet;

use super::Kernel;
use super::attach::batch::Slice;
use super::attachment::{Attachment, Role, catchers, mirror_of, watchers};
use super::bpf::rcu;
use super::error::{KernelError, NotApplied};
use super::failpoint::Step;
use super::features::memory;
use super::generation::Generation;
use super::pins::remove_pins;
use crate::compile::{Compiled, Then};
use crate::plan::{Plan, Transition};

/// What came of applying a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// What could not be attached, detached or put in order, a line each.
    pub obstacles: Vec<String>,
    /// What another process had detached or put in the way, a line each.
    pub repaired: Vec<String>,
    /// Elements that were written.
    pub writes: usize,
    /// What is wanted is live, and nothing was left to do.
    pub is_done: bool,
    /// Number of programs that are still to be attached or detached; all else is done.
    pub left: usize,
}

impl Kernel {
    /// Applies a change, and attaches again what another process has detached. A failed attachment
    /// does not undo the rest. Of many programs some are left for the next call, so that other
    /// events do not wait for all of them.
    ///
    /// # Errors
    /// The maps or programs cannot be made; the live ones stay as they were.
    pub fn apply(&mut self, change: &Transition, want: &Compiled) -> Result<Applied, NotApplied> {
        let live = Generation::list(&self.pin_path)?.pop();
        let is_written = !matches!(change, Transition::InPlace(plan) if !plan.is_empty());
        // with many hooks this takes long: at the beginning of a drift round, and at its end
        let is_asked = is_written || !std::mem::take(&mut self.has_looked);
        let mut lost = if is_asked {
            self.lost(live, want)?
        } else {
            Vec::new()
        };
        for found in &lost {
            self.held.remove(&found.attachment);
        }
        let mut slice = Slice::begin(is_written);
        let (number, mut failed, writes) = match (change, live) {
            (Transition::InPlace(plan), Some(live)) => (
                live,
                self.write(plan, live, want, &mut slice)?,
                plan.elements(),
            ),
            (Transition::NewMaps, live) | (Transition::InPlace(_), live @ None) => {
                let (number, failed) = self.replace(live, want)?;
                (
                    number,
                    failed.iter().map(ToString::to_string).collect(),
                    want.tables.elements(),
                )
            }
        };
        if want.then == Then::Nothing {
            let uncleaned = self
                .clean(number, want, &mut slice)
                .unwrap_or_else(|error| vec![error]);
            failed.extend(uncleaned.iter().map(ToString::to_string));
        }
        lost.append(&mut self.again);
        let rewired: BTreeSet<u32> = lost
            .iter()
            .filter(|lost| lost.attachment.role.catches())
            .map(|lost| lost.attachment.interface)
            .collect();
        let is_settled =
            matches!(change, Transition::InPlace(plan) if plan.is_empty()) && rewired.is_empty();
        self.rewired = rewired;
        let mut applied = Applied {
            repaired: std::mem::take(&mut self.cleared),
            writes,
            is_done: is_settled && slice.left == 0,
            left: if is_settled { slice.left } else { 0 },
            ..Applied::default()
        };
        applied
            .repaired
            .extend(lost.iter().map(ToString::to_string));
        if applied.is_done {
            self.finish(number, want, &mut applied)?;
        }
        if applied.is_done {
            let present = self.attachments.list()?;
            let present: BTreeSet<Attachment> =
                present.into_iter().map(|(there, _)| there).collect();
            let wanted = wanted(number, want);
            self.held = wanted.intersection(&present).copied().collect();
        }
        let refused = self.refused.values().chain(self.segmenter.refused());
        applied.obstacles.extend(refused.cloned());
        applied.obstacles.extend(failed);
        applied.obstacles.extend(memory::obstacles());
        self.has_looked = !applied.is_done && applied.left == 0;
        Ok(applied)
    }

    /// What must not hold up the rest: the order of programs, and last of all the segmenter. It is
    /// not done if anything was changed.
    fn finish(
        &mut self,
        number: u32,
        want: &Compiled,
        applied: &mut Applied,
    ) -> Result<(), KernelError> {
        let ordered = self.put_in_order(number, want)?;
        applied.is_done = ordered.rewired.is_empty();
        self.rewired = ordered.rewired;
        applied.repaired.extend(ordered.repaired);
        applied.obstacles = ordered.obstacles;
        let is_missed = want.segmenter_wanted && want.segmenter.is_none();
        if applied.is_done && is_missed && self.segmenter.refused().is_none() {
            applied.is_done = false;
            self.make_segmenter()?;
        }
        if applied.is_done && self.segmenter.settle(want.segmenter) {
            applied
                .repaired
                .push("another process modified the software segmenter: recreated it".to_owned());
        }
        Ok(())
    }

    /// Writes what differs into the live maps.
    fn write(
        &mut self,
        plan: &Plan,
        number: u32,
        want: &Compiled,
        slice: &mut Slice,
    ) -> Result<Vec<String>, NotApplied> {
        let live = Generation::open(&self.pin_path, number);
        self.attach_catchers(&live, want)?;
        if !plan.is_empty() {
            if self.is_switching {
                // what is not in use any more may still be for programs that began before the last
                // commit
                rcu::synchronize()?;
            }
            // nor after a plan that fails in the middle
            self.is_switching = true;
            live.clear_stats(plan)?;
            live.apply(&plan.writes, &mut || (self.before)(Step::Write))?;
            self.is_switching = false;
        }
        if let Some(epoch) = plan.commit {
            (self.before)(Step::Commit)?;
            live.commit(epoch)?;
            self.is_switching = true;
        }
        self.attach_missing(number, want, slice)
    }

    /// Removes what does not belong to this generation or is not wanted.
    fn clean(
        &mut self,
        number: u32,
        want: &Compiled,
        slice: &mut Slice,
    ) -> Result<Vec<KernelError>, KernelError> {
        let wanted = wanted(number, want);
        let Self {
            attachments,
            netlink,
            mechanism,
            before,
            ..
        } = self;
        let mut surplus = attachments.list()?;
        surplus.retain(|(attachment, how)| !wanted.contains(attachment) || how != mechanism);
        let (mirrors, catchers): (Vec<_>, Vec<_>) = surplus
            .into_iter()
            .partition(|(attachment, _)| attachment.role == Role::Mirror);
        let mut failed = Vec::new();
        let mut detach = |(attachment, how)| {
            failed.extend(
                before(Step::Detach)
                    .and_then(|()| attachments.detach(netlink, attachment, how))
                    .err(),
            );
        };
        slice.each(mirrors, &mut detach);
        if slice.left > 0 {
            // a `mirror` that is left needs what is below
            return Ok(failed);
        }
        if !catchers.is_empty() {
            // an old `mirror` that still runs needs the old `encap`
            rcu::synchronize()?;
        }
        catchers.into_iter().for_each(&mut detach);
        if want.segmenter.is_none() && self.has_segmenter_parts {
            self.remove_segmenter()?;
        }
        for old in Generation::list(&self.pin_path)?
            .into_iter()
            .filter(|&old| old != number)
        {
            (self.before)(Step::Remove)?;
            Generation::open(&self.pin_path, old).remove()?;
        }
        // left by a daemon that was killed in the middle
        remove_pins(&Generation::unfinished(&self.pin_path))?;
        Ok(failed)
    }
}

/// All that is to be attached.
fn wanted(number: u32, want: &Compiled) -> BTreeSet<Attachment> {
    let others = catchers(number, want).chain(watchers(number, want));
    want.hooks.values().map(mirror_of).chain(others).collect()
}
