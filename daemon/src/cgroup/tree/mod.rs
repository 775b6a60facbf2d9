//! Reads the hierarchy of cgroups, as far as patterns need it. The id of a cgroup is the inode
//! number of its directory: both are the 64-bit id of its `kernfs_node` where `ino_t` has 64 bits
//! (`kernfs_id_ino`, Linux 5.5), as on x86-64 and arm64. The kernel counts them up and gives none
//! twice. Directories list the inode numbers of what they contain, so a cgroup is read without a
//! look at its children.

use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::cgroup::error::CgroupError;
use crate::cgroup::hierarchy::Tree;
use crate::cgroup::limits::MAX_CGROUPS;
use crate::cgroup::pattern::Pattern;
use crate::cgroup::state::MatchState;

/// A cgroup whose children are about to be read.
#[derive(Debug)]
pub(in crate::cgroup) struct Visit<'a> {
    /// Its directory in the file system.
    pub(in crate::cgroup) directory: &'a Path,
    pub(in crate::cgroup) id: u64,
    /// What the patterns say of it; of a whole tree nothing.
    pub(in crate::cgroup) state: &'a MatchState,
}

/// Reads the cgroups that the patterns select, and those above them, below the directory `root`.
/// What cannot be read is missing, and the tree has the reason.
pub fn read(root: &Path, patterns: &[Pattern]) -> Tree {
    walk(root, Some(patterns), |_| Ok(()))
}

/// Reads all cgroups.
pub fn read_all(root: &Path) -> Tree {
    walk(root, None, |_| Ok(()))
}

/// Reads what `patterns` need, or all, and calls `visit` for each cgroup before its children are
/// read. An error of it is noted in the tree, and the walk goes on.
pub(in crate::cgroup) fn walk(
    root: &Path,
    patterns: Option<&[Pattern]>,
    mut visit: impl FnMut(&Visit<'_>) -> Result<(), CgroupError>,
) -> Tree {
    let id = match fs::metadata(root) {
        Ok(metadata) => metadata.ino(),
        Err(error) => return Tree::unknown(CgroupError::failed("read", root, &error)),
    };
    let mut tree = Tree::new(id);
    let state = patterns.map_or_else(MatchState::default, MatchState::root);
    // level by level, so that the limit leaves out the deepest
    let mut level = vec![(0, root.to_owned(), state)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (index, directory, state) in level {
            if patterns.is_some() && !state.is_open() {
                continue;
            }
            let about = Visit {
                directory: &directory,
                id: tree.cgroups[index].id,
                state: &state,
            };
            if let Err(error) = visit(&about) {
                tree.note(error);
            }
            let children = children(&directory).unwrap_or_else(|error| {
                tree.note(error);
                Vec::new()
            });
            for child in children {
                let state = patterns.map_or_else(MatchState::default, |patterns| {
                    state.enter(patterns, &child.name)
                });
                if patterns.is_some() && !state.is_needed() {
                    continue;
                }
                if tree.cgroups.len() >= MAX_CGROUPS {
                    tree.note(CgroupError::TooMany);
                    break;
                }
                let place = tree.add(index, &child.name, child.id);
                next.push((place, child.directory, state));
            }
        }
        level = next;
    }
    tree
}

struct Child {
    name: String,
    directory: PathBuf,
    id: u64,
}

/// The directories in a directory, by name; none if it is gone. Symbolic links are none.
fn children(directory: &Path) -> Result<Vec<Child>, CgroupError> {
    let failed = |error: io::Error| CgroupError::failed("read", directory, &error);
    let entries = match fs::read_dir(directory) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut children = Vec::new();
    for entry in entries {
        let entry = match entry {
            // it was removed while it was read
            Err(error) if is_gone(&error) => break,
            entry => entry.map_err(failed)?,
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            children.push(Child {
                name: entry.file_name().to_string_lossy().into_owned(),
                directory: entry.path(),
                id: entry.ino(),
            });
        }
    }
    children.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(children)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ENOTDIR)
    )
}

#[cfg(test)]
mod tests;
