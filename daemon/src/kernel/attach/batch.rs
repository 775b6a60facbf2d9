//! Attaching what is wanted, with many interfaces bit by bit: for each program that comes to or
//! goes from a TCX hook the kernel waits for an RCU grace period, some 8 to 15 ms, and has
//! `rtnl_lock` meanwhile (`tcx_entry_sync`), so that threads do not help.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;

use crate::compile::{Compiled, Hook};
use crate::desired::Order;
use crate::kernel::Kernel;
use crate::kernel::attachment::{Attachment, Mechanism, Role, catchers, mirror_of, watchers};
use crate::kernel::error::{KernelError, NotApplied, reason};
use crate::kernel::failpoint::Step;
use crate::kernel::generation::Generation;

/// Duration of a slice, after which other events such as a saved file are handled.
const LONG: Duration = Duration::from_millis(300);
/// The same while there are tables to be written: enough for the interface of a pod.
const BRIEF: Duration = Duration::from_millis(50);

/// What could not be attached, and why.
#[derive(Default)]
pub(in crate::kernel) struct Attaching {
    /// Of those that were tried while others are left: they have their next turn after those.
    failed: BTreeMap<Attachment, String>,
    /// Of those that are still to be tried again.
    known: BTreeMap<Attachment, String>,
}

impl Attaching {
    /// Whether it has had its turn while others are left.
    fn had_turn(&self, attachment: &Attachment) -> bool {
        self.failed.contains_key(attachment)
    }

    /// One has had its turn.
    fn note(&mut self, attachment: Attachment, attached: Result<(), KernelError>) {
        self.known.remove(&attachment);
        self.failed
            .extend(attached.err().map(|error| (attachment, error.to_string())));
    }

    /// Attachments that failed, among those that are `missing`. Once none is left, all are tried
    /// again.
    fn failures(&mut self, missing: &BTreeSet<Attachment>, left: usize) -> Vec<String> {
        self.failed
            .retain(|attachment, _| missing.contains(attachment));
        self.known
            .retain(|attachment, _| missing.contains(attachment));
        if left == 0 {
            self.all_again();
        }
        self.failed
            .values()
            .chain(self.known.values())
            .cloned()
            .collect()
    }

    /// All have their next turn.
    pub(in crate::kernel) fn all_again(&mut self) {
        self.known.append(&mut self.failed);
    }
}

/// What is done at once of something that may take long.
pub(in crate::kernel) struct Slice {
    end: Instant,
    /// What was not done.
    pub(in crate::kernel) left: usize,
}

impl Slice {
    /// A slice that begins now; a long one if nothing else is due.
    pub(in crate::kernel) fn begin(is_long: bool) -> Self {
        Self {
            end: Instant::now() + if is_long { LONG } else { BRIEF },
            left: 0,
        }
    }

    /// Does something with each, the first in any case and others until the slice ends.
    pub(in crate::kernel) fn each<T>(&mut self, all: Vec<T>, mut one: impl FnMut(T)) {
        for (nth, it) in all.into_iter().enumerate() {
            if nth > 0 && Instant::now() >= self.end {
                self.left += 1;
            } else {
                one(it);
            }
        }
    }
}

impl Kernel {
    /// Attaches what takes the clones, before any can be sent: one that met no `encap` would leave
    /// as it is.
    pub(in crate::kernel) fn attach_catchers(
        &mut self,
        generation: &Generation,
        want: &Compiled,
    ) -> Result<(), NotApplied> {
        let present = self.attachments.list()?;
        let mut failed = Ok(());
        for attachment in catchers(generation.number(), want) {
            let attached = match self.attach_once(generation, &present, attachment) {
                Err(_) if failed.is_err() => return failed,
                attached => attached?,
            };
            if let Some(Err(error)) = attached {
                match attachment.role {
                    Role::Segmenter { .. } => self.segmenter.refuse(&reason(&error)),
                    _ => drop(self.refused.insert(attachment.interface, error.to_string())),
                }
                failed = Err(NotApplied::Refused);
            }
        }
        failed
    }

    /// Attaches what is wanted and has no pin, such as what is new. What has failed is tried again
    /// once all others have had their turn.
    pub(in crate::kernel) fn attach_missing(
        &mut self,
        number: u32,
        want: &Compiled,
        slice: &mut Slice,
    ) -> Result<Vec<String>, NotApplied> {
        let generation = Generation::open(&self.pin_path, number);
        self.attach_catchers(&generation, want)?;
        let present = self.attachments.list()?;
        let is_missing = |hook: &&Hook| {
            present
                .binary_search(&(mirror_of(hook), self.mechanism))
                .is_err()
        };
        let missing: Vec<&Hook> = want.hooks.values().filter(is_missing).collect();
        let due = missing
            .iter()
            .copied()
            .filter(|hook| !self.attaching.had_turn(&mirror_of(hook)))
            .collect();
        let mut stopped = Ok(());
        slice.each(due, |hook| {
            if stopped.is_ok() {
                stopped = (self.before)(Step::Attach);
            }
            if stopped.is_ok() {
                let attached = self.attach_mirror(&generation, &present, hook);
                if attached.is_ok() {
                    self.note_attached(mirror_of(hook), &hook.name);
                }
                self.attaching.note(mirror_of(hook), attached);
            }
        });
        stopped?;
        let failed = self.attach_watchers(&generation, want, &present)?;
        let missing = missing.into_iter().map(mirror_of).collect();
        let known = self.attaching.failures(&missing, slice.left);
        Ok(failed
            .iter()
            .map(ToString::to_string)
            .chain(known)
            .collect())
    }

    /// Attaches `icmp_errors`. If the kernel rejects it, copies are sent without it.
    pub(in crate::kernel) fn attach_watchers(
        &mut self,
        generation: &Generation,
        want: &Compiled,
        present: &[(Attachment, Mechanism)],
    ) -> Result<Vec<KernelError>, KernelError> {
        let mut failed = Vec::new();
        for attachment in watchers(generation.number(), want) {
            let attached = self.attach_once(generation, present, attachment)?;
            failed.extend(attached.and_then(Result::err));
        }
        Ok(failed)
    }

    /// Attaches a program of a generation where it is not attached yet; `None` if it is, or if the
    /// interface has gone.
    fn attach_once(
        &mut self,
        generation: &Generation,
        present: &[(Attachment, Mechanism)],
        attachment: Attachment,
    ) -> Result<Option<Result<(), KernelError>>, KernelError> {
        if present.binary_search(&(attachment, self.mechanism)).is_ok() {
            return Ok(None);
        }
        let Some(link) = self.netlink.link(attachment.interface)? else {
            return Ok(None);
        };
        (self.before)(Step::Attach)?;
        let program = generation.program_of(attachment, link.kind);
        let attached =
            program.and_then(|program| self.attach_first(program, present, attachment, &link.name));
        if attached.is_ok() {
            self.note_attached(attachment, &link.name);
        }
        Ok(Some(attached))
    }

    /// Attaches a program before those of other processes: they see no clone before its
    /// encapsulation and no ICMP error before it is counted.
    fn attach_first(
        &mut self,
        mut program: SchedClassifier,
        present: &[(Attachment, Mechanism)],
        attachment: Attachment,
        interface: &str,
    ) -> Result<(), KernelError> {
        let Self {
            attachments,
            netlink,
            mechanism,
            ..
        } = self;
        attachments.attach(
            netlink,
            present,
            (attachment, &Order::First),
            interface,
            &mut program,
            *mechanism,
        )
    }

    /// Attaches `mirror` to a hook. One that is there by another mechanism goes at once: both would
    /// copy.
    pub(in crate::kernel) fn attach_mirror(
        &mut self,
        generation: &Generation,
        present: &[(Attachment, Mechanism)],
        hook: &Hook,
    ) -> Result<(), KernelError> {
        let mut mirror = generation.mirror(hook.direction)?;
        let (attachment, wanted) = (mirror_of(hook), self.mechanism);
        let place = (attachment, &hook.order);
        self.attachments.attach(
            &mut self.netlink,
            present,
            place,
            &hook.name,
            &mut mirror,
            wanted,
        )?;
        let doubles = Mechanism::ALL.into_iter().filter(|&how| how != wanted);
        doubles
            .filter(|&how| present.binary_search(&(attachment, how)).is_ok())
            .try_for_each(|how| self.attachments.detach(&mut self.netlink, attachment, how))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Direction;

    fn mirror(interface: u32) -> Attachment {
        Attachment {
            role: Role::Mirror,
            interface,
            direction: Direction::Ingress,
        }
    }

    fn refused(interface: u32) -> Result<(), KernelError> {
        Err(mirror(interface).error("attach", &format!("eth{interface}"), "full".to_owned()))
    }

    #[test]
    fn what_has_failed_is_told_until_it_works_whoever_is_left() {
        let mut attaching = Attaching::default();
        let told = |attaching: &mut Attaching, missing: &[u32], left| -> Vec<bool> {
            let failures =
                attaching.failures(&missing.iter().map(|&index| mirror(index)).collect(), left);
            [1, 2]
                .map(|index| {
                    failures
                        .iter()
                        .any(|text| text.contains(&format!("eth{index}")))
                })
                .to_vec()
        };
        attaching.note(mirror(1), refused(1));
        assert_eq!(
            told(&mut attaching, &[1, 2, 3], 2),
            [true, false],
            "also while others are left"
        );
        assert!(attaching.had_turn(&mirror(1)));
        attaching.note(mirror(2), refused(2));
        attaching.note(mirror(3), Ok(()));
        assert_eq!(told(&mut attaching, &[1, 2], 0), [true, true]);
        assert!(!attaching.had_turn(&mirror(1)), "the next turn");
        attaching.note(mirror(1), Ok(()));
        assert_eq!(
            told(&mut attaching, &[2], 1),
            [false, true],
            "the other one has not had its turn"
        );
        assert_eq!(
            told(&mut attaching, &[], 0),
            [false, false],
            "nobody wants it any more"
        );
        attaching.note(mirror(1), refused(1));
        attaching.all_again();
        assert_eq!(told(&mut attaching, &[1], 1), [true, false]);
    }
}
