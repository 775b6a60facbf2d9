//! Input: patterns and the cgroups of this host. Output: which cgroups each pattern selects now.
//! Must not know: the file system, the kernel's tables.
//!
//! A pattern selects a cgroup with all below it. Of these only the topmost are listed, since the
//! programs can ask for the cgroup above a packet's at a level (`bpf_skb_ancestor_cgroup_id`):
//!
//! - A listed cgroup stays listed until its unit ends, whatever it makes below itself. A container
//!   that runs systemd, a pod that makes a cgroup for each job and a service that has delegated
//!   cgroups change nothing here: no event, no watch, no reload.
//! - The kernel fixes the ancestors of a cgroup when it is made, and version 2 has no rename. So
//!   the first packet of a socket in a new cgroup below is matched. If all ids below were listed,
//!   its packets would be missed until the daemon has seen it, and a process that may make cgroups
//!   could hide by making one after the other, or fill the table.
//! - The price is a call of some 5 ns for each level at which something is listed. Units are at
//!   level 2, pods at 3, their containers at 4. With exact ids it would be one call, and a table
//!   with three to ten times as many entries.
//!
//! The programs look from the deepest level up and stop at the first cgroup that is listed: its
//! entry has the patterns of all listed cgroups above it, too.

use std::collections::BTreeSet;

use super::hierarchy::Tree;
use super::pattern::Pattern;
use super::state::MatchState;

/// A cgroup that is selected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selected {
    /// Its directory, as [`Cgroup::path`](super::hierarchy::Cgroup::path).
    pub path: String,
    /// What the kernel calls it.
    pub id: u64,
    /// How many cgroups are above it.
    pub level: u16,
    /// The ids of the cgroups from the root down to it.
    pub ids: Vec<u64>,
    /// All patterns that packets of its sockets fit, by their places in the list: those that select
    /// it and those that select a cgroup above it. Ascending.
    pub patterns: Vec<usize>,
    /// Those of them that select this cgroup and none above it. Ascending, never empty.
    pub own: Vec<usize>,
}

/// What patterns select now. Equal patterns and equal cgroups make equal selections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Level by level from the root on, by path within each.
    pub cgroups: Vec<Selected>,
}

impl Selection {
    /// The levels at which something is selected, the deepest first.
    pub fn levels(&self) -> Vec<u16> {
        let levels: BTreeSet<u16> = self.cgroups.iter().map(|cgroup| cgroup.level).collect();
        levels.into_iter().rev().collect()
    }

    /// Each pattern with each cgroup that it selects and that is below no other one that it
    /// selects: by pattern, then by level and path.
    pub fn pairs(&self) -> Vec<(usize, &Selected)> {
        let each = self
            .cgroups
            .iter()
            .flat_map(|cgroup| cgroup.own.iter().map(move |pattern| (*pattern, cgroup)));
        let mut pairs: Vec<_> = each.collect();
        pairs.sort_by_key(|(pattern, _)| *pattern);
        pairs
    }

    /// The patterns, of so many, that select nothing.
    pub fn idle(&self, patterns: usize) -> Vec<usize> {
        let own = self.cgroups.iter().flat_map(|cgroup| &cgroup.own);
        let busy: BTreeSet<usize> = own.copied().collect();
        (0..patterns)
            .filter(|pattern| !busy.contains(pattern))
            .collect()
    }
}

/// Finds what the patterns select. A tree that was read for these patterns gives the same as a
/// whole one.
pub fn select(patterns: &[Pattern], tree: &Tree) -> Selection {
    let mut cgroups: Vec<Selected> = Vec::new();
    // of each cgroup: its state, and the place of the closest selected one, itself or above
    let mut reached: Vec<(MatchState, Option<usize>)> = Vec::with_capacity(tree.cgroups.len());
    for (index, cgroup) in tree.cgroups.iter().enumerate() {
        let (state, above) = if index == 0 {
            (MatchState::root(patterns), None)
        } else {
            let (state, above) = &reached[cgroup.parent];
            (state.enter(patterns, cgroup.name()), *above)
        };
        let own = state.selecting();
        if own.is_empty() {
            reached.push((state, above));
            continue;
        }
        let inherited = above.map_or(&[][..], |above| &cgroups[above].patterns[..]);
        let mut all = [own, inherited].concat();
        all.sort_unstable();
        cgroups.push(Selected {
            path: cgroup.path.clone(),
            id: cgroup.id,
            level: cgroup.level,
            ids: tree.ids(index),
            patterns: all,
            own: own.to_vec(),
        });
        reached.push((state, Some(cgroups.len() - 1)));
    }
    cgroups.sort_by(|a, b| (a.level, &a.path).cmp(&(b.level, &b.path)));
    Selection { cgroups }
}

/// The patterns that select the cgroup at a path, or one above it; whether it exists is not asked.
pub fn selecting(patterns: &[Pattern], path: &str) -> Vec<usize> {
    let mut state = MatchState::root(patterns);
    let mut all = state.selecting().to_vec();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        state = state.enter(patterns, name);
        all.extend_from_slice(state.selecting());
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        let glob = |part: &str| glob::Pattern::new(part).unwrap();
        texts
            .iter()
            .map(|text| match text.strip_prefix('/') {
                None => Pattern::unit(glob(text)),
                Some("") => Pattern::path(Vec::new()),
                Some(path) => Pattern::path(path.split('/').map(glob).collect()),
            })
            .collect()
    }

    /// A tree of these paths and all above them; ids count from 1 as the kernel's do.
    fn tree(paths: &[&str]) -> Tree {
        let mut all: BTreeSet<Vec<&str>> = BTreeSet::new();
        for path in paths {
            let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
            all.extend((1..=names.len()).map(|length| names[..length].to_vec()));
        }
        let mut sorted: Vec<_> = all.into_iter().collect();
        sorted.sort_by_key(|names| names.len());
        let mut tree = Tree::new(1);
        for (index, names) in sorted.iter().enumerate() {
            let (name, above) = names.split_last().unwrap();
            let above = format!("/{}", above.join("/"));
            let parent = tree.cgroups.iter().position(|one| one.path == above);
            tree.add(parent.unwrap(), name, index as u64 + 2);
        }
        tree
    }

    const HOST: [&str; 8] = [
        "/init.scope",
        "/system.slice/nginx.service/workers",
        "/system.slice/ssh.service",
        "/system.slice/system-postgresql.slice/postgresql@14-main.service",
        "/system.slice/docker-9f86.scope/system.slice/nginx.service",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/ssh.service",
        "/kubepods.slice/kubepods-pod1.slice/cri-containerd-aa.scope/job",
        "/kubepods.slice/kubepods-pod2.slice/cri-containerd-bb.scope",
    ];

    fn chosen(texts: &[&str]) -> Vec<(usize, String, u16)> {
        let selection = select(&patterns(texts), &tree(&HOST));
        let pairs = selection.pairs().into_iter();
        pairs
            .map(|(pattern, one)| (pattern, one.path.clone(), one.level))
            .collect()
    }

    #[test]
    fn each_pattern_selects_the_topmost_cgroups_that_fit() {
        let of = |pattern, path: &str, level| (pattern, path.to_owned(), level);
        assert_eq!(
            chosen(&["/system.slice/*", "nginx.service", "*.slice", "/"]),
            [
                of(0, "/system.slice/docker-9f86.scope", 2),
                of(0, "/system.slice/nginx.service", 2),
                of(0, "/system.slice/ssh.service", 2),
                of(0, "/system.slice/system-postgresql.slice", 2),
                of(1, "/system.slice/nginx.service", 2),
                of(2, "/kubepods.slice", 1),
                of(2, "/system.slice", 1),
                of(2, "/user.slice", 1),
                of(3, "/", 0),
            ]
        );
        assert_eq!(
            chosen(&["absent.service", "cri-containerd-*.scope"]),
            [
                of(
                    1,
                    "/kubepods.slice/kubepods-pod1.slice/cri-containerd-aa.scope",
                    3
                ),
                of(
                    1,
                    "/kubepods.slice/kubepods-pod2.slice/cri-containerd-bb.scope",
                    3
                ),
            ]
        );
    }

    /// What the programs do: from the deepest level up, the first cgroup that is listed.
    fn matched(selection: &Selection, tree: &Tree, packet: &str) -> Vec<usize> {
        let index = tree.cgroups.iter().position(|one| one.path == packet);
        let mut ancestors = vec![index.unwrap()];
        while let Some(&last) = ancestors.last()
            && last != 0
        {
            ancestors.push(tree.cgroups[last].parent);
        }
        for level in selection.levels() {
            let at = ancestors
                .iter()
                .find(|&&index| tree.cgroups[index].level == level);
            let listed = at.and_then(|&at| {
                selection
                    .cgroups
                    .iter()
                    .find(|one| one.id == tree.cgroups[at].id)
            });
            if let Some(listed) = listed {
                return listed.patterns.clone();
            }
        }
        Vec::new()
    }

    #[test]
    fn the_deepest_listed_cgroup_has_all_patterns_of_a_packet() {
        let tree = tree(&HOST);
        let lists: [&[&str]; 4] = [
            &["system.slice", "nginx.service", "/system.slice/*/workers"],
            &[
                "/",
                "*.service",
                "/user.slice/*/*/*/ssh.service",
                "ssh.service",
            ],
            &["/kubepods.slice/*", "cri-containerd-bb.scope"],
            &["absent.service"],
        ];
        for texts in lists {
            let patterns = patterns(texts);
            let selection = select(&patterns, &tree);
            for cgroup in &tree.cgroups {
                assert_eq!(
                    matched(&selection, &tree, &cgroup.path),
                    selecting(&patterns, &cgroup.path),
                    "{texts:?} {}",
                    cgroup.path
                );
            }
        }
    }

    #[test]
    fn levels_are_those_that_the_programs_must_ask_for() {
        let selection = select(
            &patterns(&[
                "nginx.service",
                "/",
                "cri-containerd-*.scope",
                "system.slice",
            ]),
            &tree(&HOST),
        );
        assert_eq!(selection.levels(), [3, 2, 1, 0]);
        assert_eq!(select(&[], &tree(&HOST)).levels(), [0u16; 0]);
    }

    #[test]
    fn a_restarted_unit_has_another_id_and_nothing_else_changes() {
        let patterns = patterns(&["nginx.service", "ssh.service"]);
        let before = select(&patterns, &tree(&HOST));
        let mut restarted = tree(&HOST);
        let unit = restarted
            .cgroups
            .iter_mut()
            .find(|one| one.path == "/system.slice/nginx.service");
        unit.unwrap().id = 4711;
        let after = select(&patterns, &restarted);
        assert_ne!(before, after);
        let changed = before.cgroups.iter().zip(&after.cgroups);
        assert_eq!(changed.filter(|(old, new)| old != new).count(), 1);
    }

    #[test]
    fn patterns_without_a_cgroup_are_known() {
        let list = patterns(&["absent.service", "nginx.service", "/no/such"]);
        let selection = select(&list, &tree(&HOST));
        assert_eq!(selection.idle(list.len()), [0, 2]);
        assert_eq!(select(&list, &Tree::default()).idle(list.len()), [0, 1, 2]);
    }
}
