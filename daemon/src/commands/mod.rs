//! The subcommands that end: what each prints, and its exit code.

mod check;
mod completions;
mod dns;
mod explain;
mod plan;
mod reading;
mod report;
mod status;
mod top;
mod wait;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use nix::unistd::geteuid;
use traffic_mirror::desired::Desired;
use traffic_mirror::diagnostic;
use traffic_mirror::report::plural;
use traffic_mirror::source::reader::{Reader, read_all};
use traffic_mirror::source::trust::distrust;

pub(crate) use check::{How, check};
pub(crate) use completions::completions;
pub(crate) use explain::{Question, explain};
pub(crate) use plan::plan;
pub(crate) use report::{Scope, report};
pub(crate) use status::{Wanted, status};
pub(crate) use top::{Shown, top};
pub(crate) use wait::{Until, wait};

/// A configuration file, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// As diagnostics name it.
    name: String,
    bytes: Vec<u8>,
}

impl File {
    /// Reads the file; - is standard input.
    fn read(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            let bytes = read_all(std::io::stdin()).context("cannot read standard input")?;
            return Ok(Self {
                name: "<stdin>".to_owned(),
                bytes,
            });
        }
        let bytes = fs::File::open(path)
            .and_then(read_all)
            .map_err(|error| anyhow!("cannot read {}: {}", path.display(), told(&error)))?;
        Ok(Self {
            name: path.display().to_string(),
            bytes,
        })
    }
}

/// An error with its remedy, where that is known.
fn told(error: &io::Error) -> String {
    let is_refused = error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root();
    let remedy = if is_refused { "; run it as root" } else { "" };
    format!("{error}{remedy}")
}

/// Why a daemon would reject its file because of its permissions. `None` for any other file.
fn distrust_of(path: &Path, is_followed: bool) -> Option<String> {
    if is_followed && path != Path::new("-") {
        distrust(path)
    } else {
        None
    }
}

/// What the file means; what is wrong with it goes to standard error.
fn load(file: &File) -> Option<Desired> {
    let text = String::from_utf8_lossy(&file.bytes);
    let print = |diagnostics: &[diagnostic::Diagnostic]| {
        eprint!(
            "{}",
            diagnostic::render(
                diagnostics,
                &file.name,
                &text,
                has_color(&std::io::stderr())
            )
        );
    };
    match Reader::default().load(&file.bytes) {
        Ok((desired, warnings)) => {
            print(&warnings);
            Some(desired)
        }
        Err(errors) => {
            print(&errors);
            eprintln!("{}: {}", file.name, plural(errors.len(), "error"));
            None
        }
    }
}

/// Whether to write colours there.
fn has_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Prints; a closed pipe is the reader's choice.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints for programs.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"));
    Ok(())
}
