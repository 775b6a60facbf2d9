//! Waiting until nothing more happens, with an end.

use std::time::{Duration, Instant};

/// When something is due that is put off as long as it goes on happening.
#[derive(Debug, Default)]
pub struct Quiet {
    due: Option<Instant>,
    latest: Option<Instant>,
}

impl Quiet {
    /// When it is due; `None` if nothing is.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It has happened again: due after `quiet`, at most `most` after the first time.
    pub fn extend(&mut self, now: Instant, quiet: Duration, most: Duration) {
        let latest = *self.latest.get_or_insert(now + most);
        self.due = Some(latest.min(now + quiet));
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
        let mut quiet = Quiet::default();
        let mut extend = |millis| {
            quiet.extend(at(millis), Duration::from_millis(150), Duration::from_secs(1));
            quiet.due()
        };
        assert_eq!(extend(0), Some(at(150)));
        assert_eq!(extend(100), Some(at(250)));
        assert_eq!(extend(900), Some(at(1000)));
        // late: at once
        assert_eq!(extend(1300), Some(at(1000)));
        quiet.set(at(1400));
        assert_eq!(quiet.due(), Some(at(1400)));
    }
}
