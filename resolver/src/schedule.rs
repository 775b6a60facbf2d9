//! Input: when questions were answered, by a clock that is never set. Output: which name is asked
//! next, and when. Must not know the clock, the network or random numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use traffic_mirror_resolver::Name;

/// Seconds between two questions about a name, at least: a TTL may be 0.
const SHORTEST: u64 = 5;
/// Seconds between two questions about a name, at most: an address that is new is not missed for
/// longer.
const LONGEST: u64 = 3600;
/// Seconds between two questions about a name that fails, at most.
const LONGEST_FAILING: u64 = 300;

/// When each name is asked.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    due: BTreeSet<(Duration, Name)>,
    names: BTreeMap<Name, State>,
}

#[derive(Debug, Default)]
struct State {
    /// When it is asked; `None` while a question is on its way.
    due: Option<Duration>,
    /// It was answered, be it with a failure.
    was_asked: bool,
    /// Questions in a row that failed.
    failures: u32,
}

impl Schedule {
    /// Begins to ask about names, at once, and ends with those that are not wanted.
    pub(crate) fn want(&mut self, wanted: &BTreeSet<Name>, now: Duration) {
        self.names.retain(|name, _| wanted.contains(name));
        self.due.retain(|(_, name)| wanted.contains(name));
        for name in wanted {
            if !self.names.contains_key(name) {
                self.names.insert(name.clone(), State::default());
                self.set(name, now);
            }
        }
    }

    /// Asks about all names at once.
    pub(crate) fn hurry(&mut self, now: Duration) {
        let waiting = self.names.iter().filter(|(_, state)| state.due.is_some());
        let waiting: Vec<Name> = waiting.map(|(name, _)| name.clone()).collect();
        waiting.iter().for_each(|name| self.set(name, now));
    }

    /// The name that is due for the longest time, which is asked from now on.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Name> {
        let (due, _) = self.due.first()?;
        if *due > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        if let Some(state) = self.names.get_mut(&name) {
            state.due = None;
        }
        Some(name)
    }

    /// When the next name is due; `None` if none waits.
    pub(crate) fn wake(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Whether there is an answer for each name, be it a failure.
    pub(crate) fn is_complete(&self) -> bool {
        self.names.values().all(|state| state.was_asked)
    }

    /// A question was answered: `ttl` is that of the answer in seconds, `None` if it failed.
    /// `random` spreads the questions of many hosts.
    pub(crate) fn answered(&mut self, name: &Name, ttl: Option<u32>, now: Duration, random: u8) {
        let Some(state) = self.names.get_mut(name) else {
            return;
        };
        state.was_asked = true;
        let wait = match ttl {
            Some(ttl) => {
                state.failures = 0;
                refresh(ttl, random)
            }
            None => {
                state.failures = state.failures.saturating_add(1);
                back_off(state.failures, random)
            }
        };
        self.set(name, now + wait);
    }

    fn set(&mut self, name: &Name, due: Duration) {
        let Some(state) = self.names.get_mut(name) else {
            return;
        };
        if let Some(before) = state.due.replace(due) {
            self.due.remove(&(before, name.clone()));
        }
        self.due.insert((due, name.clone()));
    }
}

/// How long until an answer is asked for again: its TTL and up to a tenth of it. Before that a
/// server would answer from its cache.
fn refresh(ttl: u32, random: u8) -> Duration {
    let least = Duration::from_secs(u64::from(ttl).clamp(SHORTEST, LONGEST));
    (least + least / 10 * u32::from(random) / 256).min(Duration::from_secs(LONGEST))
}

/// How long until a question is repeated that has failed so many times: twice as long each time,
/// less up to a quarter.
fn back_off(failures: u32, random: u8) -> Duration {
    let doubled = SHORTEST << failures.saturating_sub(1).min(16);
    let most = Duration::from_secs(doubled.min(LONGEST_FAILING));
    (most - most / 4 * u32::from(random) / 256).max(Duration::from_secs(SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<const COUNT: usize>(texts: [&str; COUNT]) -> BTreeSet<Name> {
        texts.map(|text| Name::parse(text).unwrap()).into()
    }

    fn one() -> (Schedule, Name) {
        let mut schedule = Schedule::default();
        schedule.want(&names(["a.example"]), Duration::ZERO);
        let name = schedule.next(Duration::ZERO).unwrap();
        (schedule, name)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_name_is_asked_at_once_and_then_at_its_ttl() {
        for (ttl, least) in [(0, 5), (4, 5), (60, 60), (3600, 3600), (86_400, 3600)] {
            let (mut schedule, name) = one();
            // asked once at a time
            assert_eq!(schedule.next(seconds(1000)), None);
            schedule.answered(&name, Some(ttl), seconds(1), 0);
            assert_eq!(schedule.wake(), Some(seconds(1 + least)));
            assert_eq!(schedule.next(seconds(least)), None);
            assert_eq!(schedule.next(seconds(1 + least)), Some(name));
        }
    }

    #[test]
    fn hosts_do_not_ask_at_the_same_time() {
        let (earliest, latest) = (refresh(60, 0), refresh(60, 255));
        assert_eq!(earliest, seconds(60));
        assert!(latest > seconds(65) && latest < seconds(66), "{latest:?}");
        assert_eq!(refresh(3600, 255), seconds(3600));
        assert!(back_off(6, 255) < back_off(6, 0));
    }

    #[test]
    fn failures_wait_longer_each_time_and_an_answer_ends_that() {
        let waits: Vec<u64> = (1..=8).map(|n| back_off(n, 0).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off(u32::MAX, 0), seconds(300));
        assert_eq!(back_off(1, 255), seconds(5));

        let (mut schedule, name) = one();
        for wait in [5, 10, 20] {
            let now = schedule.wake().unwrap_or_default();
            schedule.next(now);
            schedule.answered(&name, None, now, 0);
            assert_eq!(schedule.wake(), Some(now + seconds(wait)));
        }
        schedule.next(seconds(100)).unwrap();
        schedule.answered(&name, Some(60), seconds(100), 0);
        schedule.next(seconds(160)).unwrap();
        schedule.answered(&name, None, seconds(160), 0);
        assert_eq!(schedule.wake(), Some(seconds(165)));
    }

    #[test]
    fn the_longest_waiting_name_comes_first() {
        let mut schedule = Schedule::default();
        schedule.want(&names(["b.example"]), seconds(1));
        schedule.want(&names(["a.example", "b.example"]), seconds(2));
        assert_eq!(schedule.next(seconds(2)).unwrap().as_str(), "b.example");
        assert_eq!(schedule.next(seconds(2)).unwrap().as_str(), "a.example");
        assert_eq!(schedule.next(seconds(2)), None);
        assert_eq!(schedule.wake(), None);
    }

    #[test]
    fn names_come_and_go() {
        let (mut schedule, name) = one();
        schedule.want(&names(["b.example"]), seconds(1));
        // an answer to a question of before
        schedule.answered(&name, Some(60), seconds(2), 0);
        assert_eq!(schedule.next(seconds(1)).unwrap().as_str(), "b.example");
        assert_eq!(schedule.wake(), None);
        assert!(!schedule.is_complete());
        schedule.answered(&Name::parse("b.example").unwrap(), None, seconds(2), 0);
        assert!(schedule.is_complete());
        schedule.want(&BTreeSet::new(), seconds(3));
        assert_eq!(schedule.wake(), None);
        assert!(schedule.is_complete());
    }

    #[test]
    fn a_name_that_went_and_came_while_it_was_asked_waits_once() {
        let (mut schedule, name) = one();
        schedule.want(&BTreeSet::new(), seconds(1));
        schedule.want(&names(["a.example"]), seconds(2));
        schedule.answered(&name, Some(60), seconds(3), 0);
        assert_eq!(schedule.next(seconds(62)), None);
        assert_eq!(schedule.next(seconds(63)), Some(name));
        assert_eq!(schedule.wake(), None);
    }

    #[test]
    fn all_are_asked_at_once_when_the_network_has_changed() {
        let mut schedule = Schedule::default();
        schedule.want(&names(["a.example", "b.example"]), Duration::ZERO);
        let name = schedule.next(Duration::ZERO).unwrap();
        schedule.answered(&name, Some(60), Duration::ZERO, 0);
        let asked = schedule.next(Duration::ZERO).unwrap();
        schedule.hurry(seconds(1));
        // that of the other one is on its way
        assert_eq!(schedule.next(seconds(1)), Some(name));
        assert_eq!(schedule.next(seconds(1)), None);
        schedule.answered(&asked, Some(60), seconds(2), 0);
        assert_eq!(schedule.wake(), Some(seconds(62)));
    }
}
