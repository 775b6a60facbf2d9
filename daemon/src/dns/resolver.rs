//! The resolver, as the daemon sees it: the list of names that it is given, and the file of
//! addresses that it keeps. A file without names has no list, no watch, and nothing is read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};
use traffic_mirror_resolver::{Name, Names};

use super::list::List;
use super::read::read;
use crate::debounce::Debounce;
use crate::source::FileWatch;
use crate::triggers::{Save, Trigger, TriggerSender};

/// A file that is being written is read this long after the last change. What was renamed into
/// place, as the resolver does it, is read at once.
const QUIET: Duration = Duration::from_millis(150);
const QUIET_MOST: Duration = Duration::from_secs(1);
/// Pause after each reading: whoever writes all the time causes this many reloads.
const REST: Duration = Duration::from_millis(50);

/// What the last reading has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Said {
    /// There is no file: the resolver has not written it yet, or does not run.
    #[default]
    Missing,
    /// It was read.
    Read,
    /// It was rejected, or cannot be read.
    Rejected,
}

/// Both files.
pub struct Resolver {
    path: PathBuf,
    list: List,
    triggers: TriggerSender,
    /// Only while the file has names.
    watch: Option<FileWatch>,
    wanted: BTreeSet<Name>,
    /// What was last right.
    known: Names,
    said: Said,
    debounce: Debounce,
    rested: Instant,
    /// Why names.toml, its watch and the list are of no use, each told once.
    complaints: [Option<String>; 3],
    /// Versions of names.toml that were rejected.
    rejections: u64,
}

impl Resolver {
    /// Nothing is watched or read before [`Self::want`].
    pub fn new(names: &Path, wanted: &Path, pin_path: &Path, triggers: TriggerSender) -> Self {
        Self {
            path: names.to_owned(),
            list: List::new(wanted, pin_path),
            triggers,
            watch: None,
            wanted: BTreeSet::new(),
            known: Names::default(),
            said: Said::default(),
            debounce: Debounce::default(),
            rested: Instant::now(),
            complaints: Default::default(),
            rejections: 0,
        }
    }

    /// The file has these names: writes the list, and reads names.toml if it was not followed.
    pub fn want(&mut self, names: BTreeSet<Name>) {
        let written = self.list.write(&names);
        self.wanted = names;
        let remedy = "; the resolver asks for no new name until then";
        let complaint = written.err().map(|why| why + remedy);
        self.complain(Subject::List, complaint);
        if self.wanted.is_empty() {
            (self.watch, self.debounce) = (None, Debounce::default());
            (self.known, self.said) = (Names::default(), Said::default());
            self.complaints = Default::default();
        } else if self.watch.is_none() {
            let watch = FileWatch::new(&self.path, self.triggers.clone(), Trigger::Names);
            self.watch = Some(watch);
            self.look_now();
        }
    }

    /// The names that the file has.
    pub fn wanted(&self) -> &BTreeSet<Name> {
        &self.wanted
    }

    /// What is known of names.
    pub fn known(&self) -> &Names {
        &self.known
    }

    /// What the last reading has found.
    pub fn said(&self) -> Said {
        self.said
    }

    /// Versions of names.toml that were rejected.
    pub fn rejections(&self) -> u64 {
        self.rejections
    }

    /// Something has happened to names.toml.
    pub fn tell(&mut self, save: Save) {
        let now = Instant::now();
        match save {
            Save::Replaced => self.debounce.set(now.max(self.rested)),
            Save::Changed => self.debounce.extend(now, QUIET, QUIET_MOST),
            Save::Writing => self.debounce.set(now + QUIET),
        }
    }

    /// When to read it; `None` if there was no event.
    pub fn due(&self) -> Option<Instant> {
        self.watch.as_ref().and(self.debounce.due())
    }

    /// What cannot be watched is read once a second; to be called as often. What could not be
    /// written is tried again.
    pub fn poll(&mut self) {
        if self.complaints[Subject::List as usize].is_some() {
            self.want(self.wanted.clone());
        }
        if self.watch.as_ref().is_some_and(FileWatch::is_blind) {
            self.debounce.set(Instant::now());
        }
    }

    /// Reads names.toml if that is due. Answers what was known before, if it is otherwise now.
    pub fn look(&mut self) -> Option<Names> {
        let is_due = self.due().is_some_and(|due| due <= Instant::now());
        is_due.then(|| self.look_now()).flatten()
    }

    fn look_now(&mut self) -> Option<Names> {
        self.debounce = Debounce::default();
        self.rested = Instant::now() + REST;
        let watched = self.watch.as_mut().map_or(Ok(()), FileWatch::rearm);
        let complaint = watched.err().map(|why| {
            let path = self.path.display();
            format!("cannot watch {path}: {why}; the daemon reads it every second until then")
        });
        self.complain(Subject::Watch, complaint);
        match read(&self.path) {
            Ok(Some(names)) => {
                self.said = Said::Read;
                self.complain(Subject::Names, None);
                let before = std::mem::replace(&mut self.known, names);
                (before != self.known).then_some(before)
            }
            Ok(None) => {
                // the resolver may be about to be started
                if self.said == Said::Read {
                    let path = self.path.display();
                    let gone = format!("{path} is gone; DNS names keep their addresses");
                    self.complain(Subject::Names, Some(gone));
                }
                self.said = Said::Missing;
                None
            }
            Err(why) => {
                let kept = "; DNS names keep the addresses of its last valid version";
                let complaint = why + kept;
                if self.complaints[Subject::Names as usize].as_ref() != Some(&complaint) {
                    self.rejections += 1;
                }
                self.said = Said::Rejected;
                self.complain(Subject::Names, Some(complaint));
                None
            }
        }
    }

    /// Logs a complaint when it begins, when its text changes and when it is over.
    fn complain(&mut self, subject: Subject, complaint: Option<String>) {
        let before = &mut self.complaints[subject as usize];
        match (&*before, &complaint) {
            (Some(_), None) => info!(event = "resolved", "resolved: {}", subject.over()),
            (before, Some(why)) if before.as_ref() != Some(why) => match subject {
                Subject::Names => error!(event = "problem", "{why}"),
                Subject::Watch | Subject::List => warn!(event = "problem", "{why}"),
            },
            _ => {}
        }
        *before = complaint;
    }
}

/// What may be wrong.
#[derive(Clone, Copy)]
enum Subject {
    Names,
    Watch,
    List,
}

impl Subject {
    fn over(self) -> &'static str {
        match self {
            Self::Names => "the addresses of DNS names can be read",
            Self::Watch => "the daemon receives events of the addresses of DNS names",
            Self::List => "the list of DNS names for the resolver is written",
        }
    }
}
