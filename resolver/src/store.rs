//! The files: the list of names is read, names.toml is read at the start, and replaced as a whole.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use traffic_mirror_resolver::{Name, Names, names, wanted};

/// Readable for all: the daemon is root without the capability that would let it read the files of
/// other users. In the unit's directory no other process can reach the file.
const MODE: u32 = 0o644;

/// The names that are wanted; `None` if there is no list.
///
/// # Errors
/// The list cannot be read, or a line is no name.
pub(crate) fn wanted(path: &Path) -> anyhow::Result<Option<BTreeSet<Name>>> {
    let text = match read(path, wanted::MOST_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?,
    };
    let names = wanted::parse(&text);
    names
        .map(Some)
        .map_err(|error| anyhow::anyhow!("{} {error}", path.display()))
}

/// What an earlier process has written; nothing if there is no such file.
///
/// # Errors
/// It cannot be read, or was not written by this program.
pub(crate) fn known(path: &Path) -> anyhow::Result<Names> {
    let text = match read(path, names::MOST_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Names::default()),
        text => text.map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?,
    };
    Names::parse(&text).map_err(|error| anyhow::anyhow!("{} {error}", path.display()))
}

/// A text, but not much more than may be in it.
fn read(path: &Path, most: usize) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(most as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Replaces the file: a reader finds the old text or the new one. It is not synced to a disk, since
/// it is in memory (/run) and does not outlive a boot.
///
/// # Errors
/// The directory cannot be written.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    let temporary = path.with_file_name(temporary);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(MODE);
    let mut file = file.open(&temporary)?;
    // whatever the umask is
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> std::path::PathBuf {
        let name = format!("resolver-store-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let directory = directory("replace");
        let path = directory.join("names.toml");
        replace(&path, "one").unwrap();
        let before = File::open(&path).unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(io::read_to_string(before).unwrap(), "one");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            MODE
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        assert!(replace(&directory.join("no/names.toml"), "three").is_err());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_list_that_is_missing_is_none_and_a_wrong_one_an_error() {
        let directory = directory("wanted");
        let path = directory.join("wanted-names");
        assert_eq!(wanted(&path).unwrap(), None);
        fs::write(&path, "a.example\n").unwrap();
        assert_eq!(wanted(&path).unwrap().unwrap().len(), 1);
        fs::write(&path, "a b\n").unwrap();
        let error = wanted(&path).unwrap_err().to_string();
        assert!(
            error.contains("wanted-names line 1: the name has the character ' '"),
            "{error}"
        );
        fs::write(&path, b"\xff\n").unwrap();
        assert!(wanted(&path).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_an_earlier_process_wrote_is_read() {
        let directory = directory("known");
        let path = directory.join("names.toml");
        assert_eq!(known(&path).unwrap(), Names::default());
        replace(&path, &Names::default().render()).unwrap();
        assert_eq!(known(&path).unwrap(), Names::default());
        fs::write(&path, "version = 7\n").unwrap();
        assert!(known(&path).unwrap_err().to_string().contains("version 7"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
