//! Waiting until nothing more happens, with an end.

use std::time::{Duration, Instant};

/// The due time of an action that waits until a burst of events ends.
#[derive(Debug, Default)]
pub struct Debounce {
    due: Option<Instant>,
    latest: Option<Instant>,
}

impl Debounce {
    /// When it is due; `None` if nothing is.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It has happened again: due after `debounce`, at most `most` after the first time.
    pub fn extend(&mut self, now: Instant, debounce: Duration, most: Duration) {
        let latest = *self.latest.get_or_insert(now + most);
        self.due = Some(latest.min(now + debounce));
    }

    /// Due then, whatever happens before; the end stays.
    pub fn set(&mut self, due: Instant) {
        self.due = Some(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_happening_is_put_off_but_not_for_ever() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut debounce = Debounce::default();
        let mut extend = |millis| {
            debounce.extend(
                at(millis),
                Duration::from_millis(150),
                Duration::from_secs(1),
            );
            debounce.due()
        };
        assert_eq!(extend(0), Some(at(150)));
        assert_eq!(extend(100), Some(at(250)));
        assert_eq!(extend(900), Some(at(1000)));
        // late: at once
        assert_eq!(extend(1300), Some(at(1000)));
        debounce.set(at(1400));
        assert_eq!(debounce.due(), Some(at(1400)));
    }
}
