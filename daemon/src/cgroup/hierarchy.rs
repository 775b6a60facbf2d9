//! The cgroups of this host, as data. Pure.

use super::error::CgroupError;

/// A cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its directory, from the root of the hierarchy on; `/` is the root. A name that is not UTF-8
    /// has a replacement character. Users choose names below their own cgroups, with any
    /// characters: print it with [`printable`](crate::printable::printable).
    pub path: String,
    /// What `bpf_skb_cgroup_id` gives for packets of its sockets. No two cgroups ever have the
    /// same, as long as the kernel runs.
    pub id: u64,
    /// How many cgroups are above it, as `bpf_skb_ancestor_cgroup_id` counts: 0 for the root.
    pub level: u16,
    /// The place of the cgroup above it in [`Tree::cgroups`]; for the root its own.
    pub parent: usize,
}

impl Cgroup {
    /// The name of its directory; empty for the root.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// The cgroups of this host, or those that patterns need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Level by level from the root on; the children of each in the order of their names. Empty if
    /// the hierarchy cannot be read.
    pub cgroups: Vec<Cgroup>,
    /// Why some are missing, or are not watched: each reason once.
    pub errors: Vec<CgroupError>,
}

impl Tree {
    /// A tree without anything below the root.
    pub fn new(root: u64) -> Self {
        let root = Cgroup {
            path: "/".to_owned(),
            id: root,
            level: 0,
            parent: 0,
        };
        Self {
            cgroups: vec![root],
            errors: Vec::new(),
        }
    }

    /// A tree of which nothing is known.
    pub fn unknown(error: CgroupError) -> Self {
        Self {
            cgroups: Vec::new(),
            errors: vec![error],
        }
    }

    /// Adds a child of the cgroup at `parent`; returns its place.
    ///
    /// # Panics
    /// There is no cgroup at `parent`.
    pub fn add(&mut self, parent: usize, name: &str, id: u64) -> usize {
        let above = &self.cgroups[parent];
        let stem = above.path.trim_end_matches('/');
        let cgroup = Cgroup {
            path: format!("{stem}/{name}"),
            id,
            level: above.level.saturating_add(1),
            parent,
        };
        self.cgroups.push(cgroup);
        self.cgroups.len() - 1
    }

    /// The ids of the cgroups from the root down to the one at `place`.
    pub fn ids(&self, place: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut next = self.cgroups.get(place);
        while let Some(cgroup) = next {
            ids.push(cgroup.id);
            next = (cgroup.level > 0).then(|| &self.cgroups[cgroup.parent]);
        }
        ids.reverse();
        ids
    }

    /// Notes why something is missing.
    pub fn note(&mut self, error: CgroupError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}
