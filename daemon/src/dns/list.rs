//! Writes the list of names that the resolver asks about. While there is a list, systemd keeps the
//! resolver running.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use traffic_mirror_resolver::{Name, wanted};

/// The resolver runs as another user.
const MODE: u32 = 0o644;

/// The list, and what this daemon has last written to it.
#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    /// The first line, which says whose list it is.
    owner: String,
    written: Option<BTreeSet<Name>>,
}

impl List {
    /// The list of the daemon that has this pin path.
    pub(super) fn new(path: &Path, pin_path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            owner: format!("# of the daemon with the pin path {}", pin_path.display()),
            written: None,
        }
    }

    /// Writes the list if it differs; removes it with the last name. That of another daemon, which
    /// has another pin path, is never removed.
    ///
    /// # Errors
    /// The list cannot be written: a sentence.
    pub(super) fn write(&mut self, names: &BTreeSet<Name>) -> Result<(), String> {
        if self.written.as_ref() == Some(names) {
            return Ok(());
        }
        let written = match names.is_empty() {
            true => self.remove(),
            false => self.replace(names),
        };
        written.map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        self.written = Some(names.clone());
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            text => text?,
        };
        match text.lines().next() == Some(&self.owner) {
            true => fs::remove_file(&self.path),
            false => Ok(()),
        }
    }

    fn replace(&self, names: &BTreeSet<Name>) -> io::Result<()> {
        let directory = self.path.parent().ok_or(io::ErrorKind::InvalidFilename)?;
        fs::create_dir_all(directory)?;
        let name = self.path.file_name();
        let mut beside = OsString::from(".");
        beside.push(name.ok_or(io::ErrorKind::InvalidFilename)?);
        beside.push(".new");
        let beside = directory.join(beside);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(MODE);
        let mut file = file.open(&beside)?;
        // whatever the umask is
        file.set_permissions(Permissions::from_mode(MODE))?;
        write!(file, "{}\n{}", self.owner, wanted::render(names))?;
        drop(file);
        fs::rename(&beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_there_while_there_are_names() {
        let directory = std::env::temp_dir().join(format!("dns-list-{}", std::process::id()));
        let path = directory.join("run/wanted-names");
        let name = BTreeSet::from([Name::parse("a.example").unwrap()]);
        let mut list = List::new(&path, Path::new("/a"));
        list.write(&BTreeSet::new()).unwrap();
        assert!(!path.exists());
        list.write(&name).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(wanted::parse(&text).unwrap(), name);
        // the next daemon without names, of another pin path and of the same one
        let mut next = List::new(&path, Path::new("/b"));
        next.write(&BTreeSet::new()).unwrap();
        assert!(path.exists());
        let mut next = List::new(&path, Path::new("/a"));
        next.write(&BTreeSet::new()).unwrap();
        assert!(!path.exists());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_said_and_tried_again() {
        let mut list = List::new(Path::new("/dev/null/wanted-names"), Path::new("/a"));
        let name = BTreeSet::from([Name::parse("a.example").unwrap()]);
        assert!(list.write(&name).unwrap_err().starts_with("cannot write"));
        assert!(list.write(&name).is_err());
    }
}
