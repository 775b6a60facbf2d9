//! Which cgroups the applications of a file are now: read once, and again after an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cgroup::{self, Applications, CgroupWatch, Pattern, Tree};
use crate::desired::Desired;

/// What is told that other cgroups may be applications; `false` once nobody listens.
pub(super) type Tell = Arc<dyn Fn() -> bool + Send + Sync>;

/// The applications of the last file.
#[derive(Default)]
pub(super) struct Cgroups {
    /// Without it nothing is watched, and each look reads anew.
    pub(super) tell: Option<Tell>,
    watch: Option<CgroupWatch>,
    patterns: Vec<Pattern>,
    known: Arc<Applications>,
    is_stale: Arc<AtomicBool>,
}

impl Cgroups {
    /// The cgroups of a file.
    pub(super) fn look(&mut self, desired: &Desired) -> Arc<Applications> {
        let patterns = patterns(desired);
        if patterns.is_empty() {
            self.watch = None;
            self.known = Arc::default();
            return self.known.clone();
        }
        let is_stale = self.is_stale.swap(false, Ordering::AcqRel);
        let is_watched = self.watch.as_ref().is_some_and(|watch| !watch.is_blind());
        if is_watched && !is_stale && patterns == self.patterns {
            return self.known.clone();
        }
        let applications = Applications::new(&patterns, &self.read(&patterns));
        if applications != *self.known {
            self.known = Arc::new(applications);
        }
        self.patterns = patterns;
        self.known.clone()
    }

    fn read(&mut self, patterns: &[Pattern]) -> Tree {
        let root = match cgroup::find() {
            Ok(root) => root,
            Err(error) => return Tree::unknown(error),
        };
        if let (None, Some(tell)) = (&self.watch, &self.tell) {
            let (tell, is_stale) = (tell.clone(), self.is_stale.clone());
            let watch = CgroupWatch::start(&root, move || {
                is_stale.store(true, Ordering::Release);
                tell()
            });
            match watch {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => {
                    let mut tree = cgroup::read(&root, patterns);
                    tree.note(error);
                    return tree;
                }
            }
        }
        match &mut self.watch {
            Some(watch) => watch.follow(patterns),
            None => cgroup::read(&root, patterns),
        }
    }
}

/// What a file's applications are, looked up once.
pub(super) fn applications(desired: &Desired) -> Arc<Applications> {
    Cgroups::default().look(desired)
}

/// The applications of all filters, each once.
fn patterns(desired: &Desired) -> Vec<Pattern> {
    let enabled = desired.filters.iter().filter(|filter| filter.enabled);
    let mut patterns: Vec<Pattern> = enabled
        .flat_map(|filter| filter.application.iter().cloned())
        .collect();
    patterns.sort();
    patterns.dedup();
    patterns
}
