//! Input: what answers have changed, and when, by a clock that is never set. Output: when the file
//! is written, and which lines the log gets then. Must not know the clock, files or the log.

use std::collections::BTreeSet;
use std::time::Duration;

use traffic_mirror_resolver::names::{MOST_ADDRESSES, MOST_IN_ALL};
use traffic_mirror_resolver::{Failure, Name, Names};

use crate::cache::Change;
use crate::journal::Priority;

/// Changes are gathered for so long: each version of the file is a reload of the daemon.
pub(crate) const GATHER: Duration = Duration::from_secs(1);
/// Times that moved while the addresses stayed are written so late: no reader waits for them, and a
/// process that is killed loses no more than this of an hour.
const REFRESH: Duration = Duration::from_secs(300);
/// Lines of a kind at once.
const MOST_LINES: usize = 5;

/// What has changed since the file was written.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    due: Option<Duration>,
    changed: BTreeSet<Name>,
    added: usize,
    removed: usize,
    failed: Vec<(Name, Failure)>,
    recovered: Vec<Name>,
    overflowed: Vec<(Name, u32)>,
    fits: Vec<Name>,
}

/// A line of the log.
pub(crate) type Line = (Priority, String);

impl Gather {
    /// When the file is written; `None` if nothing has changed.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The file is to be written, at that time or earlier.
    pub(crate) fn set(&mut self, due: Duration) {
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// The file could not be written: not before that time again.
    pub(crate) fn put_off(&mut self, due: Duration) {
        self.due = Some(due);
    }

    /// An answer about a name has changed something.
    pub(crate) fn add(&mut self, name: &Name, change: &Change, now: Duration) {
        if change.is_urgent() {
            self.set(now + GATHER);
        } else if change.times {
            self.set(now + REFRESH);
        }
        if change.added + change.removed > 0 {
            self.changed.insert(name.clone());
        }
        self.added += change.added;
        self.removed += change.removed;
        self.failed
            .extend(change.failed.map(|failure| (name.clone(), failure)));
        self.recovered
            .extend(change.recovered.then(|| name.clone()));
        self.overflowed
            .extend(change.overflowed.map(|omitted| (name.clone(), omitted)));
        self.fits.extend(change.fits.then(|| name.clone()));
    }

    /// Begins again after the file was written, and answers the lines about it.
    pub(crate) fn finish(&mut self, names: &Names) -> Vec<Line> {
        let this = std::mem::take(self);
        let mut lines = Vec::new();
        lines.extend(this.addresses(names));
        let count = |name: &Name| names.addresses_of(name).count();
        let failed = this.failed.iter().map(|(name, failure)| {
            let stay = match count(name) {
                0 => "it has no address yet".to_owned(),
                1 => "its address stays".to_owned(),
                count => format!("its {count} addresses stay"),
            };
            format!("{name} is not resolved: {}; {stay}", failure.text())
        });
        lines.extend(several(Priority::Warning, failed));
        let recovered = this.recovered.iter();
        lines.extend(several(
            Priority::Info,
            recovered.map(|name| format!("{name} is resolved again")),
        ));
        let overflowed = this.overflowed.iter().map(|(name, omitted)| {
            format!(
                "{name} has {} too many: a name has {MOST_ADDRESSES} at most, all names {MOST_IN_ALL}; \
                 write its networks into the file in place of the name",
                addresses(*omitted as usize)
            )
        });
        lines.extend(several(Priority::Warning, overflowed));
        let fits = this.fits.iter();
        lines.extend(several(
            Priority::Info,
            fits.map(|name| format!("{name}: there is room for all of its addresses again")),
        ));
        lines
    }

    fn addresses(&self, names: &Names) -> Option<Line> {
        let (what, all) = match self.changed.first() {
            None => return None,
            Some(name) if self.changed.len() == 1 => {
                (name.to_string(), names.addresses_of(name).count())
            }
            Some(_) => (format!("{} names", self.changed.len()), names.count()),
        };
        let Self { added, removed, .. } = self;
        let text = format!(
            "{what}: {added} added, {removed} removed, now {}",
            addresses(all)
        );
        Some((Priority::Info, text))
    }
}

/// "1 address", "2 addresses".
fn addresses(count: usize) -> String {
    match count {
        1 => "1 address".to_owned(),
        _ => format!("{count} addresses"),
    }
}

/// The first lines of a kind, and how many there are.
fn several(priority: Priority, lines: impl ExactSizeIterator<Item = String>) -> Vec<Line> {
    let more = lines.len().saturating_sub(MOST_LINES);
    let mut lines: Vec<Line> = lines
        .take(MOST_LINES)
        .map(|line| (priority, line))
        .collect();
    if let Some((_, last)) = lines.last_mut()
        && more > 0
    {
        last.push_str(&format!("; and {more} more such names, see names.toml"));
    }
    lines
}

/// One line about all names, for `systemctl status`.
pub(crate) fn summary(names: &Names) -> String {
    let failing = names
        .0
        .values()
        .filter(|known| known.failing.is_some())
        .count();
    let text = format!(
        "names: {}, with {}",
        names.0.len(),
        addresses(names.count())
    );
    match failing {
        0 => text,
        _ => format!("{text}; not resolved: {failing}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use traffic_mirror_resolver::{Failing, Known, Times};

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn added(added: usize) -> Change {
        Change {
            added,
            ..Change::default()
        }
    }

    fn names(addresses: u8) -> Names {
        let (answered, until) = (0, 3600);
        let address = |n| (IpAddr::from([192, 0, 2, n]), Times { answered, until });
        let known = Known {
            addresses: (0..addresses).map(address).collect(),
            ..Known::default()
        };
        Names([(name("a.example"), known)].into())
    }

    #[test]
    fn changes_wait_a_second_and_no_longer() {
        let mut gather = Gather::default();
        assert_eq!(gather.due(), None);
        gather.add(&name("a.example"), &Change::default(), seconds(1));
        assert_eq!(gather.due(), None);
        gather.add(&name("a.example"), &added(1), seconds(10));
        gather.add(&name("b.example"), &added(1), Duration::from_millis(10_900));
        assert_eq!(gather.due(), Some(seconds(11)));
        gather.finish(&Names::default());
        assert_eq!(gather.due(), None);
    }

    #[test]
    fn times_wait_longer() {
        let mut gather = Gather::default();
        let times = Change {
            times: true,
            ..Change::default()
        };
        gather.add(&name("a.example"), &times, seconds(1));
        gather.add(&name("a.example"), &times, seconds(61));
        assert_eq!(gather.due(), Some(seconds(301)));
        assert_eq!(gather.finish(&names(1)), []);
        gather.add(&name("a.example"), &times, seconds(301));
        gather.add(&name("a.example"), &added(1), seconds(302));
        assert_eq!(gather.due(), Some(seconds(303)));
    }

    #[test]
    fn one_line_tells_which_addresses_changed() {
        let mut gather = Gather::default();
        let change = Change {
            added: 2,
            removed: 1,
            ..Change::default()
        };
        gather.add(&name("a.example"), &change, seconds(0));
        let text = "a.example: 2 added, 1 removed, now 3 addresses".to_owned();
        assert_eq!(gather.finish(&names(3)), [(Priority::Info, text)]);

        gather.add(&name("a.example"), &change, seconds(0));
        gather.add(&name("b.example"), &change, seconds(0));
        let text = "2 names: 4 added, 2 removed, now 1 address".to_owned();
        assert_eq!(gather.finish(&names(1)), [(Priority::Info, text)]);
        assert_eq!(gather.finish(&names(1)), []);
    }

    #[test]
    fn a_failure_has_a_line_when_it_begins_and_one_when_it_ends() {
        let mut gather = Gather::default();
        let failed = Change {
            failed: Some(Failure::Timeout),
            ..Change::default()
        };
        gather.add(&name("a.example"), &failed, seconds(0));
        gather.add(&name("b.example"), &failed, seconds(0));
        let reason = Failure::Timeout.text();
        let lines = [
            format!("a.example is not resolved: {reason}; its 2 addresses stay"),
            format!("b.example is not resolved: {reason}; it has no address yet"),
        ];
        assert_eq!(
            gather.finish(&names(2)),
            lines.map(|line| (Priority::Warning, line))
        );
        let recovered = Change {
            recovered: true,
            ..Change::default()
        };
        gather.add(&name("a.example"), &recovered, seconds(0));
        let text = "a.example is resolved again".to_owned();
        assert_eq!(gather.finish(&names(2)), [(Priority::Info, text)]);
    }

    #[test]
    fn an_outage_of_many_names_has_few_lines() {
        let mut gather = Gather::default();
        let failed = Change {
            failed: Some(Failure::Timeout),
            ..Change::default()
        };
        for n in 0..1000 {
            gather.add(&name(&format!("n{n}.example")), &failed, seconds(0));
        }
        let lines = gather.finish(&Names::default());
        assert_eq!(lines.len(), MOST_LINES);
        assert!(
            lines[4]
                .1
                .ends_with("and 995 more such names, see names.toml")
        );
    }

    #[test]
    fn a_name_with_too_many_addresses_is_told() {
        let mut gather = Gather::default();
        let overflowed = Change {
            overflowed: Some(4000),
            ..Change::default()
        };
        gather.add(&name("a.example"), &overflowed, seconds(0));
        let lines = gather.finish(&names(1));
        assert!(
            lines[0]
                .1
                .starts_with("a.example has 4000 addresses too many: "),
            "{lines:?}"
        );
        let fits = Change {
            fits: true,
            ..Change::default()
        };
        gather.add(&name("a.example"), &fits, seconds(0));
        assert_eq!(gather.finish(&names(1)).len(), 1);
    }

    #[test]
    fn the_summary_counts() {
        let mut names = names(2);
        assert_eq!(summary(&names), "names: 1, with 2 addresses");
        let failing = Some(Failing {
            since: 0,
            reason: Failure::Refused,
        });
        names.0.insert(
            name("b.example"),
            Known {
                failing,
                ..Known::default()
            },
        );
        assert_eq!(
            summary(&names),
            "names: 2, with 2 addresses; not resolved: 1"
        );
    }
}
