//! The subcommands that end: what each prints, and its exit code.

mod check;
mod explain;
mod plan;
mod reading;
mod status;
mod top;
mod wait;

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use traffic_mirror::desired::Desired;
use traffic_mirror::diagnostic;
use traffic_mirror::report::plural;
use traffic_mirror::source::reader::{Reader, read_all};
use traffic_mirror::source::trust::distrust;

pub(crate) use check::check;
pub(crate) use explain::{Question, explain};
pub(crate) use plan::plan;
pub(crate) use status::status;
pub(crate) use top::top;
pub(crate) use wait::wait;

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
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            name: path.display().to_string(),
            bytes,
        })
    }
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
