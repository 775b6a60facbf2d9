//! The resolver, as the daemon sees it: the list of names that it is given, and the file of
//! addresses that it keeps. A file without names has no list, no watch, and nothing is read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};
use traffic_mirror_resolver::{Name, Names};

use super::changes::changes;
use super::figures::Figures;
use super::list::List;
use super::read::read;
use crate::debounce::Debounce;
use crate::report::bounded;
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
enum Said {
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
    /// The kernel has rejected the addresses that are known.
    is_refused: bool,
    /// Versions of names.toml that the daemon or the kernel rejected.
    failures: u64,
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
            is_refused: false,
            failures: 0,
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
            self.is_refused = false;
            self.complaints = Default::default();
        } else if self.watch.is_none() {
            let watch = FileWatch::new(&self.path, self.triggers.clone(), Trigger::Names);
            self.watch = Some(watch);
            self.look_now();
        }
    }

    /// What is known of names.
    pub fn known(&self) -> &Names {
        &self.known
    }

    /// Whether the kernel took the addresses that are known.
    pub fn applied(&mut self, is_applied: bool) {
        self.failures += u64::from(!is_applied && !self.is_refused);
        self.is_refused = !is_applied;
    }

    /// How the names of the file are; `None` if it has none.
    pub fn figures(&self) -> Option<Figures> {
        (!self.wanted.is_empty()).then(|| Figures {
            is_live: self.said == Said::Read && !self.is_refused,
            failures: self.failures,
            ..Figures::of(&self.wanted, &self.known)
        })
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

    /// Reads names.toml if that is due. Whether anything is known that was not before.
    pub fn look(&mut self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now()) && self.look_now()
    }

    fn look_now(&mut self) -> bool {
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
                let lines = changes(&self.wanted, &before, &self.known);
                let (lines, more) = bounded(&lines, "DNS name");
                for line in lines.iter().chain(&more) {
                    info!(event = "changed", "{line}");
                }
                before != self.known
            }
            Ok(None) => {
                // the resolver may be about to be started
                if self.said == Said::Read {
                    let path = self.path.display();
                    let gone = format!("{path} is gone; DNS names keep their addresses");
                    self.complain(Subject::Names, Some(gone));
                }
                self.said = Said::Missing;
                false
            }
            Err(why) => {
                let kept = "; DNS names keep the addresses of its last valid version";
                let complaint = why + kept;
                if self.complaints[Subject::Names as usize].as_ref() != Some(&complaint) {
                    self.failures += 1;
                }
                self.said = Said::Rejected;
                self.complain(Subject::Names, Some(complaint));
                false
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
