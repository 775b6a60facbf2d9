//! Reads names.toml. It belongs to a user without privileges, so it is read as if an enemy had
//! written it: no other file by a link, nothing that blocks, not more than it may have.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use traffic_mirror_resolver::{Names, names};

/// What the file has; `None` if there is none.
///
/// # Errors
/// It cannot be read, is malformed or beyond its limits: a sentence.
pub fn read(path: &Path) -> Result<Option<Names>, String> {
    let text = match text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let names = Names::parse(&text).map_err(|error| format!("{} {error}", path.display()))?;
    Ok(Some(names))
}

fn text(path: &Path) -> io::Result<String> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(names::MOST_BYTES as u64 + 1)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_within_its_limits_is_read() {
        let directory = std::env::temp_dir().join(format!("dns-read-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("names.toml");
        assert_eq!(read(&path), Ok(None));
        std::fs::write(&path, "version = 1\n[names.\"a.example\"]\n").unwrap();
        assert_eq!(read(&path).unwrap().unwrap().0.len(), 1);
        std::fs::write(&path, "version = 2\n").unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .contains("names.toml has version 2")
        );
        let link = directory.join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link).unwrap_err().contains("cannot read"));
        assert!(read(&directory).unwrap_err().contains("not a regular file"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
