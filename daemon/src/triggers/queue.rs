//! Triggers for the main loop. The queue has a bounded length, whatever happens while the loop is
//! busy: equal triggers are merged.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::kernel::netlink::Event;
use crate::triggers::Trigger;

/// More network events than this are merged into one that stands for any change.
const MOST_EVENTS: usize = 4096;

/// The end that takes triggers out.
#[derive(Debug)]
pub struct Triggers(Arc<Shared>);

/// The end that puts them in.
#[derive(Debug, Clone)]
pub struct TriggerSender(Weak<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<VecDeque<Trigger>>,
    bell: Condvar,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Trigger>> {
        // a thread that panicked has left whole triggers
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue without triggers.
pub fn queue() -> (TriggerSender, Triggers) {
    let shared: Arc<Shared> = Arc::default();
    (TriggerSender(Arc::downgrade(&shared)), Triggers(shared))
}

impl TriggerSender {
    /// Whether a receiver exists.
    pub fn send(&self, trigger: Trigger) -> bool {
        let Some(shared) = self.0.upgrade() else {
            return false;
        };
        put(&mut shared.waiting(), trigger);
        shared.bell.notify_one();
        true
    }
}

impl Triggers {
    /// Waits for the next one, for that long at most.
    pub fn next(&self, patience: Duration) -> Option<Trigger> {
        let waiting = self.0.waiting();
        let waited = self
            .0
            .bell
            .wait_timeout_while(waiting, patience, |waiting| waiting.is_empty());
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    }

    /// Takes all that wait; whether there were any.
    pub fn take_all(&self) -> bool {
        !std::mem::take(&mut *self.0.waiting()).is_empty()
    }
}

/// There is one of each kind at most, the latest last, as its end is what counts.
fn put(waiting: &mut VecDeque<Trigger>, trigger: Trigger) {
    if let Trigger::Network(events) = &trigger
        && let Some(Trigger::Network(before)) = waiting
            .iter_mut()
            .find(|one| matches!(one, Trigger::Network(_)))
    {
        before.extend(events.iter().copied());
        if before.len() > MOST_EVENTS {
            *before = BTreeSet::from([Event::Overrun]);
        }
        return;
    }
    waiting.retain(|one| *one != trigger);
    waiting.push_back(trigger);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triggers::End;
    use crate::triggers::Save;

    fn all(triggers: &Triggers) -> Vec<Trigger> {
        std::iter::from_fn(|| triggers.next(Duration::ZERO)).collect()
    }

    #[test]
    fn what_says_the_same_again_waits_once() {
        let (sender, triggers) = queue();
        for index in 0..100_000 {
            sender.send(Trigger::Network(BTreeSet::from([Event::Link {
                index: index % 3,
            }])));
            sender.send(Trigger::File(Save::Writing));
            sender.send(Trigger::File(Save::Changed));
            sender.send(Trigger::Reload);
        }
        sender.send(Trigger::File(Save::Writing));
        sender.send(Trigger::End(End::Leave));
        let links = (0..3).map(|index| Event::Link { index }).collect();
        let (changed, writing) = (Trigger::File(Save::Changed), Trigger::File(Save::Writing));
        let expected = [
            Trigger::Network(links),
            changed,
            Trigger::Reload,
            writing,
            Trigger::End(End::Leave),
        ];
        assert_eq!(all(&triggers), expected);
    }

    #[test]
    fn of_very_many_events_is_known_that_anything_may_have_happened() {
        let (sender, triggers) = queue();
        let of = |indices: std::ops::Range<u32>| {
            Trigger::Network(indices.map(|index| Event::Link { index }).collect())
        };
        sender.send(of(0..4000));
        sender.send(of(3000..5000));
        assert_eq!(
            all(&triggers),
            [Trigger::Network(BTreeSet::from([Event::Overrun]))]
        );
        assert!(!triggers.take_all());
        sender.send(Trigger::Reload);
        assert!(triggers.take_all() && !triggers.take_all());
    }

    #[test]
    fn nobody_takes_what_is_sent_to_nobody() {
        let (sender, triggers) = queue();
        assert!(sender.send(Trigger::Reload));
        drop(triggers);
        assert!(!sender.send(Trigger::Reload));
    }
}
