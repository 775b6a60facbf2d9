//! New maps that take over from old ones.

use std::io;
use std::path::{Path, PathBuf};

use crate::compile::{Compiled, Hook};
use crate::kernel::Kernel;
use crate::kernel::attachment::{Attachment, Mechanism, mirror_of};
use crate::kernel::bpf::rcu;
use crate::kernel::error::{KernelError, NotApplied};
use crate::kernel::failpoint::Step;
use crate::kernel::generation::Generation;
use crate::kernel::generation::counters::Staying;
use crate::kernel::pins::{make_dir, remove_dir};
use crate::tables::Table;

impl Kernel {
    /// Makes new maps beside the old ones, fills them, and lets programs that use them take over
    /// hook by hook. Only then is the new generation the live one.
    pub(super) fn replace(
        &mut self,
        live: Option<u32>,
        want: &Compiled,
    ) -> Result<(u32, Vec<KernelError>), NotApplied> {
        let number = self.next_number()?;
        (self.before)(Step::Create)?;
        let mut generation = Generation::create(&self.pin_path, number, &want.tables)?;
        if let Err(error) = self.prepare(&generation, want) {
            let removed = generation.remove();
            return Err(match (error, removed) {
                (NotApplied::Failed(_), Err(unremoved)) => unremoved.into(),
                (error, _) => error,
            });
        }
        make_dir(&self.taking_over())?;
        let mut failed = Vec::new();
        let present = self.attachments.list()?;
        // others are attached once the maps are live: where nothing is to be replaced that may take
        // its time
        let is_present = |hook: &&Hook| {
            Mechanism::ALL
                .into_iter()
                .any(|how| present.binary_search(&(mirror_of(hook), how)).is_ok())
        };
        for hook in want.hooks.values().filter(is_present) {
            let attached = (self.before)(Step::Attach)
                .and_then(|()| self.attach_mirror(&generation, &present, hook));
            if let Err(error) = attached {
                failed.push(error);
                // a predecessor that stayed would send clones that no `encap` takes any more
                let Self {
                    attachments,
                    netlink,
                    mechanism,
                    ..
                } = &mut *self;
                failed.extend(
                    attachments
                        .detach(netlink, mirror_of(hook), *mechanism)
                        .err(),
                );
            }
        }
        if let Some(live) = live {
            rcu::synchronize()?;
            // maps that another process has removed have no content any more
            failed.extend(self.copy_stats(&generation, live, want).err());
        }
        // only now, or both generations would count an error
        failed.extend(self.attach_watchers(&generation, want, &present)?);
        (self.before)(Step::Publish)?;
        generation.publish(&self.pin_path)?;
        self.turn_the_page();
        remove_dir(&self.taking_over())?;
        Ok((number, failed))
    }

    /// Makes everything ready that no packet notices.
    fn prepare(&mut self, generation: &Generation, want: &Compiled) -> Result<(), NotApplied> {
        self.fill(generation, want)?;
        (self.before)(Step::Load)?;
        generation.load_programs()?;
        self.attach_catchers(generation, want)
    }

    /// There while programs go over to new maps. Killed in the middle, a daemon leaves it, and its
    /// successor replaces them on every hook, even if the old maps would do.
    pub(super) fn taking_over(&self) -> PathBuf {
        self.pin_path.join("taking-over")
    }

    /// A number that no generation has, not even one that was never published.
    fn next_number(&self) -> Result<u32, KernelError> {
        let generation = |(attachment, _): (Attachment, Mechanism)| attachment.role.generation();
        let used = self.attachments.list()?.into_iter().filter_map(generation);
        Ok(Generation::list(&self.pin_path)?
            .into_iter()
            .chain(used)
            .max()
            .map_or(1, |last| last + 1))
    }

    fn fill(&self, generation: &Generation, want: &Compiled) -> Result<(), KernelError> {
        for table in Table::ALL {
            generation.write(table, want.tables.pieces(table))?;
        }
        // the same secret: while one generation takes over from another, copies of both are
        // recognised
        generation.identify(self.secret)?;
        self.hand_on(generation)
    }

    /// Takes over what was counted for the objects that stay, once no program counts it any more.
    fn copy_stats(
        &self,
        generation: &Generation,
        old: u32,
        want: &Compiled,
    ) -> Result<(), KernelError> {
        let old = Generation::open(&self.pin_path, old);
        // a map that another process has pinned there has counted nothing
        if !old.has_our_layout() || (old.is_complete() && old.flaw().is_some()) {
            return Ok(());
        }
        generation.set_history(old.history()?)?;
        generation.take_stats(&old, &Staying::of(&old.places()?, &want.tables))
    }
}

/// The secret of a predecessor's maps, or a new one.
pub(super) fn secret(pin_path: &Path) -> Result<u64, KernelError> {
    let live = Generation::list(pin_path)?.pop();
    // another process may have cleared or removed it
    let secret = live.and_then(|live| Generation::open(pin_path, live).secret().ok());
    secret
        .filter(|&secret| secret != 0)
        .map_or_else(random_secret, Ok)
}

fn random_secret() -> Result<u64, KernelError> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer has that many bytes.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != bytes.len() as isize {
        let source = io::Error::last_os_error();
        return Err(KernelError::Map {
            action: "draw the secret of",
            map: "CONTROL".to_owned(),
            source,
        });
    }
    Ok(u64::from_ne_bytes(bytes).max(1))
}
