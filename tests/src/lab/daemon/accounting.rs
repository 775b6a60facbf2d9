//! What a daemon counts adds up under each of its configurations.
//!
//! A page is opened when a configuration is live and the counters rest, and looked through before
//! the file is replaced, before the daemon is stopped and when it is dropped. While packets pass
//! nobody can look through it: filters and endpoints are not read at the same moment.

use super::Daemon;
use crate::lab::account::{Passed, adds_up, load};
use crate::lab::status::{Counters, Status};
use anyhow::Result;
use std::fs;
use std::time::Instant;

/// A configuration and where its counters began.
#[derive(Debug)]
pub(super) struct Page {
    text: Vec<u8>,
    /// How many reloads had been notified.
    reloads: usize,
    before: Status,
}

impl Daemon {
    /// The file will be read by a daemon that finds what there is below the pin path.
    pub(super) fn page_of_a_start(&mut self) {
        self.said_before = self.log.lock().notifications.lines.len();
        let nothing = || Status(serde_json::Value::Null);
        self.page = match self.page.take() {
            _ if !self.pin_path.exists() => self.page_from(nothing()),
            page => page.filter(|page| page.text == self.text()),
        };
    }

    /// A configuration has become live.
    pub(super) fn open_page(&mut self) {
        self.page = None;
        if self.has_accounts {
            self.page = self.resting().and_then(|status| self.page_from(status));
        }
    }

    fn page_from(&self, before: Status) -> Option<Page> {
        self.has_accounts.then(|| Page {
            text: self.text(),
            reloads: self.notified_reloads(),
            before,
        })
    }

    /// What the configuration file says; nothing if there is none.
    fn text(&self) -> Vec<u8> {
        fs::read(self.config_path()).unwrap_or_default()
    }

    fn notified_reloads(&self) -> usize {
        self.log
            .lock()
            .notifications
            .lines
            .iter()
            .filter(|line| *line == "RELOADING=1")
            .count()
    }

    /// Its last word since it was started was that it is ready: it is not about to reload or to
    /// stop.
    fn is_at_rest(&self) -> bool {
        let record = self.log.lock();
        let said = &record.notifications.lines[self.said_before..];
        let mut words = said
            .iter()
            .filter(|line| line.ends_with("ING=1") || *line == "READY=1");
        words.next_back().is_some_and(|word| word == "READY=1")
    }

    /// The status if no counter moves.
    fn resting(&self) -> Option<Status> {
        if !self.is_at_rest() {
            return None;
        }
        let read = || Status::count(self).ok();
        let (first, second) = (read()?, read()?);
        (first.counters() == second.counters()).then_some(second)
    }

    /// That what was counted since the page was opened adds up (see [`Passed::Unknown`]), if there
    /// is a page and no packet passes before `until`.
    pub(super) fn adds_up(&self, until: Instant) -> Result<()> {
        let Some(page) = &self.page else {
            return Ok(());
        };
        if !self.is_at_rest() || page.reloads != self.notified_reloads() || !self.pin_path.exists()
        {
            return Ok(());
        }
        // of a wrong file nothing has become live
        let Ok(desired) = load(&String::from_utf8_lossy(&page.text)) else {
            return Ok(());
        };
        let read = || -> Result<Counters> { Status::count(self)?.since(&page.before) };
        let mut counters = read()?;
        loop {
            let Err(error) = adds_up(&desired, &counters, Passed::Unknown, usize::MAX) else {
                return Ok(());
            };
            let later = read()?;
            if later == counters {
                return Err(error);
            }
            if Instant::now() > until {
                return Ok(());
            }
            counters = later;
        }
    }

    /// Says that others than the daemon change what is live: from here on nobody looks at what it
    /// counts.
    pub fn changed_by_others(&mut self) {
        self.page = None;
        self.has_accounts = false;
    }
}
