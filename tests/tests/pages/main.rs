//! The pages say what the code says: each word that the daemon prints is explained, each metric is
//! described, each link leads somewhere, each file that a page names is there, each file that it
//! shows is right. Rules and dashboard for the metrics are among the pages.

mod alerts;
mod english;
mod files;
mod links;
mod log;
mod metrics;
mod protocols;
mod status;
mod version;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(page: &str) -> String {
    fs::read_to_string(workspace().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// What no page of ours is in.
const FOREIGN: [&str; 2] = ["target", ".git"];

/// Files below a directory whose names end like this, relative to the workspace.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace().join(directory))
        .unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let path = directory.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if !FOREIGN.iter().any(|name| entry.file_name() == *name) {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<(PathBuf, String)> {
    let pages: Vec<_> = files(Path::new(""), "md")
        .into_iter()
        .map(|path| (path.clone(), read(path.to_str().unwrap())))
        .collect();
    assert!(pages.len() > 10, "only {} pages were found", pages.len());
    pages
}

/// The anchor of a heading, as forges make it.
fn slug(heading: &str) -> String {
    let lower = heading.trim().to_lowercase();
    let kept = lower
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The code of a module of the daemon, without its tests: one file, or a folder.
fn module(name: &str) -> Vec<(PathBuf, String)> {
    let is_part = |path: &Path| path.with_extension("").iter().any(|part| part == name);
    let is_test = |path: &Path| path.file_stem().is_some_and(|stem| stem == "tests");
    let mut found = files(Path::new("daemon/src"), "rs");
    found.retain(|path| is_part(path) && !is_test(path));
    assert!(!found.is_empty(), "the daemon has no module {name}");
    found
        .into_iter()
        .map(|path| (path.clone(), read(path.to_str().unwrap())))
        .collect()
}

/// String literals of the code, without those of its tests, of comments and of attributes.
fn literals(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//") && !line.starts_with("#["));
    lines
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .collect()
}
