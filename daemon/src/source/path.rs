//! The path of a file: the names in all directories, across each symbolic link.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many symbolic links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// A name of the path: that of a directory, a symbolic link, finally of the file, or a missing
/// name.
pub struct Stop {
    /// Where the name is.
    pub directory: PathBuf,
    /// The name.
    pub name: OsString,
    /// What has the name.
    pub found: io::Result<Metadata>,
}

impl Stop {
    /// Directory and name.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }
}

/// Follows the path from `/` to the file, or as far as it exists.
pub fn to(path: &Path) -> Vec<Stop> {
    let (mut directory, mut rest, mut links) = (PathBuf::from("/"), parts(path), 0);
    let mut stops = Vec::new();
    while let Some(name) = rest.pop() {
        if name == ".." {
            directory.pop();
            continue;
        }
        let entry = directory.join(&name);
        let found = fs::symlink_metadata(&entry);
        let kind = found.as_ref().map(Metadata::file_type).ok();
        stops.push(Stop {
            directory: directory.clone(),
            name,
            found,
        });
        match kind {
            Some(kind) if kind.is_dir() => directory = entry,
            Some(kind) if kind.is_symlink() && links < MAX_LINKS => {
                links += 1;
                let target = fs::read_link(&entry).unwrap_or_default();
                if target.is_absolute() {
                    directory = PathBuf::from("/");
                }
                rest.extend(parts(&target));
            }
            _ => break,
        }
    }
    stops
}

/// The names in a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().rev().filter_map(name).collect()
}
