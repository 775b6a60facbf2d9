//! What is below the pin path: files and directories of a bpf file system.

use std::fs;
use std::io;
use std::path::Path;

use super::error::{KernelError, pin_error};

/// The entries of a directory; none if it does not exist.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, KernelError> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(pin_error("read", dir, source)),
        Ok(entries) => Ok(entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()),
    }
}

pub(super) fn make_dir(dir: &Path) -> Result<(), KernelError> {
    fs::create_dir_all(dir).map_err(|source| pin_error("create", dir, source))
}

pub(super) fn remove_dir(dir: &Path) -> Result<(), KernelError> {
    absent_is_fine(fs::remove_dir(dir)).map_err(|source| pin_error("remove", dir, source))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), KernelError> {
    fs::rename(from, to).map_err(|source| pin_error("rename", from, source))
}

pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a directory with its content, or an object that another process has put in its place.
pub(super) fn remove_pins(dir: &Path) -> Result<(), KernelError> {
    absent_is_fine(remove_all(dir)).map_err(|source| pin_error("remove", dir, source))
}

fn remove_all(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}
