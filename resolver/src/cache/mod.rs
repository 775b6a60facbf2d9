//! Input: answers, and when they came (seconds since 1970). Output: which addresses each name has,
//! until when, and what an answer has changed. Must not know the clock, the network or files.
//!
//! A mirror enforces nothing, and a connection outlives the answer that began it. So an address
//! stays longer than a cache would keep it, and only an answer of the domain's owner removes it
//! (the idea of RFC 8767, serving stale data).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use traffic_mirror_resolver::names::{MOST_ADDRESSES, MOST_IN_ALL, is_host};
use traffic_mirror_resolver::{Failing, Failure, Known, Name, Names, Times};

/// Seconds that an address stays at least after it was answered.
pub(crate) const STAYS: u64 = 3600;
/// Seconds that a TTL counts at most: RFC 8767 section 4 recommends seven days.
const LONGEST_TTL: u32 = 7 * 24 * 3600;

/// Addresses of one family with their TTL in seconds, at least one; or why there are none.
pub(crate) type Answer = Result<Vec<(IpAddr, u32)>, Failure>;

/// The answers for both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    /// A records.
    pub(crate) four: Answer,
    /// AAAA records.
    pub(crate) six: Answer,
}

impl Answers {
    /// The same reason for both.
    pub(crate) fn failed(reason: Failure) -> Self {
        let (four, six) = (Err(reason), Err(reason));
        Self { four, six }
    }

    /// The lowest TTL of an address; `None` if there is no address.
    pub(crate) fn ttl(&self) -> Option<u32> {
        let lists = [&self.four, &self.six].into_iter().flatten();
        lists.flatten().map(|&(_, ttl)| ttl).min()
    }

    /// Why the name is not known, or not all of it. A family without addresses is no failure while
    /// the other one has some.
    fn failure(&self) -> Option<Failure> {
        let failures = [self.four.as_ref().err(), self.six.as_ref().err()];
        let mut failures = failures.into_iter().flatten().copied();
        let unknown = failures.clone().find(|failure| !failure.is_authoritative());
        unknown.or_else(|| failures.next().filter(|_| self.ttl().is_none()))
    }
}

/// What an answer has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Addresses that came.
    pub(crate) added: usize,
    /// Addresses that went.
    pub(crate) removed: usize,
    /// The times of an address moved, or the reason of a failure changed.
    pub(crate) times: bool,
    /// From now on the name is not answered.
    pub(crate) failed: Option<Failure>,
    /// The name is answered again.
    pub(crate) recovered: bool,
    /// From now on so many addresses find no room.
    pub(crate) overflowed: Option<u32>,
    /// All addresses find room again.
    pub(crate) fits: bool,
}

impl Change {
    /// Whether a reader of the file has to know it soon.
    pub(crate) fn is_urgent(&self) -> bool {
        let quiet = Self {
            times: self.times,
            ..Self::default()
        };
        *self != quiet
    }
}

/// The names that are wanted, and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    names: Names,
}

impl Cache {
    /// Begins with what an earlier process has written. Times that the clock cannot have reached
    /// were written before it was set back.
    pub(crate) fn new(mut names: Names, now: u64) -> Self {
        let latest = now + u64::from(LONGEST_TTL);
        for known in names.0.values_mut() {
            known.answered = known.answered.map(|answered| answered.min(now));
            if let Some(failing) = &mut known.failing {
                failing.since = failing.since.min(now);
            }
            for times in known.addresses.values_mut() {
                times.answered = times.answered.min(now);
                times.until = times.until.min(latest);
            }
        }
        Self { names }
    }

    /// What is known.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Begins to know names, and forgets those that are not wanted. Whether anything has changed.
    pub(crate) fn want(&mut self, wanted: &BTreeSet<Name>) -> bool {
        let names = &mut self.names.0;
        let before = names.len();
        names.retain(|name, _| wanted.contains(name));
        let kept = names.len();
        for name in wanted {
            names.entry(name.clone()).or_default();
        }
        kept != before || names.len() != kept
    }

    /// Takes the answers about a name; nothing happens if it is not wanted any more.
    pub(crate) fn take(&mut self, name: &Name, answers: &Answers, now: u64) -> Change {
        let all = self.names.count();
        let Some(known) = self.names.0.get_mut(name) else {
            return Change::default();
        };
        let room = MOST_ADDRESSES.min(MOST_IN_ALL.saturating_sub(all - known.addresses.len()));
        let (before, was_failing, had_omitted) =
            (known.addresses.clone(), known.failing, known.omitted > 0);
        merge(known, answers, now, room);
        let failed = known.failing.map(|failing| failing.reason);
        let is_in = |of: &BTreeMap<IpAddr, Times>, address| of.contains_key(address);
        Change {
            added: known
                .addresses
                .keys()
                .filter(|a| !is_in(&before, a))
                .count(),
            removed: before
                .keys()
                .filter(|a| !is_in(&known.addresses, a))
                .count(),
            times: before != known.addresses || was_failing != known.failing,
            failed: failed.filter(|_| was_failing.is_none()),
            recovered: was_failing.is_some() && failed.is_none(),
            overflowed: Some(known.omitted).filter(|&omitted| omitted > 0 && !had_omitted),
            fits: had_omitted && known.omitted == 0,
        }
    }
}

fn merge(known: &mut Known, answers: &Answers, now: u64, room: usize) {
    let before = known.addresses.clone();
    for (is_family, answer) in [
        (IpAddr::is_ipv4 as fn(&IpAddr) -> bool, &answers.four),
        (IpAddr::is_ipv6, &answers.six),
    ] {
        let list = match answer {
            Ok(list) => list.as_slice(),
            Err(failure) if failure.is_authoritative() => &[],
            // whether it still has its addresses is not known
            Err(_) => continue,
        };
        for &(address, ttl) in list.iter().filter(|(address, _)| is_host(*address)) {
            let stays = u64::from(ttl.min(LONGEST_TTL)).max(STAYS);
            let until = now + stays;
            let times = known.addresses.entry(address);
            let times = times.or_insert(Times {
                answered: now,
                until,
            });
            times.answered = now;
            times.until = times.until.max(until);
        }
        let latest = now + u64::from(LONGEST_TTL);
        known.addresses.retain(|address, times| {
            // the clock may have been set back
            times.until = times.until.min(latest);
            !is_family(address) || times.answered == now || times.until > now
        });
    }
    known.omitted = trim(&mut known.addresses, &before, now, room);
    if answers.ttl().is_some() {
        known.answered = Some(now);
    }
    known.failing = answers.failure().map(|reason| Failing {
        since: known.failing.map_or(now, |failing| failing.since),
        reason,
    });
}

/// Removes addresses until there is room: those that were not answered for the longest time. Among
/// those of the last answer the known ones stay, so that a long answer in another order changes
/// nothing. Answers how many of the last answer found no room.
fn trim(
    addresses: &mut BTreeMap<IpAddr, Times>,
    before: &BTreeMap<IpAddr, Times>,
    now: u64,
    room: usize,
) -> u32 {
    if addresses.len() <= room {
        return 0;
    }
    let mut order: Vec<(IpAddr, Times)> = addresses.iter().map(|(&a, &t)| (a, t)).collect();
    order.sort_by_key(|(address, times)| {
        (
            std::cmp::Reverse(times.answered),
            !before.contains_key(address),
        )
    });
    let mut omitted = 0;
    for (address, times) in order.drain(room..) {
        addresses.remove(&address);
        omitted += u32::from(times.answered == now);
    }
    omitted
}

#[cfg(test)]
mod tests;
